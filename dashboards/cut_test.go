package dashboards

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// twoSites is a link between two embedded clusters, each in a node of its own; the link runs near its target.
const twoSites = `[fabric]
name = "cut"
[[cluster]]
name = "eu"
dc = "frankfurt"
embedded = { dir = "eu", listen = %q }
[[cluster]]
name = "us"
dc = "virginia"
embedded = { dir = "us", listen = %q }
[[link]]
from = "eu"
to = "us"
topics = ["orders"]
[[node]]
name = "eu-1"
dc = "frankfurt"
gossip = %q
[[node]]
name = "us-1"
dc = "virginia"
gossip = %q
`

// TestCut freezes the source of a link: the panels that somebody is woken by must say so. A frozen source refuses nothing and
// closes nothing, so its lag stays as it was last seen; only the panels that heed the head's age can tell.
func TestCut(t *testing.T) {
	require(t, "prometheus")
	dir, program := t.TempDir(), binary(t)
	eu, us := freeAddress(t), freeAddress(t)
	file := filepath.Join(dir, "cut.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, twoSites, eu, us, freeAddress(t), freeAddress(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	httpAt := regexp.MustCompile(`msg="node started".* http=(\S+)`)
	nodes := map[string]*process{}
	addresses := map[string]string{}
	for _, name := range []string{"eu-1", "us-1"} {
		place := filepath.Join(dir, name)
		if err := os.Mkdir(place, 0o700); err != nil {
			t.Fatal(err)
		}
		nodes[name] = start(t, place, program, "run", "-c", file, "--node", name, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
		addresses[name] = nodes[name].said(t, 20*time.Second, httpAt)
	}
	writeOne(t, eu)
	p := startPrometheus(t, addresses["us-1"])

	atMost := expression(t, "RPO, at most/A")
	until(t, 20*time.Second, p.process, "the record is mirrored", func(ctx context.Context) error {
		n, err := p.number(ctx, `sum(isthmus_mirror_records_total{link="eu-us"})`)
		return errors.Join(err, unless(n == 1, "%v records", n))
	})
	before, err := p.number(t.Context(), atMost)
	if err != nil {
		t.Fatal(err)
	}
	nodes["eu-1"].signal(t, syscall.SIGSTOP)
	until(t, 15*time.Second, p.process, "RPO, at most, has risen by 6 s", func(ctx context.Context) error {
		n, err := p.number(ctx, atMost)
		return errors.Join(err, unless(n >= before+6, "it is %v s, was %v s", n, before))
	})
	nodes["eu-1"].signal(t, syscall.SIGCONT) // and nothing is written: an idle source is heard too
	until(t, 20*time.Second, p.process, "RPO, at most, is low again", func(ctx context.Context) error {
		n, err := p.number(ctx, atMost)
		return errors.Join(err, unless(n < 3, "it is %v s", n))
	})
}

// unless is an error if what must hold does not.
func unless(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// signal sends s to the process.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.pid, s); err != nil {
		t.Fatalf("send %v to %s: %v", s, p.name, err)
	}
}

// number asks for an expression that answers with one number.
func (p *prom) number(ctx context.Context, expr string) (float64, error) {
	answer, err := p.ask(ctx, "query", expr)
	if err != nil {
		return 0, err
	}
	if len(answer) != 1 || len(answer[0].numbers()) != 1 {
		return 0, fmt.Errorf("%s has %d series, must have one number", expr, len(answer))
	}
	return answer[0].numbers()[0], nil
}

// expression is the PromQL of a panel, for all links and topics.
func expression(t *testing.T, where string) string {
	t.Helper()
	for _, b := range load(t) {
		for _, e := range b.Expressions() {
			if e.Where != where {
				continue
			}
			expr, err := Substitute(e.Expr, map[string]string{"link": ".*", "topic": ".*", "__rate_interval": "15s", "__range": "30s"})
			if err != nil {
				t.Fatal(err)
			}
			return expr
		}
	}
	t.Fatalf("no panel %s", where)
	return ""
}

// freeAddress is an address that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// writeOne writes a record to the topic of the link, and makes the topic first if it is not there.
func writeOne(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{address}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	known, err := c.Metadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := known.Topics["orders"]; !ok {
		if err := c.CreateTopic(ctx, "orders", 1, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	producer, err := c.Producer(broker.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, err := producer.Produce(ctx, broker.Record{Topic: "orders", Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
}
