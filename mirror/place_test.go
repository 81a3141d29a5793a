package mirror

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// wanted is a source record that has to be copied, and where its copy lies.
type wanted struct {
	batch.Record
	origin string
	target int64 // -1 = not copied
}

// history is a source log, a target log that holds a copied prefix, and what a
// finder should make of them.
type history struct {
	flow    *flow
	rng     *rand.Rand
	source  []batchSpec // aborted ones and markers too
	aborted []broker.Aborted
	wanted  []wanted
	target  []batchSpec
	copied  int   // of wanted
	ends    []int // how many were copied at the end of each own batch
	lanes   map[string]int64
}

// newHistory makes a source log of batches of two origins, with compacted holes,
// transactions and batches of no interest.
func newHistory(f *flow, rng *rand.Rand) *history {
	h := &history{flow: f, rng: rng, lanes: make(map[string]int64)}
	relayed := f.link.routing().topo.MirrorID("ap", "ap")
	looped := f.link.routing().topo.MirrorID("us", "us")
	at, epoch := int64(rng.IntN(50)), int16(0)
	for range 4 + rng.IntN(20) {
		n := int64(1 + rng.IntN(9))
		s := batchSpec{base: at, last: at + n - 1, id: 4711, epoch: epoch, records: records(at, n)}
		kind := rng.IntN(10)
		switch kind {
		case 0, 1:
			s.id = relayed
		case 2:
			s.id = looped
		case 3:
			s.id, s.attributes = 99, 1<<4
			h.aborted = append(h.aborted, broker.Aborted{ProducerID: 99, FirstOffset: at})
		case 4:
			s.records = h.punch(s.records)
		}
		h.source = append(h.source, s)
		at += n
		if kind == 3 {
			h.source = append(h.source, batchSpec{base: at, last: at, id: 99, attributes: 1<<4 | 1<<5})
			at++
		}
		if kind != 2 && kind != 3 {
			origin := "eu"
			if s.id == relayed {
				origin = "ap"
			}
			for _, r := range s.records {
				h.wanted = append(h.wanted, wanted{r, origin, -1})
			}
		}
		if rng.IntN(12) == 0 {
			at += int64(rng.IntN(5)) // whole batches were compacted away
		}
	}
	return h
}

func (h *history) punch(in []batch.Record) (out []batch.Record) {
	for _, r := range in {
		if h.rng.IntN(3) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// copySome writes a prefix to the target with boundaries of its own, local batches
// between, and a gap or two.
func (h *history) copySome() {
	h.copied = h.rng.IntN(len(h.wanted) + 1)
	at := int64(h.rng.IntN(100))
	for i := 0; i < h.copied; {
		if h.rng.IntN(3) == 0 {
			n := int64(1 + h.rng.IntN(4))
			h.target = append(h.target, batchSpec{base: at, id: 815, records: records(at, n)})
			at += n
		}
		n := 1
		for most := 1 + h.rng.IntN(12); n < most && i+n < h.copied && h.wanted[i+n].origin == h.wanted[i].origin; n++ {
		}
		origin := h.wanted[i].origin
		s := batchSpec{base: at, id: h.flow.producerID(origin), sequence: int32(h.lanes[origin])}
		for j := i; j < i+n; j++ {
			r := h.wanted[j].Record
			r.Offset, h.wanted[j].target = at, at
			s.records = append(s.records, r)
			at++
		}
		h.lanes[origin] += int64(n)
		h.target = append(h.target, s)
		i += n
		h.ends = append(h.ends, i)
	}
}

// checkpoint is what was durable when the first n records had been copied.
func (h *history) checkpoint(n int) Checkpoint {
	c := Checkpoint{Pump: somePump, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1, SourceNext: h.source[0].base}
	for _, w := range h.wanted[:n] {
		l := c.lane(w.origin)
		l.Count++
		c.setLane(l)
		c.SourceNext, c.TargetLast, c.TargetFrom = w.Offset+1, w.target, w.target+1
	}
	return c
}

// clean compacts the source after the copying, or deletes its front.
func (h *history) clean(start int64) {
	h.source = slices.DeleteFunc(h.source, func(s batchSpec) bool { return s.last < start })
	for i := range h.source[:max(0, len(h.source)-1)] {
		if h.rng.IntN(2) == 0 {
			h.source[i].records = h.punch(h.source[i].records)
		}
	}
	h.source = slices.DeleteFunc(h.source, func(s batchSpec) bool { return len(s.records) == 0 && s.attributes == 0 && h.rng.IntN(2) == 0 })
}

func (h *history) remains(offset int64) bool {
	return slices.ContainsFunc(h.source, func(s batchSpec) bool {
		return slices.ContainsFunc(s.records, func(r batch.Record) bool { return r.Offset == offset })
	})
}

// finder reads both logs as the engine does.
func (h *history) finder(t testing.TB, base Checkpoint) (*finder, *[]Run, func() error) {
	var runs []Run
	fd := newFinder(base)
	var list []*sourceBatch
	read := func(from int64) {
		got := &broker.Fetched{Aborted: h.aborted}
		for _, s := range h.source {
			if s.last < from {
				continue
			}
			if s.attributes&(1<<5) != 0 {
				got.Batches = append(got.Batches, abortMarker(s.base, s.id, false)...)
				continue
			}
			got.Batches = append(got.Batches, rawBatch(s)...)
		}
		list = nil
		if err := h.flow.walk(got, from, func(s *sourceBatch) error { list = append(list, s); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	start := h.source[0].base
	fd.holes = start > base.SourceNext
	read(max(start, base.SourceNext))
	fd.seek = read
	fd.next = func() (*sourceBatch, error) {
		if len(list) == 0 {
			return nil, io.EOF
		}
		s := list[0]
		list = list[1:]
		return s, nil
	}
	fd.add = func(r Run) { runs = append(runs, r) }
	fd.incarnation = func(int16) (Incarnation, bool) { return Incarnation{}, false }
	return fd, &runs, func() error {
		for _, s := range h.target {
			if s.base < base.TargetFrom {
				continue
			}
			raw := rawBatch(s)
			if origin, ok := h.flow.wroteThis(s.id); ok {
				if err := fd.own(header(t, raw), raw, origin); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func TestFinder_FindsWhereCopyingStopped(t *testing.T) {
	topo := fabricOf(t, "ap>eu", "eu>us", "us>eu")
	flow := newFlow(linkOf(t, topo, "eu>us", Config{}, time.Now), "orders")
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		h := newHistory(flow, rng)
		if len(h.wanted) == 0 {
			continue
		}
		h.copySome()
		known := 0
		if n := rng.IntN(len(h.ends) + 1); n > 0 {
			known = h.ends[n-1]
		}
		base := h.checkpoint(known)
		start := h.source[0].base
		if mode := rng.IntN(3); mode > 0 {
			if mode == 2 {
				start = h.source[rng.IntN(len(h.source))].base
			}
			h.clean(start)
		}
		if len(h.source) == 0 {
			continue
		}
		fd, runs, feed := h.finder(t, base)
		if err := feed(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if msg := h.wrong(fd, base, known, *runs); msg != "" {
			t.Fatalf("seed %d: %s", seed, msg)
		}
	}
}

// wrong compares what was found with what happened.
func (h *history) wrong(fd *finder, base Checkpoint, known int, runs []Run) string {
	for origin, n := range h.lanes {
		if got := fd.at.lane(origin).Count; got != n {
			return fmt.Sprintf("%d records of %s counted, %d were copied", got, origin, n)
		}
	}
	if fd.unlike > 0 || fd.gapAt >= 0 || len(fd.repeated) > 0 {
		return fmt.Sprintf("findings %+v in a good history", fd.findings)
	}
	found := make(naiveMap)
	for _, r := range runs {
		found.add(r)
	}
	var gone int64
	for i, w := range h.wanted {
		fact, ok := found[[2]int64{w.Offset, w.target}]
		switch remains := h.remains(w.Offset); {
		case i < known || !remains && i < h.copied:
			if ok {
				return fmt.Sprintf("a run for record %d, which was known or is gone", w.Offset)
			}
			if i >= known {
				gone++
			}
		case i < h.copied && !ok:
			return fmt.Sprintf("no run for record %d, copied to %d; runs %+v", w.Offset, w.target, runs)
		case i < h.copied && w.Offset >= fd.at.SourceNext:
			return fmt.Sprintf("place %d: record %d would be copied again", fd.at.SourceNext, w.Offset)
		case i >= h.copied && remains && w.Offset < fd.at.SourceNext:
			return fmt.Sprintf("place %d: record %d would be skipped", fd.at.SourceNext, w.Offset)
		}
		if ok {
			delete(found, [2]int64{w.Offset, w.target})
			var before int64
			for _, o := range h.wanted[:i] {
				if o.origin == w.origin {
					before++
				}
			}
			if fact.Origin != w.origin || fact.Count != before {
				return fmt.Sprintf("record %d is %+v, want count %d of %s", w.Offset, fact, before, w.origin)
			}
		}
	}
	if len(found) > 0 {
		return fmt.Sprintf("runs that never were: %v", found)
	}
	if fd.missing != gone {
		return fmt.Sprintf("%d copied records are missing, want %d", fd.missing, gone)
	}
	if h.copied > known && fd.at.TargetLast != h.wanted[h.copied-1].target {
		return fmt.Sprintf("last own record at %d, want %d", fd.at.TargetLast, h.wanted[h.copied-1].target)
	}
	return ""
}

// script is a finder over a dense source of one origin and hand-made own batches.
func script(t *testing.T, sourceRecords int64, own []batchSpec, incarnations ...Incarnation) (*finder, []Run, error) {
	t.Helper()
	topo := fabricOf(t, "eu>us")
	h := &history{flow: newFlow(linkOf(t, topo, "eu>us", Config{}, time.Now), "orders")}
	for at := int64(0); at < sourceRecords; at += 2 {
		h.source = append(h.source, batchSpec{base: at, last: at + 1, records: records(at, 2)})
	}
	for i := range own {
		own[i].id = topo.MirrorID("eu", "eu")
		for j := range own[i].records {
			own[i].records[j].Offset = own[i].base + int64(j)
		}
	}
	h.target = own
	fd, runs, feed := h.finder(t, Checkpoint{Pump: somePump})
	fd.incarnation = func(epoch int16) (Incarnation, bool) {
		for _, i := range incarnations {
			if i.Epoch == epoch {
				return i, true
			}
		}
		return Incarnation{}, false
	}
	fd.leftOff = func(_ string, _ int16, target int64) int64 { return 1000 + target }
	err := feed()
	return fd, *runs, err
}

func TestFinder_LaterEpochs(t *testing.T) {
	own := func() []batchSpec {
		return []batchSpec{{base: 0, records: records(0, 10)}, {base: 10, epoch: 1, records: records(6, 6)},
			{base: 16, records: records(10, 2), sequence: 10}, {base: 18, epoch: 1, sequence: 6, records: records(12, 2)}}
	}
	fd, runs, err := script(t, 20, own(), Incarnation{Epoch: 1, Lanes: []Lane{{Origin: "eu", Base: 6}}, Source: 6})
	if err != nil {
		t.Fatal(err)
	}
	lane := fd.at.lane("eu")
	if fd.at.SourceNext != 14 || lane != (Lane{"eu", 1, 6, 14}) || lane.sequence() != 8 {
		t.Errorf("place %d, lane %+v", fd.at.SourceNext, lane)
	}
	// 6 to 9 by the new epoch, 10 and 11 by what the old one wrote although it was fenced.
	want := []Run{{Source: 6, Origin: "eu", Epoch: 1, Count: 6, Records: 4}, {Source: 10, Origin: "eu", Epoch: 1, Count: 10, Records: 2}}
	if !slices.Equal(fd.repeated, want) {
		t.Errorf("repeated %+v, want %+v", fd.repeated, want)
	}
	var m OffsetMap
	for _, r := range runs {
		m.Add(r)
	}
	if at, ok := m.Inverse(10); !ok || at != 6 || fd.missing > 0 || fd.unlike > 0 {
		t.Errorf("target 10 is source %d; findings %+v", at, fd.findings)
	}
	if _, _, err := script(t, 20, own()); !errors.Is(err, errUnanchored) {
		t.Errorf("an epoch that nobody decided: %v", err)
	}
}

// An owner that has not heard of an anchor goes on for a moment: what it writes has counts that are other records' in the anchored epoch. The ledger
// said that those were repeated.
func TestFinder_LateBatchesBehindAnAnchor(t *testing.T) {
	own := []batchSpec{{base: 0, records: records(0, 6)}, {base: 6, epoch: 1, records: records(0, 4)},
		{base: 10, records: records(6, 2), sequence: 6}, {base: 12, records: records(4, 2), sequence: 4}, {base: 14, epoch: 1, sequence: 4, records: records(4, 4)}}
	fd, _, err := script(t, 20, own, Incarnation{Epoch: 1, Lanes: []Lane{{Origin: "eu", Base: 6}}, Source: 0, anchor: &anchorage{sourceCut: noCut, targetCut: noCut}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Run{{Source: 1010, Origin: "eu", Epoch: 1, Count: 6, Records: 2}}; !slices.Equal(fd.strays, want) {
		t.Errorf("strays %+v, want %+v", fd.strays, want)
	}
	if len(fd.repeated) != 1 || fd.repeated[0].Count != 4 || fd.repeated[0].Records != 2 {
		t.Errorf("repeated %+v, want what was counted 4 and 5", fd.repeated)
	}
	if fd.at.SourceNext != 8 || fd.at.lane("eu").Count != 14 {
		t.Errorf("place %d, lane %+v", fd.at.SourceNext, fd.at.lane("eu"))
	}
}

func TestFinder_ForgedContentIsNotCounted(t *testing.T) {
	foreign := records(500, 3)
	fd, _, err := script(t, 20, []batchSpec{{base: 0, records: records(0, 4)}, {base: 4, sequence: 4, records: foreign}, {base: 7, sequence: 7, records: records(4, 2)}})
	if err != nil {
		t.Fatal(err)
	}
	if fd.unlike != 3 || fd.at.SourceNext != 6 || fd.at.lane("eu").Count != 9 {
		t.Errorf("unlike %d, place %d, lane %+v: three foreign records use sequences and replace no record", fd.unlike, fd.at.SourceNext, fd.at.lane("eu"))
	}
}

func TestFinder_GapIsWhereItBegins(t *testing.T) {
	own := []batchSpec{{base: 0, records: records(0, 4)}, {base: 4, sequence: 8, records: records(8, 2)}}
	fd, _, err := script(t, 20, own)
	if err != nil {
		t.Fatal(err)
	}
	if fd.gapAt != 4 || fd.at.lane("eu").Count != 10 {
		t.Errorf("gap at %d, lane %+v, want 4 and 10", fd.gapAt, fd.at.lane("eu"))
	}
}

// TestFinder_GapThatANextEpochRepaired: whoever comes later must not repair it once more.
func TestFinder_GapThatANextEpochRepaired(t *testing.T) {
	own := []batchSpec{{base: 0, records: records(0, 4)}, {base: 4, sequence: 8, records: records(8, 2)}, {base: 6, epoch: 1, records: records(4, 6)}}
	fd, _, err := script(t, 20, own, Incarnation{Epoch: 1, Lanes: []Lane{{Origin: "eu", Base: 4}}, Source: 4})
	if err != nil {
		t.Fatal(err)
	}
	if fd.gapAt >= 0 || fd.at.SourceNext != 10 || fd.at.lane("eu").Count != 10 {
		t.Errorf("gap at %d, place %d, lane %+v; want none, 10 and 10", fd.gapAt, fd.at.SourceNext, fd.at.lane("eu"))
	}
}

// TestFinder_RepeatsAreNamed: a broker that has forgotten the id takes from a lagging owner what is there already, also together with
// what is not.
func TestFinder_RepeatsAreNamed(t *testing.T) {
	own := []batchSpec{{base: 0, records: records(0, 6)}, {base: 6, sequence: 2, records: records(2, 3)}, {base: 9, sequence: 4, records: records(4, 5)}}
	fd, runs, err := script(t, 20, own)
	if err != nil {
		t.Fatal(err)
	}
	want := []Run{{Source: 2, Origin: "eu", Count: 2, Records: 3}, {Source: 4, Origin: "eu", Count: 4, Records: 2}}
	if !slices.Equal(fd.repeated, want) {
		t.Errorf("repeated %+v, want %+v", fd.repeated, want)
	}
	if fd.at.SourceNext != 9 || fd.at.lane("eu").Count != 9 || fd.at.TargetFrom != 14 || fd.unlike > 0 || fd.gapAt >= 0 {
		t.Errorf("place %d, target %d, lane %+v, findings %+v; want 9, 14, 9 and nothing else", fd.at.SourceNext, fd.at.TargetFrom, fd.at.lane("eu"), fd.findings)
	}
	var m OffsetMap
	for _, r := range runs {
		m.Add(r)
	}
	if at, ok := m.Inverse(11); !ok || at != 6 {
		t.Errorf("target 11 is source %d, want 6", at)
	}
}

func TestFinder_TargetAheadOfADenseSource(t *testing.T) {
	if _, _, err := script(t, 4, []batchSpec{{base: 0, records: records(0, 6)}}); !errors.Is(err, errSourceShort) {
		t.Errorf("error %v, want %v", err, errSourceShort)
	}
}

func TestOverrun(t *testing.T) {
	for _, tc := range []struct {
		name                 string
		base, start, missing int64
		runs                 []Run
		first, records       int64
	}{
		{"kept", 10, 5, 0, nil, 10, 0},
		{"nothing of it copied", 10, 30, 0, nil, 10, 20},
		{"part of it copied", 10, 30, 8, nil, 18, 12},
		{"all of it copied", 10, 30, 20, nil, 30, 0},
		{"copying had passed it", 10, 30, 3, []Run{{Source: 30, Records: 1}}, 0, 0},
	} {
		if first, n := overrun(tc.base, tc.start, tc.missing, tc.runs); n != tc.records || n > 0 && first != tc.first {
			t.Errorf("%s: %d from %d, want %d from %d", tc.name, n, first, tc.records, tc.first)
		}
	}
}

// TestPump_LeftOffBeforeATarget: whoever reads late batches of another owner may have that owner's map already, with these batches in it. The ledger began
// behind them, and 17 records that were there twice were in no entry.
func TestPump_LeftOffBeforeATarget(t *testing.T) {
	var p pump
	p.offsets.Add(Run{Source: 100, Target: 0, Records: 50, Origin: "eu", Epoch: 1})
	p.offsets.Add(Run{Source: 150, Target: 60, Records: 20, Origin: "eu", Epoch: 1, Count: 50}) // the late ones
	p.offsets.Add(Run{Source: 170, Target: 90, Records: 20, Origin: "eu", Epoch: 2, Count: 70})
	p.offsets.Add(Run{Source: 190, Target: 120, Records: 20, Origin: "us", Epoch: 1})
	for _, tc := range []struct{ target, want int64 }{{0, 0}, {10, 110}, {50, 150}, {60, 150}, {65, 155}, {500, 170}, {math.MaxInt64, 170}} {
		if got := p.leftOff("eu", 1, tc.target); got != tc.want {
			t.Errorf("before target offset %d the map leaves off at %d, want %d", tc.target, got, tc.want)
		}
	}
}
