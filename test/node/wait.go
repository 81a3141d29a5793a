package node

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

// AskEvery is the pause between two looks at something that is not as wanted yet.
const AskEvery = 100 * time.Millisecond

// Until asks until ask has nothing to say against it, and fails the test with its last words after limit, or at once if
// the process that should do it is dead.
func Until(t testing.TB, limit time.Duration, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(AskEvery)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if last == nil || time.Until(deadline) > AskEvery { // else it only says that time is up
			last = err
		}
		var dead *DeadError
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

// Stays asks for so long, and fails the test when ask has something to say against it.
func Stays(t testing.TB, long time.Duration, what string, ask func(context.Context) error) {
	t.Helper()
	tick := time.NewTicker(AskEvery)
	defer tick.Stop()
	for end := time.Now().Add(long); time.Now().Before(end); <-tick.C {
		if err := ask(t.Context()); err != nil {
			t.Fatalf("%s did not last: %v", what, err)
		}
	}
}

// Position is how far a partition of a link must have come.
type Position struct {
	Link, Topic string
	Partition   int32
	Offset      int64
}

// Goals are the ends of the topics at the source of every link, as of now.
func (s *Setup) Goals(ctx context.Context, topics []string) ([]Position, error) {
	ends := make(map[string]map[string]map[int32]int64)
	for _, c := range s.Sites {
		e, err := c.Ends(ctx, topics...)
		if err != nil {
			return nil, err
		}
		ends[c.Name] = e
	}
	var goals []Position
	for _, l := range s.Topology.Links {
		for topic, partitions := range ends[l.From] {
			if !l.Matches(topic) {
				continue
			}
			for p, end := range partitions {
				goals = append(goals, Position{l.Name, topic, p, end})
			}
		}
	}
	return goals, nil
}

// Reached is an error that names the first goal that no node has reached.
func Reached(ctx context.Context, goals []Position, nodes ...*Node) error {
	at := make(map[Position]*adminpb.Partition)
	blocked := make(map[Position]string)
	for _, n := range nodes {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		for _, l := range st.GetLinks() {
			for _, f := range l.GetFlows() {
				blocked[Position{Link: l.GetName(), Topic: f.GetTopic()}] = f.GetBlocked() + l.GetTrouble()
				for _, p := range f.GetPartitions() {
					key := Position{l.GetName(), f.GetTopic(), p.GetPartition(), 0}
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
		key.Offset = 0
		if p := at[key]; p.GetSourceNext() < g.Offset || p == nil && g.Offset > 0 {
			if missing++; first == nil {
				first = fmt.Errorf("%s %s:%d is at %d of %d, %s (%s) %s", g.Link, g.Topic, g.Partition, p.GetSourceNext(), g.Offset,
					admin.Name(p.GetState()), p.GetReason(), blocked[Position{Link: g.Link, Topic: g.Topic}])
			}
		}
	}
	if first != nil {
		return fmt.Errorf("%d partitions are behind; %w", missing, first)
	}
	return nil
}

// CaughtUp waits until everything that is at any source now has passed all links: nothing more moves anywhere.
func (s *Setup) CaughtUp(limit time.Duration, topics []string, nodes ...*Node) {
	s.t.Helper()
	Until(s.t, limit, "everything is mirrored", func(ctx context.Context) error {
		goals, err := s.Goals(ctx, topics)
		if err != nil {
			return err
		}
		if err := Reached(ctx, goals, nodes...); err != nil {
			return err
		}
		after, err := s.Goals(ctx, topics)
		if err != nil {
			return err
		}
		if !maps.Equal(asMap(goals), asMap(after)) {
			return errors.New("the last links still write")
		}
		return nil
	})
}

func asMap(goals []Position) map[Position]bool {
	m := make(map[Position]bool, len(goals))
	for _, g := range goals {
		m[g] = true
	}
	return m
}

// Flow finds one topic of one link in a status; nil if it is not there.
func Flow(st *adminpb.StatusResponse, link, topic string) *adminpb.Flow {
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			if l.GetName() == link && f.GetTopic() == topic {
				return f
			}
		}
	}
	return nil
}
