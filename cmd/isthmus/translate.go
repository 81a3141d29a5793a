package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func translateCommand(t terminal) *cobra.Command {
	a := asking{t: t}
	var reverse bool
	var group string
	cmd := &cobra.Command{
		Use:   "translate LINK {TOPIC:PARTITION@OFFSET | --group ID}",
		Short: "Tell where a position is at the other end of a link",
		Long: `Tells where a reader that has consumed everything before OFFSET at one end of a link goes on at the other end. With --group, each position
that the group has committed is translated, of a link that keeps its positions (groups in its [[link]]). Exit code 1: not all could be.

The answer never skips a record. It is exact where the record at OFFSET has its copy; otherwise (OFFSET is the end of the
log or a hole, or both clusters take writes and their orders differ) it is the highest position that skips nothing.`,
		Example: `  isthmus translate eu-us orders:3@120000             from eu to us
  isthmus translate eu-us orders:3@118000 --reverse   an offset of us, as one of eu
  isthmus translate eu-us --group shop                where the group shop of eu would go on at us`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("group") {
				return cobra.ExactArgs(1)(cmd, args)
			}
			return cobra.ExactArgs(2)(cmd, args)
		},
		ValidArgsFunction: a.complete(links),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("group") {
				return a.translateGroup(cmd.Context(), &adminpb.TranslateGroupRequest{Link: args[0], Group: group, Reverse: reverse})
			}
			req, err := parsePosition(args[1])
			if err != nil {
				return usage(err)
			}
			req.Link, req.Reverse = args[0], reverse
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				res, err := c.Translate(ctx, req)
				if err != nil {
					return err
				}
				if a.json {
					return a.print(res)
				}
				how := "exact"
				if !res.GetExact() {
					how = "not exact: the highest position that skips nothing"
				}
				_, err = fmt.Fprintf(t.out, "%s %s:%d@%d -> %s %s:%d@%d (%s)\n", res.GetFrom(), res.GetTopic(), res.GetPartition(),
					res.GetOffset(), res.GetTo(), cmp.Or(res.GetAs(), res.GetTopic()), res.GetPartition(), res.GetResult(), how)
				return err
			})
		}),
	}
	a.flags(cmd, "one JSON object")
	cmd.Flags().BoolVar(&reverse, "reverse", false, "OFFSET, or the group's positions, are of the link's target; tell those of its source")
	cmd.Flags().StringVar(&group, "group", "", "translate the positions of the group of that `id`")
	_ = cmd.RegisterFlagCompletionFunc("group", a.completeFlag(groupIDs)) // the flag is there
	return cmd
}

// parsePosition reads TOPIC:PARTITION@OFFSET. Names of topics hold neither : nor @.
func parsePosition(text string) (*adminpb.TranslateRequest, error) {
	wrong := func(what string) error {
		return fmt.Errorf("position %q: %s; write TOPIC:PARTITION@OFFSET, such as orders:3@120000", text, what)
	}
	topic, rest, ok := strings.Cut(text, ":")
	if !ok {
		return nil, wrong("there is no : after the topic")
	}
	if topic == "" {
		return nil, wrong("the topic is empty")
	}
	part, at, ok := strings.Cut(rest, "@")
	if !ok {
		return nil, wrong("there is no @ after the partition")
	}
	partition, err := strconv.ParseInt(part, 10, 32)
	if err != nil || partition < 0 {
		return nil, wrong(fmt.Sprintf("partition %q is not a number from 0 on", part))
	}
	offset, err := strconv.ParseInt(at, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return nil, wrong(fmt.Sprintf("offset %q is too large", at))
	}
	if err != nil || offset < 0 {
		return nil, wrong(fmt.Sprintf("offset %q is not a number from 0 on", at))
	}
	return &adminpb.TranslateRequest{Topic: topic, Partition: int32(partition), Offset: offset}, nil
}
