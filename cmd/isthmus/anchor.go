package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func anchorCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	var at string
	cmd := &cobra.Command{
		Use:   "anchor LINK TOPIC:P --at OFFSET|start|end --why TEXT",
		Short: "Say where a partition goes on, when nobody else can know",
		Long: `Says at which offset of the source a partition goes on: the way out of every state in which it halts because only a person can decide.
start is the first record that the source still has, end is behind its last one.

Anchoring may lose records or write them to the target twice. The dry run tells exactly which, and does nothing; what it told is done by
the token it prints, and refused if it would be something else by now. What is lost or doubled is in isthmus ledger before it happens,
with --why and who wanted it. The node that copies the partition does it; any node takes the order.

A partition that runs moves on all the time, so that no token fits: pause it first.`,
		Example: `  isthmus anchor eu-us orders:3 --at start --why 'the topic was made anew' --dry-run
  isthmus anchor eu-us orders:3 --at 120000 --why 'behind the broken batch' --confirm 3f9ac1d2e0@120000
  isthmus anchor eu-us orders:3 --at end --why 'old records are not wanted'    asks before it does it`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: w.complete(links, topicPartitions),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			req, err := parseAnchor(args[0], args[1], at, w.why)
			if err != nil {
				return usage(err)
			}
			return w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, confirm string) (outcome, error) {
				req.DryRun, req.Confirm = dryRun, confirm
				return anchored(c.Anchor(ctx, req))
			})
		}),
	}
	w.flags(cmd, true)
	cmd.Flags().Lookup("why").Usage = "the reason, for the ledger; required"
	cmd.Flags().StringVar(&at, "at", "", "source `offset` of the next record to copy, start or end; required")
	_ = cmd.RegisterFlagCompletionFunc("at", cobra.FixedCompletions([]cobra.Completion{"start", "end"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return cmd
}

// parseAnchor reads what is to be anchored, and where. Its error names all that is wrong.
func parseAnchor(link, partition, at, why string) (*adminpb.AnchorRequest, error) {
	req := &adminpb.AnchorRequest{Link: link, Why: why}
	var errs []error
	if link == "" {
		errs = append(errs, errors.New("the link is empty; isthmus status lists the links"))
	}
	var err error
	if req.Topic, req.Partition, err = parseTopicPartition(partition); err != nil {
		errs = append(errs, err)
	}
	switch at {
	case "":
		errs = append(errs, errors.New("--at is missing; give the source offset of the next record to copy, start or end"))
	case "start":
		req.At = adminpb.AnchorAt_ANCHOR_AT_START
	case "end":
		req.At = adminpb.AnchorAt_ANCHOR_AT_END
	default:
		req.At = adminpb.AnchorAt_ANCHOR_AT_OFFSET
		if req.Offset, err = strconv.ParseInt(at, 10, 64); err != nil || req.Offset < 0 {
			errs = append(errs, fmt.Errorf("--at %q is neither an offset from 0 on, nor start, nor end", at))
		}
	}
	if strings.TrimSpace(why) == "" {
		errs = append(errs, errors.New("--why is missing; say why, in a few words: it goes into the ledger"))
	}
	return req, errors.Join(errs...)
}

// parseTopicPartition reads TOPIC:P.
func parseTopicPartition(text string) (string, int32, error) {
	topic, number, ok := strings.Cut(text, ":")
	n, err := strconv.ParseInt(number, 10, 32)
	if !ok || topic == "" || err != nil || n < 0 {
		return "", 0, fmt.Errorf("partition %q is not TOPIC:P, such as orders:3", text)
	}
	return topic, int32(n), nil
}

// anchored makes the answer of an anchor an outcome.
func anchored(res *adminpb.AnchorResponse, err error) (outcome, error) {
	if err != nil {
		return outcome{}, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "goes on at source offset %d; without this at %s\n", res.GetAfter(), offset(res.GetBefore()))
	fmt.Fprintf(&b, "lost: %s, doubled: %s\n", recordsText(res.GetLost()), recordsText(res.GetDoubled()))
	for _, line := range res.GetPlan() {
		b.WriteString(line + "\n")
	}
	for _, e := range res.GetEntries() {
		fmt.Fprintf(&b, "ledger: %s:%d %d-%d, %s, %s: %s\n", e.GetTopic(), e.GetPartition(), e.GetFirst(), e.GetLast(), recordsText(e.GetRecords()),
			e.GetReason(), e.GetDetail())
	}
	return outcome{message: res, plan: b.String(), confirm: res.GetConfirm(), after: fmt.Sprintf("done by node %s\n", res.GetNode())}, nil
}

// recordsText is a number of records as people say it.
func recordsText(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n == 0:
		return "none"
	case n == 1:
		return "1 record"
	}
	return fmt.Sprintf("%d records", n)
}
