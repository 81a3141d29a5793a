package fleet

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// The fabric of the suite: two nodes in each of three data centers, all clusters linked with all.
const (
	topic      = "orders"
	partitions = 24
)

var (
	dcs   = map[string]string{"eu": "frankfurt", "us": "virginia", "ap": "singapore"}
	links = []string{"eu>us", "us>eu", "eu>ap", "us>ap", "ap>eu", "ap>us"}
	names = []string{"eu-1", "eu-2", "us-1", "us-2", "ap-1", "ap-2"}
)

// lab is a running fabric under load.
type lab struct {
	*node.Setup
	t     testing.TB
	said  *node.Said
	sites map[string]*node.Site
	nodes []*node.Node // those that run
	log   *judge.Log
	loads []*node.Writing
	seen  *node.Delays  // of eu's records at us
	usual time.Duration // the slowest of them while nothing happened
}

// newLab starts real clusters at eu and us and an embedded one at ap, all nodes, and producers at eu and us.
func newLab(t testing.TB) *lab {
	t.Helper()
	said := node.NewSaid(t)
	t = said.In(t)
	sites := node.StartSites(t, "eu", "us")
	sites["ap"] = node.StartEmbedded(t, "ap")
	where := map[string]string{}
	for cluster, dc := range dcs {
		where[cluster], where[cluster+"-1"], where[cluster+"-2"] = dc, dc, dc
	}
	for _, s := range sites {
		s.Create(t, topic, partitions)
	}
	l := &lab{t: t, said: said, sites: sites, log: judge.NewLog(), Setup: node.NewFleet(t, node.Fleet{
		Name: "fleet", Sites: []*node.Site{sites["eu"], sites["us"], sites["ap"]}, DCs: where, Links: links, Topics: []string{"orders*"}, Nodes: names,
	})}
	for _, n := range names {
		l.nodes = append(l.nodes, l.Node(n))
	}
	for _, n := range l.nodes {
		n.Start()
	}
	node.Until(t, time.Minute, "every partition of every link is copied by somebody", l.allRun)
	l.seen = node.Follow(t, sites["us"], topic, "eu")
	seed := node.Seed(t)
	for i, c := range []string{"eu", "us"} {
		w := node.Write(t, sites[c].Client(), l.log, node.Mix{Topic: topic, Partitions: partitions, Rate: 10 * partitions, Seed: seed%1000 + uint64(100*i),
			Plain: true, Light: true})
		l.loads = append(l.loads, w)
	}
	l.flows(time.Now(), 30*time.Second)
	return l
}

// flows waits until every partition has handed over a record that was produced after a moment, and returns how long after.
func (l *lab) flows(after time.Time, limit time.Duration) time.Duration {
	l.t.Helper()
	asked := time.Now()
	node.Until(l.t, limit, "every partition flows again", func(ctx context.Context) error {
		err := l.seen.Passed(after, partitions)
		if err != nil && time.Since(asked) > limit/2 {
			err = fmt.Errorf("%w; %s", err, l.about(ctx, after))
		}
		return err
	})
	return time.Since(after)
}

// about tells where records may be stuck: what producers and consumers have, and what each node says of the link from eu to us.
func (l *lab) about(ctx context.Context, after time.Time) string {
	text := fmt.Sprintf("eu has acknowledged %d records, us %d; since then %v", l.log.Acked("eu"), l.log.Acked("us"), l.seen.Between(after, time.Now()))
	for _, n := range l.nodes {
		st, err := n.Status(ctx)
		if err != nil {
			text += fmt.Sprintf("\n%s: %v", n.Name, err)
			continue
		}
		for _, link := range st.GetLinks() {
			if link.GetName() != "eu-us" {
				continue
			}
			text += fmt.Sprintf("\n%s: %s", n.Name, link.GetTrouble())
			for _, p := range node.Flow(st, "eu-us", topic).GetPartitions() {
				text += fmt.Sprintf("; %d %s at %d of %d %s", p.GetPartition(), admin.Name(p.GetState()), p.GetSourceNext(), p.GetSourceEnd(), p.GetReason())
			}
		}
	}
	return text
}

// allRun is an error while a partition of a link runs on no node.
func (l *lab) allRun(ctx context.Context) error {
	running := make(map[string]int)
	for _, n := range l.nodes {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		for _, link := range st.GetLinks() {
			for _, p := range node.Flow(st, link.GetName(), topic).GetPartitions() {
				if p.GetState() == adminpb.State_STATE_RUNNING {
					running[fmt.Sprint(link.GetName(), ":", p.GetPartition())]++
				}
			}
		}
	}
	var errs []error
	for _, link := range l.Topology.Links {
		n := 0
		for p := range partitions {
			if running[fmt.Sprint(link.Name, ":", p)] > 0 {
				n++
			}
		}
		if n < partitions {
			errs = append(errs, fmt.Errorf("%s: %d of %d partitions run", link.Name, n, partitions))
		}
	}
	return errors.Join(errs...)
}
