package fabric

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
)

// loads is a bit of everything for one cluster. No lz4 or gzip: under the race detector
// their pools keep nothing and every batch allocates up to 8 MB. No zstd: its decoder in kgo has
// channels, which a finalizer outside the bubble closes.
func loads(seed uint64, records, rate int) []judge.Load {
	return []judge.Load{
		{Topic: "orders", Partitions: 2, Records: records, Rate: rate, Size: 120, Compression: "snappy", Headers: true, Seed: seed},
		{Topic: "orders", Partitions: 2, Records: records, Rate: rate, Size: 60, Compression: "none", Seed: seed + 100},
		{Topic: "transfers", Partitions: 2, Records: records, Rate: rate, Size: 80, Compression: "snappy", Transaction: 37, Seed: seed + 200},
	}
}

var topics = []string{"orders", "transfers"}

// everywhere writes to all clusters at once.
func everywhere(t *testing.T, f *Fabric, log *judge.Log, records, rate int) {
	t.Helper()
	done := make(chan struct{})
	for i, c := range f.opt.Clusters {
		go func() {
			write(t, f, log, c, loads(uint64(i+1), records, rate)...)
			done <- struct{}{}
		}()
	}
	for range f.opt.Clusters {
		<-done
	}
}

func TestFabric_EachRecordOnceEverywhere(t *testing.T) {
	for name, links := range map[string][]string{
		"both ways": {"eu>us", "us>eu"},
		"mesh":      {"eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us"},
		"relay":     {"eu>us", "us>ap"},
		"ring":      {"eu>us", "us>ap", "ap>eu"},
		"hub":       {"eu>us", "us>eu", "us>ap", "ap>us"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clusters := []string{"eu", "us", "ap"}
				if name == "both ways" {
					clusters = clusters[:2]
				}
				f := New(t, Options{Clusters: clusters, Links: links, Topics: topics, Brokers: 2, Verbose: testing.Verbose()})
				defer f.Close()
				n := f.Start("n1")
				defer n.Stop()
				log := judge.NewLog()
				everywhere(t, f, log, 750, 300)
				if err := CaughtUp(2*time.Minute, n); err != nil {
					t.Fatal(err)
				}
				v := verdict(t, f, judge.Case{Topics: topics, Log: log, Carries: func(target, origin, topic string) bool {
					return len(f.Topology.Route(origin, target, topic)) > 0
				}})
				t.Log(v)
			})
		})
	}
}

// seeds is how many seeds a suite runs: some, or as many as ISTHMUS_SEEDS says.
func seeds(some uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("ISTHMUS_SEEDS"), 10, 16); err == nil && n > 0 {
		return n
	}
	return some
}

// TestFabric_Faults throws kills, cuts, resets and slow paths at two unaware
// owners of the same links, by a seed.
func TestFabric_Faults(t *testing.T) {
	for seed := range seeds(2) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { faults(t, seed) })
		})
	}
}

func faults(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us", "us>eu"}, Topics: topics, Brokers: 2, Seed: seed, Verbose: testing.Verbose()})
	defer f.Close()
	nodes := []*Node{f.Start("n0"), f.Start("n1")}
	log := judge.NewLog()
	written := make(chan struct{})
	go func() {
		everywhere(t, f, log, 6000, 300)
		close(written)
	}()
	for step := 0; ; step++ {
		select {
		case <-written:
		default:
			i := rng.IntN(len(nodes))
			path := nodes[i].Paths[f.opt.Clusters[rng.IntN(2)]]
			switch rng.IntN(6) {
			case 0:
				nodes[i].Kill()
				nodes[i] = f.Start(fmt.Sprintf("n%d", i))
			case 1:
				path.Cut()
			case 2:
				path.Reset()
			case 3:
				path.Slow(time.Duration(rng.IntN(300))*time.Millisecond, time.Duration(rng.IntN(300))*time.Millisecond, 200_000)
			case 4:
				path.Deaf()
			case 5:
				for _, p := range nodes[i].Paths {
					p.Heal()
				}
			}
			time.Sleep(time.Duration(200+rng.IntN(1500)) * time.Millisecond)
			continue
		}
		break
	}
	for _, n := range nodes {
		n.heal()
	}
	nodes[1].Stop()
	if err := CaughtUp(5*time.Minute, nodes[0]); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	identical(t, nodes[0], 1)
	nodes[0].Stop()
	verdict(t, f, judge.Case{Topics: topics, Log: log})
}
