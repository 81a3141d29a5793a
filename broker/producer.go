package broker

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Record is one record of the small producer and consumer.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64 // ms; 0 when producing = now
	Key       []byte
	Value     []byte
	Headers   []RecordHeader
}

// RecordHeader is one header of a record.
type RecordHeader struct {
	Key   string
	Value []byte
}

// ProducerOptions are those of the small producer.
type ProducerOptions struct {
	Compression     string        // none (also empty), gzip, snappy, lz4, zstd
	TransactionalID string        // empty = no transactions, idempotent
	ManualPartition bool          // Record.Partition is obeyed; otherwise the hash of the key, as Java's clients do it
	Linger          time.Duration // how long a batch waits for company
	MaxBatchBytes   int32         // 0 = kgo's, about 1 MB
	// Patient has it try again also where a connection ends before anything was read: else that is taken for a wrong setting of TLS or SASL, and records are given up.
	Patient bool
}

// Producer writes records to a cluster, acks = all, each once and in order within a partition. It is for state topics, demo,
// probes and drills: the mirror writes batches by [ProduceConn].
type Producer struct {
	client  *kgo.Client
	profile Profile
}

// codecs are the compressions by their Kafka names.
var codecs = map[string]func() kgo.CompressionCodec{
	"": kgo.NoCompression, "none": kgo.NoCompression, "gzip": kgo.GzipCompression,
	"snappy": kgo.SnappyCompression, "lz4": kgo.Lz4Compression, "zstd": kgo.ZstdCompression,
}

// Producer makes a producer with a client of its own. Nothing is dialled before the first record.
func (c *Cluster) Producer(o ProducerOptions) (*Producer, error) {
	codec, ok := codecs[o.Compression]
	if !ok {
		return nil, fmt.Errorf("make a producer for cluster %s: compression %q is none of none, gzip, snappy, lz4, zstd", c.profile.Name, o.Compression)
	}
	opts := append(clientOptions(c.profile, c.log),
		kgo.ProducerBatchCompression(codec()),
		kgo.ProducerLinger(o.Linger),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	)
	if o.TransactionalID != "" {
		opts = append(opts, kgo.TransactionalID(o.TransactionalID))
	} else {
		// A cancelled context ends the wait also while the cluster is away. The
		// client goes on in a new epoch, which fences what may still be on its way.
		opts = append(opts, kgo.AllowIdempotentProduceCancellation())
	}
	if o.ManualPartition {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if o.Patient {
		opts = append(opts, kgo.AlwaysRetryEOF())
	}
	if o.MaxBatchBytes > 0 {
		opts = append(opts, kgo.ProducerBatchMaxBytes(o.MaxBatchBytes))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("make a producer for cluster %s: %w", c.profile.Name, err)
	}
	return &Producer{client: client, profile: c.profile}, nil
}

// Produce writes the records and waits for all acks. What it returns are the records with their places; where the error is not
// nil, records without an ack have offset -1, and a record whose wait was ended by ctx may still be written.
func (p *Producer) Produce(ctx context.Context, recs ...Record) ([]Record, error) {
	out := make([]*kgo.Record, len(recs))
	for i := range recs {
		out[i] = toClient(&recs[i])
	}
	results := p.client.ProduceSync(ctx, out...)
	acked := make([]Record, len(recs))
	failed := map[*kgo.Record]bool{}
	var first error
	for _, r := range results {
		if r.Err != nil {
			failed[r.Record] = true
			first = cmp.Or(first, p.failed(r.Record, r.Err))
		}
	}
	for i, r := range out {
		acked[i] = fromClient(r)
		if failed[r] {
			acked[i].Offset = -1
		}
	}
	return acked, first
}

// failed says why a record was not written.
func (p *Producer) failed(r *kgo.Record, err error) error {
	err = p.profile.denied(p.profile.explainClient(err), "WRITE", "topic "+r.Topic)
	return fmt.Errorf("produce to cluster %s: %w", p.profile.Name, err)
}

// ProduceAsync writes a record and calls done with its place, or with why it was not written, from another goroutine; done may
// be nil and must not block. It waits while too much is buffered.
func (p *Producer) ProduceAsync(ctx context.Context, rec Record, done func(Record, error)) {
	p.client.Produce(ctx, toClient(&rec), func(r *kgo.Record, err error) {
		if done == nil {
			return
		}
		got := fromClient(r)
		if err != nil {
			got.Offset = -1
			err = p.failed(r, err)
		}
		done(got, err)
	})
}

// Flush waits until every record has its ack or its error.
func (p *Producer) Flush(ctx context.Context) error {
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush to cluster %s: %w", p.profile.Name, err)
	}
	return nil
}

// Begin starts a transaction.
func (p *Producer) Begin() error {
	if err := p.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction on cluster %s: %w", p.profile.Name, err)
	}
	return nil
}

// Commit writes what is buffered and commits the transaction.
func (p *Producer) Commit(ctx context.Context) error {
	if err := p.Flush(ctx); err != nil {
		return err
	}
	return p.end(ctx, kgo.TryCommit, "commit")
}

// Abort drops what is buffered and aborts the transaction.
func (p *Producer) Abort(ctx context.Context) error {
	if err := p.client.AbortBufferedRecords(ctx); err != nil {
		return fmt.Errorf("abort buffered records of cluster %s: %w", p.profile.Name, err)
	}
	return p.end(ctx, kgo.TryAbort, "abort")
}

func (p *Producer) end(ctx context.Context, how kgo.TransactionEndTry, what string) error {
	if err := p.client.EndTransaction(ctx, how); err != nil {
		return fmt.Errorf("%s a transaction on cluster %s: %w", what, p.profile.Name, err)
	}
	return nil
}

// Close ends the producer. What is not flushed is lost.
func (p *Producer) Close() { p.client.Close() }

func toClient(r *Record) *kgo.Record {
	k := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Offset: -1}
	if r.Timestamp != 0 {
		k.Timestamp = time.UnixMilli(r.Timestamp)
	}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return k
}

func fromClient(k *kgo.Record) Record {
	r := Record{
		Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Timestamp: k.Timestamp.UnixMilli(),
		Key: k.Key, Value: k.Value,
	}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, RecordHeader{Key: h.Key, Value: h.Value})
	}
	return r
}
