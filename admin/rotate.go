package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// RotateKey implements the call of that name.
func (s *service) RotateKey(ctx context.Context, req *adminpb.RotateKeyRequest) (*adminpb.RotateKeyResponse, error) {
	w := write{verb: "RotateKey", target: "gossip key", reason: req.GetReason()}
	d := deed{who: callerOf(ctx), verb: w.verb, target: w.target, why: w.reason}
	keys := s.keys()
	err := checkReason("reason", req.GetReason())
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("a key of the gossip: %w; give the fabric a gossip_key first", ErrUnknown)
	}
	if err != nil {
		return nil, s.refuse(ctx, w, err)
	}
	res := &adminpb.RotateKeyResponse{Plan: s.rotation(keys, req.GetResume()), DryRun: req.GetDryRun()}
	token := tokenOf(append([]string{w.verb}, res.GetPlan()...)...)
	if req.GetDryRun() {
		res.Confirm = token
		return res, nil
	}
	if err := confirmed(req.GetConfirm(), token, true, ""); err != nil {
		s.audit.done(ctx, d, err)
		return nil, s.code(w.verb, err)
	}
	res.Nodes, err = s.node.RotateKey(ctx, req.GetResume())
	if err != nil {
		s.audit.done(ctx, d, err)
		return nil, s.code(w.verb, err)
	}
	slices.SortFunc(res.Nodes, func(a, b *adminpb.KeyOutcome) int { return cmp.Compare(a.GetNode(), b.GetNode()) })
	for _, o := range res.GetNodes() {
		if !o.GetInstalled() || !o.GetUsed() || !o.GetRemoved() || o.GetTrouble() != "" {
			res.Unfinished, d.outcome = true, "unfinished"
		}
	}
	s.audit.done(ctx, d, nil)
	return res, nil
}

// rotation tells people what would be done.
func (s *service) rotation(keys [][]byte, resume bool) []string {
	lines := []string{fmt.Sprintf("all nodes get a new gossip key in place of %s", fingerprint(keys[0]))}
	if resume {
		lines = []string{"the rotation that did not come to its end goes on, with the same new key"}
	}
	for _, k := range keys[1:] {
		lines = append(lines, fmt.Sprintf("key %s is in use beside it", fingerprint(k)))
	}
	peers := slices.Clone(s.node.Peers())
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range peers {
		if p.Trouble != "" {
			lines = append(lines, fmt.Sprintf("node %s is not there, and needs the new key in its file before it comes back", p.Name))
		}
	}
	return lines
}

// fingerprint tells keys apart and does not lead back to them: they are random.
func fingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:4])
}
