package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/node"
)

// stopsWithin is how long a partition may go on after somebody paused it on any node.
const stopsWithin = 2 * time.Second

// paused pauses one partition through a node that does not copy it, kills the one that does, and resumes it.
func (l *lab) paused() {
	l.t.Helper()
	owner := l.busiest("eu-us")
	p := l.runs(owner, "eu-us")[0]
	other := l.nodes[slices.IndexFunc(l.nodes, func(n *node.Node) bool { return n != owner })]
	ctx := l.t.Context()
	asked := time.Now()
	if _, err := other.API.Pause(ctx, &adminpb.PauseRequest{Link: "eu-us", Topic: topic, Partitions: []int32{p}, Why: "to see it stop"}); err != nil {
		l.t.Fatal(err)
	}
	quiet := func(since time.Time) error {
		if last := l.seen.Last(p); last.After(since) {
			return fmt.Errorf("a record of partition %d came at %v", p, last)
		}
		return nil
	}
	node.Until(l.t, 20*time.Second, "the partition stands", func(context.Context) error { return quiet(time.Now().Add(-3 * time.Second)) })
	if took := l.seen.Last(p).Sub(asked); took > stopsWithin {
		l.t.Errorf("partition %d stopped %v after it was paused, want less than %v", p, took, stopsWithin)
	} else {
		l.t.Logf("partition %d, which %s copied, stopped %v after it was paused through %s", p, owner.Name, took, other.Name)
	}
	owner.Kill()
	killed := time.Now()
	node.Until(l.t, 30*time.Second, "all others flow", func(context.Context) error { return l.seen.Passed(killed, partitions, p) })
	owner.Start()
	l.ready()
	again := time.Now()
	node.Until(l.t, 30*time.Second, "all others flow", func(context.Context) error { return l.seen.Passed(again, partitions, p) })
	// While it goes to the node that came back nobody may have it for a moment.
	node.Until(l.t, 10*time.Second, "a node says that it is paused", func(ctx context.Context) error { return l.isPaused(ctx, p) })
	if err := quiet(killed); err != nil {
		l.t.Error(err)
	}
	if _, err := other.API.Resume(ctx, &adminpb.ResumeRequest{Link: "eu-us", Topic: topic, Partitions: []int32{p}}); err != nil {
		l.t.Fatal(err)
	}
	resumed := time.Now()
	l.t.Logf("resumed, and flows after %v", l.flows(resumed, 30*time.Second).Round(time.Millisecond))
}

// isPaused is an error if no node says that the partition is paused, or one copies it.
func (l *lab) isPaused(ctx context.Context, partition int32) error {
	paused := false
	for _, n := range l.nodes {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		switch at := node.Flow(st, "eu-us", topic).GetPartitions()[partition]; at.GetState() {
		case adminpb.State_STATE_RUNNING:
			return fmt.Errorf("%s copies partition %d, which is paused", n.Name, partition)
		case adminpb.State_STATE_PAUSED:
			paused = true
		}
	}
	if !paused {
		return fmt.Errorf("no node says that partition %d is paused", partition)
	}
	return nil
}
