package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/embedded"
)

// minimal is the smallest useful file; nothing answers at its clusters.
const minimal = `[fabric]
name = "shop"

[[cluster]]
name = "eu"
bootstrap = ["127.0.0.1:1"]

[[cluster]]
name = "us"
bootstrap = ["127.0.0.1:2"]

[[link]]
from = "eu"
to = "us"
topics = ["*"]
`

func TestCheck_Good(t *testing.T) {
	code, out, errs := command(t.Context(), "check", writeFile(t, "isthmus.toml", minimal))
	if code != exitOK || errs != "" || !strings.Contains(out, "link eu-us") || !strings.HasSuffix(out, "isthmus.toml: ok\n") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

func TestCheck_Bad(t *testing.T) {
	bad := strings.NewReplacer("bootstrap = [\"127.0.0.1:1\"]", "bootstrp = [\"127.0.0.1:1\"]", `to = "us"`, `to = "uss"`).Replace(minimal)
	file := writeFile(t, "bad.toml", bad)
	code, out, errs := command(t.Context(), "check", file)
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	if code != exitUsage || out != "" || len(lines) < 2 {
		t.Fatalf("exit %d, %q, %q; want all faults on the error stream", code, out, errs)
	}
	for _, l := range lines {
		if !strings.HasPrefix(l, file+":") {
			t.Errorf("%q does not begin with file and line", l)
		}
	}
	code, out, errs = command(t.Context(), "check", "--json", file)
	var v verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitUsage || errs != "" {
		t.Fatalf("exit %d, %v, %q, %q", code, err, out, errs)
	}
	if v.OK || len(v.Faults) != len(lines) || v.Faults[0].Line != 6 || v.Faults[0].File != file {
		t.Errorf("got %+v, want the same faults", v)
	}
}

// TestCheck_EveryBadFile: whatever is wrong with a file, run and check say the same and exit 2.
func TestCheck_EveryBadFile(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "topology", "testdata", "bad", "*.toml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, file := range files {
		code, _, said := command(t.Context(), "check", file)
		runCode, _, runSaid := command(t.Context(), "run", "-c", file)
		if code != exitUsage || runCode != exitUsage || said == "" || strings.TrimPrefix(runSaid, "isthmus: ") != said {
			t.Errorf("%s: check exits %d with %q, run %d with %q", file, code, said, runCode, runSaid)
		}
	}
}

// TestCheck_Users: faults of a file of users are told like those of the topology, once for all instances; one that is on another machine is none.
func TestCheck_Users(t *testing.T) {
	text := strings.Replace(minimal, "[\"127.0.0.1:1\"]\n", "[\"127.0.0.1:1\"]\nsasl = { mechanism = \"PLAIN\", user = \"isthmus\", password = \"env:P\" }\n", 1)
	for i, node := range []string{"eu-1", "eu-2"} {
		text += fmt.Sprintf("[[node]]\nname = %q\ngossip = \"127.0.0.1:%d\"\n[[router]]\nname = \"shop\"\nnode = %q\nlisten = \"127.0.0.1:%d\"\n"+
			"advertise = \"127.0.0.1\"\nslots = \"%d-%d\"\nhome = \"eu\"\nauth = \"terminate\"\ncredentials = \"file:users.toml\"\n", node, 7946+i, node, 9100+100*i, 9101+100*i, 9103+100*i)
	}
	file := writeFile(t, "isthmus.toml", text)
	users := filepath.Join(filepath.Dir(file), "users.toml")
	for name, tc := range map[string]struct {
		users, want string
		code        int
	}{
		"elsewhere": {"", "", exitOK},
		"fine":      {"version = 1\n[[user]]\nname = \"anna\"\ncertificate = \"CN=anna\"\nat.eu = { mechanism = \"PLAIN\", username = \"anna\", password = \"env:NOT_HERE\" }\n", "", exitOK},
		"wrong":     {"version = 2\n", users + ":1:11: version: this Isthmus knows 1 alone; write version = 1, or use a newer Isthmus\n", exitUsage},
	} {
		_ = os.Remove(users)
		if tc.users != "" {
			if err := os.WriteFile(users, []byte(tc.users), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if code, out, errs := command(t.Context(), "check", file); code != tc.code || errs != tc.want {
			t.Errorf("%s: exit %d, %q, %q; want %q", name, code, out, errs, tc.want)
		}
	}
}

func TestCheck_MissingFile(t *testing.T) {
	code, _, errs := command(t.Context(), "check", "/nowhere/isthmus.toml")
	if code != exitUsage || !strings.Contains(errs, "/nowhere/isthmus.toml") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// startCluster runs an embedded cluster in memory until the test ends, and tells where.
func startCluster(t *testing.T, name string) (c *broker.Cluster, address string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	e, err := embedded.New(embedded.Config{Name: name, InMemory: true, Listen: "127.0.0.1:0"}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	c, err = broker.Open(broker.Profile{Name: name, Bootstrap: []string{e.Addr()}}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("cluster %s ended with %v", name, err)
		}
	})
	return c, e.Addr()
}

func TestCheckLive(t *testing.T) {
	eu, euAddr := startCluster(t, "eu")
	us, usAddr := startCluster(t, "us")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, c := range []struct {
		at         *broker.Cluster
		topic      string
		partitions int
		configs    map[string]string
	}{
		{eu, "orders", 4, map[string]string{"min.insync.replicas": "2"}},
		{eu, "payments", 2, map[string]string{"cleanup.policy": "compact"}},
		{eu, "dirty", 1, map[string]string{"unclean.leader.election.enable": "true"}},
		{us, "orders", 3, nil},
		{us, "payments", 2, map[string]string{"cleanup.policy": "delete"}},
	} {
		if err := c.at.CreateTopic(ctx, c.topic, c.partitions, 1, c.configs); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.NewReplacer("127.0.0.1:1", euAddr, "127.0.0.1:2", usAddr).Replace(minimal) +
		"replication_factor = 3\n\n[[cluster]]\nname = \"gone\"\nbootstrap = [\"127.0.0.1:1\"]\n\n" +
		"[[link]]\nfrom = \"eu\"\nto = \"gone\"\ntopics = [\"orders\"]\n\n" +
		"[[link]]\nfrom = \"us\"\nto = \"eu\"\ntopics = [\"nothing-*\"]\n"
	code, out, errs := command(ctx, "check", "--live", "--json", writeFile(t, "live.toml", text))
	var v verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitFailed || v.OK {
		t.Fatalf("exit %d, %v, %q, %q", code, err, out, errs)
	}
	got := map[string]string{}
	for _, f := range v.Findings {
		got[fmt.Sprintf("%s %s %s %s %s", f.Severity, f.Kind, f.Cluster, f.Link, f.Topics)] = f.Message
	}
	for _, want := range []string{
		"problem unreachable gone  []",
		"problem fewer-partitions us eu-us [orders]",
		"problem cleanup-policy us eu-us [payments]",
		"warning replication-factor eu  [dirty orders payments]",
		"warning replication-factor us  [orders payments]",
		"warning min-insync-replicas eu  [dirty payments]",
		"warning unclean-election eu  [dirty]",
		"warning replication-factor us eu-us []",
		"warning no-topics eu us-eu []",
	} {
		if got[want] == "" {
			t.Errorf("no finding %q among %v", want, got)
		}
	}
	if v.Findings[0].Severity != problem {
		t.Error("problems do not come first")
	}
	if !strings.Contains(got["problem unreachable gone  []"], "127.0.0.1:1") {
		t.Errorf("%q does not say where", got["problem unreachable gone  []"])
	}
	if code, out, _ := command(ctx, "check", "--live", writeFile(t, "live.toml", text)); code != exitFailed || !strings.Contains(out, "problem: cluster gone: cannot be reached at") {
		t.Errorf("exit %d for a person: %s", code, out)
	}
}

// TestCheckLive_Access: what keeps us out is told by its field, and a missing right by its topics.
func TestCheckLive_Access(t *testing.T) {
	describe := kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "*", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true}
	settings := describe
	settings.Name, settings.Operation = "orders", kmsg.ACLOperationDescribeConfigs
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders", "payments"), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.User("PLAIN", "isthmus", "secret", describe, settings))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	t.Setenv("ISTHMUS_TEST_PW", "secret")
	address := fake.ListenAddrs()[0]
	text := strings.NewReplacer(
		`bootstrap = ["127.0.0.1:1"]`, `bootstrap = ["`+address+`"]
sasl = { mechanism = "PLAIN", user = "isthmus", password = "env:ISTHMUS_TEST_PW" }`,
		"127.0.0.1:2", wantsTLS(t)).Replace(minimal)
	code, out, errs := command(t.Context(), "check", "--live", "--json", "--timeout", "60s", writeFile(t, "live.toml", text))
	var v verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitFailed || strings.Contains(out+errs, "secret") {
		t.Fatalf("exit %d, %v, %q, %q", code, err, out, errs)
	}
	got := map[string]string{}
	for _, f := range v.Findings {
		got[fmt.Sprintf("%s %s %s %s", f.Severity, f.Kind, f.Cluster, f.Topics)] = f.Message
	}
	for what, says := range map[string]string{
		"problem rights eu [payments]": "no right DESCRIBE_CONFIGS on topic payments; allow it with an ACL",
		"problem access us []":         "tls: 127.0.0.1",
	} {
		if !strings.Contains(got[what], says) {
			t.Errorf("%s says %q, want %q, among %v", what, got[what], says, got)
		}
	}
}

// wantsTLS is the address of a listener that speaks TLS: anything else gets an alert.
func wantsTLS(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := conn.Read(make([]byte, 4096)); err == nil {
					_, _ = conn.Write([]byte{21, 3, 3, 0, 2, 2, 80})
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestPolicies(t *testing.T) {
	if policies("compact, delete") != policies("delete,compact") || policies("compact") == policies("delete") {
		t.Error("policies are compared by their order")
	}
}
