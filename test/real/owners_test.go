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
	"github.com/isthmus-project/isthmus/test/kafka"
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

func watch(ctx context.Context, nodes ...*node) *witnesses {
	w := &witnesses{said: make(map[string]witness), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for {
			for _, n := range nodes {
				call, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				if st, err := n.api.Status(call, "", true); err == nil {
					w.hear(n.name, st)
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

func (w *witnesses) of(n *node) witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said[n.name]
	said.yielded = maps.Clone(said.yielded) // hear goes on writing into its own
	return said
}

// TestOwners_TwoMirrorsOfOneLinkNeitherDoubleNorReorder runs two mirrors of a link that do not know each other, then
// freezes one while it owns partitions and lets it go on.
func TestOwners_TwoMirrorsOfOneLinkNeitherDoubleNorReorder(t *testing.T) {
	kafka.Require(t)
	seed := seed(t)
	together, frozen := pick(15*time.Second, time.Minute), pick(8*time.Second, 30*time.Second)
	rate := pick(4000, 6000)
	sites := startSites(t, "eu", "us")
	eu, us := sites["eu"], sites["us"]
	topics := []string{"orders"}
	eu.create(t, "orders", 8)
	s := newSetup(t, "owners", []*site{eu, us}, []string{"eu>us"}, topics, []string{"n1", "n2"})
	n1, n2 := s.node("n1"), s.node("n2")
	n1.start()
	n2.start()
	ctx, cancel := context.WithCancel(t.Context())
	all := watch(ctx, n1, n2)
	t.Cleanup(func() { cancel(); <-all.done })

	log := judge.NewLog()
	began := time.Now()
	w := write(t, eu.client(), log, mix{"orders", 8, 0, rate, seed % 1000})
	lasted := func(d time.Duration) func(context.Context) error {
		return func(context.Context) error {
			if left := d - time.Since(began); left > 0 {
				return fmt.Errorf("%v left", left)
			}
			return errors.Join(n1.alive(), n2.alive())
		}
	}
	until(t, together+time.Minute, "both ran side by side for their time", lasted(together))
	t.Logf("side by side: n1 %+v, n2 %+v\nn1: %s\nn2: %s", all.of(n1), all.of(n2), states(t, n1), states(t, n2))
	if all.of(n1).fenced+all.of(n2).fenced == 0 {
		t.Error("neither says that it was fenced; did they meet at all?")
	}

	stuck, other := s.freezeOwner(n1, n2), n1
	if stuck == n1 {
		other = n2
	}
	goals, err := s.goals(ctx, topics)
	if err != nil {
		t.Fatal(err)
	}
	fencedBefore := all.of(stuck).fenced
	began = time.Now()
	until(t, frozen+time.Minute, "the other one takes over everything", func(ctx context.Context) error {
		return reached(ctx, goals, other)
	})
	until(t, frozen+time.Minute, "one was frozen for its time", lasted(frozen))
	stuck.thaw()
	until(t, time.Minute, "the frozen mirror says that another one went on", func(context.Context) error {
		if said := all.of(stuck); said.fenced <= fencedBefore {
			return fmt.Errorf("%s says %+v", stuck.name, said)
		}
		return nil
	})
	w.stop(t)
	s.caughtUp(time.Minute, topics, n1, n2)
	t.Logf("in the end: n1 %+v, n2 %+v", all.of(n1), all.of(n2))
	// What the frozen one ran, the other had left to it before.
	reports(t, n1, all.of(n1))
	reports(t, n2, all.of(n2))
	s.judged(log, topics, "us")
}

// reports fails the test if a node with a rival has not said so.
func reports(t *testing.T, n *node, said witness) {
	t.Helper()
	if said.fenced == 0 {
		t.Errorf("node %s never says that it was fenced", n.name)
	}
	for reason := range said.yielded {
		if !strings.Contains(reason, "another owner") {
			t.Errorf("node %s has a yielded partition for %q, which does not tell of another owner", n.name, reason)
		}
	}
}

// states is one word for each partition and how often it was fenced.
func states(t *testing.T, n *node) string {
	t.Helper()
	st, err := n.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range flow(st, "eu-us", "orders").GetPartitions() {
		out = append(out, fmt.Sprintf("%d %s fenced %d at %d of %d %s", p.GetPartition(), admin.Name(p.GetState()), p.GetFenced(),
			p.GetSourceNext(), p.GetSourceEnd(), p.GetReason()))
	}
	return strings.Join(out, "; ")
}

// freezeOwner freezes the node that runs more partitions at this moment, and returns it.
func (s *setup) freezeOwner(nodes ...*node) *node {
	s.t.Helper()
	var owner *node
	most := -1
	for _, n := range nodes {
		st, err := n.status(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
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
	s.t.Logf("freezing %s, which runs %d partitions", owner.name, most)
	owner.freeze()
	return owner
}
