package drill

import (
	"fmt"
	"strings"
	"time"
)

// Text tells a person of a drill: a line for each thing that was looked at, done and measured. Lines that are long are those that somebody should read.
func (r *Report) Text() string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s  %s\n", head, strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
	}
	what := r.Router
	if r.Set != "" {
		what += "/" + r.Set
	}
	line("DRILL", "%s %s %s→%s id=%s at=%s %s", r.Mode, what, r.From, r.To, r.ID, r.Began.UTC().Format(time.RFC3339), quoted(r.Why))
	r.precheck(line)
	for i, s := range r.Steps {
		line(once(i == 0, "STEPS"), "%d. %s", i+1, s)
	}
	for _, l := range r.Legs {
		l.text(line)
	}
	if r.Rehearsal != nil {
		r.Rehearsal.text(line)
	}
	if r.Result != nil {
		r.Result.text(line, r)
	}
	for i, f := range r.Failures {
		line(once(i == 0, "FAILED"), "%s", f)
	}
	warnings := ""
	if n := len(r.Warnings); n > 0 {
		warnings = fmt.Sprintf(" (%d warnings)", n)
	}
	line("VERDICT", "%s%s after %.1f s", strings.ToUpper(string(r.Verdict)), warnings, r.Ended.Sub(r.Began).Seconds())
	return b.String()
}

func quoted(why string) string {
	if why == "" {
		return ""
	}
	return fmt.Sprintf("why=%q", why)
}

// once is a head, for the first of several lines.
func once(first bool, head string) string {
	if first {
		return head
	}
	return ""
}

// precheck tells the checks that are well on one line, and each other one on its own.
func (r *Report) precheck(line func(head, format string, args ...any)) {
	head := "PRECHECK"
	var well []string
	for _, c := range r.Checks {
		if c.OK && !c.Warning {
			well = append(well, c.Name)
		}
	}
	if len(well) > 0 {
		line(head, "ok %s", strings.Join(well, ", "))
		head = ""
	}
	for _, c := range r.Checks {
		if c.OK && !c.Warning {
			continue
		}
		result := "NO"
		if c.OK {
			result = "WARNING"
		}
		line(head, "%s %s: %s", result, c.Name, c.Text)
		head = ""
	}
	e := r.Before
	switch {
	case e.Records < 0:
		line("EXPOSED", "nobody knows what a loss of %s would cost now", r.From)
	case e.Records == 0:
		line("EXPOSED", "nothing: all of %d partitions is mirrored; %d groups would read %d records again", e.Partitions, e.Groups, e.Reread)
	default:
		line("EXPOSED", "at most %d records of %d of %d partitions, the oldest %.1f s; %d groups would read %d records again", e.Records, e.Behind, e.Partitions, max(0, e.Seconds), e.Groups, e.Reread)
	}
	if e.WaitBy != "" {
		line("EXPECTED", "clients wait for %.2f s, by %s", e.Wait, e.WaitBy)
	}
}

// text tells of one switch.
func (l *Leg) text(line func(head, format string, args ...any)) {
	back := ""
	if l.Back {
		back = ", because it was not good enough"
	}
	line("SWITCH", "%s %s→%s: %s%s%s", l.Kind, l.From, l.To, l.Outcome, because(l.Why), back)
	var steps []string
	for _, s := range l.Steps {
		steps = append(steps, fmt.Sprintf("+%.3f %s", s.At, s.Name))
	}
	if len(steps) > 0 {
		line("", "%s +%.3f end", strings.Join(steps, "  "), l.Seconds)
	}
	if e := l.Exposed; l.Kind == "unplanned" {
		line("", "just before, at most %d records were not mirrored, the oldest %.1f s", e.Records, max(0, e.Seconds))
	}
	c := l.Canary
	line("CANARY", "no write acknowledged for %.3f s from +%.3f on; the longest wait of a write %.3f s, of a reader %.3f s; %d of %d writes acknowledged, %d failed",
		c.Outage, c.OutageAt, c.Wait, c.ReadGap, c.Acked, c.Writes, c.Failed)
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// text tells what was measured as a whole.
func (x *Result) text(line func(head, format string, args ...any), r *Report) {
	line("RESULT", "RTO %.3f s (objective %.0f)", x.RTOSeconds, r.Objective.RTOSeconds)
	line("", "RPO %d records, %.1f s (accepted %d); %d of %d acknowledged records read back, %d twice, %d late",
		x.RPORecords, x.RPOSeconds, r.Objective.AcceptLoss, x.Canary.Acked-x.Canary.Lost, x.Canary.Acked, x.Canary.Doubled, x.Canary.Late)
	for _, l := range x.Canary.Losses {
		line("", "lost: partition %d of the canary, %d records from number %d to %d", l.Partition, l.Records, l.First, l.Last)
	}
}

// text tells what a rehearsal tried.
func (x *Rehearsal) text(line func(head, format string, args ...any)) {
	var steps []string
	for _, s := range x.Steps {
		steps = append(steps, fmt.Sprintf("%s %.3f s", s.Name, s.Seconds))
	}
	if x.Shadowed {
		line("REHEARSED", "%d records of shadow topic %s; %s", x.Records, x.Topic, strings.Join(steps, ", "))
	} else {
		line("REHEARSED", "without shadow topic %s, which no link carries; %s", x.Topic, strings.Join(steps, ", "))
	}
	line("", "a switch would have taken at least %.3f s for these", x.Seconds)
}
