package topology

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Fabric is what all nodes and clusters of one topology share.
type Fabric struct {
	// Name is the identity of the fabric. It is hashed into every producer id the fabric writes with: a fabric that is
	// renamed takes its own earlier copies for the writes of ordinary clients.
	Name string
	// GossipKey refers to the keys that gossip is encrypted with, see Keyring; zero where every node gossips on loopback.
	GossipKey Secret
	// GossipCIDRs are the networks that members may be in; empty: any.
	GossipCIDRs []netip.Prefix
	// Control are the clusters whose majority decides which cluster is the home of a router's set, as the file names them; empty: all, see [Topology.Controls].
	Control []string
}

const (
	// gossipKeyBytes is AES-256.
	gossipKeyBytes = 32
	// maxGossipKeys bounds a ring. A rotation needs two keys.
	maxGossipKeys = 16
)

// Keyring fetches the keys of gossip anew, the first of them to encrypt with; nil where the file names none.
func (f Fabric) Keyring() ([][]byte, error) {
	if f.GossipKey.IsZero() {
		return nil, nil
	}
	text, err := f.GossipKey.Resolve()
	if err != nil {
		return nil, fmt.Errorf("read gossip_key: %w", err)
	}
	keys, err := ParseKeyring(text)
	if err != nil {
		return nil, fmt.Errorf("read gossip_key %s: %w", f.GossipKey, err)
	}
	return keys, nil
}

// ParseKeyring reads a ring of keys: one a line in base64, 32 bytes each, the first to encrypt with and all of them to decrypt.
// Empty lines and lines that begin with # mean nothing. No error repeats what it read.
func ParseKeyring(text []byte) ([][]byte, error) {
	var keys [][]byte
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(string(line))
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d is not base64; write a key as `head -c 32 /dev/urandom | base64` makes one", i+1)
		case len(key) != gossipKeyBytes:
			return nil, fmt.Errorf("the key in line %d has %d bytes, want %d; make one by `head -c 32 /dev/urandom | base64`", i+1, len(key), gossipKeyBytes)
		case slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }):
			continue
		case len(keys) == maxGossipKeys:
			return nil, fmt.Errorf("more than %d keys; take the old ones out", maxGossipKeys)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key in it; write a key as `head -c 32 /dev/urandom | base64` makes one")
	}
	return keys, nil
}

func (r *reader) fabric() Fabric {
	s, ok := r.root.sub("fabric", `{ name = "..." }, or a [fabric] table`)
	if !ok {
		if r.root.t.keys["fabric"] == nil && !r.root.excused("fabric") {
			r.d.add(0, "no [fabric]; add [fabric] and name = \"...\"")
		}
		return Fabric{}
	}
	s.title = "[fabric]"
	s.only("name", "gossip_key", "gossip_cidrs", "control")
	name := s.str("name", `"shop"`, true)
	r.checkName("the fabric's name", name, identity)
	return Fabric{Name: name.text, GossipKey: s.secret("gossip_key", r.base, false), GossipCIDRs: r.cidrs(s)}
}

// Controls are the names of the control clusters, in the order of the file. One that is there only for its vote, a witness, is a cluster without links.
func (t *Topology) Controls() []string {
	if len(t.Fabric.Control) > 0 {
		return slices.Clone(t.Fabric.Control)
	}
	var all []string
	for _, c := range t.Clusters {
		all = append(all, c.Name)
	}
	return all
}

// control reads the control clusters, when all clusters are known.
func (r *reader) control() (out []string) {
	s, ok := r.root.sub("fabric", "a [fabric] table")
	if !ok {
		return nil
	}
	const example = `["eu", "us", "ap"]`
	list, ok := s.strs("control", example, false)
	if ok && len(list) == 0 {
		r.d.add(s.t.keys["control"].pos, "control is empty, so that nothing could be decided; write control = %s, or leave it out for all clusters", example)
	}
	for _, v := range list {
		if slices.Contains(out, v.text) {
			r.d.add(v.pos, "control: %q is in it twice; each cluster has one vote", v.text)
			continue
		}
		if v = r.known("control", v); v.ok {
			out = append(out, v.text)
		}
	}
	return out
}

func (r *reader) cidrs(s scope) (out []netip.Prefix) {
	const example = `["10.0.0.0/8"]`
	list, ok := s.strs("gossip_cidrs", example, false)
	if ok && len(list) == 0 {
		r.d.add(s.t.keys["gossip_cidrs"].pos, "gossip_cidrs is empty, so that nobody may gossip; write gossip_cidrs = %s, or leave it out", example)
	}
	for _, v := range list {
		p, err := netip.ParsePrefix(v.text)
		switch {
		case err != nil:
			r.d.add(v.pos, "gossip_cidrs: %s is no network; write for example \"10.0.0.0/8\"", clip(v.text))
		case p != p.Masked():
			r.d.add(v.pos, "gossip_cidrs: %s is an address in a network; write %q for the network, or %q for the address alone",
				clip(v.text), p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		default:
			out = append(out, p)
		}
	}
	return out
}
