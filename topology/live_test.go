package topology_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// fabric is a node's file, and the settings that it knows of.
type fabric struct {
	source   topology.Source
	settings *gossip.Settings
}

func (f fabric) current() (settings []topology.Setting) {
	for _, v := range f.settings.All() {
		settings = append(settings, topology.Setting{Key: v.Key, Value: v.Value, Deleted: v.Deleted})
	}
	return settings
}

// change makes a proposal of a plan, as it is written over what its author saw.
func (f fabric) change(author string, p *topology.Plan) gossip.Change {
	c := gossip.Change{Author: author, Reason: "a test"}
	for _, e := range p.Entries {
		now, _ := f.settings.Get(e.Key)
		c.Entries = append(c.Entries, gossip.Entry{Key: e.Key, Value: e.Value, Deleted: e.Deleted, Base: now.Version})
	}
	return c
}

func (f fabric) export(t *testing.T) string {
	t.Helper()
	top, _, err := f.source.Overlay(f.current())
	if err != nil {
		t.Fatal(err)
	}
	return top.Export()
}

// links is a file of many links, with groups for some.
func links(grouped ...int) string {
	var b strings.Builder
	b.WriteString("[fabric]\nname = \"many\"\n[[cluster]]\nname = \"eu\"\nbootstrap = [\"eu:1\"]\n[[cluster]]\nname = \"us\"\nbootstrap = [\"us:1\"]\n")
	for i := range 200 {
		fmt.Fprintf(&b, "[[link]]\nname = \"l%03d\"\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"t%03d-*\"]\n", i, i)
		for _, g := range grouped {
			if g == i {
				b.WriteString("groups = [\"*\"]\n")
			}
		}
	}
	return b.String()
}

// TestLive_ApplyConflictUndo: two people apply files over one that runs with 200 links. One wins, the other is told by whom and over
// what; nothing is half done; taking it back leaves exactly what ran before.
func TestLive_ApplyConflictUndo(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f := fabric{topology.Source{Name: "many.toml", Text: []byte(links())}, gossip.NewSettings(gossip.NewClock("eu-1", func() time.Time { return now }))}
	before := f.export(t)
	plan := func(grouped ...int) *topology.Plan {
		p, err := f.source.Apply(f.current(), "wanted.toml", []byte(links(grouped...)))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ana, bo := f.change("ana", plan(7, 100)), f.change("bo", plan(100, 150))
	done, err := f.settings.Propose(ana)
	if err != nil {
		t.Fatal(err)
	}
	after := f.export(t)
	_, err = f.settings.Propose(bo)
	if !errors.Is(err, gossip.ErrConflict) || !strings.Contains(err.Error(), "link/l100/groups") || !strings.Contains(err.Error(), "ana wrote it") {
		t.Errorf("the second apply: %v, want to be told that ana was faster with l100", err)
	}
	if f.export(t) != after || strings.Count(after, "groups") != 2 {
		t.Errorf("the refused apply changed something:\n%s", after)
	}
	// Now that bo looks again, only what differs is written.
	again := f.change("bo", plan(100, 150))
	if len(again.Entries) != 2 || again.Entries[0].Key != "link/l007/groups" || !again.Entries[0].Deleted || again.Entries[1].Key != "link/l150/groups" {
		t.Errorf("bo's second look writes %+v, want l007 taken back and l150", again.Entries)
	}
	back, err := f.settings.Undo(done.Version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.source.Set(f.current(), entries(back)); err != nil {
		t.Errorf("the undo is no right change: %v", err)
	}
	if _, err := f.settings.Propose(back); err != nil {
		t.Fatal(err)
	}
	if f.export(t) != before {
		t.Error("undone, it is not what ran before")
	}
}

func entries(c gossip.Change) (settings []topology.Setting) {
	for _, e := range c.Entries {
		settings = append(settings, topology.Setting{Key: e.Key, Value: e.Value, Deleted: e.Deleted})
	}
	return settings
}
