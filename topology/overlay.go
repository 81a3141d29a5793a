package topology

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Setting is a live override: what one key has while the fabric runs, in place of what the file says.
//
//	link/NAME, cluster/NAME, router/NAME@NODE   Present or Removed
//	link/NAME/FIELD and so on                   a field as the file would have it, in TOML, or Absent
//	router/NAME/FIELD                           a field of all instances that have no setting of their own for it
//	stay                                        all rules, as a TOML array of tables
//	pause/LINK/TOPICS/PARTITIONS                a Pause
//	drain/NODE                                  true: the node gives its work away
//	log/level                                   debug, info, warn or error
type Setting struct {
	Key     string
	Value   []byte
	Deleted bool // taken back: the file counts
}

// What a setting may have where TOML has no word for it.
const (
	Present = "present" // there is such a thing, even where the file has none
	Removed = "removed" // there is none, even where the file has one
	Absent  = "absent"  // the field is not written, even where the file has it
)

// Source is the text of a topology file, which settings are laid over.
type Source struct {
	// Name is the file's path; relative paths in the text start from its folder.
	Name string
	Text []byte
}

// Overlay gives the topology that runs: the file's with the settings over it. Settings of what neither the file nor another
// setting has mean nothing; their keys are returned, so that a file that is being changed node by node stops nobody. An error is
// Errors and holds all faults; those of a setting name its key.
func (s Source) Overlay(settings []Setting) (t *Topology, ignored []string, err error) {
	return parse(s.Name, s.Text, settings)
}

// maxRounds bounds how often Running takes settings out by their names.
const maxRounds = 16

// Running is Overlay for settings that may not fit together, as when two nodes that did not hear of each other changed what does
// not go together, or when a node's file changed under them. What does not fit is left out, so that there is always something to
// run: first what a fault names, then what was written last, as little of it as can soon be found out. settings are in the order in which they were written. All nodes with the
// same file and settings leave out the same. left are the keys that were left out, in order, and err is why, nil if there are none;
// an error with no topology is of the file alone.
func (s Source) Running(settings []Setting) (t *Topology, left []string, err error) {
	t, _, err = s.Overlay(settings)
	if err == nil {
		return t, nil, nil
	}
	rest, faults := settings, err
	for range maxRounds {
		var list Errors
		_ = errors.As(faults, &list)
		fewer := slices.DeleteFunc(slices.Clone(rest), func(e Setting) bool {
			return slices.ContainsFunc(list, func(f Error) bool { return f.Setting == e.Key })
		})
		if len(fewer) == len(rest) {
			break // no setting is named
		}
		rest = fewer
		if t, _, faults = s.Overlay(rest); faults == nil {
			break
		}
	}
	for n := len(rest); faults != nil; {
		if n == 0 {
			return nil, nil, faults
		}
		n -= (n + 3) / 4 // many at once, because there may be very many
		if t, _, faults = s.Overlay(rest[:n]); faults == nil {
			t, rest = s.addBack(t, rest[:n], rest[n:])
		}
	}
	for _, e := range settings {
		if _, ok := splitKey(e.Key); ok && !e.Deleted && !slices.ContainsFunc(rest, func(r Setting) bool { return r.Key == e.Key }) {
			left = append(left, e.Key)
		}
	}
	slices.Sort(left)
	return t, left, fmt.Errorf("some settings do not fit together or do not fit the file: %w", err)
}

// maxAddBack bounds how often addBack tries.
const maxAddBack = 64

// addBack takes settings in again, all of one thing together, as far as they fit those that do: one that does not fit is no reason
// that nothing counts which is written after it.
func (s Source) addBack(t *Topology, fit, out []Setting) (*Topology, []Setting) {
	var things [][]Setting
	at := make(map[key]int)
	for _, e := range out {
		thing := key{kind: e.Key}
		if k, ok := splitKey(e.Key); ok {
			thing = key{kind: k.kind, name: k.name}
		}
		i, there := at[thing]
		if !there {
			i, at[thing] = len(things), len(things)
			things = append(things, nil)
		}
		things[i] = append(things[i], e)
	}
	tries := 0
	var add func(things [][]Setting)
	add = func(things [][]Setting) {
		if tries++; len(things) == 0 || tries > maxAddBack {
			return
		}
		all := slices.Concat(fit, slices.Concat(things...))
		if next, _, err := s.Overlay(all); err == nil {
			t, fit = next, all
		} else if half := len(things) / 2; half > 0 {
			add(things[:half])
			add(things[half:])
		}
	}
	add(things)
	return t, fit
}

// key is a setting's key in its parts.
type key struct{ kind, name, field string }

// The kinds of things that settings change, beside stay.
const (
	kindLink    = "link"
	kindCluster = "cluster"
	kindRouter  = "router"
	keyStay     = "stay"
)

// endFields are those of a link that a short form fills in.
var endFields = []string{"from", "to"}

// fieldNames are the fields of each kind that a setting may have.
var fieldNames = map[string][]string{
	kindLink:    slices.Concat(endFields, []string{"topics", "exclude", "groups", "groups_exclude", "start", "replication_factor", "byte_rate"}, namingFields, policyFields),
	kindCluster: {"dc", "bootstrap", "embedded", "tls", "sasl", "principal", "insecure"},
	kindRouter:  {"listen", "advertise", "slots", "sni", "home", "isolated", "tail", "failover_to", "failover_after", "auth", "credentials", "tls", "insecure", "limits", "set", "quota"},
}

// splitKey takes a key of the running topology apart; false for keys of other things.
func splitKey(text string) (k key, ok bool) {
	kind, rest, _ := strings.Cut(text, "/")
	if kind == keyStay && rest == "" {
		return key{kind: kind}, text == keyStay
	}
	name, field, _ := strings.Cut(rest, "/")
	return key{kind, name, field}, fieldNames[kind] != nil && name != ""
}

func (k key) String() string {
	if k.field != "" {
		return k.kind + "/" + k.name + "/" + k.field
	}
	return k.kind + "/" + k.name
}

// overlay puts settings over the tree of a file, in an order in which it does not matter how they came.
func overlay(d *diagnostics, root *table, settings []Setting) (ignored []string) {
	o := overlayer{d: d, root: root, removed: make(map[key]bool)}
	settings = slices.Clone(settings)
	slices.SortFunc(settings, func(a, b Setting) int { return cmp.Compare(a.Key, b.Key) })
	rounds := make([][]Setting, 4)
	for _, s := range settings {
		k, ok := splitKey(s.Key)
		switch {
		case !ok || s.Deleted:
			continue
		case k.field == "":
			rounds[0] = append(rounds[0], s) // first of all, what there is
		case k.kind == kindRouter && !strings.Contains(k.name, "@"):
			rounds[1] = append(rounds[1], s) // then what all instances of a router share
		default:
			rounds[2] = append(rounds[2], s)
		}
	}
	for _, s := range slices.Concat(rounds...) {
		k, _ := splitKey(s.Key)
		if !o.lay(k, d.overlaid(s.Key), string(s.Value)) {
			ignored = append(ignored, s.Key)
		}
	}
	slices.Sort(ignored)
	return ignored
}

// overlayer changes a tree.
type overlayer struct {
	d       *diagnostics
	root    *table
	removed map[key]bool // what a setting took away; fields that it had may wait for it to come back
}

// lay puts one setting over the tree; false if there is nothing that it could change.
func (o *overlayer) lay(k key, pos int, text string) bool {
	switch {
	case k.kind == keyStay:
		if n := o.value(pos, text); n != nil {
			o.root.replace(keyStay, n)
		}
		return true
	case k.field == "":
		return o.exist(k, pos, text)
	}
	tables := o.named(k.kind, k.name)
	if len(tables) == 0 {
		return o.removed[key{kind: k.kind, name: k.name}]
	}
	if !slices.Contains(fieldNames[k.kind], k.field) {
		o.d.add(pos, "%s", unknownField(k))
		return true
	}
	if text == Absent {
		for _, t := range tables {
			t.remove(k.field)
		}
		return true
	}
	n := o.value(pos, text)
	for _, t := range tables {
		if n != nil {
			if k.kind == kindLink && t.keys["name"] == nil {
				t.replace("name", &node{pos: t.pos, key: t.pos, kind: kindString, text: k.name}) // it keeps the name that its ends gave it
			}
			t.replace(k.field, n)
		}
	}
	return true
}

func unknownField(k key) string {
	hint := "known: " + strings.Join(fieldNames[k.kind], ", ")
	if best, ok := nearest(k.field, fieldNames[k.kind]); ok {
		hint = "did you mean " + best + "?"
	}
	return fmt.Sprintf("a %s has no field %s that a setting may change; %s", k.kind, clip(k.field), hint)
}

// exist adds a thing, or takes it away.
func (o *overlayer) exist(k key, pos int, text string) bool {
	there := o.named(k.kind, k.name)
	switch text {
	case Present:
		if len(there) == 0 {
			o.add(k, pos)
		}
		return true
	case Removed:
		list := o.root.keys[k.kind]
		for _, t := range there {
			list.items = slices.DeleteFunc(list.items, func(n *node) bool { return n.table == t })
		}
		o.removed[k] = len(there) > 0
		return len(there) > 0
	}
	o.d.add(pos, "%s is neither %s nor %s", clip(text), Present, Removed)
	return true
}

func (o *overlayer) add(k key, pos int) {
	list := o.root.keys[k.kind]
	if list == nil {
		list = &node{pos: pos, key: pos, kind: kindTableSet}
		o.root.set(k.kind, list)
	}
	if list.kind != kindTableSet && list.kind != kindArray {
		return // reported when it is read
	}
	t := newTable(pos, headed)
	put := func(key, text string) { t.set(key, &node{pos: pos, key: pos, kind: kindString, text: text}) }
	name, on, isInstance := strings.Cut(k.name, "@")
	put("name", name)
	if k.kind == kindRouter {
		if !isInstance {
			o.d.add(pos, "which instance? write %s/%s@NODE", k.kind, k.name)
			return
		}
		put("node", on)
	}
	list.items = append(slices.Clip(list.items), &node{pos: pos, key: pos, kind: kindTable, table: t})
}

// named are the tables that a name means: one, or all instances of a router.
func (o *overlayer) named(kind, name string) (tables []*table) {
	list := o.root.keys[kind]
	if list == nil {
		return nil
	}
	for _, n := range list.items {
		if n.table == nil {
			continue
		}
		has := n.table.text("name")
		switch {
		case kind == kindLink && n.table.keys["name"] == nil:
			has = n.table.text("from") + "-" + n.table.text("to")
		case kind == kindRouter && strings.Contains(name, "@"):
			has += "@" + n.table.text("node")
		}
		if has == name {
			tables = append(tables, n.table)
		}
	}
	return tables
}

// value reads a TOML value whose every part stands at pos; nil after an error.
func (o *overlayer) value(pos int, text string) *node {
	n, err := parseValue(text)
	if err != nil {
		o.d.add(pos, "%v", err)
		return nil
	}
	n.move(pos)
	return n
}

// parseValue reads one TOML value.
func parseValue(text string) (*node, error) {
	const before = "v = "
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) || len(text) > MaxFileBytes {
		return nil, errors.New("the value is no text; write it as the file would have it")
	}
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("the value is empty; write it as the file would have it, or unset it")
	}
	d := newDiagnostics("", []byte(before+text))
	root := parseTree(d)
	if len(d.list) > 0 {
		return nil, errors.New(d.list[0].Msg)
	}
	if len(root.order) != 1 || root.keys["v"] == nil {
		return nil, errors.New("the value goes on behind its end; write one value")
	}
	return root.keys["v"], nil
}

// move gives a value and all its parts another place.
func (n *node) move(pos int) {
	n.pos, n.key = pos, pos
	for _, item := range n.items {
		item.move(pos)
	}
	if n.table != nil {
		n.table.pos = pos
		for part := range maps.Values(n.table.keys) {
			part.move(pos)
		}
	}
}

// text is a string of the table; empty where there is none.
func (t *table) text(key string) string {
	if n := t.keys[key]; n != nil && n.kind == kindString {
		return n.text
	}
	return ""
}

func (t *table) replace(key string, n *node) {
	if t.keys[key] == nil {
		t.order = append(t.order, key)
	}
	t.keys[key] = n
}

func (t *table) remove(key string) {
	delete(t.keys, key)
	t.order = slices.DeleteFunc(t.order, func(k string) bool { return k == key })
}
