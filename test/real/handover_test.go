package real

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

// turns is a view that both nodes have: who owns what changes with every turn.
type turns struct {
	self string
	turn *atomic.Int64
}

func (v turns) at(p mirror.PumpID, turn int64) string {
	return []string{"n1", "n2"}[(int64(p.Partition)+turn)%2]
}
func (v turns) Self() string                  { return v.self }
func (v turns) Owner(p mirror.PumpID) string  { return v.at(p, v.turn.Load()) }
func (v turns) Before(p mirror.PumpID) string { return v.at(p, v.turn.Load()-1) }

// wire carries messages between the sets of this process.
type wire struct {
	self string
	sets map[string]*mirror.Set
}

func (w wire) Send(_ context.Context, node string, payload []byte) error {
	go w.sets[node].Receive(w.self, payload)
	return nil
}

// TestHandover_MovesOnRealKafka: partitions move from node to node and back under load; none stands still for a second.
// Brokers that tell of their producers confirm a place by that.
func TestHandover_MovesOnRealKafka(t *testing.T) {
	const partitions = 16
	clusters := kafka.StartAll(t, kafka.Options{Name: "eu"}, kafka.Options{Name: "us"})
	text := "[fabric]\nname = \"moves\"\n"
	var clients []judge.Client
	for i, name := range []string{"eu", "us"} {
		text += fmt.Sprintf("[[cluster]]\nname = %q\nbootstrap = [%q]\n", name, clusters[i].Bootstrap()[0])
		clients = append(clients, judge.Client{Name: name, Bootstrap: clusters[i].Bootstrap()})
	}
	topo, err := topology.Parse("moves.toml", []byte(text+"[[link]]\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"orders\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(clusters[0].Bootstrap()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	var turn atomic.Int64
	sets := make(map[string]*mirror.Set)
	for _, name := range []string{"n1", "n2"} {
		sets[name], err = mirror.NewSet(mirror.Config{}, mirror.SetDeps{Topology: topo, Log: slog.New(slog.DiscardHandler), Writer: name + "/1",
			Owners: turns{name, &turn}, Peers: wire{name, sets}, Open: func(c topology.Cluster) (*broker.Cluster, error) {
				p, err := broker.NewProfile(c)
				if err != nil {
					return nil, err
				}
				return broker.Open(p, nil)
			}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range sets {
		run, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(run) }()
		t.Cleanup(func() {
			stop()
			if err := errors.Join(<-done, s.Ended()); err != nil {
				t.Error(err)
			}
		})
	}
	log := judge.NewLog()
	load, stopLoad := context.WithCancel(ctx)
	written := make(chan error, 1)
	go func() {
		written <- judge.Write(load, clients[0], judge.Load{Topic: "orders", Partitions: partitions, Rate: 50 * partitions, Size: 100, Seed: 1}, log)
	}()
	running := func() bool {
		n := 0
		for name, s := range sets {
			for _, l := range s.Status() {
				for _, f := range l.Flows {
					for _, p := range f.Pumps {
						mine := turns{name, &turn}.Owner(mirror.PumpID{Partition: p.Partition}) == name
						if mine != (p.State == mirror.StateRunning) || !mine && p.State != mirror.StateElsewhere {
							return false
						}
						if mine {
							n++
						}
					}
				}
			}
		}
		return n == partitions
	}
	holds(ctx, t, "every partition runs at its owner", running)
	gaps := watchGaps(ctx, t, clusters[1].Bootstrap(), partitions)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	<-tick.C
	usual := slices.Max(gaps())
	t.Logf("without moves: stillness max %v", usual)
	for range node.Pick(4, 6) {
		turn.Add(1)
		for _, s := range sets {
			s.Reconsider()
		}
		<-tick.C
		all := gaps()
		t.Logf("all moved: stillness p50 %v, max %v", all[len(all)/2], all[len(all)-1])
		if most := all[len(all)-1]; most > time.Second+2*usual { // a machine that is busy with something else gets more
			t.Errorf("a partition stood still for %v, want less than a second more than twice %v", most, usual)
		}
		holds(ctx, t, "every partition runs at its owner", running)
	}
	stopLoad()
	if err := <-written; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	holds(ctx, t, "all has been copied", func() bool {
		behind := int64(0)
		for _, s := range sets {
			for _, l := range s.Status() {
				for _, f := range l.Flows {
					for _, p := range f.Pumps {
						behind += p.LagRecords
					}
				}
			}
		}
		return behind == 0 && running()
	})
	v, err := judge.Case{Clusters: clients, Topics: []string{"orders"}, Log: log}.Check(ctx)
	if err != nil || !v.OK() {
		t.Errorf("%v %v", v, err)
	}
}

// watchGaps reads the copies as they come. What it returns gives the longest stillness of each partition since it was last
// called, in order.
func watchGaps(ctx context.Context, t *testing.T, bootstrap []string, partitions int32) func() []time.Duration {
	t.Helper()
	from := make(map[int32]kgo.Offset)
	for p := range partitions {
		from[p] = kgo.NewOffset().AtEnd()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"orders": from}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	var mu sync.Mutex
	last, most := make(map[int32]time.Time), make(map[int32]time.Duration)
	go func() {
		for ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			if fetches.IsClientClosed() {
				return
			}
			now := time.Now()
			mu.Lock()
			fetches.EachPartition(func(p kgo.FetchTopicPartition) {
				if at, ok := last[p.Partition]; ok && len(p.Records) > 0 {
					most[p.Partition] = max(most[p.Partition], now.Sub(at))
				}
				if len(p.Records) > 0 {
					last[p.Partition] = now
				}
			})
			mu.Unlock()
		}
	}()
	return func() (all []time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		for p, at := range last {
			all = append(all, max(most[p], time.Since(at)))
		}
		clear(most)
		slices.Sort(all)
		if len(all) == 0 {
			all = append(all, 0)
		}
		return all
	}
}
