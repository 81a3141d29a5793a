package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func statusCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var watch, local bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status [LINK]",
		Short: "Tell what the fabric does now",
		Long: `Tells what the links of the fabric do now; with LINK, each partition of that link, and the node that copies it. The node that is
asked asks all others; those that do not answer are named, and what they copy is missing.

Below the table is what does not run, the worst first: why, since when, what Isthmus does about it by itself, and what you can do.
docs/troubles.md has a chapter for each cause. Lag is what is at the source and not yet on the target, by the copying node's own
observation; headroom is the time until the source's retention deletes what is not copied yet.`,
		Example: `  isthmus status
  isthmus status --local             what this node runs itself
  isthmus status eu-us --watch
  isthmus status --json | jq '.links[].flows[] | {topic, lag_records}'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(links),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			if every < 100*time.Millisecond {
				return usage(fmt.Errorf("--every %s is less than 100ms", every))
			}
			v := statusView{link: optional(args), local: local}
			if watch {
				return a.watchStatus(cmd.Context(), v, every)
			}
			st, err := a.status(cmd.Context(), v)
			if err != nil {
				return err
			}
			return a.show(st, v.table(st, nil))
		}),
	}
	a.flags(cmd, "one JSON object, with all partitions; with --watch one a line")
	cmd.Flags().BoolVar(&local, "local", false, "only what the node that is asked runs itself; ask no other")
	cmd.Flags().BoolVar(&watch, "watch", false, "go on until interrupted; redraws in place on a terminal")
	cmd.Flags().DurationVar(&every, "every", time.Second, "with --watch, how often")
	return cmd
}

// statusView is what a person wants to see of a status.
type statusView struct {
	link  string // empty: all links, without their partitions
	local bool   // of the node that is asked only
	brief bool   // without what people can do
}

// status asks once.
func (a *asking) status(ctx context.Context, v statusView) (st *adminpb.StatusResponse, err error) {
	err = a.ask(ctx, func(ctx context.Context, c *admin.Client) (err error) {
		if v.local {
			st, err = c.LocalStatus(ctx, v.link, true)
		} else {
			st, err = c.Status(ctx, v.link, true)
		}
		return err
	})
	return st, err
}

// watchStatus asks again and again. A node that goes away is waited for, unless there is another one to be asked.
func (a *asking) watchStatus(ctx context.Context, v statusView, every time.Duration) error {
	screen := newScreen(a.t)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var before *adminpb.StatusResponse
	for seen := false; ; seen = true {
		st, err := a.status(ctx, v)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, admin.ErrUnreachable) && seen:
			screen.frame(fmt.Sprintf("%s  %v\n", time.Now().Format(time.TimeOnly), err))
		case err != nil:
			return err
		case a.json:
			if err := a.print(st); err != nil {
				return err
			}
		default:
			screen.frame(v.table(st, before))
			before = st
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
