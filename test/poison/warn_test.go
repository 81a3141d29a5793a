package poison

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// hang begins a transaction, writes to partition 0 and leaves it open; it returns the producer's id, and what ends it.
func (s *site) hang() (id int64, end func()) {
	s.t.Helper()
	c := s.Client("eu")
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.TransactionalID("left-open"),
		kgo.TransactionTimeout(14*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cl.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	if err := cl.ProduceSync(s.t.Context(), &kgo.Record{Topic: topic, Value: []byte("in the transaction")}).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	id, _, err = cl.ProducerID(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return id, func() {
		defer cl.Close()
		if err := cl.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
			s.t.Error(err)
		}
	}
}

// TestStuck_NamesWhoHoldsItUp: a transaction that does not end is warned of by name while the pump runs; the source is asked seldom, and
// not at all while nothing is stuck; the warning ends by itself.
func TestStuck_NamesWhoHoldsItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, fabric.Options{}, nil, nil)
		var asked atomic.Int64
		s.Clusters["eu"].ControlKey(int16(kmsg.DescribeProducers), func(kmsg.Request) (kmsg.Response, error, bool) {
			s.Clusters["eu"].KeepControl()
			asked.Add(1)
			return nil, nil, false
		})
		s.start()
		defer s.stop()
		s.produce(0, batchOf(0, 10))
		s.until("copied", time.Minute, s.copied(0, 10))
		id, end := s.hang()
		for i := range 5 {
			s.produce(0, batchOf(10+i, 1))
			time.Sleep(10 * time.Second)
		}
		if n := asked.Load(); n > 0 || s.pump(0).Cause == mirror.CauseStuck {
			t.Errorf("the source was asked %d times, cause %q, before anything was stuck for a minute", n, s.pump(0).Cause)
		}
		s.produce(0, batchOf(20, 1))
		s.until("warned", 40*time.Second, func() bool { return strings.Contains(s.pump(0).Reason, fmt.Sprintf("producer id %d ", id)) })
		p := s.pump(0)
		if p.State != mirror.StateRunning || p.Cause != mirror.CauseStuck || !p.Stuck || !strings.Contains(p.Reason, "from offset 10") ||
			!strings.Contains(p.Reason, `"left-open"`) || !strings.Contains(p.Reason, "end at offset 10 since ") {
			t.Errorf("the pump says %+v; want that it runs, and who holds up which offset since when", p)
		}
		if s.pump(1).Stuck {
			t.Error("the neighbour is said to be stuck")
		}
		before := asked.Load()
		time.Sleep(2 * time.Minute)
		if n := asked.Load() - before; n < 1 || n > 9 {
			t.Errorf("the source was asked %d times in two minutes, want about 8", n)
		}
		end()
		s.until("the rest copied", 30*time.Second, s.copied(0, 18))
		if p := s.pump(0); p.Cause != "" || p.Stuck || p.Reason != "" {
			t.Errorf("still warned of: %+v", p)
		}
	})
}

// TestHeadroom_WarnsBeforeTheLoss: of a partition that stands, and of one that reads more slowly than it is written to, it is known how long
// the source keeps what is not copied.
func TestHeadroom_WarnsBeforeTheLoss(t *testing.T) {
	keeps := map[string]string{"retention.ms": fmt.Sprint((3 * time.Hour).Milliseconds())}
	t.Run("stands", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := kinds[0]
			k.source = keeps
			s := k.begin(t, "halt")
			defer s.stop()
			s.until("halted", 15*time.Second, func() bool { return s.pump(0).State == mirror.StateHalted })
			s.until("headroom known", time.Minute, func() bool { return s.pump(0).Headroom > 0 })
			for hours := range 3 {
				p, want := s.pump(0), time.Duration(3-hours)*time.Hour
				if diff := want - p.Headroom; diff < 0 || diff > 2*time.Minute {
					t.Errorf("after %d hours: headroom %s, want %s", hours, p.Headroom, want)
				}
				if warned := strings.Contains(p.Reason, "the source's retention reaches offset 20"); warned != (p.Headroom < time.Hour) {
					t.Errorf("after %d hours: %q, want a warning for less than an hour", hours, p.Reason)
				}
				time.Sleep(time.Hour)
			}
			if p := s.pump(1); p.Headroom != -1 {
				t.Errorf("the neighbour, which has copied everything, has headroom %s", p.Headroom)
			}
		})
	})
	t.Run("runs slowly", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, fabric.Options{Settings: "byte_rate = 2000\nheadroom = \"2h58m\""}, keeps, nil)
			for i := range 200 {
				b := batchOf(10*i, 10)
				for _, r := range b {
					r.Value = noise(1000)
				}
				s.produce(0, b)
			}
			s.start()
			defer s.stop()
			s.until("warned", 10*time.Minute, func() bool { return s.pump(0).Cause == mirror.CauseRoom })
			if p := s.pump(0); p.State != mirror.StateRunning || p.Headroom > 178*time.Minute || p.Headroom < 160*time.Minute {
				t.Errorf("%+v: want a running pump with a bit less than 2h58m", p)
			}
		})
	})
}
