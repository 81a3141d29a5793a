package topology

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// StatePrefix begins the names of the topics in which Isthmus keeps its own state. They are never mirrored, not even
// where they are named literally: a copy would overwrite the other cluster's state.
const StatePrefix = "__isthmus."

const (
	maxTopicBytes   = 249 // Kafka's limit on topic names
	maxPatternBytes = 1000
)

type patternKind int

const (
	literal patternKind = iota
	glob
	expression
)

// Pattern is a name, a glob (* for any run of characters, ? for one) or, behind a tilde, a regular expression (RE2, not
// anchored unless it says so).
type Pattern struct {
	text string
	kind patternKind
	re   *regexp.Regexp
}

// Patterns match what any of them matches.
type Patterns []Pattern

// ParsePattern reads a pattern for names of any kind, such as groups.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{text: text}
	switch {
	case text == "":
		return p, errors.New(`the pattern is empty; write a name, a glob such as "orders-*" or a "~regexp"`)
	case len(text) > maxPatternBytes:
		return p, fmt.Errorf("the pattern is longer than %d bytes; split it", maxPatternBytes)
	case strings.HasPrefix(text, "~"):
		p.kind = expression
		if text == "~" {
			return p, errors.New(`the regexp behind "~" is empty; write one, or "*" for everything`)
		}
		re, err := regexp.Compile(text[1:])
		if err != nil {
			return p, fmt.Errorf("bad regexp %q: %s; mend it (RE2 syntax), or leave out the \"~\" for a name or a glob",
				text[1:], strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		p.re = re
	case strings.ContainsAny(text, "*?"):
		p.kind = glob
	}
	return p, nil
}

// parseTopicPattern reads a pattern for topics, whose names have a narrow alphabet: so a class or a brace in a glob, a
// blank or a forgotten tilde is found here and not by a link that silently mirrors nothing.
func parseTopicPattern(text string) (Pattern, error) {
	p, err := ParsePattern(text)
	if err != nil || p.kind == expression {
		return p, err
	}
	for _, r := range text {
		if !topicRune(r) && r != '*' && r != '?' {
			return p, fmt.Errorf("bad topic pattern %q: %q is not for names or globs; "+
				"use letters, digits, dot, dash, underscore, * and ?, or a regexp behind \"~\"", text, r)
		}
	}
	if p.kind == literal && (text == "." || text == ".." || len(text) > maxTopicBytes) {
		return p, fmt.Errorf("%q cannot be a topic's name; correct it", text)
	}
	if p.kind == literal && isState(text) {
		return p, fmt.Errorf("%q holds Isthmus's own state, which is never mirrored; take it out", text)
	}
	return p, nil
}

func topicRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
}

// String gives the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Match tells whether the pattern fits the whole name (a regexp: any part of it, unless anchored).
func (p Pattern) Match(name string) bool {
	switch p.kind {
	case expression:
		return p.re.MatchString(name)
	case glob:
		return globMatch(p.text, name)
	default:
		return p.text == name
	}
}

// Match tells whether any pattern matches. It knows no internal topics; Link.Matches does.
func (ps Patterns) Match(name string) bool {
	return slices.ContainsFunc(ps, func(p Pattern) bool { return p.Match(name) })
}

// Strings gives the patterns as they were written.
func (ps Patterns) Strings() []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.text
	}
	return out
}

func (ps Patterns) names(name string) bool {
	return slices.ContainsFunc(ps, func(p Pattern) bool { return p.kind == literal && p.text == name })
}

// Internal tells whether a topic belongs to the machinery of Kafka, of MirrorMaker 2 or of Isthmus, so that no glob and
// no regexp matches it: __*, and MirrorMaker's heartbeats, CLUSTER.checkpoints.internal and
// mm2-offset-syncs.CLUSTER.internal. A replicated CLUSTER.heartbeats is not taken for one: users name topics like that.
func Internal(topic string) bool {
	return strings.HasPrefix(topic, "__") || topic == "heartbeats" || strings.HasSuffix(topic, ".checkpoints.internal") ||
		strings.HasPrefix(topic, "mm2-offset-syncs.") && strings.HasSuffix(topic, ".internal")
}

func isState(topic string) bool { return strings.HasPrefix(topic, StatePrefix) }

// globMatch goes back only to the last star, which is enough, so it is linear in len(pattern) × len(name).
func globMatch(pattern, name string) bool {
	p, n := []rune(pattern), []rune(name)
	i, j, star, mark := 0, 0, -1, 0
	for j < len(n) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == n[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// overlap tells whether some topic fits both patterns. sure is false where a regexp makes that undecided here.
func overlap(a, b Pattern) (possible, sure bool) {
	switch {
	case a.text == b.text:
		return true, true
	case a.kind == literal:
		return b.Match(a.text) && !Internal(a.text), true
	case b.kind == literal:
		return a.Match(b.text) && !Internal(b.text), true
	case a.text == "*" || b.text == "*":
		return true, true
	case a.kind == expression || b.kind == expression:
		return true, false
	default:
		return globsMeet(a.text, b.text), true
	}
}

// globsMeet tells whether some name fits both globs: meet[j] says that the rest of a and b[j:] share a name.
func globsMeet(a, b string) bool {
	next := make([]bool, len(b)+1)
	for i := len(a); i >= 0; i-- {
		meet := make([]bool, len(b)+1)
		for j := len(b); j >= 0; j-- {
			aStar, bStar := i < len(a) && a[i] == '*', j < len(b) && b[j] == '*'
			switch {
			case i == len(a) && j == len(b):
				meet[j] = true
			case aStar || bStar:
				// A star either ends here or takes one character of the other side.
				meet[j] = aStar && (next[j] || j < len(b) && meet[j+1]) || bStar && (meet[j+1] || i < len(a) && next[j])
			case i < len(a) && j < len(b):
				meet[j] = next[j+1] && (a[i] == b[j] || a[i] == '?' || b[j] == '?')
			}
		}
		next = meet
	}
	return next[0]
}
