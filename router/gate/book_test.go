package gate

import (
	"errors"
	"testing"
	"time"
)

func newBook(t *testing.T, left ...Partition) *Book {
	t.Helper()
	b, err := NewBook(time.Unix(0, 0), left, func(id int64) (int64, error) {
		if id < 100 {
			return 0, ErrID
		}
		return id + 1, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBook: each partition has its gate, which is gone when the home knows all; then, or after an hour, nothing is gated.
func TestBook(t *testing.T) {
	left := Partition{Topic: "orders", Partition: 1, Producers: []Producer{{ID: 100, Last: 9}}}
	b := newBook(t, left, Partition{Topic: "orders", Partition: 2})
	next := Batch{ID: 100, First: 10, Records: 2}
	behind := Batch{ID: 100, First: 12, Records: 1}
	if b.Open(time.Unix(1, 0)) || !b.Open(time.Unix(0, 0).Add(Keep+1)) {
		t.Error("when it is open")
	}
	for _, tc := range []struct {
		topic     string
		partition int32
		one       Batch
		want      Outcome
	}{
		{"orders", 1, behind, Close},
		{"orders", 2, behind, Forward},
		{"orders", 7, behind, Forward},
		{"others", 1, behind, Forward},
		{"orders", 1, Batch{ID: 100, First: 8, Records: 2}, Answer},
		{"orders", 1, next, Forward},
		{"orders", 1, behind, Forward},
	} {
		if d := b.Batch(tc.topic, tc.partition, 1, tc.one); d.Outcome != tc.want {
			t.Errorf("%s %d, sequence %d: %v, %v, want %v", tc.topic, tc.partition, tc.one.First, d.Outcome, d.Reason, tc.want)
		}
	}
	b.Refused("orders", 1, next)
	if d := b.Batch("orders", 1, 1, behind); d.Outcome != Close {
		t.Errorf("behind one that the home refused: %v", d.Reason)
	}
	for i := range int32(Remembered) {
		one := Batch{ID: 100, First: 10 + i, Records: 1}
		if d := b.Batch("orders", 1, 2, one); d.Outcome != Forward {
			t.Fatalf("sequence %d: %v", one.First, d.Reason)
		}
		b.Acked("orders", 1, one)
	}
	if !b.Open(time.Unix(1, 0)) {
		t.Error("it is closed when the home knows all")
	}
	b.Acked("orders", 1, next)
	b.Refused("orders", 1, next)
	if n := b.Counts()[Gap]; n != 2 {
		t.Errorf("%d gaps are counted", n)
	}
	if id, ok := b.Salted(100); !ok || id != 101 {
		t.Errorf("%d, %v", id, ok)
	}
	if _, ok := b.Salted(7); ok {
		t.Error("an id that no router gave is changed")
	}
}

func TestBook_Refuses(t *testing.T) {
	for name, left := range map[string][]Partition{
		"twice":      {{Topic: "orders"}, {Topic: "orders"}},
		"impossible": {{Topic: "orders", Producers: []Producer{{ID: -1}}}},
	} {
		if _, err := NewBook(time.Unix(0, 0), left, nil); err == nil || errors.Is(err, ErrID) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
