package real

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
)

// mix is what is written to one topic of one cluster: every codec side by side, batches small and large, and transactions
// of which some are aborted as long as the rest is written.
type mix struct {
	topic      string
	partitions int32
	records    int // without the transactions'; 0 = until stop
	rate       int // records a second, without the transactions'
	seed       uint64
}

// loads spreads the mix over producers.
func (m mix) loads() []judge.Load {
	var out []judge.Load
	for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		out = append(out, judge.Load{Topic: m.topic, Partitions: m.partitions, Records: m.records / 5, Rate: m.rate / 5,
			Size: 60 + 40*i, Compression: codec, Headers: i%2 == 0, Linger: time.Duration(i*i) * 4 * time.Millisecond, Seed: m.seed + uint64(i)})
	}
	return out
}

// writing is a mix on its way into a cluster.
type writing struct {
	done   chan struct{} // closed when all of it has its outcome
	cancel context.CancelFunc
	mu     sync.Mutex
	errs   []error
}

// write starts a mix. It outlives kills of the cluster's broker.
func write(t testing.TB, c judge.Client, log *judge.Log, mixes ...mix) *writing {
	ctx, cancel := context.WithCancel(t.Context())
	w := &writing{done: make(chan struct{}), cancel: cancel}
	t.Cleanup(func() { cancel(); <-w.done })
	var plain, all sync.WaitGroup
	transactions, endTransactions := context.WithCancel(ctx)
	for _, m := range mixes {
		for _, l := range m.loads() {
			plain.Go(func() {
				if err := judge.Write(ctx, c, l, log); err != nil {
					w.fail(fmt.Errorf("producer %d: %w", l.Seed, err))
				}
			})
		}
		all.Go(func() { inTransactions(transactions, c, m, log) })
	}
	go func() {
		plain.Wait()
		endTransactions()
		all.Wait()
		close(w.done)
	}()
	return w
}

// inTransactions writes transactions until ctx ends. A kill of the broker may end a transactional producer for good; then
// the next one takes its place, and its uids.
func inTransactions(ctx context.Context, c judge.Client, m mix, log *judge.Log) {
	for life := uint64(0); ctx.Err() == nil; life++ {
		// The error says only that this producer is over; what became of its records is in the log.
		_ = judge.Write(ctx, c, judge.Load{Topic: m.topic, Partitions: m.partitions, Rate: max(50, m.rate/10), Size: 80, Compression: "lz4",
			Transaction: 23, TransactionalID: fmt.Sprintf("%s-%s-%d", c.Name, m.topic, m.seed), Seed: m.seed + 1000*(life+1)}, log)
	}
}

func (w *writing) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err)
}

// wait waits until all is written and has its outcome.
func (w *writing) wait(t testing.TB) {
	t.Helper()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.errs {
		t.Error(err)
	}
}

// stop ends the load and waits like wait.
func (w *writing) stop(t testing.TB) {
	t.Helper()
	w.cancel()
	w.wait(t)
}

// judged reads everything back and fails the test for every rule that was violated, and if an origin's records are not
// as many as were written.
func (s *setup) judged(log *judge.Log, topics []string, targets ...string) judge.Verdict {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	c := judge.Case{Topics: topics, Log: log, Targets: targets, Carries: func(target, origin, topic string) bool {
		return len(s.topo.Route(origin, target, topic)) > 0
	}}
	for _, site := range s.sites {
		c.Clusters = append(c.Clusters, site.client())
	}
	v, err := c.Check(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, r := range v.Reports {
		if r.Count(checker.Lost)+r.Pending > 0 || !r.OK() {
			s.t.Errorf("%s is not what it should be", name)
		}
	}
	s.t.Log(v)
	return v
}
