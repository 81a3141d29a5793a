package lock

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// refusal is a setting of the target under which it refuses a batch for a moment.
type refusal struct {
	code, key, bad, good string
	culprit              func(*batch.Record) // makes the record that is refused
}

var refusals = []refusal{
	{"MESSAGE_TOO_LARGE", "max.message.bytes", "6000", "1048588", func(r *batch.Record) { r.Value = append(r.Value, strings.Repeat(".", 3000)...) }},
	{"INVALID_TIMESTAMP", "message.timestamp.after.max.ms", "60000", "9223372036854775807", func(r *batch.Record) { r.Timestamp = time.Now().Add(time.Hour).UnixMilli() }},
}

// TestPipeline_OneRefusedBeforeOthersAccepted: while the broker does not know the producer id it takes any sequence. A batch behind one that is
// refused must not be on its way then.
func TestPipeline_OneRefusedBeforeOthersAccepted(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.code+" on a fresh partition", func(t *testing.T) { refusedInFront(t, r, 0, nil) })
		t.Run(r.code+" with a forgotten id", func(t *testing.T) { refusedInFront(t, r, 2, nil) })
	}
}

// TestPipeline_NotEnoughReplicas is the same for a refusal that has nothing to do with the batch: it needs a target of three brokers, of
// which one is down.
func TestPipeline_NotEnoughReplicas(t *testing.T) {
	if os.Getenv("ISTHMUS_SOAK") != "1" {
		t.Skip("ISTHMUS_SOAK=1 runs it: it starts three more brokers")
	}
	sites(t)
	c := kafka.Start(t, kafka.Options{Name: "us", Brokers: 3, HeapMB: 384, Properties: maps.Clone(siteProperties)})
	us := newSite(t, c, "us")
	us.replicas = 3
	us.create(t, "which", 1, nil) // a topic on all three
	us.Kill(2)
	node.Until(t, time.Minute, "the third broker is out of the replicas in sync", func(ctx context.Context) error {
		m, err := us.c.Metadata(ctx, "which")
		if err != nil {
			return err
		}
		if p := m.Topics["which"].Partitions[0]; len(p.ISR) != 2 || p.Leader == 3 {
			return fmt.Errorf("leader %d, in sync %v", p.Leader, p.ISR)
		}
		return nil
	})
	r := refusal{"NOT_ENOUGH_REPLICAS", "min.insync.replicas", "3", "1", func(*batch.Record) {}}
	for _, before := range []int{0, 2} {
		t.Run(fmt.Sprintf("after %d batches", before), func(t *testing.T) { refusedInFront(t, r, before, us) })
	}
}

// refusedInFront copies some batches in peace, with times of 2017 so that the id is forgotten after them, and has the next refused while others wait
// behind it.
func refusedInFront(t *testing.T, r refusal, before int, us *site) {
	s := newStage(t, stageOptions{target: map[string]string{}, partitions: 2, us: us})
	for i, one := range numbered("batch", before+4, 5000) {
		if before > 0 {
			one = old(one)[0]
		}
		if i == before {
			r.culprit(&one)
		}
		s.eu.write(t, s.topic, one)
	}
	o := s.prepare()
	sent := o.to.trap(s.sends)
	o.start()
	for range before {
		got(t, 20*time.Second, "a batch is sent", sent).fate <- pass
	}
	culprit := got(t, 20*time.Second, "the batch in front is sent", sent)
	if n := culprit.batches(s.id)[0].BaseSequence; n != int32(before) {
		t.Fatalf("a batch with sequence %d is sent, want %d", n, before)
	}
	if before > 0 {
		s.us.forgets(t, s.topic, 0, s.id)
	}
	s.us.alter(t, s.topic, r.key, r.bad)
	s.refuses(r, true)
	culprit.fate <- pass
	// What is refused for its records is read again at once and packed anew, so the code is in the reason for a moment only.
	o.is(20*time.Second, "is refused", func(p mirror.PumpStatus) bool {
		return strings.Contains(p.Reason, r.code) || p.Attempts > 0 || p.State == mirror.StateHalted
	})
	// What waits behind is let through before the cause is gone, or after it where it concerns all.
	if r.code == "NOT_ENOUGH_REPLICAS" {
		s.us.alter(t, s.topic, r.key, r.good)
		s.refuses(r, false)
	}
	o.to.rule(nil)
	release(sent)
	s.us.alter(t, s.topic, r.key, r.good)
	o.caughtUp()
	s.verdict()
	if l := o.ledger(); len(l) > 0 {
		t.Errorf("the ledger has %+v, want nothing: order was never broken", l)
	}
}

// refuses waits until the target works by the new setting: it writes to a partition that is not looked at.
func (s *stage) refuses(r refusal, yes bool) {
	s.t.Helper()
	node.Until(s.t, 20*time.Second, fmt.Sprintf("%s holds on the target: %v", r.code, yes), func(context.Context) error {
		probe := numbered("probe", 1, 5000)[0]
		r.culprit(&probe)
		err := s.us.produce(s.t, s.topic, 1, client, probe).Err
		if said := err != nil && strings.Contains(err.Error(), r.code); said != yes {
			return fmt.Errorf("it answers %v", err)
		}
		return nil
	})
}

// release lets everything go that a trap holds.
func release(c <-chan caught) {
	for {
		select {
		case held := <-c:
			held.fate <- pass
		default:
			return
		}
	}
}
