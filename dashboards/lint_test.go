package dashboards

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// load reads every dashboard of the folder.
func load(t *testing.T) []Board {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("grafana", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("find dashboards: %v, %d files", err, len(files))
	}
	var boards []Board
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if want := strings.TrimSuffix(filepath.Base(file), ".json"); b.UID != "isthmus-"+want {
			t.Errorf("%s: uid is %q, must be isthmus-%s, so that file and link tell of each other", file, b.UID, want)
		}
		boards = append(boards, b)
	}
	return boards
}

func TestBoards_Shape(t *testing.T) {
	uids := map[string]bool{}
	for _, b := range load(t) {
		if uids[b.UID] {
			t.Errorf("uid %s is there twice", b.UID)
		}
		uids[b.UID] = true
		for _, f := range Lint(b) {
			t.Error(f)
		}
	}
}

// sound is a small dashboard without fault, to be spoiled.
const sound = `{"id":null,"uid":"u","title":"T","tags":["isthmus"],"schemaVersion":39,
 "templating":{"list":[{"name":"DS_PROMETHEUS","type":"datasource","query":"prometheus"},
  {"name":"link","type":"query","datasource":{"type":"prometheus","uid":"${DS_PROMETHEUS}"},"query":{"query":"label_values(up, link)"},"multi":true,"allValue":".*"}]},
 "panels":[{"id":1,"type":"row","title":"R","gridPos":{"x":0,"y":0,"w":24,"h":1}},
  {"id":2,"type":"stat","title":"P","description":"D","datasource":{"type":"prometheus","uid":"${DS_PROMETHEUS}"},"gridPos":{"x":0,"y":1,"w":12,"h":4},
   "fieldConfig":{"defaults":{"unit":"s"}},
   "targets":[{"refId":"A","datasource":{"type":"prometheus","uid":"${DS_PROMETHEUS}"},"expr":"sum(rate(c_total{link=~\"$link\"}[$__rate_interval]))","instant":true}]}]}`

func TestLint(t *testing.T) {
	for _, tc := range []struct{ name, old, new, want string }{
		{"sound", "", "", ""},
		{"id", `"id":null`, `"id":7`, "must be null"},
		{"uid", `"uid":"u"`, `"uid":"` + strings.Repeat("u", 41) + `"`, "1 to 40"},
		{"tags", `["isthmus"]`, `[]`, "no tags"},
		{"version", `"schemaVersion":39`, `"schemaVersion":27`, "must be 39"},
		{"inputs", `"uid":"u"`, `"uid":"u","__inputs":[]`, "__inputs"},
		{"no data source variable", `"query":"prometheus"`, `"query":"loki"`, "first variable"},
		{"variable's query", `label_values(up, link)`, `up`, "not label_values"},
		{"variable's all", `"allValue":".*"`, `"allValue":""`, "allValue"},
		{"equal id", `"id":2`, `"id":1`, "panel id 1"},
		{"kind", `"type":"stat"`, `"type":"graph"`, "none of timeseries"},
		{"title", `"title":"P"`, `"title":""`, "no title"},
		{"description", `"description":"D"`, `"description":""`, "no description"},
		{"unit", `"unit":"s"`, `"unit":""`, "no unit"},
		{"fixed data source", `"description":"D","datasource":{"type":"prometheus","uid":"${DS_PROMETHEUS}"}`,
			`"description":"D","datasource":{"type":"prometheus","uid":"abc"}`, "datasource must be"},
		{"target without data source", `"refId":"A","datasource":{"type":"prometheus","uid":"${DS_PROMETHEUS}"}`, `"refId":"A"`, "datasource must be"},
		{"refId", `"refId":"A"`, `"refId":""`, "refId"},
		{"neither instant nor range", `,"instant":true`, ``, "either an instant"},
		{"no targets", `"targets":[`, `"x":[`, "asks nothing"},
		{"too wide", `"x":0,"y":1,"w":12`, `"x":13,"y":1,"w":12`, "24 columns"},
		{"overlap", `"x":0,"y":1,"w":12`, `"x":0,"y":0,"w":12`, `lies on "R"`},
		{"unknown variable", `$link`, `$node`, "no variable node"},
		{"several values by =", `link=~`, `link=`, "match it by =~"},
		{"fixed range", `$__rate_interval`, `5m`, "range [5m]"},
		{"table format", `"type":"stat"`, `"type":"table"`, "format must be table"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.old != "" && !strings.Contains(sound, tc.old) {
				t.Fatalf("%s is not in the sound dashboard", tc.old)
			}
			b, err := Parse([]byte(strings.Replace(sound, tc.old, tc.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			expect(t, Lint(b), tc.want)
		})
	}
}

// expect checks that there is nothing in found, or something that contains want.
func expect(t *testing.T, found []string, want string) {
	t.Helper()
	all := strings.Join(found, "\n")
	if want == "" && all != "" || !strings.Contains(all, want) {
		t.Errorf("want %q, found %q", want, all)
	}
}

const exposition = `# HELP isthmus_c_total Things.
# TYPE isthmus_c_total counter
isthmus_c_total{link="a-b",topic="x \"y\" {z}"} 3
# TYPE isthmus_g gauge
isthmus_g{link="a-b"} 1
# TYPE isthmus_h_seconds histogram
isthmus_h_seconds_bucket{link="a-b",le="+Inf"} 1
isthmus_h_seconds_sum{link="a-b"} 1
isthmus_h_seconds_count{link="a-b"} 1
# TYPE go_goroutines gauge
go_goroutines 7
`

func TestLintMetrics(t *testing.T) {
	whole := []string{`sum by (link) (rate(isthmus_c_total{topic=~".*"}[1m]))`, `isthmus_g`,
		`histogram_quantile(0.5, sum by (le) (rate(isthmus_h_seconds_bucket[1m])))`}
	for _, tc := range []struct {
		name   string
		exprs  []string
		exempt map[string]string
		want   string
	}{
		{"sound", whole, nil, ""},
		{"unknown metric", append(whole, "isthmus_x"), nil, "isthmus_x is not exported"},
		{"unknown label", append(whole, `isthmus_g{topic="x"}`), nil, "no label topic"},
		{"unknown grouping", append(whole, "sum by (cluster) (isthmus_g)"), nil, "groups by cluster"},
		{"rate of a gauge", append(whole, "rate(isthmus_g[1m])"), nil, "isthmus_g is a gauge"},
		{"counter as it is", append(whole, "sum(isthmus_c_total)"), nil, "isthmus_c_total is a counter"},
		{"no metric", append(whole, "1 + 1"), nil, "uses no metric"},
		{"unseen metric", whole[1:], nil, "isthmus_c_total: is exported"},
		{"unseen but exempt", whole[1:], map[string]string{"isthmus_c_total": "test"}, ""},
		{"exempt but seen", whole, map[string]string{"isthmus_c_total": "test"}, "is exempt, but"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := Board{Title: "T", Panels: []Panel{{Title: "P"}}}
			for _, e := range tc.exprs {
				b.Panels[0].Targets = append(b.Panels[0].Targets, Target{RefID: "A", Expr: e})
			}
			expect(t, LintMetrics([]Board{b}, ParseExported([]byte(exposition)), tc.exempt), tc.want)
		})
	}
}

func TestScan(t *testing.T) {
	for _, tc := range []struct {
		expr string
		want Usage
	}{
		{`a`, Usage{Selectors: []Selector{{Metric: "a"}}}},
		{`sum by (x, y) (rate(a{x=~"}(b)",y!="z"}[$__range])) / on (x) group_left b{} > 1e6`, Usage{
			Selectors: []Selector{{Metric: "a", Labels: []string{"x", "y"}, Function: "rate", Range: "$__range"}, {Metric: "b"}},
			Grouping:  []string{"x", "y", "x"}}},
		{`count(a == 0) or 0 * count(b)`, Usage{Selectors: []Selector{{Metric: "a", Function: "count"}, {Metric: "b", Function: "count"}}}},
		{`topk(20, max without (x) (a offset 5m)) and vector(1)`, Usage{Selectors: []Selector{{Metric: "a"}}, Grouping: []string{"x"}}},
		{`((`, Usage{}},
		{`a{`, Usage{Selectors: []Selector{{Metric: "a"}}}},
		{`a[`, Usage{Selectors: []Selector{{Metric: "a"}}}},
	} {
		if got := Scan(tc.expr); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tc.expr, got, tc.want)
		}
	}
}

func TestSubstitute(t *testing.T) {
	values := map[string]string{"link": "a-b", "__range": "1h"}
	got, err := Substitute(`x{l=~"$link",m=~"${link:regex}",n=~"[[link]]"}[$__range]`, values)
	if want := `x{l=~"a-b",m=~"a-b",n=~"a-b"}[1h]`; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Substitute("$topic", values); err == nil {
		t.Error("a variable without a value is no error")
	}
}

// FuzzScan: whatever an expression is, scanning it ends and does not panic.
func FuzzScan(f *testing.F) {
	for _, p := range []string{sound, exposition, `sum by (a) (rate(b{c="d"}[1m]))`, "by(by(", "a{b"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		Scan(expr)
		ParseExported([]byte(expr))
		var b Board
		if json.Unmarshal([]byte(expr), &b) == nil {
			Lint(b)
		}
	})
}
