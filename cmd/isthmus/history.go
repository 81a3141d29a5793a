package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func historyCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var limit int32
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List who changed which settings, and why",
		Long: `Lists the changes of settings, the newest first: who made them, when, what and why. Changes that conflicted, because nodes did not
hear of each other, are named below.`,
		Example: `  isthmus history
  isthmus history --json | jq '.changes[] | select(.author == "anna")'`,
		Args: cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usage(fmt.Errorf("--limit %d is less than 1", limit))
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.History(ctx, limit)
				if err != nil {
					return err
				}
				return a.show(res, historyTable(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	cmd.Flags().Int32Var(&limit, "limit", 20, "how many changes")
	return cmd
}

func historyTable(res *adminpb.HistoryResponse) string {
	if len(res.GetChanges()) == 0 {
		return "nothing was ever set\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "N\tAT\tBY\tWHAT\tWHY\tVERSION")
	var notes []string
	for _, c := range res.GetChanges() {
		why := c.GetReason()
		if c.GetUndoes() != "" {
			why = strings.TrimSpace("undoes " + c.GetUndoes() + " " + why)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", c.GetNumber(), c.GetAt().AsTime().Format(time.RFC3339), c.GetAuthor(), cell(what(c.GetEntries())),
			cell(why), c.GetVersion())
		if c.GetConflict() != "" {
			notes = append(notes, fmt.Sprintf("%d: %s", c.GetNumber(), c.GetConflict()))
		}
	}
	w.Flush() // to a strings.Builder, which never fails
	writeNotes(&b, notes)
	return b.String()
}

// what tells the first entry of a change, and how many more there are.
func what(entries []*adminpb.PastEntry) string {
	if len(entries) == 0 {
		return ""
	}
	more := ""
	if len(entries) > 1 {
		more = fmt.Sprintf(" and %d more", len(entries)-1)
	}
	e := entries[0]
	if e.GetUnset() {
		return "unset " + e.GetKey() + more
	}
	if len(entries) > 1 {
		return e.GetKey() + more // its value would push the number out of sight
	}
	return e.GetKey() + " = " + e.GetValue()
}

func undoCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	cmd := &cobra.Command{
		Use:   "undo N|VERSION",
		Short: "Take a change of settings back",
		Long: `Gives every setting of a change the value that it had before. N counts as isthmus history does, from 1, the newest; a version stays
the same when others write meanwhile.`,
		Example: `  isthmus undo 1
  isthmus undo 1763751600000.0@eu-1 --why 'was for the weekend only' --yes`,
		Args: cobra.ExactArgs(1),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			req := &adminpb.UndoRequest{Version: args[0], Reason: w.why}
			if numbers(args[0]) || strings.HasPrefix(args[0], "-") {
				n, err := strconv.ParseInt(args[0], 10, 32)
				if err != nil || n < 1 {
					return usage(fmt.Errorf("change %q is not a number from 1 on, as isthmus history counts", args[0]))
				}
				req.Version, req.Number = "", int32(n)
			}
			return w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, confirm string) (outcome, error) {
				req.DryRun, req.Confirm = dryRun, confirm
				return wrote(c.Undo(ctx, req))
			})
		}),
	}
	w.flags(cmd, true)
	return cmd
}
