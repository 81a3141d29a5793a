package main

import (
	"fmt"
	"io"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/router/switchover"
)

// stepsShown shows the steps of a switch as they come, on the error stream, so that how it ended can go elsewhere: with marks on a terminal, else a line when one
// begins, or waits for something else.
type stepsShown struct {
	out    io.Writer
	live   bool // a terminal
	silent bool
	done   int    // steps that were shown to their end, on a terminal; that were begun, elsewhere
	doing  string // what the last line said
	drawn  bool   // there is a line without an end
}

func newStepsShown(t terminal, silent bool) *stepsShown {
	return &stepsShown{out: t.err, live: isTerminal(t.err) && t.env("TERM") != "dumb", silent: silent}
}

func (s *stepsShown) show(m *adminpb.SwitchProgress) {
	switch {
	case s.silent:
	case s.live:
		s.draw(m)
	case !m.GetDryRun():
		s.say(m)
	}
}

// draw writes over the step that is under way.
func (s *stepsShown) draw(m *adminpb.SwitchProgress) {
	ended := m.GetStep() == string(switchover.Idle)
	steps := m.GetSteps()
	for ; s.done < len(steps) && (ended || s.done < len(steps)-1); s.done++ {
		mark := "✓"
		if stepFailed(m, s.done) {
			mark = "✗"
		}
		fmt.Fprintf(s.out, "\r%s %-9s  %6s\x1b[K\n", mark, steps[s.done].GetName(), age(steps[s.done].GetSeconds()))
		s.drawn = false
	}
	if s.done < len(steps) {
		fmt.Fprintf(s.out, "\r… %-9s  %6s  %s\x1b[K", steps[s.done].GetName(), age(steps[s.done].GetSeconds()), oneLine(m.GetDoing()))
		s.drawn = true
	}
}

// stepFailed tells whether a step that is over did not come to its good end.
func stepFailed(m *adminpb.SwitchProgress, i int) bool {
	if i+1 < len(m.GetSteps()) {
		return m.GetSteps()[i+1].GetName() == string(switchover.Rollback)
	}
	switch switchover.Outcome(m.GetOutcome()) {
	case switchover.Refused, switchover.Beaten, switchover.Unknown:
		return true
	}
	return false
}

// say writes a line for each step that has begun.
func (s *stepsShown) say(m *adminpb.SwitchProgress) {
	steps := m.GetSteps()
	for ; s.done < len(steps); s.done++ {
		fmt.Fprintf(s.out, "+%s %s\n", since(m.GetBegan().AsTime(), steps[s.done].GetBegan().AsTime()), steps[s.done].GetName())
		s.doing = ""
	}
	at := since(m.GetBegan().AsTime(), m.GetAt().AsTime())
	if doing := oneLine(m.GetDoing()); doing != "" && doing != s.doing {
		fmt.Fprintf(s.out, "+%s %s: %s\n", at, m.GetStep(), doing)
		s.doing = doing
	}
	if m.GetStep() == string(switchover.Idle) {
		fmt.Fprintf(s.out, "+%s %s\n", at, m.GetOutcome())
	}
}

// clear ends the line of a step that did not end.
func (s *stepsShown) clear() {
	if s.drawn {
		fmt.Fprintln(s.out)
	}
}
