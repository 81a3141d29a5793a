package clients

import (
	"fmt"
	"slices"
	"strings"
)

// State is what a cell of the table says.
type State string

// The states of a cell.
const (
	Same   State = "same"   // directly and through the router the same came of it
	Hidden State = "hidden" // a version cap hides what it needs
	Absent State = "–"      // the library does not have it
	Never  State = "never"  // it does not work directly either
	Fails  State = "FAILS"  // it works directly only
)

// Cell is a feature of a client.
type Cell struct {
	State State
	// Note is the client's own message where it is hidden, or what is wrong.
	Note string
}

// Row is a client with its cells.
type Row struct {
	Client, Version string
	Cells           map[Feature]Cell
}

// Compare makes a cell of what came of a feature both ways. Listed says that it is known to be hidden.
func Compare(direct, routed Outcome, listed bool) Cell {
	var notes []string
	switch {
	case len(direct.Wrong) > 0:
		return Cell{Never, strings.Join(direct.Wrong, "; ")}
	case len(routed.Wrong) > 0:
		notes = routed.Wrong
	case !slices.Equal(direct.Facts, routed.Facts):
		notes = append(notes, differences(direct.Facts, routed.Facts)...)
	case listed:
		return Cell{Fails, "it is not hidden any more: take it out of testdata/hidden.txt"}
	default:
		return Cell{State: Same}
	}
	if !listed {
		return Cell{Fails, strings.Join(notes, "; ")}
	}
	if routed.Said != "" {
		return Cell{Hidden, routed.Said}
	}
	return Cell{Hidden, "it says nothing; " + strings.Join(notes, "; ")}
}

// differences are the facts that are not the same both ways.
func differences(direct, routed []string) (out []string) {
	for _, f := range direct {
		if !slices.Contains(routed, f) {
			out = append(out, "directly: "+f)
		}
	}
	for _, f := range routed {
		if !slices.Contains(direct, f) {
			out = append(out, "routed: "+f)
		}
	}
	if len(out) == 0 {
		out = append(out, "the same in another order")
	}
	return out
}

// Page is docs/clients.md: a table for each release of Kafka.
func Page(releases []string, tables map[string][]Row) string {
	var b strings.Builder
	b.WriteString(`# Clients of the router

Made by ` + "`make clients`" + `: client programs of these libraries against real Kafka with three brokers, directly and through a router. The brokers
advertise addresses that do not exist on the listener that the router knows, so a client that went around it would fail. An oracle compares what was
acknowledged, stored, read and committed, and what the cluster and the admin calls say.

- *same*: directly and through the router the same came of it: nothing lost, doubled, skipped or out of order, no error, the same answers.
- *hidden*: a version cap of the router hides what it needs; below is what the client says. This list only shrinks.
- *–*: the library does not have it, or none of its own. *never*: it does not work directly with this release of Kafka either.

| column | what is done |
|---|---|
| idempotent, acks1, acks0 | a thousand records to three partitions |
| transactional | transactions of a hundred records, every third aborted |
| eager, cooperative, kip848 | one consumer, then two, then one again, by the range or the cooperative-sticky assignor, or the group protocol of KIP-848 |
| static | two consumers with names, of which one is started again |
| assign | partitions by hand, from an offset |
| streams | Kafka Streams with exactly_once_v2: a repartition topic, a changelog |
| admin | topics, partitions, configs, offsets, groups, ACLs, quotas, as far as the library has them |
`)
	for _, release := range releases {
		fmt.Fprintf(&b, "\n## Kafka %s\n\n| client |", release)
		for _, f := range Features {
			fmt.Fprintf(&b, " %s |", f)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(Features)) + "\n")
		var notes []string
		for _, r := range tables[release] {
			if r.Client == "" {
				continue // it was not run
			}
			name := strings.TrimSpace(r.Client + " " + strings.TrimPrefix(r.Version, "v"))
			fmt.Fprintf(&b, "| %s |", name)
			for _, f := range Features {
				c := r.Cells[f]
				fmt.Fprintf(&b, " %s |", c.State)
				if c.Note != "" {
					notes = append(notes, fmt.Sprintf("- %s, %s, %s: %s", name, f, c.State, clean(c.Note)))
				}
			}
			b.WriteString("\n")
		}
		if len(notes) > 0 {
			b.WriteString("\n" + strings.Join(notes, "\n") + "\n")
		}
	}
	return b.String()
}

// clean is a note on one line.
func clean(note string) string {
	return strings.Join(strings.Fields(note), " ")
}
