package real

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// shapes writes the same topics on every side. Three clusters serve all shapes: each shape has topics of its own.
func shapes(t *testing.T, sites map[string]*node.Site) {
	seed := node.Seed(t)
	for _, tc := range []struct {
		shape    string
		clusters []string
		links    []string
		lasts    time.Duration
	}{
		{"both-ways", []string{"eu", "us"}, []string{"eu>us", "us>eu"}, node.Pick(3*time.Second, time.Minute)},
		{"mesh", []string{"eu", "us", "ap"}, []string{"eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us"}, node.Pick(2*time.Second, time.Minute)},
		{"relay", []string{"eu", "us", "ap"}, []string{"eu>us", "us>ap"}, node.Pick(2*time.Second, time.Minute)},
	} {
		t.Run(tc.shape, func(t *testing.T) {
			var at []*node.Site
			for _, name := range tc.clusters {
				at = append(at, sites[name])
			}
			everywhere(t, tc.shape, at, tc.links, tc.lasts, seed)
		})
	}
}

// everywhere writes the same topics to all clusters of a shape at once, judges every cluster, and translates.
func everywhere(t *testing.T, shape string, sites []*node.Site, links []string, lasts time.Duration, seed uint64) {
	const partitions, rate = 4, 1000
	topics := []string{shape + "-orders", shape + "-refunds"}
	for _, c := range sites {
		for _, topic := range topics {
			c.Create(t, topic, partitions)
		}
	}
	s := node.NewSetup(t, shape, sites, links, []string{shape + "-*"}, []string{"n1"})
	n := s.Node("n1")
	n.Start()
	log := judge.NewLog()
	var all []*node.Writing
	for i, c := range sites {
		var mixes []node.Mix
		for j, topic := range topics {
			mixes = append(mixes, node.Mix{Topic: topic, Partitions: partitions, Records: int(lasts.Seconds()) * rate, Rate: rate, Seed: uint64(100*i + 10*j)})
		}
		all = append(all, node.Write(t, c.Client(), log, mixes...))
	}
	for _, w := range all {
		w.Wait(t)
	}
	s.CaughtUp(time.Minute, topics, n)
	v := s.Judged(log, topics)
	for _, c := range sites {
		if got, own := v.Records[c.Name], log.Acked(c.Name); got < own {
			t.Errorf("%s holds %d records, fewer than the %d that were written there", c.Name, got, own)
		}
	}
	s.TranslatesRight(n, seed, node.Pick(25, 1000), topics...)
	n.Kill()
	n.Start()
	s.CaughtUp(time.Minute, topics, n)
	t.Run("translate after a restart", func(t *testing.T) { s.In(t).TranslatesRight(n, seed, node.Pick(25, 1000), topics...) })
}
