package fleet

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// How long a partition may stand still: what the fabric promises. What a record takes when nothing happens comes on top: see allowed.
const (
	afterCrash = 5 * time.Second  // of a node
	afterLoss  = 10 * time.Second // of a data center
	byRestart  = time.Second      // of a node that is told to end
)

// TestFleet restarts and kills nodes of a fabric under load, and judges all that was copied at the end.
func TestFleet(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	l.settled()
	l.rest()
	for _, step := range []struct {
		name string
		run  func(*lab)
	}{
		// Before the kills: after a crash a node is trusted later.
		{"nodes are restarted one by one", (*lab).restarted},
		{"a node is killed", func(l *lab) { l.killed(afterCrash, l.busiest("eu-us")) }},
		{"a data center is killed", func(l *lab) {
			dc := l.busiest("eu-us").Name[:2]
			l.killed(afterLoss, l.node(dc+"-1"), l.node(dc+"-2"))
		}},
		{"one partition is paused", (*lab).paused},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(l.in(t)) }) {
			t.FailNow() // nobody knows what runs now
		}
	}
	l.judged()
}

// rest finds what records take while nothing happens.
func (l *lab) rest() {
	l.t.Helper()
	from := time.Now()
	node.Until(l.t, 2*time.Minute, "the machine is calm enough to measure anything", func(context.Context) error {
		until := from.Add(4 * time.Second)
		if err := l.seen.Passed(until, partitions); err != nil {
			return err
		}
		still := l.seen.Between(from, until)
		l.t.Logf("while nothing happens: %v", still)
		if l.usual = still.Longest; l.usual > time.Second {
			from = time.Now()
			return fmt.Errorf("while nothing happens a record takes %v", l.usual)
		}
		return nil
	})
}

// allowed is how long a partition may stand where so much is promised. A machine that is busy with something else gets more: twice
// what the slowest record took while nothing happened, or the slowest meanwhile that nobody had to copy.
func (l *lab) allowed(promised time.Duration, still node.Still) time.Duration {
	return promised + 2*max(l.usual, still.Direct)
}

// stoodFor fails the test if a partition stood for longer than is promised.
func (l *lab) stoodFor(still node.Still, promised time.Duration) {
	l.t.Helper()
	limit := l.allowed(promised, still)
	if still.Records == 0 {
		l.t.Error("no record was seen: nothing is shown")
	}
	l.t.Logf("%v; promised are %v, allowed %v", still, promised, limit.Round(time.Millisecond))
	if still.Longest > limit {
		l.t.Errorf("%v, want less than %v", still, limit)
	}
}

// in is the lab for a subtest.
func (l *lab) in(t testing.TB) *lab {
	c := *l
	c.t = l.said.In(t)
	c.Setup = l.Setup.In(c.t)
	return &c
}

func (l *lab) node(name string) *node.Node {
	i := slices.IndexFunc(l.nodes, func(n *node.Node) bool { return n.Name == name })
	return l.nodes[i]
}

// busiest is the node that copies most partitions of a link.
func (l *lab) busiest(link string) (most *node.Node) {
	l.t.Helper()
	best := -1
	for _, n := range l.nodes {
		if runs := len(l.runs(n, link)); runs > best {
			most, best = n, runs
		}
	}
	return most
}

// runs lists the partitions of a link that a node copies.
func (l *lab) runs(n *node.Node, link string) (out []int32) {
	l.t.Helper()
	st, err := n.Status(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range node.Flow(st, link, topic).GetPartitions() {
		if p.GetState() == adminpb.State_STATE_RUNNING {
			out = append(out, p.GetPartition())
		}
	}
	return out
}

// killed kills nodes at once and wants all partitions to flow again in time; then it starts them again.
func (l *lab) killed(limit time.Duration, nodes ...*node.Node) {
	l.t.Helper()
	at := time.Now()
	for _, n := range nodes {
		l.t.Logf("kill -9 of %s, which copies partitions %v", n.Name, l.runs(n, "eu-us"))
	}
	for _, n := range nodes {
		n.Kill()
	}
	took := l.flows(time.Now(), 30*time.Second)
	l.t.Logf("all flow again after %v", took.Round(time.Millisecond))
	l.stoodFor(l.seen.Between(at.Add(-time.Second), at.Add(took)), limit)
	for _, n := range nodes {
		n.Start()
	}
	l.settled()
}

// settled waits until all nodes take work and every partition runs.
func (l *lab) settled() {
	l.t.Helper()
	l.ready()
	node.Until(l.t, time.Minute, "all partitions run", l.allRun)
	node.Until(l.t, time.Minute, "all nodes agree who copies what, and nobody else does", l.agreed)
}

// ready waits until all nodes take work.
func (l *lab) ready() {
	l.t.Helper()
	node.Until(l.t, time.Minute, "all nodes are ready", func(ctx context.Context) error {
		for _, n := range l.nodes {
			got, err := n.API.Nodes(ctx)
			if err != nil {
				return err
			}
			for _, m := range got.GetMembers() {
				if m.GetStatus() != adminpb.MemberStatus_MEMBER_STATUS_ALIVE || !m.GetReady() || m.GetDraining() {
					return fmt.Errorf("%s says that %s is %v, ready %t", n.Name, m.GetName(), m.GetStatus(), m.GetReady())
				}
			}
			if len(got.GetMembers()) != len(l.nodes) {
				return fmt.Errorf("%s knows %d nodes", n.Name, len(got.GetMembers()))
			}
		}
		return nil
	})
}

// restarted ends nodes one by one as a deployment does, and starts them again: for CI one of each data center.
func (l *lab) restarted() {
	l.t.Helper()
	from := time.Now()
	for i, n := range l.nodes {
		if !node.Soak() && i%2 == 1 {
			continue
		}
		at := time.Now()
		took := n.Stop()
		n.Start()
		l.settled()
		l.t.Logf("%s ended within %v; %v", n.Name, took.Round(time.Millisecond), l.seen.Between(at, time.Now().Add(-time.Second)))
	}
	end := time.Now()
	l.flows(end, 30*time.Second)
	l.stoodFor(l.seen.Between(from, end), byRestart)
}

// judged waits until all is copied and compares it with what was written.
func (l *lab) judged() {
	l.t.Helper()
	for _, w := range l.loads {
		w.Stop(l.t)
	}
	l.CaughtUp(time.Minute, []string{topic}, l.nodes...)
	l.Judged(l.log, []string{topic}, "eu", "us", "ap")
}

// agreed is an error while two nodes would give a partition to different owners.
func (l *lab) agreed(ctx context.Context) error {
	first := make(map[string]string)
	for _, n := range l.nodes {
		got, err := n.API.Owners(ctx, "", "")
		if err != nil {
			return err
		}
		for _, o := range got.GetOwners() {
			key := fmt.Sprintf("%s %s:%d", o.GetLink(), o.GetTopic(), o.GetPartition())
			says := o.GetOwner() + " (" + o.GetWhy() + ")"
			if other, ok := first[key]; ok && other != says {
				return fmt.Errorf("%s is of %s by the view of %s, and of %s by that of others", key, says, n.Name, other)
			}
			first[key] = says
			if len(o.GetCopies()) > 1 {
				return fmt.Errorf("%s is copied by %v", key, o.GetCopies())
			}
		}
	}
	return nil
}
