package node

import (
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/router/coordinator"
	"github.com/isthmus-project/isthmus/router/switchover"
)

// teller tells how far a switch is. One goroutine uses it.
type teller struct {
	tell  func(*adminpb.SwitchProgress) error
	order switchover.Order
	held  time.Time // since when clients cannot write; zero before
}

// step tells of the step that begins.
func (t *teller) step(s switchover.State, found coordinator.Found) {
	p := &adminpb.SwitchProgress{Id: t.order.Switch, To: t.order.To, From: t.order.From, Step: string(s.Step), Outcome: string(s.Outcome), Why: s.Why, Generation: s.Proposal.Generation,
		Checks: checksOf(found.Checks), Tail: tailOf(found.Loss)}
	if s.Outcome == switchover.Committed {
		p.Generation++
	}
	switch {
	case s.Step == switchover.Hold:
		t.held = time.Now()
	case !t.held.IsZero() && s.Step == switchover.Verify:
		p.GapSeconds = time.Since(t.held).Seconds()
	}
	_ = t.tell(p) // that nobody listens stops no switch
}

// mostStretches is how many are told.
const mostStretches = 1000

func tailOf(t *coordinator.Loss) *adminpb.SwitchTail {
	if t == nil {
		return nil
	}
	out := &adminpb.SwitchTail{Records: t.Records, Silent: t.Silent}
	for _, s := range t.Stretch[:min(len(t.Stretch), mostStretches)] {
		out.Partitions = append(out.Partitions, &adminpb.SwitchTailPartition{Topic: s.Topic, Partition: s.Partition, First: s.First, End: s.End})
	}
	return out
}

func checksOf(all []coordinator.Check) (out []*adminpb.SwitchCheck) {
	for _, c := range all {
		out = append(out, &adminpb.SwitchCheck{Name: c.Name, Ok: c.OK, Warning: c.Warning, Text: c.Text})
	}
	return out
}
