package real

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// witness is what a node has said about other owners since it was last asked for.
type witness struct {
	fenced  int64           // most, over all partitions at one moment
	yielded map[string]bool // reasons of partitions that were yielded
}

// witnesses polls nodes until ctx ends, and keeps what they say. A node that does not answer (it is frozen) says nothing.
type witnesses struct {
	mu   sync.Mutex
	said map[string]witness
	done chan struct{}
}

func watch(ctx context.Context, nodes ...*node.Node) *witnesses {
	w := &witnesses{said: make(map[string]witness), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(node.AskEvery)
		defer tick.Stop()
		for {
			for _, n := range nodes {
				call, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				if st, err := n.API.Status(call, "", true); err == nil {
					w.hear(n.Name, st)
				}
				cancel()
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

func (w *witnesses) hear(node string, st *adminpb.StatusResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said[node]
	if said.yielded == nil {
		said.yielded = make(map[string]bool)
	}
	var fenced int64
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				fenced += p.GetFenced()
				if p.GetState() == adminpb.State_STATE_YIELDED {
					said.yielded[p.GetReason()] = true
				}
			}
		}
	}
	said.fenced = max(said.fenced, fenced)
	w.said[node] = said
}

func (w *witnesses) of(n *node.Node) witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said[n.Name]
	said.yielded = maps.Clone(said.yielded) // hear goes on writing into its own
	return said
}

// owners has two mirrors of a link that do not know each other side by side for a time; then one that owns partitions is frozen for
// another, and goes on: nothing is doubled or reordered.
func owners(t *testing.T, eu, us *node.Site, topic string, together, frozen time.Duration) {
	seed := node.Seed(t)
	rate := node.Pick(3000, 6000)
	topics, link := []string{topic}, eu.Name+"-"+us.Name
	eu.Create(t, topic, 8)
	s := node.NewSetup(t, topic, []*node.Site{eu, us}, []string{eu.Name + ">" + us.Name}, topics, []string{"n1", "n2"})
	n1, n2 := s.Node("n1"), s.Node("n2")
	n1.Start()
	n2.Start()
	ctx, cancel := context.WithCancel(t.Context())
	all := watch(ctx, n1, n2)
	t.Cleanup(func() { cancel(); <-all.done })

	log := judge.NewLog()
	began := time.Now()
	w := node.Write(t, eu.Client(), log, node.Mix{Topic: topic, Partitions: 8, Rate: rate, Seed: seed % 1000})
	lasted := func(d time.Duration) func(context.Context) error {
		return func(context.Context) error {
			if left := d - time.Since(began); left > 0 {
				return fmt.Errorf("%v left", left)
			}
			return errors.Join(n1.Alive(), n2.Alive())
		}
	}
	node.Until(t, together+time.Minute, "both ran side by side for their time, and met", func(ctx context.Context) error {
		if all.of(n1).fenced+all.of(n2).fenced == 0 {
			return errors.New("neither says that it was fenced")
		}
		return lasted(together)(ctx)
	})
	t.Logf("side by side: n1 %+v, n2 %+v\nn1: %s\nn2: %s", all.of(n1), all.of(n2), states(t, n1, link, topic), states(t, n2, link, topic))

	stuck, other := freezeOwner(t, n1, n2), n1
	if stuck == n1 {
		other = n2
	}
	goals, err := s.Goals(ctx, topics)
	if err != nil {
		t.Fatal(err)
	}
	fencedBefore := all.of(stuck).fenced
	began = time.Now()
	node.Until(t, frozen+time.Minute, "the other one takes over everything", func(ctx context.Context) error {
		return node.Reached(ctx, goals, other)
	})
	node.Until(t, frozen+time.Minute, "one was frozen for its time", lasted(frozen))
	stuck.Thaw()
	node.Until(t, time.Minute, "the frozen mirror says that another one went on", func(context.Context) error {
		if said := all.of(stuck); said.fenced <= fencedBefore {
			return fmt.Errorf("%s says %+v", stuck.Name, said)
		}
		return nil
	})
	w.Stop(t)
	s.CaughtUp(time.Minute, topics, n1, n2)
	t.Logf("in the end: n1 %+v, n2 %+v", all.of(n1), all.of(n2))
	// What the frozen one ran, the other had left to it before.
	reports(t, n1, all.of(n1))
	reports(t, n2, all.of(n2))
	s.Judged(log, topics, us.Name)
}

// reports fails the test if a node with a rival has not said so.
func reports(t *testing.T, n *node.Node, said witness) {
	t.Helper()
	if said.fenced == 0 {
		t.Errorf("node %s never says that it was fenced", n.Name)
	}
	for reason := range said.yielded {
		if !strings.Contains(reason, "another owner") {
			t.Errorf("node %s has a yielded partition for %q, which does not tell of another owner", n.Name, reason)
		}
	}
}

// states is one word for each partition and how often it was fenced.
func states(t *testing.T, n *node.Node, link, topic string) string {
	t.Helper()
	st, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range node.Flow(st, link, topic).GetPartitions() {
		out = append(out, fmt.Sprintf("%d %s fenced %d at %d of %d %s", p.GetPartition(), admin.Name(p.GetState()), p.GetFenced(),
			p.GetSourceNext(), p.GetSourceEnd(), p.GetReason()))
	}
	return strings.Join(out, "; ")
}

// freezeOwner freezes the node that runs more partitions at this moment, and returns it.
func freezeOwner(t *testing.T, nodes ...*node.Node) *node.Node {
	t.Helper()
	var owner *node.Node
	most := -1
	for _, n := range nodes {
		st, err := n.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		running := 0
		for _, l := range st.GetLinks() {
			for _, f := range l.GetFlows() {
				running += int(f.GetRunning())
			}
		}
		if running > most {
			owner, most = n, running
		}
	}
	t.Logf("freezing %s, which runs %d partitions", owner.Name, most)
	owner.Freeze()
	return owner
}
