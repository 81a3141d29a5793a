package isolation

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
	"github.com/isthmus-project/isthmus/topology"
)

// lab is a link between two clusters of several brokers, with a path to each broker of its own.
type lab struct {
	*fabric.Fabric
	t     *testing.T
	node  *fabric.Node
	lines *lines

	mu    sync.Mutex
	paths map[string]*fabric.Path // by port
}

// setup is what a lab is made of.
type setup struct {
	settings   string // of the link
	topics     []string
	partitions int32
	brokers    int
	mirror     mirror.Config
}

// small are bounds that are soon reached.
var small = mirror.Config{LinkBytes: 6 << 20, FetchBytes: 1 << 20, FetchPartitionBytes: 128 << 10}

// in runs a test in a bubble, with a lab whose node is not started.
func in(t *testing.T, s setup, run func(*testing.T, *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := fabric.New(t, fabric.Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Settings: s.settings, Topics: s.topics,
			Partitions: s.partitions, Brokers: s.brokers, Mirror: s.mirror})
		defer f.Close()
		for _, topic := range s.topics { // as many for each broker
			for p := range s.partitions {
				for i, name := range []string{"eu", "us"} {
					if err := f.Clusters[name].MoveTopicPartition(topic, p, (p+int32(i)*p/int32(s.brokers))%int32(s.brokers)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		l := &lab{Fabric: f, t: t, paths: make(map[string]*fabric.Path), lines: &lines{}}
		defer func() {
			if l.node != nil {
				l.node.Stop()
			}
		}()
		run(t, l)
	})
}

// begin runs the link with a record in each partition of the topics; from then on every connection to the target takes so many bytes per
// second. Not before: kgo holds a mutex while it waits for its producer id, and a bubble's time stands still while somebody waits for that.
func (l *lab) begin(rate int, partitions int32, topics ...string) {
	l.t.Helper()
	for _, topic := range topics {
		l.fill(topic, upTo(partitions), 1, 100)
	}
	l.start()
	for _, topic := range topics {
		l.running(topic, int(partitions))
	}
	time.Sleep(3 * time.Second) // a checkpoint is written
	for id := range 3 {
		l.to("us", int32(id)).Slow(0, 0, rate)
	}
}

// start runs the link.
func (l *lab) start() {
	log := slog.New(l.lines)
	l.node = l.Run("n1", func(d *mirror.SetDeps) {
		d.Log = log
		d.Open = func(c topology.Cluster) (*broker.Cluster, error) {
			p, err := broker.NewProfile(c)
			if err != nil {
				return nil, err
			}
			p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				return l.path(address).Dial(ctx, network, address)
			}
			return broker.Open(p, log)
		}
	})
}

// path is the one to an address; brokers are told apart by their ports.
func (l *lab) path(address string) *fabric.Path {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.paths[port]
	if p == nil {
		p = l.Path()
		l.paths[port] = p
	}
	return p
}

// to is the path to one broker.
func (l *lab) to(cluster string, id int32) *fabric.Path {
	base := map[string]int{"eu": 9000, "us": 9010}[cluster]
	return l.path(fmt.Sprintf("127.0.0.1:%d", base+int(id)))
}

// fill writes batches of one record each to some partitions of the source.
func (l *lab) fill(topic string, partitions []int32, batches, size int) {
	l.t.Helper()
	c := l.Client("eu")
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(int32(size+1000)), kgo.MaxBufferedRecords(1<<20))
	if err != nil {
		l.t.Fatal(err)
	}
	defer cl.Close()
	value := make([]byte, size)
	for range batches {
		var all []*kgo.Record
		for _, p := range partitions {
			all = append(all, &kgo.Record{Topic: topic, Partition: p, Value: value})
		}
		if err := cl.ProduceSync(l.t.Context(), all...).FirstErr(); err != nil {
			l.t.Fatal(err)
		}
	}
}

func upTo(n int32) (all []int32) {
	for p := range n {
		all = append(all, p)
	}
	return all
}

// pumps are the partitions of a topic, in order.
func (l *lab) pumps(topic string) []mirror.PumpStatus {
	for _, link := range l.node.Set.Status() {
		for _, f := range link.Flows {
			if f.Topic == topic {
				return f.Pumps
			}
		}
	}
	return nil
}

// copied is how many records of each partition are on the target.
func (l *lab) copied(topic string) map[int32]int64 {
	out := make(map[int32]int64)
	for _, p := range l.pumps(topic) {
		out[p.Partition] = max(0, p.SourceNext)
	}
	return out
}

// until waits for a condition, in virtual time.
func (l *lab) until(most time.Duration, what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(most); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			for _, topic := range []string{"orders", "live", "late"} {
				for _, p := range l.pumps(topic) {
					l.t.Logf("%s:%d %s %s (%s) at %d of %d", topic, p.Partition, p.State, p.Cause, p.Reason, p.SourceNext, p.SourceEnd)
				}
			}
			l.t.Fatalf("not after %v: %s", most, what)
		}
	}
}

// run waits until all partitions of a topic run.
func (l *lab) running(topic string, partitions int) {
	l.t.Helper()
	l.until(30*time.Second, topic+" runs", func() bool {
		n := 0
		for _, p := range l.pumps(topic) {
			if p.State == mirror.StateRunning && p.SourceNext > 0 {
				n++
			}
		}
		return n == partitions
	})
}

// lines counts log lines.
type lines struct {
	mu  sync.Mutex
	all []line
}

type line struct {
	at            time.Time
	message, pump string
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *lines) WithGroup(string) slog.Handler                    { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	one := line{at: r.Time, message: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "pump" {
			one.pump = a.Value.String()
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
	return nil
}
