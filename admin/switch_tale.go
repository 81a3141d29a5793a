package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// How much is told of a switch. More is left out, and the last of what is told says so.
const (
	maxSwitchChecks    = 200
	maxSwitchStandings = 1000
	maxSwitchSteps     = 64
	maxSwitchText      = 2 << 10
)

// idleStep is the step of a switch that has ended.
const idleStep = "idle"

// tale is all that was told of a switch. Who tells it never waits for who listens.
type tale struct {
	gone  <-chan struct{} // closed when nobody listens any more
	clock func() time.Time
	wake  chan struct{} // has one in it when there is news

	mu  sync.Mutex
	all *adminpb.SwitchProgress
}

// newTale begins with what is known before anything was told.
func newTale(known *adminpb.SwitchProgress, gone <-chan struct{}, clock func() time.Time) *tale {
	return &tale{gone: gone, clock: clock, wake: make(chan struct{}, 1), all: known}
}

// tell adds news. Its error says that nobody listens.
func (t *tale) tell(news *adminpb.SwitchProgress) error {
	t.mu.Lock()
	addNews(t.all, sendable(news), t.clock())
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	select {
	case <-t.gone:
		return errGone
	default:
		return nil
	}
}

// goesOn tells that nothing is new, but that a step takes longer.
func (t *tale) goesOn() {
	if t.known().GetStep() != "" {
		_ = t.tell(&adminpb.SwitchProgress{}) // who has gone is not told
	}
}

// known is what is known by now.
func (t *tale) known() *adminpb.SwitchProgress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return proto.CloneOf(t.all)
}

// end is the last message, whose outcome is never empty, or the error for a switch that was not tried.
func (t *tale) end(err error, token string) (*adminpb.SwitchProgress, error) {
	last := t.known()
	touched := last.GetStep() != "" && last.GetStep() != "preflight" && !last.GetDryRun()
	if err != nil && last.GetOutcome() == "" && !touched {
		return last, err
	}
	why := ""
	if err != nil {
		why = err.Error()
	}
	switch {
	case last.GetOutcome() != "":
	case !last.GetDryRun():
		last.Outcome, last.Why = "unknown", valid(clip(cmp.Or(why, last.GetWhy(), "the node did not say how it ended")))
	case slices.ContainsFunc(last.GetChecks(), func(c *adminpb.SwitchCheck) bool { return !c.GetOk() }):
		last.Outcome = "refused"
	default:
		last.Outcome = "ready"
	}
	if last.GetOutcome() == "refused" && last.GetWhy() == "" {
		last.Why = failedChecks(last.GetChecks())
	}
	if last.GetDryRun() && last.GetOutcome() == "ready" {
		last.Confirm = token
	}
	addNews(last, &adminpb.SwitchProgress{Step: idleStep}, t.clock())
	return last, nil
}

// failedChecks names the checks that forbid a switch.
func failedChecks(checks []*adminpb.SwitchCheck) string {
	var why []string
	for _, c := range checks {
		if !c.GetOk() {
			why = append(why, c.GetName()+": "+c.GetText())
		}
	}
	return clip(strings.Join(why, "; "))
}

// addNews adds to what is known of a switch what is told of it: what is not told stays. Steps are noted as they come. It is pure.
func addNews(all, news *adminpb.SwitchProgress, now time.Time) {
	at := timestamppb.New(now)
	if news.GetAt() != nil {
		at = news.GetAt()
	}
	if all.At = at; all.GetBegan() == nil {
		all.Began = at
	}
	if news.GetBegan() != nil {
		all.Began = news.GetBegan()
	}
	all.Id, all.From, all.To = cmp.Or(news.GetId(), all.GetId()), cmp.Or(news.GetFrom(), all.GetFrom()), cmp.Or(news.GetTo(), all.GetTo())
	all.Generation, all.GapSeconds = max(news.GetGeneration(), all.GetGeneration()), max(news.GetGapSeconds(), all.GetGapSeconds())
	all.Outcome, all.Why = cmp.Or(news.GetOutcome(), all.GetOutcome()), cmp.Or(news.GetWhy(), all.GetWhy())
	if len(news.GetChecks()) > 0 {
		all.Checks = news.GetChecks()
	}
	if news.GetTail() != nil {
		all.Tail = news.GetTail()
	}
	if len(news.GetStandings()) > 0 {
		all.Standings = news.GetStandings()
	}
	if news.GetStep() != "" && news.GetStep() != all.GetStep() {
		if n := len(all.GetSteps()); n > 0 && all.GetStep() != idleStep {
			endStep(all.GetSteps()[n-1], at)
		}
		if all.Step, all.Doing = news.GetStep(), ""; all.GetStep() != idleStep && len(all.GetSteps()) < maxSwitchSteps {
			all.Steps = append(all.Steps, &adminpb.SwitchStep{Name: all.GetStep(), Began: at})
		}
	}
	all.Doing = cmp.Or(news.GetDoing(), all.GetDoing())
	if n := len(all.GetSteps()); n > 0 && all.GetStep() != idleStep {
		endStep(all.GetSteps()[n-1], at)
	}
	if all.GetStep() == idleStep {
		all.Doing = ""
	}
}

// endStep says how long a step took, or takes so far.
func endStep(s *adminpb.SwitchStep, at *timestamppb.Timestamp) {
	s.Seconds = max(0, at.AsTime().Sub(s.GetBegan().AsTime()).Seconds())
}

// sendable is what is told, of a size that can be sent, with texts that can.
func sendable(m *adminpb.SwitchProgress) *adminpb.SwitchProgress {
	m = proto.CloneOf(m)
	text := func(s string) string {
		if len(s) > maxSwitchText {
			s = s[:maxSwitchText] + "..."
		}
		return valid(s)
	}
	m.Id, m.Step, m.Doing, m.Outcome, m.Why = text(m.GetId()), text(m.GetStep()), text(m.GetDoing()), text(m.GetOutcome()), text(m.GetWhy())
	m.From, m.To = text(m.GetFrom()), text(m.GetTo())
	if more := len(m.GetChecks()) - maxSwitchChecks; more > 0 {
		// Those that forbid the switch are told before the others.
		slices.SortStableFunc(m.Checks, func(a, b *adminpb.SwitchCheck) int { return cmp.Compare(rank(a), rank(b)) })
		m.Checks = append(m.Checks[:maxSwitchChecks:maxSwitchChecks], &adminpb.SwitchCheck{Name: "more", Ok: true, Warning: true, Text: fmt.Sprintf("%d more checks are not told", more)})
	}
	for _, c := range m.GetChecks() {
		c.Name, c.Text = text(c.GetName()), text(c.GetText())
	}
	if more := len(m.GetStandings()) - maxSwitchStandings; more > 0 {
		m.Standings = append(m.Standings[:maxSwitchStandings:maxSwitchStandings], &adminpb.SwitchStanding{Text: fmt.Sprintf("%d more instances are not told", more)})
	}
	for _, one := range m.GetStandings() {
		one.Node, one.Text = text(one.GetNode()), text(one.GetText())
	}
	return m
}

// rank orders checks by what they mean for the switch.
func rank(c *adminpb.SwitchCheck) int {
	switch {
	case !c.GetOk():
		return 0
	case c.GetWarning():
		return 1
	}
	return 2
}
