package groups

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// own begins the values of records that were there before any was mirrored: no member of a group that comes from elsewhere reads them.
const own = "own"

// TestMain builds the binary of the nodes.
func TestMain(m *testing.M) { node.Main(m) }

// reader reads some records of a topic as a member of a group, at one cluster, and returns their values.
type reader func(t *testing.T, s *node.Site, topic, group string, n int) []string

// TestGroups_ConsumersMoveAndComeBack: an unmodified consumer stops on one cluster, goes on on the other, and comes back, again and again, while
// records are written: each record is read once. Half of them are in transactions, of which some are aborted, so that offsets differ.
func TestGroups_ConsumersMoveAndComeBack(t *testing.T) {
	kafka.Require(t)
	sites := node.StartSites(t, "eu", "us")
	readers := map[string]reader{"franz-go": readByGo, "java": readByJava, "java-kip-848": readByJava}
	for topic := range readers {
		for _, s := range sites {
			s.Create(t, topic, 3)
		}
		write(t, sites["us"], topic, own, 100) // so offsets differ from the first record on
	}
	setup := node.NewFleet(t, node.Fleet{Name: "groups", Sites: []*node.Site{sites["eu"], sites["us"]}, Nodes: []string{"n1"},
		DCs:  map[string]string{"eu": "here", "us": "there", "n1": "here"},
		More: "[[link]]\nname = \"eu-us\"\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"*\"]\ngroups = [\"*\"]\n"})
	n := setup.Node("n1")
	n.Start()
	for topic, read := range readers {
		t.Run(topic, func(t *testing.T) {
			group := "shop-" + topic
			var got, want []string
			for round, at := range []string{"eu", "us", "eu"} {
				want = append(want, write(t, sites["eu"], topic, fmt.Sprint("round-", round), 500)...)
				setup.In(t).CaughtUp(time.Minute, []string{topic}, n)
				got = append(got, read(t, sites[at], topic, group, 350)...)
				if round == 1 {
					n.Kill()
					n.Start()
				}
				follows(t, sites[at], sites[map[string]string{"eu": "us", "us": "eu"}[at]], topic, group)
			}
			got = append(got, read(t, sites["us"], topic, group, len(want)-len(got))...)
			once(t, got, want)
			if kind := kindOf(t, sites["eu"], group); (kind == "consumer") != strings.HasSuffix(topic, "kip-848") {
				t.Errorf("group %s is of type %s", group, kind)
			}
		})
	}
}

// write produces records in transactions, of which every fifth is aborted, and returns those that are not.
func write(t *testing.T, s *node.Site, topic, name string, n int) (values []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...), kgo.DefaultProduceTopic(topic), kgo.TransactionalID(topic+s.Name), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for tx := range n / 20 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		commit := kgo.TransactionEndTry(tx%5 != 4)
		for i := range 20 {
			value := fmt.Sprintf("%s-%d-%d-%t", name, tx, i, bool(commit))
			cl.Produce(t.Context(), &kgo.Record{Value: []byte(value)}, nil)
			if commit {
				values = append(values, value)
			}
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

// readByGo is a franz-go consumer, of the classic protocol.
func readByGo(t *testing.T, s *node.Site, topic, group string, n int) []string {
	t.Helper()
	return readWith(t, s, topic, group, n)
}

// readWith is a franz-go consumer with options of its own.
func readWith(t *testing.T, s *node.Site, topic, group string, n int, opts ...kgo.Opt) (values []string) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.Bootstrap()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(values) < n && ctx.Err() == nil {
		some := cl.PollRecords(ctx, n-len(values)).Records()
		for _, r := range some {
			values = append(values, string(r.Value))
		}
		if err := cl.CommitRecords(ctx, some...); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

// readByJava is Kafka's own console consumer, which commits what it has printed when it ends, of the protocol that the topic is named after.
func readByJava(t *testing.T, s *node.Site, topic, group string, n int) (values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	protocol := "classic"
	if strings.HasSuffix(topic, "kip-848") {
		protocol = "consumer"
	}
	cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "scripts", "kafka", "kafka.sh"), "tool", "consumer.ConsoleConsumer", "--bootstrap-server", s.Bootstrap()[0],
		"--topic", topic, "--group", group, "--isolation-level", "read_committed", "--from-beginning", "--max-messages", strconv.Itoa(n), "--timeout-ms", "30000",
		"--command-property", "group.protocol="+protocol)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		values = append(values, lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the console consumer: %v", err)
	}
	return values
}

// kindOf is the type of a group, as its cluster lists it.
func kindOf(t *testing.T, s *node.Site, group string) string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	all, err := kmsg.NewPtrListGroupsRequest().RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all.Groups {
		if g.Group == group {
			return g.GroupType
		}
	}
	return "none"
}

// follows waits until a group's positions at one cluster are those at another: as many records lie before them.
func follows(t *testing.T, from, to *node.Site, topic, group string) {
	t.Helper()
	began := time.Now()
	node.Until(t, 30*time.Second, fmt.Sprintf("group %s of %s stands where it does at %s", group, to.Name, from.Name), func(ctx context.Context) error {
		a, err := before(ctx, from, topic, group)
		if err != nil {
			return err
		}
		b, err := before(ctx, to, topic, group)
		if err == nil && !maps.Equal(a, b) {
			err = fmt.Errorf("%v records are before it at %s, %v at %s", a, from.Name, b, to.Name)
		}
		return err
	})
	t.Logf("%s stands at %s where it does at %s after %v", group, to.Name, from.Name, time.Since(began).Round(10*time.Millisecond))
}

// before is how many records lie before a group's position in each partition, without a cluster's own.
func before(ctx context.Context, s *node.Site, topic, group string) (map[int32]int, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	told, err := kadm.NewClient(cl).FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	n, c := make(map[int32]int), s.Client()
	c.Identify = func(r *kgo.Record) (uid, origin string) { return string(r.Value), "" }
	for partition, at := range told[topic] {
		n[partition] = 0
		err := judge.ReadPartition(ctx, c, topic, partition, 0, at.At, func(r checker.Record) error {
			if !strings.HasPrefix(r.UID, own) {
				n[partition]++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(n) == 0 {
		return nil, fmt.Errorf("group %s has no positions in %s at %s", group, topic, s.Name)
	}
	return n, nil
}

// once checks that each record was read once.
func once(t *testing.T, got, want []string) {
	t.Helper()
	times := make(map[string]int)
	for _, v := range got {
		times[v]++
	}
	for _, v := range want {
		if times[v] != 1 {
			t.Errorf("record %s was read %d times", v, times[v])
		}
		delete(times, v)
	}
	for _, v := range slices.Sorted(maps.Keys(times)) {
		t.Errorf("record %s was read %d times, and never committed", v, times[v])
	}
}
