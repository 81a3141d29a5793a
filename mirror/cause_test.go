package mirror

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

func TestCauseOf_TellsErrorsApart(t *testing.T) {
	wrap := func(err error) error {
		return fmt.Errorf("read: %w", &broker.PartitionError{Topic: "orders", Err: err})
	}
	for _, tc := range []struct {
		err  error
		end  Cause
		want Cause
	}{
		{errors.New("connection refused"), CauseTarget, CauseTarget},
		{errors.New("connection refused"), CauseSource, CauseSource},
		{atSource(errors.New("connection refused")), CauseTarget, CauseSource},
		{wrap(kerr.TopicAuthorizationFailed), CauseTarget, CauseRights},
		{atSource(wrap(kerr.TopicAuthorizationFailed)), CauseTarget, CauseRights},
		{broker.ErrAuthentication, CauseSource, CauseRights},
		{wrap(kerr.UnknownTopicOrPartition), CauseSource, CauseTopic},
		{wrap(kerr.NotLeaderForPartition), CauseTarget, CauseLeader},
		{wrap(kerr.NotEnoughReplicas), CauseTarget, CauseTarget},
		{&haltError{"recreated", "for a test"}, CauseTarget, CauseRecreated},
	} {
		if got := causeOf(tc.err, tc.end); got != tc.want {
			t.Errorf("%v from %s is %q, want %q", tc.err, tc.end, got, tc.want)
		}
	}
	if atSource(nil) != nil {
		t.Error("no error becomes one")
	}
	if got := causeOfBlock("source-topic", wrap(kerr.TopicAuthorizationFailed)); got != CauseRights {
		t.Errorf("a topic that may not be read is %q", got)
	}
	if got := causeOfBlock("cleanup-policy"); got != CauseTopic {
		t.Errorf("a topic that is not as it has to be is %q", got)
	}
}

// Every state but running has its cause where somebody has to know it, and a pump that runs has none unless its batches wait.
func TestPump_HasACause(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(*bench)
		want Cause
	}{
		"runs":               {func(*bench) {}, ""},
		"paused":             {func(b *bench) { b.pump.direct("", "ops: for a test", b.now) }, CauseManual},
		"halted":             {func(b *bench) { b.pump.haltLocked("unanchored", "for a test", b.now) }, CauseUnanchored},
		"refused":            {func(b *bench) { b.deny(kerr.NotEnoughReplicas) }, CauseTarget},
		"not allowed":        {func(b *bench) { b.deny(kerr.TopicAuthorizationFailed) }, CauseRights},
		"no source":          {func(b *bench) { b.pump.sourceError(&broker.Fetched{Err: kerr.KafkaStorageError}, b.now) }, CauseSource},
		"no leader":          {func(b *bench) { b.pump.wait(CauseLeader, "no leader", b.now) }, CauseLeader},
		"the target is slow": {func(b *bench) { b.offer(1, 0, 1); b.next(); b.now = b.now.Add(2 * time.Second) }, CausePressure},
		"well again":         {func(b *bench) { b.offer(1, 0, 1); b.ack(b.next(), 0); b.now = b.now.Add(2 * time.Second) }, ""},
	} {
		b := newBench(t)
		tc.do(b)
		got := b.pump.status(b.now)
		if got.Cause != tc.want {
			t.Errorf("%s: cause %q in state %s (%s), want %q", name, got.Cause, got.State, got.Reason, tc.want)
		}
		if tc.want != "" && !slices.Contains(Causes, got.Cause) {
			t.Errorf("%s: %q is not listed", name, got.Cause)
		}
	}
}

// deny has the target refuse the next batch.
func (b *bench) deny(err error) {
	b.t.Helper()
	b.offer(1, b.pump.fetchAt, 1)
	b.pump.result(b.next(), broker.ProduceResult{Err: err}, b.now)
}

// resultOf is an answer of the target that is an error.
func resultOf(err error) broker.ProduceResult { return broker.ProduceResult{Err: err} }
