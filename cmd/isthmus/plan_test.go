package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// plan runs the verb on a text that comes in.
func plan(t *testing.T, text string, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs output
	code = run(t.Context(), slices.Concat([]string{"plan", "-"}, flags),
		terminal{in: strings.NewReader(text), out: &out, err: &errs, env: func(string) string { return "" }})
	return code, out.String(), errs.String()
}

// TestPlan_Golden holds what is told of the examples and of files with more than they have, for people, programs and Graphviz.
func TestPlan_Golden(t *testing.T) {
	for name, file := range map[string]string{
		"mesh": "../../examples/mesh-five.toml", "hub": "../../examples/hub-and-spokes.toml",
		"tiers": "../../topology/testdata/short.toml", "relay": "../../topology/testdata/relay.toml",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for flag, suffix := range map[string]string{"": "", "--dot": "-dot", "--json": "-json"} {
			var flags []string
			if flag != "" {
				flags = []string{flag}
			}
			code, out, errs := plan(t, string(text), flags...)
			if code != exitOK || errs != "" {
				t.Fatalf("%s %s: exit %d, %q", name, flag, code, errs)
			}
			if flag == "--json" {
				var b bytes.Buffer
				if err := json.Indent(&b, []byte(out), "", " "); err != nil {
					t.Fatal(err)
				}
				out = b.String()
			}
			golden(t, "plan-"+name+suffix, out)
		}
	}
}

// TestPlan_SaysTheSame: a person reads no other routes than a program does.
func TestPlan_SaysTheSame(t *testing.T) {
	text, err := os.ReadFile("../../topology/testdata/short.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, people, _ := plan(t, string(text), "--topic", "orders")
	_, program, _ := plan(t, string(text), "--topic", "orders", "--json")
	var r routing
	if err := json.Unmarshal([]byte(program), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Plans) != 1 || len(r.Plans[0].Routes) != 12 {
		t.Fatalf("four clusters that all reach each other: %+v", r.Plans)
	}
	routes := regexp.MustCompile(`(?m)─ (\S+) +(\d) hops? +(\S+)$`).FindAllStringSubmatch(people, -1)
	if len(routes) != len(r.Plans[0].Routes) {
		t.Fatalf("%d routes are drawn, %d told:\n%s", len(routes), len(r.Plans[0].Routes), people)
	}
	for _, route := range r.Plans[0].Routes {
		want := []string{route.Target, string('0' + rune(route.Hops)), route.Links[len(route.Links)-1]}
		i := slices.IndexFunc(routes, func(drawn []string) bool { return slices.Equal(drawn[1:], want) })
		if i < 0 {
			t.Errorf("%s to %s is not drawn: %v in\n%s", route.Origin, route.Target, want, people)
			continue
		}
		routes = slices.Delete(routes, i, i+1)
	}
}

func TestPlan_Refusals(t *testing.T) {
	twice := minimal + "[[mesh]]\nclusters = [\"eu\", \"us\"]\ntopics = [\"*\"]\n[[mesh]]\nclusters = [\"us\", \"eu\"]\ntopics = [\"*\"]\n"
	for _, tc := range []struct {
		name, text string
		flags      []string
		code       int
		out, errs  string
	}{
		{"a fault", "[fabric]\n", nil, exitUsage, "", "-:1:1: [fabric] has no name"},
		{"links twice", twice, nil, exitUsage, "", "is already in line"},
		{"nothing", "", nil, exitUsage, "", "is empty"},
		{"both forms", minimal, []string{"--json", "--dot"}, exitUsage, "", "json"},
		{"a topic that nobody takes", minimal, []string{"--topic", "__secret"}, exitOK, "no link takes such a topic", ""},
	} {
		code, out, errs := plan(t, tc.text, tc.flags...)
		if code != tc.code || !strings.Contains(out, tc.out) || !strings.Contains(errs, tc.errs) {
			t.Errorf("%s: exit %d, %q, %q", tc.name, code, out, errs)
		}
	}
	if code, _, errs := command(t.Context(), "plan", "/nowhere/x.toml"); code != exitUsage || !strings.Contains(errs, "/nowhere/x.toml") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// example is a topology in docs/routes.md and what plan says of it, or, where it is refused, what it says then.
var example = regexp.MustCompile("(?s)```toml\n(.*?)```\n\n```text\n\\$ isthmus plan ([^\n]*)\n(.*?)```")

// TestPlan_Docs runs the examples of docs/routes.md: -update writes what they print.
func TestPlan_Docs(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "routes.md")
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	got := example.ReplaceAllStringFunc(string(doc), func(block string) string {
		found++
		m := example.FindStringSubmatch(block)
		args := strings.Fields(m[2])
		_, out, errs := plan(t, m[1], args[1:]...)
		printed := strings.ReplaceAll(out+errs, "isthmus: -:", "isthmus: "+args[0]+":")
		return "```toml\n" + m[1] + "```\n\n```text\n$ isthmus plan " + m[2] + "\n" + printed + "```"
	})
	if found < 6 {
		t.Errorf("only %d examples", found)
	}
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(doc) {
		t.Errorf("%s (-update accepts it) should read\n%s", file, got)
	}
}
