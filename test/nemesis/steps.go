package nemesis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// do begins a step and returns what ends it. A step of a node that is down does nothing.
func (s *stage) do(step Step) (undo func()) {
	nothing := func() {}
	if step.Node < 0 {
		return s.toCluster(step)
	}
	a := s.nodes[step.Node]
	if a.node == nil {
		return nothing
	}
	n := a.node
	path := n.Paths[step.Cluster]
	heal := func() { path.Heal() }
	switch step.Kind {
	case Kill, Stop:
		s.end(a, step.Kind == Kill)
		s.share(time.Second)
		return func() {
			if a.node == nil {
				s.start(a)
				s.share(time.Second)
			}
		}
	case Freeze:
		a.clock.stop(true)
		for _, p := range n.Paths {
			p.Hold()
		}
		return func() {
			if a.node == n {
				a.thaw(n)
			}
		}
	case Clock:
		a.clock.set(time.Duration(step.N) * time.Minute)
		return func() { a.clock.set(0) }
	case Cut:
		path.Cut()
	case Deaf:
		path.Deaf()
	case Mute:
		path.Mute()
	case Slow:
		path.Slow(time.Duration(step.N)*time.Millisecond, time.Duration(step.N)*time.Millisecond, 50_000)
	case Reset:
		path.Reset()
		return nothing
	case Retry:
		s.retry(n.Set)
		return nothing
	}
	return heal
}

// share tells the nodes of a team who has what now, each at most so late.
func (s *stage) share(spread time.Duration) {
	if s.team != nil {
		s.turn++
		s.team.Move(s.owner(), spread)
	}
}

// toCluster is do for steps that are no node's.
func (s *stage) toCluster(step Step) (undo func()) {
	nothing := func() {}
	c := s.f.Clusters[step.Cluster]
	switch step.Kind {
	case Fault:
		request, answer, _ := strings.Cut(step.What, " ")
		h := c.Fault(kfake.Fault{Keys: []kmsg.Key{keys[request]}, Err: errs[answer], Count: step.N})
		s.faults[step.String()] = h
		if request == "fetch" {
			s.deaf[step.Cluster]++
		}
		return func() {
			if h.Remove(); request == "fetch" {
				s.deaf[step.Cluster]--
			}
		}
	case Leader:
		_ = c.MoveTopicPartition(step.Topic, step.Part, int32(step.N%s.plan.Brokers)) // a topic that is not there has no leader
		return nothing
	case Delete:
		if s.deaf[step.Cluster] > 0 {
			return nothing // what is deleted could not be kept for the judge
		}
		s.delete(step)
		return nothing
	case Grow:
		s.grow(step)
		return nothing
	case Recreate:
		if s.deaf[step.Cluster] > 0 {
			return nothing
		}
		s.recreate(step)
		return nothing
	case Pause:
		what := step.Topic
		if step.N%2 == 1 {
			what = fmt.Sprintf("%s:%d", step.Topic, step.Part)
		}
		s.pause(what, 1)
		return func() { s.pause(what, -1) }
	case Policy:
		s.set(step.What)
		return nothing
	case Anchor:
		nodes := s.running()
		s.late.Go(func() { s.anchor(step, nodes) })
		return nothing
	case Rate:
		s.set(fmt.Sprintf("byte_rate = %d", step.N))
		return func() { s.set("byte_rate =") }
	case Move:
		s.share(step.For)
		return nothing
	case Post:
		s.team.Post.Change(float64(step.N) / 100)
		return func() { s.team.Post.Change(0) }
	}
	return nothing
}

// delete deletes the beginning of a partition, and keeps what was there for the judge. It does not when a fault is in its way.
func (s *stage) delete(step Step) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = s.admin(step.Cluster, func(_ context.Context, a *kadm.Client) error {
		starts, err := a.ListStartOffsets(ctx, step.Topic)
		if err != nil {
			return err
		}
		ends, err := a.ListCommittedOffsets(ctx, step.Topic)
		if err != nil {
			return err
		}
		start, ok1 := starts.Lookup(step.Topic, step.Part)
		end, ok2 := ends.Lookup(step.Topic, step.Part)
		if !ok1 || !ok2 || start.Err != nil || end.Err != nil || end.Offset <= start.Offset {
			return nil
		}
		to := start.Offset + (end.Offset-start.Offset)*int64(step.N)/100
		return s.past.Cut(ctx, s.f.Client(step.Cluster), step.Topic, step.Part, start.Offset, to, func() error {
			return s.f.Clusters[step.Cluster].DeleteRecords(step.Topic, step.Part, to)
		})
	})
}

// grow adds partitions to a topic where it is written to and where it is copied from: everywhere.
func (s *stage) grow(step Step) {
	s.writers.mu.Lock()
	n := s.writers.parts[step.Cluster+"/"+step.Topic] + int32(step.N)
	s.writers.mu.Unlock()
	for _, cluster := range s.plan.Clusters {
		err := s.admin(cluster, func(ctx context.Context, a *kadm.Client) error {
			r, err := a.UpdatePartitions(ctx, int(n), step.Topic)
			return errors.Join(err, r.Error())
		})
		if err != nil {
			continue // a fault is in the way, or the mirror was faster
		}
		s.writers.mu.Lock()
		s.writers.parts[cluster+"/"+step.Topic] = n
		s.writers.mu.Unlock()
	}
}
