package topology

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// scope reads the keys of one table and reports what is wrong with them. A key that is absent or wrong reads as the zero
// value, and its fault is reported once, here.
type scope struct {
	d     *diagnostics
	t     *table
	title string // how the table is written: [[cluster]], or tls for an inline one
}

// value is a text and where it stands. pos is the table's where the key is absent.
type value struct {
	text string
	pos  int
	ok   bool // present and of the right type
}

// get finds a key; nil if it is absent, which is a fault if the key is required.
func (s scope) get(key, example string, required bool) *node {
	n := s.t.keys[key]
	if n == nil && required {
		s.missing(key, example)
	}
	return n
}

// excused tells that an absent key is no fault of its own: a line of the table did not parse and may be the one, or an
// unknown key was reported that looks like it.
func (s scope) excused(key string) bool { return s.t.broken || s.t.meant[key] }

func (s scope) missing(key, example string) {
	if !s.excused(key) {
		s.d.add(s.t.pos, "%s has no %s; add %s = %s", s.title, key, key, example)
	}
}

func (s scope) mistyped(n *node, key, want, example string) {
	s.d.add(n.pos, "%s is %s, not %s; write %s = %s", key, n.kind, want, key, example)
}

func (s scope) str(key, example string, required bool) value {
	n := s.get(key, example, required)
	switch {
	case n == nil:
		return value{pos: s.t.pos}
	case n.kind != kindString:
		s.mistyped(n, key, "a string", example)
	case n.text == "" && required:
		s.d.add(n.pos, "%s is empty; write %s = %s", key, key, example)
	default:
		return value{text: n.text, pos: n.pos, ok: true}
	}
	return value{pos: n.pos}
}

// posOf is where a key's value stands, the table's place where the key is absent.
func (s scope) posOf(key string) int {
	if n := s.t.keys[key]; n != nil {
		return n.pos
	}
	return s.t.pos
}

// blame is the place of the key, of several, that a live setting wrote; of the first if none did.
func (s scope) blame(keys ...string) int {
	for _, key := range keys {
		if _, ok := s.d.setting(s.posOf(key)); ok {
			return s.posOf(key)
		}
	}
	return s.posOf(keys[0])
}

// strs reads an array of strings. The second result is false if the key is absent or any part of it is wrong.
func (s scope) strs(key, example string, required bool) (list []value, ok bool) {
	n := s.get(key, example, required)
	if n == nil {
		return nil, false
	}
	if n.kind != kindArray {
		s.mistyped(n, key, "an array of strings", example)
		return nil, false
	}
	if len(n.items) == 0 && required {
		s.d.add(n.key, "%s is empty; write %s = %s", key, key, example)
		return nil, false
	}
	ok = true
	for _, item := range n.items {
		if item.kind != kindString {
			s.d.add(item.pos, "an element of %s is %s, not a string; write %s = %s", key, item.kind, key, example)
			ok = false
			continue
		}
		list = append(list, value{text: item.text, pos: item.pos, ok: true})
	}
	return list, ok
}

// integer reads a whole number between low and high; 0 if it is absent or wrong.
func (s scope) integer(key, example string, low, high int) int {
	n := s.t.keys[key]
	if n == nil {
		return 0
	}
	if n.kind != kindInteger {
		s.mistyped(n, key, "an integer", example)
		return 0
	}
	i, err := strconv.ParseInt(n.text, 0, 64)
	if err != nil || i < int64(low) || i > int64(high) {
		s.d.add(n.pos, "%s is not between %d and %d; write %s = %s, or leave it out", key, low, high, key, example)
		return 0
	}
	return int(i)
}

// boolean reads true or false; false if it is absent or wrong.
func (s scope) boolean(key string) bool {
	n := s.t.keys[key]
	if n == nil {
		return false
	}
	if n.kind != kindBoolean {
		s.mistyped(n, key, "a boolean", "true")
	}
	return n.kind == kindBoolean && n.text == "true"
}

// sub reads a table inside the table.
func (s scope) sub(key, example string) (scope, bool) {
	n := s.t.keys[key]
	if n == nil {
		return scope{}, false
	}
	if n.kind != kindTable {
		s.mistyped(n, key, "a table", example)
		return scope{}, false
	}
	return scope{d: s.d, t: n.table, title: key}, true
}

// list reads [[key]] tables, or an array of tables in braces.
func (s scope) list(key string) (scopes []scope) {
	n := s.t.keys[key]
	if n == nil {
		return nil
	}
	if n.kind != kindTableSet && n.kind != kindArray {
		s.d.add(n.pos, "%s is %s, not a list of tables; write [[%s]]", key, n.kind, key)
		return nil
	}
	for _, item := range n.items {
		if item.kind != kindTable {
			s.d.add(item.pos, "an element of %s is %s, not a table; write [[%s]]", key, item.kind, key)
			continue
		}
		scopes = append(scopes, scope{d: s.d, t: item.table, title: cmp.Or(item.table.short, "[["+key+"]]")})
	}
	return scopes
}

// secret reads a reference to a secret.
func (s scope) secret(key, base string, required bool) Secret {
	v := s.str(key, `"env:NAME" or "file:PATH"`, required)
	if !v.ok {
		return Secret{}
	}
	ref, err := ParseSecret(v.text)
	if err != nil {
		s.d.add(v.pos, "%s holds a %v", key, err)
		return Secret{}
	}
	ref.base = base
	return ref
}

// patterns reads a list of patterns.
func (s scope) patterns(key, example string, required bool, parse func(string) (Pattern, error)) (out Patterns) {
	n := s.t.keys[key]
	if known, ok := s.d.patterns[n]; ok {
		return known
	}
	list, _ := s.strs(key, example, required)
	defer func() {
		if n != nil {
			s.d.patterns[n] = slices.Clip(out)
		}
	}()
	for _, v := range list {
		if s.d.full() {
			return out
		}
		p, err := parse(v.text)
		if err != nil {
			s.d.add(v.pos, "%v", err)
			continue
		}
		out = append(out, p)
	}
	return out
}

// only reports the keys that mean nothing here. It comes before the keys are read, so that a misspelled one is not
// also reported as missing.
func (s scope) only(known ...string) { s.onlyBut(nil, known...) }

// onlyBut is only for a table with keys whose fault is another one.
func (s scope) onlyBut(told []string, known ...string) {
	for _, key := range s.t.order {
		if slices.Contains(known, key) || slices.Contains(told, key) || s.d.full() {
			continue
		}
		hint := "known here: " + strings.Join(known, ", ")
		if best, ok := nearest(key, known); ok {
			hint = "did you mean " + best + "?"
			s.t.meant[best] = true
		}
		where := "in " + s.title
		if s.title == "" {
			where = "at the top"
		}
		s.d.add(s.t.keys[key].key, "unknown key %s %s; %s", clip(key), where, hint)
	}
}

// clip quotes a text for a message and keeps it short.
func clip(text string) string {
	if len(text) > 60 {
		return strconv.Quote(strings.ToValidUTF8(text[:60], "")) + "..."
	}
	return strconv.Quote(text)
}

// float reads a number above 0, up to high; 0 if it is absent or wrong.
func (s scope) float(key, example string, high float64) float64 {
	n := s.t.keys[key]
	if n == nil {
		return 0
	}
	if n.kind != kindInteger && n.kind != kindFloat {
		s.mistyped(n, key, "a number", example)
		return 0
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
	if err != nil || !(f > 0 && f <= high) {
		s.d.add(n.pos, "%s is not above 0 and at most %g; write %s = %s, or leave it out", key, high, key, example)
		return 0
	}
	return f
}
