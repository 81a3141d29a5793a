package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fabric builds a topology of clusters c0, c1, … from edges "FROM-TO" or "NAME:FROM-TO", all with the same patterns.
func fabric(t testing.TB, topics string, edges ...string) *Topology {
	t.Helper()
	var b strings.Builder
	b.WriteString("fabric.name = \"f\"\n")
	known := make(map[string]bool)
	for _, e := range edges {
		_, pair, found := strings.Cut(e, ":")
		if !found {
			pair = e
		}
		for name := range strings.SplitSeq(pair, "-") {
			if !known[name] {
				known[name] = true
				fmt.Fprintf(&b, "[[cluster]]\nname = %q\nbootstrap = [\"%s:9092\"]\n", name, name)
			}
		}
	}
	for _, e := range edges {
		name, pair, found := strings.Cut(e, ":")
		if !found {
			name, pair = e, e
		}
		from, to, _ := strings.Cut(pair, "-")
		fmt.Fprintf(&b, "[[link]]\nname = %q\nfrom = %q\nto = %q\ntopics = [%s]\n", name, from, to, topics)
	}
	top, err := Parse("test.toml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func mesh(n int) (edges []string) {
	for i := range n {
		for j := range n {
			if i != j {
				edges = append(edges, fmt.Sprintf("c%d-c%d", i, j))
			}
		}
	}
	return edges
}

func star(n int) (edges []string) {
	for i := 1; i < n; i++ {
		edges = append(edges, fmt.Sprintf("c0-c%d", i), fmt.Sprintf("c%d-c0", i))
	}
	return edges
}

func ring(n int, both bool) (edges []string) {
	for i := range n {
		edges = append(edges, fmt.Sprintf("c%d-c%d", i, (i+1)%n))
		if both {
			edges = append(edges, fmt.Sprintf("c%d-c%d", (i+1)%n, i))
		}
	}
	return edges
}

func tree(n int) (edges []string) {
	for i := 1; i < n; i++ {
		edges = append(edges, fmt.Sprintf("c%d-c%d", i, (i-1)/2), fmt.Sprintf("c%d-c%d", (i-1)/2, i))
	}
	return edges
}

func random(r *rand.Rand, n, links int) (edges []string) {
	for i := range links {
		a, b := r.IntN(n), r.IntN(n)
		if a != b {
			edges = append(edges, fmt.Sprintf("l%d:c%d-c%d", r.IntN(1000)*1000+i, a, b))
		}
	}
	return edges
}

func names(route []Link) string {
	var out []string
	for _, l := range route {
		out = append(out, l.Name)
	}
	return strings.Join(out, " ")
}

func TestRoute(t *testing.T) {
	for _, c := range []struct {
		name         string
		edges        []string
		origin, dest string
		want         string
	}{
		{"direct beats a detour", []string{"a:c0-c1", "b:c1-c2", "z:c0-c2"}, "c0", "c2", "z"},
		{"relay", []string{"c0-c1", "c1-c2"}, "c0", "c2", "c0-c1 c1-c2"},
		{"no way back", []string{"c0-c1", "c1-c2"}, "c2", "c0", ""},
		{"to itself", ring(3, true), "c0", "c0", ""},
		{"unknown cluster", ring(3, true), "c0", "mars", ""},
		{"parallel links", []string{"b:c0-c1", "a:c0-c1"}, "c0", "c1", "a"},
		{"tie by the first name that differs", []string{"b:c0-c1", "a:c0-c2", "x:c1-c3", "y:c2-c3"}, "c0", "c3", "a y"},
		{"tie at the last link", []string{"a:c0-c1", "y:c1-c2", "x:c1-c2"}, "c0", "c2", "a x"},
		{"short way round the ring", ring(5, true), "c0", "c3", "c0-c4 c4-c3"},
		{"long way round a one-way ring", ring(4, false), "c1", "c0", "c1-c2 c2-c3 c3-c0"},
		{"star", star(4), "c2", "c3", "c2-c0 c0-c3"},
		{"tree", tree(7), "c3", "c6", "c3-c1 c1-c0 c0-c2 c2-c6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := names(fabric(t, `"*"`, c.edges...).Route(c.origin, c.dest, "orders")); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestRoute_DependsOnTopic(t *testing.T) {
	top, err := Load("testdata/relay.toml")
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{
		"orders-1": "a-orders us-ap", "bills": "a-orders us-ap", "other": "eu-us us-ap", "draft": "", "__consumer_offsets": "",
	} {
		if got := names(top.Route("eu", "ap", topic)); got != want {
			t.Errorf("%s: got %q, want %q", topic, got, want)
		}
	}
}

// TestRoute_Deterministic shuffles the file: the routes must not change with the order of its tables.
func TestRoute_Deterministic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		edges := random(r, 8, 30)
		before := fabric(t, `"*"`, edges...)
		r.Shuffle(len(edges), func(i, j int) { edges[i], edges[j] = edges[j], edges[i] })
		after := fabric(t, `"*"`, edges...)
		for _, a := range before.Clusters {
			for _, b := range before.Clusters {
				if x, y := names(before.Route(a.Name, b.Name, "t")), names(after.Route(a.Name, b.Name, "t")); x != y {
					t.Fatalf("%s to %s: %q or %q", a.Name, b.Name, x, y)
				}
			}
		}
	}
}

// TestRoute_PrefixesAreRoutes checks the property that makes Carries enough: what is routed through a cluster comes to
// it by that cluster's own route.
func TestRoute_PrefixesAreRoutes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		top := fabric(t, `"*"`, random(r, 9, 25)...)
		for _, a := range top.Clusters {
			for _, b := range top.Clusters {
				route := top.Route(a.Name, b.Name, "t")
				for i := 1; i < len(route); i++ {
					if got := top.Route(a.Name, route[i-1].To, "t"); names(got) != names(route[:i]) {
						t.Fatalf("%s: to %s by %q, but through it by %q", a.Name, route[i-1].To, names(got), names(route))
					}
				}
			}
		}
	}
}

// record is one record of the simulation: its identity, and the provenance of the copy at hand.
type record struct {
	origin string
	from   string // the last link's source; empty for the client's own write
	hops   int
}

// simulate lets a client write one record at each cluster, and the links copy what carries says until nothing moves. It
// gives how many copies of each origin's record each cluster holds.
func simulate(top *Topology, topic string, carries func(Link, string) bool) map[[2]string]int {
	logs := make(map[string][]record)
	read := make(map[string]int) // by link: place in the source's log
	for _, c := range top.Clusters {
		logs[c.Name] = []record{{origin: c.Name}}
	}
	for moved := true; moved; {
		moved = false
		for _, l := range top.Links {
			for ; read[l.Name] < len(logs[l.From]); read[l.Name]++ {
				rec := logs[l.From][read[l.Name]]
				// The bound on hops is the simulation's, so that a looping rule ends.
				if l.Matches(topic) && carries(l, rec.origin) && rec.hops < len(top.Clusters) {
					logs[l.To] = append(logs[l.To], record{rec.origin, l.From, rec.hops + 1})
					moved = true
				}
			}
		}
	}
	copies := make(map[[2]string]int)
	for at, log := range logs {
		for _, rec := range log {
			copies[[2]string{rec.origin, at}]++
		}
	}
	return copies
}

// reachable finds, without the package's own search, which clusters a topic's records can get to.
func reachable(top *Topology, origin, topic string) map[string]bool {
	reached := map[string]bool{origin: true}
	for range top.Clusters {
		for _, l := range top.Links {
			if reached[l.From] && l.Matches(topic) {
				reached[l.To] = true
			}
		}
	}
	return reached
}

// checkOnce asserts that every record is once at every cluster it can reach and nowhere else.
func checkOnce(t *testing.T, top *Topology, topic string) {
	t.Helper()
	copies := simulate(top, topic, func(l Link, origin string) bool { return top.Carries(l, origin, topic) })
	for _, origin := range top.Clusters {
		reached := reachable(top, origin.Name, topic)
		for _, at := range top.Clusters {
			want := 0
			if reached[at.Name] {
				want = 1
			}
			if got := copies[[2]string{origin.Name, at.Name}]; got != want {
				t.Errorf("%s: the record of %s is %d times at %s, want %d", topic, origin.Name, got, at.Name, want)
			}
			if route := top.Route(origin.Name, at.Name, topic); (len(route) > 0) != (want == 1 && origin.Name != at.Name) {
				t.Errorf("%s: route %s to %s: %q, reachable %v", topic, origin.Name, at.Name, names(route), want == 1)
			}
		}
	}
}

func TestCarries_DeliversExactlyOnce(t *testing.T) {
	for name, edges := range map[string][]string{
		"mesh of 2": mesh(2), "mesh of 3": mesh(3), "mesh of 7": mesh(7),
		"mesh without a link": mesh(4)[1:], "star": star(6), "ring": ring(6, true), "odd ring": ring(5, true),
		"one-way ring": ring(5, false), "tree": tree(10), "chain": {"c0-c1", "c1-c2", "c2-c3"},
		"parallel links":  {"b:c0-c1", "a:c0-c1", "c:c1-c0", "d:c1-c2", "e:c1-c2"},
		"mesh and a star": append(mesh(4), "x1:c0-c9", "x2:c9-c0", "x3:c2-c9"),
	} {
		t.Run(name, func(t *testing.T) { checkOnce(t, fabric(t, `"*"`, edges...), "orders") })
	}
}

func TestCarries_DeliversExactlyOnceAtRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		n := 2 + r.IntN(9)
		// Each link takes its own choice of topics, so that each topic has another graph.
		top := fabric(t, `"*"`, append(random(r, n, 1+r.IntN(4*n)), "c0-c1")...)
		for i := range top.Links {
			top.Links[i].Topics = nil
			for _, text := range []string{"a", "b*", "~c"} {
				if p, err := parseTopicPattern(text); err == nil && r.IntN(3) > 0 {
					top.Links[i].Topics = append(top.Links[i].Topics, p)
				}
			}
		}
		top.routes = newRoutes(top.Clusters, top.Links)
		for _, topic := range []string{"a", "b1", "b2", "xc", "none"} {
			checkOnce(t, top, topic)
		}
	}
}

// TestCarries_IsNeeded shows what the simulation finds with weaker rules: copying all loops, and not sending back what
// came from there still delivers twice in a mesh.
func TestCarries_IsNeeded(t *testing.T) {
	top := fabric(t, `"*"`, mesh(3)...)
	for name, rule := range map[string]func(Link, string) bool{
		"all":             func(Link, string) bool { return true },
		"not to its home": func(l Link, origin string) bool { return l.To != origin },
	} {
		if copies := simulate(top, "orders", rule); copies[[2]string{"c0", "c1"}] < 2 {
			t.Errorf("%s: the mesh delivers once; the simulation proves nothing", name)
		}
	}
}

func TestCarries_Unknown(t *testing.T) {
	top := fabric(t, `"*"`, mesh(2)...)
	l, _ := top.Link("c0-c1")
	if top.Carries(l, "mars", "t") || top.Carries(Link{Name: "none"}, "c0", "t") || (&Topology{}).Carries(l, "c0", "t") ||
		(&Topology{}).Route("c0", "c1", "t") != nil || top.Carries(l, "c1", "t") || !top.Carries(l, "c0", "t") {
		t.Error("a link carries what it must not, or does not what it must")
	}
}

// TestRoutes_CacheIsBounded asks for more topics and more plans than are kept, from several goroutines.
func TestRoutes_CacheIsBounded(t *testing.T) {
	top := fabric(t, `"*"`, mesh(3)...)
	for i := range top.Links {
		p, _ := ParsePattern(fmt.Sprintf("~%c", 'a'+i))
		top.Links[i].Topics = Patterns{p}
	}
	top.routes = newRoutes(top.Clusters, top.Links)
	top.routes.maxPlans = 4
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(g)))
			for range 2000 {
				topic := fmt.Sprintf("%c%c%d", 'a'+r.IntN(6), 'a'+r.IntN(6), r.IntN(100))
				for _, l := range top.Links {
					if route := top.Route(l.From, l.To, topic); l.Matches(topic) != (len(route) == 1) ||
						top.Carries(l, l.From, topic) != l.Matches(topic) {
						t.Errorf("%s over %s: %q", topic, l.Name, names(route))
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if n := len(top.routes.byLinks); n > 4 {
		t.Errorf("%d plans are kept", n)
	}
	for i := range maxCachedTopics + 10 {
		top.Carries(top.Links[0], "c0", fmt.Sprint(i))
	}
	if n := len(top.routes.byTopic); n > maxCachedTopics {
		t.Errorf("%d topics are kept", n)
	}
}

func BenchmarkCarries(b *testing.B) {
	top := fabric(b, `"*"`, mesh(20)...)
	l := top.Links[slices.IndexFunc(top.Links, func(l Link) bool { return l.Name == "c3-c7" })]
	b.ReportAllocs()
	for b.Loop() {
		if !top.Carries(l, "c3", "orders") {
			b.Fatal("not carried")
		}
	}
}
