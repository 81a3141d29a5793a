package broker_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

func TestProduceConn_WritesInOrder(t *testing.T) {
	for name, opts := range map[string][]kfake.Opt{
		"newest":           nil,
		"3.0 without ids":  {old(kversion.V3_0_0())},
		"2.2 not flexible": {old(kversion.V2_2_0())},
		"1.0":              {old(kversion.V1_0_0())},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t, append(opts, kfake.SeedTopics(4, "a", "b"))...)
				writeInOrder(t, v.open(t))
			})
		})
	}
}

func writeInOrder(t *testing.T, c *broker.Cluster) {
	const requests, records = 5, 7
	b, _ := leader(t, c, "a", 0)
	type place struct {
		topic     string
		partition int32
	}
	var places []place
	ids := map[string]broker.TopicID{}
	for p := range int32(4) { // topics alternate, so that the request must group them
		for _, topic := range []string{"b", "a"} {
			pb, mt := leader(t, c, topic, p)
			if ids[topic] = mt.ID; pb.ID == b.ID {
				places = append(places, place{topic, p})
			}
		}
	}
	conn, err := c.ProduceConn(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := within(t, time.Minute)
	sent := make(chan error, 1)
	go func() {
		for r := range requests {
			var batches []broker.ProduceBatch
			for i, p := range places {
				raw := encode(t, records, batch.Stamp{ProducerID: 1<<62 + 5, Sequence: int32(r * records)})
				batches = append(batches, broker.ProduceBatch{Topic: p.topic, TopicID: ids[p.topic], Partition: p.partition, Bytes: raw, Token: r*100 + i})
			}
			if err := conn.Send(ctx, batches); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for r := range requests {
		results, err := conn.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(results) != len(places) {
			t.Fatalf("%d results", len(results))
		}
		for i, got := range results {
			if got.Err != nil || got.BaseOffset != int64(r*records) || got.Batch.Token != r*100+i || got.LogAppendTime != -1 {
				t.Errorf("request %d, batch %d: %+v", r, i, got)
			}
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		n := 0
		err := c.ReadRange(ctx, p.topic, p.partition, 0, -1, true, func(r broker.Record) error {
			if r.Offset != int64(n) {
				t.Errorf("offset %d at %d", r.Offset, n)
			}
			n++
			return nil
		})
		if err != nil || n != requests*records {
			t.Errorf("read %d of %v: %v", n, p, err)
		}
		f, err := c.FetchOnce(ctx, p.topic, p.partition, records, 1<<20, true)
		if err != nil {
			t.Fatal(err)
		}
		if n, next := count(t, f.Partitions[0].Batches); n != (requests-1)*records || next != requests*records {
			t.Errorf("fetched %d up to %d", n, next)
		}
		f.Release()
	}
}

func TestProduceConn_RefusalsAreResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(1, "a"))
		c := v.open(t)
		b, mt := leader(t, c, "a", 0)
		conn, err := c.ProduceConn(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, step := range []struct {
			sequence int32
			want     error
		}{{0, nil}, {5, kerr.OutOfOrderSequenceNumber}, {2, nil}, {0, nil}} {
			raw := encode(t, 2, batch.Stamp{ProducerID: 1 << 62, Sequence: step.sequence})
			if err := conn.Send(t.Context(), []broker.ProduceBatch{{Topic: "a", TopicID: mt.ID, Bytes: raw}}); err != nil {
				t.Fatal(err)
			}
			results, err := conn.Recv(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(results[0].Err, step.want) {
				t.Errorf("sequence %d: %v, want %v", step.sequence, results[0].Err, step.want)
			}
		}
	})
}
