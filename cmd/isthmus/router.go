package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
)

func routerCommand(t terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "router",
		Short: "Tell how the doors of virtual clusters are, and who is there",
		Long: `A router is a door for clients: a virtual cluster whose addresses never change, in front of a real one, its home. status tells how its
instances are, clients who is connected.`,
		Example: `  isthmus router status
  isthmus router clients shop --limit 20`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(routerStatusCommand(t), routerClientsCommand(t))
	return cmd
}

func routerStatusCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Tell how the instances of a router are, and what clients are told of brokers",
		Long: `Asks all nodes for the instances that they run, of one router or of all. HEARD is how long ago the home last said who its brokers are; until it
first has, an instance is not ready and hangs up on clients. REFUSED counts connections that were not taken since the instance
started; below is why.

The second table is what clients are told: for each slot the id that clients know its broker by, the broker at the home, the address,
and the node that they are sent to by it. CLIENTS are connections at all instances: any instance serves any slot.

The third is where the home of each set stands at each instance; - is what no set names. GENERATION counts the homes. PHASE is what clients
may do: serving, or while a switch is under way draining, held or lost. ROUND is the switch that it holds for, WRITES are requests under way
that may change something, and without a LEASE it does not know that the home is still the home.`,
		Example: `  isthmus router status
  isthmus router status shop --json | jq -r '.routers[].slots[] | select(.there | not) | .address'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(routerNames),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Routers(ctx, optional(args))
				if err != nil {
					return err
				}
				return a.show(res, routersTable(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	return cmd
}

func routerClientsCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var limit int32
	cmd := &cobra.Command{
		Use:   "clients [NAME]",
		Short: "List the clients at a router: who they are, what they use, what they take",
		Long: `Lists the connections of clients at one router, or at all, those that moved most bytes first. A client has several: one for each broker that
it needs, and mostly one for bootstrap.

What a client says of itself (id, software) nobody checked. PRINCIPAL is the name that it logged in with, once its cluster took the
login, or the subject of its certificate; the cluster may make another one of it by its own rules. WRITES and READS are the first
topics that it asked for; --json has up to twenty each way. IN and OUT are bytes from and to the client, DUE answers that it waits
for, THROTTLED how long it was told to wait because of a [[router.quota]], in all.`,
		Example: `  isthmus router clients
  isthmus router clients shop --limit 20
  isthmus router clients --limit 10000 --json | jq -r '.clients[] | [.software, .software_version] | join(" ")' | sort | uniq -c`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(routerNames),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.RouterClients(ctx, optional(args), limit)
				if err != nil {
					return err
				}
				return a.show(res, routerClientsTable(res))
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	cmd.Flags().Int32Var(&limit, "limit", 100, "list so many connections at most")
	return cmd
}

// routerNames are the routers of the fabric.
func routerNames(ctx context.Context, c *admin.Client, _ []string) []string {
	res, _ := c.Routers(ctx, "") // a shell has no place for errors
	var found []string
	for _, r := range res.GetRouters() {
		found = append(found, r.GetName())
	}
	return found
}
