package switches

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/clients"
	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// recovers are the libraries that can get another id in the middle of their life (KIP-360); of others a restart is asked.
var recovers = map[string]bool{"java": true, "confluent": true, "franz": true}

// TestTransactions moves the router under producers of transactions, short ones that end before the home is left, and long ones that do not: each committed one is there once and whole,
// no aborted one is, and a switch costs a producer one of them at the most.
func TestTransactions(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	n := switchesWanted(t)
	for _, e := range wanted() {
		if !e.Has(clients.Transactional) || os.Getenv("ISTHMUS_CLIENTS") == "" && !recovers[e.Kind] {
			continue
		}
		for name, batch := range map[string]int{"short": rate / 10, "long": 4 * rate} {
			l.startsAs(t, e, clients.Eager, name, "kind=transactional", fmt.Sprint("batch=", batch)).aborts = true
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
	for i := range n {
		to := []string{"us", "eu"}[i%2]
		before := make(map[*client]int)
		for _, c := range l.clients {
			before[c] = c.lost()
		}
		if p := l.goes(l.nodes[i%len(l.nodes)], adminpb.SwitchKind_SWITCH_KIND_PLANNED, to); p.GetOutcome() != "committed" {
			t.Fatalf("%s: %s", p.GetOutcome(), p.GetWhy())
		}
		node.Until(t, 30*time.Second, "all are at "+to, func(ctx context.Context) error { return l.homeIs(ctx, to, int64(i+1)) })
		l.goOn(ctx, t)
		for _, c := range l.clients {
			if lost := c.lost() - before[c]; lost > 1 {
				t.Errorf("%s: %d transactions were lost by one switch", c.topic, lost)
			}
		}
		time.Sleep(2 * time.Second)
	}
	for _, c := range l.clients {
		t.Logf("%s: %d transactions committed, %d lost by %d switches", c.topic, c.count(oracle.Commit), c.lost(), n)
		if c.lost() > n {
			t.Errorf("%s: %d transactions were lost by %d switches", c.topic, c.lost(), n)
		}
		c.end(ctx, t)
	}
}

// lost is how many transactions the producer had to abort.
func (c *client) lost() (n int) {
	for _, e := range c.history.Events() {
		if e.Kind == oracle.Error && strings.HasPrefix(e.Text, aborted) {
			n++
		}
	}
	return n
}
