package real

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
)

// TestMesh_EachRecordOnceEverywhere writes the same topics on every side. Three clusters serve all shapes: each shape has
// topics of its own.
func TestMesh_EachRecordOnceEverywhere(t *testing.T) {
	kafka.Require(t)
	seed := seed(t)
	sites := startSites(t, "eu", "us", "ap")
	for _, tc := range []struct {
		shape    string
		clusters []string
		links    []string
		lasts    time.Duration
	}{
		{"both-ways", []string{"eu", "us"}, []string{"eu>us", "us>eu"}, pick(12*time.Second, time.Minute)},
		{"mesh", []string{"eu", "us", "ap"}, []string{"eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us"}, pick(8*time.Second, time.Minute)},
		{"relay", []string{"eu", "us", "ap"}, []string{"eu>us", "us>ap"}, pick(8*time.Second, time.Minute)},
	} {
		t.Run(tc.shape, func(t *testing.T) {
			var at []*site
			for _, name := range tc.clusters {
				at = append(at, sites[name])
			}
			everywhere(t, tc.shape, at, tc.links, tc.lasts, seed)
		})
	}
}

// everywhere writes the same topics to all clusters of a shape at once, judges every cluster, and translates.
func everywhere(t *testing.T, shape string, sites []*site, links []string, lasts time.Duration, seed uint64) {
	const partitions, rate = 4, 1000
	topics := []string{shape + "-orders", shape + "-refunds"}
	for _, c := range sites {
		for _, topic := range topics {
			c.create(t, topic, partitions)
		}
	}
	s := newSetup(t, shape, sites, links, []string{shape + "-*"}, []string{"n1"})
	n := s.node("n1")
	n.start()
	log := judge.NewLog()
	var all []*writing
	for i, c := range sites {
		var mixes []mix
		for j, topic := range topics {
			mixes = append(mixes, mix{topic, partitions, int(lasts.Seconds()) * rate, rate, uint64(100*i + 10*j)})
		}
		all = append(all, write(t, c.client(), log, mixes...))
	}
	for _, w := range all {
		w.wait(t)
	}
	s.caughtUp(time.Minute, topics, n)
	v := s.judged(log, topics)
	for _, c := range sites {
		if got, own := v.Records[c.name], log.Acked(c.name); got < own {
			t.Errorf("%s holds %d records, fewer than the %d that were written there", c.name, got, own)
		}
	}
	s.translatesRight(n, seed, pick(100, 1000), topics...)
	n.kill()
	n.start()
	s.caughtUp(time.Minute, topics, n)
	t.Run("translate after a restart", func(t *testing.T) { s.in(t).translatesRight(n, seed, pick(100, 1000), topics...) })
}
