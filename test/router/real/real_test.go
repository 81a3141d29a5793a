package real

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/router"
)

// nowhere is what the brokers advertise on the listener that the door knows.
const nowhere = "broker.invalid:1"

// TestDoor is one cluster and everything that clients do through the door to it; Kafka needs its time to start.
func TestDoor(t *testing.T) {
	c := kafka.Start(t, kafka.Options{Brokers: 3, HeapMB: 320, Listeners: map[string]string{"DOOR": "PLAINTEXT"}, Advertised: map[string][]string{"DOOR": {nowhere, nowhere, nowhere}}})
	var dialer net.Dialer
	var brokers []router.Broker
	for i, address := range c.Addresses("DOOR") {
		brokers = append(brokers, router.Broker{ID: int32(i + 1), Address: address})
	}
	d := router.Open(t, router.Network{Listen: net.Listen, Dial: dialer.DialContext}, brokers, []string{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"})
	defer d.Close()
	for _, tc := range []struct {
		name string
		run  func(*testing.T, *kafka.Cluster, *router.Door)
	}{{"Go", franz}, {"Java", java}, {"Tools", tools}, {"Broker", broker}} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, c, d) })
	}
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// create makes a topic through the door.
func create(t *testing.T, d *router.Door, topic string) {
	t.Helper()
	cl := d.Client()
	defer cl.Close()
	if resp, err := kadm.NewClient(cl).CreateTopic(deadline(t), 6, 3, nil, topic); err != nil || resp.Err != nil {
		t.Fatalf("create %s: %v, %v", topic, err, resp.Err)
	}
}

// produce writes the records from to to-1.
func produce(t *testing.T, cl *kgo.Client, topic string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		cl.Produce(t.Context(), &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(i % 20)), Value: []byte(strconv.Itoa(i))}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// consume reads n records and checks that they are 0 to n-1, each once.
func consume(t *testing.T, cl *kgo.Client, n int) {
	t.Helper()
	ctx := deadline(t)
	seen := make(map[string]int)
	for total := 0; total < n; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%d of %d: %v", total, n, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			seen[string(r.Value)]++
			total++
		})
	}
	check(t, seen, n)
}

func check(t *testing.T, seen map[string]int, n int) {
	t.Helper()
	for i := range n {
		if seen[strconv.Itoa(i)] != 1 {
			t.Fatalf("record %d came %d times; %d records came", i, seen[strconv.Itoa(i)], len(seen))
		}
	}
}

// franz is a Go client: idempotent, transactional, in a group; each record is once in the cluster.
func franz(t *testing.T, c *kafka.Cluster, d *router.Door) {
	create(t, d, "franz")
	out := d.Client()
	defer out.Close()
	produce(t, out, "franz", 0, 5000)
	tx := d.Client(kgo.TransactionalID("tx"))
	defer tx.Close()
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, tx, "franz", 5000+i*90000, 5500+i*90000)
		if err := tx.EndTransaction(deadline(t), commit); err != nil {
			t.Fatal(err)
		}
	}
	reading := []kgo.Opt{kgo.ConsumeTopics("franz"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted())}
	in := d.Client(append(reading, kgo.ConsumerGroup("franz"))...)
	defer in.Close()
	consume(t, in, 5500)
	direct, err := kgo.NewClient(append(reading, kgo.SeedBrokers(c.Bootstrap()...))...)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	consume(t, direct, 5500)
}

// tool runs one of Kafka's tools against the door.
func tool(t *testing.T, d *router.Door, class string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(deadline(t), filepath.Join("..", "..", "..", "scripts", "kafka", "kafka.sh"), slices.Concat([]string{"tool", class}, args, []string{"--bootstrap-server", d.Slots[0]})...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s\n%s", class, args, err, out, &stderr)
	}
	return string(out)
}

// java is Kafka's own clients: an idempotent producer, and a consumer in a group.
func java(t *testing.T, _ *kafka.Cluster, d *router.Door) {
	create(t, d, "java")
	tool(t, d, "VerifiableProducer", "--topic", "java", "--max-messages", "2000")
	out := tool(t, d, "consumer.ConsoleConsumer", "--topic", "java", "--group", "java", "--from-beginning", "--max-messages", "2000", "--timeout-ms", "60000")
	seen := make(map[string]int)
	for _, v := range strings.Fields(out) {
		seen[v]++
	}
	check(t, seen, 2000)
}

// tools are what people look at a cluster with; they see the virtual one.
func tools(t *testing.T, _ *kafka.Cluster, d *router.Door) {
	for _, tc := range []struct {
		class string
		args  []string
		want  string
	}{
		{"TopicCommand", []string{"--list"}, "java\n"},
		{"TopicCommand", []string{"--describe", "--topic", "java"}, "Replicas: 10"},
		{"consumer.group.ConsumerGroupCommand", []string{"--describe", "--group", "java"}, "java"},
		{"GetOffsetShell", []string{"--topic", "java"}, "java:0:"},
		{"ClusterTool", []string{"cluster-id"}, router.ClusterID},
	} {
		if out := tool(t, d, tc.class, tc.args...); !strings.Contains(out, tc.want) {
			t.Errorf("%s %q: no %q in\n%s", tc.class, tc.args, tc.want, out)
		}
	}
	cl := d.Client()
	defer cl.Close()
	configs, err := kadm.NewClient(cl).DescribeBrokerConfigs(deadline(t), router.FirstID+1)
	if err != nil || len(configs) != 1 || configs[0].Err != nil {
		t.Fatalf("%v, %v", configs, err)
	}
	for _, c := range configs[0].Configs {
		if c.Key == "node.id" && c.MaybeValue() != "2" {
			t.Errorf("slot %s stands for broker %s", configs[0].Name, c.MaybeValue())
		}
	}
}

// broker is the death of one: clients find the new leaders behind the door, and nothing is lost or doubled.
func broker(t *testing.T, c *kafka.Cluster, d *router.Door) {
	create(t, d, "broker")
	out := d.Client(kgo.MetadataMinAge(200 * time.Millisecond))
	defer out.Close()
	in := d.Client(kgo.ConsumeTopics("broker"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(200*time.Millisecond))
	defer in.Close()
	produce(t, out, "broker", 0, 1000)
	c.Kill(1)
	produce(t, out, "broker", 1000, 2000)
	c.Start(1)
	produce(t, out, "broker", 2000, 3000)
	consume(t, in, 3000)
}
