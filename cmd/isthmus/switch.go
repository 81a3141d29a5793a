package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/router/switchover"
)

// switchEnds is the end of the help of each verb that switches.
const switchEnds = `
On a terminal it shows what is looked at first, and asks; elsewhere it needs --yes, or the token of a dry run. A switch that has begun goes
on without you: after Ctrl-C, isthmus router status tells how it stands. docs/switchover.md says what each step means, and what to do.

Exit codes: 0 committed; 5 refused, nothing was begun; 6 beaten by another switch; 8 aborted, the home stays; 9 nobody knows how it ended:
look at isthmus router status, and run it again, which ends what is open.`

func switchoverCommand(t terminal) *cobra.Command {
	return switchCommand(t, adminpb.SwitchKind_SWITCH_KIND_PLANNED, &cobra.Command{
		Use:   "switchover ROUTER --to CLUSTER",
		Short: "Move the clients of a router to another cluster; nothing is lost or doubled",
		Long: `Moves the clients of a router, or of one of its sets, from their home to another cluster. New writes wait for a moment, what is under way is
answered, the new home gets the rest and the positions of the groups, and clients go on there, by the same addresses. Both clusters must be
well; of one that is lost, see isthmus failover.
` + switchEnds,
		Example: `  isthmus switchover shop --to us --dry-run
  isthmus switchover shop --to us --why 'new disks in eu'
  isthmus switchover shop --set fast --to us --yes --json | jq -r .gap_seconds`,
	})
}

func failoverCommand(t terminal) *cobra.Command {
	return switchCommand(t, adminpb.SwitchKind_SWITCH_KIND_UNPLANNED, &cobra.Command{
		Use:   "failover ROUTER --to CLUSTER",
		Short: "Move the clients of a router away from a cluster that is lost",
		Long: `Moves the clients of a router, or of one of its sets, to another cluster without asking their home, which is taken for lost. What it acknowledged
and was not mirrored yet is missing at the new home until the old one is back. Where the home still answers, isthmus switchover loses
nothing.
` + switchEnds,
		Example: `  isthmus failover shop --to us --yes
  isthmus failover shop --set fast --to us --dry-run`,
	})
}

func failbackCommand(t terminal) *cobra.Command {
	return switchCommand(t, adminpb.SwitchKind_SWITCH_KIND_BACK, &cobra.Command{
		Use:   "failback ROUTER",
		Short: "Move the clients of a router back to the cluster where they were before",
		Long: `Moves the clients of a router, or of one of its sets, back to the home before, as a switchover does: nothing is lost or doubled. It is refused
until that cluster has all that was written meanwhile.
` + switchEnds,
		Example: `  isthmus failback shop
  isthmus failback shop --set fast --yes`,
	})
}

// switching are the flags of the verbs that take clients to another cluster.
type switching struct {
	writing
	verb string
	req  *adminpb.SwitchRequest
}

// switchCommand adds to a verb what all that switch have in common.
func switchCommand(t terminal, kind adminpb.SwitchKind, cmd *cobra.Command) *cobra.Command {
	s := &switching{writing: writing{asking: asking{t: t}}, req: &adminpb.SwitchRequest{Kind: kind}}
	s.verb = cmd.Name()
	cmd.Args = cobra.ExactArgs(1)
	cmd.ValidArgsFunction = s.complete(routerNames)
	cmd.RunE = verb(func(cmd *cobra.Command, args []string) error {
		s.req.Router, s.req.Why = args[0], s.why
		var errs []error
		if s.req.GetRouter() == "" {
			errs = append(errs, errors.New("the router is empty; isthmus router status lists the routers"))
		}
		if s.req.GetTo() == "" && kind != adminpb.SwitchKind_SWITCH_KIND_BACK {
			errs = append(errs, errors.New("--to is missing; name the cluster that is to be the home"))
		}
		if err := errors.Join(errs...); err != nil {
			return usage(err)
		}
		return s.run(cmd.Context())
	})
	s.flags(cmd, true)
	f := cmd.Flags()
	f.Lookup("dry-run").Usage = "tell whether it may begin, and begin nothing"
	f.Lookup("why").Usage = "the reason, for the audit log"
	f.Lookup("confirm").Usage = "the `token` of a dry run: do it if the home is still the one of which it told"
	f.Lookup("json").Usage = "how it ended, as one JSON object"
	f.StringVar(&s.req.Set, "set", "", "the `name` of one set; default what no set names")
	_ = cmd.RegisterFlagCompletionFunc("set", s.completeFlag(setNames)) // the flag is there
	if kind != adminpb.SwitchKind_SWITCH_KIND_BACK {
		f.StringVar(&s.req.To, "to", "", "the `cluster` that is to be the home; required")
		_ = cmd.RegisterFlagCompletionFunc("to", s.completeFlag(clusters))
	}
	return cmd
}

// run does what the flags say: only looks, does it, or looks, asks and does it.
func (s *switching) run(ctx context.Context) error {
	return s.ask(ctx, func(ctx context.Context, c *admin.Client) error {
		s.req.Confirm = s.confirm
		if s.dryRun || s.confirm == "" && !s.yes {
			dry, err := s.follow(ctx, c, true)
			switch {
			case err != nil:
				return err
			case s.dryRun || dry.GetOutcome() != readyOutcome:
				return s.tellEnd(dry)
			}
			if err := s.sure(outcome{message: dry, plan: switchText(s.verb, dry), confirm: dry.GetConfirm()}); err != nil {
				return err
			}
			s.req.Confirm = dry.GetConfirm()
		}
		last, err := s.follow(ctx, c, false)
		if err != nil {
			return err
		}
		return s.tellEnd(last)
	})
}

// follow has the node do it, shows how far it is, and returns what is known when there is no more. A switch that began and of which nobody tells how it ended is
// one whose end is not known, and no error.
func (s *switching) follow(ctx context.Context, c *admin.Client, dryRun bool) (*adminpb.SwitchProgress, error) {
	s.req.DryRun = dryRun
	show := newStepsShown(s.t, s.json)
	var last *adminpb.SwitchProgress
	err := c.Switch(ctx, s.req, func(m *adminpb.SwitchProgress) error {
		last = m
		show.show(m)
		return nil
	})
	show.clear()
	switch {
	case last.GetStep() == string(switchover.Idle):
		return last, nil
	case dryRun || last.GetStep() == "" || last.GetStep() == string(switchover.Preflight):
		return nil, cmp.Or(err, errors.New("the node did not say how it ended"))
	}
	why := "the node said no more"
	if err != nil {
		why = err.Error()
	}
	last.Outcome = cmp.Or(last.GetOutcome(), string(switchover.Unknown))
	last.Why = cmp.Or(last.GetWhy(), why)
	return last, nil
}

// tellEnd prints how it ended, and makes what is not committed an error with its exit code.
func (s *switching) tellEnd(last *adminpb.SwitchProgress) error {
	text := switchText(s.verb, last)
	if last.GetConfirm() != "" {
		text += fmt.Sprintf("to do it: the same again with --confirm %s\n", last.GetConfirm())
	}
	if err := s.tell(nil, outcome{message: last}, text); err != nil {
		return err
	}
	end, ok := switchEnding[last.GetOutcome()]
	if !ok {
		end = switchEnding[string(switchover.Unknown)]
	}
	if end.code == exitOK {
		return nil
	}
	return &verbError{fmt.Errorf("%s of %s %s", s.verb, ofRouter(last), end.says), end.code}
}
