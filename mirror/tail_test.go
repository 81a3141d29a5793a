package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// someTails are tails that are known.
type someTails []Tail

func (s someTails) Refresh(context.Context) error { return nil }
func (s someTails) Of(cluster, topic string, partition int32) []Tail {
	if cluster != "eu" || topic != "orders" {
		return nil
	}
	return s
}

func (b *bench) hears(t ...Tail) {
	var all Tails = someTails(t)
	b.link.shared.tails.Store(&all)
}

// A pump looks at a tail before it goes on, whenever it hears of it; of one that lies behind it, or is decided, it takes no notice.
func TestPump_LooksAtATailThatItHearsOf(t *testing.T) {
	tail := Tail{Router: "r", Generation: 3, First: 5, End: math.MaxInt64}
	for name, c := range map[string]struct {
		change func(*bench, *Tail)
		want   State
	}{
		"before it":     {func(*bench, *Tail) {}, StateFinding},
		"it is inside":  {func(_ *bench, t *Tail) { t.First = 0 }, StateFinding},
		"behind it":     {func(_ *bench, t *Tail) { t.First, t.End = 0, 1 }, StateRunning},
		"nothing there": {func(b *bench, t *Tail) { b.pump.hasNoTail(*t) }, StateRunning},
		"decided": {func(b *bench, t *Tail) {
			b.link.store.noteTailLocked(LedgerEntry{Pump: b.pump.id, First: 5, Last: 9, Tail: &TailSum{Router: "r", Generation: 3, Next: 7}})
		}, StateRunning},
		"another tail is decided": {func(b *bench, t *Tail) {
			b.link.store.noteTailLocked(LedgerEntry{Pump: b.pump.id, First: 5, Last: 9, Tail: &TailSum{Router: "r", Generation: 2, Next: 10}})
		}, StateFinding},
	} {
		b := newBench(t)
		b.prove()
		mine := tail
		c.change(b, &mine)
		b.hears(mine)
		b.pump.heedTails(b.now)
		if b.pump.state != c.want {
			t.Errorf("%s: %s, want %s", name, b.pump.state, c.want)
		}
		if c.want == StateRunning {
			continue
		}
		b.link.shared.tails.Store(nil)
		s, ok := b.pump.beginSearch(b.now)
		if !ok {
			t.Fatalf("%s: no search", name)
		}
		b.hears(mine)
		b.end(s, nil, nil)
		if b.pump.state != StateFinding {
			t.Errorf("%s: heard of during a search: %s", name, b.pump.state)
		}
	}
}

// A pump copies up to where a tail is decided, and looks for more then.
func TestPump_StopsWhereATailIsNotDecided(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.link.store.noteTailLocked(LedgerEntry{Pump: b.pump.id, First: 1, Last: 9, Tail: &TailSum{Router: "r", Generation: 3, Next: 4}})
	b.offer(1, 1, 3, 2)
	o := b.next()
	if o == nil || o.next != 4 || b.next() != nil {
		t.Fatalf("%+v is copied, want what lies below 4", o)
	}
	b.state(StateRunning)
	b.ack(o, 1)
	b.state(StateFinding)
	b.link.store.noteTailLocked(LedgerEntry{Pump: b.pump.id, First: 1, Last: 9, Tail: &TailSum{Router: "r", Generation: 3, Next: 10}})
	b.find(nil)
	b.offer(1, 4, 2)
	if o := b.next(); o == nil || o.next != 6 {
		t.Errorf("%+v goes on", o)
	}
}

// What is decided of a tail is what is decided of each of its records.
func TestTailFate_RecordByRecord(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		f := &tailFate{rest: fate(rng.IntN(2) * 3), again: make(resent), settled: func(clientKey, int32) bool { return true }, digest: sha256.New()}
		type point struct {
			clientKey
			sequence int32
		}
		there := make(map[point]bool)
		begins := make(map[clientKey]int32)
		for c := range int64(4) {
			k := clientKey{c << 9, int16(c % 2)}
			begins[k] = math.MaxInt32 - int32(rng.IntN(60))
			at := sequenceAfter(begins[k], int64(rng.IntN(80)))
			for range rng.IntN(5) {
				n := int64(1 + rng.IntN(20))
				f.again.add(k, at, sequenceAfter(at, n-1))
				for i := range n {
					there[point{k, sequenceAfter(at, i)}] = true
				}
				at = sequenceAfter(at, n)
			}
		}
		want, got := make(map[int64]fate), make(map[int64]fate)
		var counts [fates]int64
		place, next := int64(100+rng.IntN(5)), int64(100)
		for range 40 {
			n := int64(1 + rng.IntN(9))
			b := tailBatch{base: next, first: max(next, place), last: next + n - 1, records: n, sequence: -1}
			k := clientKey{int64(rng.IntN(4)) << 9, 0}
			k.epoch = int16(k.client >> 9 % 2)
			if rng.IntN(4) > 0 {
				b.client, b.sequence = k, begins[k]
				begins[k] = sequenceAfter(begins[k], n)
			}
			if b.first > b.last {
				next += n
				continue
			}
			for at := b.first; at <= b.last; at++ {
				want[at] = f.rest
				if b.sequence >= 0 && there[point{b.client, sequenceAfter(b.sequence, at-b.base)}] {
					want[at] = outAgain
				}
				got[at] = outDelivered
				counts[want[at]]++
			}
			f.take(b, []byte{1})
			next += n + int64(rng.IntN(2))
		}
		before := int64(-1)
		for _, r := range f.ranges {
			if r.first <= before || r.last < r.first {
				t.Fatalf("seed %d: %+v behind %d", seed, r, before)
			}
			before = r.last
			for at := r.first; at <= r.last; at++ {
				got[at] = r.out
			}
		}
		if !reflect.DeepEqual(got, want) || f.counts != counts {
			t.Fatalf("seed %d: %v %v, want %v %v", seed, got, f.counts, want, counts)
		}
	}
}

func TestTailFate_WhatCannotBeKnown(t *testing.T) {
	k := clientKey{512, 1}
	f := &tailFate{again: resent{k: {{5, 9}}}, settled: func(_ clientKey, last int32) bool { return last <= 9 }, digest: sha256.New()}
	f.take(tailBatch{base: 10, first: 10, last: 19, records: 10, client: k, sequence: 0}, nil)   // 5 to 9 are there
	f.take(tailBatch{base: 20, first: 20, last: 24, records: 5, client: k, sequence: 10}, nil)   // who knows
	f.take(tailBatch{base: 30, first: 30, last: 34, records: 2, client: k, sequence: 0}, nil)    // cleaned
	f.take(tailBatch{base: 40, first: 40, last: 44, records: 5, sequence: -1}, nil)              // nobody's
	f.take(tailBatch{base: 50, first: 50, last: 54, records: 5, client: clientKey{512, 2}}, nil) // another epoch
	if want := [fates]int64{outDelivered: 5 + 2 + 5 + 5, outUnsettled: 5, outAgain: 5}; f.counts != want {
		t.Errorf("%v, want %v", f.counts, want)
	}
	if len(f.ranges) != 1 || f.ranges[0].first != 15 || f.ranges[0].last != 19 {
		t.Errorf("%+v", f.ranges)
	}
	for i := range int64(mostTailRanges + 10) {
		f.take(tailBatch{base: 100 + 20*i, first: 100 + 20*i, last: 109 + 20*i, records: 10, client: k, sequence: 0}, nil)
	}
	if len(f.ranges) != mostTailRanges || f.counts[outUnsettled] < 50 {
		t.Errorf("%d ranges, %v", len(f.ranges), f.counts)
	}
}

// Of a home's log only routers' clients count, from an offset on; a batch that is cut short is asked for again.
func TestResent_ReadsAHomesLog(t *testing.T) {
	topo := fabricOf(t, "eu>us", "us>eu")
	id := func(n uint32, salt uint16) int64 { return topo.RouterClientID("r", n, salt) }
	var log []byte
	for _, s := range []batchSpec{{base: 3, id: id(1, 1), sequence: 1, records: records(3, 2)}, {base: 5, id: id(1, 1), epoch: 2, sequence: 9, records: records(5, 2)},
		{base: 7, id: 77, sequence: 5, records: records(7, 1)}, {base: 8, id: topo.MirrorID("eu", "eu"), sequence: 5, records: records(8, 1)},
		{base: 9, id: id(1, 2), epoch: 2, sequence: 11, records: records(9, 4)}, {base: 20, id: id(2, 1), records: records(20, 1)}} {
		log = append(log, rawBatch(s)...)
	}
	r := make(resent)
	next, err := r.sent(topo.ClientOf, log[:len(log)-1], 5, 30)
	if want := (resent{clientKey{id(1, 0), 2}: {{9, 14}}}); err != nil || next != 13 || !reflect.DeepEqual(r, want) {
		t.Errorf("%d, %v: %+v, want %+v", next, err, r, want)
	}
	if next, err = r.sent(topo.ClientOf, log, 5, 20); err != nil || next != 20 || len(r) != 1 {
		t.Errorf("up to its end: %d, %v: %+v", next, err, r)
	}
	if _, err = r.sent(topo.ClientOf, log[:20], 0, 20); !errors.Is(err, batch.ErrShort) {
		t.Errorf("nothing whole: %v", err)
	}
}

func FuzzTailFate(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, in []byte) {
		fate := &tailFate{again: make(resent), settled: func(clientKey, int32) bool { return false }, digest: sha256.New()}
		total, at := int64(0), int64(0)
		for c := range slices.Chunk(in, 4) {
			if len(c) < 4 {
				break
			}
			k, n := clientKey{client: int64(c[0] % 3)}, int64(c[2]%16+1)
			s := int32(c[1]) << (c[3] % 24) & math.MaxInt32
			if c[3]&128 > 0 {
				fate.again.add(k, s, sequenceAfter(s, n-1))
				continue
			}
			fate.take(tailBatch{base: at, first: at + int64(c[3]%4)%n, last: at + n - 1, records: n, client: k, sequence: s}, nil)
			total, at = total+n-int64(c[3]%4)%n, at+n
		}
		for _, n := range fate.counts {
			total -= n
		}
		if total != 0 {
			t.Fatalf("%d records are not accounted for: %v", total, fate.counts)
		}
	})
}

var someTail = LedgerEntry{Link: "a", Pump: somePump, First: 1, Last: 9, Records: 9, Reason: ReasonTail, At: time.UnixMilli(5000).UTC(), Digest: "c0ffee", Policy: "divert", log: 3,
	Tail: &TailSum{Router: "r", Set: "fast", Generation: 4, Next: 8, Delivered: 1, Again: 2, Diverted: 3, Listed: 4, Unsettled: 1}}

// What was taken back is not decided any more, here or where it is read.
func TestLedger_TailTakenBack(t *testing.T) {
	s := newStateLog(nil, nil)
	again := someTail
	again.Reason, again.Tail, again.log = ReasonTailAgain, nil, 0
	for _, l := range []LedgerEntry{someTail, again} {
		if err := s.takeLocked(batch.Record{Key: l.key(), Value: l.encode()}); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := s.tailSum(somePump, someTail.Tail.key()); !ok || s.tailBound(somePump) != 8 || len(s.sentAgain(somePump)) != 1 {
		t.Errorf("it is not known: %v", s.tails)
	}
	for _, l := range []LedgerEntry{someTail, again} {
		if err := s.takeLocked(batch.Record{Key: l.key()}); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := s.tailSum(somePump, someTail.Tail.key()); ok || s.tailBound(somePump) != math.MaxInt64 || len(s.sentAgain(somePump)) != 0 {
		t.Errorf("it is still known: %v", s.tails)
	}
}

// Of a decision only what is new can be taken back.
func TestLedger_WhatIsNewOfADecision(t *testing.T) {
	s := newStateLog(nil, nil)
	was, grown := someTail, someTail
	was.Reason, was.Tail = ReasonTailListed, nil
	grown.Reason, grown.Tail, grown.Last = ReasonTailListed, nil, 12
	for _, l := range []LedgerEntry{someTail, was} {
		s.noteLocked(string(l.key()), l)
	}
	if got := s.unknown([]LedgerEntry{was, grown, someTail}); len(got) != 1 || got[0].Last != 12 {
		t.Errorf("%+v", got)
	}
}

// Two tails of one partition do not hide each other, nor does another owner's decision add to one.
func TestLedger_KeysOfTails(t *testing.T) {
	other := someTail
	other.Tail = &TailSum{Router: "r", Set: "fast", Generation: 5}
	again := someTail
	again.First, again.Last, again.Tail = 3, 9, &TailSum{Router: "r", Set: "fast", Generation: 4, Next: 9}
	if string(other.key()) == string(someTail.key()) || string(again.key()) != string(someTail.key()) {
		t.Errorf("%q %q %q", someTail.key(), other.key(), again.key())
	}
}
