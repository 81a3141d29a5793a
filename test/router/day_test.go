package router

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/relay"
)

// day is how many hours TestRouter_ADay has.
const day = 24

// TestRouter_ADay: a thousand connects an hour and more, of clients that ask and go, hang up in the midst of a request, never ask, read slowly or not at all.
// A client that does as it should is served all day, and at the end nothing is left of the others.
func TestRouter_ADay(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		d := w.start(0, 1, func(c *router.Config) {
			c.Every = 10 * time.Second
			c.Timeouts = relay.Timeouts{Idle: 2 * time.Minute, Step: 10 * time.Second}
			c.Limits = router.Limits{Connections: 500}
		})
		time.Sleep(20 * time.Second)
		before, bytes := runtime.NumGoroutine(), heap()
		good := w.client([]int{0}, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		produce(t, good, 0, 100)
		rng := rand.New(rand.NewPCG(1, 7))
		var all sync.WaitGroup
		kinds := make(map[int]int)
		for hour := range day {
			for range 1100 {
				kind, seed := rng.IntN(6), rng.Uint64()
				kinds[kind]++
				all.Go(func() { w.visit(kind, seed) })
				time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Hour / 1100))))
			}
			produce(t, good, 100+100*hour, 200+100*hour)
		}
		all.Wait()
		good.Close()
		time.Sleep(10 * time.Minute)
		if len(kinds) != 6 {
			t.Errorf("clients were of the kinds %v", kinds)
		}
		if s := d.router.Status(); s.Connections != 0 || s.Opened < int64(1000*day) {
			t.Errorf("%d connections are left of %d", s.Connections, s.Opened)
		}
		if left := runtime.NumGoroutine(); left > before+3 { // the home's own
			t.Errorf("%d goroutines, %d before", left, before)
		}
		if now := heap(); now > bytes+8<<20 {
			t.Errorf("%d bytes are in use, %d before", now, bytes)
		}
	})
}

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what pools kept is gone after the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// visit is one connection of a client of a kind.
func (w *world) visit(kind int, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 8))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := w.net.DialContext(ctx, "tcp", fmt.Sprint("127.0.0.1:", 9100+rng.IntN(4)))
	if err != nil {
		return // too many at once are refused
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	ask := question(7)
	switch kind {
	case 0: // asks some times, and goes
		for range 1 + rng.IntN(5) {
			if _, err := c.Write(ask); err != nil {
				return
			}
			if readAnswer(c) != nil {
				return
			}
			time.Sleep(time.Duration(rng.IntN(5000)) * time.Millisecond)
		}
	case 1: // hangs up in the midst of a request
		_, _ = c.Write(ask[:1+rng.IntN(len(ask)-1)])
	case 2: // never asks
		_, _ = c.Read(make([]byte, 1))
	case 3: // stops in the midst of a request
		_, _ = c.Write(ask[:1+rng.IntN(len(ask)-1)])
		_, _ = c.Read(make([]byte, 1))
	case 4: // asks again and again and reads nothing
		for range 200 {
			if _, err := c.Write(ask); err != nil {
				return
			}
		}
	case 5: // reads a byte at a time
		if _, err := c.Write(ask); err != nil {
			return
		}
		for range 20 {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
}

// question is a request for metadata of all topics.
func question(correlation int32) []byte {
	m := kmsg.NewPtrMetadataRequest()
	m.Version = 4
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("day")).AppendRequest(nil, m, correlation)
}

// readAnswer reads one answer and forgets it.
func readAnswer(c net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:])))
	return err
}
