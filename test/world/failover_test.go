package world

import (
	"context"
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

// writer writes records one by one without end, and keeps which were acknowledged.
type steadyWriter struct {
	mu    sync.Mutex
	acked map[string]bool
	sent  int
}

func (s *steadyWriter) run(ctx context.Context, t *testing.T, cl *kgo.Client) {
	for ctx.Err() == nil {
		value := strconv.Itoa(s.sent)
		s.sent++
		cl.Produce(context.Background(), &kgo.Record{Topic: "orders", Key: []byte(strconv.Itoa(s.sent % 20)), Value: []byte(value)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %s: %v", value, err)
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.acked[value] = true
		})
		time.Sleep(5 * time.Millisecond)
	}
	end, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cl.Flush(end); err != nil {
		t.Error(err)
	}
}

// TestWorld_Failover: the home is lost while clients write and read. The others decide on another one; clients go on there; what was lost with the home comes late when it is back, and is
// there once like all else.
func TestWorld_Failover(t *testing.T) {
	switched(t, func(t *testing.T, w *World) {
		out := w.through(doors, kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.RecordDeliveryTimeout(time.Minute))
		defer out.Close()
		if _, _, err := out.ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := &steadyWriter{acked: make(map[string]bool)}
		ctx, stop := context.WithCancel(t.Context())
		written := make(chan struct{})
		go func() {
			defer close(written)
			s.run(ctx, t, out)
		}()
		defer func() {
			stop()
			<-written
		}()
		time.Sleep(4 * time.Second)
		for _, n := range w.Nodes {
			n.Paths["us"].Slow(100*time.Millisecond, 100*time.Millisecond, 0)
		}
		time.Sleep(time.Second)
		w.lose("eu", true)
		lost := time.Now()
		time.Sleep(3 * time.Second)
		p := w.goes(w.Nodes[2], adminpb.SwitchKind_SWITCH_KIND_UNPLANNED, "us")
		if p.GetOutcome() != "committed" {
			t.Fatalf("%s: %s %v", p.GetOutcome(), p.GetWhy(), p.GetChecks())
		}
		for _, s := range p.GetSteps() {
			t.Logf("%s %.3f", s.GetName(), s.GetSeconds())
		}
		t.Logf("decided and told %v behind the loss", time.Since(lost))
		w.Until("all instances are at us", 10*time.Second, func() error { return w.homeIs("us", 1) })
		time.Sleep(5 * time.Second)
		w.lose("eu", false)
		time.Sleep(5 * time.Second)
		stop()
		<-written
		time.Sleep(5 * time.Second)
		in := w.through(doors, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer in.Close()
		seen := make(map[string]int)
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			fs := in.PollFetches(ctx)
			cancel()
			if fs.Empty() {
				break
			}
			fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
		}
		missing, twice := 0, 0
		for i := range s.sent {
			switch n := seen[strconv.Itoa(i)]; {
			case n == 0:
				missing++
			case n > 1:
				twice++
			}
		}
		t.Logf("%d sent, %d acked, %d missing, %d twice", s.sent, len(s.acked), missing, twice)
		if missing > 0 || twice > 0 {
			t.Fail()
		}
	})
}
