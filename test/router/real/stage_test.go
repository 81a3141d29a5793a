package real

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/test/certs"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// Who logs in: the node itself, alice who may do everything, and bob, by SCRAM, who may only use the topic bobs.
const (
	self, alice, bob = "isthmus", "alice", "bob"
	word             = "correct horse"
)

// stage is a home, and a node with doors to it: one in clear, one with TLS, and two that check logins.
type stage struct {
	*kafka.Cluster
	admin          *kadm.Client // past the doors, by a listener that asks nothing
	node           *node.Node
	ca             *certs.Authority // of the door with TLS, and of the brokers
	clear, secured int              // ports of the bootstraps; slots are behind them
	ends           enders
	config         string // properties file of a Java client
}

// slots is how many each door has.
const slots = 4

// open starts all of it.
func open(t *testing.T) *stage {
	t.Helper()
	kafka.Require(t)
	s := &stage{ca: certs.New(t)}
	dir := t.TempDir()
	put := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	shown := s.ca.Issue(t, "broker")
	const login = "org.apache.kafka.common.security."
	s.Cluster = kafka.Start(t, kafka.Options{Brokers: 3, HeapMB: 320, Listeners: map[string]string{"HOME": "SASL_SSL"}, Properties: map[string]string{
		"authorizer.class.name":                                      "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":                                                "User:ANONYMOUS;User:" + self + ";User:" + alice,
		"listener.name.home.ssl.keystore.type":                       "PEM",
		"listener.name.home.ssl.keystore.location":                   put("store.pem", slices.Concat(shown.Key, shown.Cert)),
		"listener.name.home.sasl.enabled.mechanisms":                 "PLAIN,SCRAM-SHA-512",
		"listener.name.home.plain.sasl.jaas.config":                  fmt.Sprintf("%splain.PlainLoginModule required user_%s=%q user_%s=%q;", login, self, word, alice, word),
		"listener.name.home.scram-sha-512.sasl.jaas.config":          login + "scram.ScramLoginModule required;",
		"listener.name.home.scram-sha-512.connections.max.reauth.ms": fmt.Sprint(sessions.Milliseconds()),
	}})
	direct, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.Close)
	s.admin = kadm.NewClient(direct)
	s.rights(t)
	s.clear, s.secured = node.FreeRow(t, 1+slots), node.FreeRow(t, 1+slots)
	files := s.ca.Issue(t, "door").Files(t, dir, nil)
	put("ca.pem", s.ca.PEM)
	put("password", []byte(word))
	grpc := fmt.Sprintf("127.0.0.1:%d", node.FreePort(t))
	text := fmt.Sprintf("[fabric]\nname = \"doors\"\n[[cluster]]\nname = \"home\"\nbootstrap = [\"%s\"]\ntls = { ca = \"file:ca.pem\" }\n"+
		"sasl = { mechanism = \"PLAIN\", user = %q, password = \"file:password\" }\n[[node]]\nname = \"n1\"\nhttp = \"127.0.0.1:%d\"\ngrpc = %q\n",
		strings.Join(s.Addresses("HOME"), `", "`), self, node.FreePort(t), grpc)
	for name, port := range map[string]int{"clear": s.clear, "secured": s.secured} {
		text += fmt.Sprintf("[[router]]\nname = %q\nnode = \"n1\"\nlisten = \"127.0.0.1:%d\"\nadvertise = \"127.0.0.1\"\nslots = \"%d-%d\"\nhome = \"home\"\n", name, port, port+1, port+slots)
		if name == "secured" {
			text += fmt.Sprintf("tls = { cert = %q, key = %q }\n", files.Cert, files.Key)
		}
	}
	text += s.open(t, dir)
	s.config = put("client.properties", fmt.Appendf(nil, "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=%splain.PlainLoginModule required username=%q password=%q;\n", login, alice, word))
	s.node = node.New(t, "n1", put("isthmus.toml", []byte(text)), grpc)
	s.node.Start()
	for _, door := range []struct {
		port   int
		secure *tls.Config
	}{{s.clear, nil}, {s.secured, &tls.Config{RootCAs: s.ca.Pool}}} {
		cl := s.through(t, door.port, door.secure, kgo.SASL(plain.Auth{User: alice, Pass: word}.AsMechanism()))
		node.Until(t, time.Minute, "the doors serve", cl.Ping)
		cl.Close()
	}
	return s
}

// rights makes bob, and gives him his topic.
func (s *stage) rights(t *testing.T) {
	t.Helper()
	ctx := deadline(t)
	if _, err := s.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: bob, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: word}}); err != nil {
		t.Fatal(err)
	}
	acl := kadm.NewACLs().Topics("bobs").Allow("User:" + bob).AllowHosts("*").Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternLiteral)
	made, err := s.admin.CreateACLs(ctx, acl)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range made {
		if m.Err != nil {
			t.Fatal(m.Err)
		}
	}
}

// client is one of alice at the door in clear, unless its options say otherwise. It reaches nothing but doors.
func (s *stage) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	return s.through(t, s.clear, nil, append([]kgo.Opt{kgo.SASL(plain.Auth{User: alice, Pass: word}.AsMechanism())}, opts...)...)
}

// through is a client at a door.
func (s *stage) through(t *testing.T, port int, secure *tls.Config, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasPrefix(address, "127.0.0.1:") || !slices.ContainsFunc([]int{0, 1, 2, 3, 4}, func(i int) bool { return address == fmt.Sprintf("127.0.0.1:%d", port+i) }) {
			t.Errorf("a client was sent around the door, to %s", address)
		}
		if secure != nil {
			return (&tls.Dialer{Config: secure}).DialContext(ctx, network, address)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", port)), kgo.Dialer(dial)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// configFlags are those by which tools of Kafka take a client's properties, where it is not --command-config.
var configFlags = map[string]string{"VerifiableProducer": "--producer.config", "consumer.ConsoleConsumer": "--consumer.config", "ClusterTool": "--config"}

// tool runs one of Kafka's tools as alice at the door in clear.
func (s *stage) tool(t *testing.T, class string, args ...string) string {
	t.Helper()
	return toolAt(t, s.clear, s.config, class, args...)
}

// toolAt runs one at a door with a client's properties.
func toolAt(t *testing.T, port int, config, class string, args ...string) string {
	t.Helper()
	flag := configFlags[class]
	if flag == "" {
		flag = "--command-config"
	}
	cmd := exec.CommandContext(deadline(t), filepath.Join("..", "..", "..", "scripts", "kafka", "kafka.sh"),
		slices.Concat([]string{"tool", class}, args, []string{"--bootstrap-server", fmt.Sprintf("127.0.0.1:%d", port), flag, config})...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s\n%s", class, args, err, out, &stderr)
	}
	return string(out)
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
