package states

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology"
)

// The source lost its end, which is on the target. The partition is frozen, and says what; by policy it goes on from where the source was cut.
func TestStates_TruncatedSource(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		kept := s.snapshot("eu")
		s.write(topic, words("b", 3)...)
		s.holds(topic, append(words("a", 5), words("b", 3)...)...)
		s.loses("eu", kept)
		s.becomes(mirror.StateHalted, mirror.CauseSourceLost, "offsets 5 to 7", "3 records", "offsets 5 to 7")
		s.goesOn()
		s.write(topic, words("c", 4)...) // longer than it was
		s.becomes(mirror.StateHalted, mirror.CauseSourceLost, "offsets 5 to 7")
		s.ledger()
		s.set(func(p *topology.Policy) { p.TruncatedSource = topology.KeepTruncated })
		all := slices.Concat(words("a", 5), words("b", 3), words("c", 4))
		s.until(8*time.Second, "it goes on by the new policy", func() (bool, string) { return s.pump().State == mirror.StateRunning, s.said() })
		s.holds(topic, all...)
		s.ledger("truncated-source 5-7 3 keep")
		if n := s.metric("isthmus_mirror_orphan_records_total", map[string]string{"topic": topic}); n != 3 {
			t.Errorf("%v orphans", n)
		}
		for source, target := range []int64{0, 1, 2, 3, 4, 8, 9, 10, 11} {
			s.translated(int64(source), target)
		}
		s.again("n2") // whoever comes later knows all of it
		s.write(topic, "d")
		s.holds(topic, append(all, "d")...)
		s.ledger("truncated-source 5-7 3 keep")
		for source, target := range []int64{0, 1, 2, 3, 4, 8, 9, 10, 11, 12} {
			s.translated(int64(source), target)
		}
		s.goesOn()
	})
}

// The target lost what it had acknowledged: it is copied again, in the next epoch, and nothing is there twice.
func TestStates_TruncatedTarget(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		kept := s.snapshot("us")
		s.write(topic, words("b", 3)...)
		all := append(words("a", 5), words("b", 3)...)
		s.holds(topic, all...)
		s.loses("us", kept)
		s.elects("us")
		s.becomes(mirror.StateHalted, mirror.CauseTargetLost, "up to offset 5", "at 7")
		s.goesOn()
		s.holds(topic, all...)
		s.ledger("repeated 5-7 3")
		if n := s.metric("isthmus_mirror_duplicate_records_total", map[string]string{"topic": topic}); n != 0 {
			t.Errorf("%v doubled", n)
		}
		s.again("n2")
		s.write(topic, "c")
		s.holds(topic, append(all, "c")...)
		for at := range int64(9) {
			s.translated(at, at)
		}
		s.goesOn()
	})
}

// What the target lost and the source no longer has is in the ledger, exactly.
func TestStates_TruncatedTargetBehindRetention(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		kept := s.snapshot("us")
		s.write(topic, words("b", 4)...)
		s.holds(topic, append(words("a", 5), words("b", 4)...)...)
		if err := s.Clusters["eu"].DeleteRecords(topic, 0, 7); err != nil {
			t.Fatal(err)
		}
		s.loses("us", kept)
		s.elects("us")
		s.becomes(mirror.StateHalted, mirror.CauseTargetLost)
		s.goesOn()
		s.holds(topic, append(words("a", 5), "b-2", "b-3")...)
		s.ledger("truncated-target 5-6 2", "repeated 7-8 2")
		if n := s.metric("isthmus_mirror_lost_records_total", map[string]string{"topic": topic, "reason": "truncated-target"}); n != 2 {
			t.Errorf("%v lost", n)
		}
		s.again("n2")
		s.write(topic, "c")
		s.holds(topic, append(words("a", 5), "b-2", "b-3", "c")...)
	})
}

// The source deleted what was not copied yet: the copy goes on, and the ledger has what is missing.
func TestStates_BehindRetention(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		s.node.Stop()
		s.write(topic, words("b", 6)...)
		if err := s.Clusters["eu"].DeleteRecords(topic, 0, 8); err != nil {
			t.Fatal(err)
		}
		s.start("n2")
		s.holds(topic, append(words("a", 5), "b-3", "b-4", "b-5")...)
		s.ledger("behind-retention 5-7 3")
		if n := s.metric("isthmus_mirror_lost_records_total", map[string]string{"topic": topic, "reason": "behind-retention"}); n != 3 {
			t.Errorf("%v lost", n)
		}
		s.goesOn()
	})
}

// The source's topic is another one by now. The partition halts; by policy the new records come behind the old ones.
func TestStates_RecreatedSource(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		s.recreate("eu")
		s.write(topic, words("b", 7)...)
		s.becomes(mirror.StateHalted, mirror.CauseRecreated, "on eu")
		s.goesOn()
		s.ledger()
		s.set(func(p *topology.Policy) { p.Recreated = topology.NewIncarnation })
		all := append(words("a", 5), words("b", 7)...)
		s.holds(topic, all...)
		s.ledger("recreated 5-5 0 new-incarnation")
		for at := range int64(7) {
			s.translated(at, 5+at)
		}
		s.again("n2")
		s.write(topic, "c")
		s.holds(topic, append(all, "c")...)
		s.translated(7, 12)
		s.goesOn()
	})
}

// The topic grew, was written to there and was made anew while nobody looked: what the partition held that no pump ever saw is in the ledger as
// not known, once, and what it holds now is copied.
func TestStates_RecreatedSourceWithAPartitionNobodySaw(t *testing.T) {
	play(t, "recreated = \"new-incarnation\"", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		s.node.Stop()
		cl := s.client("eu")
		defer cl.Close()
		if _, err := kadm.NewClient(cl).UpdatePartitions(context.Background(), 2, topic); err != nil {
			t.Fatal(err)
		}
		s.writeAt("eu", topic, 1, words("x", 3)...)
		s.recreateWith("eu", 3) // nobody can tell that the last one is new
		s.write(topic, words("b", 7)...)
		s.writeAt("eu", topic, 1, words("y", 2)...)
		s.start("n2")
		s.holds(topic, append(words("a", 5), words("b", 7)...)...)
		another := func(want ...string) {
			s.until(time.Minute, "the other partition is copied", func() (bool, string) {
				got := s.readAt("us", topic, 1)
				return slices.Equal(got, want), strings.Join(got, " ")
			})
		}
		another(words("y", 2)...)
		want := []string{"recreated 0-0 -1", "recreated 0-0 -1", "recreated 5-5 -1 new-incarnation"}
		s.ledger(want...)
		s.again("n3")
		s.writeAt("eu", topic, 1, "z")
		another(append(words("y", 2), "z")...)
		s.ledger(want...)
		s.goesOn()
	})
}

// What the new topic lost before the partition went on in it is in the ledger, like what any source loses before it is copied.
func TestStates_RecreatedSourceBehindRetention(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		s.recreate("eu")
		s.write(topic, words("b", 7)...)
		s.becomes(mirror.StateHalted, mirror.CauseRecreated, "on eu")
		if err := s.Clusters["eu"].DeleteRecords(topic, 0, 3); err != nil {
			t.Fatal(err)
		}
		s.set(func(p *topology.Policy) { p.Recreated = topology.NewIncarnation })
		all := append(words("a", 5), "b-3", "b-4", "b-5", "b-6")
		s.holds(topic, all...)
		s.ledger("recreated 5-5 0 new-incarnation", "behind-retention 0-2 3")
		if n := s.metric("isthmus_mirror_lost_records_total", map[string]string{"topic": topic, "reason": "behind-retention"}); n != 3 {
			t.Errorf("%v lost, want 3", n)
		}
		s.again("n2")
		s.write(topic, "c")
		s.holds(topic, append(all, "c")...)
		s.goesOn()
	})
}

// The target's topic is another one by now: by policy everything that the source still has is copied again.
func TestStates_RecreatedTarget(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		if err := s.Clusters["eu"].DeleteRecords(topic, 0, 2); err != nil {
			t.Fatal(err)
		}
		s.recreate("us")
		s.becomes(mirror.StateHalted, mirror.CauseRecreated, "on us")
		s.goesOn()
		s.set(func(p *topology.Policy) { p.Recreated = topology.NewIncarnation })
		s.holds(topic, "a-2", "a-3", "a-4")
		s.ledger("recreated 2-4 0 new-incarnation", "repeated 2-4 3 new-incarnation", "truncated-target 0-1 2 new-incarnation")
		for at := range int64(3) {
			s.translated(2+at, at)
		}
		s.again("n2")
		s.write(topic, "c")
		s.holds(topic, "a-2", "a-3", "a-4", "c")
		s.goesOn()
	})
}

// A target that lost its end without an election: the next write finds it.
func TestStates_TruncatedTargetWithoutElection(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		kept := s.snapshot("us")
		s.write(topic, words("b", 3)...)
		s.holds(topic, append(words("a", 5), words("b", 3)...)...)
		s.loses("us", kept)
		s.write(topic, "c")
		s.becomes(mirror.StateHalted, mirror.CauseTargetLost, "up to offset 5", "at 7")
		s.holds(topic, slices.Concat(words("a", 5), words("b", 3), []string{"c"})...)
		s.ledger("repeated 5-7 3")
		s.goesOn()
	})
}
