package mirror

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// fabricOf parses a fabric of the given links ("eu>us"); clusters are those named.
func fabricOf(t testing.TB, links ...string) *topology.Topology {
	t.Helper()
	var file strings.Builder
	file.WriteString("[fabric]\nname = \"test\"\n")
	seen := make(map[string]bool)
	for _, l := range links {
		from, to, _ := strings.Cut(l, ">")
		for _, c := range []string{from, to} {
			if !seen[c] {
				seen[c] = true
				fmt.Fprintf(&file, "[[cluster]]\nname = %q\nbootstrap = [\"127.0.0.1:%d\"]\n", c, 9000+len(seen))
			}
		}
	}
	for _, l := range links {
		from, to, _ := strings.Cut(l, ">")
		fmt.Fprintf(&file, "[[link]]\nfrom = %q\nto = %q\ntopics = [\"*\"]\n", from, to)
	}
	topo, err := topology.Parse("test.toml", []byte(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

// linkOf is a link that never reaches a cluster: for what needs no I/O.
func linkOf(t testing.TB, topo *topology.Topology, name string, cfg Config, now func() time.Time) *Link {
	t.Helper()
	clusters := make(map[string]*broker.Cluster)
	for _, c := range topo.Clusters {
		p, err := broker.NewProfile(c)
		if err != nil {
			t.Fatal(err)
		}
		b, err := broker.Open(p, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		clusters[c.Name] = b
	}
	for _, spec := range topo.Links {
		if spec.From+">"+spec.To != name {
			continue
		}
		l, err := NewLink(spec, cfg, Deps{Topology: topo, From: clusters[spec.From], To: clusters[spec.To],
			Log: slog.New(slog.DiscardHandler), Writer: "node/1", Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Fatalf("no link %s", name)
	return nil
}

// batchSpec describes a batch as a log holds it: records carry their own offsets,
// so that it may have holes.
type batchSpec struct {
	base, last int64 // offsets; last 0 = of the last record
	id         int64
	epoch      int16
	sequence   int32
	attributes int16
	records    []batch.Record
}

// rawBatch encodes a batch without compression, holes and all.
func rawBatch(s batchSpec) []byte {
	if n := len(s.records); n > 0 && s.last == 0 {
		s.last = s.records[n-1].Offset
	}
	b := kmsg.RecordBatch{FirstOffset: s.base, Magic: 2, Attributes: s.attributes, LastOffsetDelta: int32(s.last - s.base),
		ProducerID: s.id, ProducerEpoch: s.epoch, FirstSequence: s.sequence, NumRecords: int32(len(s.records)), FirstTimestamp: -1, MaxTimestamp: -1}
	for i, r := range s.records {
		if i == 0 {
			b.FirstTimestamp = r.Timestamp
		}
		b.MaxTimestamp = max(b.MaxTimestamp, r.Timestamp)
		k := kmsg.Record{OffsetDelta: int32(r.Offset - s.base), TimestampDelta64: r.Timestamp - b.FirstTimestamp, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		body := k.AppendTo(nil)[1:] // without the length, which was zero
		b.Records = append(binary.AppendVarint(b.Records, int64(len(body))), body...)
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// abortMarker is the control batch that ends an aborted transaction, or a committed one.
func abortMarker(at, id int64, commit bool) []byte {
	key := []byte{0, 0, 0, 0}
	if commit {
		key[3] = 1
	}
	return rawBatch(batchSpec{base: at, id: id, sequence: -1, attributes: 1<<4 | 1<<5, records: []batch.Record{{Offset: at, Key: key, Value: make([]byte, 6)}}})
}

// record makes a record whose content is unlike any other's.
func record(offset int64) batch.Record {
	return batch.Record{Offset: offset, Timestamp: 1_700_000_000_000 + offset, Key: fmt.Appendf(nil, "key-%d", offset%7), Value: fmt.Appendf(nil, "value-%d", offset)}
}

func records(from, n int64) (out []batch.Record) {
	for i := range n {
		out = append(out, record(from+i))
	}
	return out
}

func header(t testing.TB, raw []byte) batch.Header {
	t.Helper()
	h, err := batch.ParseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
