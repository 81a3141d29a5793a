package gate

import (
	"math"
	"testing"

	"github.com/isthmus-project/isthmus/broker/batch"
)

const top = math.MaxInt32

func known() *Producer {
	return &Producer{ID: 7, Epoch: 2, Last: 99, Batches: []Written{{1, 40, 49, 400, 0}, {2, 0, 49, 500, 0}, {2, 50, 89, 1050, 0}, {2, 90, 99, -1, 0}}}
}

func TestDecide(t *testing.T) {
	wrapped := &Producer{ID: 7, Last: 4, Batches: []Written{{0, top - 9, top - 5, 10, 0}, {0, top - 4, 4, 15, 0}}}
	begun := &Producer{ID: 7, Epoch: 1, Last: -1}
	for _, c := range []struct {
		name string
		p    *Producer
		Batch
		want Decision
	}{
		{"no idempotent producer", known(), Batch{ID: -1, Epoch: -1, First: -1, Records: 5}, Decision{Forward, Ungated, -1}},
		{"transactional", known(), Batch{7, 2, 300, 5, true}, Decision{Forward, Ungated, -1}},
		{"no records", known(), Batch{7, 2, 300, 0, false}, Decision{Forward, Ungated, -1}},
		{"no sequence", known(), Batch{7, 2, -1, 5, false}, Decision{Forward, Ungated, -1}},
		{"unknown", nil, Batch{7, 2, 300, 5, false}, Decision{Forward, Unknown, -1}},
		{"next", known(), Batch{7, 2, 100, 5, false}, Decision{Forward, Follows, -1}},
		{"last again, its offset unknown", known(), Batch{7, 2, 90, 10, false}, Decision{Answer, Old, -1}},
		{"one before again", known(), Batch{7, 2, 50, 40, false}, Decision{Answer, Repeated, 1050}},
		{"a part of one", known(), Batch{7, 2, 60, 10, false}, Decision{Answer, Repeated, 1060}},
		{"over two", known(), Batch{7, 2, 40, 20, false}, Decision{Answer, Old, -1}},
		{"an older epoch's again", known(), Batch{7, 1, 40, 10, false}, Decision{Answer, Repeated, 400}},
		{"a gap", known(), Batch{7, 2, 101, 5, false}, Decision{Close, Gap, -1}},
		{"half of it written", known(), Batch{7, 2, 95, 10, false}, Decision{Close, Straddles, -1}},
		{"an older epoch's", known(), Batch{7, 1, 50, 10, false}, Decision{Close, OldEpoch, -1}},
		{"a new epoch", known(), Batch{7, 3, 0, 10, false}, Decision{Forward, NewEpoch, -1}},
		{"a new epoch, not from its beginning", known(), Batch{7, 3, 10, 10, false}, Decision{Close, EpochGap, -1}},
		{"next behind a wrap", wrapped, Batch{7, 0, 5, 10, false}, Decision{Forward, Follows, -1}},
		{"a gap behind a wrap", wrapped, Batch{7, 0, 6, 10, false}, Decision{Close, Gap, -1}},
		{"the wrapping one again", wrapped, Batch{7, 0, top - 4, 10, false}, Decision{Answer, Repeated, 15}},
		{"its end", wrapped, Batch{7, 0, 1, 4, false}, Decision{Answer, Repeated, 21}},
		{"one before the wrap", wrapped, Batch{7, 0, top - 9, 5, false}, Decision{Answer, Repeated, 10}},
		{"one long before the wrap", wrapped, Batch{7, 0, top - 500, 5, false}, Decision{Answer, Old, -1}},
		{"half of it behind the wrap", wrapped, Batch{7, 0, 3, 5, false}, Decision{Close, Straddles, -1}},
		{"wraps and follows", &Producer{ID: 7, Last: top - 3}, Batch{7, 0, top - 2, 10, false}, Decision{Forward, Follows, -1}},
		{"follows the last there is", &Producer{ID: 7, Last: top}, Batch{7, 0, 0, 10, false}, Decision{Forward, Follows, -1}},
		{"the first of an epoch without batches", begun, Batch{7, 1, 0, 10, false}, Decision{Forward, Follows, -1}},
		{"not the first of one", begun, Batch{7, 1, 4, 10, false}, Decision{Close, Gap, -1}},
		{"far in front of one", begun, Batch{7, 1, top - 4, 10, false}, Decision{Close, Gap, -1}},
	} {
		if got := Decide(c.p, c.Batch); got != c.want {
			t.Errorf("%s: %+v (%s), want %+v (%s)", c.name, got, got.Reason, c.want, c.want.Reason)
		}
	}
	h := batch.Header{ProducerID: 9, ProducerEpoch: 3, BaseSequence: 4, Records: 5, Attributes: 1 << 4}
	if got := Of(h); got != (Batch{9, 3, 4, 5, true}) {
		t.Errorf("of a header: %+v", got)
	}
	if Gap.String() != "gap" || Straddles.String() != "straddles" || Reason(-1).String() != "?" || reasons.String() != "?" {
		t.Error("names of reasons")
	}
}

func TestSequences(t *testing.T) {
	for _, c := range []struct {
		a, b int32
		want int64
	}{{5, 3, 2}, {3, 5, -2}, {0, top, 1}, {top, 0, -1}, {4, top - 4, 9}, {7, 7, 0}, {1 << 30, 0, -(1 << 30)}, {1<<30 - 1, 0, 1<<30 - 1}} {
		if got := ahead(c.a, c.b); got != c.want {
			t.Errorf("%d is %d ahead of %d, want %d", c.a, got, c.b, c.want)
		}
	}
	for _, c := range []struct {
		s    int32
		n    int64
		want int32
	}{{-1, 1, 0}, {top, 1, 0}, {top - 1, 5, 3}, {0, -1, top}, {10, 0, 10}} {
		if got := after(c.s, c.n); got != c.want {
			t.Errorf("%d behind %d is %d, want %d", c.n, c.s, got, c.want)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(int16(2), int32(99), int32(90), int32(99), int64(5), int16(2), int32(100), int32(5))
	f.Add(int16(0), int32(4), int32(top-4), int32(4), int64(-1), int16(0), int32(top), int32(top))
	f.Fuzz(func(t *testing.T, epoch int16, last, from, to int32, base int64, e int16, first, records int32) {
		p := Producer{ID: 7, Epoch: epoch, Last: last, Batches: []Written{{epoch, from, to, base, 0}}}
		if p.check() != nil {
			return
		}
		b := Batch{ID: 7, Epoch: e, First: first, Records: records}
		d := Decide(&p, b)
		follows := b.gated() && e == epoch && (last == -1 && first == 0 || last >= 0 && first == after(last, 1))
		switch {
		case d != Decide(&p, b):
			t.Error("two answers to one question")
		case d.Reason == Follows != follows:
			t.Errorf("%+v behind %+v: %s", b, p, d.Reason)
		case d.Outcome == Answer && (e != epoch || ahead(b.last(), last) > 0):
			t.Errorf("%+v was not written in %+v: %s", b, p, d.Reason)
		case (d.Reason == Repeated) != (d.Base >= 0), d.Reason == Repeated && d.Base < base:
			t.Errorf("%+v, %+v: %+v", b, p, d)
		}
	})
}
