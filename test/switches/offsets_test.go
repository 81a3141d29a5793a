package switches

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// copier reads one topic and writes another, with its positions, in transactions.
type copier struct {
	ended, lost int // transactions that were committed, and that were not
}

// run copies until ctx ends. What cannot be committed is read again.
func (c *copier) run(ctx context.Context, s *kgo.GroupTransactSession, to string) error {
	for {
		got := s.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := got.Err(); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if err := s.Begin(); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		failed := kgo.AbortingFirstErrPromise(s.Client())
		got.EachRecord(func(r *kgo.Record) {
			s.Produce(context.Background(), &kgo.Record{Topic: to, Partition: r.Partition, Value: r.Value}, failed.Promise())
		})
		committed, err := s.End(context.Background(), failed.Err() == nil)
		switch {
		case err != nil:
			return fmt.Errorf("end: %w", err)
		case committed:
			c.ended++
		default:
			c.lost++
		}
	}
}

// inTransaction writes a record in a transaction, and returns what asks for its commit, as often as it is called.
func (l *lab) inTransaction(t *testing.T, id string) (commit func() int16) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(l.bootstrap, ",")...), kgo.TransactionalID(id), kgo.DefaultProduceTopic("run-other"), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("0")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	producer, epoch, err := cl.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func() int16 {
		t.Helper()
		m := kmsg.NewPtrEndTxnRequest()
		m.TransactionalID, m.ProducerID, m.ProducerEpoch, m.Commit = id, producer, epoch, true
		resp, err := m.RequestWith(t.Context(), cl)
		if err != nil {
			t.Fatal(err)
		}
		return resp.ErrorCode
	}
}

// TestTransactionalOffsets has records copied from topic to topic over switches, each transaction with the positions of what it read: each record is copied once. Who asks once more for a commit that was
// done before a switch is told that it was, and who asks for one of what was aborted by it is told that.
func TestTransactionalOffsets(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	for _, topic := range []string{"run-from", "run-to", "run-other"} {
		l.sites["eu"].Create(t, topic, partitions)
		l.sites["us"].Create(t, topic, partitions)
	}
	open := func(opts ...kgo.Opt) []kgo.Opt {
		return append(opts, kgo.SeedBrokers(strings.Split(l.bootstrap, ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100*time.Millisecond))
	}
	source, err := kgo.NewClient(open()...)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	session, err := kgo.NewGroupTransactSession(open(kgo.TransactionalID("copier"), kgo.ConsumerGroup("copiers"), kgo.ConsumeTopics("run-from"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(500*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	writing, stopWriting := context.WithCancel(t.Context())
	copying, stopCopying := context.WithCancel(t.Context())
	defer stopCopying()
	var (
		all     sync.WaitGroup
		c       copier
		errCopy error
		written int
		mu      sync.Mutex
		refused error
	)
	all.Go(func() {
		errCopy = c.run(copying, session, "run-to")
	})
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for ; writing.Err() == nil; time.Sleep(time.Second / rate) {
			source.Produce(context.Background(), &kgo.Record{Topic: "run-from", Partition: int32(written % partitions), Value: fmt.Append(nil, written)}, func(_ *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				refused = errors.Join(refused, err)
			})
			written++
		}
	}()
	time.Sleep(3 * time.Second)
	done, left := l.inTransaction(t, "done"), l.inTransaction(t, "left")
	if code := done(); code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	l.ready()
	for i := range node.Pick(2, 6) {
		to := []string{"us", "eu"}[i%2]
		if p := l.goes(l.nodes[i%len(l.nodes)], adminpb.SwitchKind_SWITCH_KIND_PLANNED, to); p.GetOutcome() != "committed" {
			t.Fatalf("%s: %s", p.GetOutcome(), p.GetWhy())
		}
		node.Until(t, 30*time.Second, "all are at "+to, func(ctx context.Context) error { return l.homeIs(ctx, to, int64(i+1)) })
		if i == 0 { // as if the answer to the first had been lost
			if code := done(); code != 0 {
				t.Errorf("what was committed is told to be not: %v", kerr.ErrorForCode(code))
			}
			if code := left(); code != kerr.TransactionAbortable.Code {
				t.Errorf("what was aborted is answered: %v", kerr.ErrorForCode(code))
			}
		}
		time.Sleep(5 * time.Second)
	}
	stopWriting()
	<-wrote
	if err := errors.Join(source.Flush(t.Context()), refused); err != nil {
		t.Fatal(err)
	}
	times := make(map[int64]int)
	node.Until(t, time.Minute, "all are copied", func(ctx context.Context) error {
		stored, err := l.stored(ctx, "run-to")
		if err != nil {
			return err
		}
		clear(times)
		for _, records := range stored {
			for _, r := range records {
				times[r.ID]++
			}
		}
		if len(times) < written {
			return fmt.Errorf("%d of %d records were copied", len(times), written)
		}
		return nil
	})
	stopCopying()
	all.Wait()
	if errCopy != nil {
		t.Error(errCopy)
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("record %d was copied %d times", id, n)
		}
	}
	t.Logf("%d records copied by %d transactions, %d more were aborted", written, c.ended, c.lost)
}
