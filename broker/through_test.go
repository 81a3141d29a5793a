package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestThrough: the brokers are told without topics, each says what it speaks, and there is a way to each for others.
func TestThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(3, "orders"), kfake.ClusterID("real"))
		c := v.open(t)
		m, err := c.Brokers(t.Context())
		if err != nil || m.ClusterID != "real" || len(m.Brokers) != 2 || len(m.Topics) != 0 {
			t.Fatalf("%+v, %v", m, err)
		}
		for id, b := range m.Brokers {
			spoken, err := c.Versions(t.Context(), id)
			if err != nil || spoken[int16(kmsg.Produce)].Max < 9 || spoken[int16(kmsg.Fetch)].Max < spoken[int16(kmsg.Fetch)].Min {
				t.Errorf("broker %d: %v, %v", id, spoken, err)
			}
			conn, err := c.DialThrough(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
		began := time.Now()
		if _, err := c.Versions(t.Context(), 99); err == nil {
			t.Error("a broker that is none has versions")
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("that took %v", took)
		}
	})
}
