package topology

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Node is one isthmus process.
type Node struct {
	// Name is unique among the nodes.
	Name string
	// DC is the data center the node runs in; may be empty.
	DC string
	// Rack is told to source brokers so that they name a replica in the same rack to read from (KIP-392); may be empty.
	Rack string
	// HTTP and GRPC are the addresses to listen on as host:port; empty where the file names none.
	HTTP, GRPC string
	// Gossip is where the other nodes reach this one, as host:port over TCP and UDP. Only the single node of a file may have none.
	Gossip string
	// Capacity is how much work the node takes in proportion to the others; 1 unless the file says otherwise.
	Capacity float64
}

// maxCapacity bounds a node's capacity: beyond it the others would get nothing.
const maxCapacity = 1000

func (r *reader) nodes(f Fabric) (nodes []Node) {
	scopes := r.root.list("node")
	for _, s := range scopes {
		nodes = append(nodes, r.node(s, len(scopes) > 1))
	}
	for i, n := range nodes {
		if host, _, err := net.SplitHostPort(n.Gossip); err == nil && !isLoopback(host) && f.GossipKey.IsZero() && r.keyless() {
			r.d.add(scopes[i].posOf("gossip"), `gossip: %s can be reached by others, and [fabric] has no gossip_key; `+
				`add gossip_key = "file:gossip.key" there and make the file by: head -c 32 /dev/urandom | base64 > gossip.key`, n.Gossip)
			break // the same key mends all nodes
		}
	}
	for i, n := range nodes {
		r.admitted(f, n, scopes[i])
	}
	return nodes
}

// keyless tells that the file has no gossip key, and that no other fault explains it.
func (r *reader) keyless() bool {
	n := r.root.t.keys["fabric"]
	if n == nil || n.table == nil {
		return false // reported already
	}
	s := scope{d: r.d, t: n.table}
	return n.table.keys["gossip_key"] == nil && !s.excused("gossip_key")
}

// admitted reports a node whose own fabric would not let it in.
func (r *reader) admitted(f Fabric, n Node, s scope) {
	host, _, err := net.SplitHostPort(n.Gossip)
	if err != nil || len(f.GossipCIDRs) == 0 {
		return
	}
	ip, err := netip.ParseAddr(host)
	if err == nil && !ip.IsUnspecified() && !slices.ContainsFunc(f.GossipCIDRs, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		r.d.add(s.posOf("gossip"), "gossip: %s is in none of the gossip_cidrs of [fabric]; add %q there", host, netip.PrefixFrom(ip, ip.BitLen()))
	}
}

func (r *reader) node(s scope, others bool) Node {
	s.only("name", "dc", "rack", "http", "grpc", "gossip", "capacity")
	name := s.str("name", `"eu-1"`, true)
	if r.checkName("the node's name", name, label) {
		r.unique("the node name", name, r.nodeAt)
	}
	n := Node{Name: name.text, DC: r.dc(s), Rack: r.rack(s), Capacity: s.float("capacity", "2.5", maxCapacity)}
	if s.t.keys["capacity"] == nil {
		n.Capacity = 1
	}
	gossip := s.str("gossip", `"10.0.0.1:7946"`, false)
	if others && s.t.keys["gossip"] == nil && !s.excused("gossip") {
		r.d.add(s.t.pos, `the node %s has no gossip, and the file has others; add gossip = "10.0.0.1:7946", where they reach it`, clip(name.text))
	}
	r.gossip(s, gossip)
	n.Gossip = gossip.text
	http, grpc := s.str("http", `"127.0.0.1:7070"`, false), s.str("grpc", `"127.0.0.1:7071"`, false)
	n.HTTP, n.GRPC = http.text, grpc.text
	for _, a := range []struct {
		key string
		v   value
	}{{"gossip", gossip}, {"http", http}, {"grpc", grpc}} {
		if !a.v.ok || a.key != "gossip" && !r.isAddress(s, a.key, a.v) {
			continue
		}
		r.listens(machineOf(n), a.v, a.key+" of node "+strconv.Quote(name.text), a.key)
	}
	return n
}

func (r *reader) isAddress(s scope, key string, v value) bool {
	_, _, ok := r.address(s, key, v)
	return ok
}

// gossip checks where a node says that others reach it.
func (r *reader) gossip(s scope, v value) {
	if !v.ok {
		return
	}
	host, _, ok := r.address(s, "gossip", v)
	if !ok {
		return
	}
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsUnspecified() || ip.IsMulticast()) {
		r.d.add(v.pos, "gossip: %s is no address that others can reach; write the node's own", host)
	}
}

// listens reports two things of one machine that would listen at the same address. Port 0 is a free one.
func (r *reader) listens(machine string, v value, what, key string) {
	host, port, err := net.SplitHostPort(v.text)
	if err != nil || port == "0" {
		return
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	at := machine + " " + net.JoinHostPort(host, port)
	if other, taken := r.listenAt[at]; taken {
		r.d.add(v.pos, "%s: the address %s is also the %s; give each its own", key, v.text, other)
		return
	}
	r.listenAt[at] = what
}

// machineOf is the machine a node is on, as far as the file tells: the host of its gossip. Loopback is one machine, since nodes there
// could not reach each other from several.
func machineOf(n Node) string {
	host, _, err := net.SplitHostPort(n.Gossip)
	switch {
	case err != nil:
		return "node " + n.Name
	case isLoopback(host):
		return "loopback"
	}
	return strings.ToLower(host)
}
