package isolation

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// feed keeps so many batches of one record each ahead of what a partition has copied, until stop.
func (l *lab) feed(topic string, partition int32, ahead int64, size int) (stop func()) {
	l.t.Helper()
	c := l.Client("eu")
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(int32(size+1000)), kgo.ProducerLinger(0))
	if err != nil {
		l.t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	value := make([]byte, size)
	go func() {
		defer close(ended)
		for written := l.copied(topic)[partition]; ; {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
			for ; written < l.copied(topic)[partition]+ahead; written++ {
				if err := cl.ProduceSync(l.t.Context(), &kgo.Record{Topic: topic, Partition: partition, Value: value}).FirstErr(); err != nil {
					l.t.Errorf("feed %s:%d: %v", topic, partition, err)
					return
				}
			}
		}
	}()
	return func() {
		close(end)
		<-ended
		cl.Close()
	}
}

// One partition of large batches, of which there is always one more to send, leaves its neighbours on the same connection what they need. It
// follows as they do: a little behind, never so far that it would be put elsewhere. Small batches are merged where they wait; larger ones had
// one in each request, beside a megabyte, and took seven seconds.
func TestLanes_AHotPartitionLeavesItsNeighboursTheirRate(t *testing.T) {
	const cold, every, rate, large, seconds = 20, 100 * time.Millisecond, 2_000_000, 1_000_000, 20
	for name, size := range map[string]int{"small": 1000, "too large to be merged": 5000} {
		t.Run(name, func(t *testing.T) {
			in(t, setup{topics: []string{"orders"}, partitions: cold + 1, brokers: 1}, func(t *testing.T, l *lab) {
				l.begin(0, cold+1, "orders")
				l.to("us", 0).Narrow(rate)
				d, stop := l.flow("orders", cold, size, every)
				defer stop()
				time.Sleep(5 * time.Second)
				p50, p99, _ := d.reset()
				t.Logf("without it: p50 %v, p99 %v", p50, p99)
				defer l.feed("orders", cold, 4, large)()
				time.Sleep(10 * time.Second)
				d.reset()
				before := l.copied("orders")
				time.Sleep(seconds * time.Second)
				p50, p99, n := d.reset()
				after := l.copied("orders")
				want := int64(seconds * time.Second / every)
				least := want
				for p := range int32(cold) {
					least = min(least, after[p]-before[p])
				}
				hot := (after[cold] - before[cold]) * large / seconds
				t.Logf("beside it: p50 %v, p99 %v of %d; %d of %d records of the slowest; %d bytes/s of the hot one", p50, p99, n, least, want, hot)
				if least < want*95/100 {
					t.Errorf("a neighbour of a hot partition copies %d records in %d s, want %d", least, seconds, want)
				}
				if most := 2 * time.Second * large / rate; p99 > most { // that of two large batches
					t.Errorf("the 99th percentile of its neighbours is %v, want %v at the most", p99, most)
				}
				if left := rate - cold*int64(size+80)*int64(time.Second/every); hot < left/2 {
					t.Errorf("the hot partition copies %d bytes/s, want half of the %d that are left at least", hot, left)
				}
			})
		})
	}
}
