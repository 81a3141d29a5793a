package drill

import (
	"cmp"
	"fmt"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// preconditions are all checks of a drill, from what a switch would look at, how exposed clients are, and who is there. It is pure.
func preconditions(cfg Config, dry *adminpb.SwitchProgress, ready *adminpb.ReadyResponse, nodes *adminpb.NodesResponse) (out []Check) {
	for _, c := range dry.GetChecks() {
		out = append(out, Check{c.GetName(), c.GetOk(), c.GetWarning(), c.GetText()})
	}
	for _, c := range ready.GetChecks() { // what only a drill needs
		if c.GetName() == "canary" || c.GetName() == "partitions" {
			out = append(out, Check{c.GetName(), c.GetOk(), c.GetWarning(), c.GetText()})
		}
	}
	out = append(out, checkNodes(nodes))
	if cfg.Mode != Failover {
		return out
	}
	loss := ready.GetLoss()
	switch lost := loss.GetRecords(); {
	case lost < 0:
		out = append(out, Check{Name: "loss", Text: "it is not known what would be lost: " + loss.GetTrouble()})
	case lost > cfg.AcceptLoss:
		out = append(out, Check{Name: "loss", Text: fmt.Sprintf("at most %d records would be missing, and --accept-loss is %d: wait for the mirror, or accept them", lost, cfg.AcceptLoss)})
	default:
		out = append(out, Check{Name: "loss", OK: true, Warning: lost > 0, Text: fmt.Sprintf("at most %d records would be missing, and %d are accepted", lost, cfg.AcceptLoss)})
	}
	return out
}

// checkNodes looks whether the members of the fabric are well and run the same.
func checkNodes(nodes *adminpb.NodesResponse) Check {
	var there, of int
	var divergent string
	for _, m := range nodes.GetMembers() {
		if m.GetStatus() == adminpb.MemberStatus_MEMBER_STATUS_LEFT {
			continue
		}
		of++
		if m.GetStatus() == adminpb.MemberStatus_MEMBER_STATUS_ALIVE {
			there++
		}
		if m.GetDivergent() {
			divergent = cmp.Or(divergent, m.GetName())
		}
	}
	c := Check{Name: "nodes", OK: true, Text: fmt.Sprintf("%d of %d nodes are there, and run the same", there, of)}
	switch {
	case divergent != "":
		c.Warning, c.Text = true, fmt.Sprintf("%d of %d nodes are there; the configuration of %s is another", there, of, divergent)
	case there < of:
		c.Warning, c.Text = true, fmt.Sprintf("%d of %d nodes are there", there, of)
	}
	return c
}

// forbidding are the checks that do not let a switch begin.
func forbidding(checks []*adminpb.SwitchCheck) (out []string) {
	for _, c := range checks {
		if !c.GetOk() {
			out = append(out, c.GetName()+": "+c.GetText())
		}
	}
	return out
}

// exposureOf is what a loss of the home would cost.
func exposureOf(r *adminpb.ReadyResponse) Exposure {
	return Exposure{Records: r.GetLoss().GetRecords(), Partitions: r.GetLoss().GetPartitions(), Behind: r.GetLoss().GetBehind(), Seconds: r.GetLoss().GetSeconds(),
		Groups: r.GetGroups().GetGroups(), Reread: r.GetGroups().GetReread(), Wait: r.GetTime().GetSeconds(), WaitBy: r.GetTime().GetBy()}
}

// legOf is a switch as its last message tells.
func legOf(m *adminpb.SwitchProgress, kind adminpb.SwitchKind, to string, began time.Time) *Leg {
	leg := &Leg{Kind: admin.Name(kind), From: m.GetFrom(), To: cmp.Or(m.GetTo(), to), Switch: m.GetId(), Outcome: m.GetOutcome(), Why: m.GetWhy(), Began: began, Gap: m.GetGapSeconds(), Steps: []Step{}}
	for _, s := range m.GetSteps() {
		leg.Steps = append(leg.Steps, Step{s.GetName(), s.GetBegan().AsTime().Sub(m.GetBegan().AsTime()).Seconds(), s.GetSeconds()})
	}
	return leg
}

// judged is what was not good enough of a switch.
func (d *drill) judged(leg *Leg) (failures []string) { return judgeLeg(d.Config, leg) }

// judgeLeg is judged. It is pure.
func judgeLeg(cfg Config, leg *Leg) (failures []string) {
	fail := func(format string, args ...any) {
		failures = append(failures, fmt.Sprintf("%s switch to %s: ", leg.Kind, leg.To)+fmt.Sprintf(format, args...))
	}
	if leg.Outcome != "committed" {
		fail("%s: %s", leg.Outcome, leg.Why)
		return failures
	}
	c := leg.Canary
	if c.Outage > cfg.RTO.Seconds() {
		fail("no write was acknowledged for %.3f s, and %v is the objective", c.Outage, cfg.RTO)
	}
	if c.Failed > 0 {
		fail("%d writes of the canary failed", c.Failed)
	}
	if n := c.Writes - c.Acked - c.Failed; n > 0 {
		fail("%d writes of the canary were never answered", n)
	}
	if accept := acceptable(cfg, leg.Kind); c.Lost > accept {
		fail("%d records were acknowledged and cannot be read, and %d are accepted", c.Lost, accept)
	}
	if cfg.Mode != Failover && c.Doubled+c.Late > 0 { // behind a failover a tail may come late, and is read again by who has read it
		fail("%d records were read twice, and %d out of their order", c.Doubled, c.Late)
	}
	return failures
}

// acceptable is how many records a switch may lose.
func acceptable(cfg Config, kind string) int64 {
	if kind == "unplanned" {
		return cfg.AcceptLoss
	}
	return 0
}

// judgeAll is what was not good enough of a whole drill, beside its switches. It is pure.
func judgeAll(cfg Config, f Figures) (failures, warnings []string) {
	unplanned := cfg.Mode == Failover
	accept := int64(0)
	if unplanned {
		accept = cfg.AcceptLoss
	}
	switch {
	case f.Lost > accept:
		failures = append(failures, fmt.Sprintf("at the end %d records that were acknowledged cannot be read, and %d are accepted", f.Lost, accept))
	case f.Lost > 0:
		warnings = append(warnings, fmt.Sprintf("%d records that were acknowledged cannot be read", f.Lost))
	}
	if f.Doubled+f.Late > 0 {
		text := fmt.Sprintf("%d records were read twice, and %d out of their order", f.Doubled, f.Late)
		if unplanned { // a tail that comes late does that
			warnings = append(warnings, text)
		} else {
			failures = append(failures, text)
		}
	}
	return failures, warnings
}

// verdictOf is the verdict of a drill that was begun. It is pure.
func verdictOf(r *Report) Verdict {
	for _, l := range r.Legs {
		if l.Outcome == "unknown" {
			return Unknown
		}
	}
	switch {
	case len(r.Legs) > 0 && r.Legs[0].Outcome == "refused":
		return Refused
	case len(r.Legs) > 0 && (r.Legs[0].Outcome == "aborted" || r.Legs[0].Outcome == "beaten"):
		return Aborted
	case len(r.Failures) > 0:
		return Fail
	}
	return Pass
}

// steps are what a drill would do, for people.
func steps(cfg Config, from, to string) []string {
	out := []string{fmt.Sprintf("make the canary's topic %s if it is not there, and write to each of its partitions every %v, through the doors of router %s", cfg.Topic, Every, cfg.Router),
		fmt.Sprintf("wait until a switch may begin, at most %v, and %v more", readyWithin, cfg.Settle)}
	switch cfg.Mode {
	case Failover:
		out = append(out, fmt.Sprintf("failover from %s, which is taken for dead, to %s", from, to))
	case Failback:
		out = append(out, fmt.Sprintf("failback from %s to %s", from, to))
	default:
		out = append(out, fmt.Sprintf("switchover from %s to %s", from, to))
	}
	out = append(out, fmt.Sprintf("verify for %v: no write waits longer than %v, at most %d records are lost, none is doubled", cfg.Settle, cfg.RTO, cfg.AcceptLoss))
	if !cfg.Stay {
		out = append(out, fmt.Sprintf("where that fails, back to %s", from))
	}
	if cfg.Back {
		out = append(out, fmt.Sprintf("failback to %s, and verify again", from))
	}
	return append(out, "read back all that the canary wrote, judge it, and note the drill in the fabric")
}
