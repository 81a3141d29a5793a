package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/cmd/isthmus/demo"
)

// frameAtMost bounds how long a frame waits for nodes.
const frameAtMost = 3 * time.Second

// watch draws the live table until ctx ends.
func (s *demoStage) watch(ctx context.Context, play *demo.Demo, until string) {
	screen := newScreen(s.t)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var before *adminpb.StatusResponse
	for begun := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		st, members := s.look(ctx)
		counts, ends := play.Counts(), play.LogEnds(ctx)
		var b strings.Builder
		fmt.Fprintf(&b, "isthmus demo: three data centers, two nodes each, producing %s (%s so far)\n", until, time.Since(begun).Round(time.Second))
		fmt.Fprintf(&b, "acknowledged %d   aborted %d   log ends: eu %d, us %d, ap %d\n\n", counts.Acked, counts.Aborted, ends["eu"], ends["us"], ends["ap"])
		b.WriteString(s.table(members) + "\n")
		if st != nil {
			b.WriteString(statusView{brief: true}.table(st, before) + "\n")
			before = st
		}
		b.WriteString(s.hints() + "^C stops the producers and judges\n")
		screen.frame(b.String())
	}
}

// look asks the fabric through a node that lives; nil where none answers.
func (s *demoStage) look(ctx context.Context) (st *adminpb.StatusResponse, members *adminpb.NodesResponse) {
	ctx, cancel := context.WithTimeout(ctx, frameAtMost)
	defer cancel()
	_ = s.anyNode().ask(ctx, func(ctx context.Context, c *admin.Client) (err error) {
		if members, err = c.Nodes(ctx); err != nil {
			return err
		}
		st, err = c.Status(ctx, "", true)
		return err
	}) // what is missing is not shown; the next frame asks again
	return st, members
}

// table is a row for each process, with what the others think of it.
func (s *demoStage) table(members *adminpb.NodesResponse) string {
	known := map[string]*adminpb.Member{}
	for _, m := range members.GetMembers() {
		known[m.GetName()] = m
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tPID\tPROCESS\tFABRIC SAYS\tOWNS\tLOAD")
	for _, p := range s.nodes.All {
		process, fabric, owns, load := "runs", "-", "-", "-"
		if how := p.Ended(); how != "" {
			process = "DEAD: " + how
		}
		if m := known[p.Name]; m != nil {
			fabric, owns, load = memberStatus(m), fmt.Sprint(m.GetOwned()), size(int64(m.GetBytesPerSecond()))+"/s"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", p.Name, p.PID, process, fabric, owns, load)
	}
	w.Flush() // to a strings.Builder, which never fails
	return b.String()
}
