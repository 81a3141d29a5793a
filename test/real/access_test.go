package real

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/topology"
)

// guarded makes a broker ask for a login and check rights.
var guarded = map[string]string{
	"listener.security.protocol.map":       "CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT",
	"inter.broker.listener.name":           "PLAINTEXT",
	"sasl.enabled.mechanisms":              "PLAIN,SCRAM-SHA-256",
	"sasl.mechanism.inter.broker.protocol": "PLAIN",
	"authorizer.class.name":                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
	"super.users":                          "User:admin;User:ANONYMOUS",
	"listener.name.plaintext.plain.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required ` +
		`username="admin" password="admin-secret" user_admin="admin-secret";`,
	"listener.name.plaintext.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
}

// TestRun_WrongPasswordThenMissingRights: a cluster that refuses the login stops
// only the link that needs it; a topic without rights only that topic. Both heal
// by themselves when the account and the rights are there.
func TestRun_WrongPasswordThenMissingRights(t *testing.T) {
	admin := []kgo.Opt{kgo.SASL(plain.Auth{User: "admin", Pass: "admin-secret"}.AsMechanism())}
	clusters := kafka.StartAll(t, kafka.Options{Name: "guarded", Properties: guarded, ClientOptions: admin},
		kafka.Options{Name: "open"}, kafka.Options{Name: "to"})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	t.Setenv("ISTHMUS_TEST_PW", "correct horse")
	topo, err := topology.Parse("access.toml", []byte(`
[fabric]
name = "access"
[[cluster]]
name = "guarded"
bootstrap = ["`+clusters[0].Bootstrap()[0]+`"]
sasl = { mechanism = "SCRAM-SHA-256", user = "isthmus", password = "env:ISTHMUS_TEST_PW" }
[[cluster]]
name = "open"
bootstrap = ["`+clusters[1].Bootstrap()[0]+`"]
[[cluster]]
name = "to"
bootstrap = ["`+clusters[2].Bootstrap()[0]+`"]
[[link]]
from = "guarded"
to = "to"
topics = ["secret", "shared"]
[[link]]
from = "open"
to = "to"
topics = ["free"]
`))
	if err != nil {
		t.Fatal(err)
	}
	boss := put(ctx, t, clusters[0].Bootstrap(), admin, "secret", "shared")
	put(ctx, t, clusters[1].Bootstrap(), nil, "free")
	set := runLinks(ctx, t, topo)

	holds(ctx, t, "the open link copies", func() bool { return copied(set, "free") == 10 })
	holds(ctx, t, "the other link says that the login is refused", func() bool {
		for _, l := range set.Status() {
			if l.From == "guarded" && !l.Up && strings.Contains(l.Trouble, "SASL_AUTHENTICATION_FAILED") {
				return !strings.Contains(l.Trouble, "correct horse")
			}
		}
		return false
	})
	_, err = boss.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "isthmus", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "correct horse"}})
	if err != nil {
		t.Fatal(err)
	}
	grant(ctx, t, boss, kadm.OpDescribe, "secret", "shared")
	grant(ctx, t, boss, kadm.OpDescribeConfigs, "secret", "shared")
	grant(ctx, t, boss, kadm.OpRead, "shared")
	holds(ctx, t, "the topic with rights is copied", func() bool { return copied(set, "shared") == 10 })
	holds(ctx, t, "the topic without rights says so", func() bool {
		for _, l := range set.Status() {
			for _, f := range l.Flows {
				if f.Topic == "secret" {
					for _, p := range f.Pumps {
						return strings.Contains(p.Reason, "TOPIC_AUTHORIZATION_FAILED")
					}
				}
			}
		}
		return false
	})
	grant(ctx, t, boss, kadm.OpRead, "secret")
	holds(ctx, t, "the topic heals when it may be read", func() bool { return copied(set, "secret") == 10 })
}

// put makes topics with ten records each.
func put(ctx context.Context, t *testing.T, bootstrap []string, opts []kgo.Opt, topics ...string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap...)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	adm := kadm.NewClient(cl)
	for _, topic := range topics {
		if _, err := adm.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return adm
}

func grant(ctx context.Context, t *testing.T, adm *kadm.Client, op kmsg.ACLOperation, topics ...string) {
	t.Helper()
	b := kadm.NewACLs().Allow("User:isthmus").AllowHosts("*").Topics(topics...).Operations(op).ResourcePatternType(kadm.ACLPatternLiteral)
	if _, err := adm.CreateACLs(ctx, b); err != nil {
		t.Fatal(err)
	}
}

// runLinks runs all links of the topology in this process until the test ends.
func runLinks(ctx context.Context, t *testing.T, topo *topology.Topology) *mirror.Set {
	t.Helper()
	set, err := mirror.NewSet(mirror.Config{}, mirror.SetDeps{Topology: topo, Log: slog.New(slog.DiscardHandler), Writer: "access/1",
		Open: func(c topology.Cluster) (*broker.Cluster, error) {
			p, err := broker.NewProfile(c)
			if err != nil {
				return nil, err
			}
			return broker.Open(p, nil)
		}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	run, stop := context.WithCancel(ctx)
	go func() { done <- set.Run(run) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, set.Ended()); err != nil {
			t.Error(err)
		}
	})
	return set
}

// copied is how far the pumps of a topic are.
func copied(set *mirror.Set, topic string) (n int64) {
	for _, l := range set.Status() {
		for _, f := range l.Flows {
			if f.Topic == topic {
				for _, p := range f.Pumps {
					n += p.SourceNext
				}
			}
		}
	}
	return n
}

func holds(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}
