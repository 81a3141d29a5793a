package dashboards

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What a file that Grafana provisions has to keep to.
const (
	schemaVersion = 39 // of the classic model; Grafana migrates upward from it
	sourceUID     = "${DS_PROMETHEUS}"
	columns       = 24
	maxUID        = 40
	prefix        = "isthmus_"
)

// kinds are the panel types we use; Grafana has dropped others over time.
var kinds = []string{"timeseries", "stat", "table", "heatmap", "state-timeline", "row"}

// findings collects what is wrong.
type findings []string

func (f *findings) add(where, format string, args ...any) {
	*f = append(*f, where+": "+fmt.Sprintf(format, args...))
}

// Lint returns what is wrong with the shape of a dashboard, one line each.
func Lint(b Board) []string {
	var f findings
	if b.ID != nil {
		f.add(b.Title, "id is %d, must be null", *b.ID)
	}
	if b.UID == "" || len(b.UID) > maxUID {
		f.add(b.Title, "uid %q must have 1 to %d characters", b.UID, maxUID)
	}
	if b.Title == "" || len(b.Tags) == 0 {
		f.add(b.UID, "has no title or no tags")
	}
	if b.SchemaVersion != schemaVersion {
		f.add(b.Title, "schemaVersion is %d, must be %d", b.SchemaVersion, schemaVersion)
	}
	if b.Inputs != nil {
		f.add(b.Title, "has __inputs, which provisioning does not resolve")
	}
	lintVariables(&f, b)
	ids := map[int]string{}
	for _, p := range b.all() {
		if other, ok := ids[p.ID]; ok || p.ID <= 0 {
			f.add(p.Title, "panel id %d must be above 0 and its own; other panel: %q", p.ID, other)
		}
		ids[p.ID] = p.Title
		lintPanel(&f, b, p)
	}
	lintGrid(&f, b.Panels)
	return f
}

func lintVariables(f *findings, b Board) {
	list := b.Templating.List
	if len(list) == 0 || list[0].Name != "DS_PROMETHEUS" || list[0].Type != "datasource" || list[0].Text() != "prometheus" {
		f.add(b.Title, "the first variable must be DS_PROMETHEUS, a datasource of type prometheus")
	}
	for _, v := range list {
		if v.Type != "query" {
			continue
		}
		lintSource(f, "variable "+v.Name, v.Datasource)
		if !labelValues.MatchString(v.Text()) {
			f.add("variable "+v.Name, "query %q is not label_values(selector, label)", v.Text())
		}
		if v.Multi && v.AllValue != ".*" {
			f.add("variable "+v.Name, "allValue is %q, must be .*: else All is a list of everything", v.AllValue)
		}
	}
}

func lintSource(f *findings, where string, d *Datasource) {
	if d == nil || d.Type != "prometheus" || d.UID != sourceUID {
		f.add(where, "datasource must be prometheus, %s", sourceUID)
	}
}

func lintPanel(f *findings, b Board, p Panel) {
	where := p.Title
	if where == "" {
		f.add(fmt.Sprintf("panel %d", p.ID), "has no title")
	}
	if !slices.Contains(kinds, p.Type) {
		f.add(where, "type %q is none of %s", p.Type, strings.Join(kinds, ", "))
	}
	if p.Type == "row" {
		return
	}
	if p.Description == "" {
		f.add(where, "has no description: what does it tell, and what is to be done?")
	}
	if p.FieldConfig.Defaults.Unit == "" {
		f.add(where, "has no unit")
	}
	if len(p.Targets) == 0 {
		f.add(where, "asks nothing")
	}
	lintSource(f, where, p.Datasource)
	refs := map[string]bool{}
	for _, t := range p.Targets {
		at := where + "/" + t.RefID
		if t.RefID == "" || refs[t.RefID] {
			f.add(at, "refId must be there and its own")
		}
		refs[t.RefID] = true
		lintSource(f, at, t.Datasource)
		if t.Instant == t.Range {
			f.add(at, "must be either an instant or a range query")
		}
		if (p.Type == "table") != (t.Format == "table") {
			f.add(at, "format must be table in a table and nowhere else")
		}
		lintUse(f, at, b, t.Expr)
	}
}

// lintUse checks how an expression uses variables and ranges.
func lintUse(f *findings, at string, b Board, expr string) {
	values := map[string]string{"__rate_interval": "1m", "__range": "1h"}
	for _, v := range b.Templating.List {
		values[v.Name] = "x"
		for _, form := range []string{`="$` + v.Name + `"`, `="${` + v.Name + `}"`} {
			if v.Multi && strings.Contains(expr, form) { // =~ and !~ have the tilde before the quote
				f.add(at, "variable %s can be several values: match it by =~", v.Name)
			}
		}
	}
	if _, err := Substitute(expr, values); err != nil {
		f.add(at, "%v", err)
	}
	for _, s := range Scan(expr).Selectors {
		if s.Range != "" && s.Range != "$__rate_interval" && s.Range != "$__range" {
			f.add(at, "range [%s] must be $__rate_interval or $__range: else it is wrong at another scrape interval or zoom", s.Range)
		}
	}
}

// lintGrid checks that panels lie inside the page and not on each other.
func lintGrid(f *findings, panels []Panel) {
	for i, p := range panels {
		g := p.GridPos
		if g.X < 0 || g.Y < 0 || g.W <= 0 || g.H <= 0 || g.X+g.W > columns {
			f.add(p.Title, "gridPos %+v is not inside %d columns", g, columns)
		}
		for _, q := range panels[:i] {
			o := q.GridPos
			if g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
				f.add(p.Title, "lies on %q", q.Title)
			}
		}
	}
}

// LintMetrics returns which expressions of the dashboards do not fit what a node exports, and which of its metrics no dashboard
// shows. exempt are those that none has to, each with the reason.
func LintMetrics(boards []Board, exported Exported, exempt map[string]string) []string {
	var f findings
	used := map[string]bool{}
	for _, b := range boards {
		for _, e := range b.Expressions() {
			lintMetrics(&f, e, exported, used)
		}
	}
	for _, metric := range slices.Sorted(maps.Keys(exported)) {
		if _, ok := exempt[metric]; !ok && !used[metric] && strings.HasPrefix(metric, prefix) {
			f.add(metric, "is exported, in no panel, and not exempt")
		}
	}
	for _, metric := range slices.Sorted(maps.Keys(exempt)) {
		if used[metric] || exported[metric] == nil {
			f.add(metric, "is exempt, but it is in a panel or not exported at all")
		}
	}
	return f
}

func lintMetrics(f *findings, e Expression, exported Exported, used map[string]bool) {
	usage := Scan(e.Expr)
	if len(usage.Selectors) == 0 {
		f.add(e.Where, "uses no metric")
	}
	known := []string{"job", "instance"} // Prometheus adds them
	for _, s := range usage.Selectors {
		m := exported.family(s.Metric)
		if m == nil {
			f.add(e.Where, "%s is not exported", s.Metric)
			continue
		}
		used[s.Metric], used[base(s.Metric)] = true, true
		for _, l := range s.Labels {
			if !m.Labels[l] {
				f.add(e.Where, "%s has no label %s", s.Metric, l)
			}
		}
		known = append(known, slices.Collect(maps.Keys(m.Labels))...)
		counts := m.Type == "counter" || m.Type == "histogram"
		if rates := slices.Contains([]string{"rate", "increase", "irate"}, s.Function); counts != rates {
			f.add(e.Where, "%s is a %s: rate and increase are for counters, and counters are for nothing else", s.Metric, m.Type)
		}
	}
	for _, l := range usage.Grouping {
		if !slices.Contains(known, l) {
			f.add(e.Where, "groups by %s, which no metric in it has", l)
		}
	}
}
