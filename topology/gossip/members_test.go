package gossip

import (
	"testing"
	"time"
)

// somebody says something of x, and how surely.
type saying struct {
	by   string
	of   string
	sure bool
}

func TestMembers_WhoIsLost(t *testing.T) {
	// One watcher of x in each data center, and two more nodes for each to be watched by.
	dcs := map[string]string{"self": "a", "x": "b", "a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c", "c2": "c"}
	fresh := func() (*members, []string) {
		now := time.Unix(1000, 0)
		m := newMembers("self", func() time.Time { return now })
		for name, dc := range dcs {
			m.join(name, "10.0.0.1:1", meta{Started: 1, DC: dc})
		}
		byDC := make([]string, 3)
		for _, w := range m.watch("x") {
			byDC[dcs[w][0]-'a'] = w
		}
		return m, byDC
	}
	_, of := fresh()
	near, home, far := of[0], of[1], of[2]
	beside := "a1" // another one of near's data center
	if near == beside {
		beside = "a2"
	}
	for _, tc := range []struct {
		name string
		say  []saying
		want bool
	}{
		{"nobody says so", nil, false},
		{"one of three says so", []saying{{near, "x", false}}, false},
		{"one of three is sure", []saying{{near, "x", true}}, false},
		{"two of three say so", []saying{{near, "x", false}, {far, "x", false}}, false},
		{"all three say so", []saying{{near, "x", false}, {home, "x", false}, {far, "x", false}}, true},
		{"two say so, and two that the third is lost as well", []saying{{near, "x", false}, {far, "x", false}, {near, home, false}, {far, home, false}}, true},
		{"two say so, and one that the third is lost as well", []saying{{near, "x", false}, {far, "x", false}, {near, home, false}}, false},
		{"one is sure, behind a cut of its data center from x's; one is wrong", []saying{{near, "x", true}, {far, "x", false}, {near, home, true}}, false},
		{"two say so, one is wrong; one data center says of the third that it is lost", []saying{{near, "x", false}, {far, "x", false}, {near, home, true}, {beside, home, false}}, false},
		{"two are sure; one data center says of the third that it is lost", []saying{{near, "x", true}, {far, "x", true}, {near, home, true}, {beside, home, false}}, true},
		{"one says so, and that all others are lost", []saying{{near, "x", false}, {near, home, false}, {near, far, false}}, false},
		{"one is sure of x and of all others", []saying{{near, "x", true}, {near, home, true}, {near, far, true}}, true},
	} {
		m, _ := fresh()
		for i, s := range tc.say {
			m.sight(s.by, sighting{Node: s.of, Started: 1, By: 1, Count: uint64(i + 1), Lost: true, Sure: s.sure})
		}
		if got := m.peers["x"].status == Dead; got != tc.want {
			t.Errorf("%s: lost is %v, want %v", tc.name, got, tc.want)
		}
		if tc.want {
			m.sight(near, sighting{Node: "x", Started: 1, By: 1, Count: 99})
			if m.peers["x"].status != Alive {
				t.Errorf("%s, but it is seen again: it is %s, want alive", tc.name, m.peers["x"].status)
			}
		}
	}
}

// A watcher was wrong for a moment, and that it sees the node again never arrives: behind a cut of one direction another data center goes on
// saying that the node is lost, for ever, and that alone is not enough.
func TestMembers_WhoIsLostByMistakeComesBack(t *testing.T) {
	now := time.Unix(1000, 0)
	m := newMembers("self", func() time.Time { return now })
	for name, dc := range map[string]string{"self": "b", "x": "a", "a1": "a", "b1": "b", "c1": "c"} {
		m.join(name, "10.0.0.1:1", meta{Started: 1, DC: dc})
	}
	count := uint64(0)
	say := func(by string) {
		count++
		m.sight(by, sighting{Node: "x", Started: 1, By: 1, Count: count, Lost: true, Sure: true})
	}
	for _, by := range m.watch("x") {
		say(by)
	}
	if m.peers["x"].status != Dead {
		t.Fatalf("all watchers lost it: it is %s", m.peers["x"].status)
	}
	for range 4 {
		now = now.Add(repeatLost)
		for _, by := range m.watch("x") {
			if m.peers[by].dc == "b" {
				say(by)
			}
		}
	}
	if m.settleAll(); m.peers["x"].status != Alive {
		t.Errorf("only one data center still says so: it is %s, want alive", m.peers["x"].status)
	}
}

func TestMembers_WordsCountForOneLifeAndATime(t *testing.T) {
	now := time.Unix(1000, 0)
	m := newMembers("self", func() time.Time { return now })
	m.join("self", "10.0.0.1:1", meta{Started: 1})
	m.join("x", "10.0.0.2:1", meta{Started: 2})
	if _, changed := m.sight("self", sighting{Node: "x", Started: 1, By: 1, Count: 1, Lost: true}); changed {
		t.Error("a word about the life before counts")
	}
	if _, changed := m.sight("self", sighting{Node: "x", Started: 2, By: 1, Count: 2, Lost: true}); !changed || m.peers["x"].status != Dead {
		t.Error("the word of the only watcher does not count")
	}
	if news, _ := m.sight("self", sighting{Node: "x", Started: 2, By: 1, Count: 1}); news {
		t.Error("an older word replaced a newer one")
	}
	now = now.Add(sightingLife)
	if m.settleAll(); m.peers["x"].status != Alive {
		t.Error("a word that nobody repeats counts for ever")
	}
	m.leave("x")
	if m.settleAll(); m.peers["x"].status != Alive {
		t.Error("a node counts as dead as soon as membership doubts it")
	}
	now = now.Add(doubt)
	if m.settleAll(); m.peers["x"].status != Dead {
		t.Error("a node that membership lost counts as alive for ever")
	}
}
