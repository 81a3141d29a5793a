package secure

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// stage is a topology file in the making, in a folder with the files that it refers to.
type stage struct {
	folder
	fabric string
	text   strings.Builder
}

func newStage(t testing.TB, fabric string) *stage {
	s := &stage{folder: folder{t, t.TempDir()}, fabric: fabric}
	fmt.Fprintf(&s.text, "[fabric]\nname = %q\n", fabric)
	return s
}

// cluster adds a cluster that is found at an address of its own; lines are its tls and sasl. No listener is the one that asks
// nothing.
func (s *stage) cluster(name string, at *site, listener string, lines ...string) {
	s.t.Helper()
	to := at.Bootstrap()
	if listener != "" {
		to = at.Addresses(listener)
	}
	fmt.Fprintf(&s.text, "[[cluster]]\nname = %q\nbootstrap = [%q]\n%s\n", name, relay(s.t, to[0]), strings.Join(lines, "\n"))
}

// link adds a link; its name is FROM-TO.
func (s *stage) link(from, to string, topics ...string) {
	fmt.Fprintf(&s.text, "[[link]]\nfrom = %q\nto = %q\ntopics = [\"%s\"]\n", from, to, strings.Join(topics, `", "`))
}

// settings adds lines to what was added last.
func (s *stage) settings(lines string) { s.text.WriteString(lines) }

// file writes the topology and returns its path.
func (s *stage) file() string { return s.put("isthmus.toml", []byte(s.text.String())) }

// node adds the node that runs all links, and returns it, not started.
func (s *stage) node() *node.Node {
	s.t.Helper()
	grpc := net.JoinHostPort("127.0.0.1", strconv.Itoa(node.FreePort(s.t)))
	fmt.Fprintf(&s.text, "[[node]]\nname = \"n1\"\nhttp = \"127.0.0.1:%d\"\ngrpc = %q\n", node.FreePort(s.t), grpc)
	return node.New(s.t, "n1", s.file(), grpc)
}

// tls is the line for a broker of the pair's authority, with more keys if any.
func (s *stage) tls(p *pair, more ...string) string {
	s.put("ca.pem", p.ca.pem)
	return `tls = { ` + strings.Join(append([]string{`ca = "file:ca.pem"`}, more...), ", ") + ` }`
}

// shows writes a client's certificate and returns the keys that refer to it.
func (s *stage) shows(name string, i identity) string {
	cert, key := s.put(name+".pem", i.cert), s.put(name+".key", i.key)
	return fmt.Sprintf(`cert = "file:%s", key = "file:%s"`, filepath.Base(cert), filepath.Base(key))
}

// login is a sasl line whose password is in a file, NAME.password.
func (s *stage) login(name, mechanism, user, password string) string {
	s.put(name+".password", []byte(password+"\n"))
	return fmt.Sprintf(`sasl = { mechanism = %q, user = %q, password = "file:%s.password" }`, mechanism, user, name)
}

// copied waits until partitions of a topic, as they are at the source now, have passed a link.
func copied(t testing.TB, limit time.Duration, n *node.Node, from *site, link string, topics ...string) {
	t.Helper()
	node.Until(t, limit, fmt.Sprintf("%s has passed %s", strings.Join(topics, ", "), link), func(ctx context.Context) error {
		ends, err := from.ends(ctx, topics...)
		if err != nil {
			return err
		}
		var goals []node.Position
		for topic, partitions := range ends {
			for p, end := range partitions {
				goals = append(goals, node.Position{Link: link, Topic: topic, Partition: p, Offset: end})
			}
		}
		return node.Reached(ctx, goals, n)
	})
}

// write puts records into a topic of a site; no two calls of one log may share the seed and the topic.
func write(t testing.TB, s *site, log *judge.Log, topic string, partitions int32, records int, seed uint64) {
	t.Helper()
	load := judge.Load{Topic: topic, Partitions: partitions, Records: records, Size: 120, Compression: "lz4", Headers: true, Seed: seed}
	if err := judge.Write(t.Context(), s.client(), load, log); err != nil {
		t.Fatal(err)
	}
}

// judged reads everything back from both clusters and wants every record of eu at us, once, in order, unchanged.
func (p *pair) judged(t testing.TB, log *judge.Log, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := judge.Case{Clusters: []judge.Client{p.eu.client(), p.us.client()}, Topics: topics, Log: log, Targets: []string{"us"},
		Carries: func(target, origin, _ string) bool { return target != origin }}
	v, err := c.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK() || v.Reports["us"].Pending > 0 || v.Records["us"] == 0 || v.Records["us"] != v.Records["eu"] {
		t.Errorf("us does not hold what eu holds: %v", v)
	}
	t.Logf("%v", v)
}

// checkLive is what isthmus check --live says to a person. It may find problems: most of the tests make some.
func checkLive(t testing.TB, file string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := node.Binary(ctx, "check", "--live", file)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
