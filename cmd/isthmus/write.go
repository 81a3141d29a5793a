package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// writing are the flags of the verbs that change something.
type writing struct {
	asking
	why     string
	dryRun  bool
	confirm string
	yes     bool
}

// flags adds the flags to a verb. A verb that never stops work against somebody's will needs no confirmation.
func (w *writing) flags(cmd *cobra.Command, confirms bool) {
	w.asking.flags(cmd, "what was done, or would be, as one JSON object")
	f := cmd.Flags()
	f.StringVar(&w.why, "why", "", "the reason, for the history")
	f.BoolVar(&w.dryRun, "dry-run", false, "tell what would change, and change nothing")
	if confirms {
		f.StringVar(&w.confirm, "confirm", "", "the `token` of a dry run: do what it told, and nothing else")
		f.BoolVarP(&w.yes, "yes", "y", false, "do it without asking")
	}
}

// outcome is what a write did, or would do.
type outcome struct {
	message proto.Message
	plan    string // for people
	confirm string // the token that the write needs; empty for none
	after   string // for people, once it is done
}

// step sends the write: as a dry run, or with a confirm token that may be empty.
type step func(ctx context.Context, c *admin.Client, dryRun bool, confirm string) (outcome, error)

// wrote makes the usual answer of a write an outcome.
func wrote(res *adminpb.WriteResponse, err error) (outcome, error) {
	if err != nil {
		return outcome{}, err
	}
	o := outcome{message: res, plan: planText(res), confirm: res.GetConfirm()}
	if res.GetNote() != "" {
		o.after = fmt.Sprintf("note: %s\n", res.GetNote())
	}
	if res.GetVersion() != "" {
		o.after += fmt.Sprintf("done; isthmus undo %s takes it back\n", res.GetVersion())
	}
	return o, nil
}

// write does what the flags say: only tells, writes what was told before, or tells, asks and writes.
func (w *writing) write(ctx context.Context, do step) error {
	return w.ask(ctx, func(ctx context.Context, c *admin.Client) error {
		if w.confirm != "" && !w.dryRun {
			o, err := do(ctx, c, false, w.confirm)
			return w.tell(err, o, o.plan+o.after)
		}
		plan, err := do(ctx, c, true, "")
		switch {
		case err != nil:
			return err
		case w.dryRun && plan.confirm == "":
			return w.tell(nil, plan, plan.plan)
		case w.dryRun:
			return w.tell(nil, plan, fmt.Sprintf("%sto do it: the same again with --confirm %s\n", plan.plan, plan.confirm))
		case plan.confirm == "" || w.yes:
			o, err := do(ctx, c, false, plan.confirm)
			return w.tell(err, o, o.plan+o.after)
		}
		if err := w.sure(plan); err != nil {
			return err
		}
		o, err := do(ctx, c, false, plan.confirm)
		return w.tell(err, o, o.after)
	})
}

// tell prints an outcome, if there is one: the message, or the text for people.
func (w *writing) tell(err error, o outcome, text string) error {
	switch {
	case err != nil:
		return err
	case w.json:
		return w.print(o.message)
	}
	_, err = fmt.Fprint(w.t.out, text)
	return err
}

// sure tells the plan and asks a person. Without one, or without a yes, it is an error that nothing was changed.
func (w *writing) sure(plan outcome) error {
	if err := w.tell(nil, plan, plan.plan); err != nil {
		return err
	}
	if w.json || !w.t.person {
		return &verbError{fmt.Errorf("nothing was changed: confirm it with --confirm %s, or --yes", plan.confirm), exitRefused}
	}
	return w.yesOrNo()
}

// yesOrNo asks a person who has read what would be done. Without a yes it is an error that nothing was changed.
func (w *writing) yesOrNo() error {
	fmt.Fprint(w.t.err, "do it? [y/N] ")
	answer, _ := bufio.NewReader(w.t.in).ReadString('\n') // what cannot be read is no yes
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &verbError{errors.New("nothing was changed"), exitRefused}
}

// planText tells a person what changes, and where.
func planText(res *adminpb.WriteResponse) string {
	var b strings.Builder
	b.WriteString(planLines(res.GetPlan()))
	for i, t := range res.GetTouched() {
		if i == maxNotes {
			fmt.Fprintf(&b, "touches %d more topics\n", len(res.GetTouched())-maxNotes)
			break
		}
		fmt.Fprintf(&b, "touches %s %s:%s\n", t.GetLink(), t.GetTopic(), ranges(t.GetPartitions()))
	}
	return b.String()
}

// planLines are the lines of a plan, each with its end.
func planLines(plan []string) string {
	if len(plan) == 0 {
		return "nothing changes: it is like that already\n"
	}
	return strings.Join(plan, "\n") + "\n"
}

// ranges writes numbers in order as 0-3,7.
func ranges(numbers []int32) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := fmt.Sprint(numbers[i])
		if j > i {
			part += fmt.Sprintf("-%d", numbers[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}
