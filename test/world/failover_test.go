package world

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// lose takes a cluster away from all nodes, or gives it back.
func (w *World) lose(cluster string, lost bool) {
	for _, n := range w.Nodes {
		if lost {
			n.Paths[cluster].Cut()
		} else {
			n.Paths[cluster].Heal()
		}
	}
}

// steady writes records until it is stopped, and keeps where they were acknowledged.
type steady struct {
	t    *testing.T
	stop func()

	mu    sync.Mutex
	acked map[string]*kgo.Record
	last  time.Time // of an acknowledgement
	gap   time.Duration
	sent  int
}

// writes has a client write without end.
func writes(t *testing.T, cl *kgo.Client) *steady {
	ctx, cancel := context.WithCancel(t.Context())
	s, done := &steady{t: t, acked: make(map[string]*kgo.Record), last: time.Now()}, make(chan struct{})
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			s.one(cl)
			time.Sleep(5 * time.Millisecond)
		}
		end, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := cl.Flush(end); err != nil {
			t.Errorf("flush: %v", err)
		}
	}()
	return s
}

func (s *steady) one(cl *kgo.Client) {
	value := strconv.Itoa(s.sent)
	s.sent++
	cl.Produce(s.t.Context(), &kgo.Record{Topic: "orders", Key: []byte(strconv.Itoa(s.sent % 20)), Value: []byte(value)}, func(r *kgo.Record, err error) {
		if err != nil {
			s.t.Errorf("record %s: %v", value, err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.acked[value] = r
		now := time.Now()
		s.gap, s.last = max(s.gap, now.Sub(s.last)), now
	})
}

// stood is the longest time without an acknowledgement since it was asked last.
func (s *steady) stood() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	gap := s.gap
	s.gap = 0
	return gap
}

// all is what can be read in a while, and how often.
func all(t *testing.T, cl *kgo.Client) map[string]int {
	seen := make(map[string]int)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return seen
		}
		fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
}

// unmissed is an error where a record was acknowledged, is not seen, and does not lie in the tail that was told of.
func (s *steady) unmissed(seen map[string]int, tail *adminpb.SwitchTail) (missing int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for value, r := range s.acked {
		if seen[value] > 0 || r.Offset >= 1<<24 { // which was acknowledged by the new home
			continue
		}
		missing++
		if !slices.ContainsFunc(tail.GetPartitions(), func(p *adminpb.SwitchTailPartition) bool {
			return p.GetPartition() == r.Partition && p.GetFirst() <= r.Offset && r.Offset < p.GetEnd()
		}) {
			err = errors.Join(err, fmt.Errorf("record %s at %d:%d", value, r.Partition, r.Offset))
		}
	}
	return missing, err
}

// TestWorld_Failover: the home is lost while clients write and read, the mirror being behind. The others decide on another one, and tell what may be missing; clients go on there. What was
// lost with the home comes late when it is back, and is there once like all else; then clients go back.
func TestWorld_Failover(t *testing.T) {
	switched(t, func(t *testing.T, w *World) {
		for _, n := range w.Nodes { // so that there are batches that were written and not acknowledged
			n.Paths["eu"].Slow(5*time.Millisecond, 5*time.Millisecond, 0)
		}
		out := w.through(doors, kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.RecordDeliveryTimeout(time.Minute),
			kgo.AlwaysRetryEOF()) // a bubble's connections know no reset
		defer out.Close()
		if _, _, err := out.ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := writes(t, out)
		defer s.stop()
		reader := func() *kgo.Client {
			return w.through(doors, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(time.Second))
		}
		time.Sleep(5 * time.Second)
		s.stood()
		w.lose("us", true) // so that there is a tail
		time.Sleep(300 * time.Millisecond)
		w.lose("eu", true)
		w.lose("us", false)
		lost := time.Now()
		time.Sleep(3 * time.Second)
		p := w.goes(w.Nodes[2], adminpb.SwitchKind_SWITCH_KIND_UNPLANNED, "us")
		if p.GetOutcome() != "committed" || p.GetTail() == nil || len(p.GetTail().GetSilent()) > 0 {
			t.Fatalf("%s: %s %v, tail %v", p.GetOutcome(), p.GetWhy(), p.GetChecks(), p.GetTail())
		}
		decided := time.Since(lost) - 3*time.Second
		w.Until("all instances are at us", 10*time.Second, func() error { return w.homeIs("us", 1) })
		time.Sleep(5 * time.Second)
		stood := s.stood()
		early := reader()
		missing, err := s.unmissed(all(t, early), p.GetTail())
		early.Close()
		if err != nil {
			t.Errorf("not in the tail %v: %v", p.GetTail(), err)
		}
		t.Logf("the switch took %v, clients stood for %v; %d acknowledged records are missing, at most %d were said", decided, stood, missing, p.GetTail().GetRecords())
		if missing == 0 {
			t.Error("nothing was lost: that tells nothing")
		}
		w.lose("eu", false)
		time.Sleep(10 * time.Second)
		late := reader()
		w.Until("a switch back may begin", time.Minute, func() error { return w.may("us", adminpb.SwitchKind_SWITCH_KIND_BACK, "eu") })
		p = w.goes(w.Nodes[2], adminpb.SwitchKind_SWITCH_KIND_BACK, "eu")
		if p.GetOutcome() != "committed" {
			t.Fatalf("%s: %s %v", p.GetOutcome(), p.GetWhy(), p.GetChecks())
		}
		time.Sleep(2 * time.Second)
		s.stop()
		fresh := reader()
		defer fresh.Close()
		for name, seen := range map[string]map[string]int{"a reader that was there before the way back": all(t, late), "one that came behind it": all(t, fresh)} {
			for i := range s.sent {
				if n := seen[strconv.Itoa(i)]; n != 1 {
					t.Errorf("%s has record %d %d times", name, i, n)
				}
			}
		}
		late.Close()
	})
}

// may is an error while a switch may not begin.
func (w *World) may(_ string, kind adminpb.SwitchKind, to string) error {
	var last *adminpb.SwitchProgress
	err := w.Nodes[2].API.Switch(w.t.Context(), &adminpb.SwitchRequest{Router: "shop", To: to, Kind: kind, DryRun: true}, func(p *adminpb.SwitchProgress) error {
		last = p
		return nil
	})
	if err == nil && last.GetOutcome() != "ready" {
		err = errors.New(last.GetWhy())
	}
	return err
}
