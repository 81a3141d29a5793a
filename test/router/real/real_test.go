package real

import (
	"crypto/tls"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// TestNode is one cluster and everything that clients do through the doors of a node to it; Kafka needs its time to start.
func TestNode(t *testing.T) {
	s := open(t)
	for _, tc := range []struct {
		name string
		run  func(*testing.T, *stage)
	}{{"Go", franz}, {"Java", java}, {"Tools", tools}, {"TLS", secured}, {"Logins", logins}, {"Terminate", terminate}, {"Renewed", renewed}, {"Broker", broker}, {"Stop", stop}} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, s) })
	}
}

// create makes a topic through the door.
func create(t *testing.T, s *stage, topic string) {
	t.Helper()
	cl := s.client(t)
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
func franz(t *testing.T, s *stage) {
	create(t, s, "franz")
	out := s.client(t)
	defer out.Close()
	produce(t, out, "franz", 0, 5000)
	tx := s.client(t, kgo.TransactionalID("tx"))
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
	in := s.client(t, append(reading, kgo.ConsumerGroup("franz"))...)
	defer in.Close()
	consume(t, in, 5500)
	direct, err := kgo.NewClient(append(reading, kgo.SeedBrokers(s.Bootstrap()...))...)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	consume(t, direct, 5500)
}

// java is Kafka's own clients: an idempotent producer, and a consumer in a group.
func java(t *testing.T, s *stage) {
	create(t, s, "java")
	s.tool(t, "VerifiableProducer", "--topic", "java", "--max-messages", "2000")
	out := s.tool(t, "consumer.ConsoleConsumer", "--topic", "java", "--group", "java", "--from-beginning", "--max-messages", "2000", "--timeout-ms", "60000")
	seen := make(map[string]int)
	for _, v := range strings.Fields(out) {
		seen[v]++
	}
	check(t, seen, 2000)
}

// tools are what people look at a cluster with; its id and those of its brokers are the real ones at first.
func tools(t *testing.T, s *stage) {
	m, err := s.admin.BrokerMetadata(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		class string
		args  []string
		want  string
	}{
		{"TopicCommand", []string{"--list"}, "java\n"},
		{"TopicCommand", []string{"--describe", "--topic", "java"}, "ReplicationFactor: 3"},
		{"consumer.group.ConsumerGroupCommand", []string{"--describe", "--group", "java"}, "java"},
		{"GetOffsetShell", []string{"--topic", "java"}, "java:0:"},
		{"ClusterTool", []string{"cluster-id"}, m.Cluster},
	} {
		if out := s.tool(t, tc.class, tc.args...); !strings.Contains(out, tc.want) {
			t.Errorf("%s %q: no %q in\n%s", tc.class, tc.args, tc.want, out)
		}
	}
}

// secured is the door with TLS, which is a virtual cluster of its own.
func secured(t *testing.T, s *stage) {
	create(t, s, "secured")
	login := kgo.SASL(plain.Auth{User: alice, Pass: word}.AsMechanism())
	out := s.through(t, s.secured, &tls.Config{RootCAs: s.ca.Pool}, login)
	defer out.Close()
	produce(t, out, "secured", 0, 1000)
	in := s.through(t, s.secured, &tls.Config{RootCAs: s.ca.Pool}, login, kgo.ConsumeTopics("secured"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer in.Close()
	consume(t, in, 1000)
}

// logins pass through: bob has bob's rights and not the router's, and a wrong password is refused.
func logins(t *testing.T, s *stage) {
	for _, topic := range []string{"bobs", "others"} {
		create(t, s, topic)
	}
	one := func(topic string, login kgo.Opt) error {
		cl := s.through(t, s.clear, nil, login, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
		defer cl.Close()
		return cl.ProduceSync(deadline(t), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
	}
	his := kgo.SASL(scram.Auth{User: bob, Pass: word}.AsSha512Mechanism())
	if err := one("bobs", his); err != nil {
		t.Errorf("bob at bobs: %v", err)
	}
	if err := one("others", his); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("bob at another topic: %v", err)
	}
	for _, wrong := range []kgo.Opt{kgo.SASL(scram.Auth{User: bob, Pass: "no"}.AsSha512Mechanism()), kgo.SASL(plain.Auth{User: alice, Pass: "no"}.AsMechanism())} {
		cl := s.through(t, s.clear, nil, wrong, kgo.RequestRetries(0))
		if err := cl.Ping(deadline(t)); !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("a wrong password: %v", err)
		}
		cl.Close()
	}
}

// broker is the death of one: clients find the new leaders behind the door, and nothing is lost or doubled.
func broker(t *testing.T, s *stage) {
	create(t, s, "broker")
	out := s.client(t, kgo.MetadataMinAge(200*time.Millisecond))
	defer out.Close()
	in := s.client(t, kgo.ConsumeTopics("broker"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(200*time.Millisecond))
	defer in.Close()
	produce(t, out, "broker", 0, 1000)
	s.Kill(1)
	produce(t, out, "broker", 1000, 2000)
	s.Start(1)
	produce(t, out, "broker", 2000, 3000)
	consume(t, in, 3000)
}

// stop is SIGTERM of the node with clients connected, who go on when it is back.
func stop(t *testing.T, s *stage) {
	create(t, s, "stop")
	out := s.client(t)
	defer out.Close()
	produce(t, out, "stop", 0, 1000)
	if took := s.node.Stop(); took > 15*time.Second {
		t.Errorf("the node stopped after %v", took)
	}
	s.node.Start()
	produce(t, out, "stop", 1000, 2000)
	in := s.client(t, kgo.ConsumeTopics("stop"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer in.Close()
	consume(t, in, 2000)
}
