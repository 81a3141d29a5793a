package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// completeAtMost bounds how long a shell waits for names.
const completeAtMost = time.Second

// names asks a node for what an argument may be; args are those before it.
type names func(ctx context.Context, c *admin.Client, args []string) []string

// complete lets shells complete the arguments of a verb by asking a node; each has its names. A node that does not answer, or
// not in time, completes nothing.
func (a *asking) complete(of ...names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(of) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeAtMost)
		defer cancel()
		var found []string
		_ = a.ask(ctx, func(ctx context.Context, c *admin.Client) error {
			found = of[len(args)](ctx, c, args)
			return nil
		}) // a shell has no place for errors
		found = slices.DeleteFunc(found, func(s string) bool { return !strings.HasPrefix(s, begun) })
		slices.Sort(found)
		return slices.Compact(found), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag lets shells complete a flag of a verb.
func (a *asking) completeFlag(of names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.complete(func(ctx context.Context, c *admin.Client, _ []string) []string { return of(ctx, c, args) })(cmd, nil, begun)
	}
}

// reasons are those of the ledger's entries, of the link before if there is one.
func reasons(ctx context.Context, c *admin.Client, args []string) []string {
	var found []string
	_ = c.Ledger(ctx, optional(args), func(e *adminpb.LedgerEntry) error {
		if e.GetReason() != "" {
			found = append(found, e.GetReason())
		}
		return nil
	}) // a shell has no place for errors
	return found
}

// links are the links of the fabric.
func links(ctx context.Context, c *admin.Client, _ []string) []string {
	st, _ := c.LocalStatus(ctx, "", false)
	var found []string
	for _, l := range st.GetLinks() {
		found = append(found, l.GetName())
	}
	return found
}

// topics are the topics of the link before.
func topics(ctx context.Context, c *admin.Client, args []string) []string {
	st, _ := c.LocalStatus(ctx, args[len(args)-1], false)
	var found []string
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			found = append(found, f.GetTopic())
		}
	}
	return found
}

// nodes are the names of the nodes.
func nodes(ctx context.Context, c *admin.Client, _ []string) []string {
	res, _ := c.Nodes(ctx)
	var found []string
	for _, m := range res.GetMembers() {
		found = append(found, m.GetName())
	}
	return found
}

// clusters are those that a node reaches, or that links join.
func clusters(ctx context.Context, c *admin.Client, _ []string) []string {
	var found []string
	res, _ := c.Nodes(ctx) // a shell has no place for errors
	for _, m := range res.GetMembers() {
		for _, r := range m.GetReach() {
			found = append(found, r.GetCluster())
		}
	}
	st, _ := c.LocalStatus(ctx, "", false)
	for _, l := range st.GetLinks() {
		found = append(found, l.GetFrom(), l.GetTo())
	}
	return found
}

// setNames are the sets of the router before.
func setNames(ctx context.Context, c *admin.Client, args []string) []string {
	res, _ := c.Routers(ctx, optional(args)) // a shell has no place for errors
	var found []string
	for _, r := range res.GetRouters() {
		for _, s := range r.GetSets() {
			if s.GetSet() != "" {
				found = append(found, s.GetSet())
			}
		}
	}
	return found
}

// keys are those that are set.
func keys(ctx context.Context, c *admin.Client, _ []string) []string {
	res, _ := c.Settings(ctx, "")
	var found []string
	for _, s := range res.GetSettings() {
		found = append(found, s.GetKey())
	}
	return found
}

// topicPartitions are the partitions of the link before, as TOPIC:P: those that do not run, or all if all run.
func topicPartitions(ctx context.Context, c *admin.Client, args []string) []string {
	st, _ := c.Status(ctx, args[len(args)-1], true)
	var all, stand []string
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				at := fmt.Sprintf("%s:%d", f.GetTopic(), p.GetPartition())
				all = append(all, at)
				if p.GetState() != adminpb.State_STATE_RUNNING {
					stand = append(stand, at)
				}
			}
		}
	}
	if len(stand) > 0 {
		return stand
	}
	return all
}
