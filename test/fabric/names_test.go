package fabric

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// naming is a fabric in which links give topics other names.
type naming struct {
	clusters []string
	links    string   // of the topology file
	writes   []string // "cluster topic"
	classes  []string // of topics that are one: "cluster:topic cluster:topic …"
	many     bool     // more topics of a cluster are in one class, which records tell by what is in them
}

var renamings = map[string]naming{
	"prefixes both ways": {[]string{"eu", "us"}, `
[[mesh]]
clusters = ["eu", "us"]
topics = ["*"]
naming = "prefix"
groups = ["*"]
`, []string{"eu orders", "us orders"}, []string{"eu:orders us:eu.orders", "us:orders eu:us.orders"}, false},
	"one topic under two names, both ways, and on": {[]string{"eu", "us", "ap"}, `
[[link]]
from = "eu"
to = "us"
topics = ["orders"]
rename = { "orders" = "sales" }
[[link]]
from = "us"
to = "eu"
topics = ["sales"]
rename = { "sales" = "orders" }
[[link]]
from = "us"
to = "ap"
topics = ["sales"]
`, []string{"eu orders", "us sales"}, []string{"eu:orders us:sales ap:sales"}, false},
	"a relay that renames twice, beside a direct way": {[]string{"eu", "us", "ap"}, `
[[link]]
from = "eu"
to = "us"
topics = ["orders"]
prefix = "eu."
[[link]]
from = "us"
to = "ap"
topics = ["eu.*", "bills"]
rename = { "eu.*" = "from-eu-*", "bills" = "us-bills" }
[[link]]
from = "ap"
to = "eu"
topics = ["from-eu-orders", "us-bills"]
rename = { "from-eu-orders" = "orders" }
`, []string{"eu orders", "us eu.orders", "us bills", "ap from-eu-orders"},
		[]string{"eu:orders us:eu.orders ap:from-eu-orders", "us:bills ap:us-bills eu:us-bills"}, false},
	"many into one, and out again": {[]string{"eu", "us", "hub", "lake"}, `
[[hub]]
hub = "hub"
spokes = ["eu", "us"]
direction = "in"
topics = ["orders-*"]
rename = { "orders-*" = "orders" }
[[link]]
from = "hub"
to = "lake"
topics = ["orders"]
`, []string{"eu orders-1", "eu orders-2", "us orders-2", "us orders-3"}, []string{"eu:orders-1 eu:orders-2 us:orders-2 us:orders-3 hub:orders lake:orders"}, true},
}

// topics are all names that there are.
func (n naming) topics() (all []string) {
	for _, class := range n.classes {
		for at := range strings.FieldsSeq(class) {
			_, topic, _ := strings.Cut(at, ":")
			all = append(all, topic)
		}
	}
	return all
}

// class is the one of a cluster's topic. Of those that are many in one place, what a record says of where it was produced is.
func (n naming) class(cluster string, r checker.Record) string {
	for _, class := range n.classes {
		for at := range strings.FieldsSeq(class) {
			switch {
			case at != cluster+":"+r.Topic:
			case n.many && r.UID != "":
				return r.UID[:strings.LastIndex(r.UID, "-")] // which are origin/topic-seed/number
			default:
				return class
			}
		}
	}
	return "no class of " + r.Topic
}

// carries tells whether a class has a topic on a target; the routes are such that records of all its topics come to all others.
func (n naming) carries(target, origin, class string) bool {
	if n.many {
		return target == "hub" || target == "lake"
	}
	return strings.Contains(" "+class, " "+target+":") && strings.Contains(" "+class, " "+origin+":")
}

// TestNames_EachRecordOnceUnderItsName: over links that give topics other names each record comes once, in order, to the topic that it belongs to and to no
// other, and positions are exact between the ends of every link, while paths are cut and the node is killed.
func TestNames_EachRecordOnceUnderItsName(t *testing.T) {
	for name, g := range renamings {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds(2) {
				synctest.Test(t, func(t *testing.T) { renamed(t, g, seed) })
			}
		})
	}
}

func renamed(t *testing.T, g naming, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 17))
	f := New(t, Options{Clusters: g.clusters, More: g.links, Seed: seed, Verbose: testing.Verbose()})
	defer f.Close()
	for _, w := range g.writes {
		cluster, topic, _ := strings.Cut(w, " ")
		createTopic(t, f, cluster, topic, 3, nil)
	}
	n := f.Start("n")
	defer func() { n.Stop() }()
	log := judge.NewLog()
	written := make(chan struct{})
	go func() {
		defer close(written)
		done := make(chan struct{})
		for i, w := range g.writes {
			go func() {
				cluster, topic, _ := strings.Cut(w, " ")
				write(t, f, log, cluster, judge.Load{Topic: topic, Partitions: 3, Records: 150, Rate: 25, Size: 60, Seed: uint64(i), Transaction: 10 * (i % 2)})
				done <- struct{}{}
			}()
		}
		for range g.writes {
			<-done
		}
	}()
	for busy := true; busy; {
		time.Sleep(time.Duration(200+rng.IntN(1500)) * time.Millisecond)
		switch path := n.Paths[g.clusters[rng.IntN(len(g.clusters))]]; rng.IntN(4) {
		case 0:
			n.Kill()
			n = f.Start("n")
		case 1:
			path.Cut()
		case 2:
			path.Reset()
		case 3:
			n.heal()
		}
		select {
		case <-written:
			busy = false
		default:
		}
	}
	n.heal()
	if err := CaughtUp(5*time.Minute, n); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	c := judge.Case{Topics: g.topics(), Log: log, Carries: g.carries, Class: g.class}
	if g.many { // what a position there means is another test's
		c.Ways = []judge.Way{}
	}
	v := verdict(t, f, c)
	for cluster, r := range v.Reports {
		if r.Copied == 0 && g.carries(cluster, "", "") {
			t.Errorf("seed %d: nothing was copied to %s", seed, cluster)
		}
		t.Logf("seed %d: %s: %d records copied, %d positions asked for", seed, cluster, r.Copied, r.Positions)
	}
	for _, cluster := range g.clusters {
		for _, topic := range g.topics() {
			if strings.HasPrefix(g.class(cluster, checker.Record{Topic: topic}), "no class") && holds(t, f, cluster, topic) > 0 {
				t.Errorf("seed %d: %s has records in %s, which it should not have", seed, cluster, topic)
			}
		}
	}
}

// TestNames_GroupsFollow: a group's position goes to the topic by its other name, and comes back, on links that rename both ways.
func TestNames_GroupsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := renamings["prefixes both ways"]
		f := New(t, Options{Clusters: g.clusters, More: g.links, Verbose: testing.Verbose()})
		defer f.Close()
		for _, cluster := range g.clusters {
			createTopic(t, f, cluster, "orders", 1, nil)
		}
		log := judge.NewLog()
		write(t, f, log, "us", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: 1})
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Size: 100, Seed: 2, Transaction: 10})
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		commitIn(t, f, "eu", "orders", "shop", 22, "by hand") // two markers before it
		standsIn(t, f, "us", "eu.orders", "shop", 20, "by hand")
		commitIn(t, f, "us", "eu.orders", "shop", 30, "")
		standsIn(t, f, "eu", "orders", "shop", 33, "")
		commitIn(t, f, "us", "orders", "other", 7, "")
		standsIn(t, f, "eu", "us.orders", "other", 7, "")
		got, err := n.Set.Groups(t.Context(), "eu-us", "shop")
		if err != nil || len(got) != 1 || got[0].Topic != "orders" || got[0].As != "eu.orders" || got[0].Source.Offset != 33 || got[0].Target.Offset != 30 {
			t.Errorf("groups: %+v, %v", got, err)
		}
		if got, err := n.Set.Translate(t.Context(), "eu-us", "orders", 0, 30, true); err != nil || got.Result != 33 || got.Topic != "eu.orders" || got.As != "orders" || !got.Exact {
			t.Errorf("translated back: %+v, %v", got, err)
		}
	})
}

// TestNames_ChangedLive: a link that gives another name from now on begins a topic of that name anew, and leaves the one before as it is; with its
// name of before it goes on where it was.
func TestNames_ChangedLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, More: "[[link]]\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"orders\"]\nprefix = \"x.\"\n", Verbose: testing.Verbose()})
		defer f.Close()
		createTopic(t, f, "eu", "orders", 2, nil)
		log := judge.NewLog()
		n := f.Start("n1")
		defer n.Stop()
		counts := func(x, y int) {
			t.Helper()
			for topic, want := range map[string]int{"x.orders": x, "y.orders": y} {
				if want >= 0 {
					eventually(t, time.Minute, fmt.Sprintf("%d records of %s", want, topic), func() bool { return holds(t, f, "us", topic) == want })
				}
			}
		}
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 100, Size: 100, Seed: 1})
		counts(100, -1)
		for i, step := range []struct {
			prefix string
			x, y   int
		}{{"y.", 100, 150}, {"x.", 200, 150}, {"y.", 200, 250}} {
			next, err := topology.Parse(f.Source.Name, bytes.Replace(f.Source.Text, []byte(`"x."`), []byte(strconv.Quote(step.prefix)), 1))
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Set.Apply(t.Context(), next); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 50, Size: 100, Seed: uint64(i) + 2})
			counts(step.x, step.y)
		}
	})
}
