package fabric

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
)

// hundred is how many groups follow.
const hundred = 100

// TestGroups_AtEveryLag: a hundred groups with lags from none to a whole log stand elsewhere where they skip nothing and read nothing again, all of
// them, whatever was killed before; so they do when they move and come back; and nodes that have nothing but what the clusters keep say the same.
func TestGroups_AtEveryLag(t *testing.T) {
	for name, tc := range map[string]struct{ clusters, links []string }{
		"one way":   {[]string{"eu", "us"}, []string{"eu>us"}},
		"both ways": {[]string{"eu", "us"}, []string{"eu>us", "us>eu"}},
		"chain":     {[]string{"eu", "us", "ap"}, []string{"eu>us", "us>ap"}},
		"hub":       {[]string{"eu", "us", "ap"}, []string{"eu>us", "us>eu", "us>ap", "ap>us"}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds(1) {
				synctest.Test(t, func(t *testing.T) {
					f := New(t, Options{Clusters: tc.clusters, Links: tc.links, Topics: topics, Settings: `groups = ["*"]`, Seed: seed, Verbose: testing.Verbose()})
					defer f.Close()
					log := judge.NewLog()
					first := f.Start("n1")
					written := make(chan struct{})
					go func() {
						defer close(written)
						everywhere(t, f, log, 500, 400)
					}()
					time.Sleep(time.Duration(f.rng.IntN(1000)) * time.Millisecond)
					first.Kill()
					n := f.Start("n2")
					<-written
					settle(t, n)

					g := &grouped{t: t, f: f, rng: rand.New(rand.NewPCG(seed, 9))}
					for _, from := range []string{"eu", "us", "eu"} {
						others := slices.DeleteFunc(slices.Clone(tc.clusters), func(c string) bool { return c == from })
						g.move(from)
						where := g.follow(from, others)
						n.Stop()
						n = f.Start("cold")
						settle(t, n)
						time.Sleep(10 * time.Second)
						if again := g.where(from, others); !maps.EqualFunc(where, again, slices.Equal) {
							t.Errorf("seed %d: positions of groups changed when all nodes began anew", seed)
						}
						verdict(t, f, judge.Case{Topics: topics, Log: log, Carries: f.carries, Positions: where})
					}
					n.Stop()
				})
			}
		})
	}
}

func settle(t *testing.T, n *Node) {
	t.Helper()
	if err := CaughtUp(2*time.Minute, n); err != nil {
		t.Fatal(err)
	}
}

// carries reports whether a topic of an origin comes to a target.
func (f *Fabric) carries(target, origin, topic string) bool {
	return len(f.Topology.Route(origin, target, topic)) > 0
}

// grouped are a hundred groups that read all topics.
type grouped struct {
	t   *testing.T
	f   *Fabric
	rng *rand.Rand
	at  map[string]kadm.Offsets // where they stand, by group
}

// names are those of the groups.
func names() (all []string) {
	for i := range hundred {
		all = append(all, fmt.Sprintf("g%03d", i))
	}
	return all
}

// move has them read at a cluster: one is at the end of all partitions, one at the beginning. None is where it was before: of a position that was
// translated to where it is, and is not moved there, the one that it was translated from counts.
func (g *grouped) move(cluster string) {
	g.t.Helper()
	g.at = make(map[string]kadm.Offsets)
	admin(g.t, g.f, cluster, func(ctx context.Context, a *kadm.Client) error {
		ends, err := a.ListEndOffsets(ctx, topics...)
		if err != nil {
			return err
		}
		was := a.FetchManyOffsets(ctx, names()...)
		for i, group := range names() {
			at := make(kadm.Offsets)
			ends.Each(func(e kadm.ListedOffset) {
				o := g.rng.Int64N(e.Offset + 1)
				if before, ok := was[group].Fetched.Lookup(e.Topic, e.Partition); ok && before.At == o {
					o = (o + 1) % (e.Offset + 1)
				}
				switch i {
				case 0:
					o = e.Offset
				case 1:
					o = 0
				}
				at.Add(kadm.Offset{Topic: e.Topic, Partition: e.Partition, At: o, LeaderEpoch: -1})
			})
			g.at[group] = at
			res, err := a.CommitOffsets(ctx, group, at)
			if err := cmp.Or(err, res.Error()); err != nil {
				return err
			}
		}
		return nil
	})
}

// follow waits until positions no longer change anywhere, and returns them by cluster.
func (g *grouped) follow(from string, others []string) (where map[string][]checker.Position) {
	g.t.Helper()
	var before map[string][]checker.Position
	for range 60 {
		time.Sleep(4 * time.Second)
		if where = g.where(from, others); maps.EqualFunc(where, before, slices.Equal) {
			return where
		}
		before = where
	}
	g.t.Error("positions of groups never come to rest")
	return where
}

// where is where the groups stand at other clusters.
func (g *grouped) where(from string, others []string) map[string][]checker.Position {
	g.t.Helper()
	where := make(map[string][]checker.Position)
	for _, cluster := range others {
		admin(g.t, g.f, cluster, func(ctx context.Context, a *kadm.Client) error {
			there := a.FetchManyOffsets(ctx, names()...)
			for _, group := range names() {
				if err := there[group].Err; err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
					return err
				}
				for _, o := range g.at[group].Sorted() {
					p := checker.Position{Group: group, Cluster: from, Topic: o.Topic, Partition: o.Partition, Source: o.At, Target: -1}
					if at, ok := there[group].Fetched.Lookup(o.Topic, o.Partition); ok {
						p.Target = at.At
					}
					where[cluster] = append(where[cluster], p)
				}
			}
			return nil
		})
	}
	return where
}
