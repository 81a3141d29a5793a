package gossip

import (
	"math"
	"slices"
	"strings"
)

// Work is one pump: one partition of one topic on its way from one cluster to another. The link's name is no part of it.
type Work struct {
	From, To, Topic string
	Partition       int32
}

// Hash names the work in what is gossiped: [PumpHash].
func (w Work) Hash() uint64 { return PumpHash(w.From, w.To, w.Topic, w.Partition) }

// Owner is which node should do a piece of work, and why that one.
type Owner struct {
	Node string // empty: no node of the view is alive
	Why  Why
}

// Why tells how an owner was found.
type Why string

// The ways to an owner, in the order in which they are tried.
const (
	ByLoad   Why = "load"      // the balancer moved it there
	ByHash   Why = "hash"      // among the nodes that are ready and reach both clusters
	Settling Why = "settling"  // nobody is ready; among those who reach both clusters
	Kept     Why = "kept"      // only nodes that are draining reach both clusters; the work stays while they do
	Cut      Why = "cut"       // nobody reaches both clusters; somebody has to show the trouble
	Drained  Why = "drained"   // all nodes that are alive are draining; the work stays until another one comes
	Nobody   Why = "no member" // no node is alive
)

// A pump's hash says in its upper bits which clusters it runs between, so that a balancer that knows nothing but the hash knows
// who may take it. Two pairs of clusters with the same bits are told apart by nobody, and only nodes that may do both take their pumps.
const (
	pairBits = 16
	pumpBits = 64 - pairBits
)

// PumpHash is equal on all nodes for the same pump. Its upper 16 bits are of the two clusters alone.
func PumpHash(from, to, topic string, partition int32) uint64 {
	h := hashString(hashString(hashStart, from), to)
	pair := mix(h) >> pumpBits
	h = hashString(h, topic)
	for shift := 0; shift < 32; shift += 8 {
		h = hashByte(h, byte(partition>>shift))
	}
	return pair<<pumpBits | mix(h)>>pairBits
}

func pairOf(pump uint64) uint64 { return pump >> pumpBits }

// FNV-1a. A string ends with a byte that is in no name, so that no two lists of names are the same bytes.
const (
	hashStart = uint64(14695981039346656037)
	hashPrime = uint64(1099511628211)
)

func hashByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * hashPrime }

func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = hashByte(h, s[i])
	}
	return hashByte(h, 0)
}

// mix spreads the bits of a hash whose last bytes reach only its low bits (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Owner is the node that should do a piece of work: the one it is pinned to if that may do it, and else the best by hash.
// All nodes with the same view give the same answer. It costs about as much as hashing the names.
func (v *View) Owner(w Work) Owner {
	pair := v.pair(w.From, w.To)
	pump := w.Hash()
	if node, ok := v.pinned(pump); ok && pair.has(node) {
		if pair.why == ByHash {
			return Owner{Node: node, Why: ByLoad}
		}
		return Owner{Node: node, Why: pair.why} // when all lost a cluster at once, nothing need move
	}
	return Owner{Node: pair.best(pump), Why: pair.why}
}

// Rank orders the candidates for one pump, the best first: weighted rendezvous hashing (Schindelhauer and Schomaker,
// 2005). Each node gets pumps in proportion to its weight; when a node comes or goes, or its weight changes, only pumps of
// that node move. All nodes that see the same candidates come to the same order.
func Rank(pump uint64, candidates []Candidate) []Candidate {
	out := make([]Candidate, 0, len(candidates))
	for _, c := range candidates {
		if c.Weight > 0 {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Candidate) int {
		x, y := distance(pump, nodeHash(a.Node))/a.Weight, distance(pump, nodeHash(b.Node))/b.Weight
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return strings.Compare(a.Node, b.Node)
	})
	return out
}

// nodeHash is a node's part in all its distances.
func nodeHash(node string) uint64 { return mix(hashString(hashStart, node)) }

// fraction is a hash of a pump and a node, spread evenly over the open interval of 0 and 1.
func fraction(pump, node uint64) float64 {
	return (float64(mix(pump^node)>>11) + 0.5) / (1 << 53)
}

// distance is exponentially distributed with mean 1. Divided by the node's weight, the smallest one wins.
func distance(pump, node uint64) float64 { return -math.Log(fraction(pump, node)) }
