package verify

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// segment is the one segment of a partition, as a stopped broker left it.
type segment struct {
	dir     string
	batches [][]byte
}

func (s segment) path() string { return filepath.Join(s.dir, fmt.Sprintf("%020d.log", 0)) }

// readSegment reads the log of a partition of a stopped broker.
func readSegment(t *testing.T, data, topic string, partition int) segment {
	t.Helper()
	s := segment{dir: filepath.Join(data, fmt.Sprintf("%s-%d", topic, partition))}
	raw, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	for len(raw) > 0 {
		_, one, rest, err := batch.Next(raw)
		if err != nil {
			t.Fatalf("%s: %v", s.path(), err)
		}
		s.batches, raw = append(s.batches, slices.Clone(one)), rest
	}
	return s
}

// write puts the batches back. If they have other sizes now, the broker has to make its index anew.
func (s segment) write(t *testing.T, index bool) {
	t.Helper()
	if err := os.WriteFile(s.path(), slices.Concat(s.batches...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.index", "*.timeindex"} {
		files, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if index {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// find is the batch that holds an offset.
func (s segment) find(t *testing.T, offset int64) int {
	t.Helper()
	for i, raw := range s.batches {
		if h, err := batch.ParseHeader(raw); err == nil && offset <= h.LastOffset() {
			return i
		}
	}
	t.Fatalf("%s has no offset %d", s.path(), offset)
	return -1
}

// again encodes records in place of a batch: under its header, with their own offsets.
func again(t *testing.T, raw []byte, records []batch.Record) []byte {
	t.Helper()
	h, err := batch.ParseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	b := kmsg.RecordBatch{FirstOffset: h.BaseOffset, PartitionLeaderEpoch: h.LeaderEpoch, Magic: 2, LastOffsetDelta: max(h.LastOffsetDelta, int32(records[len(records)-1].Offset-h.BaseOffset)),
		ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, FirstSequence: h.BaseSequence, NumRecords: int32(len(records)), FirstTimestamp: records[0].Timestamp}
	for _, r := range records {
		b.MaxTimestamp = max(b.MaxTimestamp, r.Timestamp)
		k := kmsg.Record{OffsetDelta: int32(r.Offset - h.BaseOffset), TimestampDelta64: r.Timestamp - b.FirstTimestamp, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		body := k.AppendTo(nil)[1:] // without the length, which was zero
		b.Records = append(binary.AppendVarint(b.Records, int64(len(body))), body...)
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-12))
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

// change edits the record at an offset: its batch is encoded anew, and what comes after it moves by as many offsets as were added.
func (s segment) change(t *testing.T, offset int64, edit func(rs []batch.Record, i int) []batch.Record) {
	t.Helper()
	at := s.find(t, offset)
	records, err := batch.Decode(s.batches[at], 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	n := len(records)
	i := slices.IndexFunc(records, func(r batch.Record) bool { return r.Offset == offset })
	records = edit(records, i)
	s.batches[at] = again(t, s.batches[at], records)
	for _, raw := range s.batches[at+1:] {
		if more := len(records) - n; more > 0 {
			binary.BigEndian.PutUint64(raw, binary.BigEndian.Uint64(raw)+uint64(more))
		}
	}
}

// renumbered gives the records from i on offsets in a row.
func renumbered(rs []batch.Record, i int) []batch.Record {
	for ; i < len(rs); i++ {
		rs[i].Offset = rs[i-1].Offset + 1
	}
	return rs
}

// flipped has one bit of its last byte turned.
func flipped(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// plants are what is done to a log, each in a partition of its own, and the kind that a verification gives it.
var plants = []struct {
	name, kind string
	edit       func(rs []batch.Record, i int) []batch.Record
}{
	{"nothing", "", func(rs []batch.Record, i int) []batch.Record { return rs }},
	{"missing", "missing", func(rs []batch.Record, i int) []batch.Record { return slices.Delete(rs, i, i+1) }},
	{"doubled", "doubled", func(rs []batch.Record, i int) []batch.Record { return renumbered(slices.Insert(rs, i, rs[i]), i+1) }},
	{"swapped", "swapped", func(rs []batch.Record, i int) []batch.Record {
		j := i + 1
		if j == len(rs) {
			j = i - 1
		}
		rs[i], rs[j] = rs[j], rs[i]
		rs[i].Offset, rs[j].Offset = rs[j].Offset, rs[i].Offset
		return rs
	}},
	{"a byte of a key", "changed", func(rs []batch.Record, i int) []batch.Record { rs[i].Key = flipped(rs[i].Key); return rs }},
	{"a byte of a value", "changed", func(rs []batch.Record, i int) []batch.Record { rs[i].Value = flipped(rs[i].Value); return rs }},
	{"a byte of a header", "changed", func(rs []batch.Record, i int) []batch.Record {
		rs[i].Headers = slices.Clone(rs[i].Headers)
		rs[i].Headers[0].Key = string(flipped([]byte(rs[i].Headers[0].Key)))
		return rs
	}},
	{"a timestamp", "changed", func(rs []batch.Record, i int) []batch.Record { rs[i].Timestamp++; return rs }},
	{"a byte, and no checksum", "changed", nil},
}
