package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// memberStatuses are gossip's words as messages have them.
var memberStatuses = map[gossip.Status]adminpb.MemberStatus{
	gossip.Alive: adminpb.MemberStatus_MEMBER_STATUS_ALIVE, gossip.Left: adminpb.MemberStatus_MEMBER_STATUS_LEFT,
	gossip.Dead: adminpb.MemberStatus_MEMBER_STATUS_DEAD,
}

// Nodes implements [admin.Node].
func (a *answers) Nodes(context.Context) (*adminpb.NodesResponse, error) {
	f := a.node.fabric
	view := f.pool.View()
	owned := make(map[string]int32)
	for _, w := range a.works() {
		owned[view.Owner(w.Work).Node]++
	}
	out := &adminpb.NodesResponse{Node: a.self(), Sequencer: f.pool.Sequencer(), SkewSeconds: f.clock.Ahead().Seconds()}
	for _, m := range view.Members {
		r := m.Report
		pb := &adminpb.Member{
			Name: m.Name, Status: memberStatuses[m.Status], Since: moment(m.Since), Dc: r.DC, Version: r.Version, Gossip: m.Address,
			Grpc: r.GRPC, Http: r.HTTP, Ready: r.Ready, Draining: r.Draining, Capacity: r.Capacity, BytesPerSecond: r.Bytes,
			Owned: owned[m.Name], FileHash: inHex(r.FileHash), ConfigHash: inHex(r.ConfigHash), Crashes: int32(f.pool.Crashes(m.Name)),
			Divergent: m.Status == gossip.Alive && r.Started != 0 && r.ConfigHash != f.config.hash(),
		}
		if r.Started != 0 {
			pb.Started = moment(time.UnixMilli(r.Started))
		}
		for cluster, reach := range r.Reach {
			pb.Reach = append(pb.Reach, &adminpb.Reach{Cluster: cluster, Reads: reach.Reads, Writes: reach.Writes,
				RttSeconds: reach.RTT.Seconds(), Trouble: reach.Trouble})
		}
		slices.SortFunc(pb.Reach, func(a, b *adminpb.Reach) int { return cmp.Compare(a.GetCluster(), b.GetCluster()) })
		out.Members = append(out.Members, pb)
	}
	return out, nil
}

// text is what somebody wrote, as a message may have it: a store may hold what no API took.
func text(value []byte) string { return strings.ToValidUTF8(string(value), "\uFFFD") }

func inHex(n uint64) string { return fmt.Sprintf("%016x", n) }

// flowWork is one partition of one link.
type flowWork struct {
	gossip.Work
	link  string
	state mirror.PumpStatus
}

// works are all partitions that this node knows of, whoever copies them.
func (a *answers) works() (out []flowWork) {
	for _, l := range a.node.set.Status() {
		for _, f := range l.Flows {
			for _, p := range f.Pumps {
				out = append(out, flowWork{gossip.Work{From: l.From, To: l.To, Topic: f.Topic, Partition: p.Partition}, l.Name, p})
			}
		}
	}
	return out
}

// whys are an owner's reasons in words.
var whys = map[gossip.Why]string{
	gossip.ByLoad: "moved there for its load", gossip.ByHash: "its hash, among the nodes that are ready and reach both clusters",
	gossip.Settling: "its hash, while no node is ready yet", gossip.Cut: "no node reaches both clusters; this one shows the trouble",
	gossip.Kept:    "only nodes that are draining reach both clusters; the work stays where it can be done",
	gossip.Drained: "every node is draining", gossip.Nobody: "no node is alive",
}

// Owners implements [admin.Node].
func (a *answers) Owners(context.Context) ([]*adminpb.Owner, error) {
	view := a.node.fabric.pool.View()
	var out []*adminpb.Owner
	for _, w := range a.works() {
		o := view.Owner(w.Work)
		pb := &adminpb.Owner{Link: w.link, Topic: w.Topic, Partition: w.Partition, Owner: o.Node, Why: whys[o.Why], Pinned: o.Why == gossip.ByLoad}
		out = append(out, pb)
	}
	return out, nil
}

// Settings implements [admin.Node].
func (a *answers) Settings(context.Context) (*adminpb.SettingsResponse, error) {
	c := a.node.fabric.config
	trouble := c.troubles()
	out := &adminpb.SettingsResponse{FileHash: inHex(c.fileHash), ConfigHash: inHex(c.hash())}
	for _, v := range a.node.fabric.settings.All() {
		if !v.Deleted {
			out.Settings = append(out.Settings, &adminpb.Setting{Key: v.Key, Value: text(v.Value), Version: v.Version.String(),
				At: moment(time.UnixMilli(v.Version.Wall)), Author: v.Author, Reason: v.Reason, Trouble: trouble[v.Key]})
		}
	}
	return out, nil
}

// History implements [admin.Node].
func (a *answers) History(_ context.Context, limit int) ([]*adminpb.PastChange, error) {
	var out []*adminpb.PastChange
	for _, p := range a.node.fabric.settings.History(limit) {
		c := p.Change
		pb := &adminpb.PastChange{Version: c.Version.String(), At: moment(time.UnixMilli(c.Version.Wall)), Author: c.Author, Reason: c.Reason}
		if !c.Undoes.IsZero() {
			pb.Undoes = c.Undoes.String()
		}
		var conflicts []string
		for i, e := range c.Entries {
			effect := p.Effects[i]
			pb.Entries = append(pb.Entries, &adminpb.PastEntry{Key: e.Key, Value: text(e.Value), Unset: e.Deleted, Counts: effect.Since.IsZero()})
			if effect.Conflict {
				conflicts = append(conflicts, fmt.Sprintf("%s was written by %s meanwhile; this one counts", e.Key, cmp.Or(effect.Before.Author, effect.Before.Version.String())))
			}
		}
		pb.Conflict = strings.Join(conflicts, "; ")
		out = append(out, pb)
	}
	return out, nil
}

// Export implements [admin.Node].
func (a *answers) Export(context.Context) (*adminpb.ExportResponse, error) {
	c := a.node.fabric.config
	return &adminpb.ExportResponse{File: c.running().Export(), ConfigHash: inHex(c.hash())}, nil
}

// Write implements [admin.Node].
func (a *answers) Write(ctx context.Context, change gossip.Change) (admin.Written, error) {
	if err := a.node.fabric.knows(); err != nil {
		return admin.Written{}, err
	}
	got, note, err := a.node.fabric.pool.Propose(ctx, change)
	if err != nil {
		return admin.Written{}, err
	}
	return admin.Written{Version: got.Version, Note: note}, nil
}

// RotateKey implements [admin.Node].
func (a *answers) RotateKey(ctx context.Context, resume bool) ([]*adminpb.KeyOutcome, error) {
	pool := a.node.fabric.pool
	keys := pool.Keys()
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: this fabric gossips without a key; give it one with gossip_key in the file of each node", admin.ErrNotReady)
	}
	key := keys[0]
	if !resume {
		key = make([]byte, 32)
		rand.Read(key) //nolint:errcheck // never fails
	}
	outcomes, err := pool.RotateKey(ctx, key)
	out := make([]*adminpb.KeyOutcome, 0, len(outcomes))
	for _, o := range outcomes {
		out = append(out, &adminpb.KeyOutcome{Node: o.Node, Installed: o.Installed, Used: o.Used, Removed: o.Removed, Trouble: o.Err})
	}
	if len(out) > 0 {
		return out, nil // they say what went wrong, node by node
	}
	return nil, err
}

// Peers implements [admin.Node].
func (a *answers) Peers() (out []admin.Peer) {
	for _, m := range a.node.fabric.pool.View().Members {
		if m.Name == a.name || m.Status == gossip.Left {
			continue
		}
		if _, waited := a.node.fabric.cfg.Topology.Node(m.Name); m.Status == gossip.Dead && !waited {
			continue // it is in no file of ours, and may never come back
		}
		p := admin.Peer{Name: m.Name, Address: m.Report.GRPC}
		switch {
		case m.Status == gossip.Dead:
			p.Trouble = "dead since " + m.Since.UTC().Format(time.RFC3339)
		case p.Address == "":
			p.Trouble = "it has not said yet where it can be asked"
		}
		out = append(out, p)
	}
	return out
}

func (a *answers) self() *adminpb.Node {
	return &adminpb.Node{Name: a.name, Writer: a.node.writer, Version: a.node.build.Version, Started: timestamppb.New(a.node.started), Now: timestamppb.Now()}
}
