package world

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
	"github.com/isthmus-project/isthmus/test/judge"
)

const mostAtOnce = 100 // a pause that lists more partitions is refused

func chosen(partition int32) bool { return partition%2 == 1 }

// TestWorld_HalfOfManyPartitionsIsPaused: 500 of 1 000 partitions are paused and resumed under load, each within a second. They stay
// paused when a node dies, when another takes over and gives back, and when all die at once. Each of their records is sent to the
// target once in all that time, and the checker finds all of them.
func TestWorld_HalfOfManyPartitionsIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t, fabric.Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, On: []string{"eu"},
			Partitions: many, Seed: 1}, 1, "eu-1@frankfurt", "us-1@virginia")
		defer w.Close()
		w.StartAll()
		w.Until("both have their part", time.Minute, w.share)
		sent := countSent(t, w.Clusters["us"], "orders")
		stop := pour(t, w)
		time.Sleep(3 * time.Second)
		a, b := w.Nodes[0], w.Nodes[1]

		w.half(a, true)
		quiet := sent.stands(t, "paused")
		time.Sleep(3 * time.Second)
		quiet()
		w.half(b, false)
		time.Sleep(3 * time.Second)

		w.half(b, true)
		quiet = sent.stands(t, "paused, over kills and changes of owner")
		b.Kill()
		w.Until("the other node has all", time.Minute, w.settled)
		b.Start()
		w.Until("both share again", time.Minute, w.settled)
		a.Kill()
		b.Kill()
		time.Sleep(5 * time.Second)
		a.Start()
		b.Start()
		time.Sleep(10 * time.Second) // they know each other again: until then both have all, and both would send what is resumed
		w.Until("both share after all died", time.Minute, w.settled)
		quiet()
		w.half(a, false)
		stop()
		sent.onlyOnce(t, w)
	})
}

// half pauses or resumes the chosen partitions through one node, and waits until those that copy them do so.
func (w *World) half(n *Node, pause bool) {
	w.t.Helper()
	var all []int32
	for p := range int32(many) {
		if chosen(p) {
			all = append(all, p)
		}
	}
	what, ask, began := "paused", w.halfStands, time.Now()
	if !pause {
		what, ask = "resumed", w.Agreed
	}
	for part := range slices.Chunk(all, mostAtOnce) {
		var err error
		if pause {
			_, err = n.API.Pause(context.Background(), &adminpb.PauseRequest{Link: "eu-us", Topic: "orders", Partitions: part, Why: "a test"})
		} else {
			_, err = n.API.Resume(context.Background(), &adminpb.ResumeRequest{Link: "eu-us", Topic: "orders", Partitions: part})
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.Until(what, time.Minute, ask)
	took := time.Since(began)
	w.t.Logf("%d of %d partitions are %s after %v", len(all), many, what, took)
	if took >= time.Second {
		w.t.Errorf("%d of %d partitions are %s after %v, want less than 1s", len(all), many, what, took)
	}
}

// halfStands is an error while not all chosen partitions are paused, by hand, and all others are copied.
func (w *World) halfStands() error {
	paused := make(map[int32]bool)
	for p, by := range w.Copies(w.Running()...) {
		if chosen(p.Partition) == (len(by) > 0) || len(by) > 1 {
			return fmt.Errorf("partition %d is copied by %q: %s", p.Partition, by, w.about(p))
		}
	}
	for _, n := range w.Running() {
		for _, l := range n.Set().Status() {
			for _, f := range l.Flows {
				for _, p := range f.Pumps {
					if p.State == mirror.StatePaused && p.Cause == mirror.CauseManual {
						paused[p.Partition] = true
					}
				}
			}
		}
	}
	if len(paused) != many/2 {
		return fmt.Errorf("%d partitions are paused, want %d", len(paused), many/2)
	}
	return nil
}

// settled is an error while it is not clear who has which partition, or not half of them stand.
func (w *World) settled() error { return errors.Join(w.halfStands(), w.share()) }

// share is an error while not every partition is on one node and elsewhere for all others, or a node has none: nodes that did not meet yet
// have the same partitions.
func (w *World) share() error {
	nodes, owners := w.Running(), make(map[int32]int)
	for _, n := range nodes {
		busy := 0
		for _, l := range n.Set().Status() {
			for _, f := range l.Flows {
				for _, p := range f.Pumps {
					if p.State != mirror.StateElsewhere {
						owners[p.Partition]++
						busy++
					}
				}
			}
		}
		if busy == 0 {
			return fmt.Errorf("%s has no partition", n.Name)
		}
	}
	for p := range int32(many) {
		if owners[p] != 1 {
			return fmt.Errorf("%d nodes have partition %d", owners[p], p)
		}
	}
	return nil
}

// pour writes to all partitions until stop, and wants all of it to be right then.
func pour(t *testing.T, w *World) (stop func()) {
	t.Helper()
	log := judge.NewLog()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- judge.Write(ctx, w.Client("eu"), judge.Load{Topic: "orders", Partitions: many, Rate: many, Size: 60, Seed: 3}, log)
	}()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	w.ends = append(w.ends, end)
	return func() {
		t.Helper()
		end()
		w.Until("everything is copied", time.Minute, w.complete)
		v, err := judge.Case{Topics: []string{"orders"}, Log: log, Clusters: w.Clients()}.Check(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !v.OK() {
			t.Errorf("%s", v)
		}
	}
}

// complete is an error while the target has less of a partition than the source.
func (w *World) complete() error {
	copies := w.Clusters["us"].PartitionInfos("orders")
	for i, p := range w.Clusters["eu"].PartitionInfos("orders") {
		if copies[i].HighWatermark != p.HighWatermark {
			return fmt.Errorf("%d of %d records of partition %d are copied", copies[i].HighWatermark, p.HighWatermark, i)
		}
	}
	return nil
}

// sent counts the records of a topic that a cluster is asked to store, by partition, also those that it has already.
type sent struct {
	mu  sync.Mutex
	all []int
}

func countSent(t *testing.T, c *kfake.Cluster, topic string) *sent {
	s := &sent{all: make([]int, many)}
	id := c.TopicInfo(topic).TopicID
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		for _, rt := range req.(*kmsg.ProduceRequest).Topics {
			if rt.Topic != topic && rt.TopicID != id {
				continue
			}
			for _, p := range rt.Partitions {
				for rest := p.Records; len(rest) > 0; {
					h, err := batch.ParseHeader(rest)
					if err != nil {
						t.Errorf("%s:%d: %v", topic, p.Partition, err)
						break
					}
					s.mu.Lock()
					s.all[p.Partition] += int(h.Records)
					s.mu.Unlock()
					rest = rest[h.Size():]
				}
			}
		}
		return nil, nil, false
	})
	return s
}

// counts are those of now.
func (s *sent) counts() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// stands begins a time in which nothing of the chosen partitions may be sent, and something of the others must be. Of these a few may have
// been left out by chance: records choose their partitions at random.
func (s *sent) stands(t *testing.T, when string) (end func()) {
	before := s.counts()
	return func() {
		t.Helper()
		flow := 0
		for p, n := range s.counts() {
			if got := n - before[p]; chosen(int32(p)) && got != 0 {
				t.Errorf("%s: %d records of partition %d were sent", when, got, p)
			} else if !chosen(int32(p)) && got > 0 {
				flow++
			}
		}
		if flow < many/2*9/10 {
			t.Errorf("%s: %d of the %d other partitions flow", when, flow, many/2)
		}
	}
}

// onlyOnce wants as many records of the chosen partitions sent as the target holds.
func (s *sent) onlyOnce(t *testing.T, w *World) {
	t.Helper()
	var again, records int
	for p, n := range s.counts() {
		if chosen(int32(p)) {
			held := int(w.Clusters["us"].PartitionInfo("orders", int32(p)).HighWatermark)
			records, again = records+held, again+n-held
		}
	}
	t.Logf("%d records of %d paused partitions, %d sent again", records, many/2, again)
	if again != 0 || records == 0 {
		t.Errorf("%d of %d records of the paused partitions were sent again", again, records)
	}
}
