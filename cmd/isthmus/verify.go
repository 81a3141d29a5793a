package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func verifyCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var from, to int64
	cmd := &cobra.Command{
		Use:   "verify LINK [TOPIC[:P,...]]",
		Short: "Read both ends of a link again, and prove that they hold the same",
		Long: `Reads the records of a link, of the topics that a pattern fits, or of single partitions again at both ends and compares them: for each
partition, ranges that are proved identical, or the first difference: a record that is missing, doubled, swapped, changed or extra. What
the ledger declares is no difference, and is told as a note.

The nodes that copy the partitions read them, slower than the copying, which goes on. Two runs at a time are done by each node. Ctrl-C ends
it, and tells what is known by then.

Exit code 7: a difference was found. 1: no difference, but something could not be read to its end.`,
		Example: `  isthmus verify eu-us
  isthmus verify eu-us orders:3 --from 100000 --to 200000
  isthmus verify eu-us 'audit-*' --json | jq -c '.result | select(.verdict == "different")'`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.complete(links, topics),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			req, err := parseVerify(args, from, to)
			if err != nil {
				return usage(err)
			}
			return a.verify(cmd.Context(), req)
		}),
	}
	a.flags(cmd, "one JSON object a line: each partition when it is done")
	cmd.Flags().Int64Var(&from, "from", 0, "the first source `offset`; default the first one that there is")
	cmd.Flags().Int64Var(&to, "to", 0, "the source `offset` to stop before; default all that is copied when it begins")
	return cmd
}

// parseVerify reads what is to be verified. Its error names all that is wrong.
func parseVerify(args []string, from, to int64) (*adminpb.VerifyRequest, error) {
	p, err := parsePart(args)
	errs := []error{err}
	if from < 0 {
		errs = append(errs, fmt.Errorf("--from %d is negative", from))
	}
	switch {
	case to < 0:
		errs = append(errs, fmt.Errorf("--to %d is negative", to))
	case to > 0 && to <= from:
		errs = append(errs, fmt.Errorf("--to %d is not behind --from %d: there is nothing between them", to, from))
	}
	return &adminpb.VerifyRequest{Link: p.link, Topic: p.topic, Partitions: p.partitions, From: from, To: to}, errors.Join(errs...)
}

// verify asks, shows how far it is, and tells what was found, also when it did not come to its end.
func (a *asking) verify(ctx context.Context, req *adminpb.VerifyRequest) error {
	var all verdicts
	bar := newBar(a.t)
	err := a.ask(ctx, func(ctx context.Context, c *admin.Client) error {
		return c.Verify(ctx, req, func(m *adminpb.VerifyResponse) error {
			if p := m.GetProgress(); p != nil {
				bar.show(p, len(all.different()))
				return nil
			}
			all.add(m)
			if a.json {
				return a.print(m)
			}
			return nil
		})
	})
	bar.clear()
	if !a.json {
		if _, bad := fmt.Fprint(a.t.out, all.table()); bad != nil && err == nil {
			err = bad
		}
	}
	if len(all.different()) > 0 {
		return &verbError{errors.Join(fmt.Errorf("the two ends of %s differ in %s", req.GetLink(), partitionsText(len(all.different()))), err), exitDiffers}
	}
	if n := len(all.unread()); err == nil && n > 0 {
		return &verbError{fmt.Errorf("%s could not be verified to the end", partitionsText(n)), exitFailed}
	}
	return err
}

func partitionsText(n int) string {
	if n == 1 {
		return "1 partition"
	}
	return fmt.Sprintf("%d partitions", n)
}

// verdicts are what a run found.
type verdicts struct {
	results    []*adminpb.VerifyResult
	unanswered []*adminpb.Unanswered
}

func (v *verdicts) add(m *adminpb.VerifyResponse) {
	if r := m.GetResult(); r != nil {
		v.results = append(v.results, r)
	}
	v.unanswered = append(v.unanswered, m.GetUnanswered()...)
}

func (v *verdicts) with(verdict adminpb.VerifyVerdict) (found []*adminpb.VerifyResult) {
	for _, r := range v.results {
		if r.GetVerdict() == verdict {
			found = append(found, r)
		}
	}
	return found
}

func (v *verdicts) different() []*adminpb.VerifyResult {
	return v.with(adminpb.VerifyVerdict_VERIFY_VERDICT_DIFFERENT)
}

func (v *verdicts) unread() []*adminpb.VerifyResult {
	return v.with(adminpb.VerifyVerdict_VERIFY_VERDICT_NOT_VERIFIED)
}

// table has a row for each partition, those with a difference first; below it what is wrong, and then what should be known.
func (v *verdicts) table() string {
	if len(v.results) == 0 {
		return ""
	}
	rank := []adminpb.VerifyVerdict{adminpb.VerifyVerdict_VERIFY_VERDICT_DIFFERENT, adminpb.VerifyVerdict_VERIFY_VERDICT_NOT_VERIFIED}
	order := func(r *adminpb.VerifyResult) int {
		if i := slices.Index(rank, r.GetVerdict()); i >= 0 {
			return i
		}
		return len(rank)
	}
	slices.SortFunc(v.results, func(a, b *adminpb.VerifyResult) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.GetTopic(), b.GetTopic()), cmp.Compare(a.GetPartition(), b.GetPartition()))
	})
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tVERDICT\tIDENTICAL\tRECORDS\tTARGET\tDIGEST\tNODE")
	var records int64
	var wrong, notes []string
	for _, r := range v.results {
		at := fmt.Sprintf("%s:%d", r.GetTopic(), r.GetPartition())
		records += r.GetRecords()
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", at, strings.ReplaceAll(admin.Name(r.GetVerdict()), "_", " "), span(r.GetFrom(), r.GetTo()), r.GetRecords(),
			span(r.GetTargetFrom(), r.GetTargetTo()), short(r.GetDigest()), orDash(r.GetNode()))
		if d := r.GetDifference(); d != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %s, source offset %s, target offset %s: %s", at, d.GetKind(), offset(d.GetSourceOffset()),
				offset(d.GetTargetOffset()), d.GetDetail()))
		}
		if r.GetTrouble() != "" {
			wrong = append(wrong, fmt.Sprintf("%s: %s", at, r.GetTrouble()))
		}
		for _, n := range r.GetNotes() {
			notes = append(notes, fmt.Sprintf("note: %s: not compared: offsets %s, %s records: %s\n", at, span(n.GetFrom(), n.GetTo()), countText(n.GetRecords()), n.GetWhy()))
		}
	}
	w.Flush() // to a strings.Builder, which never fails
	fmt.Fprintf(&b, "\n%d of %s identical, %d records\n", len(v.results)-len(v.different())-len(v.unread()), partitionsText(len(v.results)), records)
	writeNotes(&b, append(unanswered(v.unanswered), wrong...))
	if more := len(notes) - maxNotes; more > 0 {
		notes = append(notes[:maxNotes], fmt.Sprintf("note: and %d more; --json has all\n", more))
	}
	for i, note := range notes {
		if i == 0 {
			b.WriteString("\n")
		}
		b.WriteString(note)
	}
	return b.String()
}

// span is a range of offsets whose end does not belong to it, as people read it: both ends do.
func span(from, to int64) string {
	switch {
	case to <= from:
		return "-"
	case to == from+1:
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d-%d", from, to-1)
}

// shortDigest is as much of a digest as tells two apart.
const shortDigest = 12

func short(digest string) string {
	return orDash(digest[:min(len(digest), shortDigest)])
}
