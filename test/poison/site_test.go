package poison

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
	"github.com/isthmus-project/isthmus/topology"
)

// site is a link from eu to us in a bubble, with a forger on either side.
type site struct {
	*fabric.Fabric
	t       *testing.T
	forgers map[string]*forger
	*running
	runs int
}

// running is one process.
type running struct {
	node  *fabric.Node
	paths map[string]*fabric.Path
}

// kill ends the process as kill -9 does.
func (r *running) kill() {
	for _, p := range r.paths {
		p.Cut()
	}
	r.node.Stop()
}

// newSite starts the clusters; the topic is made on both with these settings.
func newSite(t *testing.T, o fabric.Options, source, target map[string]string) *site {
	t.Helper()
	o.Clusters, o.Links = []string{"eu", "us"}, []string{"eu>us"}
	s := &site{t: t, Fabric: fabric.New(t, o), forgers: map[string]*forger{"eu": {}, "us": {}}}
	s.create("eu", source)
	s.create("us", target)
	return s
}

const topic = "orders"

func (s *site) create(cluster string, configs map[string]string) {
	s.t.Helper()
	settings := make(map[string]*string)
	for k, v := range configs {
		settings[k] = &v
	}
	s.admin(cluster, func(ctx context.Context, a *kadm.Client) error {
		_, err := a.CreateTopic(ctx, 2, 1, settings, topic)
		return err
	})
}

func (s *site) admin(cluster string, call func(context.Context, *kadm.Client) error) {
	s.t.Helper()
	c := s.Client(cluster)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	if err := call(s.t.Context(), kadm.NewClient(cl)); err != nil {
		s.t.Fatalf("ask %s: %v", cluster, err)
	}
}

// alter sets a setting of the topic.
func (s *site) alter(cluster, key, value string) {
	s.t.Helper()
	s.admin(cluster, func(ctx context.Context, a *kadm.Client) error {
		_, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
		return err
	})
}

// start runs the link as the process that the site asks.
func (s *site) start() { s.running = s.run() }

// run runs the link as another process.
func (s *site) run() *running {
	s.runs++
	paths := map[string]*fabric.Path{"eu": s.Path(), "us": s.Path()}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	node := s.Run(fmt.Sprintf("n%d", s.runs), func(d *mirror.SetDeps) {
		d.Log = log
		d.Open = func(c topology.Cluster) (*broker.Cluster, error) {
			p, err := broker.NewProfile(c)
			if err != nil {
				return nil, err
			}
			p.Dial = s.forgers[c.Name].over(paths[c.Name].Dial)
			return broker.Open(p, log)
		}
	})
	return &running{node, paths}
}

// stop ends everything.
func (s *site) stop() {
	s.node.Stop()
	s.Close()
	time.Sleep(2 * time.Second) // the forgers notice
}

// produce writes batches of records to a partition of eu, one request each.
func (s *site) produce(partition int32, batches ...[]*kgo.Record) {
	s.t.Helper()
	c := s.Client("eu")
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.ProducerBatchMaxBytes(16<<20), kgo.DefaultProduceTopic(topic))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	for _, b := range batches {
		for _, r := range b {
			r.Partition = partition
		}
		if err := cl.ProduceSync(s.t.Context(), b...).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// batchOf makes n records that tell their number.
func batchOf(from, n int) (out []*kgo.Record) {
	for i := from; i < from+n; i++ {
		out = append(out, &kgo.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "value-%d", i)})
	}
	return out
}

// read returns all records of a topic's partition.
func (s *site) read(cluster, topic string, partition int32) (out []broker.Record) {
	s.t.Helper()
	spec, _ := s.Topology.Cluster(cluster)
	p, err := broker.NewProfile(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	p.Dial = s.Dial
	c, err := broker.Open(p, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.ReadRange(s.t.Context(), topic, partition, 0, -1, true, func(r broker.Record) error { out = append(out, r); return nil }); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// letters returns what is in the dead-letter topic, one of each key, by first offset.
func (s *site) letters() (out []mirror.DeadLetter) {
	s.t.Helper()
	known := make(map[string]bool)
	for partition := range int32(4) {
		for _, r := range s.read("us", "__isthmus.deadletter", partition) {
			d, err := mirror.ParseDeadLetter(r)
			if err != nil {
				s.t.Fatal(err)
			}
			if !known[string(r.Key)] {
				known[string(r.Key)] = true
				out = append(out, d)
			}
		}
	}
	slices.SortFunc(out, func(a, b mirror.DeadLetter) int { return int(a.First - b.First) })
	return out
}

// pump is the state of a partition.
func (s *site) pump(partition int32) mirror.PumpStatus {
	for _, l := range s.node.Set.Status() {
		for _, f := range l.Flows {
			for _, p := range f.Pumps {
				if f.Topic == topic && p.Partition == partition {
					return p
				}
			}
		}
	}
	return mirror.PumpStatus{}
}

// until waits for something, in virtual time.
func (s *site) until(what string, most time.Duration, done func() bool) {
	s.t.Helper()
	for end := time.Now().Add(most); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: not within %s; %+v", what, most, s.node.Set.Status())
		}
	}
}

// copied reports whether a partition has nothing left to copy.
func (s *site) copied(partition int32, end int64) func() bool {
	return func() bool {
		p := s.pump(partition)
		return p.State == mirror.StateRunning && p.SourceNext == end
	}
}

// ledger is that of the link.
func (s *site) ledger() []mirror.LedgerEntry {
	s.t.Helper()
	entries, err := s.node.Set.Ledger("")
	if err != nil {
		s.t.Fatal(err)
	}
	return entries
}
