package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// againAfter is the pause before another node is watched when one went away.
const againAfter = time.Second

// kinds are those of events as people name them.
var kinds = map[string]adminpb.EventKind{
	"member": adminpb.EventKind_EVENT_KIND_MEMBER, "owner": adminpb.EventKind_EVENT_KIND_OWNER,
	"setting": adminpb.EventKind_EVENT_KIND_SETTING, "state": adminpb.EventKind_EVENT_KIND_STATE,
}

func watchCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var only []string
	cmd := &cobra.Command{
		Use:   "watch [LINK]",
		Short: "Tell what happens in the fabric, as it happens",
		Long: `Tells what happens until it is interrupted: nodes that come and go, partitions that get another owner, settings that change, and what
the node that is asked sees of its own partitions. With LINK only the partitions of that one. When the node goes away, it is
waited for, or the next one of --addr is asked.`,
		Example: `  isthmus watch
  isthmus watch eu-us --kind owner,state
  isthmus watch --json | jq -r 'select(.kind == "member") | .text'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(links),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			req := &adminpb.WatchRequest{Link: optional(args)}
			for _, k := range only {
				kind, ok := kinds[k]
				if !ok {
					return usage(fmt.Errorf("--kind %q is none of member, owner, setting, state", k))
				}
				req.Kinds = append(req.Kinds, kind)
			}
			return a.watchEvents(cmd.Context(), req)
		}),
	}
	a.flags(cmd, "one JSON object a line")
	cmd.Flags().StringSliceVar(&only, "kind", nil, "member, owner, setting, state; default all")
	return cmd
}

// watchEvents prints events until ctx ends. A node that goes away after the first word of it is no end.
func (a *asking) watchEvents(ctx context.Context, req *adminpb.WatchRequest) error {
	for seen := false; ; {
		err := a.ask(ctx, func(ctx context.Context, c *admin.Client) error {
			return c.Watch(ctx, req, func(e *adminpb.Event) error {
				seen = true
				if a.json {
					return a.print(e)
				}
				_, err := fmt.Fprintln(a.t.out, eventText(e))
				return err
			})
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (!errors.Is(err, admin.ErrUnreachable) || !seen):
			return err
		}
		fmt.Fprintf(a.t.err, "%s the node has gone; asking again\n", time.Now().Format(time.TimeOnly))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(againAfter):
		}
	}
}

// eventText is an event on one line.
func eventText(e *adminpb.Event) string {
	parts := []string{e.GetAt().AsTime().Format("15:04:05.000Z"), fmt.Sprintf("%-7s", admin.Name(e.GetKind()))}
	where := e.GetLink()
	if e.GetTopic() != "" {
		where += " " + e.GetTopic()
		if e.GetPartition() >= 0 {
			where += fmt.Sprintf(":%d", e.GetPartition())
		}
	}
	switch e.GetKind() {
	case adminpb.EventKind_EVENT_KIND_LOST:
		parts = append(parts, fmt.Sprintf("%d events were lost: this reader is too slow", e.GetLost()))
	case adminpb.EventKind_EVENT_KIND_SETTING:
		parts = append(parts, e.GetKey()+" = "+cell(e.GetValue()))
	case adminpb.EventKind_EVENT_KIND_MEMBER:
		parts = append(parts, e.GetNode()+" "+admin.Name(e.GetStatus()))
	case adminpb.EventKind_EVENT_KIND_STATE:
		parts = append(parts, where+" "+admin.Name(e.GetState()), "on "+e.GetNode())
	default:
		parts = append(parts, where, e.GetNode())
	}
	if e.GetText() != "" {
		parts = append(parts, "("+cell(e.GetText())+")")
	}
	return strings.Join(parts, " ")
}
