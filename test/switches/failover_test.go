package switches

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/clients"
	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestFailover kills the home's broker under load and takes the clients to another cluster; then the home comes back, and they go back there. What was acknowledged at the lost home and was
// not copied is within what is told, and comes late; each record is there once.
func TestFailover(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	for _, e := range wanted() {
		l.starts(t, e, clients.Eager)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	for _, c := range l.clients {
		if err := c.history.Wait(ctx, "to read", func([]oracle.Event) bool { return c.count(oracle.Read, "first", "second") >= rate }); err != nil {
			t.Fatalf("%s: %v", c.topic, err)
		}
	}
	l.ready()
	home, ok := l.sites["eu"].Server.(*kafka.Cluster)
	if !ok {
		t.Fatal("eu is no real cluster")
	}
	home.Kill(0)
	killed := time.Now()
	p := l.goes(l.nodes[len(l.nodes)-1], adminpb.SwitchKind_SWITCH_KIND_UNPLANNED, "us")
	if p.GetOutcome() != "committed" || p.GetTail() == nil || len(p.GetTail().GetSilent()) > 0 {
		t.Fatalf("%s: %s; tail %v", p.GetOutcome(), p.GetWhy(), p.GetTail())
	}
	t.Logf("decided and told %v after the kill; at most %d acknowledged records are missing", time.Since(killed).Round(time.Millisecond), p.GetTail().GetRecords())
	for _, c := range l.clients {
		acked := c.count(oracle.Acked)
		if err := c.history.Wait(ctx, "to write on", func([]oracle.Event) bool { return c.count(oracle.Acked) > acked }); err != nil {
			t.Fatalf("%s: %v", c.topic, err)
		}
		t.Logf("%s: written on %v after the kill", c.topic, time.Since(killed).Round(time.Millisecond))
	}
	l.goOn(ctx, t)
	home.Start(0)
	if err := home.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	node.Until(t, time.Minute, "a switch back may begin", func(ctx context.Context) error { return l.may(ctx, adminpb.SwitchKind_SWITCH_KIND_BACK, "eu") })
	if p := l.goes(l.nodes[0], adminpb.SwitchKind_SWITCH_KIND_BACK, "eu"); p.GetOutcome() != "committed" {
		t.Fatalf("%s: %s", p.GetOutcome(), p.GetWhy())
	}
	l.goOn(ctx, t)
	for _, c := range l.clients {
		c.promise = oracle.Promise{Tail: true, Rereads: true, Errors: true}
		c.end(ctx, t)
	}
}

// TestFailover_ByItself kills the home's broker and does nothing: with three data centers the clients are taken to another cluster.
func TestFailover_ByItself(t *testing.T) {
	kafka.Require(t)
	if !node.Soak() {
		t.Skip("ISTHMUS_SOAK=1 runs it; test/world leaves a dead home too")
	}
	l := newLabWith(t, nil, "failover_to = \"us\"\n")
	for _, e := range wanted() {
		l.starts(t, e, clients.Eager)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, c := range l.clients {
		if err := c.history.Wait(ctx, "to read", func([]oracle.Event) bool { return c.count(oracle.Read, "first", "second") >= rate }); err != nil {
			t.Fatalf("%s: %v", c.topic, err)
		}
	}
	l.ready()
	l.sites["eu"].Server.(*kafka.Cluster).Kill(0)
	killed := time.Now()
	time.Sleep(time.Second)
	acked := make(map[*client]int)
	for _, c := range l.clients {
		acked[c] = c.count(oracle.Acked)
	}
	for _, c := range l.clients {
		if err := c.history.Wait(ctx, "to write on", func([]oracle.Event) bool { return c.count(oracle.Acked) > acked[c] }); err != nil {
			t.Fatalf("%s: %v", c.topic, err)
		}
		t.Logf("%s: written on %v after the kill", c.topic, time.Since(killed).Round(time.Millisecond))
	}
	l.goOn(ctx, t)
	if err := l.homeIs(ctx, "us", 1); err != nil {
		t.Error(err)
	}
	for _, c := range l.clients {
		for _, r := range c.runs {
			r.Stop()
		}
	}
}

// may is an error while a switch may not begin.
func (l *lab) may(ctx context.Context, kind adminpb.SwitchKind, to string) error {
	var last *adminpb.SwitchProgress
	err := l.nodes[0].API.Switch(ctx, &adminpb.SwitchRequest{Router: "shop", To: to, Kind: kind, DryRun: true}, func(p *adminpb.SwitchProgress) error {
		last = p
		return nil
	})
	if err == nil && last.GetOutcome() != "ready" {
		err = errors.New(fmt.Sprint(last.GetWhy(), last.GetChecks()))
	}
	return err
}
