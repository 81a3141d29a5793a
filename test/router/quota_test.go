package router

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/topology"
)

// TestRouter_Quotas: clients of any number of connections write and read at the rate of their rule, and others as fast as ever.
func TestRouter_Quotas(t *testing.T) {
	const rate = 200_000
	quota := func(id string) topology.Quota {
		p, err := topology.ParsePattern(id)
		if err != nil {
			t.Fatal(err)
		}
		return topology.Quota{ClientIDs: topology.Patterns{p}, ProduceRate: rate, FetchRate: rate}
	}
	inWorld(t, 3, func(t *testing.T, w *world) {
		d := w.start(0, 1, func(c *router.Config) { c.Router.Quotas = []topology.Quota{quota("slow-*")} })
		time.Sleep(3 * time.Second)
		measure := func(id string, bytes int) (seconds float64) {
			t.Helper()
			cl := w.client([]int{0}, kgo.ClientID(id), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(50_000), kgo.MaxBufferedRecords(100),
				kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
			defer cl.Close()
			value := make([]byte, 10_000)
			write(t, cl, value, 10) // what comes first is known, and the burst is used
			begin := time.Now()
			write(t, cl, value, bytes/len(value))
			return time.Since(begin).Seconds()
		}
		const bytes = 6_000_000
		slow := make(chan float64)
		go func() { slow <- measure("slow-writer", bytes) }()
		if took := measure("fast", bytes); took > 5 {
			t.Errorf("a client without a quota took %.1f s", took)
		}
		wrote := <-slow
		if got := bytes / wrote; got < 0.9*rate || got > 1.1*rate {
			t.Errorf("written at %.0f bytes a second, want %d", got, rate)
		}
		readers := func(id string) float64 {
			in := w.client([]int{0}, kgo.ClientID(id), kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond),
				kgo.FetchMaxBytes(100_000), kgo.FetchMaxPartitionBytes(50_000))
			defer in.Close()
			begin, n := time.Now(), 0
			for n < bytes {
				fetched := in.PollFetches(t.Context())
				if err := fetched.Err(); err != nil {
					t.Error(err)
					return 0
				}
				fetched.EachRecord(func(r *kgo.Record) { n += len(r.Value) })
			}
			return float64(n) / time.Since(begin).Seconds()
		}
		if got := readers("fast"); got < 10*rate {
			t.Errorf("a client without a quota read %.0f bytes a second", got)
		}
		if got := readers("slow-reader"); got < 0.9*rate || got > 1.1*rate {
			t.Errorf("read at %.0f bytes a second, want %d", got, rate)
		}
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(router.NewMetrics(func() []*router.Router { return []*router.Router{d.router} }))
		if got := samples(t, registry)["throttled_seconds_total"]; got < 20 {
			t.Errorf("clients were told to wait for %v s in all", got)
		}
	})
}

// write writes records and waits for them.
func write(t *testing.T, cl *kgo.Client, value []byte, n int) {
	t.Helper()
	for i := range n {
		cl.Produce(context.Background(), &kgo.Record{Topic: "orders", Key: fmt.Append(nil, i), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		t.Error(err)
	}
}
