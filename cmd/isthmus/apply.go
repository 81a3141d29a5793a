package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
)

func diffCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	cmd := &cobra.Command{
		Use:   "diff FILE",
		Short: "Tell what apply of a file would change",
		Long: `Compares a topology file with what the fabric runs: what apply would change, and which partitions that touches. What the file says of
nodes and of the admin API is each node's own, and not compared.`,
		Example: `  isthmus diff isthmus.toml
  isthmus export | isthmus diff -          nothing`,
		Args: cobra.ExactArgs(1),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			text, err := readTopology(t, args[0])
			if err != nil {
				return usage(err)
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Diff(ctx, text)
				if err != nil {
					return err
				}
				return a.show(res, planText(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	return cmd
}

func applyCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make a topology file the running configuration",
		Long: `Makes a topology file the running configuration of all nodes, at once and without a restart. What it does not change keeps running.
The plan is told first, and has to be confirmed. isthmus undo takes it back.

If somebody else changes the same settings meanwhile, nothing of the file is applied, and it exits 6.`,
		Example: `  isthmus apply isthmus.toml --why 'orders go to ap too'
  isthmus apply isthmus.toml --dry-run --json | jq -r .confirm
  isthmus apply isthmus.toml --confirm 3f9ac1d2`,
		Args: cobra.ExactArgs(1),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			text, err := readTopology(t, args[0])
			if err != nil {
				return usage(err)
			}
			return w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, confirm string) (outcome, error) {
				return wrote(c.Apply(ctx, &adminpb.ApplyRequest{File: text, Reason: w.why, DryRun: dryRun, Confirm: confirm}))
			})
		}),
	}
	w.flags(cmd, true)
	return cmd
}

func exportCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the running configuration as a topology file",
		Long: `Writes what the fabric runs, the topology file with everything that was set over it, as a topology file: to be kept, compared and
applied. Secrets stay what they are in the file: references.`,
		Example: `  isthmus export > isthmus.toml`,
		Args:    cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Export(ctx)
				if err != nil {
					return err
				}
				return a.show(res, res.GetFile())
			})
		}),
	}
	a.flags(cmd, "one JSON object, with the file and its hash")
	return cmd
}

// readTopology reads the text of a topology file, or what comes in for "-". The node says what is wrong with it.
func readTopology(t terminal, name string) (string, error) {
	from := t.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read topology: %w", err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, topology.MaxFileBytes+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read topology: %w", err)
	case len(text) > topology.MaxFileBytes:
		return "", fmt.Errorf("read topology: %s has more than %d bytes", name, topology.MaxFileBytes)
	case len(text) == 0:
		return "", fmt.Errorf("read topology: %s is empty", name)
	}
	return string(text), nil
}
