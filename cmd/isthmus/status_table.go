package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// maxNotes bounds the troubles that a table lists below its rows.
const maxNotes = 20

// statusTable draws the status of a node for a person: a row per link, or per partition. With an earlier status of the same
// node it tells rates.
func statusTable(st *adminpb.StatusResponse, partitions bool, before *adminpb.StatusResponse) string {
	var b strings.Builder
	n := st.GetNode()
	fmt.Fprintf(&b, "node %s, up %s\n\n", n.GetName(), since(n.GetStarted().AsTime(), n.GetNow().AsTime()))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if partitions {
		partitionRows(w, st)
	} else {
		linkRows(w, st, before)
	}
	w.Flush() // to a strings.Builder, which never fails
	notes := troubles(st)
	for i, note := range notes {
		if i == 0 {
			b.WriteString("\n")
		}
		if i == maxNotes {
			fmt.Fprintf(&b, "! and %d more\n", len(notes)-maxNotes)
			break
		}
		fmt.Fprintf(&b, "! %s\n", note)
	}
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
	fmt.Fprintln(w, "LINK\tTOPIC\tPARTITION\tSTATE\tSOURCE NEXT\tSOURCE END\tTARGET LAST\tLAG RECORDS\tLAG TIME\tSEEN\tRUNS")
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%d\n", l.GetName(), f.GetTopic(), p.GetPartition(), admin.Name(p.GetState()),
					offset(p.GetSourceNext()), offset(p.GetSourceEnd()), offset(p.GetTargetLast()), p.GetLagRecords(), age(p.GetLagSeconds()),
					age(p.GetSeenSecondsAgo()), p.GetRuns())
			}
		}
	}
}

// troubles says in sentences what does not run.
func troubles(st *adminpb.StatusResponse) []string {
	var notes []string
	now := st.GetNode().GetNow().AsTime()
	for _, l := range st.GetLinks() {
		if !l.GetUp() {
			notes = append(notes, fmt.Sprintf("%s: %s (for %s)", l.GetName(), l.GetTrouble(), since(l.GetSince().AsTime(), now)))
		}
		for _, f := range l.GetFlows() {
			if f.GetBlocked() != "" {
				notes = append(notes, fmt.Sprintf("%s %s: %s", l.GetName(), f.GetTopic(), f.GetBlocked()))
			}
			for _, p := range f.GetPartitions() {
				if p.GetState() == adminpb.State_STATE_RUNNING || p.GetReason() == "" {
					continue
				}
				note := fmt.Sprintf("%s %s:%d %s: %s (for %s, attempt %d", l.GetName(), f.GetTopic(), p.GetPartition(),
					admin.Name(p.GetState()), p.GetReason(), since(p.GetSince().AsTime(), now), p.GetAttempts())
				if p.GetNextTry() != nil {
					note += ", next in " + since(now, p.GetNextTry().AsTime())
				}
				notes = append(notes, note+")")
			}
		}
	}
	return notes
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
