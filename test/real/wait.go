package real

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// askEvery is the pause between two looks at something that is not as wanted yet.
const askEvery = 150 * time.Millisecond

// until asks until ask has nothing to say against it, and fails the test with its last words after limit, or at once if
// the process that should do it is dead.
func until(t testing.TB, limit time.Duration, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if last == nil || time.Until(deadline) > askEvery { // else it only says that time is up
			last = err
		}
		var dead *deadError
		if errors.As(err, &dead) {
			t.Fatalf("wait until %s: %v", what, err)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v until %s: %v", limit, what, last)
		case <-tick.C:
		}
	}
}

// stays asks for so long, and fails the test when ask has something to say against it.
func stays(t testing.TB, long time.Duration, what string, ask func(context.Context) error) {
	t.Helper()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for end := time.Now().Add(long); time.Now().Before(end); <-tick.C {
		if err := ask(t.Context()); err != nil {
			t.Fatalf("%s did not last: %v", what, err)
		}
	}
}

// position is how far a partition of a link must have come.
type position struct {
	link, topic string
	partition   int32
	offset      int64
}

// goals are the ends of the topics at the source of every link, as of now.
func (s *setup) goals(ctx context.Context, topics []string) ([]position, error) {
	ends := make(map[string]map[string]map[int32]int64)
	for _, c := range s.sites {
		e, err := c.ends(ctx, topics...)
		if err != nil {
			return nil, err
		}
		ends[c.name] = e
	}
	var goals []position
	for _, l := range s.topo.Links {
		for topic, partitions := range ends[l.From] {
			if !l.Matches(topic) {
				continue
			}
			for p, end := range partitions {
				goals = append(goals, position{l.Name, topic, p, end})
			}
		}
	}
	return goals, nil
}

// reached is an error that names the first goal that no node has reached.
func reached(ctx context.Context, goals []position, nodes ...*node) error {
	at := make(map[position]*adminpb.Partition)
	blocked := make(map[position]string)
	for _, n := range nodes {
		st, err := n.status(ctx)
		if err != nil {
			return err
		}
		for _, l := range st.GetLinks() {
			for _, f := range l.GetFlows() {
				blocked[position{link: l.GetName(), topic: f.GetTopic()}] = f.GetBlocked() + l.GetTrouble()
				for _, p := range f.GetPartitions() {
					key := position{l.GetName(), f.GetTopic(), p.GetPartition(), 0}
					if old := at[key]; old == nil || old.GetSourceNext() < p.GetSourceNext() {
						at[key] = p
					}
				}
			}
		}
	}
	missing, first := 0, error(nil)
	for _, g := range goals {
		key := g
		key.offset = 0
		if p := at[key]; p.GetSourceNext() < g.offset || p == nil && g.offset > 0 {
			if missing++; first == nil {
				first = fmt.Errorf("%s %s:%d is at %d of %d, %s (%s) %s", g.link, g.topic, g.partition, p.GetSourceNext(), g.offset,
					admin.Name(p.GetState()), p.GetReason(), blocked[position{link: g.link, topic: g.topic}])
			}
		}
	}
	if first != nil {
		return fmt.Errorf("%d partitions are behind; %w", missing, first)
	}
	return nil
}

// caughtUp waits until everything that is at any source now has passed all links: nothing more moves anywhere.
func (s *setup) caughtUp(limit time.Duration, topics []string, nodes ...*node) {
	s.t.Helper()
	until(s.t, limit, "everything is mirrored", func(ctx context.Context) error {
		goals, err := s.goals(ctx, topics)
		if err != nil {
			return err
		}
		if err := reached(ctx, goals, nodes...); err != nil {
			return err
		}
		after, err := s.goals(ctx, topics)
		if err != nil {
			return err
		}
		if !maps.Equal(asMap(goals), asMap(after)) {
			return errors.New("the last links still write")
		}
		return nil
	})
}

func asMap(goals []position) map[position]bool {
	m := make(map[position]bool, len(goals))
	for _, g := range goals {
		m[g] = true
	}
	return m
}

// flow finds one topic of one link in a status; nil if it is not there.
func flow(st *adminpb.StatusResponse, link, topic string) *adminpb.Flow {
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			if l.GetName() == link && f.GetTopic() == topic {
				return f
			}
		}
	}
	return nil
}
