package topology

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// meshText is the text of a fabric in which links lead from each of some clusters to each other one.
func meshText(clusters int, more func(link int) string) string {
	var b strings.Builder
	b.WriteString("[fabric]\nname = \"mesh\"\n")
	for i := range clusters {
		fmt.Fprintf(&b, "[[cluster]]\nname = \"c%02d\"\nbootstrap = [\"c%02d:9092\"]\n", i, i)
	}
	link := 0
	for from := range clusters {
		for to := range clusters {
			if from == to {
				continue
			}
			fmt.Fprintf(&b, "[[link]]\nfrom = \"c%02d\"\nto = \"c%02d\"\ntopics = [\"orders\", \"t%03d-*\"]\n%s", from, to, link, more(link))
			link++
		}
	}
	return b.String()
}

func nothing(int) string { return "" }

func planned(t *testing.T, s Source, settings []Setting, wanted string) *Plan {
	t.Helper()
	p, err := s.Apply(settings, "wanted.toml", []byte(wanted))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestApply_TouchesOnlyWhatDiffers: of more than 200 links, three get other groups, one other topics, and one goes.
func TestApply_TouchesOnlyWhatDiffers(t *testing.T) {
	s := Source{Name: "mesh.toml", Text: []byte(meshText(15, nothing))}
	before := overlaid(t, s, nil)
	if len(before.Links) < 200 {
		t.Fatalf("%d links", len(before.Links))
	}
	wanted := meshText(15, func(link int) string {
		if link%80 == 7 {
			return "groups = [\"g-*\"]\n"
		}
		return ""
	})
	wanted = strings.Replace(wanted, `"t100-*"`, `"t100-*", "more-*"`, 1)
	from, to := strings.Index(wanted, "[[link]]\nfrom = \"c14\"\nto = \"c12\""), strings.Index(wanted, "[[link]]\nfrom = \"c14\"\nto = \"c13\"")
	wanted = wanted[:from] + wanted[to:]
	p := planned(t, s, nil, wanted)
	want, err := Parse("wanted.toml", []byte(wanted))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range p.Entries {
		keys = append(keys, e.Key)
	}
	if got := strings.Join(keys, " "); got != "link/c00-c08/groups link/c06-c03/groups link/c07-c02/topics link/c11-c14/groups link/c14-c12" {
		t.Errorf("writes %s, want the links that differ and no others", got)
	}
	if len(p.Changes) != 5 || !p.Destructive() || !slices.Equal(p.Changes[2].Topics, []string{"more-*"}) || p.Changes[2].Destructive {
		t.Errorf("tells of %v", p.Changes)
	}
	if p.Next.Export() != want.Export() || p.Next.RunningHash() != want.RunningHash() {
		t.Error("what runs then is not what was wanted")
	}
	// It is that after the plan, and again when it is asked for again.
	settings := merged(nil, p.Entries)
	if again := planned(t, s, settings, wanted); len(again.Entries) > 0 || len(again.Changes) > 0 {
		t.Errorf("applied twice, it writes %v", again.Entries)
	}
	if again := planned(t, s, settings, overlaid(t, s, settings).Export()); len(again.Entries) > 0 {
		t.Errorf("its own export writes %v", again.Entries)
	}
	back := planned(t, s, settings, string(s.Text))
	for _, e := range back.Entries {
		if !e.Deleted {
			t.Errorf("back at the file, %s is still %s", e.Key, e.Value)
		}
	}
	if after := overlaid(t, s, merged(settings, back.Entries)); after.Export() != before.Export() {
		t.Error("what runs then is not the file")
	}
}

// TestApply_AnyFileToAnyOther goes through files that differ in all that can differ.
func TestApply_AnyFileToAnyOther(t *testing.T) {
	tier := string(read(t, "testdata/tier.toml"))
	texts := []string{
		tier,
		strings.Replace(tier, `exclude = ["patients-*"]`, "exclude = [\"patients-*\", \"x\"]\nstart = 2026-01-31T12:00:00Z\nreplication_factor = 2", 1),
		strings.Replace(tier, `sasl = { mechanism = "SCRAM-SHA-256", user = "isthmus", password = "env:US_PASSWORD" }`, "insecure = true\nsasl = { mechanism = \"PLAIN\", user = \"u\", password = \"env:P\" }", 1),
		strings.ReplaceAll(tier, `topics = ["payments-*"]`+"\ngroups", `topics = ["payments-*", "fast-*"]`+"\ngroups"),
		tier[:strings.Index(tier, "[[router]]")],
		strings.Replace(tier, "[[stay]]\ntopics = [\"patients-*\"]\ndcs = [\"frankfurt\"]\n", "", 1),
		strings.Replace(tier, "[[link]]\n", "[[cluster]]\nname = \"ap\"\ndc = \"frankfurt\"\nbootstrap = [\"ap:1\"]\n[[link]]\nname = \"n\"\nfrom = \"us\"\nto = \"ap\"\ntopics = [\"a\"]\n[[link]]\n", 1),
	}
	var settings []Setting
	s := Source{Name: "testdata/tier.toml", Text: []byte(tier)}
	settings = merged(settings, set("router/shop/auth", `"terminate"`, "router/shop/credentials", `"file:users.toml"`))
	for i := range 3 * len(texts) {
		text := texts[(i*5+i/7)%len(texts)]
		p := planned(t, s, settings, text)
		before := laid(t, s, settings)
		inverse := undo(settings, p.Entries)
		settings = merged(settings, p.Entries)
		want, err := Parse(s.Name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := laid(t, s, settings)
		if d := Diff(got, want); len(d) > 0 {
			t.Fatalf("step %d: after the plan %v is left", i, d)
		}
		if restored := laid(t, s, merged(settings, inverse)); restored.Export() != before.Export() {
			t.Fatalf("step %d: the inverse does not restore", i)
		}
		if _, err := s.Set(settings, inverse); err != nil {
			t.Fatalf("step %d: the inverse is refused: %v", i, err)
		}
	}
}

// laid is overlaid where some settings wait for what they are about to come back.
func laid(t *testing.T, s Source, settings []Setting) *Topology {
	t.Helper()
	top, _, err := s.Overlay(settings)
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// undo gives the entries their values before.
func undo(settings, entries []Setting) (inverse []Setting) {
	for _, e := range entries {
		old := Setting{Key: e.Key, Deleted: true}
		for _, s := range settings {
			if s.Key == e.Key {
				old = s
			}
		}
		inverse = append(inverse, old)
	}
	return inverse
}

func TestApply_RefusesAndNotes(t *testing.T) {
	s := tier(t)
	text := string(s.Text)
	for _, tc := range []struct{ wanted, want string }{
		{strings.Replace(text, `name = "shop"`, `name = "other"`, 1), `is of the fabric "other", this one is "shop"`},
		{strings.Replace(text, `exclude = ["patients-*"]`, ``, 1), `wanted.toml:38:6: the link "eu-us" would carry "patients-*" out of frankfurt, where line`},
		{"[fabric]\nnme = 1\n", "wanted.toml:2:1: unknown key"},
		{strings.ReplaceAll(strings.Replace(text, "[[router]]\nname = \"edge\"\nnode = \"eu-1\"", "[[router]]\nname = \"edge\"\nnode = \"eu-7\"", 1), `name = "eu-2"`, `name = "eu-7"`), `setting router/edge@eu-7: node: unknown node "eu-7"`},
	} {
		p, err := s.Apply(nil, "wanted.toml", []byte(tc.wanted))
		if p != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %q", err, tc.want)
		}
	}
	wanted := strings.Replace(text, "capacity = 2.5", "capacity = 3", 1)
	wanted = strings.Replace(wanted, `role = "operator"`, `role = "viewer"`, 1)
	wanted = strings.Replace(wanted, `"10.0.0.0/8", `, `"10.0.0.0/7", `, 1)
	p := planned(t, s, nil, wanted)
	if len(p.Entries) > 0 || len(p.Notes) != 3 || !strings.HasPrefix(p.Notes[1], "node eu-1 differs; ") {
		t.Errorf("entries %v, notes %q: want none, and notes on [fabric], node eu-1 and [admin]", p.Entries, p.Notes)
	}
}

// TestApply_OtherWordsAreNoDifference: what somebody set in words of their own runs already.
func TestApply_OtherWordsAreNoDifference(t *testing.T) {
	s := tier(t)
	settings := merged(nil, set("link/eu-us/topics", "[ 'orders',\n \"x-*\", ]", "link/eu-us/replication_factor", "0x3", "router/shop/home", `'eu'`, "link/eu-us", Present))
	if p := planned(t, s, settings, overlaid(t, s, settings).Export()); len(p.Entries) > 0 || len(p.Changes) > 0 {
		t.Errorf("what runs, applied, writes %v", p.Entries)
	}
}

func TestSet_PlansAndRefuses(t *testing.T) {
	s := tier(t)
	p, err := s.Set(set("link/eu-us/topics", `["a"]`), set("link/eu-us/topics", `["a"]`, "pause/eu-us/a/0,1", "{}", "link/more", Present,
		"link/more/from", `"us"`, "link/more/to", `"eu"`, "link/more/topics", `["b"]`, "log/level", "debug"))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Entries) != 6 || len(p.Changes) != 3 || p.Destructive() {
		t.Errorf("entries %v, changes %v", p.Entries, p.Changes)
	}
	if got := p.Changes[2]; got.String() != "pause eu-us a/0,1: {}" || got.Topics[0] != "a" {
		t.Errorf("a pause reads %q, topics %v", got, got.Topics)
	}
	if got := p.Topics(); !slices.Equal(got, []string{"*", "a", "b"}) {
		t.Errorf("touches %v, want what belongs to no topic, a and b", got)
	}
	_, err = s.Set(nil, set("link/more/topics", `["a"]`, "link/eu-us/to", `"mars"`, "log/level", "loud", "link/eu-us/start", "["))
	for _, want := range []string{`unknown link "more"`, `unknown cluster "mars"`, "no level", "setting link/eu-us/start: not TOML"} {
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("want %q once in\n%v", want, err)
		}
	}
	var list Errors
	if !errors.As(err, &list) || len(list) != 4 || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("got %#v, want four Errors", err)
	}
	if _, err := s.Set(nil, set("no\nsuch", "1")); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a key that does not print: %v, want one line", err)
	}
	if _, err := s.Set(nil, unset("link/none/topics")); err != nil {
		t.Errorf("taking back what means nothing: %v", err)
	}
}

func TestReroutes_NamesLinkAndOrigin(t *testing.T) {
	base := func(links ...string) *Topology {
		text := "[fabric]\nname = \"f\"\n"
		for _, c := range []string{"eu", "us", "ap", "sa"} {
			text += fmt.Sprintf("[[cluster]]\nname = %q\nbootstrap = [\"%s:1\"]\n", c, c)
		}
		for _, l := range links {
			f := strings.Fields(l)
			text += fmt.Sprintf("[[link]]\nfrom = %q\nto = %q\ntopics = [%s]\n", f[0], f[1], quote(f[2]))
			if len(f) > 3 {
				text += fmt.Sprintf("exclude = [%s]\n", quote(f[3]))
			}
		}
		top, err := Parse("x.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return top
	}
	relay := base("eu us *", "us ap *")
	for _, tc := range []struct {
		name          string
		before, after *Topology
		topics        []string
		want          string // before, after and origin of each
	}{
		{"nothing", relay, relay, nil, ""},
		{"a link the other way", relay, base("eu us *", "us ap *", "us eu *"), nil, ""},
		{"a direct link beside a relay", relay, base("eu us *", "us ap *", "eu ap *"), nil, "us-ap>eu-ap eu follows"},
		{"only for some topics", relay, base("eu us *", "us ap *", "eu ap pay-*"), nil, "us-ap>eu-ap eu follows"},
		{"a regexp", relay, base("eu us *", "us ap *", "eu ap ~^(in|out)-[0-9]{2}$"), nil, "us-ap>eu-ap eu follows"},
		{"the direct link goes", base("eu us *", "us ap *", "eu ap *"), relay, nil, "eu-ap>us-ap eu"},
		{"a direct link instead of a relay", relay, base("eu us *", "eu ap *"), nil, "us-ap>eu-ap eu"},
		{"a direct link, and none to the relay", relay, base("us ap *", "eu ap *"), nil, "us-ap>eu-ap eu"},
		{"another relay", base("eu us *", "us ap *", "eu sa *"), base("eu us *", "us ap * a", "eu sa *", "sa ap a"), nil, "us-ap>sa-ap eu"},
		{"a longer way by half", base("eu us *", "us sa *", "sa ap *"), base("eu us *", "us sa *", "sa ap *", "us ap *"), nil, "sa-ap>us-ap eu follows, sa-ap>us-ap us follows"},
		{"a longer way by all", base("eu us *", "us sa *", "sa ap *"), base("eu us *", "us sa *", "sa ap *", "eu ap *"), nil, "sa-ap>eu-ap eu follows"},
		{"topics that the relay has not", base("eu us a*", "us ap a*"), base("eu us a*", "us ap a*", "eu ap b*"), nil, ""},
		{"topics that both globs fit", base("eu us a*", "us ap a*"), base("eu us a*", "us ap a*", "eu ap *z"), nil, "us-ap>eu-ap eu follows"},
		{"the relay ends", relay, base("eu us *"), nil, ""},
		{"the relay's first half ends", relay, base("us ap *"), nil, "us-ap> eu"},
		{"more topics", base("eu us a", "us ap a"), base("eu us *", "us ap *"), nil, ""},
		{"the relay's first half takes less", relay, base("eu us * tmp-*", "us ap *"), nil, "us-ap> eu"},
		{"both halves take less", relay, base("eu us * tmp-*", "us ap * tmp-*"), nil, ""},
		{"a topic that only its name tells", base("eu us *", "us ap *"), base("eu us *", "us ap *", "eu ap ~^x[0-9]$ x0"), []string{"x7"}, "us-ap>eu-ap eu follows"},
	} {
		var got []string
		for _, r := range Reroutes(tc.before, tc.after, tc.topics...) {
			one := fmt.Sprintf("%s>%s %s", r.Before, r.After, r.Origin)
			if r.Follows {
				one += " follows"
			}
			got = append(got, one)
			if r.String() == "" || r.note() == "" || r.Target != "ap" || r.Topic == "" {
				t.Errorf("%s: %+v", tc.name, r)
			}
		}
		if strings.Join(got, ", ") != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, got, tc.want)
		}
	}
	renamed, err := Parse("x.toml", []byte(strings.Replace(relay.Export(), "from = \"us\"", "name = \"other\"\nfrom = \"us\"", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if got := Reroutes(relay, renamed); len(got) > 0 {
		t.Errorf("a link with another name keeps its place, got %v", got)
	}
}
