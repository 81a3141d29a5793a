package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
)

// mostBehind is how many records the mirror may be behind for clients to be held: some seconds' worth. Tests have less.
var mostBehind int64 = 100_000

// latePatience is how long it is waited for that what is on its way back is there, before anybody is held.
const latePatience = 2 * time.Second

// longDelay is a group.initial.rebalance.delay.ms that groups feel.
const longDelay = 1000

// Check is one thing that was looked at before a switch.
type Check struct {
	Name    string
	OK      bool   // it is no reason to refuse
	Warning bool   // of one that is none: and yet people should know
	Text    string // what was found, and what to do where it is not well
}

// check looks whether the switch may begin.
func (a *attempt) check(ctx context.Context, s switchover.State) switchover.Event {
	checks := a.Checks(ctx, s.Order)
	a.checks.Store(&checks)
	var no []string
	for _, c := range checks {
		if !c.OK {
			no = append(no, c.Name+": "+c.Text)
		}
	}
	if len(no) > 0 {
		return switchover.Event{Happening: switchover.No, Why: strings.Join(no, "; ")}
	}
	return switchover.Event{Happening: switchover.Ready}
}

// Checks looks at everything that a switch needs. Nothing is changed.
func (c *Coordinator) Checks(ctx context.Context, o switchover.Order) []Check {
	from, errFrom := c.deps.Cluster(o.From)
	to, errTo := c.deps.Cluster(o.To)
	if err := errors.Join(errFrom, errTo); err != nil {
		return []Check{{Name: "clusters", Text: err.Error()}}
	}
	looks := []func() []Check{
		func() []Check { return c.checkControl(ctx, o) },
		func() []Check { return c.checkInstances(ctx, o) },
		func() []Check { return c.checkDelay(ctx, to) },
	}
	if o.Kind == generation.Unplanned {
		looks = append(looks, func() []Check { return c.checkWithout(ctx, o, to) })
	} else {
		looks = append(looks, func() []Check { return c.checkTopics(ctx, o, from, to) }, func() []Check { return c.checkGroups(ctx, o, from, to) })
	}
	out := make([][]Check, len(looks))
	var all sync.WaitGroup
	for i, look := range looks {
		all.Go(func() { out[i] = look() })
	}
	all.Wait()
	return slices.Concat(out...)
}

// found is a check that is well, or not, for a reason.
func found(name string, err error, text string) Check {
	if err != nil {
		return Check{Name: name, Text: err.Error()}
	}
	return Check{Name: name, OK: true, Text: text}
}

// checkControl looks whether anything can be decided, and whether the order is of now.
func (c *Coordinator) checkControl(ctx context.Context, o switchover.Order) []Check {
	home, _, g, err := c.Home(ctx, o.Set)
	if err == nil && home != o.From {
		err = fmt.Errorf("the home is %s by now, not %s", home, o.From)
	}
	out := []Check{found("control", err, fmt.Sprintf("generation %d at %s; a majority of the control clusters answers", g, home))}
	if st, err := c.deps.Store.State(o.Set); err == nil && st.Open {
		out = append(out, Check{Name: "round", OK: true, Warning: true, Text: "another switch is open; it is taken over"})
	}
	return out
}

// checkInstances looks whether all instances of the router take part.
func (c *Coordinator) checkInstances(ctx context.Context, o switchover.Order) []Check {
	all, missing := c.deps.Instances(ctx, o.Set)
	var no []string
	for _, m := range missing {
		no = append(no, m+" does not answer")
	}
	for _, i := range all {
		if i.Trouble != "" {
			no = append(no, i.Node+": "+i.Trouble)
		}
	}
	if len(no) > 0 && o.Kind == generation.Unplanned && len(all) > 0 {
		return []Check{{Name: "instances", OK: true, Warning: true, Text: some(no) + "; they are waited for until no lease of theirs is good"}}
	}
	if len(no) > 0 {
		return []Check{{Name: "instances", Text: some(no) + "; bring them back, or take them out of the topology"}}
	}
	return []Check{{Name: "instances", OK: len(all) > 0, Text: fmt.Sprintf("%d answer", len(all))}}
}

// checkTopics looks whether the new home has all topics, and how far the mirror is.
func (c *Coordinator) checkTopics(ctx context.Context, o switchover.Order, from, to *broker.Cluster) []Check {
	here, err := c.topics(ctx, from, o.Set)
	if err != nil {
		return []Check{{Name: "topics", Text: err.Error()}}
	}
	there, err := c.topics(ctx, to, o.Set)
	if err != nil {
		return []Check{{Name: "topics", Text: err.Error()}}
	}
	topics, others := c.carried(o.From, o.To, here)
	var no []string
	if len(others) > 0 {
		no = append(no, fmt.Sprintf("no link brings %s from %s to %s; mirror them, or put them into a set of their own", some(others), o.From, o.To))
	}
	for _, name := range topics {
		if want, is := len(here[name].Partitions), len(there[name].Partitions); is != want {
			no = append(no, fmt.Sprintf("topic %s has %d partitions at %s and %d at %s", name, want, o.From, is, o.To))
		}
	}
	if len(no) > 0 {
		return []Check{{Name: "topics", Text: some(no)}}
	}
	out := []Check{{Name: "topics", OK: true, Text: fmt.Sprintf("%d topics are at both", len(topics))}}
	if _, none := c.carried(o.To, o.From, here); len(none) > 0 {
		out = append(out, Check{Name: "way back", OK: true, Warning: true, Text: fmt.Sprintf("no link brings %s from %s to %s, so there is no way back", some(none), o.To, o.From)})
	}
	if len(topics) == 0 {
		return out
	}
	left, err := from.LogEnds(ctx, topics...)
	if err != nil {
		return append(out, Check{Name: "lag", Text: err.Error()})
	}
	n, where, err := behind(ctx, c.deps.Mirror(), o.From, o.To, left)
	if err == nil && n > mostBehind {
		err = fmt.Errorf("the mirror is %d records behind, at %s among others; clients would wait too long: try again when it has caught up", n, where)
	}
	out = append(out, found("lag", err, fmt.Sprintf("%d records are not durably mirrored yet", n)), c.checkLate(ctx, o, to, topics))
	return append(out, c.checkTransactions(ctx, o.Set, from, left))
}

// checkLate looks whether the home that is left has all that the other one has: what a home that was lost has from then is in between until it is brought, and clients would be held for that.
func (c *Coordinator) checkLate(ctx context.Context, o switchover.Order, to *broker.Cluster, topics []string) Check {
	ends, err := c.returning(ctx, o, to, topics)
	var n int64
	var where string
	if end := time.Now().Add(latePatience); err == nil {
		n, where, err = c.catchUp(ctx, o.Set, o.To, o.From, ends, func() bool { return time.Now().Before(end) })
	}
	if err == nil && n > 0 {
		err = fmt.Errorf("%d records of %s are not at %s yet, at %s among others; behind the loss of a home links wait for a while whether clients send them again: try again", n, o.To, o.From, where)
	}
	return found("late", err, fmt.Sprintf("%s has all that %s has", o.From, o.To))
}

// checkWithout looks at the new home alone: the other is presumed dead.
func (c *Coordinator) checkWithout(ctx context.Context, o switchover.Order, to *broker.Cluster) []Check {
	there, err := c.topics(ctx, to, o.Set)
	if err != nil {
		return []Check{{Name: "topics", Text: err.Error()}}
	}
	topics, others := c.carried(o.From, o.To, there)
	if len(topics) == 0 {
		return []Check{{Name: "topics", Text: fmt.Sprintf("%s has no topic of the set that a link brings from %s", o.To, o.From)}}
	}
	out := []Check{{Name: "topics", OK: true, Text: fmt.Sprintf("%d topics are at %s", len(topics), o.To)},
		{Name: "tail", OK: true, Warning: true, Text: fmt.Sprintf("what %s acknowledged and did not get to %s is missing until it comes back", o.From, o.To)}}
	if len(others) > 0 {
		out = append(out, Check{Name: "others", OK: true, Warning: true, Text: fmt.Sprintf("no link brings %s from %s: clients find at %s what was written there", some(others), o.From, o.To)})
	}
	return out
}

// checkGroups looks whether groups can be taken along: positions can be asked for on both sides. It has the connections made that the switch needs for that.
func (c *Coordinator) checkGroups(ctx context.Context, o switchover.Order, from, to *broker.Cluster) []Check {
	names, others, err := groupsOf(ctx, from, c.here(o.Set))
	if err != nil {
		return []Check{{Name: "groups", Text: err.Error()}}
	}
	for _, at := range []*broker.Cluster{from, to} {
		if _, err := positions(at.GroupOffsets(ctx, names...), func(*broker.GroupOffset) bool { return true }); err != nil {
			return []Check{{Name: "groups", Text: fmt.Sprintf("positions at %s: %v", at.Name(), err)}}
		}
	}
	out := []Check{{Name: "groups", OK: true, Text: fmt.Sprintf("the positions of %d are taken along", len(names))}}
	if len(others) > 0 {
		out = append(out, Check{Name: "other groups", OK: true, Warning: true, Text: fmt.Sprintf("%s are not classic; no client of the router can be in them, and they stay", some(others))})
	}
	return out
}

// checkDelay warns of brokers that let new groups wait.
func (c *Coordinator) checkDelay(ctx context.Context, to *broker.Cluster) []Check {
	const name = "group.initial.rebalance.delay.ms"
	m, err := to.Brokers(ctx)
	if err != nil {
		return []Check{{Name: "brokers", Text: err.Error()}}
	}
	all, err := to.BrokerConfigs(ctx, slices.Collect(maps.Keys(m.Brokers))...)
	if err != nil {
		return []Check{{Name: name, OK: true, Warning: true, Text: "it is not told: " + err.Error()}}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if ms, err := strconv.Atoi(all[id][name]); err == nil && ms > longDelay {
			return []Check{{Name: name, OK: true, Warning: true, Text: fmt.Sprintf("it is %v on broker %d of %s: groups stand for that long and more; 200 is enough", time.Duration(ms)*time.Millisecond, id, to.Name())}}
		}
	}
	return []Check{{Name: name, OK: true, Text: "groups are not made to wait"}}
}
