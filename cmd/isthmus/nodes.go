package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// skewed is how far apart clocks are that are worth a word.
const skewed = 5.0

func nodesCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the fabric, and which clusters each of them reaches",
		Long: `Lists the nodes as the one that is asked knows them. STATUS is of the node itself; REACHES is what it measured of the clusters: a node
may be alive and not reach a cluster, and then another one does the work there.`,
		Example: `  isthmus nodes
  isthmus nodes --addr 10.0.0.1:7071,10.0.0.2:7071      the second one, should the first be down
  isthmus nodes --json | jq -r '.members[] | select(.status == "alive") | .grpc'`,
		Args: cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Nodes(ctx)
				if err != nil {
					return err
				}
				return a.show(res, nodesTable(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	return cmd
}

func nodesTable(res *adminpb.NodesResponse) string {
	var b strings.Builder
	n := res.GetNode()
	fmt.Fprintf(&b, "as %s sees it; settings go through %s\n\n", n.GetName(), orDash(res.GetSequencer()))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tDC\tSTATUS\tFOR\tOWNS\tLOAD\tCAPACITY\tREACHES\tCONFIG\tGRPC\tVERSION")
	var notes []string
	for _, m := range res.GetMembers() {
		config := m.GetConfigHash()[:min(8, len(m.GetConfigHash()))]
		if strings.Trim(config, "0") == "" {
			config = "" // it has told nothing yet
		}
		if m.GetDivergent() {
			config += "*"
			notes = append(notes, m.GetName()+" runs another configuration (for a moment after each change)")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s/s\t%g\t%s\t%s\t%s\t%s\n", m.GetName(), orDash(m.GetDc()), memberStatus(m),
			since(m.GetSince().AsTime(), n.GetNow().AsTime()), m.GetOwned(), size(int64(m.GetBytesPerSecond())), m.GetCapacity(),
			reaches(m.GetReach()), orDash(config), orDash(m.GetGrpc()), orDash(m.GetVersion()))
		notes = append(notes, memberNotes(m)...)
	}
	w.Flush() // to a strings.Builder, which never fails
	if skew := res.GetSkewSeconds(); math.Abs(skew) >= skewed {
		notes = append(notes, fmt.Sprintf("the fastest clock of the fabric is %s ahead of that of %s", age(skew), n.GetName()))
	}
	writeNotes(&b, notes)
	return b.String()
}

// memberStatus is the status of a node, and whether it takes work.
func memberStatus(m *adminpb.Member) string {
	status := admin.Name(m.GetStatus())
	switch {
	case m.GetStatus() != adminpb.MemberStatus_MEMBER_STATUS_ALIVE:
		return strings.ToUpper(status)
	case m.GetDraining():
		return status + ", draining"
	case !m.GetReady():
		return status + ", not ready"
	}
	return status
}

// reaches tells the round trip to each cluster, or what is not possible there.
func reaches(all []*adminpb.Reach) string {
	var parts []string
	for _, r := range all {
		how := age(r.GetRttSeconds())
		switch {
		case !r.GetReads() && !r.GetWrites():
			how = "NO"
		case !r.GetReads():
			how = "WRITES ONLY"
		case !r.GetWrites():
			how = "READS ONLY"
		}
		parts = append(parts, r.GetCluster()+" "+how)
	}
	return orDash(strings.Join(parts, ", "))
}

func memberNotes(m *adminpb.Member) []string {
	var notes []string
	if m.GetStatus() == adminpb.MemberStatus_MEMBER_STATUS_ALIVE {
		for _, r := range m.GetReach() {
			if r.GetTrouble() != "" {
				notes = append(notes, fmt.Sprintf("%s and cluster %s: %s", m.GetName(), r.GetCluster(), r.GetTrouble()))
			}
		}
	}
	if m.GetCrashes() > 0 {
		notes = append(notes, fmt.Sprintf("%s died without a word, %d× in the last 10 minutes", m.GetName(), m.GetCrashes()))
	}
	return notes
}

// writeNotes lists troubles below a table.
func writeNotes(b *strings.Builder, notes []string) {
	for i, note := range notes {
		if i == 0 {
			b.WriteString("\n")
		}
		if i == maxNotes {
			fmt.Fprintf(b, "! and %d more\n", len(notes)-maxNotes)
			break
		}
		fmt.Fprintf(b, "! %s\n", note)
	}
}
