package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// file is a topology of some clusters, with more text behind them.
func file(clusters []string, text string) string {
	var b strings.Builder
	b.WriteString("fabric.name = \"f\"\n")
	for _, c := range clusters {
		fmt.Fprintf(&b, "[[cluster]]\nname = %q\nbootstrap = [\"%s:9092\"]\n", c, c)
	}
	return b.String() + text
}

func parsed(t testing.TB, text string) *Topology {
	t.Helper()
	top, err := Parse("x.toml", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return top
}

// numbered is the names of n clusters.
func numbered(prefix string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("%s%d", prefix, i))
	}
	return list
}

// TestExpand_RunsAsTheLinksWrittenOut: a short form is the same fabric as its links, for nodes, settings and apply.
func TestExpand_RunsAsTheLinksWrittenOut(t *testing.T) {
	clusters := []string{"eu", "us", "ap"}
	short := parsed(t, file(clusters, "[[mesh]]\nclusters = [\"eu\", \"us\", \"ap\"]\ntopics = [\"a\", \"b-*\"]\nbyte_rate = 9000\n"))
	var long strings.Builder
	for _, from := range clusters {
		for _, to := range clusters {
			if from != to {
				fmt.Fprintf(&long, "[[link]]\nfrom = %q\nto = %q\ntopics = [\"a\", \"b-*\"]\nbyte_rate = 9000\n", from, to)
			}
		}
	}
	full := parsed(t, file(clusters, long.String()))
	if short.Export() != full.Export() || short.Hash() != full.Hash() || short.RunningHash() != full.RunningHash() || len(Diff(short, full)) > 0 {
		t.Errorf("the short form is\n%s\nwant\n%s", short.Export(), full.Export())
	}
	source := Source{Name: "x.toml", Text: []byte(file(clusters, "[[mesh]]\nclusters = [\"eu\", \"us\", \"ap\"]\ntopics = [\"a\", \"b-*\"]\nbyte_rate = 9000\n"))}
	if p, err := source.Apply(nil, "y.toml", []byte(full.Export())); err != nil || len(p.Entries) > 0 || len(p.Changes) > 0 {
		t.Errorf("to apply the links written out changes %+v, %v", p, err)
	}
}

// TestExpand_SettingsChangeOneLink: a setting over a link of a short form is that link's alone.
func TestExpand_SettingsChangeOneLink(t *testing.T) {
	source := Source{Name: "x.toml", Text: []byte(file([]string{"eu", "us", "ap"}, "[[mesh]]\nclusters = [\"eu\", \"us\", \"ap\"]\ntopics = [\"a\"]\n"))}
	top, ignored, err := source.Overlay([]Setting{
		{Key: "link/eu-us/byte_rate", Value: []byte("5000")},
		{Key: "link/ap-us", Value: []byte(Removed)},
		{Key: "link/us-ap/topics", Value: []byte(`["a", "b"]`)},
	})
	if err != nil || len(ignored) > 0 {
		t.Fatal(err, ignored)
	}
	var got []string
	for _, l := range top.Links {
		got = append(got, fmt.Sprintf("%s %d %d %s", l.Name, l.ByteRate, len(l.Topics), top.Written(l.Name)))
	}
	want := []string{"eu-us 5000 1 [[mesh]] in line 11", "eu-ap 0 1 [[mesh]] in line 11", "us-eu 0 1 [[mesh]] in line 11",
		"us-ap 0 2 [[mesh]] in line 11", "ap-eu 0 1 [[mesh]] in line 11"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	_, _, err = source.Overlay([]Setting{{Key: "link/x", Value: []byte(Present)}, {Key: "link/x/from", Value: []byte(`"eu"`)},
		{Key: "link/x/to", Value: []byte(`"us"`)}, {Key: "link/x/topics", Value: []byte(`["a"]`)}})
	if want := `setting link/x: the link "x" of this [[link]] and the link "eu-us" in line 11 both take "a" from "eu" to "us"; exclude it from one of them`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if top.Written("x") != "" {
		t.Error("a link that there is not is written somewhere")
	}
}

// TestExpand_IsBounded: what a file of the size allowed can ask for is refused, or read, before long.
func TestExpand_IsBounded(t *testing.T) {
	list := func(names []string) string { return `["` + strings.Join(names, `", "`) + `"]` }
	hundred := numbered("c", 100)
	for _, tc := range []struct{ name, text, want string }{
		{"mesh of a hundred", file(hundred, "[[mesh]]\nclusters = "+list(hundred)+"\ntopics = [\"~a.*b\", \"~c\"]\n"), ""},
		{"mesh of 101", file(hundred, "[[mesh]]\nclusters = "+list(numbered("c", 101))+"\ntopics = [\"*\"]\n"), "more than 10000"},
		{"two meshes", file(hundred, strings.Repeat("[[mesh]]\nclusters = "+list(numbered("c", 80))+"\ntopics = [\"*\"]\n", 2)), "more than 10000"},
		{"unknown clusters", file(numbered("c", 2000), "[[mesh]]\nclusters = "+list(numbered("x", 100))+"\ntopics = [\"*\"]\n"), "unknown cluster"},
		{"hundreds of thousands", file(nil, "[[mesh]]\nclusters = "+list(numbered("c", 90_000))+"\ntopics = [\"*\"]\n"), "more than 10000"},
		{"many rules", file(hundred, "[[mesh]]\nclusters = "+list(hundred)+"\ntopics = "+list(numbered("~^t[a-z]+(x|y)*", 20_000))+"\n"), ""},
	} {
		begin := time.Now()
		_, err := Parse("x.toml", []byte(tc.text))
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %.300v, want %q", tc.name, err, tc.want)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s took %v", tc.name, took)
		}
	}
}

// TestExpand_SaysAFaultOnce: a fault that all links of a large mesh have leaves room for the others of the file.
func TestExpand_SaysAFaultOnce(t *testing.T) {
	hundred := numbered("c", 100)
	_, err := Parse("x.toml", []byte(file(hundred, "[[mesh]]\nclusters = [\""+strings.Join(hundred, `", "`)+"\"]\ntopics = [\"*\"]\npoison = \"drop\"\n[[node]]\nnode = 1\n")))
	if err == nil || strings.Count(err.Error(), "poison is") != 1 || !strings.Contains(err.Error(), "[[node]]") || strings.Contains(err.Error(), "too many") {
		t.Errorf("%.500v", err)
	}
}

// shape is a fabric in short forms, and how many links away each cluster is from each.
type shape struct {
	name     string
	clusters []string
	text     string
	links    int
	// hops from one cluster to another; 0 where there is no way.
	hops func(from, to string) int
}

func shapes() []shape {
	list := func(names []string) string { return `["` + strings.Join(names, `", "`) + `"]` }
	sources, sinks, leaves := numbered("s", 20), numbered("d", 3), numbered("leaf", 6)
	kind := func(name string) byte { return name[0] }
	ringOf4 := ""
	for i := range 4 {
		ringOf4 += fmt.Sprintf("[[mesh]]\nclusters = [\"c%d\", \"c%d\"]\ntopics = [\"*\"]\n", i, (i+1)%4)
	}
	return []shape{
		{"star of 20, out to 3", slices.Concat([]string{"hub"}, sources, sinks),
			"[[hub]]\nhub = \"hub\"\nspokes = " + list(sources) + "\ndirection = \"in\"\ntopics = [\"*\"]\n" +
				"[[hub]]\nhub = \"hub\"\nspokes = " + list(sinks) + "\ndirection = \"out\"\ntopics = [\"*\"]\n", 23,
			func(from, to string) int {
				switch string(kind(from)) + string(kind(to)) {
				case "sh", "hd":
					return 1
				case "sd":
					return 2
				}
				return 0
			}},
		{"star both ways", slices.Concat([]string{"hub"}, sources),
			"[[hub]]\nhub = \"hub\"\nspokes = " + list(sources) + "\ntopics = [\"*\"]\n", 40,
			func(from, to string) int {
				if kind(from) == 'h' || kind(to) == 'h' {
					return 1
				}
				return 2
			}},
		{"ring of 4", numbered("c", 4), ringOf4, 8, func(from, to string) int {
			if (from[1]-to[1])%2 == 0 {
				return 2
			}
			return 1
		}},
		{"mesh of 5", numbered("c", 5), "[[mesh]]\nclusters = " + list(numbered("c", 5)) + "\ntopics = [\"*\"]\n", 20,
			func(string, string) int { return 1 }},
		{"two-tier tree", slices.Concat([]string{"root", "a", "b"}, leaves),
			"[[hub]]\nhub = \"root\"\nspokes = [\"a\", \"b\"]\ntopics = [\"*\"]\n" +
				"[[hub]]\nhub = \"a\"\nspokes = " + list(leaves[:3]) + "\ntopics = [\"*\"]\n" +
				"[[hub]]\nhub = \"b\"\nspokes = " + list(leaves[3:]) + "\ntopics = [\"*\"]\n", 16,
			func(from, to string) int {
				up := func(name string) []string {
					switch {
					case name == "root":
						return []string{"root"}
					case len(name) == 1:
						return []string{name, "root"}
					case name[4] < '3':
						return []string{name, "a", "root"}
					}
					return []string{name, "b", "root"}
				}
				x, y := up(from), up(to)
				for i, at := range x {
					if j := slices.Index(y, at); j >= 0 {
						return i + j
					}
				}
				return 0
			}},
	}
}

// TestExpand_Shapes: in each shape of the book every origin has one route to each cluster that it should reach, as long as it should
// be, and the simulation delivers every record once.
func TestExpand_Shapes(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			top := parsed(t, file(s.clusters, s.text))
			if len(top.Links) != s.links {
				t.Errorf("%d links, want %d", len(top.Links), s.links)
			}
			for _, from := range s.clusters {
				for _, to := range s.clusters {
					if from == to {
						continue
					}
					route, want := top.Route(from, to, "orders"), s.hops(from, to)
					if len(route) != want {
						t.Errorf("%s to %s over %q, want %d links", from, to, names(route), want)
					}
					carriers := 0
					for _, l := range top.Links {
						if l.To == to && top.Carries(l, from, "orders") {
							carriers++
						}
					}
					if carriers != min(want, 1) {
						t.Errorf("%d links carry what %s produced to %s", carriers, from, to)
					}
				}
			}
			checkOnce(t, top, "orders")
		})
	}
}

// TestExpand_AtRandom: any mixture of short forms and links expands to the same links each time, whatever the order of its entries,
// or is refused each time; and what is not refused delivers each record once.
func TestExpand_AtRandom(t *testing.T) {
	taken := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		clusters := numbered("c", 2+r.IntN(7))
		var entries []string
		for i := range 1 + r.IntN(4) {
			some := slices.Clone(clusters)
			r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			some = some[:2+r.IntN(len(some)-1)]
			rest := `["` + strings.Join(some[1:], `", "`) + `"]`
			topic := fmt.Sprintf("topics = [%q]\n", []string{"a", "b", "*"}[r.IntN(3)])
			name := ""
			if r.IntN(2) > 0 {
				name = fmt.Sprintf("name = \"n%d\"\n", i)
			}
			switch r.IntN(3) {
			case 0:
				entries = append(entries, fmt.Sprintf("[[mesh]]\n%sclusters = [\"%s\"]\n%s", name, strings.Join(some, `", "`), topic))
			case 1:
				way := []string{"in", "out", "both"}[r.IntN(3)]
				entries = append(entries, fmt.Sprintf("[[hub]]\n%shub = %q\nspokes = %s\ndirection = %q\n%s", name, some[0], rest, way, topic))
			default:
				entries = append(entries, fmt.Sprintf("[[link]]\n%sfrom = %q\nto = %q\n%s", name, some[0], some[1], topic))
			}
		}
		top, err := Parse("x.toml", []byte(file(clusters, strings.Join(entries, ""))))
		again, err2 := Parse("x.toml", []byte(file(clusters, strings.Join(entries, ""))))
		if fmt.Sprint(err) != fmt.Sprint(err2) || err == nil && top.Export() != again.Export() {
			t.Fatalf("seed %d: first %v, then %v", seed, err, err2)
		}
		r.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		moved, err2 := Parse("x.toml", []byte(file(clusters, strings.Join(entries, ""))))
		if (err == nil) != (err2 == nil) || err == nil && top.Export() != moved.Export() {
			t.Fatalf("seed %d: another order of entries gives %v, not %v", seed, err2, err)
		}
		if err != nil {
			continue
		}
		taken++
		for _, topic := range []string{"a", "b", "c"} {
			checkOnce(t, top, topic)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if taken < 100 {
		t.Errorf("only %d of the files were taken; the test proves little", taken)
	}
}
