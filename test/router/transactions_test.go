package router

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/hold"
)

// transacts is a client of transactions that has written a record in one through some instances.
func (f *fabric) transacts(id string, instances ...int) *kgo.Client {
	f.t.Helper()
	cl := f.client(instances, kgo.TransactionalID(id), kgo.DefaultProduceTopic("payments-1"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	f.begins(cl)
	return cl
}

// begins begins a transaction, in which a record is written.
func (f *fabric) begins(cl *kgo.Client) {
	f.t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		f.t.Fatal(err)
	}
	if err := cl.ProduceSync(f.t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
		f.t.Fatal(err)
	}
}

// TestGenerations_Transactions: at an open round a transaction that has begun goes on to its end, whatever instance it began at, and none begins; who is in none goes on as well. When the last has ended all
// is held. Behind the switch a producer loses the transaction that it could not begin, and goes on.
func TestGenerations_Transactions(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		doors := []*door{f.start(0, 2, nil), f.start(1, 2, nil)}
		time.Sleep(3 * time.Second)
		plain := f.writes("orders", 0)
		open, idle := f.transacts("open", 0), f.transacts("idle", 0)
		defer open.Close()
		defer idle.Close()
		if err := idle.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		p := f.prepare("")
		for _, d := range doors {
			d.router.Look()
		}
		time.Sleep(300 * time.Millisecond)
		for _, d := range doors {
			if s := d.router.Standings()[0]; s.Phase != hold.Draining || s.Held || s.Round != p.Round {
				t.Errorf("with a transaction open: %+v", s)
			}
		}
		n := plain.count()
		if err := idle.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		begun := make(chan error, 1)
		idle.Produce(context.Background(), kgo.StringRecord("late"), func(_ *kgo.Record, err error) { begun <- err })
		if err := open.ProduceSync(ctx, &kgo.Record{Partition: 1, Value: []byte("more")}).FirstErr(); err != nil {
			t.Errorf("one that has begun: %v", err)
		}
		if err := open.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Errorf("one that has begun does not end: %v", err)
		}
		if plain.count() == n {
			t.Error("who is in no transaction does not go on")
		}
		for _, d := range doors {
			if took := d.until(t, 0, "held", held(1)); took > 200*time.Millisecond {
				t.Errorf("held %v after the last has ended", took)
			}
		}
		select {
		case err := <-begun:
			t.Errorf("a transaction has begun while others end: %v", err)
		default:
		}
		f.decide(p, generation.Planned, "eu", "us")
		for _, d := range doors {
			d.until(t, 0, "at the new home", serving(1, "us"))
		}
		select {
		case err := <-begun:
			if err == nil {
				t.Error("a producer that the new home does not know began a transaction there")
			}
		case <-ctx.Done():
			t.Error("a transaction does not begin")
		}
		for _, cl := range []*kgo.Client{idle, open} {
			if err := cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
				t.Errorf("an abort: %v", err)
			}
		}
		f.begins(idle)
		if err := idle.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Errorf("the next transaction: %v", err)
		}
		plain.end(t)
	})
}

// TestGenerations_EndlessTransaction: who does not end is waited for no longer than the others should wait.
func TestGenerations_EndlessTransaction(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		d := f.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		open := f.transacts("open", 0)
		defer open.Close()
		p := f.prepare("")
		d.router.Look()
		if took := d.until(t, 0, "held", held(1)); took < time.Second || took > 2*time.Second {
			t.Errorf("held after %v", took)
		}
		f.stay(p, "eu")
		d.until(t, 0, "on", serving(0, "eu"))
		if err := open.EndTransaction(t.Context(), kgo.TryCommit); err != nil { // nobody aborted it here
			t.Errorf("a switch that was given up: %v", err)
		}
	})
}

// TestGenerations_Left: what comes to the home while another one may be decided on is shown when it is known that the home stays, and never if it does not.
func TestGenerations_Left(t *testing.T) {
	for _, moves := range []bool{false, true} {
		inFabric(t, func(t *testing.T, f *fabric) {
			d := f.start(0, 1, nil)
			time.Sleep(3 * time.Second)
			in := f.client([]int{0}, kgo.ConsumeTopics("payments-1"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(3*time.Second))
			defer in.Close()
			reads := func(d time.Duration) int {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				return in.PollFetches(ctx).NumRecords()
			}
			reads(time.Second) // it waits at the home now
			p := f.prepare("")
			d.until(t, 0, "held", held(1))
			back, err := f.open("mirror", "eu").Producer(broker.ProducerOptions{ManualPartition: true})
			if err != nil {
				t.Fatal(err)
			}
			defer back.Close()
			if _, err := back.Produce(t.Context(), broker.Record{Topic: "payments-1", Value: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			if n := reads(2 * time.Second); n > 0 {
				t.Errorf("%d records were shown of which nobody knows the place", n)
			}
			if moves {
				f.decide(p, generation.Planned, "eu", "us")
				d.until(t, 0, "at the new home", serving(1, "us"))
			} else {
				f.stay(p, "eu")
			}
			if n := reads(10 * time.Second); n > 0 == moves {
				t.Errorf("moved %v: %d records were shown", moves, n)
			}
		})
	}
}
