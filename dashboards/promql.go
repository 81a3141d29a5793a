package dashboards

import (
	"regexp"
	"slices"
	"strings"
)

// Selector is a metric in an expression.
type Selector struct {
	Metric   string
	Labels   []string // that it is matched by
	Function string   // that it is the direct argument of; "" = none
	Range    string   // what stands in square brackets; "" = an instant vector
}

// Usage is what an expression uses.
type Usage struct {
	Selectors []Selector
	Grouping  []string // labels in by, without, on, ignoring and group_left lists
}

// words are the names in PromQL that are neither metrics nor functions.
var words = []string{"and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"}

// lists are the words that a list of labels follows.
var lists = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}

// token matches one token of PromQL: a string, a number or duration, a name, or anything else.
var token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[0-9][0-9a-zA-Z.]*|\$?[a-zA-Z_][a-zA-Z0-9_:]*|[^\s]`)

var name = regexp.MustCompile(`^[a-zA-Z_]`)

// Scan returns what an expression uses. It checks no grammar: of an expression that is not PromQL it returns something.
func Scan(expr string) Usage {
	s := scanner{tokens: token.FindAllString(expr, -1)}
	for s.at < len(s.tokens) {
		s.step()
	}
	return s.usage
}

// scanner walks the tokens of one expression.
type scanner struct {
	tokens []string
	at     int
	open   []string // the name before each open parenthesis; "" if none
	usage  Usage
}

// peek is the token so many after the current one, or "".
func (s *scanner) peek(n int) string {
	if s.at+n < len(s.tokens) {
		return s.tokens[s.at+n]
	}
	return ""
}

// inside is the name before the innermost open parenthesis.
func (s *scanner) inside() string {
	if len(s.open) == 0 {
		return ""
	}
	return s.open[len(s.open)-1]
}

func (s *scanner) step() {
	t := s.peek(0)
	switch {
	case t == "(":
		s.open = append(s.open, "")
	case t == ")" && len(s.open) > 0:
		s.open = s.open[:len(s.open)-1]
	case !name.MatchString(t):
	case s.peek(1) == "(":
		s.open = append(s.open, t)
		s.at++
	case slices.Contains(lists, s.inside()):
		s.usage.Grouping = append(s.usage.Grouping, t)
	case slices.Contains(lists, t): // group_left may stand without its list
	case s.peek(1) == "by" || s.peek(1) == "without": // sum by (link) (…)
	case !slices.Contains(words, strings.ToLower(t)):
		s.selector(t)
		return
	}
	s.at++
}

// selector reads a metric with its matchers and range.
func (s *scanner) selector(metric string) {
	found := Selector{Metric: metric, Function: s.inside()}
	s.at++
	if s.peek(0) == "{" {
		for ; s.peek(0) != "}" && s.peek(0) != ""; s.at++ {
			if next := s.peek(1); name.MatchString(s.peek(0)) && (next == "=" || next == "!") {
				found.Labels = append(found.Labels, s.peek(0))
			}
		}
		s.at++
	}
	if s.peek(0) == "[" {
		for s.at++; s.peek(0) != "]" && s.peek(0) != ""; s.at++ {
			found.Range += s.peek(0)
		}
		s.at++
	}
	s.usage.Selectors = append(s.usage.Selectors, found)
}
