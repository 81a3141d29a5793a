package states

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/topology"
)

// The source's leader does not have the epoch of our last record at all, and its log is longer than what was copied: other records stand where
// ours stood. An older leader wrote them.
func TestStates_TruncatedSourceWithoutItsEpoch(t *testing.T) {
	play(t, "truncated_source = \"keep\"", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		kept := s.snapshot("eu")
		s.elects("eu")
		s.write(topic, words("b", 3)...)
		s.holds(topic, append(words("a", 5), words("b", 3)...)...)
		s.node.Stop()
		s.loses("eu", kept)
		s.write(topic, words("c", 6)...)
		s.elects("eu")
		s.elects("eu")
		s.write(topic, "d")
		s.start("n2")
		s.becomes(mirror.StateHalted, mirror.CauseSourceLost, "offsets 5 to 7")
		s.holds(topic, slices.Concat(words("a", 5), words("b", 3), words("c", 6), []string{"d"})...)
		s.ledger("truncated-source 5-7 3 keep")
		s.goesOn()
	})
}

// The target has records that no checkpoint covers, and that the source has lost since: they are counted there.
func TestStates_TruncatedSourceBehindTheCheckpoint(t *testing.T) {
	config := mirror.Config{CheckpointEvery: 100 * time.Hour}
	playWith(t, "truncated_source = \"keep\"", config, func(s *stage) {
		s.write(topic, words("a", 2)...)
		s.holds(topic, words("a", 2)...)
		kept := s.snapshot("eu")
		s.write(topic, words("b", 3)...)
		s.holds(topic, append(words("a", 2), words("b", 3)...)...)
		s.node.Kill()
		s.loses("eu", kept)
		s.start("n2")
		s.until(2*time.Minute, "it is halted", func() (bool, string) { return s.pump().Cause == mirror.CauseSourceLost, s.said() })
		s.write(topic, "c")
		s.until(2*time.Minute, "it goes on", func() (bool, string) { return slices.Contains(s.read("us", topic), "c"), s.said() })
		s.holds(topic, slices.Concat(words("a", 2), words("b", 3), []string{"c"})...)
		s.ledger("truncated-source 2-4 3 keep")
		s.translated(2, 5)
		s.goesOn()
	})
}

// The same, and the source has been written to since, before anybody looks: what it has there now is not what the target has. It is frozen too.
func TestStates_TruncatedSourceRefilledBehindTheCheckpoint(t *testing.T) {
	config := mirror.Config{CheckpointEvery: 100 * time.Hour}
	playWith(t, "", config, func(s *stage) {
		s.write(topic, words("a", 2)...)
		s.holds(topic, words("a", 2)...)
		kept := s.snapshot("eu")
		s.again("n2") // whose checkpoint is there
		s.holds(topic, words("a", 2)...)
		s.write(topic, words("b", 3)...)
		all := append(words("a", 2), words("b", 3)...)
		s.holds(topic, all...)
		s.node.Kill()
		s.loses("eu", kept)
		s.elects("eu")
		s.write(topic, words("c", 5)...)
		s.start("n3")
		s.until(2*time.Minute, "it is halted", func() (bool, string) { return s.pump().Cause == mirror.CauseSourceLost, s.said() })
		s.holds(topic, all...)
		s.ledger()
		s.set(func(p *topology.Policy) { p.TruncatedSource = topology.KeepTruncated })
		all = append(all, words("c", 5)...)
		s.holds(topic, all...)
		s.ledger("truncated-source 2-4 3 keep")
		s.again("n4")
		s.write(topic, "d")
		s.holds(topic, append(all, "d")...)
		s.goesOn()
	})
}

// What the target lost is copied again behind what others have written there since: the map says where, and no longer where it was.
func TestStates_TruncatedTargetWithOthersInItsPlace(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		kept := s.snapshot("us")
		s.write(topic, words("b", 3)...)
		s.holds(topic, append(words("a", 5), words("b", 3)...)...)
		s.node.Stop()
		s.loses("us", kept)
		s.writeTo("us", topic, "mine")
		s.elects("us")
		s.start("n2")
		s.holds(topic, slices.Concat(words("a", 5), []string{"mine"}, words("b", 3))...)
		for range 2 {
			for source, target := range []int64{0, 1, 2, 3, 4, 6, 7, 8} {
				s.translated(int64(source), target)
			}
			s.again("n3")
			s.becomes(mirror.StateRunning, "")
		}
	})
}

// The durable state is gone: nothing tells what was copied. The partition stays halted until somebody says where it goes on.
func TestStates_Unanchored(t *testing.T) {
	play(t, "truncated_source = \"keep\"\nrecreated = \"new-incarnation\"", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		s.node.Stop()
		for _, name := range []string{"__isthmus.checkpoints", "__isthmus.map"} {
			if err := s.Clusters["us"].DeleteTopic(name); err != nil {
				t.Fatal(err)
			}
		}
		s.write(topic, words("b", 4)...)
		s.start("n2")
		s.becomes(mirror.StateHalted, mirror.CauseUnanchored)
		time.Sleep(5 * time.Minute)
		s.becomes(mirror.StateHalted, mirror.CauseUnanchored)
		s.anchor(7, mirror.AnchorPlan{Before: 0, After: 7, Lost: 7}) // of which the target has some, but nothing says so
		s.holds(topic, append(words("a", 5), "b-2", "b-3")...)
		s.again("n3")
		s.write(topic, "c")
		s.holds(topic, append(words("a", 5), "b-2", "b-3", "c")...)
	})
}
