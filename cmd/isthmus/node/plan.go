package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// Plan implements [admin.Node].
func (a *answers) Plan(_ context.Context, p admin.Proposal) (*admin.Plan, error) {
	f := a.node.fabric
	if err := f.knows(); err != nil {
		return nil, err
	}
	all, topics := byAge(f.settings.All()), a.topics()
	settings := settingsOf(all)
	bases := make(map[string]gossip.Time) // what the plan is made over: a write that comes between is a conflict
	for _, v := range all {
		bases[v.Key] = v.Version
	}
	field := "value"
	var plan *topology.Plan
	var undoes gossip.Time
	var err error
	switch {
	case p.File != "":
		field = "file"
		plan, err = f.config.source.Apply(settings, "the file", []byte(p.File), topics...)
	case !p.Undo.IsZero():
		change, undoErr := f.settings.Undo(p.Undo)
		if undoErr != nil {
			return nil, &admin.FieldError{Field: "version", Msg: undoErr.Error()}
		}
		field, undoes = "version", change.Undoes
		plan, err = f.config.source.Set(settings, settingsIn(change.Entries, bases), topics...)
	default:
		plan, err = f.config.source.Set(settings, settingsIn(p.Entries, bases), topics...)
	}
	if err != nil {
		return nil, faults(field, err)
	}
	if len(plan.Reroutes) > 0 {
		var all error
		for _, r := range plan.Reroutes {
			all = errors.Join(all, &admin.FieldError{Field: field, Msg: r.String()})
		}
		return nil, all
	}
	out := &admin.Plan{Change: gossip.Change{Undoes: undoes}}
	for _, e := range plan.Entries {
		out.Change.Entries = append(out.Change.Entries, gossip.Entry{Key: e.Key, Value: e.Value, Deleted: e.Deleted, Base: bases[e.Key]})
	}
	if p.File != "" && len(plan.Entries) > 0 {
		// Of two files that are applied at once one wins, also where they change different things: what runs is one of them.
		out.Change.Entries = append(out.Change.Entries, gossip.Entry{Key: appliedKey, Value: []byte(inHex(hashOf([]byte(p.File)))), Base: bases[appliedKey]})
	}
	var stops []string
	for _, d := range plan.Changes {
		out.Lines = append(out.Lines, d.String())
		if d.Destructive {
			stops = append(stops, d.String())
		}
		out.Touches = append(out.Touches, touchesOf(d, f.config.running(), plan.Next)...)
	}
	for _, note := range plan.Notes {
		out.Lines = append(out.Lines, "note: "+note)
	}
	out.Stops = strings.Join(stops, "; ")
	return out, nil
}

// appliedKey is the setting that every apply writes beside the others: the hash of the file.
const appliedKey = "file/applied"

// settingsIn are a change's entries as topology knows them. Bases that their author saw go into bases.
func settingsIn(entries []gossip.Entry, bases map[string]gossip.Time) (out []topology.Setting) {
	for _, e := range entries {
		if e.Key == appliedKey {
			continue
		}
		out = append(out, topology.Setting{Key: e.Key, Value: e.Value, Deleted: e.Deleted})
		if !e.Base.IsZero() {
			bases[e.Key] = e.Base
		}
	}
	return out
}

// touchesOf are the parts of the fabric that a difference changes, from one topology to the next. Pauses are read from their
// settings, which know the partitions; the rest touches nothing that is copied.
func touchesOf(d topology.Difference, before, next *topology.Topology) (out []admin.Touch) {
	switch d.Kind {
	case "link":
		return []admin.Touch{{Link: d.Name, Topics: d.Topics}}
	case "cluster":
		for _, t := range []*topology.Topology{before, next} {
			for _, l := range t.Links {
				if l.From == d.Name || l.To == d.Name {
					out = append(out, admin.Touch{Link: l.Name, Topics: l.Topics.Strings()})
				}
			}
		}
	}
	return out
}

// faults names the field of a request with each thing that is wrong in it.
func faults(field string, err error) error {
	var list topology.Errors
	if !errors.As(err, &list) {
		return &admin.FieldError{Field: field, Msg: err.Error()}
	}
	var all error
	for _, f := range list {
		msg := f.Msg
		if f.Line > 0 {
			msg = fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, f.Msg)
		} else if f.Setting != "" {
			msg = fmt.Sprintf("%s: %s", f.Setting, f.Msg)
		}
		all = errors.Join(all, &admin.FieldError{Field: field, Msg: msg})
	}
	return all
}

// topics are the names of all topics that the links know.
func (a *answers) topics() (names []string) {
	seen := make(map[string]bool)
	for _, l := range a.node.set.Status() {
		for _, f := range l.Flows {
			if !seen[f.Topic] {
				seen[f.Topic] = true
				names = append(names, f.Topic)
			}
		}
	}
	return names
}
