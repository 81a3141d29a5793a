package node

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
)

// Mix is what is written to one topic of one cluster: every codec side by side, batches small and large, and transactions
// of which some are aborted as long as the rest is written.
type Mix struct {
	Topic      string
	Partitions int32
	Records    int // without the transactions'; 0 = until Stop
	Rate       int // records a second, without the transactions'
	Seed       uint64
	Keys       int  // how many different keys; default 1000
	Plain      bool // without transactions: the log has an offset for each record
	// Light is two producers that hardly compress. Where the race detector is on, the other codecs' pools keep nothing, and a
	// machine that is busy has records wait in their producers for seconds: that is not for suites that measure time.
	Light bool
	// Life is how often the topic was made anew before; At is the time of the first records, zero = now.
	Life int32
	At   time.Time
}

// loads spreads the mix over producers.
func (m Mix) loads() []judge.Load {
	var out []judge.Load
	codecs := []string{"none", "gzip", "snappy", "lz4", "zstd"}
	if m.Light {
		codecs = []string{"none", "snappy"}
	}
	for i, codec := range codecs {
		out = append(out, judge.Load{Topic: m.Topic, Partitions: m.Partitions, Records: m.Records / len(codecs), Rate: m.Rate / len(codecs),
			Size: 60 + 40*i, Compression: codec, Headers: i%2 == 0, Linger: time.Duration(i*i) * 4 * time.Millisecond, Seed: m.Seed + uint64(i), Keys: m.Keys,
			Life: m.Life, Timestamp: m.At})
	}
	return out
}

// Writing is a mix on its way into a cluster.
type Writing struct {
	done   chan struct{} // closed when all of it has its outcome
	cancel context.CancelFunc
	mu     sync.Mutex
	errs   []error
}

// Write starts a mix. It outlives kills of the cluster's broker.
func Write(t testing.TB, c judge.Client, log *judge.Log, mixes ...Mix) *Writing {
	ctx, cancel := context.WithCancel(t.Context())
	w := &Writing{done: make(chan struct{}), cancel: cancel}
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
		if !m.Plain {
			all.Go(func() { inTransactions(transactions, c, m, log) })
		}
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
func inTransactions(ctx context.Context, c judge.Client, m Mix, log *judge.Log) {
	for life := uint64(0); ctx.Err() == nil; life++ {
		// The error says only that this producer is over; what became of its records is in the log.
		_ = judge.Write(ctx, c, judge.Load{Topic: m.Topic, Partitions: m.Partitions, Rate: max(50, m.Rate/10), Size: 80, Compression: "lz4",
			Transaction: 23, Keys: m.Keys, TransactionalID: fmt.Sprintf("%s-%s-%d", c.Name, m.Topic, m.Seed), Seed: m.Seed + 1000*(life+1),
			Life: m.Life, Timestamp: m.At}, log)
	}
}

func (w *Writing) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err)
}

// Wait waits until all is written and has its outcome.
func (w *Writing) Wait(t testing.TB) {
	t.Helper()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.errs {
		t.Error(err)
	}
}

// Stop ends the load and waits like Wait.
func (w *Writing) Stop(t testing.TB) {
	t.Helper()
	w.cancel()
	w.Wait(t)
}

// Judged reads everything back and fails the test for every rule that was violated, and if an origin's records are not
// as many as were written.
func (s *Setup) Judged(log *judge.Log, topics []string, targets ...string) judge.Verdict {
	s.t.Helper()
	return s.JudgedAs(s.Case(log, topics, targets...))
}

// Case is what Judged judges, for suites that have to say more of it.
func (s *Setup) Case(log *judge.Log, topics []string, targets ...string) judge.Case {
	c := judge.Case{Topics: topics, Log: log, Targets: targets, Carries: func(target, origin, topic string) bool {
		return len(s.Topology.Route(origin, target, topic)) > 0
	}}
	for _, site := range s.Sites {
		c.Clusters = append(c.Clusters, site.Client())
	}
	return c
}

// JudgedAs is Judged for a case.
func (s *Setup) JudgedAs(c judge.Case) judge.Verdict {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	if c.Ways == nil {
		c.Ways = s.AgreedWays(c.Topics, s.running()...)
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
