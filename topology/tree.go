package topology

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is the type of a value, named as a person would.
type kind string

const (
	kindString   kind = "a string"
	kindInteger  kind = "an integer"
	kindFloat    kind = "a float"
	kindBoolean  kind = "a boolean"
	kindInstant  kind = "a date-time"
	kindTime     kind = "a date or time without a zone"
	kindArray    kind = "an array"
	kindTable    kind = "a table"
	kindTableSet kind = "a list of tables" // written as [[name]]
)

// node is a value and where it stands.
type node struct {
	pos   int // offset of the value; of the key where an array or a table has no place of its own
	key   int // offset of the key
	kind  kind
	text  string  // a string's value, another scalar's source
	items []*node // of an array
	table *table  // of a table
	as    string  // the key that a link's end is written under, where a short form has it
}

// definition is how a table came to be, which decides what may be added to it.
type definition int

const (
	implied definition = iota // by the header of a table inside it
	headed                    // by its own header
	dotted                    // by a dotted key
	inline                    // in braces; complete
)

// table is a set of keys.
type table struct {
	pos    int
	by     definition
	keys   map[string]*node
	order  []string
	broken bool            // a line in it did not parse, so what is missing may be there
	meant  map[string]bool // keys that an unknown key was probably meant to be
	short  string          // [[mesh]] or [[hub]]: what a link's table was made from
}

func newTable(pos int, by definition) *table {
	return &table{pos: pos, by: by, keys: make(map[string]*node), meant: make(map[string]bool)}
}

func (t *table) set(name string, n *node) {
	t.keys[name] = n
	t.order = append(t.order, name)
}

type keyPart struct {
	name string
	pos  int
}

// builder makes a tree from the parser's expressions.
type builder struct {
	d    *diagnostics
	root *table
	cur  *table
	p    unstable.Parser
	base int // offset of the text the parser was given
}

// parseTree reads the whole text and reports whatever in it is not TOML.
func parseTree(d *diagnostics) *table {
	root := newTable(0, headed)
	b := builder{d: d, root: root, cur: root}
	for at := 0; at < len(d.src) && !d.full(); {
		at = b.run(at)
	}
	return root
}

// run parses from an offset up to the end or to an expression that does not parse, and gives the offset to go on at.
func (b *builder) run(at int) int {
	b.base = at
	b.p.Reset(slices.Clip(b.d.src[at:])) // the parser tells offsets from capacities
	next := at
	for b.p.NextExpression() {
		next = b.lineAfter(b.expression(b.p.Expression()))
	}
	var failed *unstable.ParserError
	if !errors.As(b.p.Error(), &failed) {
		return len(b.d.src)
	}
	return b.recover(next, failed)
}

// lineAfter is the offset of the line behind the one that holds the offset.
func (b *builder) lineAfter(offset int) int {
	if n := b.d.line(offset); n < len(b.d.lines) {
		return b.d.lines[n]
	}
	return len(b.d.src)
}

// fresh recognizes a line that begins an expression. It decides nothing but where to go on behind an error.
var fresh = regexp.MustCompile(`^[ \t]*(\[\[?[\w."' -]+\]\]?[ \t]*(#.*)?\r?\n?$|[\w."'-]+[ \t]*=)`)

// recover reports an expression that begins at or behind the offset next and does not parse, and finds the next one.
func (b *builder) recover(next int, failed *unstable.ParserError) int {
	at := b.base + int(b.p.Range(failed.Highlight).Offset)
	start := next
	for start < at && b.lineAfter(start) <= at {
		text := bytes.TrimSpace(b.d.src[start:b.lineAfter(start)])
		if len(text) > 0 && text[0] != '#' {
			break
		}
		start = b.lineAfter(start)
	}
	begun := ""
	if b.d.line(start) != b.d.line(at) {
		begun = " (in what begins in line " + strconv.Itoa(b.d.line(start)) + ")"
	}
	b.d.add(at, "not TOML: %s%s; %s", failed.Message, begun, advice(failed.Message))
	if bytes.HasPrefix(bytes.TrimLeft(b.d.src[start:], " \t"), []byte("[")) {
		b.cur = newTable(start, headed) // whose keys belong to a table nobody knows
		b.root.broken = true
	}
	b.cur.broken = true
	line := b.d.src[start:b.lineAfter(start)]
	if b.d.line(start) == b.d.line(at) && bytes.Count(line, []byte("[")) <= bytes.Count(line, []byte("]")) &&
		bytes.Count(line, []byte("{")) <= bytes.Count(line, []byte("}")) {
		return b.lineAfter(start) // nothing is open that could go on there
	}
	for start = b.lineAfter(start); start < len(b.d.src); start = b.lineAfter(start) {
		if fresh.Match(b.d.src[start:b.lineAfter(start)]) {
			return start
		}
	}
	return len(b.d.src)
}

// advice reads the library's message, but only to word a hint: an unknown message gets the general one.
func advice(message string) string {
	for _, hint := range []struct{ part, text string }{
		{"start of value", `put text in "double quotes"`},
		{"keyword", `put text in "double quotes"`},
		{"must be quoted", `put text in "double quotes"`},
		{"invalid escape", `write \\ for a backslash, or put the text in 'single quotes'`},
		{"escape sequence", `write \\ for a backslash, or put the text in 'single quotes'`},
		{"incomplete", "close it"},
		{"terminated", "close the quotes"},
		{"cannot have new lines", "close the quotes on the same line"},
		{"expected ','", "put a comma between values, and close the list"},
		{"expected newline", "write one key = value a line"},
		{"after key", "write key = value"},
		{"nested more", "flatten it"},
	} {
		if strings.Contains(message, hint.part) {
			return hint.text
		}
	}
	return "look for a missing quote, comma, bracket or = here"
}

// expression takes one header or key = value into the tree and gives an offset inside its last line.
func (b *builder) expression(e *unstable.Node) int {
	keys := b.keys(e)
	last := keys[len(keys)-1]
	switch e.Kind {
	case unstable.Table:
		b.cur = b.header(keys)
	case unstable.ArrayTable:
		b.cur = b.listHeader(keys)
	default:
		b.assign(b.cur, keys, e.Value())
		return b.base + int(e.Raw.Offset+e.Raw.Length) - 1
	}
	return last.pos
}

func (b *builder) keys(e *unstable.Node) (keys []keyPart) {
	for it := e.Key(); it.Next(); {
		keys = append(keys, keyPart{string(it.Node().Data), b.base + int(it.Node().Raw.Offset)})
	}
	return keys
}

// header opens [a.b]. A header that cannot stand opens a table outside the tree, so that its keys are read but mean
// nothing.
func (b *builder) header(keys []keyPart) *table {
	last := keys[len(keys)-1]
	lost := newTable(last.pos, headed)
	at := b.descend(keys[:len(keys)-1])
	if at == nil {
		return lost
	}
	n, exists := at.keys[last.name]
	switch {
	case !exists:
		t := newTable(keys[0].pos-1, headed)
		at.set(last.name, &node{pos: last.pos, key: last.pos, kind: kindTable, table: t})
		return t
	case n.kind == kindTable && n.table.by == implied:
		n.table.by, n.table.pos = headed, keys[0].pos-1
		return n.table
	case n.kind == kindTableSet:
		b.d.add(last.pos, "%q is a list since line %d; write [[%s]]", last.name, b.d.line(n.key), join(keys))
	default:
		b.again(last, n)
	}
	return lost
}

// listHeader opens one more [[a.b]].
func (b *builder) listHeader(keys []keyPart) *table {
	last := keys[len(keys)-1]
	t := newTable(max(0, keys[0].pos-2), headed)
	at := b.descend(keys[:len(keys)-1])
	if at == nil {
		return t
	}
	n, exists := at.keys[last.name]
	switch {
	case !exists:
		n = &node{pos: last.pos, key: last.pos, kind: kindTableSet}
		at.set(last.name, n)
	case n.kind == kindTable:
		b.d.add(last.pos, "%q is a single table since line %d; write [[%s]] in both places", last.name, b.d.line(n.key), join(keys))
		return t
	case n.kind != kindTableSet:
		b.again(last, n)
		return t
	}
	n.items = append(n.items, &node{pos: t.pos, key: t.pos, kind: kindTable, table: t})
	return t
}

// descend walks the tables of a header from the root, making those that are not there; nil after an error.
func (b *builder) descend(keys []keyPart) *table {
	at := b.root
	for _, k := range keys {
		n, exists := at.keys[k.name]
		switch {
		case !exists:
			n = &node{pos: k.pos, key: k.pos, kind: kindTable, table: newTable(k.pos, implied)}
			at.set(k.name, n)
		case n.kind == kindTableSet:
			n = n.items[len(n.items)-1]
		case n.kind != kindTable || n.table.by == inline:
			b.d.add(k.pos, "%q is complete in line %d and cannot be extended; add the key there", k.name, b.d.line(n.key))
			return nil
		}
		at = n.table
	}
	return at
}

// assign sets a key, possibly dotted, in a table.
func (b *builder) assign(at *table, keys []keyPart, value *unstable.Node) {
	for _, k := range keys[:len(keys)-1] {
		n, exists := at.keys[k.name]
		switch {
		case !exists:
			n = &node{pos: k.pos, key: k.pos, kind: kindTable, table: newTable(k.pos, dotted)}
			at.set(k.name, n)
		case n.kind != kindTable || n.table.by != dotted:
			b.d.add(k.pos, "%q is complete in line %d and cannot be extended; add the key there", k.name, b.d.line(n.key))
			return
		}
		at = n.table
	}
	last := keys[len(keys)-1]
	if n, exists := at.keys[last.name]; exists {
		b.again(last, n)
		return
	}
	at.set(last.name, b.value(value, last.pos))
}

func (b *builder) again(k keyPart, before *node) {
	b.d.add(k.pos, "%q is already set in line %d; take one of them out", k.name, b.d.line(before.key))
}

// value converts what stands behind a key at the offset key.
func (b *builder) value(v *unstable.Node, key int) *node {
	n := &node{pos: key, key: key}
	if v.Raw.Length > 0 {
		n.pos = b.base + int(v.Raw.Offset)
	}
	switch v.Kind {
	case unstable.Array:
		n.kind = kindArray
		for it := v.Children(); it.Next(); {
			n.items = append(n.items, b.value(it.Node(), key))
		}
		return n
	case unstable.InlineTable:
		n.kind, n.table = kindTable, newTable(n.pos, inline)
		for it := v.Children(); it.Next(); {
			b.assign(n.table, b.keys(it.Node()), it.Node().Value())
		}
		return n
	case unstable.String:
		n.kind = kindString
	case unstable.Integer:
		n.kind = kindInteger
	case unstable.Float:
		n.kind = kindFloat
	case unstable.Bool:
		n.kind = kindBoolean
	case unstable.DateTime:
		n.kind = kindInstant
	default:
		n.kind = kindTime
	}
	n.text = string(v.Data)
	return n
}

func join(keys []keyPart) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return strings.Join(names, ".")
}
