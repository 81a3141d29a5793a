package written

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
)

func TestBook(t *testing.T) {
	b := New()
	for _, name := range []string{"", "t"} {
		b.Sent([]byte(name), -1, 5)
		b.Acked([]byte(name), 1<<30, 5)
	}
	b.Sent([]byte("t"), 2, 10)
	b.Acked([]byte("t"), 2, 100)
	b.Sent([]byte("t"), 2, 3)
	b.Acked([]byte("t"), 2, 110)
	b.Acked([]byte("t"), 2, 50) // the answer of another connection
	b.Acked([]byte("t"), 2, -1) // refused
	b.Sent([]byte("t"), 4, 7)   // not acknowledged
	b.Acked([]byte("u"), 0, 0)
	for i := range 1000 { // whatever clients name
		b.Sent(fmt.Append(nil, "no topic ", i), int32(i), 1)
	}
	if got, want := b.Ends(), map[string][]int64{"t": {0, 0, 120}, "u": {10}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestBook_IsABound: whatever many connections send and have acknowledged, all of it lies before the end.
func TestBook_IsABound(t *testing.T) {
	for seed := range uint64(20) {
		b, logs := New(), make([]int64, 5)
		var mu sync.Mutex
		var all sync.WaitGroup
		for conn := range uint64(4) {
			rng := rand.New(rand.NewPCG(seed, conn))
			all.Go(func() {
				for range 200 {
					p, n := rng.IntN(len(logs)), 1+rng.Int64N(20)
					b.Sent([]byte("t"), int32(p), int32(n))
					mu.Lock()
					first := logs[p]
					logs[p] += n
					mu.Unlock()
					b.Acked([]byte("t"), int32(p), first)
				}
			})
		}
		all.Wait()
		for p, end := range b.Ends()["t"] {
			if end < logs[p] || end > logs[p]+19 {
				t.Errorf("seed %d, partition %d: its end is %d, and %d is told", seed, p, logs[p], end)
			}
		}
	}
}

// BenchmarkBook is a batch sent and acknowledged.
func BenchmarkBook(b *testing.B) {
	book, topic := New(), []byte("orders")
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		book.Sent(topic, int32(i&15), 10)
		book.Acked(topic, int32(i&15), i)
	}
}
