package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// named parses links in short: "FROM>TO TOPICS without EXCLUDE: rules" with rules as prefix=P or A=B,C*=D*.
func named(clusters string, links []string, more string) (*Topology, error) {
	var b strings.Builder
	for i, l := range links {
		ends, rest, _ := strings.Cut(l, " ")
		from, to, _ := strings.Cut(ends, ">")
		what, rules, _ := strings.Cut(rest, ": ")
		topics, exclude, _ := strings.Cut(what, " without ")
		list := func(text string) string { return `["` + strings.ReplaceAll(text, ",", `", "`) + `"]` }
		fmt.Fprintf(&b, "[[link]]\nname = \"%d-%s-%s\"\nfrom = %q\nto = %q\ntopics = %s\n", i, from, to, from, to, list(topics))
		if exclude != "" {
			fmt.Fprintf(&b, "exclude = %s\n", list(exclude))
		}
		if prefix, ok := strings.CutPrefix(rules, "prefix="); ok {
			fmt.Fprintf(&b, "prefix = %q\n", prefix)
		} else if rules != "" {
			var table []string
			for rule := range strings.SplitSeq(rules, ",") {
				x, y, _ := strings.Cut(rule, "=")
				table = append(table, fmt.Sprintf("%q = %q", x, y))
			}
			fmt.Fprintf(&b, "rename = { %s }\n", strings.Join(table, ", "))
		}
	}
	return Parse("x.toml", []byte(file(strings.Fields(clusters), b.String()+more)))
}

func TestNaming_BothWays(t *testing.T) {
	for _, tc := range []struct {
		link   string
		source string
		target string // empty: not taken
		back   bool   // the target tells the source
	}{
		{"a>b *", "orders", "orders", true},
		{"a>b * without orders", "orders", "", false},
		{"a>b *: prefix=a.", "orders", "a.orders", true},
		{"a>b *: prefix=a.", "a.orders", "", false},
		{"a>b *: prefix=a.", "b.orders", "a.b.orders", true},
		{"a>b *: prefix=a.", "__consumer_offsets", "", false},
		{"a>b *: prefix=a.", strings.Repeat("x", 248), "", false},
		{"a>b *: prefix=a.", strings.Repeat("x", 247), "a." + strings.Repeat("x", 247), true},
		{"a>b orders,bills: orders=o", "orders", "o", true},
		{"a>b orders,bills: orders=o", "bills", "bills", true},
		{"a>b orders,bills: orders=o", "o", "", false},
		{"a>b *: x-*=y-*", "x-1", "y-1", false}, // also y-1
		{"a>b * without y-*: x-*=y-*", "x-", "y-", true},
		{"a>b *: x-*=y-*", "y-1", "y-1", false}, // also x-1
		{"a>b *: x-*=*", "x-1", "1", false},     // also 1
		{"a>b x-*: x-*=*", "x-1", "1", true},
		{"a>b x-*: x-*=*", "x-", "", false},
		{"a>b x-*: x-*=*", "x-__isthmus.map", "", false},
		{"a>b x-*: x-*=*", "x-heartbeats", "", false},
		{"a>b *: *=z-*", "1", "z-1", true},
		{"a>b *: x-*=y-*,x-1=one", "x-1", "one", false}, // also one
		{"a>b x-*: x-*=y-*,x-1=one", "x-1", "one", true},
		{"a>b x-*: x-*=y-*,x-1-*=w-*", "x-1-2", "w-2", true},
		{"a>b x-*: x-*=y-*,x-1-*=w-*", "x-1", "y-1", true},
		{"a>b *: a=b,b=a", "a", "b", true},
		{"a>b *: a=b,b=a", "b", "a", true},
		{"a>b x-*: x-*=all", "x-1", "all", false},
	} {
		// The link alone: whether its names go together with others is another question.
		l := parsedLink(t, tc.link)
		got, ok := l.TargetTopic(tc.source)
		if got != tc.target || ok != (tc.target != "") {
			t.Errorf("%s: %.20s becomes %q, %v, want %.20q", tc.link, tc.source, got, ok, tc.target)
		}
		if source, ok := l.SourceTopic(tc.target); tc.target != "" && (ok != tc.back || ok && source != tc.source) {
			t.Errorf("%s: %.20s was %q, %v", tc.link, tc.target, source, ok)
		}
	}
}

// parsedLink is one link without the checks among links.
func parsedLink(t testing.TB, text string) Link {
	t.Helper()
	plain, rules, _ := strings.Cut(text, ": ")
	top, err := named("a b", []string{plain}, "")
	if err != nil {
		t.Fatal(err)
	}
	l := top.Links[0]
	if prefix, ok := strings.CutPrefix(rules, "prefix="); ok {
		l.Naming.Prefix = prefix
	} else if rules != "" {
		for rule := range strings.SplitSeq(rules, ",") {
			x, y, _ := strings.Cut(rule, "=")
			l.Naming.Renames = append(l.Naming.Renames, Rename{x, y})
		}
		sortRenames(l.Naming.Renames)
	}
	return l
}

// TestTargetTopic_NoNameForEver: between two clusters that each rename what comes from the other, no topic gets a second new name.
func TestTargetTopic_NoNameForEver(t *testing.T) {
	for _, tc := range []struct {
		name  string
		links []string
		topic string // on a
		want  string // on a and b, in the end
	}{
		{"prefixes both ways", []string{"a>b *: prefix=a.", "b>a *: prefix=b."}, "t", "a:t b:a.t"},
		{"the same prefix both ways", []string{"a>b *: prefix=x.", "b>a *: prefix=x."}, "t", "a:t b:x.t"},
		{"back by its own name", []string{"a>b *: prefix=a.", "b>a *"}, "t", "a:t b:a.t"},
		{"a rename and all back", []string{"a>b t: t=u", "b>a *"}, "t", "a:t b:u"},
		{"a rename and its undoing", []string{"a>b t: t=u", "b>a u: u=t"}, "t", "a:t b:u"},
		{"a prefix and its undoing", []string{"a>b * without a.*: prefix=a.", "b>a a.*: a.*=*"}, "t", "a:t b:a.t"},
		{"a swap", []string{"a>b t,u: t=u,u=t", "b>a t,u: t=u,u=t"}, "t", "a:t b:u"},
		{"many into one, and it back", []string{"a>b t*: t*=all", "b>a *"}, "t1", "a:t1 b:all"},
	} {
		top, err := named("a b", tc.links, "")
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		on := map[string]bool{"a:" + tc.topic: true}
		for moved, rounds := true, 0; moved; rounds++ {
			if moved = false; rounds > 10 {
				t.Fatalf("%s: names for ever: %v", tc.name, on)
			}
			for _, l := range top.Links {
				for at := range on {
					if cluster, topic, _ := strings.Cut(at, ":"); cluster == l.From {
						if target, ok := top.TargetTopic(l, topic); ok && !on[l.To+":"+target] {
							on[l.To+":"+target] = true
							moved = true
						}
					}
				}
			}
		}
		var all []string
		for at := range on {
			all = append(all, at)
		}
		if slices.Sort(all); strings.Join(all, " ") != tc.want {
			t.Errorf("%s: %q, want %s", tc.name, all, tc.want)
		}
	}
}

// TestNameFaults holds which names go together, and what is said of those that do not.
func TestNameFaults(t *testing.T) {
	for _, tc := range []struct {
		name  string
		links []string
		want  string // in the error; empty: none
	}{
		{"same names", []string{"a>b *", "b>c *", "c>a *", "a>c *"}, ""},
		{"a prefix one way", []string{"a>b *: prefix=a."}, ""},
		{"two sources with prefixes", []string{"a>c *: prefix=a.", "b>c *: prefix=b."}, ""},
		{"prefix, then on", []string{"a>b *: prefix=a.", "b>c *"}, ""},
		{"a topic renamed alike by two", []string{"a>c t: t=u", "b>c t: t=u"}, ""},
		{"renamed pair, both on to a third", []string{"a>b t: t=u", "b>a u: u=t", "a>c t: t=u", "b>c u"}, ""},
		{"ring of prefixes", []string{"a>b *: prefix=a.", "b>c *: prefix=b.", "c>a *: prefix=c."},
			`would go round over 0-a-b 1-b-c 2-c-a and get another name each time`},
		{"ring of prefixes that leave each other's out", []string{"a>b * without ?.*: prefix=a.", "b>c * without ?.*: prefix=b.", "c>a * without ?.*: prefix=c."}, ""},
		{"one rename in a ring", []string{"a>b t: t=u", "b>c u", "c>a u"}, ""},
		{"a rename that goes round", []string{"a>b x-*: x-*=x-1-*", "b>c x-*", "c>a x-*"}, `would go round over 0-a-b 1-b-c 2-c-a and get another name each time`},
		{"prefixes both ways", []string{"a>b *: prefix=a.", "b>a *: prefix=b."}, ""},
		{"a prefix, and all back", []string{"a>b *: prefix=a.", "b>a *"}, ""},
		{"two ways, two names", []string{"a>c *: prefix=a.", "a>b *", "b>c *"}, `would come to "c" twice`},
		{"two links, two names", []string{"a>b t", "a>b t: t=u"}, `would come to "b" twice, as "t" over 0-a-b and as "u" over 1-a-b`},
		{"two topics of a link", []string{"a>b *: t=u"}, `topics such as "t" of "a" over 0-a-b and "u" of "a" over 0-a-b would both be "u" of "b"`},
		{"two topics of a link, one excluded", []string{"a>b * without u: t=u"}, ""},
		{"two rules into one name", []string{"a>b t,v: t=u,v=u"}, `would both be "u" of "b"`},
		{"stars that meet", []string{"a>b x-*,y-1: x-*=y-*"}, `would both be "y-1" of "b"`},
		{"stars behind a longer pattern", []string{"a>c x-a*: x-*=y-*", "b>c y-*b"}, `"x-ab" of "a" over 0-a-c and "y-ab" of "b" over 1-b-c would both be "y-ab" of "c"`},
		{"a rename meets another link's own name", []string{"a>c t: t=u", "b>c u"}, `the link "0-a-c": topics such as "t" of "a" over 0-a-c and "u" of "b" over 1-b-c would both be "u" of "c" and mixed there`},
		{"a prefix meets another link's own name", []string{"a>c *: prefix=a.", "b>c *"}, `would both be "a.zq" of "c"`},
		{"a literal that has the prefix", []string{"a>c t: prefix=a.", "b>c a.t"}, `would both be "a.t" of "c"`},
		{"many into one", []string{"a>h t-*: t-*=t", "b>h t-*: t-*=t", "h>d *"}, ""},
		{"many into one, and one of that name", []string{"a>h t-*: t-*=t", "b>h t"}, `would both be "t" of "h"`},
		{"many into one by two rules", []string{"a>h t-*: t-*=t", "b>h u-*: u-*=t"}, `would both be "t" of "h"`},
		{"many into one that go on together", []string{"a>h t-*: t-*=t", "h>d t"}, ""},
		{"many into one that part", []string{"a>h t-*: t-*=t", "h>d t", "a>d t-1: t-1=t"},
			`topics such as "t-" and "t-1" of "a" are both "t" on "h", and would go on to "d" by different ways`},
	} {
		if _, err := named("a b c d h", tc.links, ""); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v\nwant %s", tc.name, err, tc.want)
		}
	}
}

// TestNaming_KeepsWhatStays: a rule of residency knows topics by their names, so they keep them.
func TestNaming_KeepsWhatStays(t *testing.T) {
	const stay = "[[stay]]\ntopics = [\"patients-*\"]\ndcs = [\"x\"]\n"
	top := strings.Replace(file([]string{"a", "b"}, ""), "name = \"b\"", "name = \"b\"\ndc = \"x\"", 1)
	for exclude, want := range map[string]string{"": `the link "a-b" would rename "patients-*", which has to stay in x`, "exclude = [\"patients-*\"]\n": ""} {
		_, err := Parse("x.toml", []byte(top+"[[link]]\nfrom = \"a\"\nto = \"b\"\ntopics = [\"*\"]\nprefix = \"q.\"\n"+exclude+stay))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", exclude, err)
		}
	}
}

// TestNaming_LargeMesh: a mesh of twenty whose links begin names with their source, and leave out what has such a beginning.
func TestNaming_LargeMesh(t *testing.T) {
	clusters := numbered("c", 20)
	text := "[[mesh]]\nclusters = [\"" + strings.Join(clusters, `", "`) + "\"]\ntopics = [\"orders\", \"payments-*\", \"c*.*\"]\nexclude = [\"c*.*\"]\nnaming = \"prefix\"\n"
	begin := time.Now()
	if _, err := Parse("x.toml", []byte(file(clusters, text))); err != nil {
		t.Errorf("%.500v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	_, err := Parse("x.toml", []byte(file(clusters, strings.Replace(text, "exclude = [\"c*.*\"]\n", "", 1))))
	if err == nil || !strings.Contains(err.Error(), "twice, as") || strings.Count(err.Error(), "\n") > maxNameFaults {
		t.Errorf("%.500v", err)
	}
}

// TestNaming_IsWrittenAndCompared: export reads as the same, a mesh gives each link its source's prefix, and another name is a
// change that concerns every topic.
func TestNaming_IsWrittenAndCompared(t *testing.T) {
	mesh := "[[mesh]]\nclusters = [\"a\", \"b\"]\ntopics = [\"*\"]\nnaming = \"prefix\"\n"
	text := file([]string{"a", "b", "c", "d"}, mesh+"[[link]]\nfrom = \"c\"\nto = \"d\"\ntopics = [\"z*\"]\nrename = { \"z\" = \"y\", \"z-*\" = \"y-*\", \"z-1\" = \"one\" }\n")
	top, err := Parse("x.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if ab, _ := top.Link("a-b"); ab.Naming.Prefix != "a." {
		t.Errorf("%+v", ab.Naming)
	}
	if ba, _ := top.Link("b-a"); ba.Naming.Prefix != "b." {
		t.Errorf("%+v", ba.Naming)
	}
	again, err := Parse("x.toml", []byte(top.Export()))
	if err != nil || again.Export() != top.Export() || len(Diff(top, again)) > 0 {
		t.Errorf("%v, exported\n%s", err, top.Export())
	}
	if !strings.Contains(top.Summary(), `naming "prefix"; prefix "a."`) {
		t.Error(top.Summary())
	}
	plain, err := Parse("x.toml", []byte(strings.Replace(text, "naming = \"prefix\"\n", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	diff := Diff(plain, top)
	for _, d := range diff {
		if !d.Destructive || len(d.Topics) > 0 {
			t.Errorf("%+v", d)
		}
	}
	if len(diff) != 4 {
		t.Errorf("%d differences: %v", len(diff), diff)
	}
}

// TestCheckedNames_AreEnough: over random rules of names and beginnings, what the names that are tried do not find no short name
// does.
func TestCheckedNames_AreEnough(t *testing.T) {
	every := shortNames()
	right, wrong := 0, 0
	for seed := range uint64(1500) {
		links := randomNames(seed)
		top, err := named("a b c", links, "")
		if err != nil {
			wrong++
			continue
		}
		right++
		if found := nameFaults(top, every); len(found) > 0 {
			t.Errorf("seed %d: %q are taken, but %s: %s", seed, links, found[0].link, found[0].msg)
		}
	}
	if right < 200 || wrong < 200 {
		t.Errorf("%d are taken and %d refused; the test proves little", right, wrong)
	}
}

// shortNames are all names of up to four of a few characters.
func shortNames() (every []string) {
	for queue := []string{"a", "b", "."}; len(queue) > 0; queue = queue[1:] {
		if every = append(every, queue[0]); len(queue[0]) < 4 {
			queue = append(queue, queue[0]+"a", queue[0]+"b", queue[0]+".")
		}
	}
	every = slices.DeleteFunc(every, func(s string) bool { return !topicName(s) })
	return every
}

// randomNames are links of three clusters that rename by random rules of names and beginnings.
func randomNames(seed uint64) (links []string) {
	sides := []string{"a", "b", "ab", "a.*", "b.*", "a*", "ab*", "*"}
	r := rand.New(rand.NewPCG(seed, 13))
	for range 2 + r.IntN(6) {
		i, j := r.IntN(3), r.IntN(3)
		if i == j {
			continue
		}
		text := fmt.Sprintf("%c>%c %s", "abc"[i], "abc"[j], sides[r.IntN(len(sides))])
		if r.IntN(2) == 0 {
			text += " without " + sides[r.IntN(len(sides)-1)]
		}
		switch r.IntN(3) {
		case 0:
			text += fmt.Sprintf(": prefix=%c.", "abc"[i])
		case 1:
			from, to := sides[r.IntN(len(sides))], sides[r.IntN(len(sides))]
			if from != to && (strings.HasSuffix(from, "*") || !strings.HasSuffix(to, "*")) {
				text += fmt.Sprintf(": %s=%s", from, to)
			}
		}
		links = append(links, text)
	}
	return links
}

// TestCarries_OnceUnderOtherNames: a record goes over the links that carry it from whichever topic it lies in. So it comes to each cluster
// that its trail reaches once, under the trail's name, and nowhere else; and what is told of its way back is that way.
func TestCarries_OnceUnderOtherNames(t *testing.T) {
	every := shortNames()
	renamed, merged := 0, 0
	for seed := range uint64(1500) {
		top, err := named("a b c", randomNames(seed), "")
		if err != nil {
			continue
		}
		for i, origin := range top.Clusters {
			for _, name := range every {
				tr := top.trail(int32(i), name)
				at := map[string]string{origin.Name: name}
				for queue := []string{origin.Name}; len(queue) > 0; queue = queue[1:] {
					for _, l := range top.Links {
						topic := at[queue[0]]
						target, takes := top.TargetTopic(l, topic)
						if l.From != queue[0] || !takes || !top.Carries(l, origin.Name, topic) {
							continue
						}
						if was, twice := at[l.To]; twice {
							t.Fatalf("seed %d %q: %s of %s comes to %s twice, as %s and over %s as %s", seed, randomNames(seed), name, origin.Name, l.To, was, l.Name, target)
						}
						at[l.To] = target
						queue = append(queue, l.To)
					}
				}
				for j, c := range top.Clusters {
					if at[c.Name] != tr.called[j] {
						t.Fatalf("seed %d %q: %s of %s is %q on %s, want %q", seed, randomNames(seed), name, origin.Name, at[c.Name], c.Name, tr.called[j])
					}
					if at[c.Name] == "" || c.Name == origin.Name {
						continue
					}
					hops, ok, many := top.Hops(origin.Name, c.Name, at[c.Name])
					switch {
					case !ok:
						t.Fatalf("seed %d %q: no way from %s of %s to %s", seed, randomNames(seed), name, origin.Name, c.Name)
					case many:
						merged++
					case hops[0].Topic != name || hops[len(hops)-1].As != at[c.Name] || len(hops) != len(top.Route(origin.Name, c.Name, name)):
						t.Fatalf("seed %d %q: %s of %s comes to %s by %+v", seed, randomNames(seed), name, origin.Name, c.Name, hops)
					}
					if at[c.Name] != name {
						renamed++
					}
				}
			}
		}
	}
	if renamed < 1000 || merged < 100 {
		t.Errorf("%d renamed and %d merged; the test proves little", renamed, merged)
	}
}

// FuzzNaming asserts that names can be told both ways: what a link calls a topic is a name that it may make, and what the name tells
// of its source is right, whatever the rules.
func FuzzNaming(f *testing.F) {
	f.Add("orders", "eu.", "", "", "", "", "*")
	f.Add("x-1", "", "x-*", "y-*", "x-1", "one", "x-*")
	f.Add("x-__isthmus.map", "", "x-*", "*", "", "", "*")
	f.Add("x-1", "", "x-*", "all", "a", "b", "*")
	f.Fuzz(func(t *testing.T, source, prefix, from1, to1, from2, to2, topics string) {
		pattern, err := parseTopicPattern(topics)
		if err != nil {
			return
		}
		l := Link{Topics: Patterns{pattern}, Naming: Naming{Prefix: prefix}}
		for _, r := range []Rename{{from1, to1}, {from2, to2}} {
			if renameSide(r.From) && renameSide(r.To) && (strings.HasSuffix(r.From, "*") || !strings.HasSuffix(r.To, "*")) {
				l.Naming.Renames = append(l.Naming.Renames, r)
				l.Naming.Prefix = ""
			}
		}
		sortRenames(l.Naming.Renames)
		target, ok := l.TargetTopic(source)
		if ok {
			if !l.Matches(source) || target != source && (!topicName(target) || Internal(target)) {
				t.Fatalf("%q is called %q", source, target)
			}
			if back, one := l.SourceTopic(target); one && back != source {
				t.Fatalf("%q is called %q, which was %q", source, target, back)
			} else if !one && !l.Naming.Merges() && len(l.Naming.origins(target)) < 2 {
				t.Fatalf("%q is called %q, which was nothing: %q", source, target, l.Naming.origins(target))
			}
			if target != source && !l.makes(target) {
				t.Fatalf("%q is called %q, which the link does not make", source, target)
			}
		}
		if was, ok := l.SourceTopic(source); ok {
			if again, takes := l.TargetTopic(was); !takes || again != source {
				t.Fatalf("%q was %q, which is called %q", source, was, again)
			}
		}
	})
}

// TestReroutes_UnderOtherNames: a change of way is found by the names on the way, and one that begins where a relay stops is for topics of one name
// everywhere only.
func TestReroutes_UnderOtherNames(t *testing.T) {
	of := func(links ...string) *Topology {
		top, err := named("a b c", links, "")
		if err != nil {
			t.Fatal(err)
		}
		return top
	}
	for _, tc := range []struct {
		before, after []string
		want          string
	}{
		{[]string{"a>b *: prefix=a.", "b>c a.*"}, []string{"a>b *: prefix=a.", "b>c a.*", "a>c *: prefix=a."}, "1-b-c>2-a-c a false"},
		{[]string{"a>b *: prefix=a.", "b>c a.*"}, []string{"a>b *: prefix=a.", "b>c a.*", "a>c b*: prefix=a."}, "1-b-c>2-a-c a false"},
		{[]string{"a>b x: x=y", "b>c x"}, []string{"a>b x: x=y", "b>c x", "a>c x: x=z"}, ""}, // what b has as x is not a's
		{[]string{"a>b *", "b>c *"}, []string{"a>b *", "b>c *", "a>c *"}, "1-b-c>2-a-c a true"},
		{[]string{"a>b * without z,y", "b>c * without z,y", "c>a z: z=y"}, []string{"a>b * without z,y", "b>c * without z,y", "c>a z: z=y", "a>c * without z,y"}, "1-b-c>3-a-c a true"},
	} {
		var got []string
		for _, r := range Reroutes(of(tc.before...), of(tc.after...)) {
			got = append(got, fmt.Sprintf("%s>%s %s %v", r.Before, r.After, r.Origin, r.Follows))
		}
		if strings.Join(got, ", ") != tc.want {
			t.Errorf("%q to %q: %q, want %q", tc.before, tc.after, got, tc.want)
		}
	}
}
