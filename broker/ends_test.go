package broker_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
)

// The ends of all partitions are told by their leaders, behind the last record of each; one that is not told is an error that names it.
func TestLogEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.SeedTopics(5, "orders", "bills"))
		c := v.open(t)
		fill(t, c, "orders", 1, 3)
		fill(t, c, "orders", 4, 7)
		fill(t, c, "bills", 0, 2)
		for range 3 { // epochs differ from partition to partition
			if err := v.fake.MoveTopicPartition("orders", 4, 2); err != nil {
				t.Fatal(err)
			}
			if err := v.fake.MoveTopicPartition("orders", 4, 0); err != nil {
				t.Fatal(err)
			}
		}
		got, err := c.LogEnds(t.Context(), "orders", "bills")
		if err != nil || !slices.Equal(got["orders"], []int64{0, 3, 0, 0, 7}) || !slices.Equal(got["bills"], []int64{2, 0, 0, 0, 0}) {
			t.Errorf("%v, %v", got, err)
		}
		if got, err := c.LogEnds(t.Context(), "orders", "nothing"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("of a topic that is not there: %v, %v", got, err)
		}
		if got, err := c.LogEnds(t.Context()); err != nil || len(got) != 0 {
			t.Errorf("of nothing: %v, %v", got, err)
		}
		if err := v.fake.RemoveNode(1); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := c.LogEnds(t.Context(), "orders"); err != nil && time.Since(began) > time.Minute {
			t.Errorf("a broker that went: %v after %v", err, time.Since(began))
		}
	})
}
