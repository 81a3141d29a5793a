package real

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// lab is one pair of clusters with a healthy topic, "neighbour", beside which other topics are made sick.
type lab struct {
	*node.Setup
	eu, us *node.Site
	node   *node.Node
	log    *judge.Log
	seeds  uint64 // one per load, so that no two records have the same uid
}

// naming is how long it may take until trouble has its right name: clusters are asked for their topics every few seconds.
const naming = 15 * time.Second

// curing is how long a topic may take to run again once its trouble is gone: settings are looked at every few seconds.
const curing = time.Minute

// TestInput_TroubleIsNamedStaysSmallAndHeals makes one thing wrong after the other while a neighbour topic flows.
func TestInput_TroubleIsNamedStaysSmallAndHeals(t *testing.T) {
	kafka.Require(t)
	sites := node.StartSites(t, "eu", "us")
	nowhere := &node.Site{Name: "nowhere"}
	l := &lab{eu: sites["eu"], us: sites["us"], log: judge.NewLog()}
	l.Setup = node.NewSetup(t, "input", []*node.Site{l.eu, l.us, nowhere}, []string{"eu>us", "eu>nowhere", "nowhere>us"}, []string{"*"}, []string{"n1"})
	l.eu.Create(t, "neighbour", 2)
	l.node = l.Setup.Node("n1")
	l.node.Start()
	l.neighbourFlows(t)
	for _, tc := range []struct {
		name string
		run  func(*lab, *testing.T)
	}{
		{"unreachable cluster", (*lab).unreachable},
		{"fewer partitions", (*lab).fewerPartitions},
		{"grown source", (*lab).grownSource},
		{"other cleanup policy", (*lab).otherPolicy},
		{"restamping target", (*lab).restamping},
		{"recreated source", (*lab).recreatedSource},
		{"recreated source, longer", (*lab).recreatedLonger},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(l, t) })
	}
	l.Judged(l.log, []string{"neighbour", "narrow", "growing", "policy", "stamped"}, "us")
}

// write puts records into a topic of eu and returns when they are acknowledged.
func (l *lab) write(t *testing.T, topic string, partitions int32, records int) {
	t.Helper()
	l.writeTo(t, l.log, topic, partitions, records)
}

func (l *lab) writeTo(t *testing.T, log *judge.Log, topic string, partitions int32, records int) {
	t.Helper()
	l.seeds++
	load := judge.Load{Topic: topic, Partitions: partitions, Records: records, Size: 80, Compression: "lz4", Seed: l.seeds}
	if err := judge.Write(t.Context(), l.eu.Client(), load, log); err != nil {
		t.Fatal(err)
	}
}

// copied waits until everything of these partitions at eu is at us.
func (l *lab) copied(t *testing.T, topic string, partitions ...int32) {
	t.Helper()
	node.Until(t, curing, topic+" is copied", func(ctx context.Context) error {
		ends, err := l.eu.Ends(ctx, topic)
		if err != nil {
			return err
		}
		var goals []node.Position
		for _, p := range partitions {
			goals = append(goals, node.Position{Link: "eu-us", Topic: topic, Partition: p, Offset: ends[topic][p]})
		}
		return node.Reached(ctx, goals, l.node)
	})
}

func (l *lab) neighbourFlows(t *testing.T) {
	t.Helper()
	l.write(t, "neighbour", 2, 200)
	l.copied(t, "neighbour", 0, 1)
}

// blocked waits until the status says why a topic is not mirrored: the state's name, and words that a person needs.
func (l *lab) blocked(t *testing.T, topic, state string, words ...string) {
	t.Helper()
	node.Until(t, curing, topic+" is blocked as "+state, func(ctx context.Context) error {
		st, err := l.node.Status(ctx)
		if err != nil {
			return err
		}
		said := node.Flow(st, "eu-us", topic).GetBlocked()
		for _, w := range append(words, state, topic) {
			if !strings.Contains(said, w) {
				return fmt.Errorf("status says %q, without %q", said, w)
			}
		}
		return nil
	})
	out, err := l.node.CLI(t.Context(), "status", "--json")
	if err != nil || !strings.Contains(string(out), state) {
		t.Errorf("isthmus status --json does not tell of %s: %s (%v)", state, out, err)
	}
}

// heals waits until nothing is said against a topic any more and all its partitions run.
func (l *lab) heals(t *testing.T, topic string, partitions int32) {
	t.Helper()
	node.Until(t, curing, topic+" runs again", func(ctx context.Context) error {
		st, err := l.node.Status(ctx)
		if err != nil {
			return err
		}
		f := node.Flow(st, "eu-us", topic)
		if f.GetBlocked() != "" || f.GetRunning() != partitions {
			return fmt.Errorf("%d of %d run; blocked: %q", f.GetRunning(), partitions, f.GetBlocked())
		}
		return nil
	})
}

// unreachable: links to and from a cluster where nothing listens name it, and the other link does not care.
func (l *lab) unreachable(t *testing.T) {
	node.Until(t, curing, "both links of the unreachable cluster say so", func(ctx context.Context) error {
		st, err := l.node.Status(ctx)
		if err != nil {
			return err
		}
		said := make(map[string]string)
		for _, link := range st.GetLinks() {
			said[link.GetName()] = link.GetTrouble()
			if link.GetUp() != (link.GetName() == "eu-us") {
				return fmt.Errorf("link %s: up %v, %q", link.GetName(), link.GetUp(), link.GetTrouble())
			}
		}
		for _, name := range []string{"eu-nowhere", "nowhere-us"} {
			if !strings.Contains(said[name], "nowhere") || !strings.Contains(said[name], "connection refused") {
				return fmt.Errorf("link %s says %q", name, said[name])
			}
		}
		return nil
	})
	l.neighbourFlows(t)
}

// fewerPartitions: what has a partition at the target flows, the rest waits for partitions.
func (l *lab) fewerPartitions(t *testing.T) {
	l.us.Create(t, "narrow", 2)
	l.eu.Create(t, "narrow", 4)
	l.write(t, "narrow", 4, 400)
	l.blocked(t, "narrow", "fewer-partitions", "2", "4")
	l.copied(t, "narrow", 0, 1)
	l.neighbourFlows(t)
	node.Stays(t, 5*time.Second, "the target with the partitions its owner gave it", func(ctx context.Context) error {
		ends, err := l.us.Ends(ctx, "narrow")
		if err == nil && len(ends["narrow"]) != 2 {
			err = fmt.Errorf("it has %d partitions", len(ends["narrow"]))
		}
		return err
	})
	l.blocked(t, "narrow", "fewer-partitions", "2", "4")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	res, err := l.us.Admin.UpdatePartitions(ctx, 4, "narrow")
	if err := errors.Join(err, res.Error()); err != nil {
		t.Fatal(err)
	}
	l.heals(t, "narrow", 4)
	l.copied(t, "narrow", 0, 1, 2, 3)
}

// noticing is how long new topics and partitions may take from their first record until it is at the target.
const noticing = 5 * time.Second

// grownSource: new topics and partitions are no trouble; they are noticed and made at the target.
func (l *lab) grownSource(t *testing.T) {
	inTime := func(what string, partitions int32) {
		t.Helper()
		l.write(t, "growing", partitions, 20*int(partitions))
		node.Until(t, noticing, what, func(ctx context.Context) error {
			ends, err := l.eu.Ends(ctx, "growing")
			if err != nil {
				return err
			}
			var goals []node.Position
			for p, end := range ends["growing"] {
				goals = append(goals, node.Position{Link: "eu-us", Topic: "growing", Partition: p, Offset: end})
			}
			return node.Reached(ctx, goals, l.node)
		})
	}
	l.eu.Create(t, "growing", 1)
	inTime("a new topic is copied", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	res, err := l.eu.Admin.UpdatePartitions(ctx, 3, "growing")
	if err := errors.Join(err, res.Error()); err != nil {
		t.Fatal(err)
	}
	inTime("new partitions are copied", 3)
}

// otherPolicy: a target that compacts what the source keeps would lose records.
func (l *lab) otherPolicy(t *testing.T) {
	l.us.Create(t, "policy", 2, "cleanup.policy=compact")
	l.eu.Create(t, "policy", 2)
	l.write(t, "policy", 2, 200)
	l.blocked(t, "policy", "cleanup-policy", "compact", "delete")
	l.neighbourFlows(t)
	l.us.Alter(t, "policy", "cleanup.policy", "delete")
	l.heals(t, "policy", 2)
	l.copied(t, "policy", 0, 1)
}

// restamping: a target with LogAppendTime would give every copy another time.
func (l *lab) restamping(t *testing.T) {
	l.us.Create(t, "stamped", 2, "message.timestamp.type=LogAppendTime")
	l.eu.Create(t, "stamped", 2)
	l.write(t, "stamped", 2, 200)
	l.blocked(t, "stamped", "timestamp-type", "LogAppendTime", "CreateTime")
	l.neighbourFlows(t)
	l.us.Alter(t, "stamped", "message.timestamp.type", "CreateTime")
	l.heals(t, "stamped", 2)
	l.copied(t, "stamped", 0, 1)
}

// recreatedSource: the new topic's records are not the old one's, so nothing is copied on top of those.
func (l *lab) recreatedSource(t *testing.T) { l.recreated(t, "reborn", 300, 100) }

// recreatedLonger: a new log that is longer than the old one was has records at every offset that the mirror may ask for.
func (l *lab) recreatedLonger(t *testing.T) { l.recreated(t, "regrown", 100, 2000) }

func (l *lab) recreated(t *testing.T, topic string, before, after int) {
	log := judge.NewLog() // of two topics with one name: nothing for the checker
	l.eu.Create(t, topic, 2)
	l.writeTo(t, log, topic, 2, before)
	l.copied(t, topic, 0, 1)
	held, err := l.us.Ends(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.eu.Admin.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	node.Until(t, curing, "the topic is created again", func(ctx context.Context) error { // deletion takes the broker a moment
		_, err := l.eu.Admin.CreateTopic(ctx, 2, 1, nil, topic)
		return err
	})
	node.Until(t, curing, "eu serves the new topic", func(ctx context.Context) error {
		_, err := l.eu.Ends(ctx, topic)
		return err
	})
	l.writeTo(t, log, topic, 2, after)
	node.Until(t, naming, "every partition says that the topic was recreated", func(ctx context.Context) error {
		st, err := l.node.Status(ctx)
		if err != nil {
			return err
		}
		f := node.Flow(st, "eu-us", topic)
		for _, p := range f.GetPartitions() {
			if p.GetState() != adminpb.State_STATE_HALTED || !strings.Contains(p.GetReason(), "recreated") || !strings.Contains(p.GetReason(), "eu") {
				return fmt.Errorf("partition %d is %s: %q", p.GetPartition(), admin.Name(p.GetState()), p.GetReason())
			}
		}
		if len(f.GetPartitions()) != 2 {
			return fmt.Errorf("%d partitions", len(f.GetPartitions()))
		}
		return nil
	})
	l.neighbourFlows(t)
	now, err := l.us.Ends(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(now) != fmt.Sprint(held) {
		t.Errorf("the target of the recreated topic went on from %v to %v", held, now)
	}
}
