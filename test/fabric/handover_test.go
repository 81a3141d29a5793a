package fabric

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// stillness is how long each partition of a topic stood still on a cluster, as its consumers see it.
type stillness struct {
	mu   sync.Mutex
	last map[int32]time.Time
	most map[int32]time.Duration
	end  context.CancelFunc
	done chan struct{}
}

// watch reads a topic of a cluster as it grows.
func watch(t *testing.T, f *Fabric, cluster, topic string, partitions int32) *stillness {
	t.Helper()
	c := f.Client(cluster)
	from := make(map[int32]kgo.Offset)
	for p := range partitions {
		from[p] = kgo.NewOffset().AtEnd()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &stillness{last: make(map[int32]time.Time), most: make(map[int32]time.Duration), end: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer cl.Close()
		for ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			now := time.Now()
			s.mu.Lock()
			fetches.EachPartition(func(p kgo.FetchTopicPartition) {
				if len(p.Records) == 0 {
					return
				}
				if last, ok := s.last[p.Partition]; ok {
					s.most[p.Partition] = max(s.most[p.Partition], now.Sub(last))
				}
				s.last[p.Partition] = now
			})
			s.mu.Unlock()
		}
	}()
	t.Cleanup(s.stop)
	return s
}

// reset returns the longest stillness of each partition since the last reset, in order, and begins anew.
func (s *stillness) reset() (all []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, last := range s.last {
		all = append(all, max(s.most[p], time.Since(last)))
	}
	clear(s.most)
	slices.Sort(all)
	return all
}

func (s *stillness) stop() {
	s.end()
	<-s.done
}

// flowing begins a steady load of 50 records a second for each partition, until the returned function is called.
func flowing(t *testing.T, f *Fabric, log *judge.Log, topic string, partitions int32) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- judge.Write(ctx, f.Client("eu"), judge.Load{Topic: topic, Partitions: partitions, Rate: 50 * int(partitions), Size: 60, Seed: 7}, log)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// here counts the pumps of a topic that a node has.
func here(n *Node, topic string) (count int) {
	for _, p := range pumps(n, topic) {
		if p.State != mirror.StateElsewhere {
			count++
		}
	}
	return count
}

// copies counts the pumps of a topic that nodes run.
func copies(topic string, nodes ...*Node) (count int) {
	for _, n := range nodes {
		for _, p := range pumps(n, topic) {
			if p.State == mirror.StateRunning {
				count++
			}
		}
	}
	return count
}

// settled waits until every partition of a topic is run by one node, the one that the rule says.
func settled(t *testing.T, team *Team, topic string, partitions int, owner func(mirror.PumpID) string) {
	t.Helper()
	why := ""
	calm := func() bool {
		total := 0
		for _, n := range team.Alive() {
			for _, p := range pumps(n, topic) {
				mine := owner(mirror.PumpID{From: "eu", To: "us", Topic: topic, Partition: p.Partition}) == n.Name
				if mine != (p.State == mirror.StateRunning) || !mine && p.State != mirror.StateElsewhere {
					why = fmt.Sprintf("%s has %s:%d %s (%s), attempt %d, its own: %t", n.Name, topic, p.Partition, p.State, p.Reason, p.Attempts, mine)
					return false
				}
				if mine {
					total++
				}
			}
		}
		why = fmt.Sprintf("%d of %d partitions are run", total, partitions)
		return total == partitions
	}
	for deadline := time.Now().Add(20 * time.Second); !calm(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, n := range team.Alive() {
				for _, p := range pumps(n, topic) {
					why += fmt.Sprintf("\n%s %d: %s (%s) since %v, behind %d", n.Name, p.Partition, p.State, p.Reason, time.Since(p.Since), p.LagRecords)
				}
			}
			t.Fatalf("no calm within 20s: %s", why)
		}
	}
}

func p50max(all []time.Duration) (p50, most time.Duration) {
	if len(all) == 0 {
		return 0, 0
	}
	return all[len(all)/2], all[len(all)-1]
}

// Planned moves under load: back and forth between two nodes, then among three. No partition stands still for a second, and
// nothing is there twice.
func TestHandover_PlannedMovesUnderLoad(t *testing.T) {
	for _, tc := range []struct {
		name           string
		source, target time.Duration // one way
		most           time.Duration // of stillness
	}{
		{"near", time.Millisecond, time.Millisecond, 300 * time.Millisecond},
		{"far from the source", 40 * time.Millisecond, 2 * time.Millisecond, 600 * time.Millisecond},
		{"far from both", 40 * time.Millisecond, 40 * time.Millisecond, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				partitions := int32(16)
				if os.Getenv("ISTHMUS_SEEDS") != "" { // in full
					partitions = 32
				}
				f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, On: []string{"eu"}, Partitions: partitions, Verbose: testing.Verbose()})
				defer f.Close()
				names := []string{"n1", "n2", "n3"}
				team := f.Share(Spread(0, names[:2]...), names...)
				defer team.Stop()
				for _, n := range team.Alive() {
					n.Paths["eu"].Slow(tc.source, tc.source, 0)
					n.Paths["us"].Slow(tc.target, tc.target, 0)
				}
				log := judge.NewLog()
				stop := flowing(t, f, log, "orders", partitions)
				settled(t, team, "orders", int(partitions), Spread(0, names[:2]...))
				time.Sleep(5 * time.Second)
				w := watch(t, f, "us", "orders", partitions)
				time.Sleep(3 * time.Second)
				p50, most := p50max(w.reset())
				t.Logf("without moves: p50 %v, max %v", p50, most)
				for turn := range 6 {
					owner := Spread(turn+1, names[:2+turn%2]...)
					if turn == 3 {
						owner = Only("n3")
					}
					team.Move(owner, 200*time.Millisecond)
					time.Sleep(3 * time.Second)
					all := w.reset()
					p50, most := p50max(all)
					t.Logf("turn %d: stillness p50 %v, max %v", turn, p50, most)
					if len(all) != int(partitions) || most > tc.most {
						t.Errorf("turn %d: %d partitions seen, one stood still for %v, want at most %v", turn, len(all), most, tc.most)
					}
					settled(t, team, "orders", int(partitions), owner)
				}
				w.stop()
				stop()
				if err := AllCaughtUp(time.Minute, team, log, "orders"); err != nil {
					t.Fatal(err)
				}
				verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
				for _, n := range team.Alive() {
					if l, err := n.Set.Ledger(""); err != nil || len(l) > 0 {
						t.Errorf("ledger of %s: %+v, %v", n.Name, l, err)
					}
					for _, p := range pumps(n, "orders") {
						if p.Fenced > 0 {
							t.Errorf("%s:%d met another owner %d times in planned moves", n.Name, p.Partition, p.Fenced)
						}
					}
				}
			})
		})
	}
}

// AllCaughtUp waits until the pumps of a topic that the nodes run have nothing left to copy.
func AllCaughtUp(most time.Duration, team *Team, log *judge.Log, topic string) error {
	deadline := time.Now().Add(most)
	for calm := 0; calm < 6; time.Sleep(250 * time.Millisecond) {
		why, behind, seen := "", int64(0), map[int32]bool{}
		for _, n := range team.Alive() {
			for _, p := range pumps(n, topic) {
				if p.State == mirror.StateElsewhere || p.State == mirror.StateYielded {
					continue
				}
				seen[p.Partition] = true
				behind += p.LagRecords
				if p.State != mirror.StateRunning || p.SourceEnd < 0 {
					why = fmt.Sprintf("%s %s:%d %s (%s)", n.Name, topic, p.Partition, p.State, p.Reason)
				}
			}
		}
		if len(seen) == 0 || behind > 0 {
			why = fmt.Sprintf("%d partitions are run, %d records behind; %s", len(seen), behind, why)
		}
		if calm++; why != "" {
			calm = 0
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not caught up: %s", why)
		}
	}
	return nil
}
