package dashboards

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// Board is what is checked of a Grafana dashboard in the classic model.
type Board struct {
	ID            *int            `json:"id"` // null in a file: Grafana gives its own
	UID           string          `json:"uid"`
	Title         string          `json:"title"`
	Tags          []string        `json:"tags"`
	SchemaVersion int             `json:"schemaVersion"`
	Inputs        json.RawMessage `json:"__inputs"` // what an export for sharing has; provisioning does not resolve it
	Templating    struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Panels []Panel `json:"panels"`
}

// Variable is a choice that a reader of the dashboard has.
type Variable struct {
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Datasource *Datasource     `json:"datasource"`
	Query      json.RawMessage `json:"query"` // a string, or an object with a field query
	Multi      bool            `json:"multi"`
	AllValue   string          `json:"allValue"`
}

// Datasource is where a panel, target or variable asks.
type Datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Panel is one picture, or a row: the heading of those below it.
type Panel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"`
	Title       string      `json:"title"`
	Description string      `json:"description"`
	Datasource  *Datasource `json:"datasource"`
	GridPos     Grid        `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []Target `json:"targets"`
	Panels  []Panel  `json:"panels"` // of a collapsed row
}

// Grid is a place on a page of 24 columns.
type Grid struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

// Target is one query of a panel.
type Target struct {
	RefID      string      `json:"refId"`
	Datasource *Datasource `json:"datasource"`
	Expr       string      `json:"expr"`
	Instant    bool        `json:"instant"`
	Range      bool        `json:"range"`
	Format     string      `json:"format"`
}

// Expression is a piece of PromQL and where it stands.
type Expression struct {
	Where string // panel and refId, or variable
	Expr  string // with Grafana's variables in it
}

// Parse reads a dashboard file.
func Parse(data []byte) (Board, error) {
	var b Board
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("read dashboard: %w", err)
	}
	return b, nil
}

// labelValues is the only form of query that our variables have.
var labelValues = regexp.MustCompile(`^label_values\((.+),\s*(\w+)\)$`)

// Text is the query of a variable, in whichever of both forms it is written.
func (v Variable) Text() string {
	var text string
	if json.Unmarshal(v.Query, &text) == nil {
		return text
	}
	var object struct {
		Query string `json:"query"`
	}
	_ = json.Unmarshal(v.Query, &object) // neither form is no query
	return object.Query
}

// all are the panels, those inside rows too.
func (b Board) all() []Panel {
	var out []Panel
	for _, p := range b.Panels {
		out = append(append(out, p), p.Panels...)
	}
	return out
}

// Expressions returns all PromQL of the dashboard: what its panels ask, and the selectors its variables take values from.
func (b Board) Expressions() []Expression {
	var out []Expression
	for _, v := range b.Templating.List {
		if m := labelValues.FindStringSubmatch(v.Text()); m != nil {
			out = append(out, Expression{Where: "variable " + v.Name, Expr: fmt.Sprintf("count by (%s) (%s)", m[2], m[1])})
		}
	}
	for _, p := range b.all() {
		for _, t := range p.Targets {
			out = append(out, Expression{Where: p.Title + "/" + t.RefID, Expr: t.Expr})
		}
	}
	return out
}

// variable matches the three ways to write a variable of Grafana.
var variable = regexp.MustCompile(`\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]|\$(\w+)`)

// Substitute puts values in the place of Grafana's variables. A variable without a value is an error: Grafana would send its
// name as it stands.
func Substitute(expr string, values map[string]string) (string, error) {
	var missing error
	out := variable.ReplaceAllStringFunc(expr, func(found string) string {
		m := variable.FindStringSubmatch(found)
		name := m[1] + m[2] + m[3]
		value, ok := values[name]
		if !ok {
			missing = fmt.Errorf("substitute in %q: no variable %s", expr, name)
		}
		return value
	})
	return out, missing
}
