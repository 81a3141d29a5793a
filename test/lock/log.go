package lock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/test/node"
)

// client is the stamp of a producer without an id.
var client = batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1}

// rec is a record made of a few words: a key of its own, a value that holds the words, and the time of now.
func rec(words string) batch.Record {
	return batch.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("key-" + words), Value: []byte(words)}
}

// old dates records to 2017: the broker forgets their producer within a second or two.
func old(records ...batch.Record) []batch.Record {
	out := append([]batch.Record(nil), records...)
	for i := range out {
		out[i].Timestamp = time.Date(2017, 5, 1, 0, 0, 0, 0, time.UTC).UnixMilli() + int64(i)
	}
	return out
}

// recs makes a record of each word.
func recs(words ...string) (out []batch.Record) {
	for _, w := range words {
		out = append(out, rec(w))
	}
	return out
}

// numbered makes n records "prefix-0", "prefix-1", … whose values are padded to size bytes. Batches over 4 kB are not
// merged on their way, so that the target has the batches of the source.
func numbered(prefix string, n, size int) (out []batch.Record) {
	for i := range n {
		r := rec(fmt.Sprintf("%s-%d", prefix, i))
		r.Value = append(r.Value, strings.Repeat(".", max(0, size-len(r.Value)))...)
		out = append(out, r)
	}
	return out
}

// produce writes one batch, exactly as stamped, and returns the broker's answer. With the stamp [client] it is an ordinary producer's.
func (s *site) produce(t testing.TB, topic string, partition int32, stamp batch.Stamp, records ...batch.Record) broker.ProduceResult {
	t.Helper()
	raw, err := batch.Encode(nil, records, batch.None, stamp)
	if err != nil {
		t.Fatal(err)
	}
	return s.produceRaw(t, topic, partition, raw)
}

// produceRaw writes one batch of given bytes.
func (s *site) produceRaw(t testing.TB, topic string, partition int32, raw []byte) broker.ProduceResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := s.c.Metadata(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	leader := m.Topics[topic].Partitions[partition].Leader
	conn, err := s.c.ProduceConn(ctx, m.Brokers[leader])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := broker.ProduceBatch{Topic: topic, TopicID: m.Topics[topic].ID, Partition: partition, Bytes: raw}
	if err := conn.Send(ctx, []broker.ProduceBatch{b}); err != nil {
		t.Fatal(err)
	}
	results, err := conn.Recv(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

// write appends one batch of an ordinary producer and fails the test if the broker does not take it.
func (s *site) write(t testing.TB, topic string, records ...batch.Record) (base int64) {
	t.Helper()
	r := s.produce(t, topic, 0, client, records...)
	if r.Err != nil {
		t.Fatalf("write to %s on %s: %v", topic, s.name, r.Err)
	}
	return r.BaseOffset
}

// logged is one batch of a log.
type logged struct {
	batch.Header
	records []batch.Record // without those that are cleaned away
}

// values are the values of the records, cut to their first word.
func (l logged) values() (out []string) {
	for _, r := range l.records {
		out = append(out, word(r))
	}
	return out
}

// word is a record's value up to its padding.
func word(r batch.Record) string {
	if r.Value == nil {
		return string(r.Key) + "=null"
	}
	w, _, _ := strings.Cut(string(r.Value), "..")
	return w
}

func (l logged) String() string {
	return fmt.Sprintf("[%d–%d id %#x epoch %d seq %d: %s]", l.BaseOffset, l.LastOffset(), l.ProducerID, l.ProducerEpoch, l.BaseSequence, strings.Join(l.values(), " "))
}

// readLog reads a whole partition, batch by batch, control batches too.
func (s *site) readLog(t testing.TB, topic string, partition int32) []logged {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := s.tryLog(ctx, topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tryLog is readLog for waits.
func (s *site) tryLog(ctx context.Context, topic string, partition int32) (out []logged, err error) {
	start, err := s.c.ListOffsets(ctx, topic, partition, broker.Earliest, false)
	if err != nil {
		return nil, err
	}
	end, err := s.c.ListOffsets(ctx, topic, partition, broker.Latest, false)
	if err != nil {
		return nil, err
	}
	for at := start.Offset; at < end.Offset; {
		frame, err := s.c.FetchOnce(ctx, topic, partition, at, 8<<20, false)
		if err != nil {
			return nil, err
		}
		before := at
		for raw := frame.Partitions[0].Batches; len(raw) > 0; {
			h, one, rest, err := batch.Next(raw)
			if errors.Is(err, batch.ErrShort) {
				break
			}
			if err != nil {
				frame.Release()
				return nil, err
			}
			raw = rest
			if h.NextOffset() <= at {
				continue
			}
			records, err := batch.Decode(one, 64<<20)
			if err != nil {
				frame.Release()
				return nil, err
			}
			out, at = append(out, logged{h, records}), h.NextOffset()
		}
		frame.Release()
		if at == before {
			return out, nil // cleaned to the end
		}
	}
	return out, nil
}

// records are those of all batches that a consumer would be shown, in order.
func records(log []logged) (out []batch.Record) {
	for _, l := range log {
		if !l.Control() {
			out = append(out, l.records...)
		}
	}
	return out
}

// words are the values of the records, for messages.
func words(rs []batch.Record) string {
	var out []string
	for _, r := range rs {
		out = append(out, word(r))
	}
	if len(out) > 60 {
		out = append(append(out[:30:30], "…"), out[len(out)-30:]...)
	}
	return strings.Join(out, " ")
}

// unlike says where two lists of records differ, "" if nowhere. Offsets are not compared.
func unlike(got, want []batch.Record) string {
	for i := range max(len(got), len(want)) {
		if i < len(got) && i < len(want) && batch.Equal(got[i], want[i]) {
			continue
		}
		return fmt.Sprintf("record %d differs; %d records, want %d\n got: %s\nwant: %s", i, len(got), len(want), words(got), words(want))
	}
	return ""
}

// cleans writes fillers (key "filler") until the source's cleaner has passed: until gone says that the log is as wanted. The topic must have
// been made with cleaned settings.
func (s *site) cleans(t testing.TB, topic string, what string, done func([]logged) bool) {
	t.Helper()
	n, last := 0, time.Time{}
	node.Until(t, 60*time.Second, "the cleaner of "+s.name+" "+what, func(ctx context.Context) error {
		log, err := s.tryLog(ctx, topic, 0)
		if err != nil {
			return err
		}
		if done(log) {
			return nil
		}
		if time.Since(last) > 300*time.Millisecond { // longer than segment.ms: it rolls the segment
			f := rec(fmt.Sprintf("filler-%d", n))
			f.Key = []byte("filler")
			s.write(t, topic, f)
			n, last = n+1, time.Now()
		}
		return fmt.Errorf("the log is %v", log)
	})
}

// cleaned are the settings of a topic that is compacted as fast as it goes.
func cleaned() map[string]string {
	return map[string]string{"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01",
		"min.compaction.lag.ms": "0", "max.compaction.lag.ms": "500", "delete.retention.ms": "0"}
}

// holds reports whether the log has a record of that value.
func holds(log []logged, value string) bool {
	for _, r := range records(log) {
		if word(r) == value {
			return true
		}
	}
	return false
}
