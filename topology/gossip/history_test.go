package gossip

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestHistory_TellsWhatEachChangeDid(t *testing.T) {
	s := newSettings("eu-1", start)
	first := s.write(t, "1", "a", "b")
	second := s.write(t, "2", "b")
	got := s.History(0)
	if len(got) != 2 || got[0].Change.Version != second.Version || got[1].Change.Version != first.Version {
		t.Fatalf("history %+v, want both changes, the newest first", got)
	}
	if f := got[0].Effects[0]; string(f.Before.Value) != "1" || f.Before.Version != first.Version || f.Conflict || f.Forgotten || !f.Since.IsZero() {
		t.Errorf("the second write of b: %+v, want that it replaced 1 and stands", f)
	}
	if f := got[1].Effects; !f[0].Before.Version.IsZero() || !f[0].Since.IsZero() || f[1].Since != second.Version {
		t.Errorf("the first change: %+v, want nothing before, and that b was written since", f)
	}
	if len(s.History(1)) != 1 || s.History(1)[0].Change.Version != second.Version {
		t.Error("a limit does not give the newest")
	}
}

func TestHistory_NotesConflicts(t *testing.T) {
	a, b := newSettings("a", start), newSettings("b", start.Add(time.Second))
	base := a.write(t, "0", "k")
	mustMerge(t, b, base)
	one, two := a.write(t, "one", "k"), b.write(t, "two", "k")
	mustMerge(t, a, two)
	mustMerge(t, b, one)
	same(t, a, b)
	if v, _ := a.Get("k"); string(v.Value) != "two" {
		t.Errorf("k is %s, want the later write", v.Value)
	}
	got := a.History(0)
	if !got[0].Effects[0].Conflict || string(got[0].Effects[0].Before.Value) != "one" || got[1].Effects[0].Conflict {
		t.Errorf("history %+v, want a conflict of two with one, and none else", got)
	}
	if c, err := a.Undo(two.Version); err != nil || string(c.Entries[0].Value) != "one" {
		t.Errorf("undo gives %+v, %v; want the loser's value back", c, err)
	}
}

func TestUndo_RestoresAndCanBeUndone(t *testing.T) {
	s := newSettings("eu-1", start)
	s.write(t, "1", "a")
	s.write(t, "", "gone")
	change := s.write(t, "2", "a", "new", "gone")
	back, err := s.Undo(change.Version)
	if err != nil {
		t.Fatal(err)
	}
	back.Author, back.Reason = "bo", "a mistake"
	undone, err := s.Propose(back)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"a": "1 false", "new": " true", "gone": " true"} {
		if v, _ := s.Get(key); fmt.Sprintf("%s %v", v.Value, v.Deleted) != want {
			t.Errorf("%s is %q, deleted %v; want %s", key, v.Value, v.Deleted, want)
		}
	}
	if got := s.History(0); got[1].UndoneBy != undone.Version || got[0].Change.Undoes != change.Version {
		t.Errorf("the history does not tie %v and %v together: %+v", undone.Version, change.Version, got)
	}
	redo, err := s.Undo(undone.Version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Propose(redo); err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Get("new"); string(v.Value) != "2" || v.Deleted {
		t.Errorf("undone twice, new is %q, want 2", v.Value)
	}
}

func TestUndo_IsRefused(t *testing.T) {
	s := newSettings("eu-1", start)
	lost := s.write(t, "0", "a")
	first := s.write(t, "1", "a", "b")
	second := s.write(t, "2", "b")
	for _, tc := range []struct {
		version Time
		want    []string
	}{
		{first.Version, []string{`"b" was changed since`, "ana wrote it (a test)", second.Version.String(), "undo that first"}},
		{Time{Wall: 1, Node: "x"}, []string{"no change of that version"}},
	} {
		_, err := s.Undo(tc.version)
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("undo %v: %v, want %q", tc.version, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), `"a"`) {
			t.Errorf("undo %v: %v names a, which is as it was", tc.version, err)
		}
	}
	for range keptChanges {
		s.write(t, "x", "other")
	}
	if s.Has(lost.Version) {
		t.Fatal("the first change is still kept")
	}
	for _, p := range s.History(0) {
		if f := p.Effects[0]; p.Change.Version == first.Version && (!f.Forgotten || f.Conflict) {
			t.Errorf("what replaced something that was pruned: %+v, want that it is forgotten, and no conflict", f)
		}
	}
	if _, err := s.Undo(first.Version); err == nil || !strings.Contains(err.Error(), `what setting "a" had before is not kept any more`) {
		t.Errorf("undo of what replaced something that was pruned: %v", err)
	}
}

func TestParseTime(t *testing.T) {
	for _, want := range []Time{{Wall: 1767225600000, Counter: 7, Node: "eu-1"}, {Wall: 1, Node: "a@b.c"}} {
		if got, err := ParseTime(want.String()); err != nil || got != want {
			t.Errorf("%v: %v, %v", want, got, err)
		}
	}
	for _, text := range []string{"", "1", "1.2", "1.2@", "-1.2@a", "1.4294967296@a", "01.2@a", "+1.0@a", "1.2@" + strings.Repeat("n", 65), "x.1@a"} {
		if got, err := ParseTime(text); err == nil {
			t.Errorf("%q reads as %v", text, got)
		}
	}
}
