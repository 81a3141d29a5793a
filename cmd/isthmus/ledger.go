package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
)

func ledgerCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var f ledgerFlags
	cmd := &cobra.Command{
		Use:   "ledger [LINK]",
		Short: "List the records that could not be mirrored as promised",
		Long: `Lists the ranges of source offsets that were not mirrored, or not as promised: both ends of each, how many records are in it, the reason, when
it was found, the policy of the link that made it so, and the digest of the records where they could be read.

Nothing that Isthmus loses, repeats or has to reorder is missing here. An empty ledger is a good one. All nodes are asked; those
that do not answer are named.`,
		Example: `  isthmus ledger
  isthmus ledger eu-us --topic 'orders*' --since 24h
  isthmus ledger eu-us --reason dead-letter,skipped
  isthmus ledger eu-us --json   one JSON object a line`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(links),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			chosen, err := f.parse(time.Now())
			if err != nil {
				return usage(err)
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				return a.ledger(ctx, c, optional(args), chosen)
			})
		}),
	}
	a.flags(cmd, "one JSON object a line")
	cmd.Flags().StringVar(&f.topic, "topic", "", "only topics that this `pattern` fits")
	cmd.Flags().StringSliceVar(&f.reasons, "reason", nil, "only these reasons, such as behind-retention; with commas or repeated")
	cmd.Flags().StringVar(&f.since, "since", "", "only what was found since then: a `time` such as 2026-03-04T12:00:00Z, or how long ago, such as 24h")
	_ = cmd.RegisterFlagCompletionFunc("reason", a.completeFlag(reasons)) // the flag is there
	return cmd
}

// optional is the only argument, or empty.
func optional(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// ledgerFlags choose entries, as they were typed.
type ledgerFlags struct {
	topic, since string
	reasons      []string
}

// ledgerFilter chooses entries.
type ledgerFilter struct {
	topic   topology.Patterns // empty: all
	reasons []string          // empty: all
	since   time.Time         // zero: all
}

// parse reads the flags. Its error names all that is wrong.
func (f ledgerFlags) parse(now time.Time) (ledgerFilter, error) {
	l := ledgerFilter{reasons: f.reasons}
	var errs []error
	if f.topic != "" {
		p, err := topology.ParsePattern(f.topic)
		if err != nil {
			errs = append(errs, fmt.Errorf("--topic: %w", err))
		}
		l.topic = topology.Patterns{p}
	}
	if f.since != "" {
		at, err := time.Parse(time.RFC3339, f.since)
		if ago, bad := time.ParseDuration(f.since); bad == nil && ago >= 0 {
			at, err = now.Add(-ago), nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--since %q is neither a time such as 2026-03-04T12:00:00Z nor how long ago, such as 24h", f.since))
		}
		l.since = at
	}
	return l, errors.Join(errs...)
}

// all tells whether it leaves nothing out.
func (f ledgerFilter) all() bool { return len(f.topic) == 0 && len(f.reasons) == 0 && f.since.IsZero() }

func (f ledgerFilter) fits(e *adminpb.LedgerEntry) bool {
	return (len(f.topic) == 0 || f.topic.Match(e.GetTopic())) && (len(f.reasons) == 0 || slices.Contains(f.reasons, e.GetReason())) &&
		!e.GetAt().AsTime().Before(f.since)
}

func (a *asking) ledger(ctx context.Context, c *admin.Client, link string, chosen ledgerFilter) error {
	w := tabwriter.NewWriter(a.t.out, 0, 0, 2, ' ', 0)
	var sum ledgerSum
	var missing []string
	err := c.Ledger(ctx, link, func(e *adminpb.LedgerEntry) error {
		whole := len(e.GetUnanswered()) > 0 // it is no entry
		if !whole && !sum.add(e, chosen.fits(e)) {
			return nil
		}
		if a.json {
			return a.print(e)
		}
		if whole {
			missing = append(missing, unanswered(e.GetUnanswered())...)
			return nil
		}
		if sum.entries == 1 {
			fmt.Fprintln(w, "AT\tLINK\tPARTITION\tOFFSETS\tRECORDS\tREASON\tPOLICY\tDIGEST\tDETAIL")
		}
		_, err := fmt.Fprintf(w, "%s\t%s\t%s:%d\t%d-%d\t%s\t%s\t%s\t%s\t%s\n", e.GetAt().AsTime().Format(time.RFC3339), e.GetLink(),
			e.GetTopic(), e.GetPartition(), e.GetFirst(), e.GetLast(), countText(e.GetRecords()), e.GetReason(), orDash(e.GetPolicy()), short(e.GetDigest()),
			e.GetDetail())
		return err
	})
	if err != nil || a.json {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(sum.text(chosen.all(), len(missing) == 0))
	writeNotes(&b, missing)
	_, err = fmt.Fprint(a.t.out, b.String())
	return err
}

// countText is a number, or that it is not known.
func countText(n int64) string {
	if n < 0 {
		return "unknown"
	}
	return fmt.Sprint(n)
}

// ledgerSum adds up entries.
type ledgerSum struct {
	entries, others int   // that were chosen, and that were not
	records         int64 // that are known of
	unknown         int   // entries whose records are not
}

// add counts an entry, and returns whether it was chosen.
func (s *ledgerSum) add(e *adminpb.LedgerEntry, chosen bool) bool {
	switch {
	case !chosen:
		s.others++
		return false
	case e.GetRecords() < 0:
		s.unknown++
	default:
		s.records += e.GetRecords()
	}
	s.entries++
	return true
}

// text says it to a person; everything: nothing was left out by choice; answered: by no node either.
func (s *ledgerSum) text(everything, answered bool) string {
	switch {
	case s.entries == 0 && !everything && s.others > 0:
		return fmt.Sprintf("nothing in the ledger fits; without --topic, --reason and --since it has %s\n", entriesText(s.others))
	case s.entries == 0 && answered:
		return "the ledger is empty: nothing was lost, repeated or reordered\n"
	case s.entries == 0:
		return "the ledger is empty, as far as nodes answered\n"
	case s.unknown == 0:
		return fmt.Sprintf("\n%s: %s\n", entriesText(s.entries), recordsText(s.records))
	}
	return fmt.Sprintf("\n%s: %s, and those of %s whose number cannot be known\n", entriesText(s.entries), recordsText(s.records), entriesText(s.unknown))
}

func entriesText(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
