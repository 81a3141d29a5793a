package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// maxNotes bounds the troubles that a table lists below its rows.
const maxNotes = 20

// table draws a status for a person: a row per link, or per partition. With an earlier status it tells rates.
func (v statusView) table(st, before *adminpb.StatusResponse) string {
	var b strings.Builder
	n := st.GetNode()
	of := "the fabric, asked through node %s, up %s\n\n"
	if v.local {
		of = "node %s, up %s\n\n"
	}
	fmt.Fprintf(&b, of, n.GetName(), since(n.GetStarted().AsTime(), n.GetNow().AsTime()))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if v.link != "" {
		partitionRows(w, st)
	} else {
		linkRows(w, st, before)
	}
	w.Flush() // to a strings.Builder, which never fails
	writeNotes(&b, append(unanswered(st.GetUnanswered()), v.troubles(st)...))
	return b.String()
}

func linkRows(w *tabwriter.Writer, st, before *adminpb.StatusResponse) {
	fmt.Fprintln(w, "LINK\tFROM\tTO\tSTATE\tTOPICS\tRUNNING\tLAG RECORDS\tLAG BYTES\tLAG TIME\tOFFSETS/S")
	for _, l := range st.GetLinks() {
		state := "up"
		if !l.GetUp() {
			state = "DOWN"
		}
		sum := sumOf(l)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d/%d\t%d\t%s\t%s\t%s\n", l.GetName(), l.GetFrom(), l.GetTo(), state, len(l.GetFlows()),
			sum.GetRunning(), sum.GetPartitionCount(), sum.GetLagRecords(), size(sum.GetLagBytes()), age(sum.GetLagSeconds()), rate(l, st, before))
	}
}

// sumOf adds up the flows of a link.
func sumOf(l *adminpb.Link) *adminpb.Flow {
	s := &adminpb.Flow{}
	for _, f := range l.GetFlows() {
		s.PartitionCount += f.GetPartitionCount()
		s.Running += f.GetRunning()
		s.LagRecords += f.GetLagRecords()
		s.LagBytes += f.GetLagBytes()
		s.LagSeconds = max(s.LagSeconds, f.GetLagSeconds())
		s.Position += f.GetPosition()
	}
	return s
}

// rate is how fast a link's position moves, in source offsets a second.
func rate(l *adminpb.Link, st, before *adminpb.StatusResponse) string {
	seconds := st.GetNode().GetNow().AsTime().Sub(before.GetNode().GetNow().AsTime()).Seconds()
	if before == nil || seconds <= 0 {
		return "-"
	}
	for _, b := range before.GetLinks() {
		if b.GetName() == l.GetName() {
			return fmt.Sprintf("%.0f", max(0, float64(sumOf(l).GetPosition()-sumOf(b).GetPosition())/seconds))
		}
	}
	return "-"
}

func partitionRows(w *tabwriter.Writer, st *adminpb.StatusResponse) {
	fmt.Fprintln(w, "LINK\tTOPIC\tPARTITION\tSTATE\tCAUSE\tNODE\tSOURCE NEXT\tSOURCE END\tTARGET LAST\tLAG RECORDS\tLAG TIME\tHEADROOM\tSEEN\tRUNS")
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				nodes := orDash(strings.Join(append([]string{p.GetNode()}, p.GetAlso()...), ","))
				room := "-"
				if h := headroom(p); h > 0 {
					room = age(h)
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\n", l.GetName(), bothNames(f.GetTopic(), f.GetAs()), p.GetPartition(),
					admin.Name(p.GetState()), orDash(p.GetCause()), nodes, offset(p.GetSourceNext()), offset(p.GetSourceEnd()), offset(p.GetTargetLast()),
					p.GetLagRecords(), age(p.GetLagSeconds()), room, age(p.GetSeenSecondsAgo()), p.GetRuns())
			}
		}
	}
}

// troubles says in sentences what does not run, and what is not as it should be, the worst first.
func (v statusView) troubles(st *adminpb.StatusResponse) []string {
	var down, blocked, promises []string
	now := st.GetNode().GetNow().AsTime()
	for _, l := range st.GetLinks() {
		if !l.GetUp() {
			down = append(down, fmt.Sprintf("%s: %s (for %s)", l.GetName(), l.GetTrouble(), since(l.GetSince().AsTime(), now)))
		}
		if l.GetGuaranteeWhy() != "" {
			promises = append(promises, fmt.Sprintf("%s: %s: %s", l.GetName(), strings.ReplaceAll(admin.Name(l.GetGuarantee()), "_", "-"), l.GetGuaranteeWhy()))
		}
		for _, f := range l.GetFlows() {
			if f.GetBlocked() != "" {
				blocked = append(blocked, fmt.Sprintf("%s %s: %s", l.GetName(), bothNames(f.GetTopic(), f.GetAs()), f.GetBlocked()))
			}
		}
	}
	var stand []string
	for _, g := range v.ills(st) {
		stand = append(stand, g.note(now, v.brief))
	}
	return slices.Concat(down, stand, blocked, promises)
}

// offset is an offset, or a dash where it is not known.
func offset(n int64) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// since is the time from one moment to another, in a form that does not flicker.
func since(from, to time.Time) string { return age(to.Sub(from).Seconds()) }

// age is a time in seconds as people say it; a dash if it is negative, which is unknown.
func age(seconds float64) string {
	switch {
	case seconds < 0:
		return "-"
	case seconds == 0:
		return "0s"
	case seconds < 1:
		return fmt.Sprintf("%.0fms", seconds*1000)
	case seconds < 60:
		return fmt.Sprintf("%.1fs", seconds)
	}
	return (time.Duration(seconds) * time.Second).String()
}

// size is a number of bytes as people say it.
func size(bytes int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	n, u := float64(bytes), 0
	for n >= 1000 && u < len(units)-1 {
		n, u = n/1000, u+1
	}
	if u == 0 || n >= 100 {
		return fmt.Sprintf("%.0f %s", n, units[u])
	}
	return fmt.Sprintf("%.1f %s", n, units[u])
}

// bothNames is a topic with what the target calls it, if that is another name.
func bothNames(topic, as string) string {
	if as == "" {
		return topic
	}
	return topic + " as " + as
}
