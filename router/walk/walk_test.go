package walk

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// wire is a message as the walker gets it: an answer has the tags of its header in front.
func wire(r *rand.Rand, key, version int16, answer bool, m message) []byte {
	var b []byte
	if answer && version >= []int16{9, 12}[key] {
		if b = append(b, 0); r.IntN(4) == 0 {
			b = append(b[:0], 1, 9, 2, 'h', 'i')
		}
	}
	return m.AppendTo(b)
}

// TestWalker_AgreesWithKmsg: what passes is what kmsg writes after the fields were changed in its structs, for every version, in pieces
// of any size.
func TestWalker_AgreesWithKmsg(t *testing.T) {
	var w Walker
	changed := 0
	each(t, 300, func(r *rand.Rand, key, version int16, answer bool, m message) {
		dropEndpoints(m)
		body := wire(r, key, version, answer, m)
		w.Reset(key, version, answer, len(body), patches())
		got, err := pass(&w, r, bytes.Clone(body))
		if err != nil {
			t.Fatalf("%s v%d, answer %v: %v\n%+v", kmsg.NameForKey(key), version, answer, err, m)
		}
		head := body[:len(body)-len(m.AppendTo(nil))]
		want := append(bytes.Clone(head), reference(m, version, patches())...)
		if !bytes.Equal(got, want) {
			at := 0
			for at < min(len(got), len(want)) && got[at] == want[at] {
				at++
			}
			t.Fatalf("%s v%d, answer %v: differs at byte %d of %d\n got % x\nwant % x\n%+v", kmsg.NameForKey(key), version, answer, at, len(want), got[at:min(at+40, len(got))], want[at:min(at+40, len(want))], m)
		}
		if !bytes.Equal(body, want) {
			changed++
		}
		if p, ok := m.(*kmsg.ProduceRequest); ok {
			if acks, known := w.Acks(); acks != p.Acks || !known {
				t.Fatalf("acks %d, %v, want %d", acks, known, p.Acks)
			}
		}
	})
	if changed < 1000 {
		t.Errorf("only %d messages were changed at all", changed)
	}
}

// TestWalker_Identity: with nothing to map and no epochs in it, every message passes byte for byte.
func TestWalker_Identity(t *testing.T) {
	var w Walker
	each(t, 300, func(r *rand.Rand, key, version int16, answer bool, m message) {
		dropEndpoints(m)
		reference(m, version, &Patch{}) // epochs
		body := wire(r, key, version, answer, m)
		w.Reset(key, version, answer, len(body), &Patch{})
		got, err := pass(&w, r, bytes.Clone(body))
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%s v%d, answer %v: %v\n got % x\nwant % x", kmsg.NameForKey(key), version, answer, err, got, body)
		}
	})
}

// TestWalker_HidesEndpoints: the addresses of new leaders (KIP-951) are not read by anybody any more.
func TestWalker_HidesEndpoints(t *testing.T) {
	seen := 0
	each(t, 100, func(r *rand.Rand, key, version int16, answer bool, m message) {
		if !answer || endpoints(m) == 0 || version < []int16{9, 16}[key] {
			return
		}
		body := m.AppendTo([]byte{0})
		var w Walker
		w.Reset(key, version, true, len(body), &Patch{})
		got, err := pass(&w, r, body)
		if err != nil {
			t.Fatal(err)
		}
		read := kmsg.ResponseForKey(key)
		read.SetVersion(version)
		if err := read.ReadFrom(got[1:]); err != nil {
			t.Fatal(err)
		}
		if n := endpoints(read); n > 0 {
			t.Fatalf("%s v%d: %d brokers are told", kmsg.NameForKey(key), version, n)
		}
		seen++
	})
	if seen < 50 {
		t.Errorf("only %d answers had endpoints", seen)
	}
}

// TestWalker_Malformed: a body that ends early, goes on too long, or claims counts that it has no bytes for is an error, at once and with
// the place in it.
func TestWalker_Malformed(t *testing.T) {
	var w Walker
	each(t, 20, func(r *rand.Rand, key, version int16, answer bool, m message) {
		body := wire(r, key, version, answer, m)
		for name, bad := range map[string][]byte{"short": body[:len(body)-1], "long": append(bytes.Clone(body), 0)} {
			w.Reset(key, version, answer, len(bad), &Patch{})
			if _, err := pass(&w, r, bytes.Clone(bad)); err == nil || !strings.HasPrefix(err.Error(), "walk: at topic") {
				t.Fatalf("%s v%d, answer %v, too %s: %v", kmsg.NameForKey(key), version, answer, name, err)
			}
		}
	})
	body := binary.BigEndian.AppendUint32([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 0}, 1<<31-1) // two thousand million topics
	w.Reset(0, 8, false, len(body), &Patch{})
	if _, err := w.Walk(body); err == nil {
		t.Error("topics that are not there were taken")
	}
	w.Reset(0, 8, false, 3, &Patch{})
	if _, err := w.Walk(body); err == nil {
		t.Error("bytes of the next frame were taken")
	}
}

// TestWalker_LongTopic: a name that is longer than Kafka allows passes, and nobody is told of it.
func TestWalker_LongTopic(t *testing.T) {
	for _, n := range []int{maxTopic, maxTopic + 1, 32767} {
		req := kmsg.NewPtrFetchRequest()
		req.SetVersion(12)
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic = strings.Repeat("x", n)
		topic.Partitions = []kmsg.FetchRequestTopicPartition{kmsg.NewFetchRequestTopicPartition()}
		before := topic
		before.Topic = "orders"
		req.Topics = append(req.Topics, before, topic)
		body := req.AppendTo(nil)
		var w Walker
		told := -1
		w.Reset(1, 12, false, len(body), &Patch{Offset: func(at Place, _ Field, offset int64) int64 { told = len(at.Topic); return offset }})
		if _, err := pass(&w, newRand(uint64(n)), body); err != nil || told != n%32767%(maxTopic+1) {
			t.Errorf("a name of %d bytes: told %d, %v", n, told, err)
		}
	}
}

func FuzzWalker(f *testing.F) {
	each(f, 2, func(r *rand.Rand, key, version int16, answer bool, m message) {
		f.Add(wire(r, key, version, answer, m), uint8(key), uint8(version), answer, uint64(1))
	})
	f.Fuzz(func(t *testing.T, body []byte, key, version uint8, answer bool, seed uint64) {
		k, v := int16(key%2), int16(version%19)
		if !Walkable(k, v) {
			t.Skip()
		}
		var w Walker
		w.Reset(k, v, answer, len(body), patches())
		whole := bytes.Clone(body)
		n, err := w.Walk(whole)
		if err == nil && n != len(body) {
			t.Fatalf("%d of %d bytes passed", n, len(body))
		}
		w.Reset(k, v, answer, len(body), patches())
		pieces, err2 := pass(&w, newRand(seed), bytes.Clone(body))
		if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(pieces, whole) {
			t.Fatalf("whole: %v, in pieces: %v\n% x\n% x", err, err2, whole, pieces)
		}
	})
}

func benchmark(b *testing.B, key, version int16, answer bool, m message, p *Patch) {
	var body []byte
	if answer && version >= 12 {
		body = append(body, 0)
	}
	body = m.AppendTo(body)
	var w Walker
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		w.Reset(key, version, answer, len(body), p)
		for i := 0; i < len(body); {
			n, err := w.Walk(body[i:min(len(body), i+64<<10)])
			if err != nil {
				b.Fatal(err)
			}
			i += n
		}
	}
}

func BenchmarkWalker_Fetch(b *testing.B) {
	r := newRand(3)
	for _, tc := range []struct {
		name             string
		partitions, size int
	}{{"1MB of 16kB", 64, 16 << 10}, {"1MB of 1kB", 1000, 1 << 10}, {"16kB of 1kB", 16, 1 << 10}} {
		resp := kmsg.NewPtrFetchResponse()
		resp.SetVersion(12)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = "payments"
		for range tc.partitions {
			p := kmsg.NewFetchResponseTopicPartition()
			p.RecordBatches = appendBatch(nil, r, tc.size)
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
		b.Run(tc.name, func(b *testing.B) {
			benchmark(b, 1, 12, true, resp, &Patch{Node: func(id int32) int32 { return id }})
		})
	}
}

func BenchmarkWalker_Produce(b *testing.B) {
	r := newRand(3)
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(9)
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "payments"
	for range 64 {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Records = appendBatch(nil, r, 16<<10)
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = append(req.Topics, topic)
	b.Run("as it is", func(b *testing.B) { benchmark(b, 0, 9, false, req, &Patch{}) })
	b.Run("restamped", func(b *testing.B) {
		benchmark(b, 0, 9, false, req, &Patch{Stamp: func(_ Place, h batch.Header) (batch.Stamp, bool) {
			return batch.Stamp{ProducerID: h.ProducerID ^ 1, Epoch: h.ProducerEpoch, Sequence: h.BaseSequence}, true
		}})
	})
}
