package strange

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
)

// The kinds of this file stop for a while: the target does not take them as it is set.

// stopped waits until partition 0 says a state and some words; partition 1 goes on.
func (g *ground) stopped(l *life, state mirror.State, words ...string) {
	g.Helper()
	node.Until(g, time.Minute, g.topic+" says "+strings.Join(words, ", "), func(ctx context.Context) error {
		f := l.flow(g.topic)
		if len(f.Pumps) == 0 || f.Pumps[0].State != state {
			return fmt.Errorf("it is %+v", f)
		}
		for _, w := range words {
			if !strings.Contains(f.Pumps[0].Reason, w) {
				return fmt.Errorf("it says %q, without %q", f.Pumps[0].Reason, w)
			}
		}
		return g.behind(ctx, l, 1)
	})
}

// one writes records to both partitions, and in the last round a sick one to partition 0, with others behind it.
func one(sick func(g *ground) *kgo.Record) func(*ground, int) {
	return func(g *ground, round int) {
		well := func() (out []*kgo.Record) {
			for i := range 20 {
				out = append(out, &kgo.Record{Partition: int32(i % 2), Value: []byte(g.uid())})
			}
			return out
		}
		g.put(nil, well()...)
		if round == roundDead {
			g.put([]kgo.Opt{kgo.ProducerBatchMaxBytes(8 << 20)}, sick(g))
			g.put(nil, well()...)
		}
	}
}

func tooLarge(g *ground, l *life) {
	// 10 records a round in partition 0, then the sick one, whose lengths take a byte more each.
	g.stopped(l, mirror.StateHalted, "too-large", "offset 30", fmt.Sprint(3<<20+overhead+2), "max.message.bytes", "1000000")
	g.us.Alter(g, g.topic, "max.message.bytes", "4194304")
}

func tooLate(g *ground, l *life) {
	g.stopped(l, mirror.StateHalted, "too-late", "offset 30", "message.timestamp.after.max.ms")
	g.us.Alter(g, g.topic, "message.timestamp.after.max.ms", "86400000")
}

func tooEarly(g *ground, l *life) {
	g.stopped(l, mirror.StateHalted, "too-early: the record at source offset", "raise message.timestamp.before.max.ms there")
	g.us.Alter(g, g.topic, "message.timestamp.before.max.ms", "9223372036854775807")
}

// at is a record so far from now.
func at(from time.Duration) func(g *ground) *kgo.Record {
	return func(g *ground) *kgo.Record {
		return &kgo.Record{Value: []byte(g.uid()), Timestamp: time.Now().Add(from)}
	}
}

// stamped: a target that gives every record its own time does not get any.
func stamped(g *ground, l *life) {
	node.Until(g, time.Minute, g.topic+" is blocked", func(context.Context) error {
		const want = "timestamp-type: topic s-stamped has message.timestamp.type LogAppendTime on the target, which would restamp every copy: set CreateTime there"
		if got := l.flow(g.topic).Blocked; got != want {
			return fmt.Errorf("it says %q, want %q", got, want)
		}
		return nil
	})
	g.us.Alter(g, g.topic, "message.timestamp.type", "CreateTime")
}

// farTimes are beyond what the client library of the suite can say (it counts nanoseconds).
var farTimes = []int64{253402300799999, 1 << 50, math.MaxInt64 / 2, -1, 0, math.MaxInt64}

// far writes raw batches with times up to the end of all numbers.
func far(g *ground, round int) {
	c, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: g.eu.Bootstrap(), ClientID: "far"}, nil)
	if err != nil {
		g.Fatal(err)
	}
	defer c.Close()
	m, err := c.Metadata(g.Context(), g.topic)
	if err != nil {
		g.Fatal(err)
	}
	conn, err := c.ProduceConn(g.Context(), m.Brokers[m.Topics[g.topic].Partitions[0].Leader])
	if err != nil {
		g.Fatal(err)
	}
	defer conn.Close()
	var all []batch.Record
	for i := range farTimes {
		all = append(all, batch.Record{Timestamp: farTimes[(i+round)%len(farTimes)], Value: []byte(g.uid())})
	}
	for _, records := range [][]batch.Record{all, all[:1], all[1:4]} {
		raw, err := batch.Encode(nil, records, batch.None, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
		if err != nil {
			g.Fatal(err)
		}
		b := broker.ProduceBatch{Topic: g.topic, TopicID: m.Topics[g.topic].ID, Bytes: raw}
		if err := conn.Send(g.Context(), []broker.ProduceBatch{b}); err != nil {
			g.Fatal(err)
		}
		results, err := conn.Recv(g.Context())
		if err != nil || results[0].Err != nil {
			g.Fatalf("write records of %v: %v, %v", records, results, err)
		}
	}
}

// farTimesAreKept reads the times with the protocol's own structures.
func farTimesAreKept(g *ground, _ *life) {
	times := func(s *node.Site) (out []int64) {
		c, err := broker.Open(broker.Profile{Name: s.Name, Bootstrap: s.Bootstrap(), ClientID: "far"}, nil)
		if err != nil {
			g.Fatal(err)
		}
		defer c.Close()
		frame, err := c.FetchOnce(g.Context(), g.topic, 0, 0, 1<<20, false)
		if err != nil {
			g.Fatal(err)
		}
		defer frame.Release()
		for raw := frame.Partitions[0].Batches; len(raw) > 12; {
			size := 12 + int(binary.BigEndian.Uint32(raw[8:]))
			var b kmsg.RecordBatch
			if err := b.ReadFrom(raw[:size]); err != nil {
				g.Fatal(err)
			}
			for rest := b.Records; len(rest) > 0; {
				n, used := binary.Varint(rest)
				var r kmsg.Record
				if err := r.ReadFrom(rest[:used+int(n)]); err != nil {
					g.Fatal(err)
				}
				out = append(out, b.FirstTimestamp+r.TimestampDelta64)
				rest = rest[used+int(n):]
			}
			raw = raw[size:]
		}
		return out
	}
	want, got := times(g.eu), times(g.us)
	if !slices.Equal(want, got) || !slices.Contains(want, math.MaxInt64) || len(want) != rounds*(len(farTimes)+4) {
		g.Errorf("the times at us are\n%v, want those of eu\n%v", got, want)
	}
}
