package isolation

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// delays are how long records took from the source to a reader of the target.
type delays struct {
	mu  sync.Mutex
	all []time.Duration
}

// reset returns the median and the 99th percentile of what came since the last reset, and how many those were.
func (d *delays) reset() (p50, p99 time.Duration, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n = len(d.all)
	if n == 0 {
		return 0, 0, 0
	}
	slices.Sort(d.all)
	p50, p99 = d.all[n/2], d.all[n*99/100]
	d.all = nil
	return p50, p99, n
}

// flow writes a record of so many bytes to each of the first partitions of a topic again and again, and measures how long they take, until stop.
func (l *lab) flow(topic string, partitions int32, size int, every time.Duration) (d *delays, stop func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	d = &delays{}
	var wg sync.WaitGroup
	client := func(cluster string, more ...kgo.Opt) *kgo.Client {
		c := l.Client(cluster)
		cl, err := kgo.NewClient(append(more, kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial))...)
		if err != nil {
			l.t.Fatal(err)
		}
		return cl
	}
	reader := client("us", kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	writer := client("eu", kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0))
	wg.Go(func() {
		for ctx.Err() == nil {
			reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				if r.Partition >= partitions {
					return
				}
				d.mu.Lock()
				d.all = append(d.all, time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))))
				d.mu.Unlock()
			})
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			for p := range partitions {
				value := make([]byte, size)
				binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano()))
				writer.Produce(ctx, &kgo.Record{Topic: topic, Partition: p, Value: value}, nil)
			}
			time.Sleep(every)
		}
	})
	return d, func() {
		cancel()
		wg.Wait()
		writer.Close()
		reader.Close()
	}
}

// Partitions that are far behind leave those that follow the source their latency, wherever both share something, and get most of what is
// left. Without lanes it is six seconds behind a narrow line, and one where a rate is kept.
func TestLanes_LiveGoesBeforeCatchUp(t *testing.T) {
	const live, late, size, every, rate = 6, 6, 1000, 100 * time.Millisecond, 600_000
	for name, tc := range map[string]struct {
		settings string
		narrow   string // the cluster whose brokers are behind narrow lines
		most     time.Duration
	}{
		"byte_rate":               {settings: "byte_rate = 600_000", most: 400 * time.Millisecond},
		"flow_byte_rate":          {settings: "flow_byte_rate = { \"*\" = 600_000 }", most: 400 * time.Millisecond},
		"the way from the source": {narrow: "eu", most: 2 * time.Second},
		"the way to the target":   {narrow: "us", most: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, setup{settings: tc.settings, topics: []string{"orders"}, partitions: live + late, brokers: 3, mirror: small}, func(t *testing.T, l *lab) {
				l.begin(0, live+late, "orders")
				for id := range int32(3) {
					if tc.narrow != "" {
						l.to(tc.narrow, id).Narrow(rate / 3)
					}
				}
				d, stop := l.flow("orders", live, size, every)
				defer stop()
				l.fill("orders", upTo(live + late)[live:], 100, 100_000)
				time.Sleep(10 * time.Second)
				d.reset()
				before := l.copied("orders")
				time.Sleep(30 * time.Second)
				p50, p99, n := d.reset()
				caught := int64(0)
				for p, now := range l.copied("orders") {
					if p >= live {
						caught += (now - before[p]) * 100_080 / 30
					}
				}
				t.Logf("%d records of those that follow: p50 %v, p99 %v; %d bytes/s of those that catch up", n, p50, p99, caught)
				if p99 > tc.most || n < live*280 {
					t.Errorf("of %d records that follow the 99th percentile is %v, want %d within %v", n, p99, live*280, tc.most)
				}
				if left := rate - live*(size+80)*int64(time.Second/every); caught < left/2 {
					t.Errorf("%d bytes/s are caught up, want half of the %d that are left at least", caught, left)
				}
			})
		})
	}
}
