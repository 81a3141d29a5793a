package topology

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Plan is what a change of settings does, before it is done.
type Plan struct {
	// Entries are the settings to write, all or none; none if nothing changes.
	Entries []Setting
	// Changes are what becomes different, for people.
	Changes []Difference
	// Notes are what the change leaves as it is, and why.
	Notes []string
	// Reroutes are why the change would lose or double records. It must not be made while there are any, unless somebody insists.
	Reroutes []Reroute
	// Next is what runs then.
	Next *Topology
}

// Topics are patterns of all topics that the plan touches; "*" where it touches what belongs to no topic.
func (p *Plan) Topics() (topics []string) {
	for _, d := range p.Changes {
		if len(d.Topics) == 0 {
			topics = append(topics, "*")
		}
		topics = append(topics, d.Topics...)
	}
	return distinct(topics)
}

// Destructive tells whether any change of the plan is.
func (p *Plan) Destructive() bool {
	return len(p.Reroutes) > 0 || slices.ContainsFunc(p.Changes, func(d Difference) bool { return d.Destructive })
}

// Set plans to write settings over those that there are, which are in the order in which they were written, as for Running. topics
// are names of topics that exist, for the routes; none is right too. Settings that do not fit and are left out of what runs stay so
// unless an entry mends it: they stop nobody, and a note names them. An error of the settings is Errors and holds all that is wrong.
func (s Source) Set(settings, entries []Setting, topics ...string) (*Plan, error) {
	running, left, err := s.Running(settings)
	if running == nil {
		return nil, fmt.Errorf("the node's own file is not right: %w", err)
	}
	after := merged(settings, entries)
	next, ignored, stillLeft, err := s.next(settings, entries, left)
	if err := checkAll(running, next, entries, ignored, err); err != nil {
		return nil, err
	}
	p := &Plan{Entries: changed(settings, entries), Next: next, Changes: Diff(running, next)}
	for _, r := range Reroutes(running, next, topics...) {
		if r.Follows {
			p.Notes = append(p.Notes, r.note())
		} else {
			p.Reroutes = append(p.Reroutes, r)
		}
	}
	for _, key := range ignored {
		p.Notes = append(p.Notes, fmt.Sprintf("setting %s means nothing: there is no such thing", key))
	}
	for _, key := range stillLeft[:min(len(stillLeft), maxNotes)] {
		p.Notes = append(p.Notes, fmt.Sprintf("setting %s still does not count, because it does not fit; unset it, or change what it does not fit", key))
	}
	p.Changes = append(p.Changes, otherDifferences(settings, after)...)
	return p, nil
}

// next is what runs after entries were written. Of the settings that are left out now some may still be; what else does not fit, an
// entry above all, is an error.
func (s Source) next(settings, entries []Setting, left []string) (t *Topology, ignored, stillLeft []string, err error) {
	if len(left) == 0 {
		t, ignored, err = s.Overlay(merged(settings, entries))
		return t, ignored, nil, err
	}
	isEntry := func(e Setting) bool {
		return slices.ContainsFunc(entries, func(o Setting) bool { return o.Key == e.Key })
	}
	after := slices.Concat(slices.DeleteFunc(slices.Clone(settings), isEntry), entries) // the newest last
	_, stillLeft, err = s.Running(after)
	for _, key := range stillLeft {
		if !slices.Contains(left, key) || isEntry(Setting{Key: key}) {
			return nil, nil, stillLeft, err
		}
	}
	counts := slices.DeleteFunc(after, func(e Setting) bool { return slices.Contains(stillLeft, e.Key) })
	t, ignored, err = s.Overlay(counts)
	return t, ignored, stillLeft, err
}

// checkAll adds to the faults of an overlay what is wrong with the entries that were new in it.
func checkAll(running, next *Topology, entries []Setting, ignored []string, faults error) error {
	var list Errors
	_ = errors.As(faults, &list)
	bad := slices.Clone(list)
	for _, e := range entries {
		var err error
		told := slices.ContainsFunc(list, func(f Error) bool { return f.Setting == e.Key })
		switch {
		case told:
		case next != nil:
			err = checkIn(running, next, e)
		case slices.Contains(ignored, e.Key):
			err = checkIn(running, running, e)
		default:
			err = checkForm(e)
		}
		if err != nil {
			bad = append(bad, asFault(e.Key, err))
		}
	}
	return bad.err()
}

// Apply plans to make what runs the same as another file says. An error of that file is Errors.
func (s Source) Apply(settings []Setting, name string, wanted []byte, topics ...string) (*Plan, error) {
	want, err := Parse(name, wanted)
	if err != nil {
		return nil, err
	}
	running, left, err := s.Running(settings)
	if running == nil {
		return nil, fmt.Errorf("the node's own file is not right: %w", err)
	}
	if want.Fabric.Name != running.Fabric.Name {
		return nil, fmt.Errorf("%s is of the fabric %q, this one is %q; apply a file of this fabric", name, want.Fabric.Name, running.Fabric.Name)
	}
	// What all instances of a router share stays as it is: an instance's own setting goes over it.
	base, _, err := s.Overlay(slices.DeleteFunc(slices.Clone(settings), func(e Setting) bool {
		k, ok := splitKey(e.Key)
		return !ok || k.kind != kindRouter || strings.Contains(k.name, "@")
	}))
	if err != nil {
		if base, err = Parse(s.Name, s.Text); err != nil {
			return nil, fmt.Errorf("the node's own file is not right: %w", err)
		}
	}
	entries := entriesFor(settings, base, running, want)
	for _, key := range left { // what the file says instead is among the entries, or runs
		if !slices.ContainsFunc(entries, func(e Setting) bool { return e.Key == key }) {
			entries = append(entries, Setting{Key: key, Deleted: true})
		}
	}
	p, err := s.Set(settings, entries, topics...)
	if err != nil {
		return nil, fmt.Errorf("%s does not fit the nodes of this fabric: %w", name, err)
	}
	p.Notes = append(p.Notes, ownNotes(running, want)...)
	return p, nil
}

// entriesFor are the settings that make what runs equal to what is wanted.
func entriesFor(settings []Setting, base, running, want *Topology) (entries []Setting) {
	for _, kind := range []string{kindCluster, kindLink, kindRouter} {
		in, now, then := base.things(kind), running.things(kind), want.things(kind)
		for _, name := range union(now, then) {
			entries = append(entries, entriesOf(settings, kind, name, in, now, then)...)
		}
	}
	switch wanted := want.stays(); wanted {
	case running.stays():
	case base.stays():
		entries = append(entries, Setting{Key: keyStay, Deleted: true})
	case "":
		entries = append(entries, Setting{Key: keyStay, Value: []byte("[]")})
	default:
		entries = append(entries, Setting{Key: keyStay, Value: []byte(wanted)})
	}
	return entries
}

// entriesOf are the settings of one thing: base is what the file has, now what runs, then what is wanted.
func entriesOf(settings []Setting, kind, name string, base, now, then map[string]fields) (entries []Setting) {
	head := key{kind: kind, name: name}.String()
	inFile, had := base[name]
	was, runs := now[name]
	wanted, stays := then[name]
	set := func(field string) bool {
		return slices.ContainsFunc(settings, func(s Setting) bool { return s.Key == head+"/"+field && !s.Deleted })
	}
	switch {
	case !stays && had:
		entries = append(entries, Setting{Key: head, Value: []byte(Removed)})
	case !stays, !runs && had:
		entries = append(entries, Setting{Key: head, Deleted: true})
	case !runs:
		entries = append(entries, Setting{Key: head, Value: []byte(Present)})
	}
	for _, field := range fieldNames[kind] {
		e := Setting{Key: head + "/" + field}
		switch in, literal := inFile.get(field), wanted.get(field); {
		case runs && stays && was.get(field) == literal:
			continue // also where it is said in other words
		case !stays || in == literal:
			if !set(field) {
				continue
			}
			e.Deleted = true
		case literal == "":
			e.Value = []byte(Absent)
		default:
			e.Value = []byte(literal)
		}
		entries = append(entries, e)
	}
	return entries
}

// merged are the settings after some were written.
func merged(settings, entries []Setting) []Setting {
	byKey := make(map[string]Setting)
	for _, s := range slices.Concat(settings, entries) {
		byKey[s.Key] = s
	}
	return slices.SortedFunc(maps.Values(byKey), compareSettings)
}

// changed are the entries that are not so already, by key.
func changed(settings, entries []Setting) (out []Setting) {
	now := make(map[string]Setting)
	for _, s := range settings {
		if !s.Deleted {
			now[s.Key] = s
		}
	}
	for _, e := range merged(nil, entries) {
		old, there := now[e.Key]
		if there == e.Deleted || there && string(old.Value) != string(e.Value) {
			out = append(out, e)
		}
	}
	return out
}

// CheckSetting tells what is wrong with a setting, as far as one alone can tell over a topology that runs.
func CheckSetting(t *Topology, key string, value []byte) error {
	return checkIn(t, t, Setting{Key: key, Value: value})
}

// checkForm looks at a setting without what it is laid over.
func checkForm(s Setting) error {
	fail := func(format string, args ...any) error { return fault(s.Key, format, args...) }
	k, ok := splitKey(s.Key)
	if s.Deleted {
		return nil // whatever it is, it goes
	}
	text := string(s.Value)
	switch {
	case ok && k.kind != keyStay && k.field == "":
		if text != Present && text != Removed {
			return fail("%s is neither %s nor %s", clip(text), Present, Removed)
		}
		if name, _, instance := strings.Cut(k.name, "@"); instance != (k.kind == kindRouter) || !identity.MatchString(name) {
			return fail("%s is no name of a %s", clip(k.name), k.kind)
		}
	case ok && k.kind != keyStay && !slices.Contains(fieldNames[k.kind], k.field):
		return fail("%s", unknownField(k))
	case ok && text != Absent:
		if _, err := parseValue(text); err != nil {
			return fail("%v", err)
		}
	case ok:
	case strings.HasPrefix(s.Key, pausePrefix):
		_, err := ParsePause(s)
		return err
	case strings.HasPrefix(s.Key, drainPrefix):
		if text != draining {
			return fail("the value is %s; write %s, or unset it", clip(text), draining)
		}
	case s.Key == LogLevelKey:
		if _, err := parseLevel(text); err != nil {
			return fail("%v", err)
		}
	default:
		return fail("no such setting; there are link/NAME/FIELD, cluster/NAME/FIELD, router/NAME/FIELD, stay, pause/LINK/TOPICS/PARTITIONS, drain/NODE, log/level")
	}
	return nil
}

// checkIn also looks whether there is what a setting is about, in what runs and what is going to.
func checkIn(running, next *Topology, s Setting) error {
	if err := checkForm(s); err != nil || s.Deleted {
		return err
	}
	k, ok := splitKey(s.Key)
	in := next
	switch {
	case ok && k.kind == keyStay, s.Key == LogLevelKey:
		return nil
	case ok && k.field == "" && string(s.Value) == Present:
		return nil
	case ok && k.field == "":
		in = running // it is gone in the next
	case strings.HasPrefix(s.Key, pausePrefix):
		p, err := ParsePause(s)
		if err != nil {
			return err
		}
		k.kind, k.name = kindLink, p.Link
	case strings.HasPrefix(s.Key, drainPrefix):
		k.kind, k.name = "node", strings.TrimPrefix(s.Key, drainPrefix)
	}
	names := in.names(k)
	if slices.Contains(names, k.name) {
		return nil
	}
	hint := "there is none"
	if best, ok := nearest(k.name, names); ok {
		hint = "did you mean " + strconv.Quote(best) + "?"
	} else if len(names) > 0 {
		hint = "there are " + strings.Join(names[:min(len(names), maxNamedHints)], ", ")
		if len(names) > maxNamedHints {
			hint += " and more"
		}
	}
	return fault(s.Key, "unknown %s %s; %s", k.kind, clip(k.name), hint)
}

// maxNamedHints bounds the names that a message offers.
const maxNamedHints = 10

// names are those that a key may have in its place.
func (t *Topology) names(k key) (names []string) {
	if k.kind == "node" {
		for _, n := range t.Nodes {
			names = append(names, n.Name)
		}
		return names
	}
	for name := range t.things(k.kind) {
		if k.kind == kindRouter && !strings.Contains(k.name, "@") {
			name, _, _ = strings.Cut(name, "@")
		}
		names = append(names, name)
	}
	return distinct(names)
}

// otherDifferences are those of settings that are of no topology.
func otherDifferences(before, after []Setting) (all []Difference) {
	old := make(map[string]string)
	for _, s := range before {
		if !s.Deleted {
			old[s.Key] = string(s.Value)
		}
	}
	for _, s := range after {
		value := string(s.Value)
		if s.Deleted {
			value = ""
		}
		if _, ok := splitKey(s.Key); ok || old[s.Key] == value {
			continue
		}
		kind, name, _ := strings.Cut(s.Key, "/")
		d := Difference{Kind: kind, Name: name, Old: old[s.Key], New: value}
		if p, err := ParsePause(Setting{Key: s.Key, Value: []byte("{}")}); err == nil {
			d.Name, d.Links, d.Topics = p.Link, []string{p.Link}, []string{p.Topics.text}
			d.Field = strings.TrimPrefix(s.Key, pausePrefix+p.Link+"/")
		}
		all = append(all, d)
	}
	return all
}
