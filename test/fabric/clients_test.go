package fabric

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
)

// routed are producers of a router's clients, which write to the first partition of orders by hand. Each record says which it is.
type routed struct {
	t    *testing.T
	conn *broker.ProduceConn
	id   [16]byte
	rng  *rand.Rand
	next map[int64]int32 // sequence
	sent map[int64][]mirror.ClientBatch
}

func newRouted(t *testing.T, f *Fabric, cluster string, seed uint64) *routed {
	t.Helper()
	c := open(t, f, cluster)
	m, err := c.Metadata(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.ProduceConn(t.Context(), m.Brokers[m.Topics["orders"].Partitions[0].Leader])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &routed{t: t, conn: conn, id: m.Topics["orders"].ID, rng: rand.New(rand.NewPCG(seed, 9)), next: make(map[int64]int32), sent: make(map[int64][]mirror.ClientBatch)}
}

func valueOf(id int64, sequence int32) string { return fmt.Sprintf("%d/%d", id, sequence) }

// write sends a batch of n records; a negative id is a producer that is not idempotent.
func (r *routed) write(id int64, n int) {
	r.t.Helper()
	first := r.next[id]
	b := mirror.ClientBatch{First: first, Last: int32((int64(first) + int64(n) - 1) & math.MaxInt32)}
	r.next[id] = int32((int64(b.Last) + 1) & math.MaxInt32)
	r.send(id, id, first, n)
	if id >= 0 {
		r.sent[id] = append(r.sent[id], b)
	}
}

// send sends n records of a producer from a sequence on, under an id that may be another.
func (r *routed) send(as, id int64, first int32, n int) {
	r.t.Helper()
	var records []batch.Record
	for i := range n {
		records = append(records, batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(valueOf(id, int32((int64(first)+int64(i))&math.MaxInt32)))})
	}
	stamp := batch.Stamp{ProducerID: as, Sequence: first}
	if id < 0 {
		stamp.Epoch, stamp.Sequence = -1, -1
	}
	raw, err := batch.Encode(nil, records, batch.Codec(r.rng.IntN(2)*2), stamp)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.conn.Send(r.t.Context(), []broker.ProduceBatch{{Topic: "orders", TopicID: r.id, Bytes: raw}}); err != nil {
		r.t.Fatal(err)
	}
	if res, err := r.conn.Recv(r.t.Context()); err != nil || res[0].Err != nil {
		r.t.Fatal(err, res)
	}
}

// some has some producers write some batches.
func (r *routed) some(ids []int64, batches int) {
	r.t.Helper()
	for range batches {
		r.write(ids[r.rng.IntN(len(ids))], 1+r.rng.IntN(6))
		if r.rng.IntN(8) == 0 {
			r.write(-1, 1)
		}
	}
}

// told sees that a node tells of all that was written, batch by batch, and where that is.
func (r *routed) told(f *Fabric, n *Node, what string) {
	r.t.Helper()
	got, err := n.Set.Look().Producers(r.t.Context(), "eu", "us", "orders", 0)
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	there := valuesOf(r.t, f, "us", "orders")
	found := 0
	for _, p := range got {
		sent := r.sent[p.ID]
		if len(sent) == 0 {
			r.t.Fatalf("%s: producer %d wrote nothing", what, p.ID)
		}
		found++
		sent = sent[max(0, len(sent)-5):]
		if p.Last != sent[len(sent)-1].Last || len(p.Batches) != len(sent) {
			r.t.Errorf("%s: %+v, want %+v", what, p, sent)
			continue
		}
		for i, b := range p.Batches {
			if b.First != sent[i].First || b.Last != sent[i].Last {
				r.t.Errorf("%s: %+v, want %+v", what, p, sent)
			}
			for k := range (int64(b.Last) - int64(b.First) + 1) & math.MaxInt32 {
				if v := valueOf(p.ID, int32((int64(b.First)+k)&math.MaxInt32)); there[b.Target+k] != v {
					r.t.Fatalf("%s: at %d of us is %q, want %q: %+v", what, b.Target+k, there[b.Target+k], v, p)
				}
			}
		}
	}
	if found != len(r.sent) {
		r.t.Errorf("%s: %d producers, want %d", what, found, len(r.sent))
	}
}

// What was copied of clients is known to whoever copies, and to others when it was asked for: after a hand-over, after the end of a node, after kill -9, and when the source is lost.
func TestProducers_AreKnownOverOwners(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us", "us>eu"}, Topics: []string{"orders"}, Partitions: 1, Seed: seed, Verbose: testing.Verbose(),
				Mirror: mirror.Config{CheckpointEvery: 20 * time.Second}})
			defer f.Close()
			several(t, f, "us", "orders", "before", int(seed)*3)
			all := func(name string) func(mirror.PumpID) string { return func(mirror.PumpID) string { return name } }
			team := f.Share(all("n1"), "n1", "n2")
			defer team.Stop()
			r := newRouted(t, f, "eu", seed)
			var ids []int64
			for i := range uint32(60) {
				ids = append(ids, f.Topology.RouterClientID("r", i, uint16(seed)))
			}
			r.some(ids, 400)
			reached(t, f, team.Node("n1"), "eu", "us")
			r.told(f, team.Node("n1"), "who copies")
			team.Node("n1").Set.Flush()
			time.Sleep(500 * time.Millisecond)
			r.told(f, team.Node("n2"), "who does not")
			r.some(ids, 10)
			reached(t, f, team.Node("n1"), "eu", "us")
			team.Node("n1").Set.Flush()
			time.Sleep(500 * time.Millisecond)
			r.told(f, team.Node("n2"), "who does not, once more")

			r.some(ids[:20], 30)
			team.Move(all("n2"), 0)
			r.some(ids[:20], 30)
			reached(t, f, team.Node("n2"), "eu", "us")
			time.Sleep(time.Second)
			r.told(f, team.Node("n2"), "handed over")
			team.Leave("n1")
			r.told(f, team.Node("n2"), "the owner before has left")

			team.Node("n2").Set.Flush()
			time.Sleep(100 * time.Millisecond)
			r.some(ids[10:], 20)
			eventually(t, time.Second, "all is copied", func() bool { return endOf(t, f, "us", "orders") == endOf(t, f, "eu", "orders") })
			team.Kill("n2") // what was copied since shows in a search
			n3 := team.Start("n3", all("n3"))
			reached(t, f, n3, "eu", "us")
			r.told(f, n3, "killed")

			n3.Set.Flush()
			time.Sleep(100 * time.Millisecond)
			r.some(ids[30:], 20)
			reached(t, f, n3, "eu", "us")
			for _, n := range team.Alive() {
				n.Paths["eu"].Cut()
			}
			team.Leave("n3")
			n4 := team.Start("n4", all("n4"))
			n4.Paths["eu"].Cut()
			eventually(t, 30*time.Second, "it has begun", func() bool {
				got, err := n4.Set.Look().Producers(t.Context(), "eu", "us", "orders", 0)
				return err == nil && len(got) > 0
			})
			r.told(f, n4, "begun without the source")
			n4.Paths["eu"].Heal()
			r.some(ids, 20)
			reached(t, f, n4, "eu", "us")
			n4.Paths["eu"].Cut()
			time.Sleep(10 * time.Second)
			r.told(f, n4, "source lost")
			time.Sleep(11 * time.Minute)
			if got, err := n4.Set.Look().Producers(t.Context(), "eu", "us", "orders", 0); err != nil || len(got) > 0 {
				t.Errorf("long ago: %+v, %v", got, err)
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// Nobody tells of what no link copies.
func TestProducers_Errors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, Partitions: 1, Seed: 1})
		defer f.Close()
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Set.Look().Producers(t.Context(), "us", "eu", "orders", 0); !errors.Is(err, mirror.ErrNoLink) {
			t.Error("no link is no error")
		}
		if got, err := n.Set.Look().Producers(t.Context(), "eu", "us", "orders", 0); err != nil || len(got) > 0 {
			t.Errorf("nothing copied: %+v, %v", got, err)
		}
	})
}
