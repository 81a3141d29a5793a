package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/router/switchover"
)

// readyOutcome is how a dry run ends whose switch may begin.
const readyOutcome = "ready"

// switchEnding is what each outcome means: the exit code, what is said of it, and what to do.
var switchEnding = map[string]struct {
	code       int
	says, next string
}{
	readyOutcome:                 {exitOK, "", ""},
	string(switchover.Committed): {exitOK, "", ""},
	string(switchover.Refused):   {exitRefused, "was refused, and nothing was begun", "docs/switchover.md says what each check means"},
	string(switchover.Beaten):    {exitConflict, "was beaten by another", "isthmus router status tells where the home is now"},
	string(switchover.Aborted):   {exitAborted, "was aborted, and the home stays", "clients go on where they were; find the reason before you try again"},
	string(switchover.Unknown): {exitUnknown, "began, and nobody knows how it ended",
		"isthmus router status tells where it stands. If it stays held, run the same again: that ends what is open, and until then nobody may write"},
}

// ofRouter names what is switched.
func ofRouter(m *adminpb.SwitchProgress) string {
	if m.GetSet() != "" {
		return m.GetRouter() + "/" + m.GetSet()
	}
	return m.GetRouter()
}

// switchText tells a person how a switch ended, or whether it may begin: in one line, then what was looked at, done and heard, and what to do.
func switchText(verb string, m *adminpb.SwitchProgress) string {
	var b strings.Builder
	b.WriteString(switchLine(verb, m) + "\n")
	writeChecks(&b, m)
	if !m.GetDryRun() {
		writeTail(&b, m)
		writeSteps(&b, m)
	}
	if next := switchEnding[m.GetOutcome()].next; next != "" {
		fmt.Fprintf(&b, "\nnext: %s\n", next)
	}
	return b.String()
}

// switchLine is the end of a switch on one line.
func switchLine(verb string, m *adminpb.SwitchProgress) string {
	why := ""
	if m.GetWhy() != "" {
		why = ": " + m.GetWhy()
	}
	what := ofRouter(m)
	switch switchover.Outcome(m.GetOutcome()) {
	case readyOutcome:
		return fmt.Sprintf("ready: %s of %s from %s to %s may begin; generation %d would follow %d", verb, what, m.GetFrom(), m.GetTo(), m.GetGeneration()+1, m.GetGeneration())
	case switchover.Committed:
		return fmt.Sprintf("committed: %s is the home of %s, generation %d; before it was %s%s", m.GetTo(), what, m.GetGeneration(), m.GetFrom(), why)
	case switchover.Aborted:
		return fmt.Sprintf("aborted: %s stays the home of %s, generation %d%s", m.GetFrom(), what, m.GetGeneration(), why)
	case switchover.Refused:
		return fmt.Sprintf("refused: %s stays the home of %s, and nothing was begun%s", m.GetFrom(), what, why)
	}
	return fmt.Sprintf("%s: %s of %s from %s to %s%s", m.GetOutcome(), verb, what, m.GetFrom(), m.GetTo(), why)
}

// writeChecks has a row for each check; once the switch was begun, only for those of which people should know.
func writeChecks(b *strings.Builder, m *adminpb.SwitchProgress) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	begun := false
	for _, c := range m.GetChecks() {
		result := "ok"
		switch {
		case !c.GetOk():
			result = "NO"
		case c.GetWarning():
			result = "WARNING"
		case !m.GetDryRun() && m.GetOutcome() != string(switchover.Refused):
			continue
		}
		if !begun {
			fmt.Fprintln(w, "\nCHECK\tRESULT\tFOUND")
			begun = true
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.GetName(), result, orDash(oneLine(c.GetText())))
	}
	w.Flush() // to a strings.Builder, which never fails
}

// mostTail is how many partitions of a tail are told to people.
const mostTail = 10

// writeTail tells what may be missing until the lost home is back.
func writeTail(b *strings.Builder, m *adminpb.SwitchProgress) {
	tail := m.GetTail()
	switch {
	case tail == nil:
		return
	case tail.GetRecords() == 0:
		fmt.Fprintf(b, "\nnothing that %s acknowledged to clients of the router is missing at %s\n", m.GetFrom(), m.GetTo())
	default:
		fmt.Fprintf(b, "\nat most %d records that %s acknowledged are missing at %s until it is back; they are at most these offsets of %s:\n", tail.GetRecords(), m.GetFrom(), m.GetTo(), m.GetFrom())
		w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TOPIC\tPARTITION\tFIRST\tLAST\tRECORDS")
		for _, p := range tail.GetPartitions()[:min(len(tail.GetPartitions()), mostTail)] {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", p.GetTopic(), p.GetPartition(), p.GetFirst(), p.GetEnd()-1, p.GetEnd()-p.GetFirst())
		}
		w.Flush() // to a strings.Builder, which never fails
		if more := len(tail.GetPartitions()) - mostTail; more > 0 {
			fmt.Fprintf(b, "and %d more partitions; --json has them\n", more)
		}
	}
	if len(tail.GetSilent()) > 0 {
		fmt.Fprintf(b, "%s did not say what was acknowledged to their clients: that may be more\n", strings.Join(tail.GetSilent(), ", "))
	}
}

// writeSteps tells what was done, how long it took, and where the instances stand.
func writeSteps(b *strings.Builder, m *adminpb.SwitchProgress) {
	if len(m.GetSteps()) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nSTEP\tBEGAN\tTOOK")
	for _, s := range m.GetSteps() {
		fmt.Fprintf(w, "%s\t+%s\t%s\n", s.GetName(), since(m.GetBegan().AsTime(), s.GetBegan().AsTime()), age(s.GetSeconds()))
	}
	w.Flush() // to a strings.Builder, which never fails
	if len(m.GetStandings()) > 0 {
		fmt.Fprintln(w, "\nINSTANCE\tSTANDS")
		for _, s := range m.GetStandings() {
			fmt.Fprintf(w, "%s\t%s\n", orDash(s.GetNode()), oneLine(s.GetText()))
		}
		w.Flush()
	}
	fmt.Fprintf(b, "\nit took %s", since(m.GetBegan().AsTime(), m.GetAt().AsTime()))
	if m.GetGapSeconds() > 0 {
		fmt.Fprintf(b, "; clients could not write for %s", age(m.GetGapSeconds()))
	}
	if m.GetId() != "" {
		fmt.Fprintf(b, "; switch %s, by node %s", m.GetId(), m.GetNode())
	}
	b.WriteString("\n")
}

// oneLine is a text without ends of lines.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
