package positions

import (
	"math"
	"sync"
	"testing"

	"github.com/isthmus-project/isthmus/router/timeline"
)

// late is a home whose generation 1 began at virtual 100, real 40; of generation 0 it has 0 to 19, at 20 to 39.
func late(t *testing.T) *timeline.Map {
	t.Helper()
	line, err := timeline.Begin(0, "eu", 0).Next(timeline.Planned("us", 100, 40))
	if err != nil {
		t.Fatal(err)
	}
	m, err := timeline.Build(line, map[int64][]timeline.Run{0: {{From: 0, To: 20, Count: 20}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBook(t *testing.T) {
	b := New(map[string][]*timeline.Map{"orders": {late(t), nil}})
	for name, tc := range map[string]struct{ got, want int64 }{
		"a commit":                     {b.Real("orders", 0, 10), 30},
		"a commit in what began here":  {b.Real("orders", 0, 105), 45},
		"an end":                       {b.Virtual("orders", 0, 45), 105},
		"of before":                    {b.Virtual("orders", 0, 30), 10},
		"another partition":            {b.Virtual("orders", 1, 30), 30},
		"one that is not there":        {b.Real("orders", 9, 30), 30},
		"another topic":                {b.Real("payments", 0, 30), 30},
		"the start":                    {b.Start("orders", 0, 20), 0},
		"the start of another":         {b.Start("orders", 1, 20), 20},
		"the start when some is gone":  {b.Start("orders", 0, 25), 5},
		"the start when all is gone":   {b.Start("orders", 0, 45), 105},
		"the start is below again":     {b.Start("orders", 0, 20), 0},
		"a partition below 0, as told": {b.Real("orders", -1, 30), 30},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %d, want %d", name, tc.got, tc.want)
		}
	}
}

// TestBook_Place: where a Fetch goes on, over what is known to be empty, and where it is out of range.
func TestBook_Place(t *testing.T) {
	b := New(map[string][]*timeline.Map{"orders": {late(t)}})
	if _, mapped := b.Place("payments", 0, 5); mapped {
		t.Error("a topic that is not in the book is mapped")
	}
	at, _ := b.Place("orders", 0, 5)
	if at.Real != 25 || at.Virtual != 5 || at.End != 40 {
		t.Fatalf("%+v", at)
	}
	if hole, _ := b.Place("orders", 0, 50); hole.Virtual != 100 || hole.Real != 40 {
		t.Errorf("in a hole: %+v", hole)
	}
	b.Skip("orders", 0, at)
	if next, _ := b.Place("orders", 0, 5); next.Virtual != 100 || next.Real != 40 {
		t.Errorf("behind what has nothing to show: %+v", next)
	}
	if before, _ := b.Place("orders", 0, 4); before.Virtual != 4 || before.Real != 24 {
		t.Errorf("before it: %+v", before)
	}
	last, _ := b.Place("orders", 0, 200)
	b.Skip("orders", 0, last) // has no end
	if again, _ := b.Place("orders", 0, 200); again != last {
		t.Errorf("%+v, before %+v", again, last)
	}
	for i := range int64(10 * mostSkips) {
		one, _ := b.Place("orders", 0, i%5)
		b.Skip("orders", 0, one)
	}
	if n := len(b.known["orders"][0].skips); n > mostSkips {
		t.Errorf("%d stretches are remembered", n)
	}
	b = New(map[string][]*timeline.Map{"orders": {late(t)}})
	b.Start("orders", 0, 30)
	if gone, mapped := b.Place("orders", 0, 5); !mapped || gone.Real != math.MaxInt64-1 {
		t.Errorf("before all that is kept: %+v", gone)
	}
	if kept, _ := b.Place("orders", 0, 15); kept.Real != 35 {
		t.Errorf("%+v", kept)
	}
}

// TestBook_Concurrent is for the race detector.
func TestBook_Concurrent(t *testing.T) {
	b := New(map[string][]*timeline.Map{"orders": {late(t)}})
	var all sync.WaitGroup
	for i := range int64(4) {
		all.Go(func() {
			for j := range int64(100) {
				at, _ := b.Place("orders", 0, j%20)
				b.Skip("orders", 0, at)
				b.Start("orders", 0, 20+i)
			}
		})
	}
	all.Wait()
}
