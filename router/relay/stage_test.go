package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/hold"
)

// stages is the stage of a test's home.
type stages struct{ now atomic.Pointer[staging] }

type staging struct {
	Stage
	over chan struct{}
}

// set brings the next stage on.
func (s *stages) set(generation int64, phase hold.Phase) {
	over := make(chan struct{})
	if old := s.now.Swap(&staging{Stage{Generation: generation, Phase: phase, Over: over}, over}); old != nil {
		close(old.over)
	}
}

// staging is a lab whose home can move.
func newStaging(t *testing.T, change func(*Config)) (*lab, *stages) {
	t.Helper()
	s := new(stages)
	s.set(0, hold.Serving)
	return newLab(t, func(c *Config) {
		c.Stage = func() Stage { return s.now.Load().Stage }
		if change != nil {
			change(c)
		}
	}), s
}

// at is where a relay is dialled to next.
func (l *lab) at() net.Conn {
	l.t.Helper()
	select {
	case c := <-l.broker:
		return c
	case <-time.After(time.Minute):
		l.t.Fatal("nobody was dialled")
		return nil
	}
}

// quiet checks that nothing comes for d.
func quiet(t *testing.T, c net.Conn, d time.Duration, what string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("%s came", what)
	}
	_ = c.SetReadDeadline(time.Time{})
}

// TestStage_Moves: what a client sends while its home changes waits, and goes to the new home, in order; the client sees one connection.
func TestStage_Moves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newStaging(t, nil)
		post(l.client, request(1, 12, kmsg.NewPtrFetchRequest()))
		old := l.at()
		asked(t, old, kmsg.Fetch, 1)
		s.set(0, hold.Held)
		post(l.client, request(2, 9, produce(-1, 100)), request(3, 9, produce(-1, 100)))
		quiet(t, old, time.Second, "a request to a home that is held")
		if n := l.relay.Seen().Writes.Load(); n != 0 {
			t.Errorf("%d writes may be at the home that is held", n)
		}
		s.set(1, hold.Serving)
		time.Sleep(time.Second)
		post(old, answer(1, 12, kmsg.NewPtrFetchResponse())) // of before: it is still due
		expect(t, l.client, 1)
		fresh := l.at()
		if _, err := old.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection to the old home: %v, want its end", err)
		}
		for id := int32(2); id <= 3; id++ {
			asked(t, fresh, kmsg.Produce, id)
			if n := l.relay.Seen().Writes.Load(); n < 1 { // the next may be on its way too
				t.Error("no write is at the home")
			}
			post(fresh, answer(id, 9, kmsg.NewPtrProduceResponse()))
			expect(t, l.client, id)
		}
		synctest.Wait()
		if n := l.relay.Seen().Writes.Load(); n != 0 {
			t.Errorf("%d writes at the home when all are answered", n)
		}
		if n := time.Duration(l.relay.Seen().Waited.Load()); n < time.Second {
			t.Errorf("it waited for %v", n)
		}
		_ = l.client.Close()
		l.end("", nil)
	})
}

// TestStage_GivenUp: a switch that does not take place leaves the connection where it was.
func TestStage_GivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newStaging(t, nil)
		post(l.client, request(1, 12, kmsg.NewPtrFetchRequest()))
		old := l.at()
		asked(t, old, kmsg.Fetch, 1)
		s.set(0, hold.Held)
		post(l.client, request(2, 9, produce(-1, 100)))
		quiet(t, old, time.Second, "a request to a home that is held")
		s.set(0, hold.Serving)
		asked(t, old, kmsg.Produce, 2)
		_ = l.client.Close()
		<-l.ended
	})
}

// TestStage_Patience: who is held for too long is hung up on when what was answered is written, and nothing of what waited was sent.
func TestStage_Patience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newStaging(t, func(c *Config) { c.Timeouts.Linger = time.Nanosecond }) // a pipe has no FIN
		s.set(0, hold.Lost)
		began := time.Now()
		post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()), request(2, 9, produce(-1, 100)))
		expect(t, l.client, 1) // of who is held: it must not take itself for dead
		l.gone(time.Minute)
		if d := time.Since(began); d.Round(time.Second) != hold.Patience {
			t.Errorf("hung up on after %v, want %v", d, hold.Patience)
		}
		l.end(Router, ErrMoved)
		if len(l.broker) > 0 {
			t.Error("a home that is lost was dialled")
		}
	})
}

// TestStage_CannotMove: a connection that is logged in at the home that was left, or that waits for an answer which does not come, ends.
func TestStage_CannotMove(t *testing.T) {
	for name, first := range map[string][]byte{
		"login":  request(1, 2, kmsg.NewPtrSASLAuthenticateRequest()),
		"answer": request(1, 9, produce(-1, 100)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, s := newStaging(t, nil)
				post(l.client, first)
				old := l.at()
				read(t, old)
				if name == "login" {
					post(old, answer(1, 2, kmsg.NewPtrSASLAuthenticateResponse()))
					expect(t, l.client, 1)
				}
				s.set(1, hold.Serving)
				post(l.client, request(2, 12, kmsg.NewPtrFetchRequest()))
				quiet(t, old, time.Millisecond, "a request for the new home")
				l.gone(time.Minute)
				l.end(Router, ErrMoved)
			})
		})
	}
}

// TestStage_Transactions: while transactions drain, those that have begun end, and none begins.
func TestStage_Transactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newStaging(t, nil)
		post(l.client, request(1, 3, kmsg.NewPtrAddPartitionsToTxnRequest()))
		home := l.at()
		asked(t, home, kmsg.AddPartitionsToTxn, 1)
		s.set(0, hold.Draining)
		post(l.client, request(2, 3, kmsg.NewPtrAddOffsetsToTxnRequest()), request(3, 4, kmsg.NewPtrEndTxnRequest()), request(4, 3, kmsg.NewPtrAddPartitionsToTxnRequest()))
		asked(t, home, kmsg.AddOffsetsToTxn, 2)
		asked(t, home, kmsg.EndTxn, 3)
		quiet(t, home, time.Second, "a new transaction")
		s.set(0, hold.Serving)
		asked(t, home, kmsg.AddPartitionsToTxn, 4)
		_ = l.client.Close()
		<-l.ended
	})
}

// TestStage_Writes: only what may be under way at the home is counted.
func TestStage_Writes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newStaging(t, nil)
		count := func(what string, want int32) {
			t.Helper()
			synctest.Wait()
			if n := l.relay.Seen().Writes.Load(); n != want {
				t.Errorf("%s: %d writes, want %d", what, n, want)
			}
		}
		post(l.client, request(1, 9, produce(0, 100)))
		home := l.at()
		asked(t, home, kmsg.Produce, 1)
		count("without an answer", 1)
		post(l.client, request(10, 9, produce(0, 100)))
		asked(t, home, kmsg.Produce, 10)
		count("two without an answer", 1)
		l.relay.Flush()
		post(home, answer(l.asks(home, new(kmsg.ApiVersionsRequest), 0), 0, kmsg.NewPtrApiVersionsResponse()))
		count("it was served", 0)
		l.relay.Flush()
		post(l.client, request(11, 9, produce(0, 100)))
		asked(t, home, kmsg.Produce, 11)
		count("without an answer", 1)
		post(l.client, request(12, 12, kmsg.NewPtrFetchRequest()))
		asked(t, home, kmsg.Fetch, 12)
		post(home, answer(12, 12, kmsg.NewPtrFetchResponse()))
		expect(t, l.client, 12)
		count("what stands behind it is answered", 0)
		post(l.client, request(2, 12, kmsg.NewPtrFetchRequest()))
		asked(t, home, kmsg.Fetch, 2)
		count("a question", 0)
		post(l.client, request(3, 9, produce(-1, 100)), request(4, 5, kmsg.NewPtrOffsetCommitRequest()))
		asked(t, home, kmsg.Produce, 3)
		asked(t, home, kmsg.OffsetCommit, 4)
		count("two that wait", 2)
		post(home, answer(2, 12, kmsg.NewPtrFetchResponse()), answer(3, 9, kmsg.NewPtrProduceResponse()))
		expect(t, l.client, 2)
		expect(t, l.client, 3)
		count("one that waits", 1)
		_ = l.client.Close()
		if err := <-l.ended; err != nil && !errors.Is(err, io.EOF) {
			t.Log(err)
		}
	})
}

// TestStage_Lease: without a lease writes wait until there is one again, and what changes nothing goes on. The answer to a write that comes without one is not passed on: what was
// answered before is, then the connection ends. The lease of another generation is none.
func TestStage_Lease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var leased atomic.Int64 // a generation
		l, s := newStaging(t, func(c *Config) { c.Lease = func(generation int64) bool { return leased.Load() == generation } })
		leased.Store(-1)
		post(l.client, request(1, 12, kmsg.NewPtrFetchRequest()), request(2, 9, produce(-1, 100)))
		home := l.at()
		asked(t, home, kmsg.Fetch, 1)
		post(home, answer(1, 12, kmsg.NewPtrFetchResponse()))
		expect(t, l.client, 1)
		quiet(t, home, time.Second, "a write without a lease")
		if n := l.relay.Seen().Writes.Load(); n != 0 || !l.relay.Seen().Waiting.Load() {
			t.Errorf("%d writes may be at the home", n)
		}
		leased.Store(0)
		s.set(0, hold.Serving)
		asked(t, home, kmsg.Produce, 2)
		post(home, answer(2, 9, kmsg.NewPtrProduceResponse()))
		expect(t, l.client, 2)
		post(l.client, request(3, 12, kmsg.NewPtrFetchRequest()), request(4, 9, produce(-1, 100)))
		asked(t, home, kmsg.Fetch, 3)
		asked(t, home, kmsg.Produce, 4)
		leased.Store(1)
		post(home, answer(3, 12, kmsg.NewPtrFetchResponse()), answer(4, 9, kmsg.NewPtrProduceResponse()))
		expect(t, l.client, 3)
		if n, err := l.client.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("behind the answer to a read came %d bytes, %v", n, err)
		}
		_ = l.client.Close()
		l.end(Router, ErrLease)
		if n := l.relay.Seen().Writes.Load(); n != 0 {
			t.Errorf("%d writes wait for an answer when the connection has ended", n)
		}
	})
}

// TestStage_Drop: a connection to a lost home ends at once, and with it what it waits for.
func TestStage_Drop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newStaging(t, nil)
		post(l.client, request(1, 9, produce(-1, 100)))
		home := l.at()
		asked(t, home, kmsg.Produce, 1)
		l.relay.Drop()
		synctest.Wait()
		if n := l.relay.Seen().Writes.Load(); n != 0 {
			t.Errorf("%d writes wait for an answer", n)
		}
		if _, err := home.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection to the home: %v, want its end", err)
		}
		l.gone(time.Minute) // a pipe has no FIN
		_ = l.client.Close()
		l.end(Router, ErrMoved)
	})
}

// TestStage_DropDialling: so does one that is being made to a home that does not answer.
func TestStage_DropDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newStaging(t, func(c *Config) {
			c.Dial = func(ctx context.Context, _ bool) (net.Conn, bool, error) {
				<-ctx.Done()
				return nil, false, ctx.Err()
			}
		})
		post(l.client, request(1, 9, produce(-1, 100)))
		synctest.Wait()
		if n := l.relay.Seen().Writes.Load(); n != 1 {
			t.Errorf("%d writes may be on their way", n)
		}
		l.relay.Drop()
		synctest.Wait()
		if n := l.relay.Seen().Writes.Load(); n != 0 {
			t.Errorf("%d writes wait for an answer", n)
		}
		l.gone(time.Minute)
		_ = l.client.Close()
		l.end(Router, ErrMoved)
	})
}
