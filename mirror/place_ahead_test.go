package mirror

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// cleanTarget compacts the target as a broker does that knows the ids: the last own batch of each origin stays, maybe without records.
func (h *history) cleanTarget() {
	last := make(map[int64]int)
	for i, s := range h.target {
		last[s.id] = i
	}
	for i := range h.target {
		s := &h.target[i]
		s.last = s.records[len(s.records)-1].Offset
		switch h.rng.IntN(3) {
		case 0:
			s.records = nil
		case 1:
			s.records = h.punch(s.records)
		}
	}
	var out []batchSpec
	for i, s := range h.target {
		if len(s.records) > 0 || last[s.id] == i || h.rng.IntN(2) == 0 {
			out = append(out, s)
		}
	}
	h.target = out
}

// misplaced says what is wrong with a place: a record that is lost, or copied twice.
func (h *history) misplaced(place int64) string {
	for i, w := range h.wanted {
		if !h.remains(w.Offset) {
			continue
		}
		if i >= h.copied && w.Offset < place {
			return fmt.Sprintf("%d was not copied", w.Offset)
		}
		if i < h.copied && w.Offset >= place {
			return fmt.Sprintf("%d was copied", w.Offset)
		}
	}
	return ""
}

// TestFinder_CleanedTarget: on a target that is compacted, own batches are missing, cut or empty. The place is right, or it is said that it
// cannot be known; that only where the source has holes too.
func TestFinder_CleanedTarget(t *testing.T) {
	topo := fabricOf(t, "eu>us", "ap>eu")
	unknown, found := 0, 0
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 11))
		f := newFlow(linkOf(t, topo, "eu>us", Config{}, time.Now), "orders")
		h := newHistory(f, rng)
		dense := rng.IntN(2) == 0
		if dense {
			h = &history{flow: f, rng: rng, lanes: make(map[string]int64)}
			for at := int64(0); at < 60; at += 3 {
				h.source = append(h.source, batchSpec{base: at, last: at + 2, id: 4711, records: records(at, 3)})
				for _, r := range records(at, 3) {
					h.wanted = append(h.wanted, wanted{Record: r, origin: "eu", target: -1})
				}
			}
		}
		if len(h.wanted) == 0 {
			continue
		}
		h.copySome()
		known := 0
		if n := len(h.ends); n > 0 {
			known = h.ends[rng.IntN(n)]
		}
		base := h.checkpoint(known)
		h.cleanTarget()
		if !dense {
			h.clean(0)
		}
		if len(h.source) == 0 {
			continue
		}
		fd, _, feed := h.finder(t, base)
		fd.mayJump = true
		err := feed()
		if err == nil {
			err = fd.finish()
		}
		switch {
		case errors.Is(err, errCleaned) && !dense:
			unknown++
		case err != nil:
			t.Fatalf("seed %d, dense %v: %v", seed, dense, err)
		default:
			found++
			if wrong := h.misplaced(fd.at.SourceNext); wrong != "" {
				t.Fatalf("seed %d, dense %v: copied %d, the place is %d, and %s (checkpoint %+v)", seed, dense, h.copied, fd.at.SourceNext, wrong, base)
			}
		}
	}
	if unknown == 0 || found < 1500 {
		t.Errorf("found %d, unknown %d: the test does not try both", found, unknown)
	}
}

// TestFinder_OtherOriginIsMissing: a target lost the last records of one origin and took later ones of another: what is missing begins the repair.
func TestFinder_OtherOriginIsMissing(t *testing.T) {
	topo := fabricOf(t, "eu>us", "ap>eu")
	f := newFlow(linkOf(t, topo, "eu>us", Config{}, time.Now), "orders")
	relayed := topo.MirrorID("ap", "ap")
	h := &history{flow: f, source: []batchSpec{
		{base: 0, last: 1, id: 4711, records: records(0, 2)}, {base: 2, last: 3, id: 4711, records: records(2, 2)},
		{base: 4, last: 5, id: relayed, records: records(4, 2)}, {base: 6, last: 7, id: 4711, records: records(6, 2)}}}
	moved := func(rs []batch.Record, at int64) []batch.Record {
		rs = slices.Clone(rs)
		for i := range rs {
			rs[i].Offset = at + int64(i)
		}
		return rs
	}
	h.target = []batchSpec{{base: 0, id: topo.MirrorID("eu", "eu"), records: records(0, 2)},
		{base: 2, id: topo.MirrorID("ap", "eu"), records: moved(records(4, 2), 2)}}
	fd, runs, feed := h.finder(t, Checkpoint{Pump: somePump})
	if err := feed(); err != nil {
		t.Fatal(err)
	}
	if fd.gapAt != 2 || fd.unlike != 0 || fd.missing != 0 || fd.at.SourceNext != 6 || fd.at.lane("ap").Count != 2 || fd.at.lane("eu").Count != 2 {
		t.Errorf("gap at %d, place %d, lanes %+v, findings %+v; want 2, 6, two of each origin and nothing else", fd.gapAt, fd.at.SourceNext, fd.at.Lanes, fd.findings)
	}
	if last := (*runs)[len(*runs)-1]; last.Source+last.Records != 6 || last.Origin != "ap" {
		t.Errorf("runs %+v, want ap's records at the end", *runs)
	}
}

// TestFinder_LooksAlikeFurtherOn: what was copied is gone from the source, which holds a later record with the same key, value and time as the last
// one that is on the target. What lies before it was not copied; where that cannot be told it is said.
func TestFinder_LooksAlikeFurtherOn(t *testing.T) {
	topo := fabricOf(t, "eu>us")
	f := newFlow(linkOf(t, topo, "eu>us", Config{}, time.Now), "orders")
	all := records(0, 8)
	all[5] = all[2]
	all[5].Offset = 5
	source := []batchSpec{{base: 0, last: 7, id: 4711, records: all[3:]}}
	for name, tc := range map[string]struct {
		target []batch.Record
		place  int64
	}{
		"the target has all of them":           {all[:3], 3},
		"the target was cleaned of some":       {all[2:3], -1},
		"the target was cleaned of the middle": {[]batch.Record{all[0], all[2]}, -1},
		"the target was cleaned of the last":   {all[:2], -1},
		"the target was cleaned of the copies": {nil, -1},
	} {
		h := &history{flow: f, source: source}
		h.target = []batchSpec{{base: 0, last: 2, id: topo.MirrorID("eu", "eu"), records: slices.Clone(tc.target)}}
		fd, _, feed := h.finder(t, Checkpoint{Pump: somePump})
		fd.mayJump = true
		err := feed()
		if err == nil {
			err = fd.finish()
		}
		switch {
		case tc.place < 0 && !errors.Is(err, errCleaned):
			t.Errorf("%s: the place is %d (%v), want to hear that nobody can know", name, fd.at.SourceNext, err)
		case tc.place >= 0 && (err != nil || fd.at.SourceNext != tc.place):
			t.Errorf("%s: the place is %d (%v), want %d", name, fd.at.SourceNext, err, tc.place)
		}
	}
}
