package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// part is a part of what one link mirrors.
type part struct {
	link, topic string
	partitions  []int32
}

func pauseCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	var timeFor time.Duration
	cmd := &cobra.Command{
		Use:   "pause LINK [TOPIC[:P,...]]",
		Short: "Stop the copying of a link, a topic, a pattern or single partitions",
		Long: `Stops the copying of a whole link, of the topics that a pattern fits, or of single partitions, also of ones that do not exist
yet. Any node takes the order; the node that copies a partition stops it within seconds. It stays stopped when nodes come and
go, until isthmus resume, or until --for is over; then it goes on at its place.`,
		Example: `  isthmus pause eu-us orders:3 --why 'consumer is being repaired'
  isthmus pause eu-us 'audit-*' --for 2h
  isthmus pause eu-us                     the whole link`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: w.complete(links, topics),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			p, err := parsePart(args)
			if err != nil {
				return usage(err)
			}
			if timeFor < 0 {
				return usage(fmt.Errorf("--for %s is negative", timeFor))
			}
			return w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, _ string) (outcome, error) {
				res, err := c.Pause(ctx, &adminpb.PauseRequest{Link: p.link, Topic: p.topic, Partitions: p.partitions, Why: w.why,
					ForSeconds: timeFor.Seconds(), DryRun: dryRun})
				o, err := wrote(res, err)
				if err == nil && len(res.GetTouched()) == 0 && len(res.GetPlan()) > 0 {
					o.plan += "touches no partition that there is now, only those to come\n"
				}
				return o, err
			})
		}),
	}
	w.flags(cmd, false)
	cmd.Flags().DurationVar(&timeFor, "for", 0, "resume by itself after so long; 0 is never")
	return cmd
}

func resumeCommand(t terminal) *cobra.Command {
	w := writing{asking: asking{t: t}}
	cmd := &cobra.Command{
		Use:   "resume LINK [TOPIC[:P,...]]",
		Short: "Let what was paused go on",
		Long: `Takes back every pause that lies within what is named: those of a link, of the topics of a pattern, or of single partitions.
What was paused goes on at its place.`,
		Example: `  isthmus resume eu-us orders:3
  isthmus resume eu-us                    every pause of the link`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: w.complete(links, topics),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			p, err := parsePart(args)
			if err != nil {
				return usage(err)
			}
			return w.write(cmd.Context(), func(ctx context.Context, c *admin.Client, dryRun bool, _ string) (outcome, error) {
				return wrote(c.Resume(ctx, &adminpb.ResumeRequest{Link: p.link, Topic: p.topic, Partitions: p.partitions, Why: w.why, DryRun: dryRun}))
			})
		}),
	}
	w.flags(cmd, false)
	return cmd
}

// parsePart reads LINK [TOPIC[:P,...]]. Names of topics hold no colon; a regexp may, so the numbers are behind the last one
// and only if there are numbers.
func parsePart(args []string) (part, error) {
	p := part{link: args[0]}
	if p.link == "" {
		return p, errors.New("the link is empty; isthmus status lists the links")
	}
	if len(args) == 1 {
		return p, nil
	}
	text := args[1]
	wrong := func(what string) error {
		return fmt.Errorf("topic %q: %s; write TOPIC or TOPIC:P,P, such as orders:0,3", text, what)
	}
	at := strings.LastIndexByte(text, ':')
	if at < 0 || strings.HasPrefix(text, "~") && !numbers(text[at+1:]) {
		if p.topic = text; text == "" {
			return p, wrong("it is empty")
		}
		return p, nil
	}
	if p.topic = text[:at]; p.topic == "" {
		return p, wrong("there is no topic before the colon; * is all topics")
	}
	for _, number := range strings.Split(text[at+1:], ",") {
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || n < 0 {
			return p, wrong(fmt.Sprintf("partition %q is not a number from 0 on", number))
		}
		p.partitions = append(p.partitions, int32(n))
	}
	slices.Sort(p.partitions)
	p.partitions = slices.Compact(p.partitions)
	return p, nil
}

// numbers tells whether a text is numbers with commas.
func numbers(text string) bool {
	return text != "" && strings.Trim(text, "0123456789,") == ""
}
