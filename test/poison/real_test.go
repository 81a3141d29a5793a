package poison

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

// realKafka reports whether the tests on real brokers run in this process.
func realKafka() bool {
	return os.Getenv("ISTHMUS_KAFKA") == "1" || os.Getenv("ISTHMUS_REQUIRE_KAFKA") == "1"
}

// lab is a mirror in this process between two real clusters, with a forger before the source.
type lab struct {
	t      *testing.T
	eu, us *node.Site
	set    *mirror.Set
	reads  map[string]*broker.Cluster
}

const never = "9223372036854775807"

// realCase is a topic with a bad record at some source offsets.
type realCase struct {
	topic  string
	cause  mirror.Cause
	bad    []int64
	source []string // settings
	target []string // settings; none: the link makes the topic
	after  []string // settings of the source's topic, when it has its records
	spoil  func(records []*kgo.Record)
}

var realCases = []realCase{
	{topic: "p-null", cause: mirror.CauseNullKey, bad: []int64{13, 17}, after: []string{"cleanup.policy=compact", "min.compaction.lag.ms=3600000"},
		spoil: func(r []*kgo.Record) { r[3].Key, r[7].Key = nil, nil }},
	{topic: "p-large", cause: mirror.CauseLarge, bad: []int64{14}, target: []string{"max.message.bytes=20000"},
		spoil: func(r []*kgo.Record) { r[4].Value = noise(30_000) }},
	{topic: "p-late", cause: mirror.CauseLate, bad: []int64{11, 12}, source: []string{"message.timestamp.after.max.ms=" + never}, target: []string{"message.timestamp.after.max.ms=3600000"},
		spoil: func(r []*kgo.Record) {
			r[1].Timestamp, r[2].Timestamp = time.Now().Add(5*time.Hour), time.Now().Add(6*time.Hour)
		}},
	{topic: "p-early", cause: mirror.CauseEarly, bad: []int64{15}, target: []string{"message.timestamp.before.max.ms=3600000"},
		spoil: func(r []*kgo.Record) { r[5].Timestamp = time.Now().Add(-5 * time.Hour) }},
}

func (l *lab) write(site *node.Site, topic string, partition int32, batches ...[]*kgo.Record) {
	l.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(site.Bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	if err != nil {
		l.t.Fatal(err)
	}
	defer cl.Close()
	for _, b := range batches {
		for _, r := range b {
			r.Partition = partition
		}
		if err := cl.ProduceSync(l.t.Context(), b...).FirstErr(); err != nil {
			l.t.Fatalf("write to %s: %v", topic, err)
		}
	}
}

func (l *lab) read(site *node.Site, topic string, partition int32) (out []broker.Record) {
	l.t.Helper()
	err := l.reads[site.Name].ReadRange(l.t.Context(), topic, partition, 0, -1, true, func(r broker.Record) error { out = append(out, r); return nil })
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *lab) pump(topic string, partition int32) mirror.PumpStatus {
	for _, link := range l.set.Status() {
		for _, f := range link.Flows {
			for _, p := range f.Pumps {
				if f.Topic == topic && p.Partition == partition {
					return p
				}
			}
		}
	}
	return mirror.PumpStatus{}
}

func (l *lab) until(what string, topic string, partition int32, done func(p mirror.PumpStatus) bool) mirror.PumpStatus {
	l.t.Helper()
	node.Until(l.t, time.Minute, what, func(context.Context) error {
		if p := l.pump(topic, partition); !done(p) {
			return fmt.Errorf("%s:%d is %+v", topic, partition, p)
		}
		return nil
	})
	return l.pump(topic, partition)
}

// copied waits for everything but the bad records, and compares.
func (l *lab) copied(topic string, partition int32, end int64, bad []int64) {
	l.t.Helper()
	l.until("copied", topic, partition, func(p mirror.PumpStatus) bool { return p.State == mirror.StateRunning && p.SourceNext == end })
	var want, got []string
	for _, r := range l.read(l.eu, topic, partition) {
		if !slices.Contains(bad, r.Offset) {
			want = append(want, fmt.Sprintf("%s %d", r.Key, r.Timestamp))
		}
	}
	for _, r := range l.read(l.us, topic, partition) {
		got = append(got, fmt.Sprintf("%s %d", r.Key, r.Timestamp))
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("%s:%d on the target: %v, want %v", topic, partition, got, want)
	}
}

// newLab starts both clusters with the topics of the cases, and the mirror.
func newLab(t *testing.T) *lab {
	busy := map[string]string{"log.retention.check.interval.ms": "2000", "log.initial.task.delay.ms": "500"}
	sites := node.StartSitesWith(t, kafka.Options{Name: "eu", Properties: busy}, kafka.Options{Name: "us"})
	l := &lab{t: t, eu: sites["eu"], us: sites["us"], reads: make(map[string]*broker.Cluster)}
	for _, c := range realCases {
		l.eu.Create(t, c.topic, 1, c.source...)
		if c.target != nil {
			l.us.Create(t, c.topic, 1, c.target...)
		}
		bad := batchOf(10, 10)
		c.spoil(bad)
		l.write(l.eu, c.topic, 0, batchOf(0, 10), bad, batchOf(20, 10))
		l.alter(c.topic, c.after)
	}
	for topic, settings := range map[string][]string{"p-damaged": nil, "p-stuck": nil, "h-room": {"retention.ms=30000"}} {
		l.eu.Create(t, topic, 2, settings...)
		for partition := range int32(2) {
			l.write(l.eu, topic, partition, batchOf(0, 10), batchOf(10, 10), batchOf(20, 10))
		}
	}
	liar := &forger{serve: func(partition int32, raw []byte) []byte { // of partition 1 of p-stuck too: then nobody reads what it holds
		return damage(1, 10, func(b []byte) { b[len(b)-1] ^= 1 })(partition, raw)
	}}
	text := "[fabric]\nname = \"poison\"\n"
	for _, s := range []*node.Site{l.eu, l.us} {
		text += fmt.Sprintf("[[cluster]]\nname = %q\nbootstrap = [%q]\n", s.Name, s.Bootstrap()[0])
	}
	text += "[[link]]\nname = \"apart\"\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"p-*\"]\npoison = \"dead-letter\"\nstuck_after = \"3s\"\n"
	text += "[[link]]\nname = \"halts\"\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"h-*\"]\nheadroom = \"20s\"\n"
	topo, err := topology.Parse("poison.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	open := func(spec topology.Cluster, lying bool) (*broker.Cluster, error) {
		p, err := broker.NewProfile(spec)
		if err != nil {
			return nil, err
		}
		if lying {
			p.Dial = liar.over((&net.Dialer{}).DialContext)
		}
		return broker.Open(p, slog.New(slog.DiscardHandler))
	}
	for _, c := range topo.Clusters {
		if l.reads[c.Name], err = open(c, false); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.reads[c.Name].Close)
	}
	l.set, err = mirror.NewSet(mirror.Config{}, mirror.SetDeps{Topology: topo, Log: slog.New(slog.DiscardHandler), Writer: "n1/1",
		Open: func(spec topology.Cluster) (*broker.Cluster, error) { return open(spec, spec.Name == "eu") }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *lab) alter(topic string, settings []string) {
	l.t.Helper()
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		if _, err := l.eu.Admin.AlterTopicConfigs(l.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic); err != nil {
			l.t.Fatal(err)
		}
	}
}

// TestReal_WhatKafkaRefuses: what real brokers refuse is put aside, record by record, with its cause, and everything else is copied; what
// retention is about to delete and a transaction that hangs are warned of.
func TestReal_WhatKafkaRefuses(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	l.until("headroom warned of", "h-room", 1, func(p mirror.PumpStatus) bool {
		return p.State == mirror.StateHalted && strings.Contains(p.Reason, "the source's retention reaches offset 10")
	})
	if p := l.pump("h-room", 1); p.Headroom <= 0 || p.Headroom > 20*time.Second || p.Cause != mirror.CausePoison {
		t.Errorf("h-room:1 is %+v, want it halted, with some seconds of headroom left", p)
	}
	starts, err := l.eu.Admin.ListStartOffsets(t.Context(), "h-room")
	if at, _ := starts.Lookup("h-room", 1); err != nil || at.Offset != 0 {
		t.Errorf("the source's log begins at %+v, %v when it is warned of: want the warning before the loss", at, err)
	}
	for _, c := range realCases {
		l.copied(c.topic, 0, 30, c.bad)
	}
	l.copied("p-damaged", 0, 30, nil)
	l.copied("p-damaged", 1, 30, batchOffsets(10))
	l.entries(t)
	l.hangs(t)
}

func batchOffsets(from int64) (out []int64) {
	for at := from; at < from+10; at++ {
		out = append(out, at)
	}
	return out
}

// entries compares ledger and letters.
func (l *lab) entries(t *testing.T) {
	t.Helper()
	entries, err := l.set.Ledger("apart")
	if err != nil {
		t.Fatal(err)
	}
	listed, letters := make(map[string][]int64), make(map[string][]int64)
	for _, e := range entries {
		cause, _, _ := strings.Cut(e.Detail, ":")
		for at := e.First; at <= e.Last; at++ {
			listed[e.Pump.Topic+" "+cause] = append(listed[e.Pump.Topic+" "+cause], at)
		}
	}
	for partition := range int32(4) {
		for _, r := range l.read(l.us, "__isthmus.deadletter", partition) {
			d, err := mirror.ParseDeadLetter(r)
			if err != nil {
				t.Fatal(err)
			}
			for at := d.First; at <= d.Last; at++ {
				letters[d.Pump.Topic+" "+d.Cause] = append(letters[d.Pump.Topic+" "+d.Cause], at)
			}
		}
	}
	want := map[string][]int64{"p-damaged poison": batchOffsets(10), "p-stuck poison": batchOffsets(10)}
	for _, c := range realCases {
		want[c.topic+" "+string(c.cause)] = c.bad
	}
	for what, offsets := range want {
		slices.Sort(listed[what])
		slices.Sort(letters[what])
		if !slices.Equal(listed[what], offsets) || !slices.Equal(slices.Compact(letters[what]), offsets) {
			t.Errorf("%s: ledger %v, letters %v, want %v", what, listed[what], letters[what], offsets)
		}
	}
	if len(listed) != len(want) {
		t.Errorf("the ledger is about %v, want %v", listed, want)
	}
}

// hangs leaves a transaction open.
func (l *lab) hangs(t *testing.T) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.eu.Bootstrap()...), kgo.TransactionalID("left-open"), kgo.TransactionTimeout(10*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "p-stuck", Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	l.write(l.eu, "p-stuck", 0, batchOf(31, 5))
	id, epoch, err := cl.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p := l.until("a stuck transaction named", "p-stuck", 0, func(p mirror.PumpStatus) bool {
		return p.Stuck && strings.Contains(p.Reason, fmt.Sprintf("producer id %d epoch %d", id, epoch))
	})
	t.Logf("named after %s", time.Since(began))
	if p.State != mirror.StateRunning || p.Cause != mirror.CauseStuck || !strings.Contains(p.Reason, `transactional id "left-open"`) || !strings.Contains(p.Reason, "from offset 30") {
		t.Errorf("p-stuck:0 is %+v, want it running, and the transaction named", p)
	}
	if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	l.until("going on", "p-stuck", 0, func(p mirror.PumpStatus) bool { return p.SourceNext >= 37 && !p.Stuck && p.Cause == "" })
}
