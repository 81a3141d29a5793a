package brokers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

func TestMain(m *testing.M) { node.Main(m) }

// lab is the two clusters. Of three, the last broker stays alive.
type lab struct{ three, one *node.Site }

func newLab(t *testing.T) *lab {
	sites := node.StartSitesWith(t, kafka.Options{Name: "three", Brokers: 3, HeapMB: 320},
		kafka.Options{Name: "one", HeapMB: 320, Properties: map[string]string{"log.retention.check.interval.ms": "500"}})
	return &lab{sites["three"], sites["one"]}
}

// stage is one topic, mirrored by one set.
type stage struct {
	t               *testing.T
	from, to        *node.Site
	topic, neighbor string
	set             *mirror.Set
	metrics         *prometheus.Registry
	end             func()
	log             []checker.Produced
	life            int32
	cuts            []checker.Truncation
}

// stage makes the topics on the source and starts a mirror. The topic has its replicas on brokers 1 and 2 of a cluster of three and may lose
// what only one of them has; its neighbour is on the last broker alone.
func (l *lab) stage(t *testing.T, from, to *node.Site, name, policy string) *stage {
	t.Helper()
	s := &stage{t: t, from: from, to: to, topic: name, neighbor: name + "-neighbor"}
	for _, c := range []*node.Site{from, to} {
		replicas := [][]int32{{1}, {1}}
		if c == l.three {
			replicas = [][]int32{{1, 2}, {3}}
		}
		s.create(c, s.topic, replicas[0])
		s.create(c, s.neighbor, replicas[1])
	}
	text := fmt.Sprintf("[fabric]\nname = %q\n", name)
	for _, c := range []*node.Site{from, to} {
		text += fmt.Sprintf("[[cluster]]\nname = %q\nbootstrap = [\"%s\"]\n", c.Name, strings.Join(c.Bootstrap(), `", "`))
	}
	text += fmt.Sprintf("[[link]]\nname = \"l\"\nfrom = %q\nto = %q\ntopics = [\"%s*\"]\n%s\n", from.Name, to.Name, name, policy)
	topo, err := topology.Parse("lab.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s.run(topo)
	t.Cleanup(func() { s.end() })
	return s
}

// run starts a set, as another node would.
func (s *stage) run(topo *topology.Topology) {
	s.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(s.t.Output(), nil))
	}
	s.metrics = prometheus.NewRegistry()
	set, err := mirror.NewSet(mirror.Config{RefreshEvery: 500 * time.Millisecond, CheckpointEvery: 300 * time.Millisecond}, mirror.SetDeps{
		Topology: topo, Log: log, Metrics: mirror.NewMetrics(s.metrics, 100), Writer: fmt.Sprintf("n/%d", time.Now().UnixNano()),
		Open: func(c topology.Cluster) (*broker.Cluster, error) {
			p, err := broker.NewProfile(c)
			if err != nil {
				return nil, err
			}
			return broker.Open(p, log)
		}})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- set.Run(ctx) }()
	s.set, s.end = set, func() { cancel(); <-done }
}

// again is a new node in the old one's place.
func (s *stage) again() {
	topo := s.set.Topology()
	s.end()
	s.run(topo)
}

func (s *stage) context() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *stage) client(at *node.Site, opts ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(at.Bootstrap()...), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(), kgo.RecordRetries(50))...)
	if err != nil {
		s.t.Fatal(err)
	}
	return cl
}

// create makes a topic of one partition on these brokers, which may lose its end.
func (s *stage) create(at *node.Site, name string, replicas []int32) {
	s.t.Helper()
	at.CreateOn(s.t, name, [][]int32{replicas}, "min.insync.replicas=1", "unclean.leader.election.enable=true")
}

// words are "prefix-0" and so on.
func words(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%s-%d", prefix, i))
	}
	return out
}

// write puts words into the source, each in a batch of its own.
func (s *stage) write(topic string, at time.Time, words ...string) {
	s.t.Helper()
	cl := s.client(s.from)
	defer cl.Close()
	for _, w := range words {
		r := &kgo.Record{Topic: topic, Value: []byte(w), Timestamp: at}
		if err := cl.ProduceSync(s.context(), r).FirstErr(); err != nil {
			s.t.Fatalf("write %s: %v", w, err)
		}
		if topic == s.topic {
			s.log = append(s.log, checker.Produced{Cluster: s.from.Name, Record: s.record(r, s.life), Outcome: checker.Acked})
		}
	}
}

func (s *stage) record(r *kgo.Record, life int32) checker.Record {
	ms := r.Timestamp.UnixMilli()
	return checker.Record{Topic: r.Topic, Offset: r.Offset, Timestamp: ms, UID: string(r.Value), Life: life, Hash: checker.Hash(r.Key, r.Value, nil, ms)}
}

// read is what a cluster has of a topic now.
func (s *stage) read(at *node.Site, topic string) (out []*kgo.Record, err error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	ends, err := at.Ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	starts, err := at.Admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	first, _ := starts.Lookup(topic, 0)
	cl := s.client(at, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(first.Offset)}}), kgo.FetchMaxWait(100*time.Millisecond))
	defer cl.Close()
	for next := first.Offset; next < ends[topic][0]; {
		fs := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		fs.EachRecord(func(r *kgo.Record) { out, next = append(out, r), r.Offset+1 })
	}
	return out, nil
}

// holds waits until the target has exactly these words.
func (s *stage) holds(topic string, want ...string) {
	s.t.Helper()
	node.Until(s.t, time.Minute, fmt.Sprintf("%s holds %s", topic, want), func(context.Context) error {
		records, err := s.read(s.to, topic)
		var got []string
		for _, r := range records {
			got = append(got, string(r.Value))
		}
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("it holds %s; %s", got, s.said())
		}
		return err
	})
}

func (s *stage) pump() (p mirror.PumpStatus) {
	for _, l := range s.set.Status() {
		for _, f := range l.Flows {
			if f.Topic == s.topic && len(f.Pumps) > 0 {
				p = f.Pumps[0]
			}
		}
	}
	return p
}

func (s *stage) said() string {
	p := s.pump()
	return fmt.Sprintf("%s [%s] %s (next %d)", p.State, p.Cause, p.Reason, p.SourceNext)
}

// becomes waits for a state, which is to be seen within 15 seconds, also as a metric.
func (s *stage) becomes(state mirror.State, cause mirror.Cause, why ...string) {
	s.t.Helper()
	node.Until(s.t, 15*time.Second, fmt.Sprintf("the partition is %s by %s", state, cause), func(context.Context) error {
		if p := s.pump(); p.State != state || p.Cause != cause {
			return errors.New(s.said())
		}
		if got, err := s.metric(); err != nil || got != string(cause) {
			return errors.Join(fmt.Errorf("the metric says %q", got), err)
		}
		return nil
	})
	p := s.pump()
	for _, w := range why {
		if !strings.Contains(p.Reason, w) {
			s.t.Errorf("the reason %q does not say %q", p.Reason, w)
		}
	}
}

// metric is what isthmus_mirror_partition_cause says of the topic.
func (s *stage) metric() (cause string, err error) {
	all, err := s.metrics.Gather()
	for _, family := range all {
		if family.GetName() != "isthmus_mirror_partition_cause" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["topic"] == s.topic && m.GetGauge().GetValue() == 1 {
				cause = labels["cause"]
			}
		}
	}
	return cause, err
}

// goesOn writes to the neighbour and waits for the copy.
func (s *stage) goesOn(word string) {
	s.t.Helper()
	s.write(s.neighbor, time.Now(), word)
	node.Until(s.t, 10*time.Second, "the neighbour goes on", func(context.Context) error {
		records, err := s.read(s.to, s.neighbor)
		if err == nil && (len(records) == 0 || string(records[len(records)-1].Value) != word) {
			err = fmt.Errorf("%d records, without %s", len(records), word)
		}
		return err
	})
}

// ledger is what must be in it, as "reason first-last records policy".
func (s *stage) ledger(want ...string) {
	s.t.Helper()
	var got []string
	for _, e := range s.entries() {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %d-%d %d %s", e.Reason, e.First, e.Last, e.Records, e.Policy)))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("the ledger is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// entries are those of the topic: the ledger is that of all stages on the target.
func (s *stage) entries() []mirror.LedgerEntry {
	s.t.Helper()
	all, err := s.set.Ledger("")
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e mirror.LedgerEntry) bool { return e.Pump.Topic != s.topic })
}

// set changes the link's policy live.
func (s *stage) policy(change func(*topology.Policy)) {
	s.t.Helper()
	next := *s.set.Topology()
	next.Links = slices.Clone(next.Links)
	for i := range next.Links {
		change(&next.Links[i].Policy)
	}
	if err := s.set.Apply(s.context(), &next); err != nil {
		s.t.Fatal(err)
	}
}

// judged has the checker compare the target with what was produced and what the source has left.
func (s *stage) judged() {
	s.t.Helper()
	in := checker.Input{Produced: s.log, Truncated: s.cuts, Config: checker.Config{Cluster: s.to.Name, Complete: true}}
	lives := make(map[string]int32)
	for _, p := range s.log {
		lives[p.Record.UID] = p.Record.Life
	}
	left, err := s.read(s.from, s.topic)
	if err != nil {
		s.t.Fatal(err)
	}
	source := checker.Log{Cluster: s.from.Name}
	for _, r := range left {
		source.Records = append(source.Records, s.record(r, lives[string(r.Value)]))
	}
	in.Sources = []checker.Log{source}
	copies, err := s.read(s.to, s.topic)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range copies {
		c := s.record(r, 0)
		c.Origin = s.from.Name
		in.Target = append(in.Target, c)
	}
	for _, e := range s.entries() {
		for _, kind := range judge.Kinds(string(e.Reason), e.Records) {
			in.Ledger = append(in.Ledger, checker.Range{Cluster: s.from.Name, Topic: s.topic, First: e.First, Last: e.Last, Kind: kind})
		}
	}
	report, err := checker.Check(in)
	if err != nil {
		s.t.Fatal(err)
	}
	if !report.OK() {
		s.t.Errorf("%s", report)
	}
}

// unclean has the topic's leader take what is written in between with it: its follower is down meanwhile, and leads when both have died.
func (s *stage) unclean(at *node.Site, between func()) {
	s.t.Helper()
	at.Kill(1)
	node.Until(s.t, 40*time.Second, "the leader is alone", s.replica(at, func(p kadm.PartitionDetail) bool { return slices.Equal(p.ISR, []int32{1}) }))
	between()
	at.Kill(0)
	at.Start(1)
	node.Until(s.t, time.Minute, "its follower leads", func(ctx context.Context) error {
		err := s.replica(at, func(p kadm.PartitionDetail) bool { return p.Leader == 2 })(ctx)
		if err != nil {
			var one kadm.TopicsSet
			one.Add(s.topic, 0)
			_, elect := at.Admin.ElectLeaders(ctx, kadm.ElectLiveReplica, one)
			err = errors.Join(err, elect)
		}
		return err
	})
	at.Start(0)
}

// replica is an error while the topic's partition is not so.
func (s *stage) replica(at *node.Site, ok func(kadm.PartitionDetail) bool) func(context.Context) error {
	return func(ctx context.Context) error {
		all, err := at.Admin.ListTopics(ctx, s.topic)
		if err != nil {
			return err
		}
		if p := all[s.topic].Partitions[0]; !ok(p) {
			return fmt.Errorf("leader %d, in sync %v", p.Leader, p.ISR)
		}
		return nil
	}
}
