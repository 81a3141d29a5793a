package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func readyCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	req := &adminpb.ReadyRequest{}
	cmd := &cobra.Command{
		Use:   "ready ROUTER|LINK --to CLUSTER",
		Short: "Tell whether clients could move to a cluster now, why not, and what it would cost",
		Long: `Looks what a switch of a router, or of one of its sets, would find now, and begins nothing: may it begin, what would be missing if the home
were lost at this moment (LOST), what groups would read again then (AGAIN), and for how long clients could not write (WAIT). A planned
switch loses nothing, and nothing is read again. LOST counts offsets that are not durably known to be mirrored: at most so many.

Of a link, without a router: lag, partitions that are not mirrored, its guarantee, groups, and whether there is a way back.

Exit codes: 0 ready, also with warnings; 5 not ready: a check has NO. docs/switchover.md says what the checks mean.`,
		Example: `  isthmus ready shop --to us
  isthmus ready shop --set fast --to us --json | jq .loss.records
  isthmus ready eu-us --to us`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(routerNames),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Ready(ctx, req)
				if err != nil {
					return err
				}
				if err := a.show(res, readyText(res)); err != nil {
					return err
				}
				if res.GetVerdict() == admin.ReadyNo {
					return &verbError{fmt.Errorf("%s cannot move to %s now", ofReady(res), res.GetTo()), exitRefused}
				}
				return nil
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	cmd.Flags().StringVar(&req.Set, "set", "", "the `name` of one set; default what no set names")
	cmd.Flags().StringVar(&req.To, "to", "", "the `cluster` that would be gone to; required")
	_ = cmd.RegisterFlagCompletionFunc("set", a.completeFlag(setNames)) // the flags are there
	_ = cmd.RegisterFlagCompletionFunc("to", a.completeFlag(clusters))
	return cmd
}

// ofReady names what would move.
func ofReady(r *adminpb.ReadyResponse) string {
	if r.GetSet() != "" {
		return r.GetName() + "/" + r.GetSet()
	}
	return r.GetName()
}

// readyText tells a person what a switch would find: the verdict in one line, the checks, then what it would cost.
func readyText(r *adminpb.ReadyResponse) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s from %s to %s", r.GetVerdict(), ofReady(r), r.GetFrom(), r.GetTo())
	if !r.GetLink() {
		fmt.Fprintf(&b, "; generation %d would follow %d", r.GetGeneration()+1, r.GetGeneration())
	}
	b.WriteString("\n")
	writeAllChecks(&b, "CHECK", r.GetChecks())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nLOST\t%s\n", lossText(r.GetLoss()))
	fmt.Fprintf(w, "AGAIN\t%s\n", againText(r.GetGroups()))
	if t := r.GetTime(); t != nil {
		fmt.Fprintf(w, "WAIT\t%s: %s\n", age(t.GetSeconds()), oneLine(t.GetBy()))
	}
	w.Flush() // to a strings.Builder, which never fails
	writeLoss(&b, r.GetLoss())
	writeAgain(&b, r.GetGroups())
	if len(r.GetLostChecks()) > 0 && !r.GetLink() {
		writeAllChecks(&b, "IF "+strings.ToUpper(r.GetFrom())+" WERE LOST", r.GetLostChecks())
	}
	return b.String()
}

// writeAllChecks has a row for each check.
func writeAllChecks(b *strings.Builder, title string, checks []*adminpb.SwitchCheck) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\tRESULT\tFOUND\n", title)
	for _, c := range checks {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.GetName(), checkResult(c), orDash(oneLine(c.GetText())))
	}
	w.Flush() // to a strings.Builder, which never fails
}

// checkResult is what a check means, in one word.
func checkResult(c *adminpb.SwitchCheck) string {
	switch {
	case !c.GetOk():
		return "NO"
	case c.GetWarning():
		return "WARNING"
	}
	return "ok"
}

// lossText tells what would be missing, in one line.
func lossText(l *adminpb.ReadyLoss) string {
	switch {
	case l.GetRecords() < 0:
		return "not known: " + oneLine(l.GetTrouble())
	case l.GetRecords() == 0:
		return fmt.Sprintf("nothing: all of %d partitions is mirrored%s", l.GetPartitions(), butTrouble(l.GetTrouble()))
	}
	return fmt.Sprintf("at most %d records of %d of %d partitions, the oldest %s old%s", l.GetRecords(), l.GetBehind(), l.GetPartitions(), orUnknown(l.GetSeconds()), butTrouble(l.GetTrouble()))
}

// againText tells what groups would read again, in one line.
func againText(g *adminpb.ReadyGroups) string {
	switch {
	case g.GetGroups() == 0 && g.GetTrouble() != "":
		return "not known: " + oneLine(g.GetTrouble())
	case g.GetBehind() == 0:
		return fmt.Sprintf("nothing: %d groups stand where they should%s", g.GetGroups(), butTrouble(g.GetTrouble()))
	}
	return fmt.Sprintf("at most %d records, by %d of %d groups%s", g.GetReread(), g.GetBehind(), g.GetGroups(), butTrouble(g.GetTrouble()))
}

func butTrouble(trouble string) string {
	if trouble == "" {
		return ""
	}
	return "; not all is known: " + oneLine(trouble)
}

// orUnknown is an age that may not be known.
func orUnknown(seconds float64) string {
	if seconds < 0 {
		return "nobody knows how"
	}
	return age(seconds)
}

// readyRows is how many partitions and groups a person is told of; --json has more.
const readyRows = 10

func writeLoss(b *strings.Builder, l *adminpb.ReadyLoss) {
	if len(l.GetList()) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nLOST FROM\tRECORDS\tOLDEST\tNOT MIRRORED BECAUSE")
	for i, p := range l.GetList() {
		if i == readyRows {
			fmt.Fprintf(w, "and %d more\n", int(l.GetBehind())-readyRows)
			break
		}
		fmt.Fprintf(w, "%s:%d\t%d\t%s\t%s\n", p.GetTopic(), p.GetPartition(), p.GetRecords(), age(p.GetSeconds()), orDash(oneLine(p.GetReason())))
	}
	w.Flush() // to a strings.Builder, which never fails
}

func writeAgain(b *strings.Builder, g *adminpb.ReadyGroups) {
	if len(g.GetList()) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nGROUP\tREADS AGAIN\tPASSES OVER\tNO POSITION")
	for i, one := range g.GetList() {
		if i == readyRows {
			fmt.Fprintf(w, "and %d more\n", int(g.GetBehind())-readyRows)
			break
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", oneLine(one.GetGroup()), one.GetReread(), one.GetSkipped(), one.GetMissing())
	}
	w.Flush() // to a strings.Builder, which never fails
}
