package strange

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
)

// TestStrange_EveryKindArrivesAsItWas writes every kind of data in three rounds, with a mirror that dies between two of them.
func TestStrange_EveryKindArrivesAsItWas(t *testing.T) {
	kafka.Require(t)
	eu, us := startSites(t)
	var grounds []*ground
	for _, k := range all() {
		g := &ground{TB: t, kind: k, eu: eu, us: us, topic: "s-" + k.name, log: judge.NewLog()}
		create(t, eu, g.topic, k.partitions, k.source...)
		if k.target != nil {
			create(t, us, g.topic, k.partitions, k.target...)
		}
		grounds = append(grounds, g)
	}
	write := func(round int, name string) {
		t.Run(name, func(t *testing.T) {
			for _, g := range grounds {
				t.Run(g.name, func(t *testing.T) { g.in(t).write(g, round) })
			}
		})
	}
	topo := mirrored(t, eu, us)
	write(roundBefore, "written before")
	first := run(t, topo, "first", mirror.Config{CheckpointEvery: time.Hour})
	write(roundLive, "written while")
	arrive(t, "first", first, grounds)
	first.die()
	write(roundDead, "written after")
	second := run(t, topo, "second", mirror.Config{})
	t.Run("trouble", func(t *testing.T) {
		for _, g := range grounds {
			if g.before != nil {
				t.Run(g.name, func(t *testing.T) { g.in(t).before(g, second) })
			}
		}
	})
	arrive(t, "second", second, grounds)
	t.Run("compared", func(t *testing.T) {
		for _, g := range grounds {
			t.Run(g.name, func(t *testing.T) {
				if g.in(t); g.seen != nil {
					g.seen(g, second)
				}
				if !g.table {
					g.judged()
				}
			})
		}
	})
	ledger, err := second.set.Ledger("")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ledger {
		t.Errorf("in the ledger, although nothing went wrong: %+v", e)
	}
}

// arrive waits until everything is copied.
func arrive(t *testing.T, name string, l *life, grounds []*ground) {
	t.Run(name+" copies", func(t *testing.T) {
		for _, g := range grounds {
			if !g.sick || name != "first" {
				t.Run(g.name, func(t *testing.T) { g.in(t).caughtUp(l) })
			}
		}
	})
}
