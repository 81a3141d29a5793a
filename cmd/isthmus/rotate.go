package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// rotateAtMost bounds a rotation: each of its steps waits for every node.
const rotateAtMost = time.Minute

// errUnfinished ends a rotation that not every node took part in.
var errUnfinished = errors.New("the rotation is not finished: see above; both keys are good until it is. Ask again with --resume")

func rotateCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	var resume bool
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Give all nodes a new gossip key, without a pause",
		Long: `Makes a new gossip key and gives it to all nodes: first all of them accept it, then all use it, then none accepts the old ones. Each
node writes it into its own key file, so that it is there after a restart. Nothing stops meanwhile.

A node that cannot be reached keeps the rotation from its end: both keys stay good, it exits 1 and says which node it was. Go on
with --resume when the node is back or has left for good.`,
		Example: `  isthmus rotate-key --why 'somebody left'
  isthmus rotate-key --resume --yes`,
		Args: cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			unfinished := false
			err := w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, confirm string) (outcome, error) {
				ctx, cancel := context.WithTimeout(ctx, rotateAtMost)
				defer cancel()
				res, err := c.RotateKey(ctx, &adminpb.RotateKeyRequest{Reason: w.why, DryRun: dryRun, Confirm: confirm, Resume: resume})
				if err != nil {
					return outcome{}, err
				}
				unfinished = res.GetUnfinished()
				o := outcome{message: res, plan: planLines(res.GetPlan()), confirm: res.GetConfirm()}
				if !dryRun {
					o.after = keyTable(res)
				}
				return o, nil
			})
			if err == nil && unfinished && !w.dryRun {
				return errUnfinished
			}
			return err
		}),
	}
	w.flags(cmd, true)
	cmd.Flags().BoolVar(&resume, "resume", false, "go on with a rotation that is not finished, with the same new key")
	return cmd
}

// keyTable tells how far each node came.
func keyTable(res *adminpb.RotateKeyResponse) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tACCEPTS THE NEW KEY\tUSES IT\tFORGOT THE OLD\tTROUBLE")
	for _, n := range res.GetNodes() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n.GetNode(), yes(n.GetInstalled()), yes(n.GetUsed()), yes(n.GetRemoved()), orDash(n.GetTrouble()))
	}
	w.Flush() // to a strings.Builder, which never fails
	if !res.GetUnfinished() {
		b.WriteString("done\n")
	}
	return b.String()
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
