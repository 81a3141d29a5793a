package fabric

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/positions"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// mirrored is what a router asks of the mirror of its node.
type mirrored struct{ set *mirror.Set }

// Runs implements [arrival.Runs].
func (m mirrored) Runs(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	return timelineRuns(m.set.Look().Runs(ctx, from, at, topic, partition))
}

// Producers implements [arrival.Runs].
func (mirrored) Producers(context.Context, string, string, string, int32) ([]gate.Producer, error) {
	return nil, nil
}

// Copied implements [arrival.Runs].
func (m mirrored) Copied(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	return timelineRuns(m.set.Look().Copied(ctx, from, at, topic, partition))
}

func timelineRuns(runs []mirror.Run, err error) ([]timeline.Run, error) {
	out := make([]timeline.Run, len(runs))
	for i, r := range runs {
		out[i] = timeline.Run{From: r.Source, To: r.Target, Count: r.Records}
	}
	return out, err
}

// moves is a home that moves as planned, without routers: what they would do is what the test does.
type moves struct {
	*testing.T
	f      *Fabric
	nodes  []*Node
	topics []string
	req    arrival.Request
	cuts   map[string][]generation.CutTopic
	places map[string]int64 // virtual offset of each value, by topic and value
}

func (m *moves) home() string {
	if n := len(m.req.Switches); n > 0 {
		return m.req.Switches[n-1].Home
	}
	return m.req.First
}

// move takes the home to a cluster, when all clusters have all.
func (m *moves) move(to string) {
	m.Helper()
	from, n := m.home(), m.nodes[len(m.req.Switches)%len(m.nodes)]
	left, there := map[string][]int64{}, map[string][]int64{}
	for range 2 { // what came to one is read for the others
		for _, l := range m.f.Topology.Links {
			for _, topic := range m.topics {
				end := endOf(m.T, m.f, l.From, topic)
				eventually(m.T, 20*time.Second, "the mirror has all", func() bool {
					next, err := n.Set.Look().Reached(m.Context(), l.From, l.To, topic, 0)
					return err == nil && next >= end
				})
			}
		}
	}
	for _, topic := range m.topics {
		left[topic], there[topic] = []int64{endOf(m.T, m.f, from, topic)}, []int64{endOf(m.T, m.f, to, topic)}
	}
	before, err := arrival.Timelines(m.Context(), m.req)
	if err != nil {
		m.Fatal(err)
	}
	id := fmt.Sprint(len(m.req.Switches))
	if m.cuts[id], err = arrival.Cut(before, to, left, there); err != nil {
		m.Fatal(err)
	}
	m.req.Switches = append(m.req.Switches, generation.Value{Kind: generation.Planned, Generation: int64(len(m.req.Switches) + 1), From: from, Home: to, Cut: generation.CutRef{ID: id}})
}

// check sees on each node that all records are where they were.
func (m *moves) check() {
	m.Helper()
	for _, n := range m.nodes {
		a, err := arrival.Build(m.Context(), m.req, mirrored{n.Set})
		if err != nil {
			m.Fatalf("%s: %v", n.Name, err)
		}
		for _, topic := range m.topics {
			for o, value := range valuesOf(m.T, m.f, m.home(), topic) {
				v := virtualOf(a.Positions, topic, o)
				if v < 0 {
					m.Fatalf("%s, generation %d: %s of %s is at %d, which no client sees", n.Name, len(m.req.Switches), value, topic, o)
				}
				if was, ok := m.places[topic+" "+value]; ok && was != v {
					m.Fatalf("%s, generation %d: %s of %s was at virtual offset %d, and is at %d", n.Name, len(m.req.Switches), value, topic, was, v)
				}
				m.places[topic+" "+value] = v
			}
		}
	}
}

// virtualOf is where clients see an offset of the home's log; -1 if nowhere.
func virtualOf(b *positions.Book, topic string, real int64) int64 {
	if b == nil {
		return real
	}
	for v := int64(0); ; {
		at, known := b.Place(topic, 0, v)
		switch {
		case !known:
			return real
		case at.Real <= real && real < at.End:
			return at.Virtual + real - at.Real
		case at.End == math.MaxInt64:
			return -1
		}
		v = at.Virtual + at.End - at.Real
	}
}

// A home goes to and fro between three clusters. What the mirror says is enough for each record to keep its virtual offset, on a node that copies it and on one
// that does not, also of a topic that comes in a later generation, with markers at one cluster and others' offsets at another.
func TestArrival_RecordsKeepTheirOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us"}, Topics: []string{"orders"}, Partitions: 1, Seed: 2, Verbose: testing.Verbose()})
		defer f.Close()
		several(t, f, "us", "orders", "before", 100)
		deleteBefore(t, f, "us", "orders", 100)
		team := f.Share(Spread(0, "n1", "n2"), "n1", "n2")
		defer team.Stop()
		m := &moves{T: t, f: f, nodes: []*Node{team.Node("n1"), team.Node("n2")}, topics: []string{"orders"}, places: map[string]int64{}, cuts: map[string][]generation.CutTopic{}}
		m.req = arrival.Request{Router: "r", First: "eu", Salted: func(id int64) (int64, error) { return id, nil },
			Cut: func(_ context.Context, ref generation.CutRef) ([]generation.CutTopic, error) {
				return m.cuts[ref.ID], nil
			}}
		transactions(t, f, "eu", "orders", 15)
		for i, to := range strings.Fields("us eu ap us eu us") {
			several(t, f, m.home(), "orders", fmt.Sprintf("g%d", i), 20)
			if i == 2 {
				createTopic(t, f, m.home(), "late", 1, nil)
				m.topics = append(m.topics, "late")
			}
			if i >= 2 && i != 4 {
				several(t, f, m.home(), "late", fmt.Sprintf("g%d", i), 10)
			}
			if i == 3 {
				several(t, f, "us", "orders", "outside", 8)
			}
			m.check()
			m.move(to)
			m.check()
		}
		if want := 15 + 6*20 + 8 + 3*10; len(m.places) != want {
			t.Errorf("%d records were seen, want %d", len(m.places), want)
		}
	})
}
