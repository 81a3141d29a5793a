package mirror

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// client is the n-th producer of routers' clients.
func (b *bench) client(n uint32) int64 { return b.link.routing().topo.RouterClientID("r", n, 3) }

// clients hands over source batches as they are.
func (b *bench) clients(raw ...batchSpec) {
	b.t.Helper()
	got := &broker.Fetched{DivergingEnd: -1, PreferredReplica: -1}
	for _, s := range raw {
		for i := range s.records {
			s.records[i].Timestamp = b.now.UnixMilli()
		}
		got.Batches = append(got.Batches, rawBatch(s)...)
		got.HighWatermark = max(s.last, s.records[len(s.records)-1].Offset) + 1
	}
	b.pump.offer(got, b.pump.fetchAt, nil, b.now)
}

// knows sees what the pump knows of clients.
func (b *bench) knows(what string, want ...ClientProducer) {
	b.t.Helper()
	got := mergedClients([][]clientState{b.pump.clients.list()}, b.now)
	slices.SortFunc(want, func(a, b ClientProducer) int { return int(min(max(a.ID-b.ID, -1), 1)) })
	for i := range got {
		got[i].Batches = slices.Clip(got[i].Batches)
	}
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		b.t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// Each shape in which a client's batch gets to the target: where it is there is known, or it is left out.
func TestPump_KnowsWhereClientsBatchesAre(t *testing.T) {
	b := newBench(t)
	b.prove() // one record of another producer: source 1 and target 1 are next
	ms := b.now.UnixMilli()
	one := func(n uint32, epoch int16, last int32, batches ...ClientBatch) ClientProducer {
		for i := range batches {
			batches[i].Time = ms
		}
		return ClientProducer{ID: b.client(n), Epoch: epoch, Last: last, Time: ms, Batches: batches}
	}
	large := func(from, n int64) []batch.Record {
		out := records(from, n)
		for i := range out {
			out[i].Value = make([]byte, mergeBelow)
		}
		return out
	}
	b.clients(batchSpec{base: 1, id: b.client(1), epoch: 2, sequence: 7, records: large(1, 3)})
	o := b.next()
	b.knows("not acknowledged yet")
	b.ack(o, 11)
	b.knows("as it is", one(1, 2, 9, ClientBatch{Epoch: 2, First: 7, Last: 9, Target: 11}))

	b.clients(batchSpec{base: 4, id: b.client(1), epoch: 2, sequence: 10, records: records(4, 2)}, batchSpec{base: 6, id: -1, records: records(6, 1)},
		batchSpec{base: 7, id: b.client(2), epoch: 0, sequence: math.MaxInt32 - 1, records: records(7, 3)})
	if o = b.next(); o.records != 6 {
		t.Fatalf("%d records are merged, want 6", o.records)
	}
	b.ack(o, 20)
	first := one(1, 2, 11, ClientBatch{Epoch: 2, First: 7, Last: 9, Target: 11}, ClientBatch{Epoch: 2, First: 10, Last: 11, Target: 20})
	b.knows("merged, and over the end of sequences", first, one(2, 0, 0, ClientBatch{First: math.MaxInt32 - 1, Last: 0, Target: 23}))

	holes := records(10, 4)
	b.clients(batchSpec{base: 10, last: 13, id: b.client(2), epoch: 1, sequence: 0, records: holes[2:]})
	b.ack(b.next(), 26)
	b.knows("cleaned", first, one(2, 1, 3, ClientBatch{First: math.MaxInt32 - 1, Last: 0, Target: 23}))

	b.pump.flow.lim.Store(&limits{partitions: 1, maxBytes: 3 * mergeBelow})
	b.clients(batchSpec{base: 14, id: b.client(2), epoch: 1, sequence: 4, records: large(14, 4)})
	b.ack(b.next(), 28)
	b.ack(b.next(), 30)
	second := one(2, 1, 7, ClientBatch{First: math.MaxInt32 - 1, Last: 0, Target: 23}, ClientBatch{Epoch: 1, First: 4, Last: 7, Target: 28})
	b.knows("split", first, second)
	b.clients(batchSpec{base: 18, id: b.client(2), epoch: 1, sequence: 8, records: large(18, 4)})
	b.ack(b.next(), 32)
	b.ack(b.next(), 40)
	second.Last = 11
	b.knows("split around others' records", first, second)
}

// A pump that goes on inside a client's batch knows where all of it is; what a search finds copied counts, and what lies behind the place does not.
func TestPump_LearnsClientsFromASearch(t *testing.T) {
	b := newBench(t)
	passed := []clientCopy{{id: b.client(1), next: 4, last: 2, records: 3, at: -1}, {id: b.client(1), next: 7, first: 3, last: 5, records: 3, at: -1}}
	b.prove()
	b.pump.out.keep = false
	b.pump.drainLocked(CauseTarget, "for a test", b.now)
	b.find(func(f *found) {
		f.place.SourceNext, f.place.TargetFrom = 5, 104
		f.runs, f.clients = []Run{{Source: 1, Target: 100, Records: 4, Origin: "eu"}}, passed
	})
	b.knows("what was found", ClientProducer{ID: b.client(1), Last: 2, Batches: []ClientBatch{{First: 0, Last: 2, Target: 100}}})
	b.clients(batchSpec{base: 4, id: b.client(1), sequence: 3, records: records(4, 3)})
	b.ack(b.next(), 104)
	ms := b.now.UnixMilli()
	b.knows("gone on inside", ClientProducer{ID: b.client(1), Last: 5, Time: ms, Batches: []ClientBatch{{First: 0, Last: 2, Target: 100}, {First: 3, Last: 5, Target: 103, Time: ms}}})
	b.pump.moveLocked(Incarnation{Epoch: 1, anchor: &anchorage{}}, nil, b.now)
	b.knows("anchored")
}

// The book is what a plain list of all batches says.
func TestClientBook_IsWhatAListSays(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var k clientBook
		type one struct {
			clientCopy
			target int64
			at     time.Time
		}
		var all []one
		now, next := time.UnixMilli(1_700_000_000_000), int64(0)
		lasts := make(map[int64]int32)
		for range 8000 {
			now = now.Add(time.Duration(rng.IntN(400)) * time.Millisecond)
			id, n := int64(rng.IntN(530)), int32(1+rng.IntN(9))
			next += int64(n)
			first, known := lasts[id]
			if known {
				first = sequenceAfter(first, 1)
			} else {
				first = math.MaxInt32 - 20
			}
			o := one{clientCopy{id: id, next: next, first: first, last: sequenceAfter(first, int64(n)-1), records: n}, next + 1000, now}
			if rng.IntN(10) == 0 {
				o.target = -1
			}
			lasts[id] = o.last
			k.take(o.clientCopy, o.target, now)
			all = append(all, o)
			if rng.IntN(20) == 0 && len(all) > 50 { // copied once more
				again := all[len(all)-1-rng.IntN(50)]
				k.take(again.clientCopy, again.target+5, now)
			}
		}
		k.expire(now)
		var want []ClientProducer
		seen := make(map[int64]int)
		for _, o := range slices.Backward(all) {
			i, ok := seen[o.id]
			if !ok && (len(want) == clientsKept || !freshClient(o.at.UnixMilli(), now)) {
				seen[o.id] = -1
				continue
			}
			if !ok {
				i, seen[o.id] = len(want), len(want)
				want = append(want, ClientProducer{ID: o.id, Last: o.last})
			}
			if i >= 0 && o.target >= 0 && len(want[i].Batches) < clientBatches {
				want[i].Batches = slices.Insert(want[i].Batches, 0, ClientBatch{First: o.first, Last: o.last, Target: o.target})
			}
		}
		got := k.list()
		slices.Reverse(got)
		if len(got) != len(want) || len(got) != len(k.by) {
			t.Fatalf("seed %d: %d of %d producers, want %d", seed, len(got), len(k.by), len(want))
		}
		whole := 0
		for i := range got { // who was put out of the book and came again has fewer
			w := want[i]
			w.Batches = w.Batches[max(0, len(w.Batches)-len(got[i].Batches)):]
			if g := got[i].ClientProducer; g.ID != w.ID || g.Last != w.Last || !slices.Equal(g.Batches, w.Batches) {
				t.Fatalf("seed %d: %+v, want %+v", seed, g, want[i])
			}
			if len(w.Batches) == len(want[i].Batches) {
				whole++
			}
		}
		if whole < clientsKept/2 {
			t.Errorf("seed %d: of %d producers only are all batches known", seed, whole)
		}
		k.cut(next-500, math.MaxInt64)
		for _, c := range k.list() {
			if c.next > next-500 {
				t.Fatalf("seed %d: %+v is behind the cut", seed, c)
			}
		}
	}
}

// A producer that begins anew, because its broker had forgotten it, has no batches of before: their sequences would be taken for new ones.
func TestClientBook_BeginsAnew(t *testing.T) {
	var k clientBook
	now := time.UnixMilli(5)
	k.take(clientCopy{id: 1, epoch: 1, next: 10, first: 0, last: 9, records: 10}, 0, now)
	k.take(clientCopy{id: 1, epoch: 1, next: 12, first: 0, last: 1, records: 2}, 10, now)
	k.take(clientCopy{id: 1, epoch: 0, next: 13, first: 10, last: 10, records: 1}, 12, now)
	if got := k.list()[0].ClientProducer; got.Last != 1 || len(got.Batches) != 1 || got.Batches[0].Target != 10 {
		t.Errorf("%+v", got)
	}
}

func TestClients_OfSeveralOwners(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	state := func(next int64, age time.Duration, firsts ...int32) clientState {
		c := clientState{ClientProducer: ClientProducer{ID: 4, Epoch: 1}, next: next, seen: now.Add(-age).UnixMilli()}
		for _, f := range firsts {
			c.Batches = append(c.Batches, ClientBatch{Epoch: 1, First: f, Last: f + 9, Target: int64(f) + next})
			c.Last = f + 9
		}
		return c
	}
	for name, c := range map[string]struct {
		all  [][]clientState
		want []int32
	}{
		"one after the other":  {[][]clientState{{state(100, 1, 60, 70, 80, 90)}, {state(120, 0, 100, 110)}}, []int32{70, 80, 90, 100, 110}},
		"in any order":         {[][]clientState{{state(120, 0, 100, 110)}, {state(100, 1, 60, 70, 80, 90)}}, []int32{70, 80, 90, 100, 110}},
		"the same":             {[][]clientState{{state(120, 0, 100, 110)}, {state(110, 0, 90, 100)}}, []int32{90, 100, 110}},
		"too old":              {[][]clientState{{state(120, 0, 100)}, {state(100, clientsFor, 90)}}, []int32{100}},
		"nothing of the later": {[][]clientState{{func() clientState { c := state(120, 0, 110); c.Batches = nil; return c }()}, {state(100, 1, 90)}}, []int32{90}},
	} {
		got := mergedClients(c.all, now)
		var firsts []int32
		for _, b := range got[0].Batches {
			firsts = append(firsts, b.First)
		}
		if len(got) != 1 || !slices.Equal(firsts, c.want) {
			t.Errorf("%s: %+v, want %v", name, got, c.want)
		}
	}
}

func TestClients_RecordsOfOtherVersionsAndEpochs(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	s := &store{stateLog: newStateLog(nil, nil)}
	put := func(writer string, value []byte) {
		if err := s.takeLocked(batch.Record{Key: stateKey(kindClients, somePump, writer), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.takeLocked(batch.Record{Key: stateKey(kindCheckpoint, somePump, "w"), Value: Checkpoint{Lanes: []Lane{{Origin: "eu", Epoch: 2, Count: 9}}}.encode()}); err != nil {
		t.Fatal(err)
	}
	one := []clientState{{ClientProducer: ClientProducer{ID: 9, Last: 1}, seen: now.UnixMilli()}}
	put("old", encodeClients(2, now.Add(-20*time.Minute), one))
	put("before", encodeClients(1, now, one))
	put("me", encodeClients(2, now, one))
	put("other", encodeClients(3, now, one))
	if all, err := s.clientsOf(somePump, "me"); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v, want those of old and of other", all, err)
	}
	put("newer", []byte{formatVersion + 1, 2, 3})
	if _, err := s.clientsOf(somePump, "me"); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a newer format: %v", err)
	}
	if keys := s.staleClients(somePump, now); len(keys) != 1 || string(keys[0]) != string(stateKey(kindClients, somePump, "old")) {
		t.Errorf("stale: %q", keys)
	}
	put("newer", nil)
	if all, err := s.clientsOf(somePump, ""); err != nil || len(all) != 2 {
		t.Errorf("without the old: %+v, %v", all, err)
	}
}

func FuzzClients(f *testing.F) {
	f.Add(encodeClients(3, time.UnixMilli(77), someClients))
	f.Fuzz(func(t *testing.T, raw []byte) {
		epochs, all, err := decodeClients(somePump, "w", raw)
		if err != nil {
			return
		}
		again, all2, err := decodeClients(somePump, "w", encodeClients(epochs, time.UnixMilli(77), all))
		if err != nil || again != epochs || !reflect.DeepEqual(all, all2) {
			t.Fatalf("%+v, %v, want %+v", all2, err, all)
		}
	})
}

var someClients = []clientState{
	{ClientProducer{1<<62 + 5, 3, 1, 900, []ClientBatch{{2, 7, 9, 100, 800}, {3, math.MaxInt32 - 3, 1, 300, 900}}}, 1 << 40, 950},
	{ClientProducer{1<<62 + 512, 0, 0, -1, nil}, 7, 951},
}

// BenchmarkTake is what a client's batch costs when it is acknowledged.
func BenchmarkTake(b *testing.B) {
	for _, n := range []int64{1, 100, 2 * clientsKept} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var k clientBook
			now := time.UnixMilli(1_700_000_000_000)
			b.ReportAllocs()
			for i := int64(0); b.Loop(); i++ {
				s := int32(i / n)
				k.take(clientCopy{id: i % n, next: i + 1, first: s, last: s, records: 1}, i, now)
			}
		})
	}
}

// BenchmarkEncodeClients is what is written at once where very many clients write.
func BenchmarkEncodeClients(b *testing.B) {
	var k clientBook
	now := time.UnixMilli(1_700_000_000_000)
	for i := range int64(20 * clientsKept) {
		s := int32(i / clientsKept * 30)
		k.take(clientCopy{id: 1<<62 + i%clientsKept<<9, next: 40 * i, first: s, last: s + 29, records: 30, time: now.UnixMilli()}, 40*i, now)
	}
	var raw []byte
	b.ReportAllocs()
	for b.Loop() {
		raw = encodeClients(3, now, k.list())
	}
	b.ReportMetric(float64(len(raw))/clientsKept, "bytes/producer")
}
