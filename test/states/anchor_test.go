package states

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
)

// anchor asks for a dry run first: it must say what the run does, and change nothing.
func (s *stage) anchor(at mirror.AnchorAt, want mirror.AnchorPlan) {
	s.t.Helper()
	r := mirror.AnchorRequest{Link: "eu-us", Topic: topic, At: at, Why: "for a test", Author: "ops", DryRun: true}
	before := s.said()
	dry, err := s.node.Set.Anchor(context.Background(), r)
	if err != nil {
		s.t.Fatalf("dry run: %v", err)
	}
	if now := s.said(); now != before {
		s.t.Errorf("a dry run changed something: %s, it was %s", now, before)
	}
	r.DryRun = false
	run, err := s.node.Set.Anchor(context.Background(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, p := range map[string]mirror.AnchorPlan{"dry run": dry, "run": run} {
		if p.Before != want.Before || p.After != want.After || p.Lost != want.Lost || p.Doubled != want.Doubled {
			s.t.Errorf("%s: from %d to %d, %d lost, %d doubled; want from %d to %d, %d lost, %d doubled: %s", name, p.Before, p.After, p.Lost, p.Doubled,
				want.Before, want.After, want.Lost, want.Doubled, strings.Join(p.Lines, "; "))
		}
		if len(p.Lines) == 0 || len(p.Entries) != len(dry.Entries) {
			s.t.Errorf("%s: lines %q, %d entries, %d by the dry run", name, p.Lines, len(p.Entries), len(dry.Entries))
		}
	}
}

// A pump that runs is anchored further on and further back: what is left out and what is doubled is said before, and is in the ledger. Who comes
// later goes on from there.
func TestAnchor_OnAndBack(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 6)...)
		s.holds(topic, words("a", 6)...)
		s.anchor(2, mirror.AnchorPlan{Before: 6, After: 2, Doubled: 4})
		s.holds(topic, append(words("a", 6), "a-2", "a-3", "a-4", "a-5")...)
		s.ledger("repeated 2-5 4")
		if n := s.metric("isthmus_mirror_duplicate_records_total", map[string]string{"topic": topic}); n != 4 {
			t.Errorf("%v doubled", n)
		}
		s.again("n2")
		s.write(topic, "b")
		all := append(words("a", 6), "a-2", "a-3", "a-4", "a-5", "b")
		s.holds(topic, all...)
		s.ledger("repeated 2-5 4")
		s.paused("not now")
		s.write(topic, words("c", 5)...)
		s.anchor(10, mirror.AnchorPlan{Before: 7, After: 10, Lost: 3})
		s.ledger("repeated 2-5 4", "anchored 7-9 3")
		s.node.Stop() // right after it, and paused
		s.start("n3")
		s.holds(topic, append(all, "c-3", "c-4")...)
		s.goesOn()
	})
}

// Everything that halts has an anchor as its way out.
func TestAnchor_OutOfHalts(t *testing.T) {
	t.Run("truncated source", func(t *testing.T) {
		play(t, "", func(s *stage) {
			s.write(topic, words("a", 5)...)
			s.holds(topic, words("a", 5)...)
			kept := s.snapshot("eu")
			s.write(topic, words("b", 3)...)
			s.holds(topic, append(words("a", 5), words("b", 3)...)...)
			s.loses("eu", kept)
			s.elects("eu")
			s.write(topic, words("c", 4)...)
			s.becomes(mirror.StateHalted, mirror.CauseSourceLost)
			s.anchor(6, mirror.AnchorPlan{Before: 8, After: 6, Lost: 1})
			all := slices.Concat(words("a", 5), words("b", 3), []string{"c-1", "c-2", "c-3"})
			s.holds(topic, all...)
			s.ledger("truncated-source 5-7 3", "anchored 5-5 1")
			s.again("n2")
			s.write(topic, "d")
			s.holds(topic, append(all, "d")...)
		})
	})
	t.Run("recreated source", func(t *testing.T) {
		play(t, "", func(s *stage) {
			s.write(topic, words("a", 5)...)
			s.holds(topic, words("a", 5)...)
			s.recreate("eu")
			s.write(topic, words("b", 7)...)
			s.becomes(mirror.StateHalted, mirror.CauseRecreated)
			s.anchor(mirror.AnchorEnd, mirror.AnchorPlan{Before: 5, After: 7, Lost: 7})
			s.ledger("recreated 5-5 0", "anchored 0-6 7")
			s.write(topic, "c")
			s.holds(topic, append(words("a", 5), "c")...)
		})
	})
	t.Run("recreated target", func(t *testing.T) {
		play(t, "", func(s *stage) {
			s.write(topic, words("a", 5)...)
			s.holds(topic, words("a", 5)...)
			s.recreate("us")
			s.becomes(mirror.StateHalted, mirror.CauseRecreated)
			s.anchor(mirror.AnchorStart, mirror.AnchorPlan{Before: 5, After: 0})
			s.holds(topic, words("a", 5)...)
			s.ledger("recreated 0-4 0", "repeated 0-4 5")
			s.again("n2")
			s.write(topic, "c")
			s.holds(topic, append(words("a", 5), "c")...)
		})
	})
}

// What cannot be is said clearly.
func TestAnchor_Refuses(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 5)...)
		s.holds(topic, words("a", 5)...)
		for _, tc := range []struct {
			r    mirror.AnchorRequest
			want error
			says string
		}{
			{mirror.AnchorRequest{Link: "eu-us", Topic: topic, At: 6, Why: "x"}, mirror.ErrAnchor, "0 to 5"},
			{mirror.AnchorRequest{Link: "eu-us", Topic: topic, At: 0}, mirror.ErrAnchor, "why"},
			{mirror.AnchorRequest{Link: "us-eu", Topic: topic, Why: "x"}, mirror.ErrNoLink, "us-eu"},
			{mirror.AnchorRequest{Link: "eu-us", Topic: topic, Partition: 1, Why: "x"}, mirror.ErrUnknownPump, ":1"},
		} {
			if _, err := s.node.Set.Anchor(context.Background(), tc.r); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%+v: %v, want %v with %q", tc.r, err, tc.want, tc.says)
			}
		}
		time.Sleep(time.Second)
		s.becomes(mirror.StateRunning, "")
		s.ledger()
	})
}

// paused pauses the topic.
func (s *stage) paused(why string) {
	s.node.Set.SetPauses(func(_, name string, _ int32) (string, bool) { return why, name == topic })
	s.node.Set.Reconsider()
	s.becomes(mirror.StatePaused, mirror.CauseManual)
}
