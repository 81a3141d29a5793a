package nemesis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
	"github.com/isthmus-project/isthmus/topology"
)

// settings are the lines that all links have beside their own.
func (s *stage) settings() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Values(s.lines)), "\n")
}

// topology is what nodes work by now.
func (s *stage) topology() *topology.Topology {
	topo, err := s.f.With(s.settings())
	if err != nil {
		panic(err) // the plan's settings are ours
	}
	return topo
}

// set gives all links a setting, "key = value", or takes it from them: "key =".
func (s *stage) set(line string) {
	key, value, _ := strings.Cut(line, "=")
	s.mu.Lock()
	if delete(s.lines, key); strings.TrimSpace(value) != "" {
		s.lines[key] = line
	}
	s.mu.Unlock()
	for _, a := range s.nodes {
		s.apply(a)
	}
}

// apply tells a node that runs of the settings. One that is stuck takes them when it starts again.
func (s *stage) apply(a *actor) {
	if a.node == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = a.node.Set.Apply(ctx, s.topology())
}

// recreate deletes a topic and makes it anew, while nobody writes to it. What was there is kept for the judge.
func (s *stage) recreate(step Step) {
	turn := s.writers.turns[step.Cluster+"/"+step.Topic]
	turn <- struct{}{}
	defer func() { <-turn }()
	if s.keepAll(step.Cluster, step.Topic) != nil {
		return // a fault is in its way
	}
	c := s.f.Clusters[step.Cluster]
	was := c.TopicInfo(step.Topic)
	if was == nil {
		return
	}
	if err := c.DeleteTopic(step.Topic); err != nil {
		panic(err) // it was there
	}
	time.Sleep(time.Duration(step.N) * time.Millisecond)
	at := step.Cluster + "/" + step.Topic
	s.writers.mu.Lock()
	defer s.writers.mu.Unlock()
	if err := c.CreateTopic(step.Topic, s.writers.parts[at], nil); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) { // a link may have made it
		panic(err)
	}
	s.writers.parts[at] = int32(len(c.PartitionInfos(step.Topic)))
	s.writers.lives[at] = s.past.Remade(step.Cluster, step.Topic, was.TopicID)
}

// keepAll keeps all that a topic holds for the judge.
func (s *stage) keepAll(cluster, topic string) error {
	return s.admin(cluster, func(ctx context.Context, a *kadm.Client) error {
		starts, err := a.ListStartOffsets(ctx, topic)
		if err != nil {
			return err
		}
		ends, err := a.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return err
		}
		var bad error
		ends.Each(func(end kadm.ListedOffset) {
			start, ok := starts.Lookup(topic, end.Partition)
			switch {
			case bad != nil:
			case !ok || start.Err != nil || end.Err != nil:
				bad = errors.Join(fmt.Errorf("ask for the ends of %s:%d", topic, end.Partition), start.Err, end.Err)
			default:
				bad = s.past.Keep(ctx, s.f.Client(cluster), topic, end.Partition, start.Offset, end.Offset, func() error { return nil })
			}
		})
		return bad
	})
}

// retry has a node try everything now.
func (s *stage) retry(n *mirror.Set) {
	for _, l := range s.plan.Links {
		if _, err := n.Retry(s.link(l), "", nil); err != nil && !errors.Is(err, mirror.ErrNoLink) {
			s.t.Errorf("retry %s: %v", l, err)
		}
	}
}

// link is the name of a link that leads from one cluster to another one, "eu>us".
func (s *stage) link(ends string) string {
	from, to, _ := strings.Cut(ends, ">")
	for _, l := range s.f.Topology.Links {
		if l.From == from && l.To == to {
			return l.Name
		}
	}
	panic("no link " + ends) // the plan's links are ours
}

// anchor has a partition go on somewhere. It may be refused: the partition may not be copied, or a fault be in the way.
func (s *stage) anchor(step Step, nodes []*fabric.Node) {
	from, _, _ := strings.Cut(step.What, ">")
	at := mirror.AnchorEnd
	if step.N < 95 {
		start, end := s.f.Clusters[from].PartitionInfo(step.Topic, step.Part), int64(0)
		if start == nil {
			return
		}
		end = start.HighWatermark
		at = mirror.AnchorAt(start.LogStartOffset + (end-start.LogStartOffset)*int64(step.N)/100)
	}
	anchorAt(nodes, mirror.AnchorRequest{Link: s.link(step.What), Topic: step.Topic, Partition: step.Part, At: at, Why: "a fault", DryRun: step.N > 100})
}

// anchorAt asks one node after the other.
func anchorAt(nodes []*fabric.Node, r mirror.AnchorRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, n := range nodes {
		if _, err := n.Set.Anchor(ctx, r); !errors.Is(err, mirror.ErrUnknownPump) {
			return
		}
	}
}

// running are the nodes that run now.
func (s *stage) running() (out []*fabric.Node) {
	for _, a := range s.nodes {
		if a.node != nil {
			out = append(out, a.node)
		}
	}
	return out
}

// mend takes what is halted out of that by hand.
func (s *stage) mend() {
	for _, a := range s.nodes {
		if a.node == nil {
			continue
		}
		for _, l := range a.node.Set.Status() {
			for _, f := range l.Flows {
				for _, p := range f.Pumps {
					if p.State == mirror.StateHalted && p.Cause == mirror.CauseRecreated && s.plan.Seed%2 == 1 {
						anchorAt(s.running(), mirror.AnchorRequest{Link: l.Name, Topic: f.Topic, Partition: p.Partition, At: mirror.AnchorStart, Why: "made anew"})
					}
				}
			}
		}
	}
}
