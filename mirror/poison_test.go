package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// Stretches in any order are what a set of offsets would be.
func TestOmitted_IsASet(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for round := range 500 {
		var o omitted
		set := make(map[int64]bool)
		for range 1 + rng.IntN(12) {
			s := span{rng.Int64N(60), rng.Int64N(7)}
			before := slices.Clone(o)
			next := o.with(s)
			if !slices.Equal(o, before) {
				t.Fatalf("round %d: the stretches before were changed", round)
			}
			o = next
			for at := s.first; at < s.end(); at++ {
				set[at] = true
			}
		}
		for i, s := range o {
			if s.records <= 0 || i > 0 && o[i-1].end() >= s.first {
				t.Fatalf("round %d: %v is not in order, or touches", round, o)
			}
		}
		for first := range int64(70) {
			if _, in := o.past(first); in != set[first] {
				t.Fatalf("round %d: offset %d is left out: %t, want %t", round, first, in, set[first])
			}
			last, whole := first+rng.Int64N(5), true
			for at := first; at <= last; at++ {
				whole = whole && set[at]
			}
			if o.covers(first, last) != whole {
				t.Fatalf("round %d: [%d, %d] of %v is covered: %t, want %t", round, first, last, o, !whole, whole)
			}
		}
	}
}

// Where unreadable bytes end is found exactly, with few questions.
func TestFirstOther(t *testing.T) {
	for at := range int64(3) {
		for end := at + 1; end < at+2000; end += 1 + end/7 {
			asked := 0
			got, err := firstOther(at, func(o int64) (bool, error) { asked++; return o < end, nil })
			if err != nil || got != end || asked > 30 {
				t.Errorf("from %d: %d, %v after %d questions, want %d", at, got, err, asked, end)
			}
		}
	}
	gone := errors.New("gone")
	if _, err := firstOther(5, func(int64) (bool, error) { return false, gone }); !errors.Is(err, gone) {
		t.Errorf("an error became %v", err)
	}
}

// What is suspected is cut into pieces, and nothing is lost by it.
func TestDistrust_Parts(t *testing.T) {
	for _, d := range []*distrust{nil, {first: 3, next: 7, piece: 2}, {first: 0, next: 100, piece: 1}, {first: 9, next: 10, piece: 1}, {first: 0, next: 1, piece: 50}} {
		var all []batch.Record
		for _, part := range d.parts(records(0, 10)) {
			all = append(all, part...)
			for _, r := range part {
				if d != nil && (r.Offset >= d.first && r.Offset < d.next) && len(part) > d.piece {
					t.Errorf("%+v: a piece of %d records", d, len(part))
				}
			}
		}
		if fmt.Sprint(all) != fmt.Sprint(records(0, 10)) {
			t.Errorf("%+v: parts hold %v", d, all)
		}
	}
}

// Who tells a pump to try has it try, though it is known to be in vain.
func TestInspection_GivesWayToWhoTellsItToTry(t *testing.T) {
	for _, told := range []bool{false, true} {
		b := newBench(t)
		b.pump.mu.Lock()
		b.pump.haltBeforeLocked(&poisoned{cause: CauseLarge, need: 10, last: -1, detail: "for a test"}, b.now)
		b.pump.mu.Unlock()
		b.state(StateHalted)
		if told {
			b.pump.retry(b.now)
		} else {
			b.now = b.now.Add(time.Minute)
		}
		if _, due, mine := b.pump.beginInspection(b.now); mine == told || due == told {
			t.Errorf("told to try: %t, inspected: %t, due: %t", told, mine, due)
		}
	}
}

// What a target refuses for its codec goes there unpacked, with the same records.
func TestSuspect_ARefusedCodecIsNotUsedAgain(t *testing.T) {
	want := records(20, 10)
	raw, err := batch.Encode(nil, want, batch.Gzip, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint64(raw, 20)
	for refusal, plain := range map[error]bool{kerr.UnsupportedCompressionType: true, kerr.InvalidRecord: false} {
		b := newBench(t)
		b.pump.mu.Lock()
		b.pump.refusedLocked(&outBatch{bytes: raw, records: 10, spans: []span{{20, 10}}, next: 30}, refusal, b.now)
		suspect := b.pump.out.suspect
		b.pump.mu.Unlock()
		h := header(t, raw)
		out, err := prepare(&sourceBatch{raw: raw, header: h, act: actCopy, origin: "eu", suspect: suspect.about(h)}, nil, 0, 1<<20, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		checkOut(t, out, want, 0)
		for _, o := range out {
			if got := header(t, o.bytes).Codec(); (got == batch.None) != plain {
				t.Errorf("after %v: packed with %v", refusal, got)
			}
		}
	}
}
