package fabric

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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
	reached(t, f, nodes[len(nodes)-1], "eu", "ap")
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
	found, err := n.Set.Look().SentAgain(l.t.Context(), "eu", map[string]string{"eu-us": "us", "eu-ap": "ap"}[link], "orders", 0)
	told := 0
	for _, r := range found {
		for at := r.First; at < r.End; at++ {
			if told++; !l.again[values[at]] {
				l.t.Errorf("%s: %q was not sent again: %v", link, values[at], found)
			}
		}
	}
	if err != nil || int64(told) != sum.Again {
		l.t.Errorf("%s: %v, %v, want %d offsets", link, found, err, sum.Again)
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
				identical(t, n, 100)
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
				t.Fatalf("seed %d, %s", seed, policy)
			}
		}
	}
}

// Clients that come late to the new home are waited for, a while, and what they send is recognised. Who never comes holds nothing up.
func TestTails_WaitsForClientsOnTheirWay(t *testing.T) {
	for name, comes := range map[string]time.Duration{"late": 4 * time.Second, "too late": 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: strings.Fields(mesh), Topics: []string{"orders"}, Partitions: 1, Seed: 1, Verbose: testing.Verbose()})
			defer f.Close()
			n := f.Start("n1")
			defer n.Stop()
			l := lose(t, f, 1, topology.DeliverTail, n)
			id := f.Topology.RouterClientID("r", 100, 0)
			l.eu.write(id, 4)
			for s := range int32(4) {
				l.tail = append(l.tail, valueOf(id, s))
			}
			began := time.Now()
			n.Paths["eu"].Heal()
			time.Sleep(comes)
			if comes < 10*time.Second {
				for s := range int32(4) {
					l.again[valueOf(id, s)] = true
				}
				l.us.send(id|1, id, 0, 4)
			}
			l.back(n)
			if d := time.Since(began); d > 40*time.Second {
				t.Errorf("%s: it took %v", name, d)
			}
			l.once("us", true)
			l.once("ap", true)
			l.sums(n, "eu-us", topology.DeliverTail)
			l.sums(n, "eu-ap", topology.DeliverTail)
		})
	}
}

// A link that looks at a tail later than that to the new home does what was decided there, also where clients have sent again since; and where nobody decides, it does not wait for ever.
func TestTails_LinksDoTheSame(t *testing.T) {
	for _, dead := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: strings.Fields(mesh), Topics: []string{"orders"}, Partitions: 1, Seed: 2, Verbose: testing.Verbose()})
			defer f.Close()
			n1, n2 := f.Start("n1", "eu-us", "us-eu"), f.Start("n2", "eu-ap", "us-ap", "ap-us")
			defer n2.Stop()
			l := lose(t, f, 2, topology.DeliverTail, n1, n2)
			time.Sleep(15 * time.Second)
			if dead {
				n1.Stop()
				n2.Paths["eu"].Heal()
				if err := CaughtUp(4*time.Minute, n2); err == nil {
					t.Error("nobody was waited for")
				}
				l.back(n2)
				l.once("ap", true)
				return
			}
			defer n1.Stop()
			l.back(n1)
			var late []string // delivered to us, and sent again only then
			for _, v := range l.tail {
				if !l.again[v] && !strings.HasPrefix(v, "-1/") {
					late = append(late, v)
				}
			}
			var id int64
			var sequence int32
			if _, err := fmt.Sscanf(late[0], "%d/%d", &id, &sequence); err != nil {
				t.Fatal(err)
			}
			l.us.send(id|2, id, sequence, 1) // under another salt, so that its broker takes it
			n2.Paths["eu"].Heal()
			l.back(n2)
			if one, other := l.sums(n1, "eu-us", topology.DeliverTail), l.sums(n2, "eu-ap", topology.DeliverTail); one != other {
				t.Errorf("%+v and %+v", one, other)
			}
		})
	}
}

// A node that takes a partition over reads ahead of its place meanwhile. What it has read of a tail by then is not copied before it is decided.
func TestTails_OfAPartitionThatIsHandedOver(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: strings.Fields(mesh), Topics: []string{"orders"}, Partitions: 1, Seed: seed, Verbose: testing.Verbose()})
			defer f.Close()
			all := func(name string) func(mirror.PumpID) string { return func(mirror.PumpID) string { return name } }
			team := f.Share(all("n1"), "n1", "n2")
			defer team.Stop()
			n1, n2 := team.Node("n1"), team.Node("n2")
			l := lose(t, f, seed, topology.DeliverTail, n1, n2)
			time.Sleep(11 * time.Second)
			n2.Paths["eu"].Heal()
			time.Sleep(time.Second)
			team.Move(all("n2"), 0)
			eventually(t, time.Minute, "n2 has decided", func() bool {
				entries, err := n2.Set.Ledger("")
				return err == nil && slices.ContainsFunc(entries, func(e mirror.LedgerEntry) bool { return e.Link == "eu-ap" && e.Tail != nil })
			})
			n1.Paths["eu"].Heal()
			time.Sleep(5 * time.Second)
			l.once("us", true)
			l.once("ap", true)
			l.sums(n2, "eu-us", topology.DeliverTail)
		})
	}
}

// What stands behind an open transaction in a tail is decided when it has ended, and nothing of it is copied before.
func TestTails_WithAnOpenTransaction(t *testing.T) {
	for _, policy := range []topology.TailPolicy{topology.DeliverTail, topology.DivertTail} {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: strings.Fields(mesh), Topics: []string{"orders"}, Partitions: 1, Seed: 3, Verbose: testing.Verbose()})
			defer f.Close()
			n := f.Start("n1")
			defer n.Stop()
			l := lose(t, f, 3, policy, n)
			c := f.Client("eu")
			cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("orders"), kgo.ProducerLinger(0))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := cl.ProduceSync(t.Context(), kgo.StringRecord("in doubt")).FirstErr(); err != nil {
				t.Fatal(err)
			}
			l.eu.write(-1, 3)
			behind := []string{"in doubt"}
			for s := l.eu.next[-1] - 3; s < l.eu.next[-1]; s++ {
				behind = append(behind, valueOf(-1, s))
			}
			time.Sleep(15 * time.Second)
			n.Paths["eu"].Heal()
			before := len(l.tail)
			eventually(t, 20*time.Second, "what is stable is decided", func() bool {
				entries, err := n.Set.Ledger("eu-us")
				return err == nil && slices.ContainsFunc(entries, func(e mirror.LedgerEntry) bool {
					return e.Tail != nil && e.Records == int64(before) && e.Tail.Next <= e.Last
				})
			})
			time.Sleep(5 * time.Second)
			for _, v := range valuesOf(t, f, "us", "orders") {
				if slices.Contains(behind, v) {
					t.Errorf("%q is copied", v)
				}
			}
			if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
			l.tail = append(l.tail, behind...)
			l.back(n)
			l.once("us", policy == topology.DeliverTail)
			l.once("ap", policy == topology.DeliverTail)
			l.sums(n, "eu-us", policy)
			if policy == topology.DivertTail {
				diverted := valuesOf(t, f, "ap", mirror.DivertedTo("orders", "eu", 1))
				if not := slices.DeleteFunc(slices.Clone(l.tail), func(v string) bool { return l.again[v] }); len(diverted) != len(not) {
					t.Errorf("%d are diverted, want %d", len(diverted), len(not))
				}
			}
		})
	}
}

// Where nobody tells what was decided, a source is not read for half a minute, and then as if it was not lost. Whoever is told later looks then.
func TestTails_NobodyTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, Partitions: 1, Seed: 1, Verbose: testing.Verbose()})
		defer f.Close()
		n := f.Start("n1")
		defer n.Stop()
		several(t, f, "eu", "orders", "begin", 3)
		reached(t, f, n, "eu", "us")
		d := &decided{err: errors.New("for a test")}
		n.Set.SetTails(d)
		n.Paths["eu"].Cut()
		several(t, f, "eu", "orders", "tail", 4)
		n.Paths["eu"].Heal()
		began := time.Now()
		time.Sleep(20 * time.Second)
		if end := endOf(t, f, "us", "orders"); end != 3 {
			t.Errorf("%d records are copied, and nobody told of tails", end)
		}
		reached(t, f, n, "eu", "us")
		if d := time.Since(began); d > 45*time.Second {
			t.Errorf("it took %v", d)
		}
		d.mu.Lock()
		d.err = nil
		d.mu.Unlock()
		d.decide(mirror.Tail{Router: "r", Generation: 1, Policy: topology.ListTail, First: 3, End: math.MaxInt64, Homes: []mirror.TailLog{{Cluster: "us", From: 3, End: math.MaxInt64}}})
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.Set.HeedTails()
		eventually(t, 20*time.Second, "the ledger has it", func() bool {
			entries, err := n.Set.Ledger("eu-us")
			return err == nil && len(entries) == 1 && entries[0].Tail.Delivered == 4 && entries[0].First == 3 && entries[0].Last == 6
		})
	})
}

// Nodes that are killed while a tail is decided about and copied leave nothing undone, and nothing done twice.
func TestTails_KilledBetween(t *testing.T) {
	policies := []topology.TailPolicy{topology.DeliverTail, topology.DivertTail, topology.ListTail}
	for seed := range uint64(12) {
		policy := policies[seed%3]
		synctest.Test(t, func(t *testing.T) {
			f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: strings.Fields(mesh), Topics: []string{"orders"}, Partitions: 1, Seed: seed, Verbose: testing.Verbose(),
				Mirror: mirror.Config{FetchPartitionBytes: 512, CheckpointEvery: time.Second}})
			defer f.Close()
			n := f.Start("n0")
			defer func() { n.Stop() }()
			l := lose(t, f, seed, policy, n)
			time.Sleep(15 * time.Second)
			slow := func(n *Node) {
				for _, p := range n.Paths {
					p.Slow(10*time.Millisecond, 10*time.Millisecond, 0)
				}
			}
			n.Paths["eu"].Heal()
			slow(n)
			for i := range 4 {
				time.Sleep(time.Duration(l.eu.rng.IntN(1200)) * time.Millisecond)
				n.Kill()
				n = f.Run(fmt.Sprintf("n%d", i+1), nil)
				n.Set.SetTails(l.tails)
				slow(n)
			}
			l.back(n)
			l.once("us", policy == topology.DeliverTail)
			l.once("ap", policy == topology.DeliverTail)
			l.sums(n, "eu-us", policy)
			l.sums(n, "eu-ap", policy)
			if policy == topology.DivertTail {
				diverted := valuesList(valuesOf(t, f, "us", mirror.DivertedTo("orders", "eu", 1)))
				not := slices.DeleteFunc(slices.Clone(l.tail), func(v string) bool { return l.again[v] })
				slices.Sort(diverted)
				slices.Sort(not)
				if !slices.Equal(diverted, not) {
					t.Errorf("diverted: %d %v, want %d %v", len(diverted), diverted, len(not), not)
				}
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d, %s", seed, policy)
		}
	}
}

func valuesList(m map[int64]string) (out []string) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}
