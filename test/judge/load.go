package judge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/checker"
)

// Client says how to reach a cluster as its clients do.
type Client struct {
	Name      string
	Bootstrap []string
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	// Identify tells records apart: uid and the cluster where the record was first
	// produced; nil = what Write put into the value.
	Identify func(r *kgo.Record) (uid, origin string)
}

func (c Client) options(extra ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(c.Bootstrap...), kgo.ClientID("judge"), kgo.RetryTimeout(2 * time.Minute)}
	if c.Dial != nil {
		opts = append(opts, kgo.Dialer(c.Dial))
	}
	return append(opts, extra...)
}

// Load is what one producer writes to one topic of one cluster.
type Load struct {
	Topic       string
	Partitions  int32
	Records     int    // how many; 0 = until ctx ends
	Rate        int    // records a second; 0 = as fast as it goes
	Size        int    // bytes of a value, at least its uid
	Compression string // none, gzip, snappy, lz4, zstd
	Keys        int    // how many different keys; default 1000
	Headers     bool   // some headers, also repeated and null ones
	Transaction int    // records per transaction; 0 = none; every fifth is aborted
	// TransactionalID is the name under which a broker fences an earlier producer; "" = one per topic and seed.
	TransactionalID string
	Timestamp       time.Time     // of the first record; zero = now
	Linger          time.Duration // larger batches
	BatchBytes      int32         // largest batch before compression; 0 = the client's own
	Seed            uint64
	// Life is how often the topic was made anew before: see [checker.Record].
	Life int32
}

// Log is what producers know of their records, by cluster.
type Log struct {
	mu      sync.Mutex
	entries map[string][]entry
}

type entry struct {
	record  checker.Record
	outcome checker.Outcome
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{entries: make(map[string][]entry)} }

// Acked counts the acknowledged records of a cluster.
func (l *Log) Acked(cluster string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries[cluster] {
		if e.outcome == checker.Acked {
			n++
		}
	}
	return n
}

// Add notes what the producer of a record knows of it.
func (l *Log) Add(c Client, r *kgo.Record, o checker.Outcome) {
	l.add(c.Name, entry{record: toChecker(c, r), outcome: o})
}

// Tell tells a truth what producers know.
func (l *Log) Tell(src *checker.Sources) error {
	return l.tell(src, func(_ string, r checker.Record) checker.Record { return r })
}

func (l *Log) tell(src *checker.Sources, named func(cluster string, r checker.Record) checker.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, es := range l.entries {
		for _, e := range es {
			if err := src.Produced(name, named(name, e.record), e.outcome); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Log) add(cluster string, es ...entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[cluster] = append(l.entries[cluster], es...)
}

var codecs = map[string]kgo.CompressionCodec{"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

// uid is "origin/producer/number"; it leads the value.
func uid(origin string, seed uint64, topic string, n int) string {
	return fmt.Sprintf("%s/%s-%d/%d", origin, topic, seed, n)
}

// Write produces the load and logs each outcome. It returns when the load is
// done or ctx ends, after all outcomes are known.
func Write(ctx context.Context, c Client, l Load, log *Log) error {
	opts := c.options(compression(l.Compression), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(l.Linger), kgo.MaxBufferedRecords(50_000))
	if l.BatchBytes > 0 {
		opts = append(opts, kgo.ProducerBatchMaxBytes(l.BatchBytes))
	}
	if l.Transaction > 0 {
		if l.TransactionalID == "" {
			l.TransactionalID = fmt.Sprintf("judge-%s-%d", l.Topic, l.Seed)
		}
		opts = append(opts, kgo.TransactionalID(l.TransactionalID))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("make a producer for %s: %w", c.Name, err)
	}
	defer cl.Close()
	if err := identify(ctx, cl); err != nil {
		return fmt.Errorf("make a producer for %s: %w", c.Name, err)
	}
	if l.Keys == 0 {
		l.Keys = 1000
	}
	w := &writer{client: cl, to: c, cluster: c.Name, load: l, log: log, rng: rand.New(rand.NewPCG(l.Seed, 7)), began: time.Now()}
	defer w.drain()
	for n := 0; l.Records == 0 || n < l.Records; n++ {
		if ctx.Err() != nil {
			break
		}
		if err := w.pace(ctx, n); err != nil {
			break
		}
		if err := w.one(n); err != nil {
			return err
		}
	}
	return w.end(true)
}

// identify has a client ask for its producer id before it has records: two of its connections that ask at once wait for each other at a mutex, which
// stops virtual time.
func identify(ctx context.Context, cl *kgo.Client) (err error) {
	for range 40 {
		if _, _, err = cl.ProducerID(ctx); err == nil || ctx.Err() != nil {
			return nil // when ctx ends, nothing is written
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(250 * time.Millisecond):
		}
	}
	return err
}

type writer struct {
	client  *kgo.Client
	to      Client
	cluster string
	load    Load
	log     *Log
	rng     *rand.Rand
	began   time.Time

	mu      sync.Mutex
	pending []entry // of the open transaction
	inTxn   bool
	txns    int
}

// pace keeps to the rate in steps of 10 ms.
func (w *writer) pace(ctx context.Context, n int) error {
	if w.load.Rate == 0 {
		return nil
	}
	due := w.began.Add(time.Duration(n) * time.Second / time.Duration(w.load.Rate))
	ahead := time.Until(due)
	if ahead < 10*time.Millisecond {
		return nil
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (w *writer) one(n int) error {
	if w.load.Transaction > 0 && !w.inTxn {
		if err := w.client.BeginTransaction(); err != nil {
			return fmt.Errorf("begin a transaction on %s: %w", w.cluster, err)
		}
		w.inTxn = true
	}
	r := w.record(n)
	w.client.Produce(context.Background(), r, func(r *kgo.Record, err error) {
		out := checker.Acked
		if err != nil {
			out = checker.InDoubt
		}
		e := entry{record: toChecker(w.to, r), outcome: out}
		e.record.Life = w.load.Life
		if w.load.Transaction > 0 {
			w.mu.Lock()
			w.pending = append(w.pending, e)
			w.mu.Unlock()
			return
		}
		w.log.add(w.cluster, e)
	})
	if w.load.Transaction > 0 && (n+1)%w.load.Transaction == 0 {
		return w.end(false)
	}
	return nil
}

// end ends the open transaction; every fifth is aborted.
func (w *writer) end(last bool) error {
	if !w.inTxn {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush %s: %w", w.cluster, err)
	}
	w.txns++
	commit := kgo.TryCommit
	if w.txns%5 == 0 {
		commit = kgo.TryAbort
	}
	err := w.client.EndTransaction(ctx, commit)
	w.inTxn = false
	w.mu.Lock()
	defer w.mu.Unlock()
	// A record without an ack leaves the whole transaction in doubt: the client
	// may end it as aborted and say nothing.
	doubt := err != nil || slices.ContainsFunc(w.pending, func(e entry) bool { return e.outcome == checker.InDoubt })
	for i := range w.pending {
		w.pending[i].record.Txn = fmt.Sprintf("%s/%s/%d/%d", w.cluster, w.load.TransactionalID, w.load.Seed, w.txns)
		switch {
		case doubt:
			w.pending[i].outcome = checker.InDoubt
		case commit == kgo.TryAbort:
			w.pending[i].outcome = checker.Aborted
		}
	}
	w.log.add(w.cluster, w.pending...)
	w.pending = nil
	if err != nil && !last {
		return fmt.Errorf("end a transaction on %s: %w", w.cluster, err)
	}
	return nil
}

func (w *writer) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_ = w.client.Flush(ctx) // outcomes still unknown stay in doubt, which is what they are
}

func (w *writer) record(n int) *kgo.Record {
	id := uid(w.cluster, w.load.Seed, w.load.Topic, n)
	value := make([]byte, 0, w.load.Size+len(id)+1)
	value = append(append(value, id...), ' ')
	for len(value) < w.load.Size {
		value = append(value, words[w.rng.IntN(len(words))]...)
	}
	r := &kgo.Record{Topic: w.load.Topic, Partition: int32(w.rng.IntN(int(w.load.Partitions))),
		Key: fmt.Appendf(nil, "key-%d", w.rng.IntN(w.load.Keys)), Value: value}
	if !w.load.Timestamp.IsZero() {
		r.Timestamp = w.load.Timestamp.Add(time.Duration(n) * time.Millisecond)
	}
	if w.load.Headers && n%3 == 0 {
		r.Headers = []kgo.RecordHeader{{Key: "trace", Value: []byte(id)}, {Key: "trace", Value: nil}, {Key: "", Value: []byte{}}}
	}
	return r
}

var words = []string{`{"order":`, `"customer":"4711",`, `"amount":12.50,`, `"currency":"EUR",`, `"state":"paid"}`, `"note":"leave at the door",`}

func toChecker(c Client, r *kgo.Record) checker.Record {
	headers := make([]checker.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = checker.Header{Key: h.Key, Value: h.Value}
	}
	ms := r.Timestamp.UnixMilli()
	if r.Timestamp.IsZero() {
		ms = -1 // a format without times
	}
	id, _, _ := strings.Cut(string(r.Value), " ")
	origin := originOf(id, c.Name)
	if c.Identify != nil {
		id, origin = c.Identify(r)
	}
	return checker.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: ms,
		TimestampType: max(0, r.Attrs.TimestampType()), UID: id, Origin: origin,
		Hash: checker.Hash(r.Key, r.Value, headers, ms)}
}

// originOf is the cluster that a uid names.
func originOf(id, otherwise string) string {
	if o, _, ok := strings.Cut(id, "/"); ok {
		return o
	}
	return otherwise
}
