package fabric

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology"
)

// decided are tails that a test decides on.
type decided struct {
	mu   sync.Mutex
	next []mirror.Tail // that the next reading finds
	read []mirror.Tail
	err  error
}

func (d *decided) Refresh(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.read = d.next
	}
	return d.err
}

func (d *decided) Of(cluster, topic string, partition int32) []mirror.Tail {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cluster != "eu" || topic != "orders" || partition != 0 {
		return nil
	}
	return d.read
}

func (d *decided) decide(tails ...mirror.Tail) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = tails
}

// loss is a fabric whose eu is lost with a tail: us is home then, and some clients send again what was not acknowledged.
type loss struct {
	t     *testing.T
	f     *Fabric
	tails *decided
	eu    *routed
	us    *routed
	ids   []int64
	left  int64           // end of what was copied
	tail  []string        // values in it, in order
	again map[string]bool // of them were sent again
}

const mesh = "eu>us us>eu eu>ap ap>eu us>ap ap>us"

// lose has eu lost to some nodes. In what follows n1 is said to have been all that copied.
func lose(t *testing.T, f *Fabric, seed uint64, policy topology.TailPolicy, nodes ...*Node) *loss {
	t.Helper()
	l := &loss{t: t, f: f, tails: &decided{}, again: make(map[string]bool)}
	for _, n := range nodes {
		n.Set.SetTails(l.tails)
	}
	several(t, f, "us", "orders", "before", 3)
	several(t, f, "eu", "orders", "begin", 3)
	l.eu, l.us = newRouted(t, f, "eu", seed), newRouted(t, f, "us", seed+1)
	for i := range uint32(7) {
		l.ids = append(l.ids, f.Topology.RouterClientID("r", i, 0))
	}
	l.eu.some(l.ids, 60)
	reached(t, f, nodes[0], "eu", "us")
	reached(t, f, nodes[0], "eu", "ap")
	for _, n := range nodes {
		n.Paths["eu"].Cut()
	}
	l.left = endOf(t, f, "eu", "orders")
	before := valuesOf(t, f, "eu", "orders")
	acked := make(map[int64]int32)
	for id, next := range l.eu.next {
		acked[id] = next
	}
	for k := range 25 { // what some write for the last time is of nobody who sends again
		l.eu.write(l.ids[l.eu.rng.IntN(len(l.ids))], 1+l.eu.rng.IntN(6))
		if k%5 == 0 {
			l.eu.write(-1, 2)
		}
	}
	after := valuesOf(t, f, "eu", "orders")
	for at := l.left; at < endOf(t, f, "eu", "orders"); at++ {
		if before[at] == "" {
			l.tail = append(l.tail, after[at])
		}
	}
	home := endOf(t, f, "us", "orders")
	for i, id := range l.ids {
		first, end := acked[id], l.eu.next[id]
		switch i % 4 {
		case 0: // none
			continue
		case 1: // all that is not acknowledged
		case 2: // the last
			first += int32(l.us.rng.IntN(int(end-first) + 1))
		case 3: // some, and dies
			end -= int32(l.us.rng.IntN(int(end-first) + 1))
		}
		for at := first; at < end; {
			n := min(end-at, int32(1+l.us.rng.IntN(6)))
			l.us.send(id|1, id, at, int(n))
			for s := range n {
				l.again[valueOf(id, at+s)] = true
			}
			at += n
		}
		if i%4 != 3 && end > 0 {
			l.us.send(id|1, id, end, 3) // it goes on
		}
	}
	several(t, f, "us", "orders", "since", 20)
	l.tails.decide(mirror.Tail{Router: "r", Generation: 1, Policy: policy, First: l.left, End: math.MaxInt64, At: time.Now(),
		Homes: []mirror.TailLog{{Cluster: "us", From: home, End: math.MaxInt64}}})
	return l
}

// back has eu reached again, and waits until all is copied.
func (l *loss) back(nodes ...*Node) {
	l.t.Helper()
	for _, n := range nodes {
		n.Paths["eu"].Heal()
	}
	if err := CaughtUp(2*time.Minute, nodes...); err != nil {
		l.t.Fatal(err)
	}
}

// once sees what of each value is at a cluster: once, but for those of the tail that should not be there.
func (l *loss) once(cluster string, delivered bool) {
	l.t.Helper()
	counts := make(map[string]int)
	for _, v := range valuesOf(l.t, l.f, cluster, "orders") {
		counts[v]++
	}
	for v, n := range counts {
		if n != 1 {
			l.t.Errorf("%s: %q is there %d times", cluster, v, n)
		}
	}
	for _, v := range l.tail {
		if want := delivered || l.again[v]; (counts[v] > 0) != want {
			l.t.Errorf("%s: %q is there %d times, want it %t", cluster, v, counts[v], want)
		}
	}
	for _, v := range valuesOf(l.t, l.f, "us", "orders") {
		if counts[v] != 1 {
			l.t.Errorf("%s: %q is there %d times, and it is at us", cluster, v, counts[v])
		}
	}
}

// sums sees what the ledger has of the tail, and that its ranges are those that are not there.
func (l *loss) sums(n *Node, link string, policy topology.TailPolicy) mirror.TailSum {
	l.t.Helper()
	entries, err := n.Set.Ledger(link)
	if err != nil {
		l.t.Fatal(err)
	}
	end := endOf(l.t, l.f, "eu", "orders")
	values := valuesOf(l.t, l.f, "eu", "orders")
	var sum *mirror.TailSum
	left := make(map[string]bool)
	for _, e := range entries {
		if !strings.HasPrefix(string(e.Reason), "tail") {
			l.t.Errorf("%s: %+v", link, e)
			continue
		}
		if e.Digest == "" || e.Policy != string(policy) {
			l.t.Errorf("%s: %+v", link, e)
		}
		if e.Tail != nil {
			if sum = e.Tail; e.First != l.left || e.Last >= end || sum.Next != e.Last+1 || e.Records != int64(len(l.tail)) {
				l.t.Errorf("%s: %+v %+v, want the tail from %d on with %d records", link, e, sum, l.left, len(l.tail))
			}
			continue
		}
		for at := e.First; at <= e.Last; at++ {
			left[values[at]] = true
		}
	}
	if sum == nil {
		l.t.Fatalf("%s: no tail in %+v", link, entries)
	}
	for _, v := range l.tail {
		if left[v] != (policy != topology.DeliverTail || l.again[v]) {
			l.t.Errorf("%s: %q is left out: %t", link, v, left[v])
		}
		delete(left, v)
	}
	if len(left) > 0 {
		l.t.Errorf("%s: left out, and not of the tail: %v", link, left)
	}
	return *sum
}

// The tail of a lost home is delivered late, diverted or listed. What clients sent again is not there twice, at no cluster that is not the lost one.
func TestTails_ByPolicy(t *testing.T) {
	for seed := range uint64(4) {
		for _, policy := range []topology.TailPolicy{topology.DeliverTail, topology.DivertTail, topology.ListTail} {
			synctest.Test(t, func(t *testing.T) {
				f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: strings.Fields(mesh), Topics: []string{"orders"}, Partitions: 1, Seed: seed, Verbose: testing.Verbose()})
				defer f.Close()
				n := f.Start("n1")
				defer func() { n.Stop() }()
				l := lose(t, f, seed, policy, n)
				if seed%2 == 1 { // whoever goes on has never seen it well
					n.Kill()
					n = f.Run("n2", nil)
					n.Set.SetTails(l.tails)
				}
				l.back(n)
				l.once("us", policy == topology.DeliverTail)
				l.once("ap", policy == topology.DeliverTail)
				again := int64(0)
				for _, v := range l.tail {
					if l.again[v] {
						again++
					}
				}
				rest := int64(len(l.tail)) - again
				want := mirror.TailSum{Router: "r", Generation: 1, Again: again}
				switch policy {
				case topology.DeliverTail:
					want.Delivered = rest
				case topology.DivertTail:
					want.Diverted = rest
				default:
					want.Listed = rest
				}
				got := l.sums(n, "eu-us", policy)
				l.sums(n, "eu-ap", policy)
				if want.Next = got.Next; got != want || again == 0 || rest == 0 {
					t.Errorf("%+v, want %+v", got, want)
				}
				if policy == topology.DivertTail {
					for _, c := range []string{"us", "ap"} {
						diverted := valuesOf(t, f, c, mirror.DivertedTo("orders", "eu", 1))
						var in []string
						for at := range int64(len(diverted)) {
							in = append(in, diverted[at])
						}
						if not := slices.DeleteFunc(slices.Clone(l.tail), func(v string) bool { return l.again[v] }); !slices.Equal(in, not) {
							t.Errorf("diverted at %s: %v, want %v", c, in, not)
						}
					}
				}
				// Nothing of it is asked for again, and all that comes later is ordinary.
				several(t, f, "eu", "orders", "later", 10)
				l.back(n)
				for _, c := range []string{"us", "ap"} {
					if at := valuesOf(t, f, c, "orders"); !slices.Contains(valuesList(at), "later-9") {
						t.Errorf("%s: nothing comes behind the tail", c)
					}
				}
			})
			if t.Failed() {
				t.Fatal(fmt.Sprintf("seed %d, %s", seed, policy))
			}
		}
	}
}

func valuesList(m map[int64]string) (out []string) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}
