package gossip

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// summary is what a node knows, in short. Nodes that meet exchange it, and ask for what they miss.
type summary struct {
	Started int64
	Buckets [64]uint64 // of the versions of all changes
	Pins    Time       // version of the pins
	Nodes   []known
}

// known is what a summary says of one node.
type known struct {
	Name    string
	Started int64
	Seq     uint64
	Crashes byte   // that the sender saw itself lately
	Age     uint64 // of the last of them, in seconds
	Left    bool   // this life said that it goes
}

func packSummary(from string, d summary) []byte {
	w := pack(from, kindSummary)
	w.int(d.Started)
	for _, b := range d.Buckets {
		w.hash(b)
	}
	w.time(d.Pins)
	w.uint(uint64(len(d.Nodes)))
	for _, n := range d.Nodes {
		w.string(n.Name)
		w.int(n.Started)
		w.uint(n.Seq)
		w.byte(n.Crashes)
		if n.Crashes > 0 {
			w.uint(n.Age)
		}
		w.flags(n.Left)
	}
	return w.b
}

func unpackSummary(r *unpacker) (summary, error) {
	d := summary{Started: r.int()}
	for i := range d.Buckets {
		d.Buckets[i] = r.hash()
	}
	d.Pins = r.time()
	n := r.count(maxNodes)
	d.Nodes = make([]known, 0, n)
	for range n {
		k := known{Name: r.string(maxNameBytes), Started: r.int(), Seq: r.uint(), Crashes: r.byte()}
		if k.Crashes > 0 {
			k.Age = min(r.uint(), uint64(crashMemory/time.Second))
		}
		k.Left = r.byte()&1 != 0
		d.Nodes = append(d.Nodes, k)
		if r.err != nil {
			return summary{}, r.err
		}
	}
	return d, r.done()
}

// want is what a node asks another one for.
type want struct {
	IDs     []Time // these changes
	Buckets []part
	Reports []string // of these nodes
	Pins    bool
}

// part is all that the asking node has of one bucket of the settings: it wants the rest.
type part struct {
	Index byte
	Has   []Time
}

func packWant(q want) []byte {
	w := &packer{}
	packTimes(w, q.IDs)
	w.uint(uint64(len(q.Buckets)))
	for _, b := range q.Buckets {
		w.byte(b.Index)
		packTimes(w, b.Has)
	}
	w.uint(uint64(len(q.Reports)))
	for _, name := range q.Reports {
		w.string(name)
	}
	w.flags(q.Pins)
	return w.b
}

func unpackWant(b []byte) (want, error) {
	r := &unpacker{b: b}
	q := want{IDs: unpackTimes(r)}
	for range r.count(64) {
		q.Buckets = append(q.Buckets, part{Index: r.byte() % 64, Has: unpackTimes(r)})
		if r.err != nil {
			return want{}, r.err
		}
	}
	for range r.count(maxNodes) {
		q.Reports = append(q.Reports, r.string(maxNameBytes))
		if r.err != nil {
			return want{}, r.err
		}
	}
	q.Pins = r.byte()&1 != 0
	return q, r.done()
}

// letter is a message over a stream, for one life of one node.
type letter struct {
	FromStarted int64
	To          string
	ToStarted   int64
	Seq         uint64
	Kind        string
	Payload     []byte
}

func packLetter(from string, l letter) []byte {
	w := pack(from, kindReliable)
	w.int(l.FromStarted)
	w.string(l.To)
	w.int(l.ToStarted)
	w.uint(l.Seq)
	w.string(l.Kind)
	w.bytes(l.Payload)
	return w.b
}

func unpackLetter(r *unpacker) (letter, error) {
	l := letter{FromStarted: r.int(), To: r.string(maxNameBytes), ToStarted: r.int(), Seq: r.uint(), Kind: r.string(maxKindBytes)}
	l.Payload = r.bytes(maxStreamBytes)
	return l, r.done()
}

// sighting is what a watcher says of a node: that it lost it, or that it sees it again.
type sighting struct {
	Node    string
	Started int64 // of the node: the life that is meant
	By      int64 // Started of the watcher
	Count   uint64
	Lost    bool
	Sure    bool // it said so before, and still does: as good as a second watcher's word
}

func packSighting(by string, s sighting) []byte {
	w := pack(by, kindLost)
	w.string(s.Node)
	w.int(s.Started)
	w.int(s.By)
	w.uint(s.Count)
	w.flags(s.Lost, s.Sure)
	return w.b
}

func unpackSighting(r *unpacker) (sighting, error) {
	s := sighting{Node: r.string(maxNameBytes), Started: r.int(), By: r.int(), Count: r.uint()}
	flags := r.byte()
	s.Lost, s.Sure = flags&1 != 0, flags&2 != 0
	return s, r.done()
}

// meta is what membership itself carries of a node: which life it is, and whether its name is its own for a while already.
type meta struct {
	Started int64
	Settled bool
	DC      string
}

func packMeta(m meta) []byte {
	w := &packer{}
	w.byte(messageVersion)
	w.int(m.Started)
	w.flags(m.Settled)
	w.string(m.DC)
	return w.b
}

// unpackMeta reads what it knows; later versions may add to the end.
func unpackMeta(b []byte) (meta, error) {
	r := &unpacker{b: b}
	r.byte()
	m := meta{Started: r.int(), Settled: r.byte()&1 != 0, DC: r.string(maxNameBytes)}
	return m, r.err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// newer orders reports.
func newer(started int64, seq uint64, than Report) bool {
	return cmp.Or(cmp.Compare(started, than.Started), cmp.Compare(seq, than.Seq)) > 0
}
