package lock

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// site is a real cluster under the name it has in the topologies.
type site struct {
	*kafka.Cluster
	name     string
	c        *broker.Cluster // the test's own way to it, without a path in between
	admin    *kadm.Client
	replicas int // of the topics that are made there
}

// siteProperties are those of both clusters.
var siteProperties = map[string]string{
	"producer.id.expiration.check.interval.ms": "1000",
	"log.cleaner.backoff.ms":                   "200",
	"log.cleaner.threads":                      "1",
	"group.coordinator.threads":                "1",
	"log.message.timestamp.after.max.ms":       "9223372036854775807",
	"log.retention.ms":                         "-1", // records of 2017 stay
}

// pair is the clusters of the package, and who is told about their troubles: the test that runs.
type pair struct {
	mu      sync.Mutex
	now     testing.TB
	cleanup []func()
	dirs    []string
	eu, us  *site
}

var shared pair

// sites returns the clusters, started with the first call. The test is skipped where real Kafka is off.
func sites(t testing.TB) (eu, us *site) {
	t.Helper()
	kafka.Require(t)
	shared.mu.Lock()
	shared.now = t
	started := shared.eu != nil
	shared.mu.Unlock()
	if !started {
		all := startSites(&lasting{TB: t, pair: &shared}, "eu", "us")
		shared.eu, shared.us = all[0], all[1]
	}
	for _, s := range []*site{shared.eu, shared.us} {
		s.ready(t) // a test before this one may have failed with a broker down
	}
	return shared.eu, shared.us
}

// startSites starts clusters of these names for as long as t lasts.
func startSites(t testing.TB, names ...string) (out []*site) {
	t.Helper()
	var options []kafka.Options
	for _, name := range names {
		options = append(options, kafka.Options{Name: name, HeapMB: 384, Properties: maps.Clone(siteProperties)})
	}
	for i, c := range kafka.StartAll(t, options...) {
		out = append(out, newSite(t, c, names[i]))
	}
	return out
}

func newSite(t testing.TB, c *kafka.Cluster, name string) *site {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	b, err := broker.Open(broker.Profile{Name: name, Bootstrap: c.Bootstrap(), ClientID: "test"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &site{c, name, b, kadm.NewClient(cl), 1}
}

// ready waits until the cluster answers.
func (s *site) ready(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// create makes a topic with settings, and waits until the broker takes writes for it.
func (s *site) create(t testing.TB, topic string, partitions int, settings map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.c.CreateTopic(ctx, topic, partitions, s.replicas, settings); err != nil {
		t.Fatal(err)
	}
	node.Until(t, 20*time.Second, "topic "+topic+" is ready on "+s.name, func(ctx context.Context) error {
		for p := range partitions {
			if _, err := s.c.ListOffsets(ctx, topic, int32(p), broker.Latest, false); err != nil {
				return err
			}
		}
		return nil
	})
}

// alter sets one setting of a topic.
func (s *site) alter(t testing.TB, topic, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	res, err := s.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err == nil {
		_, err = res.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		t.Fatalf("set %s of topic %s on %s: %v", key, topic, s.name, err)
	}
}

// deleteTopic deletes a topic and waits until the cluster says so too.
func (s *site) deleteTopic(t testing.TB, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := s.admin.DeleteTopic(ctx, topic); err != nil {
		t.Fatalf("delete topic %s on %s: %v", topic, s.name, err)
	}
	node.Until(t, 20*time.Second, "topic "+topic+" is gone from "+s.name, func(ctx context.Context) error {
		m, err := s.c.Metadata(ctx)
		if _, there := m.Topics[topic]; err == nil && there {
			err = fmt.Errorf("it is still there")
		}
		return err
	})
}

// deleteRecords moves the start of a partition's log to offset, as DeleteRecords does.
func (s *site) deleteRecords(t testing.TB, topic string, partition int32, offset int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var o kadm.Offsets
	o.AddOffset(topic, partition, offset, -1)
	res, err := s.admin.DeleteRecords(ctx, o)
	if err == nil {
		res.Each(func(r kadm.DeleteRecordsResponse) {
			if err == nil {
				err = r.Err
			}
		})
	}
	if err != nil {
		t.Fatalf("delete records of %s:%d on %s before %d: %v", topic, partition, s.name, offset, err)
	}
}

// end is the end of a partition's log.
func (s *site) end(t testing.TB, topic string, partition int32) int64 {
	t.Helper()
	var end int64
	node.Until(t, 20*time.Second, fmt.Sprintf("%s tells the end of %s:%d", s.name, topic, partition), func(ctx context.Context) error {
		p, err := s.c.ListOffsets(ctx, topic, partition, broker.Latest, false)
		end = p.Offset
		return err
	})
	return end
}

// knows returns what the broker remembers of a producer id on a partition; false if nothing.
func (s *site) knows(ctx context.Context, topic string, partition int32, id int64) (broker.ProducerState, bool, error) {
	all, err := s.c.Producers(ctx, topic, partition)
	for _, p := range all {
		if p.ID == id {
			return p, true, err
		}
	}
	return broker.ProducerState{}, false, err
}

// forgets waits until the broker has forgotten a producer id. It does so within a second or two after the last write if
// the records it was last used with are older than a day.
func (s *site) forgets(t testing.TB, topic string, partition int32, id int64) {
	t.Helper()
	node.Until(t, 20*time.Second, fmt.Sprintf("%s forgets producer id %#x", s.name, id), func(ctx context.Context) error {
		p, known, err := s.knows(ctx, topic, partition, id)
		if known {
			err = fmt.Errorf("it still has %+v", p)
		}
		return err
	})
}

// loses takes everything out of the mirror's state that names a topic.
func (s *site) loses(t testing.TB, topic string) {
	t.Helper()
	for _, of := range []string{"__isthmus.checkpoints", "__isthmus.map"} {
		for part := range int32(4) {
			for _, r := range records(s.readLog(t, of, part)) {
				if !bytes.Contains(r.Key, []byte(topic)) || r.Value == nil {
					continue
				}
				if r := s.produce(t, of, part, client, batch.Record{Timestamp: time.Now().UnixMilli(), Key: r.Key}); r.Err != nil {
					t.Fatalf("write to %s on %s: %v", of, s.name, r.Err)
				}
			}
		}
	}
}

// lasting is a testing.TB for what outlives the test that began it. Troubles are those of the test that runs then.
type lasting struct {
	testing.TB
	pair *pair
}

func (l *lasting) current() testing.TB {
	l.pair.mu.Lock()
	defer l.pair.mu.Unlock()
	return l.pair.now
}

// Cleanup runs f at the end of all tests.
func (l *lasting) Cleanup(f func()) {
	l.pair.mu.Lock()
	defer l.pair.mu.Unlock()
	l.pair.cleanup = append(l.pair.cleanup, f)
}

// TempDir is deleted at the end of all tests.
func (l *lasting) TempDir() string {
	dir, err := os.MkdirTemp("", "isthmus-lock-")
	if err != nil {
		l.Fatal(err)
	}
	l.pair.mu.Lock()
	defer l.pair.mu.Unlock()
	l.pair.dirs = append(l.pair.dirs, dir)
	return dir
}

// Helper, Errorf, Logf, Fatal and Failed are those of the test that runs.
func (l *lasting) Helper()                        { l.current().Helper() }
func (l *lasting) Errorf(format string, a ...any) { l.current().Errorf(format, a...) }
func (l *lasting) Logf(format string, a ...any)   { l.current().Logf(format, a...) }
func (l *lasting) Fatal(a ...any)                 { l.current().Fatal(a...) }
func (l *lasting) Fatalf(format string, a ...any) { l.current().Fatalf(format, a...) }
func (l *lasting) Failed() bool                   { return l.current().Failed() }

// Context ends with the test that runs.
func (l *lasting) Context() context.Context { return l.current().Context() }

// closeAll ends the clusters of the package.
func (p *pair) closeAll() {
	p.mu.Lock()
	p.now = quiet{}
	todo := p.cleanup
	p.mu.Unlock()
	for i := len(todo) - 1; i >= 0; i-- {
		todo[i]()
	}
	for _, dir := range p.dirs {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// quiet takes the troubles of the end, when no test runs any more.
type quiet struct{ testing.TB }

func (quiet) Helper()                        {}
func (quiet) Errorf(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }
func (quiet) Logf(string, ...any)            {}
func (quiet) Failed() bool                   { return false }
