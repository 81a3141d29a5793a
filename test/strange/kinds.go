package strange

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// codecs are all that Kafka has.
var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

var compression = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

// all is every kind; each is tried by itself with -run 'TestStrange/.*/NAME'.
func all() []kind {
	kinds := []kind{
		{name: "codecs", partitions: 2, write: everyCodec},
		{name: "odd", partitions: 2, source: []string{"retention.ms=-1", "message.timestamp.after.max.ms=9223372036854775807"}, write: odd},
		{name: "later", partitions: 1, source: []string{"retention.ms=-1", "message.timestamp.after.max.ms=300000000000000"}, write: odd},
		{name: "single", partitions: 2, write: single},
		{name: "transactions", partitions: 2, write: transactions, seen: openOnesEnd},
		{name: "appendtime", partitions: 2, source: []string{"message.timestamp.type=LogAppendTime"}, write: dated, seen: timesAreTheSources},
		{name: "switching", partitions: 1, write: switching, seen: timesAreTheSources},
		{name: "large", partitions: 1, source: []string{"max.message.bytes=16777216"}, write: large},
		{name: "split", partitions: 1, source: []string{"max.message.bytes=8388608"}, target: []string{"max.message.bytes=1000000"}, write: oversize},
		{name: "compacted", partitions: 1, source: cleaned, compacted: true, write: compacting, seen: noHorizons,
			target: []string{"cleanup.policy=compact", "min.compaction.lag.ms=604800000"}},
		{name: "table", partitions: 1, source: append([]string{"delete.retention.ms=100"}, cleaned...), table: true, write: compacting, seen: sameTable},
		{name: "far", partitions: 1, source: []string{"retention.ms=-1", "message.timestamp.after.max.ms=9223372036854775807"}, write: far, seen: farTimesAreKept},
		{name: "too-large", partitions: 2, source: []string{"max.message.bytes=8388608"}, target: []string{"max.message.bytes=1000000"},
			write: one(func(g *ground) *kgo.Record { return g.random(3 << 20) }), before: tooLarge},
		{name: "too-late", partitions: 2, source: []string{"message.timestamp.after.max.ms=9223372036854775807"},
			target: []string{"message.timestamp.after.max.ms=3600000"}, write: one(at(3 * time.Hour)), before: tooLate},
		{name: "too-early", partitions: 2, target: []string{"message.timestamp.before.max.ms=3600000"}, write: one(at(-3 * time.Hour)), before: tooEarly},
		{name: "stamped", partitions: 1, target: []string{"message.timestamp.type=LogAppendTime"}, write: everyCodec, sick: true, before: stamped},
		{name: "to-later", partitions: 1, target: []string{"compression.type=producer"}, write: recompressedLater},
	}
	for _, to := range []string{"gzip", "snappy", "lz4", "zstd", "uncompressed"} {
		kinds = append(kinds, kind{name: "to-" + to, partitions: 1, target: []string{"compression.type=" + to}, write: everyCodec})
	}
	return kinds
}

// everyCodec writes all codecs side by side, in batches small and large, and one batch that is a hundred times as large when it is
// unpacked: more than a target takes that unpacks it.
func everyCodec(g *ground, round int) {
	for i, codec := range codecs {
		g.load(judge.Load{Records: 400, Size: 60 + 100*i, Compression: codec, Headers: i%2 == 0,
			Linger: time.Duration(i*i) * 3 * time.Millisecond, Seed: uint64(10*round + i)})
		var records []*kgo.Record
		for range 40 {
			records = append(records, &kgo.Record{Value: []byte(g.uid() + " " + strings.Repeat("x", 50_000))})
		}
		if codec != "none" {
			g.put([]kgo.Opt{kgo.ProducerBatchCompression(compression[codec]), kgo.ProducerBatchMaxBytes(4 << 20)}, records...)
		}
	}
}

// recompressedLater has its target pack everything anew from the second round on, and the mirror does not know that yet.
func recompressedLater(g *ground, round int) {
	if round == roundLive {
		g.us.Alter(g, g.topic, "compression.type", "gzip")
	}
	for i, codec := range codecs {
		g.load(judge.Load{Records: 300, Size: 60 + 100*i, Compression: codec, Headers: i%2 == 0,
			Linger: time.Duration(i*i) * 3 * time.Millisecond, Seed: uint64(10*round + i)})
	}
}

// odd writes every combination of what a field may be, in large batches and alone.
func odd(g *ground, round int) {
	bytes := [][]byte{nil, {}, []byte("x"), {0}}
	h := func(key string, value []byte) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: value} }
	headers := [][]kgo.RecordHeader{nil, {h("a", nil)}, {h("a", []byte{})}, {h("", []byte("v"))}, {h("", nil)},
		{h("b", []byte("1")), h("a", []byte("2")), h("b", nil), h("b", []byte("1")), h("b", []byte{})}}
	now := time.Now().UnixMilli()
	times := []int64{-1, 0, 1, now, time.Date(2017, 1, 2, 3, 4, 5, 6e6, time.UTC).UnixMilli(), time.Date(2261, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()}
	var records []*kgo.Record
	for _, key := range bytes {
		for _, value := range bytes {
			for _, hs := range headers {
				for i, ms := range times {
					records = append(records, &kgo.Record{Partition: int32(i) % g.partitions, Key: key, Value: value, Timestamp: time.UnixMilli(ms),
						Headers: append(hs[:len(hs):len(hs)], h("uid", []byte(g.uid())))})
				}
			}
		}
	}
	rand.New(rand.NewPCG(uint64(round), 4)).Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	third := len(records) / 3
	g.put(nil, records[:third]...)
	g.put([]kgo.Opt{kgo.ProducerBatchCompression(kgo.ZstdCompression())}, records[third:2*third]...)
	g.put([]kgo.Opt{kgo.ProducerBatchMaxBytes(1 << 10)}, records[2*third:]...)
	// Nothing at all: told apart by nothing.
	g.put(nil, &kgo.Record{Timestamp: time.UnixMilli(-1)}, &kgo.Record{Timestamp: time.UnixMilli(0)}, &kgo.Record{Key: []byte{}, Timestamp: time.UnixMilli(0)})
}

// single writes thousands of batches of one record.
func single(g *ground, round int) {
	g.load(judge.Load{Records: 3000, Size: 700, BatchBytes: 1 << 10, Headers: true, Seed: uint64(round)})
}

// transactions writes several transactional producers at once, committed and aborted, beside plain ones. In the last round two
// transactions stay open.
func transactions(g *ground, round int) {
	var wg sync.WaitGroup
	for i, size := range []int{1, 7, 23, 60} {
		wg.Go(func() {
			l := judge.Load{Topic: g.topic, Partitions: g.partitions, Records: 150 + 4*size, Rate: 400, Size: 80, Compression: codecs[i], Transaction: size, Seed: uint64(100*round + i)}
			if err := judge.Write(g.Context(), client(g.eu), l, g.log); err != nil {
				g.Error(err)
			}
		})
	}
	wg.Go(func() {
		l := judge.Load{Topic: g.topic, Partitions: g.partitions, Records: 200, Rate: 300, Size: 80, Seed: uint64(100*round + 9)}
		if err := judge.Write(g.Context(), client(g.eu), l, g.log); err != nil {
			g.Error(err)
		}
	})
	wg.Wait()
	if round == roundDead {
		for i := range 2 {
			g.begin(fmt.Sprintf("%s-open-%d", g.topic, i))
		}
		g.load(judge.Load{Records: 100, Size: 80, Seed: uint64(100*round + 10)})
	}
}

// begin leaves a transaction open.
func (g *ground) begin(id string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.eu.Bootstrap()...), kgo.TransactionalID(id), kgo.TransactionTimeout(5*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		g.Fatal(err)
	}
	if err := cl.BeginTransaction(); err != nil {
		g.Fatal(err)
	}
	for i := range 40 {
		r := &kgo.Record{Topic: g.topic, Partition: int32(i) % g.partitions, Value: []byte(g.uid())}
		if err := cl.ProduceSync(g.Context(), r).FirstErr(); err != nil {
			g.Fatal(err)
		}
	}
	g.open = append(g.open, cl)
}

// openOnesEnd: what is copied ends before the transactions that are open, until one of them is aborted and the other committed.
func openOnesEnd(g *ground, l *life) {
	ends, err := g.eu.Ends(g.Context(), g.topic)
	if err != nil {
		g.Fatal(err)
	}
	for p, end := range ends[g.topic] {
		if at := l.flow(g.topic).Pumps[p].SourceNext; at >= end {
			g.Errorf("partition %d is copied up to %d of %d, although transactions are open there", p, at, end)
		}
	}
	for i, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := g.open[i].EndTransaction(g.Context(), end); err != nil {
			g.Fatal(err)
		}
		g.open[i].Close()
	}
	g.caughtUp(l)
}

// dated writes records of 2017 to a topic whose broker says when they came.
func dated(g *ground, round int) {
	g.load(judge.Load{Records: 500, Size: 100, Headers: true, Timestamp: time.Date(2017, 5, 1, 0, 0, 0, 0, time.UTC), Compression: codecs[round%5], Linger: time.Millisecond, Seed: uint64(round)})
	g.load(judge.Load{Records: 200, Size: 700, BatchBytes: 1 << 10, Seed: uint64(10 + round)})
}

// switching writes both kinds of time into one log.
func switching(g *ground, round int) {
	for i, kind := range []string{"LogAppendTime", "CreateTime"} {
		g.eu.Alter(g, g.topic, "message.timestamp.type", kind)
		g.load(judge.Load{Records: 100, Size: 100, Headers: true, Timestamp: time.Now().Add(-time.Hour), Compression: "lz4", Linger: time.Millisecond, Seed: uint64(10*round + i)})
	}
}

// random is a record that cannot be compressed, of about so many bytes.
func (g *ground) random(bytes int) *kgo.Record {
	rng := rand.NewChaCha8([32]byte{byte(g.number), byte(g.number >> 8)})
	id := g.uid() + " "
	value := make([]byte, bytes)
	_, _ = rng.Read(value) // never fails
	copy(value, id)
	return &kgo.Record{Value: value}
}

// large writes records and batches near the largest that both sides take.
func large(g *ground, _ int) {
	opts := []kgo.Opt{kgo.ProducerBatchMaxBytes(16 << 20)}
	g.put(opts, g.random(16<<20-200))
	g.put(opts, g.random(100))
	var records []*kgo.Record
	for range 15 {
		records = append(records, g.random(1<<20))
	}
	g.put(append(opts, kgo.ProducerBatchCompression(kgo.Lz4Compression())), records...)
	g.put(opts, g.random(100))
}

// overhead is what a batch of one record without key and headers has beside the value, if that is over 8 kB and under 2 MB.
const overhead = 61 + 3 + 1 + 1 + 1 + 1 + 3 + 1

// oversize writes batches that the target does not take as they are, of records that it takes: up to the last byte.
func oversize(g *ground, round int) {
	for i, codec := range codecs {
		var records []*kgo.Record
		for n := range 60 {
			records = append(records, g.random([]int{100, 70_000, 1, 150_000}[n%4]+200))
		}
		records = append(records, g.random(1_000_000-overhead))
		g.put([]kgo.Opt{kgo.ProducerBatchMaxBytes(8 << 20), kgo.ProducerBatchCompression(compression[codec]), kgo.ProducerLinger(20 * time.Millisecond)}, records...)
		g.load(judge.Load{Records: 50, Size: 100, Seed: uint64(10*round + i)})
	}
}

// timesAreTheSources wants the times that consumers see at the source, as times of the producer.
func timesAreTheSources(g *ground, _ *life) {
	times := func(s *node.Site) (ms []int64, appended int) {
		err := each(g.Context(), s, g.topic, func(r *kgo.Record) {
			ms = append(ms, r.Timestamp.UnixMilli())
			if r.Attrs.TimestampType() == 1 {
				appended++
			}
		})
		if err != nil {
			g.Fatal(err)
		}
		return ms, appended
	}
	want, appended := times(g.eu)
	got, restamped := times(g.us)
	if appended == 0 || restamped != 0 {
		g.Errorf("%d records at eu have the broker's time, want some; %d at us, want none: the mirror writes the visible time as the producer's", appended, restamped)
	}
	if fmt.Sprint(want) != fmt.Sprint(got) {
		g.Errorf("the times at us are not those that consumers see at eu")
	}
}

// each reads a topic from its start to its end as of now, partition by partition.
func each(ctx context.Context, s *node.Site, topic string, fn func(*kgo.Record)) error {
	ends, err := s.Admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(ends[topic])) {
		end := ends[topic][p]
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...), kgo.FetchMaxWait(100*time.Millisecond), kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {p: kgo.NewOffset().AtStart()}}))
		if err != nil {
			return err
		}
		for at := int64(0); at < end.Offset; {
			fetches := cl.PollFetches(ctx)
			if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
				cl.Close()
				return err
			}
			fetches.EachRecord(func(r *kgo.Record) {
				at = r.Offset + 1
				if !r.Attrs.IsControl() {
					fn(r)
				}
			})
		}
		cl.Close()
	}
	return nil
}
