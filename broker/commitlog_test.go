package broker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/broker"
)

// heard is what a log of commits has told until now.
type heard struct {
	t   *testing.T
	log *broker.CommitLog
	end context.CancelFunc
	ran chan error

	mu       sync.Mutex
	told     []string // partition of the log, group, offset
	stands   map[string]int64
	restarts map[int32]int
	caughtUp []bool
}

// hearing runs a log of commits until the test ends.
func hearing(t *testing.T, c *broker.Cluster, o broker.CommitLogOptions) *heard {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := &heard{t: t, log: c.CommitLog(o), end: cancel, ran: make(chan error, 1), stands: map[string]int64{}, restarts: map[int32]int{}}
	go func() { h.ran <- h.log.Run(ctx, h.hear) }()
	t.Cleanup(func() {
		cancel()
		if err := <-h.ran; err != nil {
			t.Errorf("the run ended with %v", err)
		}
	})
	return h
}

func (h *heard) hear(b broker.CommitBatch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b.Restarted {
		h.restarts[b.Partition]++
	}
	for _, c := range b.Commits {
		h.told = append(h.told, fmt.Sprintf("%d %s %d", b.Partition, c.Group, c.Offset))
		h.stands[c.Group] = c.Offset
	}
	if n := len(h.caughtUp); n == 0 || h.caughtUp[n-1] != b.CaughtUp {
		h.caughtUp = append(h.caughtUp, b.CaughtUp)
	}
	return nil
}

// wait waits for groups to stand somewhere.
func (h *heard) wait(want map[string]int64) {
	h.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		h.mu.Lock()
		same := true
		for group, offset := range want {
			same = same && h.stands[group] == offset
		}
		stands := maps.Clone(h.stands)
		h.mu.Unlock()
		if same {
			return
		}
		if time.Since(began) > time.Minute {
			h.t.Fatalf("groups stand at %v, want %v; %+v", stands, want, h.log.Stats())
		}
	}
}

// settle waits until all is read.
func (h *heard) settle() {
	h.t.Helper()
	for began := time.Now(); !h.log.Stats().CaughtUp; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			h.t.Fatalf("not caught up: %+v", h.log.Stats())
		}
	}
}

// note writes what a coordinator would write when a group commits.
func note(t *testing.T, c *broker.Cluster, partition int32, group string, offset int64) {
	t.Helper()
	p, err := c.Producer(broker.ProducerOptions{ManualPartition: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	key := kmsg.OffsetCommitKey{Version: 1, Group: group, Topic: "orders"}
	value := kmsg.OffsetCommitValue{Version: 3, Offset: offset, LeaderEpoch: -1}
	for try := 0; ; try++ { // kfake's connections are pipes, of whose end the client library makes an error
		_, err := p.Produce(t.Context(), broker.Record{Topic: broker.CommitsTopic, Partition: partition, Key: key.AppendTo(nil), Value: value.AppendTo(nil)})
		if err == nil {
			return
		}
		if try == 3 {
			t.Fatal(err)
		}
	}
}

// commitsOn is a kfake with a topic like Kafka's, which it has not.
func commitsOn(t *testing.T, brokers int, opts ...kfake.Opt) virtual {
	t.Helper()
	ports := []int{9092, 9093, 9094}[:brokers]
	return startVirtual(t, append(opts, kfake.NumBrokers(brokers), kfake.Ports(ports...), kfake.SeedTopics(4, broker.CommitsTopic))...)
}

// All that is there is told in order, then that it is all, then what comes, within the pause for gathering.
func TestCommitLog_TellsWhatIsThereAndWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := commitsOn(t, 3)
		c := v.open(t)
		for i := range int64(12) {
			note(t, c, int32(i%3), fmt.Sprint("g", i%3), i)
		}
		h := hearing(t, c, broker.CommitLogOptions{})
		h.settle()
		h.wait(map[string]int64{"g0": 9, "g1": 10, "g2": 11})
		if !slices.Equal(h.caughtUp, []bool{false, true}) || len(h.told) != 12 {
			t.Errorf("caught up: %v, told %v", h.caughtUp, h.told)
		}
		slices.SortStableFunc(h.told, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
		if got := strings.Join(h.told, ","); got != "0 g0 0,0 g0 3,0 g0 6,0 g0 9,1 g1 1,1 g1 4,1 g1 7,1 g1 10,2 g2 2,2 g2 5,2 g2 8,2 g2 11" {
			t.Errorf("told %s", got)
		}
		for i := range int64(20) {
			began := time.Now()
			note(t, c, 3, "new", 100+i)
			h.wait(map[string]int64{"new": 100 + i})
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("told after %v", took)
			}
		}
		if s := h.log.Stats(); s.Records != 32 || len(s.Strange)+len(s.Held) != 0 || s.Trouble != nil {
			t.Errorf("%+v", s)
		}
	})
}

// FromEnd tells nothing of what is there, and all of what comes after it was said that the end is reached.
func TestCommitLog_FromTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := commitsOn(t, 2)
		c := v.open(t)
		note(t, c, 0, "old", 1)
		h := hearing(t, c, broker.CommitLogOptions{FromEnd: true})
		h.settle()
		note(t, c, 0, "new", 2)
		h.wait(map[string]int64{"new": 2})
		if len(h.told) != 1 {
			t.Errorf("told %v", h.told)
		}
	})
}

// Leaders that move, connections that break and a broker that is silent while another leads cost time and no commit, and tell none twice.
func TestCommitLog_FollowsLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := commitsOn(t, 3)
		w, p := &way{dial: v.net.DialContext}, v.profile()
		p.Dial, p.Bootstrap = w.Dial, []string{"127.0.0.1:9092", "127.0.0.1:9093", "127.0.0.1:9094"}
		direct := v.open(t)
		h := hearing(t, openProfile(t, p), broker.CommitLogOptions{})
		n, total := int64(0), 0
		commits := func(what string, most time.Duration) {
			t.Helper()
			n++
			began, want := time.Now(), map[string]int64{}
			for partition := range int32(4) {
				group := fmt.Sprint("g", partition)
				note(t, direct, partition, group, n)
				want[group] = n
				total++
			}
			h.wait(want)
			if took := time.Since(began); took > most {
				t.Errorf("%s: told after %v", what, took)
			}
		}
		commits("at the start", time.Second)
		for i := range int32(6) {
			for partition := range int32(4) {
				if err := v.fake.MoveTopicPartition(broker.CommitsTopic, partition, (partition+i)%3); err != nil {
					t.Fatal(err)
				}
			}
			commits("leaders moved", 2*time.Second)
		}
		for range 3 {
			w.breakAll()
			commits("connections broke", 3*time.Second)
		}
		for partition := range int32(4) {
			if err := v.fake.MoveTopicPartition(broker.CommitsTopic, partition, 1); err != nil {
				t.Fatal(err)
			}
		}
		commits("one leads all", 2*time.Second)
		w.set(func(w *way) { w.noBack = func(address string) bool { return strings.HasSuffix(address, ":9093") } })
		for partition := range int32(4) {
			if err := v.fake.MoveTopicPartition(broker.CommitsTopic, partition, 2); err != nil {
				t.Fatal(err)
			}
		}
		commits("the one is silent, another leads", 12*time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.told) != total || len(h.restarts) > 0 {
			t.Errorf("%d commits told, want %d; restarted: %v", len(h.told), total, h.restarts)
		}
	})
}

// A log whose beginning moves past what was read, and one that is another under the same name, are read anew, and that is said.
func TestCommitLog_BeginsAnewWhereItMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := commitsOn(t, 1)
		c := v.open(t)
		for i := range int64(5) {
			note(t, c, 2, "g", i)
		}
		if err := v.fake.DeleteRecords(broker.CommitsTopic, 2, 3); err != nil {
			t.Fatal(err)
		}
		h := hearing(t, c, broker.CommitLogOptions{})
		h.settle()
		h.wait(map[string]int64{"g": 4})
		if len(h.told) != 2 || len(h.restarts) > 0 { // it was never further
			t.Errorf("told %v, restarted %v", h.told, h.restarts)
		}

		broken := v.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, TopLevel: true, Count: -1}) // nothing is read meanwhile
		note(t, c, 2, "lost", 1)
		note(t, c, 2, "kept", 2)
		if err := v.fake.DeleteRecords(broker.CommitsTopic, 2, 6); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if s := h.log.Stats(); s.Trouble == nil {
			t.Errorf("nothing is read, and %+v", s)
		}
		broken.Remove()
		h.wait(map[string]int64{"kept": 2, "lost": 0})
		if !maps.Equal(h.restarts, map[int32]int{2: 1}) {
			t.Errorf("restarted %v", h.restarts)
		}
		h.settle()

		if err := errors.Join(v.fake.DeleteTopic(broker.CommitsTopic), v.fake.CreateTopic(broker.CommitsTopic, 4, nil)); err != nil {
			t.Fatal(err)
		}
		note(t, c, 0, "another", 7)
		h.wait(map[string]int64{"another": 7})
		h.settle()
		if !maps.Equal(h.restarts, map[int32]int{0: 1, 1: 1, 2: 2, 3: 1}) {
			t.Errorf("restarted %v", h.restarts)
		}
		if s := h.log.Stats(); s.Trouble != nil {
			t.Errorf("%+v", s)
		}
	})
}

// What a transaction commits is told with its end, or never; what is behind it waits, and Stats say so.
func TestCommitLog_WaitsForTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := commitsOn(t, 1)
		c := v.open(t)
		h := hearing(t, c, broker.CommitLogOptions{})
		h.settle()
		cl, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(v.net.DialContext), kgo.TransactionalID("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			key := kmsg.OffsetCommitKey{Version: 1, Group: "txn", Topic: "orders"}
			value := kmsg.OffsetCommitValue{Version: 3, Offset: 10}
			if end {
				value.Offset = 20
			}
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: broker.CommitsTopic, Partition: 1, Key: key.AppendTo(nil), Value: value.AppendTo(nil)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			note(t, c, 1, "plain", value.Offset)
			time.Sleep(3 * time.Second)
			s := h.log.Stats()
			if held := time.Since(s.Held[1]); len(s.Held) != 1 || held < 2*time.Second || held > 4*time.Second {
				t.Errorf("held: %v", s.Held)
			}
			if h.mu.Lock(); h.stands["plain"] == value.Offset || h.stands["txn"] != 0 {
				t.Errorf("told before the end: %v", h.stands)
			}
			h.mu.Unlock()
			if err := cl.EndTransaction(t.Context(), end); err != nil {
				t.Fatal(err)
			}
			h.wait(map[string]int64{"plain": value.Offset})
		}
		h.wait(map[string]int64{"txn": 20})
		synctest.Wait() // who tells notes afterwards that nothing is held
		if s := h.log.Stats(); len(s.Held) != 0 || len(h.told) != 3 {
			t.Errorf("held %v, told %v", s.Held, h.told)
		}
	})
}

// Without the topic, or the right to read it, the run ends with an error that says so; so it does with the error of who takes the commits.
func TestCommitLog_SaysThatThereIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		err := v.open(t).CommitLog(broker.CommitLogOptions{}).Run(t.Context(), func(broker.CommitBatch) error { return nil })
		if !errors.Is(err, broker.ErrNoCommitLog) || !strings.Contains(err.Error(), "cluster fake has no topic __consumer_offsets") {
			t.Errorf("without the topic: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		for want, ops := range map[string][]kfake.ACL{
			"no right DESCRIBE on topic __consumer_offsets": nil,
			"no right READ on topic __consumer_offsets": {{Resource: kmsg.ACLResourceTypeTopic, Name: broker.CommitsTopic,
				Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true}},
		} {
			v := commitsOn(t, 1, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "u", "secret", ops...))
			p := v.profile()
			p.SASL = plain.Auth{User: "u", Pass: "secret"}.AsMechanism()
			err := openProfile(t, p).CommitLog(broker.CommitLogOptions{}).Run(t.Context(), func(broker.CommitBatch) error { return nil })
			if !errors.Is(err, broker.ErrNoCommitLog) || !strings.Contains(err.Error(), want) || broker.Classify(err) != broker.Pause {
				t.Errorf("%v (%v), want %s", err, broker.Classify(err), want)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		v := commitsOn(t, 1)
		c := v.open(t)
		note(t, c, 0, "g", 1)
		enough := errors.New("enough")
		if err := c.CommitLog(broker.CommitLogOptions{}).Run(t.Context(), func(broker.CommitBatch) error { return enough }); err != enough {
			t.Errorf("%v, want %v", err, enough)
		}
	})
}
