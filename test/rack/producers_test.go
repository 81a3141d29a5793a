package rack

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestProducersOf_ThreeBrokers: all partitions at once say what each says alone, also while a broker is dead and others have taken its place.
func TestProducersOf_ThreeBrokers(t *testing.T) {
	kafka.Require(t)
	eu := kafka.Start(t, kafka.Options{Name: "eu", Brokers: 3, HeapMB: 320})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := eu.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: eu.Bootstrap()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const many = 12
	all := make([]int32, many)
	if err := c.CreateTopic(ctx, "orders", many, 3, nil); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(eu.Bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for p := range int32(many) {
		all[p] = p
		for n := range p {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "orders", Partition: p, Value: fmt.Append(nil, n)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	same := func(ctx context.Context) error {
		got, err := c.ProducersOf(ctx, map[string][]int32{"orders": all, "none": {0}})
		if err != nil {
			return err
		}
		for p := range int32(many) {
			alone, err := c.Producers(ctx, "orders", p)
			if err != nil {
				return err
			}
			if p > 0 && (len(alone) != 1 || alone[0].LastSequence != p-1) || !reflect.DeepEqual(got["orders"][p], alone) {
				return fmt.Errorf("partition %d: %+v, alone %+v", p, got["orders"][p], alone)
			}
		}
		if len(got) != 1 {
			return errors.New("a topic is told of that there is not")
		}
		return nil
	}
	node.Until(t, 10*time.Second, "all partitions at once say what each says alone", same)
	eu.Kill(1)
	node.Until(t, time.Minute, "while one broker is dead", same)
}
