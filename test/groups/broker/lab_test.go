package groups

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// lab is the cluster, with topic orders of 4 partitions, 10 records in each.
type lab struct {
	*kafka.Cluster
	t     *testing.T
	c     *broker.Cluster
	cl    *kgo.Client
	admin *kadm.Client
}

const (
	password   = "correct horse"
	partitions = 4
)

func newLab(t *testing.T, brokers int) *lab {
	l := &lab{t: t, Cluster: kafka.Start(t, kafka.Options{Name: "eu", Brokers: brokers, HeapMB: 320, Listeners: map[string]string{"LOGIN": "SASL_PLAINTEXT"},
		Properties: map[string]string{
			"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
			"listener.name.login.sasl.enabled.mechanisms": "PLAIN",
			"listener.name.login.plain.sasl.jaas.config":  `org.apache.kafka.common.security.plain.PlainLoginModule required user_isthmus="` + password + `";`,
			"log.cleaner.backoff.ms":                      "200",
		}})}
	l.cl = l.client()
	l.admin = kadm.NewClient(l.cl)
	if _, err := l.admin.CreateTopic(l.context(), partitions, -1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		for i := range 10 {
			if err := l.cl.ProduceSync(l.context(), &kgo.Record{Topic: "orders", Partition: p, Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.c = l.open(broker.Profile{Bootstrap: l.Bootstrap()})
	return l
}

func (l *lab) open(p broker.Profile) *broker.Cluster {
	l.t.Helper()
	p.Name = "eu"
	c, err := broker.Open(p, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(c.Close)
	return c
}

// limited is the cluster for a user that has what rights it is given.
func (l *lab) limited() *broker.Cluster {
	l.t.Helper()
	return l.open(broker.Profile{Bootstrap: l.Addresses("LOGIN"), SASL: plain.Auth{User: "isthmus", Pass: password}.AsMechanism()})
}

func (l *lab) context() context.Context {
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*time.Minute)
	l.t.Cleanup(cancel)
	return ctx
}

func (l *lab) client(opts ...kgo.Opt) *kgo.Client {
	l.t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(l.Bootstrap()...), kgo.MetadataMinAge(100*time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(cl.Close)
	return cl
}

// consume has a member of a group read until it has all records of orders, or no records at all where it is given no turn.
func (l *lab) consume(opts ...kgo.Opt) *kgo.Client {
	l.t.Helper()
	cl := l.client(append(opts, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	ctx := l.context()
	for n := 0; n < 10*partitions; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			l.t.Fatal(err)
		}
		n += fetches.NumRecords()
	}
	return cl
}

// commit has a member commit what it has read up to a place, with words.
func (l *lab) commit(cl *kgo.Client, offset int64, words string) {
	l.t.Helper()
	offsets := map[int32]kgo.EpochOffset{}
	for p := range int32(partitions) {
		offsets[p] = kgo.EpochOffset{Epoch: 0, Offset: offset + int64(p)}
	}
	ctx := kgo.PreCommitFnContext(l.context(), func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				req.Topics[i].Partitions[j].Metadata = &words
			}
		}
		return nil
	})
	done := make(chan error, 1)
	cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{"orders": offsets}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		for i := 0; err == nil && i < len(resp.Topics); i++ {
			for _, p := range resp.Topics[i].Partitions {
				if p.ErrorCode != 0 {
					err = fmt.Errorf("partition %d: code %d", p.Partition, p.ErrorCode)
				}
			}
		}
		done <- err
	})
	if err := <-done; err != nil {
		l.t.Fatal(err)
	}
}

// at is an offset of orders.
func at(partition int32, offset int64, words string) broker.GroupOffset {
	return broker.GroupOffset{TopicPartition: broker.TopicPartition{Topic: "orders", Partition: partition}, Offset: offset, LeaderEpoch: -1, Metadata: words}
}

// set commits for a group that has no members.
func (l *lab) set(group string, offsets ...broker.GroupOffset) {
	l.t.Helper()
	if refused, err := l.c.CommitGroup(l.context(), group, offsets); err != nil || len(refused) > 0 {
		l.t.Fatalf("%v, %v", refused, err)
	}
}

// position is what is known of a group in a partition.
type position struct {
	offset   int64
	metadata string
}

type place struct {
	group string
	broker.TopicPartition
}

// follower is what a log of commits says where groups stand.
type follower struct {
	log *broker.CommitLog
	end func() error

	mu       sync.Mutex
	stands   map[place]position
	kinds    map[string]map[broker.CommitKind]bool
	back     []string // commits that were told before, or out of order
	last     map[int32]int64
	restarts int
}

// follow runs a log of commits until the test, or the one who asked, ends it.
func (l *lab) follow(c *broker.Cluster, o broker.CommitLogOptions) *follower {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{log: c.CommitLog(o), stands: map[place]position{}, kinds: map[string]map[broker.CommitKind]bool{}, last: map[int32]int64{}}
	ran := make(chan error, 1)
	go func() { ran <- f.log.Run(ctx, f.hear) }()
	f.end = sync.OnceValue(func() error { cancel(); return <-ran })
	l.t.Cleanup(func() {
		if err := f.end(); err != nil {
			l.t.Errorf("the log of commits ended: %v", err)
		}
	})
	return f
}

func (f *follower) hear(b broker.CommitBatch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.Restarted {
		f.restarts++
		delete(f.last, b.Partition)
	}
	for _, c := range b.Commits {
		if last, told := f.last[b.Partition]; told && c.At <= last {
			f.back = append(f.back, fmt.Sprintf("%d:%d after %d", b.Partition, c.At, last))
		}
		f.last[b.Partition] = c.At
		if f.kinds[c.Group] == nil {
			f.kinds[c.Group] = map[broker.CommitKind]bool{}
		}
		f.kinds[c.Group][c.Kind] = true
		at := place{c.Group, broker.TopicPartition{Topic: c.Topic, Partition: c.Partition}}
		switch c.Kind {
		case broker.Committed:
			f.stands[at] = position{c.Offset, c.Metadata}
		case broker.Uncommitted:
			delete(f.stands, at)
		}
	}
	return nil
}

// has reports what differs from how groups stand by their coordinators.
func (f *follower) has(ctx context.Context, c *broker.Cluster) error {
	groups, err := c.Groups(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for _, g := range groups {
		ids = append(ids, g.ID)
	}
	want := map[place]position{}
	for id, g := range c.GroupOffsets(ctx, ids...) {
		if g.Err != nil {
			return g.Err
		}
		for _, o := range g.Offsets {
			want[place{id, o.TopicPartition}] = position{o.Offset, o.Metadata}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !maps.Equal(f.stands, want) {
		return fmt.Errorf("by the log of commits groups stand at\n%v, by their coordinators at\n%v; %+v", f.stands, want, f.log.Stats())
	}
	return nil
}

// agrees waits until the log of commits and the coordinators say the same.
func (l *lab) agrees(f *follower) {
	l.t.Helper()
	node.Until(l.t, 30*time.Second, "the log of commits says what coordinators say", func(ctx context.Context) error { return f.has(ctx, l.c) })
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.log.Stats(); len(f.back) > 0 || f.restarts > 0 || len(s.Strange) > 0 {
		l.t.Errorf("told twice or out of order: %v; restarted %d times; not understood: %v", f.back, f.restarts, s.Strange)
	}
}
