package switches

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/clients"
	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// switchesWanted is how many there are; ISTHMUS_SWITCHES is another number.
func switchesWanted(t *testing.T) int {
	if text := os.Getenv("ISTHMUS_SWITCHES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("ISTHMUS_SWITCHES is %q", text)
		}
		return n
	}
	return node.Pick(4, 20)
}

// TestPlanned moves the router to and fro under load: nothing is lost, doubled, out of order or read twice, and no client is told of any error.
func TestPlanned(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	n := switchesWanted(t)
	for i, e := range wanted() {
		for m, mode := range []clients.Feature{clients.Eager, clients.Cooperative} {
			if e.Has(mode) && (os.Getenv("ISTHMUS_CLIENTS") != "" || i%2 == m || !e.Has(clients.Cooperative)) { // in CI each in one mode
				l.starts(t, e, mode)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(2+n)*time.Minute)
	defer cancel()
	for _, c := range l.clients {
		if err := c.history.Wait(ctx, "to read", func([]oracle.Event) bool { return c.count(oracle.Read, "first", "second") >= rate }); err != nil {
			t.Fatalf("%s: %v", c.topic, err)
		}
	}
	l.ready()
	var gaps []time.Duration
	for i := range n {
		to := []string{"us", "eu"}[i%2]
		p := l.goes(l.nodes[i%len(l.nodes)], adminpb.SwitchKind_SWITCH_KIND_PLANNED, to)
		if p.GetOutcome() != "committed" {
			t.Fatalf("%s: %s", p.GetOutcome(), p.GetWhy())
		}
		gaps = append(gaps, time.Duration(p.GetGapSeconds()*float64(time.Second)))
		node.Until(t, 30*time.Second, "all are at "+to, func(ctx context.Context) error { return l.homeIs(ctx, to, int64(i+1)) })
		l.goOn(ctx, t)
		time.Sleep(2 * time.Second)
	}
	for _, c := range l.clients {
		c.end(ctx, t)
	}
	t.Logf("clients stood at switches: p50 %v, p95 %v", quantile(gaps, 0.5).Round(time.Millisecond), quantile(gaps, 0.95).Round(time.Millisecond))
}

// goOn waits until all groups have read a second's worth of records, and says which of them took long.
func (l *lab) goOn(ctx context.Context, t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	at := time.Now()
	var all sync.WaitGroup
	for _, c := range l.clients {
		all.Go(func() {
			read := c.count(oracle.Read, "first", "second")
			if err := c.history.Wait(ctx, "to go on", func([]oracle.Event) bool { return c.count(oracle.Read, "first", "second") >= read+rate }); err != nil {
				t.Errorf("%s: %v", c.topic, err)
			} else if took := time.Since(at); took > 4*time.Second {
				t.Logf("%s: read on after %v", c.topic, took.Round(time.Millisecond))
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
