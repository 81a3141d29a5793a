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
	"many into one that has its name": {[]string{"eu", "us", "hub", "lake"}, `
[[hub]]
hub = "hub"
spokes = ["eu", "us"]
direction = "in"
topics = ["orders-*"]
rename = { "orders-*" = "orders-1" }
[[link]]
from = "hub"
to = "lake"
topics = ["orders-1"]
`, []string{"eu orders-1", "eu orders-2", "us orders-2", "us orders-3"}, []string{"eu:orders-1 eu:orders-2 us:orders-2 us:orders-3 hub:orders-1 lake:orders-1"}, true},
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
	n = f.trouble(rng, n, written)
	n.heal()
	if err := CaughtUp(5*time.Minute, n); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	c := judge.Case{Topics: g.topics(), Log: log, Carries: g.carries, Class: g.class}
	if g.many { // what a position there means is another test's
		c.Ways = []judge.Way{}
	}
	v := verdict(t, f, c)
	identical(t, n, 1)
	for _, l := range f.Topology.Links {
		if entries, err := n.Set.Ledger(l.Name); err != nil || len(entries) > 0 {
			t.Errorf("seed %d: the ledger of %s: %+v, %v; nothing went wrong there", seed, l.Name, entries, err)
		}
	}
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
		if err != nil || len(got.Positions) != 1 || got.Positions[0].Topic != "orders" || got.Positions[0].As != "eu.orders" || got.Positions[0].Source.Offset != 33 || got.Positions[0].Target.Offset != 30 {
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

// TestNames_ManyIntoOne: the topic that many become has the partitions of the largest, positions of each are its own, both ways, and of two whose copies
// could not be told apart one waits.
func TestNames_ManyIntoOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Verbose: testing.Verbose(),
			More: "[[link]]\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"t-*\"]\nrename = { \"t-*\" = \"all\" }\ngroups = [\"*\"]\n"})
		defer f.Close()
		one, other := alike()
		sizes := map[string]int32{"t-1": 2, "t-2": 5, one: 1, other: 1}
		for topic, n := range sizes {
			createTopic(t, f, "eu", topic, n, nil)
		}
		log := judge.NewLog()
		n := f.Start("n1")
		defer n.Stop()
		for i := range uint64(3) {
			for topic, size := range sizes {
				write(t, f, log, "eu", judge.Load{Topic: topic, Partitions: size, Records: 40, Size: 100, Seed: i})
			}
		}
		eventually(t, time.Minute, "all but one topic's records", func() bool { return holds(t, f, "us", "all") == 3*3*40 })
		commitIn(t, f, "eu", "t-1", "shop", 3, "")
		blocked := 0
		for _, flow := range n.Set.Status()[0].Flows {
			switch {
			case flow.As != "all":
				t.Errorf("topic %s is called %q", flow.Topic, flow.As)
			case flow.Blocked == "":
			case flow.Topic == max(one, other) && strings.HasPrefix(flow.Blocked, "same-producer-id: topics "+min(one, other)+" and "+flow.Topic+" both are all on us"):
				blocked++
			default:
				t.Errorf("topic %s is blocked: %s", flow.Topic, flow.Blocked)
			}
		}
		if blocked != 1 {
			t.Errorf("%d topics are blocked, want the second of %s and %s", blocked, one, other)
		}
		for _, topic := range []string{"t-1", "t-2"} {
			for p := range sizes[topic] {
				positionsOf(t, f, n, topic, p)
			}
		}
		time.Sleep(10 * time.Second)
		for _, topic := range []string{"t-1", "all"} {
			if at := positionIn(t, f, "us", topic, "shop"); at != nil {
				t.Errorf("the position of a group in t-1 became %+v in %s; whose it is nobody could tell there", at, topic)
			}
		}
	})
}

// alike are two names of topics that are written under one id.
func alike() (one, other string) {
	seen := make(map[string]string)
	top := &topology.Topology{Fabric: topology.Fabric{Name: "alike"}}
	for i := 0; ; i++ {
		name := fmt.Sprintf("t-x%d", i)
		id := strconv.FormatInt(top.NamedID("eu", "eu", name), 10)
		if before, ok := seen[id]; ok {
			return before, name
		}
		seen[id] = name
	}
}

// positionsOf compares each position of a partition with where its record is on the target, and back.
func positionsOf(t *testing.T, f *Fabric, n *Node, topic string, p int32) {
	t.Helper()
	var source, target []checker.Record
	for cluster, into := range map[string]*[]checker.Record{"eu": &source, "us": &target} {
		name := topic
		if cluster == "us" {
			name = "all"
		}
		err := judge.Read(t.Context(), f.Client(cluster), []string{name}, func(r checker.Record) error {
			if r.Partition == p && strings.HasPrefix(r.UID, "eu/"+topic+"-") {
				*into = append(*into, r)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(source) == 0 || len(source) != len(target) {
		t.Fatalf("%s:%d has %d records and %d copies", topic, p, len(source), len(target))
	}
	behind := int64(-1)
	for i, r := range source {
		if r.UID != target[i].UID {
			t.Fatalf("%s:%d: record %d is %s, its copy %s", topic, p, i, r.UID, target[i].UID)
		}
		for _, c := range []struct {
			at, want int64
			reverse  bool
		}{{r.Offset, target[i].Offset, false}, {target[i].Offset, r.Offset, true}, {behind + 1, r.Offset, true}} {
			got, err := n.Set.Translate(t.Context(), "eu-us", topic, p, c.at, c.reverse)
			if err != nil || got.Result != c.want {
				t.Fatalf("%s:%d: %d (reverse %v) is %+v, %v, want %d", topic, p, c.at, c.reverse, got, err, c.want)
			}
		}
		behind = target[i].Offset
	}
}
