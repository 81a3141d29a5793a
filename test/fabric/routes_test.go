package fabric

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
)

// graphs are routes as people draw them, in the short forms.
var graphs = []struct {
	name     string
	clusters []string
	more     string
}{
	{"star", numbered("shop", 20, "hub", "lake", "search", "audit"), fmt.Sprintf(`
[[hub]]
hub = "hub"
spokes = [%s]
direction = "in"
topics = ["*"]
[[hub]]
hub = "hub"
spokes = ["lake", "search", "audit"]
direction = "out"
topics = ["*"]
`, quoted(numbered("shop", 20)))},
	{"ring", numbered("c", 4), ring(numbered("c", 4))},
	{"mesh", numbered("c", 5), fmt.Sprintf("[[mesh]]\nclusters = [%s]\ntopics = [\"*\"]\n", quoted(numbered("c", 5)))},
	{"tree", []string{"root", "east", "west", "e1", "e2", "w1", "w2"}, `
[[hub]]
hub = "root"
spokes = ["east", "west"]
topics = ["*"]
[[hub]]
hub = "east"
spokes = ["e1", "e2"]
topics = ["*"]
[[hub]]
hub = "west"
spokes = ["w1", "w2"]
topics = ["*"]
`},
}

// numbered are so many names, and others.
func numbered(name string, n int, others ...string) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s%d", name, i))
	}
	return append(all, others...)
}

func quoted(names []string) (list string) {
	for _, n := range names {
		list += fmt.Sprintf("%q, ", n)
	}
	return list
}

func ring(names []string) (links string) {
	for i, n := range names {
		links += fmt.Sprintf("[[link]]\nfrom = %q\nto = %q\ntopics = [\"*\"]\n", n, names[(i+1)%len(names)])
	}
	return links
}

// TestRoutes_EachRecordOnceEverywhere: over every graph each record comes once to each cluster that it can get to, and positions are exact between
// the ends of every link, while paths are cut and the node is killed. ISTHMUS_SEEDS=100 is the whole of it.
func TestRoutes_EachRecordOnceEverywhere(t *testing.T) {
	for _, g := range graphs {
		t.Run(g.name, func(t *testing.T) {
			for seed := range seeds(1) {
				synctest.Test(t, func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, 11))
					f := New(t, Options{Clusters: g.clusters, More: g.more, Topics: topics, Seed: seed, Verbose: testing.Verbose()})
					defer f.Close()
					n := f.Start("n")
					defer func() { n.Stop() }()
					log := judge.NewLog()
					written := make(chan struct{})
					records, rate := 60, 10
					if len(g.clusters) > 10 {
						records, rate = 20, 4 // each goes to all of them, and the trouble lasts as long
					}
					go func() {
						defer close(written)
						everywhere(t, f, log, records, rate)
					}()
					n = f.trouble(rng, n, written)
					n.heal()
					if err := CaughtUp(5*time.Minute, n); err != nil {
						t.Errorf("seed %d: %v", seed, err)
					}
					v := verdict(t, f, judge.Case{Topics: topics, Log: log, Carries: f.carries})
					copied, positions := int64(0), int64(0)
					for _, r := range v.Reports {
						copied, positions = copied+r.Copied, positions+r.Positions
					}
					if copied == 0 || positions == 0 {
						t.Errorf("seed %d: %d records copied, %d positions asked for", seed, copied, positions)
					}
					t.Logf("seed %d: %d records copied, %d positions asked for", seed, copied, positions)
				})
			}
		})
	}
}

// trouble cuts, resets and slows paths of a node, heals them, and kills it, until all is written. It returns the node of then.
func (f *Fabric) trouble(rng *rand.Rand, n *Node, written <-chan struct{}) *Node {
	for {
		time.Sleep(time.Duration(200+rng.IntN(1500)) * time.Millisecond)
		path := n.Paths[f.opt.Clusters[rng.IntN(len(f.opt.Clusters))]]
		switch rng.IntN(5) {
		case 0:
			n.Kill()
			n = f.Start(n.Name)
		case 1:
			path.Cut()
		case 2:
			path.Reset()
		case 3:
			path.Slow(time.Duration(rng.IntN(300))*time.Millisecond, time.Duration(rng.IntN(300))*time.Millisecond, 200_000)
		case 4:
			n.heal()
		}
		select {
		case <-written:
			return n
		default:
		}
	}
}

// heal makes all paths of the node whole.
func (n *Node) heal() {
	for _, p := range n.Paths {
		p.Heal()
		p.Reset()
	}
}
