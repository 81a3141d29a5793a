package broker

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// BenchmarkFrame decodes an answer of partitions with batches of Java's default size and walks their headers.
func BenchmarkFrame(b *testing.B) {
	const partitions, perPartition = 16, 80
	raw, err := batch.Encode(nil, []batch.Record{{Value: bytes.Repeat([]byte("x"), 13000)}}, 0, batch.Stamp{})
	if err != nil {
		b.Fatal(err)
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 18
	rt := kmsg.NewFetchResponseTopic()
	rt.TopicID = topicID(1)
	s := idle(18)
	s.session.version = 18
	for p := range int32(partitions) {
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.Partition, rp.RecordBatches = p, bytes.Repeat(raw, perPartition)
		rt.Partitions = append(rt.Partitions, rp)
		s.Set(FetchPartition{Topic: "a", TopicID: topicID(1), Partition: p})
	}
	resp.Topics = append(resp.Topics, rt)
	src := answerBytes(resp)
	var pool framePool
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		s.session.answers++
		buf := pool.get(len(src))
		answer := fetchAnswer{parts: buf.parts, aborted: buf.aborted}
		if err := answer.decode(src, 18, s.find); err != nil {
			b.Fatal(err)
		}
		buf.parts, buf.aborted = answer.parts, answer.aborted
		f := newFrame(&pool, buf)
		batches := 0
		for _, p := range f.Partitions {
			for rest := p.Batches; len(rest) > 0; batches++ {
				if _, _, rest, err = batch.Next(rest); err != nil {
					b.Fatal(err)
				}
			}
		}
		if batches != partitions*perPartition {
			b.Fatal(batches)
		}
		f.Release()
	}
}

// BenchmarkProduce encodes requests of one batch for each of some partitions and writes them to a socket that is drained.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{13 << 10, 200 << 10} {
		b.Run(fmt.Sprintf("%dkB", size>>10), func(b *testing.B) {
			p := &ProduceConn{c: &Cluster{}, w: drained(b), signal: make(chan struct{}, 1)}
			p.w.versions = versions{keyProduce: {0, 13}}
			raw := make([]byte, size)
			var batches []ProduceBatch
			for i := range int32(16) {
				batches = append(batches, ProduceBatch{Topic: "a", TopicID: topicID(1), Partition: i, Bytes: raw})
			}
			b.SetBytes(int64(size * len(batches)))
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Send(b.Context(), batches); err != nil {
					b.Fatal(err)
				}
				p.pop()
			}
		})
	}
}

// drained is a wire to a socket whose other end throws everything away.
func drained(b *testing.B) *wire {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, conn, make([]byte, 1<<20))
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &wire{conn: conn, clientID: "me", done: make(chan struct{})}
}
