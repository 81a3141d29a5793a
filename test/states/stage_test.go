package states

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
	"github.com/isthmus-project/isthmus/topology"
)

// One processor: see DESIGN.md, "Non-obvious", on timers in bubbles.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	m.Run()
}

// topic has the partition that goes wrong, and neighbour another one that must not notice.
const topic, neighbour = "orders", "payments"

// stage is one run: eu is mirrored to us, and each record is a word.
type stage struct {
	*fabric.Fabric
	t     *testing.T
	node  *fabric.Node
	data  string
	reg   *prometheus.Registry
	wrote int
}

// play runs a scenario in a bubble. policy are lines of the link.
func play(t *testing.T, policy string, fn func(s *stage)) {
	t.Helper()
	playWith(t, policy, mirror.Config{}, fn)
}

// playWith is play with another configuration of the mirror.
func playWith(t *testing.T, policy string, config mirror.Config, fn func(s *stage)) {
	t.Helper()
	data := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := fabric.New(t, fabric.Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{topic, neighbour}, On: []string{"eu"},
			Partitions: 1, Settings: policy, Data: data, Mirror: config, Verbose: testing.Verbose()})
		defer f.Close()
		s := &stage{Fabric: f, t: t, data: data}
		s.start("n1")
		defer func() { s.node.Stop() }()
		fn(s)
	})
}

// start runs a node; its metrics are its own.
func (s *stage) start(name string) {
	s.reg = prometheus.NewRegistry()
	s.node = s.Run(name, func(d *mirror.SetDeps) { d.Metrics = mirror.NewMetrics(s.reg, 100) })
}

// again ends the node and starts another one.
func (s *stage) again(name string) {
	s.node.Stop()
	s.start(name)
}

func (s *stage) client(cluster string, opts ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	c := s.Client(cluster)
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	if err != nil {
		s.t.Fatal(err)
	}
	return cl
}

// write puts words into the source, one batch each.
func (s *stage) write(topic string, words ...string) {
	s.t.Helper()
	s.writeTo("eu", topic, words...)
}

// writeTo is write for any cluster.
func (s *stage) writeTo(cluster, topic string, words ...string) {
	s.t.Helper()
	s.writeAt(cluster, topic, 0, words...)
}

// writeAt is write for any partition of any cluster.
func (s *stage) writeAt(cluster, topic string, partition int32, words ...string) {
	s.t.Helper()
	cl := s.client(cluster)
	defer cl.Close()
	for _, w := range words {
		if err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: topic, Partition: partition, Value: []byte(w)}).FirstErr(); err != nil {
			s.t.Fatalf("write %s: %v", w, err)
		}
	}
}

// words are "prefix-0" and so on.
func words(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%s-%d", prefix, i))
	}
	return out
}

// read is what a cluster has of a topic now; nil if it is not there.
func (s *stage) read(cluster, topic string) (out []string) {
	s.t.Helper()
	return s.readAt(cluster, topic, 0)
}

// readAt is read for any partition.
func (s *stage) readAt(cluster, topic string, partition int32) (out []string) {
	s.t.Helper()
	info := s.Clusters[cluster].PartitionInfo(topic, partition)
	if info == nil || info.HighWatermark == info.LogStartOffset {
		return nil
	}
	cl := s.client(cluster, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}), kgo.FetchMaxWait(100*time.Millisecond))
	defer cl.Close()
	for at := int64(0); at < info.HighWatermark; {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		fs := cl.PollFetches(ctx)
		cancel()
		if fs.NumRecords() == 0 {
			s.t.Fatalf("read %s of %s: nothing at %d of %d: %v", topic, cluster, at, info.HighWatermark, fs.Err())
		}
		fs.EachRecord(func(r *kgo.Record) { out, at = append(out, string(r.Value)), r.Offset+1 })
	}
	return out
}

// holds waits until the target has exactly these words.
func (s *stage) holds(topic string, want ...string) {
	s.t.Helper()
	s.until(time.Minute, fmt.Sprintf("%s holds %s", topic, want), func() (bool, string) {
		got := s.read("us", topic)
		return slices.Equal(got, want), strings.Join(got, " ") + "; " + s.said()
	})
	time.Sleep(3 * time.Second)
	if got := s.read("us", topic); !slices.Equal(got, want) {
		s.t.Errorf("%s holds %s a little later, want %s", topic, got, want)
	}
}

// until waits in virtual time.
func (s *stage) until(most time.Duration, what string, ok func() (bool, string)) {
	s.t.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(100 * time.Millisecond) {
		done, said := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %s: %s; %s", most, what, said)
		}
	}
}

// pump is what the node does with the partition.
func (s *stage) pump() (p mirror.PumpStatus) {
	for _, l := range s.node.Set.Status() {
		for _, f := range l.Flows {
			if f.Topic == topic && len(f.Pumps) > 0 {
				p = f.Pumps[0]
			}
		}
	}
	return p
}

func (s *stage) said() string {
	out := ""
	for _, l := range s.node.Set.Status() {
		for _, f := range l.Flows {
			out += f.Topic + " " + f.Blocked
			for _, p := range f.Pumps {
				out += fmt.Sprintf(" %s [%s] %s (next %d)", p.State, p.Cause, p.Reason, p.SourceNext)
			}
			out += "; "
		}
	}
	return out
}

// becomes waits for a state and its cause, which is to be seen within 15 seconds.
func (s *stage) becomes(state mirror.State, cause mirror.Cause, why ...string) {
	s.t.Helper()
	s.until(15*time.Second, fmt.Sprintf("the partition is %s by %s", state, cause), func() (bool, string) {
		p := s.pump()
		return p.State == state && p.Cause == cause, s.said()
	})
	p := s.pump()
	for _, w := range why {
		if !strings.Contains(p.Reason, w) {
			s.t.Errorf("the reason %q does not say %q", p.Reason, w)
		}
	}
	if cause == "" {
		return
	}
	if n := s.metric("isthmus_mirror_partition_cause", map[string]string{"cause": string(cause), "topic": topic}); n != 1 {
		s.t.Errorf("the metric of cause %s is %v", cause, n)
	}
}

// metric sums the series that have these labels.
func (s *stage) metric(name string, labels map[string]string) (sum float64) {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			has := make(map[string]string)
			for _, l := range m.GetLabel() {
				has[l.GetName()] = l.GetValue()
			}
			for k, v := range labels {
				if has[k] != v {
					continue series
				}
			}
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

// ledger is what must be in it, for the topic, as "reason first-last records".
func (s *stage) ledger(want ...string) {
	s.t.Helper()
	all, err := s.node.Set.Ledger("")
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %d-%d %d %s", e.Reason, e.First, e.Last, e.Records, e.Policy)))
		if e.Pump.Topic != topic || e.Link != "eu-us" || e.Detail == "" || e.Writer == "" || e.At.IsZero() {
			s.t.Errorf("entry %+v", e)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("the ledger is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// goesOn writes to the neighbour, and waits until that is copied; what was copied of a partition that runs is verified. Where an epoch was
// begun, kfake, which keeps one epoch per producer id for all partitions, makes the neighbour follow; real brokers do not.
func (s *stage) goesOn() {
	s.t.Helper()
	w := fmt.Sprintf("n-%d", s.wrote)
	s.wrote++
	s.write(neighbour, w)
	s.until(20*time.Second, "the neighbour goes on", func() (bool, string) {
		return slices.Contains(s.read("us", neighbour), w), s.said()
	})
	if s.pump().State == mirror.StateRunning {
		s.verified()
	}
}

// verified has both sides read again: whatever the partition went through, what is not the same on both sides is declared.
func (s *stage) verified() {
	s.t.Helper()
	r, err := s.node.Set.Verify(context.Background(), mirror.VerifyRequest{Link: "eu-us", Topic: topic, From: -1, To: -1, ByteRate: -1}, nil)
	if err != nil {
		s.t.Errorf("verify: %v", err)
		return
	}
	for _, p := range r.Partitions {
		if p.Difference != nil || p.Failed != "" {
			s.t.Errorf("%s:%d is not verified: %+v %s; notes %v", p.Topic, p.Partition, p.Difference, p.Failed, p.Notes)
		}
	}
}

// translated checks where a reader goes on.
func (s *stage) translated(source, want int64) {
	s.t.Helper()
	got, err := s.node.Set.Translate(context.Background(), "eu-us", topic, 0, source, false)
	if err != nil || got.Result != want {
		s.t.Errorf("source offset %d is target offset %d (%v), want %d", source, got.Result, err, want)
	}
}

// set changes the link's policy live.
func (s *stage) set(change func(*topology.Policy)) {
	s.t.Helper()
	next := *s.node.Set.Topology()
	next.Links = slices.Clone(next.Links)
	for i := range next.Links {
		change(&next.Links[i].Policy)
	}
	if err := s.node.Set.Apply(context.Background(), &next); err != nil {
		s.t.Fatal(err)
	}
}

// folder is where a cluster keeps a partition of the topic.
func folder(data string) string { return filepath.Join(data, "partitions", topic+"-0") }

// snapshot keeps what a cluster has of the topic now, for loses.
func (s *stage) snapshot(cluster string) (kept string) {
	s.t.Helper()
	kept = filepath.Join(s.data, fmt.Sprintf("kept-%d", time.Now().UnixNano()))
	s.Restart(cluster, func(data string) {
		if err := os.CopyFS(kept, os.DirFS(folder(data))); err != nil {
			s.t.Fatal(err)
		}
	})
	return kept
}

// elects gives the topic's partition a new leader epoch, as an election does.
func (s *stage) elects(cluster string) {
	s.t.Helper()
	if err := s.Clusters[cluster].MoveTopicPartition(topic, 0, 0); err != nil {
		s.t.Fatal(err)
	}
}

// loses makes a cluster have of the topic what it had then: it loses its end.
func (s *stage) loses(cluster, kept string) {
	s.t.Helper()
	s.Restart(cluster, func(data string) {
		if err := os.RemoveAll(folder(data)); err != nil {
			s.t.Fatal(err)
		}
		if err := os.CopyFS(folder(data), os.DirFS(kept)); err != nil {
			s.t.Fatal(err)
		}
	})
}

// recreate makes another topic of the same name in the place of the one that a cluster has.
func (s *stage) recreate(cluster string) {
	s.t.Helper()
	s.recreateWith(cluster, 1)
}

// recreateWith is recreate with so many partitions.
func (s *stage) recreateWith(cluster string, partitions int32) {
	s.t.Helper()
	c := s.Clusters[cluster]
	if err := c.DeleteTopic(topic); err != nil {
		s.t.Fatal(err)
	}
	if err := c.CreateTopic(topic, partitions, nil); err != nil {
		s.t.Fatal(err)
	}
}
