package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/admin/drill"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// What a drill does where nobody says otherwise.
const (
	usualRTO    = 30 * time.Second
	usualSettle = 3 * time.Second
	mostSettle  = time.Hour
	noteWithin  = 20 * time.Second
)

// drillEnds is the end of the help of each drill that moves clients.
const drillEnds = `
A canary writes to a topic of its own every 100 ms, through the router's door, and reads it back: what it sees is what clients see. A link must
bring its topic both ways. It comes in by the slots of the set; where they want TLS or a login, --client is a file with one [[cluster]]
that says how. What is not good enough is brought back to where it was.

Exit codes: 0 passed; 3 failed: it went, and was not good enough; 5 refused, nothing was begun; 8 aborted, the home stays; 9 nobody knows how a
switch ended. docs/switchover.md tells more.`

func drillCommand(t terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Practise to move the clients of a router, and measure what they notice",
		Long: `Takes the clients of a router to another cluster, for practice, while a canary measures from outside for how long nobody could write (RTO) and
what was lost (RPO). It checks before, verifies behind each switch, brings back what was not good enough, and ends with a verdict. How it
ended is kept by the fabric: history lists it, and metrics tell how long ago it was.`,
		Example: `  isthmus drill plan shop --to us
  isthmus drill switchover shop --to us --back --yes
  isthmus drill history shop`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(drillPlanCommand(t), drillRehearseCommand(t), drillRunCommand(t, drill.Switchover, "Go to another cluster, as a planned switch: nothing may be lost",
		"  isthmus drill switchover shop --to us\n  isthmus drill switchover shop --to us --back --rto 2s --yes --out drills"),
		drillRunCommand(t, drill.Failover, "Go to another cluster as if the home were dead", "  isthmus drill failover shop --to us --accept-loss 1000\n  isthmus drill failover shop --to us --back --yes"),
		drillRunCommand(t, drill.Failback, "Go back to the home before", "  isthmus drill failback shop --yes"), drillHistoryCommand(t))
	return cmd
}

// drilling are the flags of drills.
type drilling struct {
	writing
	cfg       drill.Config
	bootstrap []string
	client    string // file
	out       string // folder
	mode      string // of a plan
}

func (d *drilling) flags(cmd *cobra.Command) {
	d.writing.flags(cmd, false)
	f := cmd.Flags()
	f.Lookup("why").Usage = "the reason, for the report and the audit log"
	f.Lookup("json").Usage = "the report, as one JSON object"
	f.Lookup("dry-run").Hidden = true // that is plan
	f.StringVar(&d.cfg.Set, "set", "", "the `name` of one set; default what no set names")
	f.StringVar(&d.cfg.To, "to", "", "the `cluster` that is gone to")
	f.StringVar(&d.cfg.Topic, "canary", drill.Topic, "the `topic` that the canary writes to; it is made if it is not there")
	f.Int64Var(&d.cfg.AcceptLoss, "accept-loss", 0, "so many `records` may be lost, of a failover")
	f.DurationVar(&d.cfg.RTO, "rto", usualRTO, "the objective: for how long at most nobody may be able to write")
	f.DurationVar(&d.cfg.Settle, "settle", usualSettle, "for how long the canary writes before and behind each switch")
	f.BoolVar(&d.cfg.Back, "back", false, "go back afterwards, and measure that too")
	f.BoolVar(&d.cfg.Stay, "stay", false, "bring nothing back that was not good enough")
	_ = cmd.RegisterFlagCompletionFunc("set", d.completeFlag(setNames)) // the flags are there
	_ = cmd.RegisterFlagCompletionFunc("to", d.completeFlag(clusters))
}

// check reads what the flags say.
func (d *drilling) check(mode drill.Mode, router string) error {
	d.cfg.Mode, d.cfg.Router, d.cfg.Why, d.cfg.ID = mode, router, d.why, drillID(time.Now())
	var errs []error
	if d.cfg.To == "" && mode != drill.Failback {
		errs = append(errs, errors.New("--to is missing; name the cluster that is to be gone to"))
	}
	if d.cfg.AcceptLoss < 0 {
		errs = append(errs, fmt.Errorf("--accept-loss %d is negative", d.cfg.AcceptLoss))
	}
	if d.cfg.RTO <= 0 || d.cfg.Settle < 0 || d.cfg.Settle > mostSettle {
		errs = append(errs, fmt.Errorf("--rto must be more than 0, and --settle from 0 to %v", mostSettle))
	}
	if err := errors.Join(errs...); err != nil {
		return usage(err)
	}
	return nil
}

// drillID names a drill: when it was, and a part that no other has.
func drillID(now time.Time) string {
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails
	return now.UTC().Format("20060102T150405Z-") + hex.EncodeToString(random[:])
}

func drillPlanCommand(t terminal) *cobra.Command {
	d := &drilling{writing: writing{asking: asking{t: t}}}
	cmd := &cobra.Command{
		Use:   "plan ROUTER --to CLUSTER",
		Short: "Tell what a drill would do, whether it may begin, and what clients would notice",
		Long: `Makes the checks of a drill and tells its steps, and begins nothing. --mode says which drill.

Exit codes: 0 it may begin; 5 a check has NO.`,
		Example:           "  isthmus drill plan shop --to us\n  isthmus drill plan shop --to us --mode failover --accept-loss 100 --json | jq .before",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: d.complete(routerNames),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			mode := drill.Mode(d.mode)
			if !slices.Contains([]drill.Mode{drill.Switchover, drill.Failover, drill.Failback}, mode) {
				return usage(fmt.Errorf("--mode %q is none of switchover, failover, failback", d.mode))
			}
			if err := d.check(mode, args[0]); err != nil {
				return err
			}
			return d.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				r, err := drill.Plan(ctx, d.cfg, drill.Deps{API: c, Now: time.Now})
				if err != nil {
					return err
				}
				return d.tellReport(r)
			})
		}),
	}
	d.flags(cmd)
	cmd.Flags().StringVar(&d.mode, "mode", string(drill.Switchover), "switchover, failover or failback")
	return cmd
}

func drillRehearseCommand(t terminal) *cobra.Command {
	d := &drilling{writing: writing{asking: asking{t: t}}, cfg: drill.Config{RTO: usualRTO}}
	cmd := &cobra.Command{
		Use:   "rehearse ROUTER --to CLUSTER",
		Short: "Try what a switch does, with a shadow topic; no client notices",
		Long: `A node tries what a switch would do, as far as that touches no client: it asks all instances and the control clusters, writes to a shadow topic
at the home, waits until that is mirrored, looks each record up in the offset map and reads it at the other cluster, and takes positions of a
shadow group along. It tells what a switch would have taken for these. Where no link brings the shadow topic, the rest is tried.

Exit codes: 0 it went well; 3 it did not.`,
		Example:           "  isthmus drill rehearse shop --to us\n  isthmus drill rehearse shop --to us --shadow ops.shadow --json | jq .rehearsal.seconds",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: d.complete(routerNames),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			if err := d.check(drill.Rehearse, args[0]); err != nil {
				return err
			}
			return d.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				r, err := drill.RunRehearsal(ctx, d.cfg, c, time.Now)
				if err != nil {
					return err
				}
				d.keep(ctx, c, r)
				return errors.Join(d.write(r), d.tellReport(r))
			})
		}),
	}
	d.asking.flags(cmd, "the report, as one JSON object")
	f := cmd.Flags()
	f.StringVar(&d.why, "why", "", "the reason, for the report and the audit log")
	f.StringVar(&d.cfg.Set, "set", "", "the `name` of one set; default what no set names")
	f.StringVar(&d.cfg.To, "to", "", "the `cluster` that would be gone to; required")
	f.StringVar(&d.cfg.Topic, "shadow", drill.Shadow, "the shadow `topic`; it is made if it is not there, and stays")
	f.StringVar(&d.out, "out", "", "write the report as JSON into that `folder` too")
	_ = cmd.RegisterFlagCompletionFunc("set", d.completeFlag(setNames)) // the flags are there
	_ = cmd.RegisterFlagCompletionFunc("to", d.completeFlag(clusters))
	return cmd
}

func drillRunCommand(t terminal, mode drill.Mode, short, example string) *cobra.Command {
	d := &drilling{writing: writing{asking: asking{t: t}}}
	use := string(mode) + " ROUTER --to CLUSTER"
	if mode == drill.Failback {
		use = string(mode) + " ROUTER"
	}
	cmd := &cobra.Command{Use: use, Short: short, Long: short + ".\n" + drillEnds, Example: example, Args: cobra.ExactArgs(1), ValidArgsFunction: d.complete(routerNames),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			if err := d.check(mode, args[0]); err != nil {
				return err
			}
			return d.ask(cmd.Context(), d.run)
		})}
	d.flags(cmd)
	f := cmd.Flags()
	f.BoolVarP(&d.yes, "yes", "y", false, "do it without asking")
	f.StringSliceVar(&d.bootstrap, "bootstrap", nil, "`host:port` of the door, several with commas; default the slots of the set")
	f.StringVar(&d.client, "client", "", "`file` with one [[cluster]] whose bootstrap, tls and sasl say how to come through the door")
	f.StringVar(&d.out, "out", "", "write the report as JSON into that `folder` too")
	return cmd
}

// run shows the plan, asks, does the drill, keeps and tells how it ended.
func (d *drilling) run(ctx context.Context, c *admin.Client) error {
	plan, err := drill.Plan(ctx, d.cfg, drill.Deps{API: c, Now: time.Now})
	if err != nil {
		return err
	}
	if plan.Verdict == drill.Refused {
		return d.tellReport(plan)
	}
	if !d.yes {
		if err := d.agree(plan); err != nil {
			return err
		}
	}
	door, err := d.door(ctx, c)
	if err != nil {
		return err
	}
	defer door.Close()
	r, err := drill.Run(ctx, d.cfg, drill.Deps{API: c, Probe: drill.NewCanary(door, d.cfg.Topic, d.cfg.ID), Now: time.Now, Tell: d.say})
	if err != nil {
		return err
	}
	d.keep(ctx, c, r)
	return errors.Join(d.write(r), d.tellReport(r))
}

// keep has the fabric keep how a drill ended.
func (d *drilling) keep(ctx context.Context, c *admin.Client, r *drill.Report) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
	defer cancel()
	if _, err := c.NoteDrill(ctx, r.Note()); err != nil {
		r.Warnings = append(r.Warnings, "the fabric does not keep how it ended: "+err.Error())
	}
}

// agree shows the plan and asks a person.
func (d *drilling) agree(plan *drill.Report) error {
	if !d.json {
		fmt.Fprint(d.t.out, plan.Text())
	}
	if d.json || !d.t.person {
		return &verbError{errors.New("nothing was begun: confirm it with --yes"), exitRefused}
	}
	return d.yesOrNo()
}

// say tells how far it is, on the error stream.
func (d *drilling) say(text string) {
	if !d.json {
		fmt.Fprintln(d.t.err, text)
	}
}

// door opens the way that clients take.
func (d *drilling) door(ctx context.Context, c *admin.Client) (*broker.Cluster, error) {
	profile := broker.Profile{Name: d.cfg.Router, ClientID: "isthmus-canary"}
	if d.client != "" {
		var err error
		if profile, err = clientProfile(d.client); err != nil {
			return nil, usage(err)
		}
		profile.ClientID = "isthmus-canary"
	}
	if len(d.bootstrap) > 0 {
		profile.Bootstrap = d.bootstrap
	}
	if len(profile.Bootstrap) == 0 {
		res, err := c.Routers(ctx, d.cfg.Router)
		if err != nil {
			return nil, err
		}
		profile.Bootstrap = doorsOf(res, d.cfg.Set)
	}
	if len(profile.Bootstrap) == 0 {
		return nil, fmt.Errorf("router %s has no slot that serves: isthmus router status %s; or say where the door is with --bootstrap", d.cfg.Router, d.cfg.Router)
	}
	return broker.Open(profile, nil)
}

// clientProfile reads how clients come through a door.
func clientProfile(path string) (broker.Profile, error) {
	topo, err := topology.Load(path)
	if err != nil {
		return broker.Profile{}, err
	}
	if len(topo.Clusters) != 1 {
		return broker.Profile{}, fmt.Errorf("--client: %s has %d [[cluster]]; it needs one, which says how clients come through the door", path, len(topo.Clusters))
	}
	return broker.NewProfile(topo.Clusters[0])
}

// doorsOf are the addresses that clients of a set are told, each once. At those of another set its topics cannot be made.
func doorsOf(res *adminpb.RoutersResponse, set string) (out []string) {
	for _, r := range res.GetRouters() {
		for _, s := range r.GetSlots() {
			if s.GetThere() && s.GetLive() && s.GetSet() == set && !slices.Contains(out, s.GetAddress()) {
				out = append(out, s.GetAddress())
			}
		}
	}
	slices.Sort(out)
	return out
}

// write keeps the report as a file.
func (d *drilling) write(r *drill.Report) error {
	if d.out == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.MkdirAll(d.out, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(d.out, r.ID+".json"), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// drillCodes are the exit codes of verdicts.
var drillCodes = map[drill.Verdict]int{drill.Pass: exitOK, drill.NotBegun: exitOK, drill.Fail: exitJudged, drill.Refused: exitRefused, drill.Aborted: exitAborted, drill.Unknown: exitUnknown}

// tellReport prints a report, and makes a verdict that is not good an error with its exit code.
func (d *drilling) tellReport(r *drill.Report) error {
	if d.json {
		if err := json.NewEncoder(d.t.out).Encode(r); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(d.t.out, r.Text()); err != nil {
		return err
	}
	code, ok := drillCodes[r.Verdict]
	if !ok {
		code = exitFailed
	}
	if code == exitOK {
		return nil
	}
	return &verbError{fmt.Errorf("drill %s of %s: %s", r.Mode, strings.TrimSuffix(r.Router+"/"+r.Set, "/"), r.Verdict), code}
}
