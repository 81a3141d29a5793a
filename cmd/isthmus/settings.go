package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// maxCell bounds what a table shows of a value or a reason; --json has all of it.
const maxCell = 80

func settingsCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	cmd := &cobra.Command{
		Use:   "settings [PREFIX]",
		Short: "List what was set over the topology file",
		Long: `Lists the settings that count over the topology files of the nodes: what set, apply, pause and drain wrote. With PREFIX only
those whose keys begin with it.`,
		Example: `  isthmus settings
  isthmus settings pause/eu-us`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(keys),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Settings(ctx, settingKey(optional(args)))
				if err != nil {
					return err
				}
				return a.show(res, settingsTable(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	return cmd
}

// show prints a message, or the table of it for people.
func (a *asking) show(m proto.Message, table string) error {
	if a.json {
		return a.print(m)
	}
	_, err := fmt.Fprint(a.t.out, table)
	return err
}

func settingsTable(res *adminpb.SettingsResponse) string {
	if len(res.GetSettings()) == 0 {
		return "nothing is set: the topology file counts\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tVALUE\tSINCE\tBY\tWHY")
	var notes []string
	for _, s := range res.GetSettings() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.GetKey(), cell(s.GetValue()), s.GetAt().AsTime().Format(time.RFC3339), s.GetAuthor(), cell(s.GetReason()))
		if s.GetTrouble() != "" {
			notes = append(notes, fmt.Sprintf("%s does not count: %s", s.GetKey(), s.GetTrouble()))
		}
	}
	w.Flush() // to a strings.Builder, which never fails
	writeNotes(&b, notes)
	return b.String()
}

// cell is a text on one line of a table, cut where it is long.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return "-"
	}
	if r := []rune(text); len(r) > maxCell {
		return string(r[:maxCell-1]) + "…"
	}
	return text
}

// valueHelp is part of the help of set.
const valueHelp = `KEY is such as link/eu-us/topics, or with dots link.eu-us.topics; VALUE is what the topology file would have there, in TOML. A text
needs no quotes of its own, and absent is a field that is not there. Keys: link/NAME, cluster/NAME and router/NAME, which are present or
removed; link/NAME/FIELD and so on; stay; log/level. For pauses and drains there are verbs.`

func setCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	var base string
	cmd := &cobra.Command{
		Use:   "set KEY VALUE",
		Short: "Give a setting a value that counts over the topology file",
		Long: `Gives a setting a value that counts over the topology file's on every node, at once and without a restart. What the change does
not name keeps running. Where it would stop work it is told first, and has to be confirmed.

` + valueHelp,
		Example: `  isthmus set link/eu-us/topics '["orders", "payments-*"]' --why 'payments go over too'
  isthmus set log.level debug
  isthmus set link.eu-us.exclude '["audit"]' --dry-run`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: w.complete(keys),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			key := settingKey(args[0])
			value := settingValue(key, args[1])
			return w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, confirm string) (outcome, error) {
				return wrote(c.Set(ctx, &adminpb.SetRequest{Key: key, Value: value, Reason: w.why, Base: base, DryRun: dryRun, Confirm: confirm}))
			})
		}),
	}
	w.flags(cmd, true)
	cmd.Flags().StringVar(&base, "base", "", "only if the setting still has this `version`, as isthmus settings --json tells it")
	return cmd
}

func unsetCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	var base string
	cmd := &cobra.Command{
		Use:   "unset KEY",
		Short: "Take a setting back, so that the topology file counts again",
		Long: `Takes a setting back: the topology file of each node counts again for it. isthmus settings lists what is set.

Where it would stop work it is told first, and has to be confirmed.`,
		Example: `  isthmus unset link/eu-us/topics
  isthmus unset log.level`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: w.complete(keys),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			key := settingKey(args[0])
			return w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, confirm string) (outcome, error) {
				return wrote(c.Unset(ctx, &adminpb.UnsetRequest{Key: key, Reason: w.why, Base: base, DryRun: dryRun, Confirm: confirm}))
			})
		}),
	}
	w.flags(cmd, true)
	cmd.Flags().StringVar(&base, "base", "", "only if the setting still has this `version`, as isthmus settings --json tells it")
	return cmd
}
