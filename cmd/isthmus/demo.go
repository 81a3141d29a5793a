package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/cmd/isthmus/demo"
	"github.com/isthmus-project/isthmus/topology"
)

// Bounds on the parts of a demo that nobody set a time for.
const (
	prepareAtMost = time.Minute
	judgeAtMost   = 30 * time.Minute // some millions of records, read twice
)

// errNotOK is what a demo ends with whose judge found something.
var errNotOK = errors.New("the demo is not ok: see the verdict")

// demoRun is one run of the demo.
type demoRun struct {
	t       terminal
	log     logging
	http    string
	grpc    string
	dir     string
	timeFor time.Duration // 0 = until interrupted
	json    bool
	load    demo.Config
}

// demoResult is the last line of demo --json.
type demoResult struct {
	demo.Verdict
	Ledger  int     `json:"ledger"`  // entries in the ledgers of all links
	Seconds float64 `json:"seconds"` // that producers wrote
}

func demoCommand(t terminal) *cobra.Command {
	d := demoRun{t: t}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run three data centers that mirror each other, and judge the result",
		Long: `Runs three embedded Kafka clusters (eu, us, ap) in this process, each mirrored into each other, with producers in each that write
the same topics: keyed records and tombstones, headers, transactions of which some are aborted, all compressions.

When the time is over, or on the first ^C, the producers stop, the mirrors catch up, and every cluster is read back with an
ordinary consumer and judged against what the producers logged as acknowledged. Exits 0 only if every record is at every
cluster exactly once, in order and unchanged. A second ^C ends it without a verdict.

After two minutes the producers slow down, so that the demo can be left running.`,
		Example: `  isthmus demo
  isthmus demo --for 20s --json | tail -1 | jq .clusters
  isthmus demo --dir data/demo     keep the data, and go on with it next time`,
		Args: cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) }),
	}
	f := cmd.Flags()
	f.DurationVar(&d.timeFor, "for", 0, "how long the producers write; 0 is until interrupted")
	f.BoolVar(&d.json, "json", false, "the verdict as one JSON object on the output, everything else on the error stream")
	f.StringVar(&d.dir, "dir", "", "data directory; default a temporary one that is removed at the end")
	f.StringVar(&d.http, "http", defaultHTTP, "`host:port` of metrics and health")
	f.StringVar(&d.grpc, "grpc", defaultGRPC, "`host:port` of the admin API")
	f.Float64Var(&d.load.Rate, "rate", 1600, "records a second that are written at each cluster")
	d.log.flags(cmd, "warn")
	return cmd
}

// run runs the demo from the empty directory to the verdict.
func (d *demoRun) run(ctx context.Context) error {
	if d.timeFor < 0 || d.load.Rate < 1 || d.load.Rate > 1e6 {
		return usage(errors.New("--for must not be negative, and --rate must be from 1 to 1000000"))
	}
	dir, remove, err := d.directory()
	if err != nil {
		return err
	}
	defer remove()
	log, closeLog, err := d.logger(dir)
	if err != nil {
		return err
	}
	defer closeLog()
	file := filepath.Join(dir, "demo.toml")
	if err := writeOnce(file, demo.File()); err != nil {
		return err
	}
	topo, err := topology.Load(file)
	if err != nil {
		return err
	}
	n, err := newNode(nodeConfig{topo: topo, self: topology.Node{Name: "demo", HTTP: d.http, GRPC: d.grpc}, log: log})
	if err != nil {
		return err
	}
	d.say("data in %s\nhttp://%s/metrics and /readyz; ask it with: isthmus status --addr %s\n", dir, n.server.HTTPAddr(), n.server.GRPCAddr())

	// The node outlives ctx: after an interrupt the mirrors have to catch up before they are judged.
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNode()
	ended := make(chan error, 1)
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	go func() {
		ended <- n.Run(nodeCtx)
		stopLoad()
	}()
	result, err := d.judged(loadCtx, n, log)
	stopNode()
	if nodeErr := <-ended; err == nil {
		err = nodeErr
	}
	if err != nil {
		return err
	}
	return d.tell(result)
}

// judged produces, waits for the mirrors and judges.
func (d *demoRun) judged(ctx context.Context, n *node, log *slog.Logger) (demoResult, error) {
	clusters, err := n.openAgain(log)
	if err != nil {
		return demoResult{}, err
	}
	defer func() {
		for _, c := range clusters {
			c.Close()
		}
	}()
	play := demo.New(clusters, d.load, log)
	prepare, cancel := context.WithTimeout(ctx, prepareAtMost)
	defer cancel()
	if err := play.Prepare(prepare); err != nil {
		return demoResult{}, err
	}
	begun := time.Now()
	if err := d.produce(ctx, n, play); err != nil {
		return demoResult{}, err
	}
	result := demoResult{Seconds: time.Since(begun).Round(time.Millisecond).Seconds()}

	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), judgeAtMost)
	defer cancel()
	d.say("the producers have stopped after %s; waiting for the mirrors\n", time.Since(begun).Round(time.Second))
	if err := play.Settle(after); err != nil {
		return result, err
	}
	d.say("reading every cluster back\n")
	if result.Verdict, err = play.Judge(after); err != nil {
		return result, err
	}
	entries, err := n.set.Ledger("")
	result.Ledger = len(entries)
	return result, err
}

// produce lets the producers write for their time, with a live table on a terminal.
func (d *demoRun) produce(ctx context.Context, n *node, play *demo.Demo) error {
	until := "until interrupted"
	if d.timeFor > 0 {
		until = "for " + d.timeFor.String()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeFor)
		defer cancel()
	}
	d.say("producing at three clusters, same topics everywhere, %s\n", until)
	done := make(chan error, 1)
	go func() { done <- play.Produce(ctx) }()
	if d.live() {
		if err := d.watch(ctx, n, play, until); err != nil {
			return errors.Join(err, <-done)
		}
	}
	return <-done
}

// live tells whether somebody watches.
func (d *demoRun) live() bool { return !d.json && isTerminal(d.t.out) }

// watch draws the live table until ctx ends.
func (d *demoRun) watch(ctx context.Context, n *node, play *demo.Demo, until string) error {
	c, err := admin.Dial(n.server.GRPCAddr())
	if err != nil {
		return err
	}
	defer c.Close()
	screen := newScreen(d.t)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var before *adminpb.StatusResponse
	for begun := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		st, err := c.Status(ctx, "", true)
		if err != nil {
			continue // the next tick asks again; that the node ended is told elsewhere
		}
		counts, ends := play.Counts(), play.LogEnds(ctx)
		var b strings.Builder
		fmt.Fprintf(&b, "isthmus demo: three data centers, each mirrored into each other, producing %s (%s so far)\n", until, time.Since(begun).Round(time.Second))
		fmt.Fprintf(&b, "http://%s/metrics   isthmus status --addr %s\n\n", n.server.HTTPAddr(), n.server.GRPCAddr())
		fmt.Fprintf(&b, "acknowledged %d   aborted %d   log ends: eu %d, us %d, ap %d\n\n", counts.Acked, counts.Aborted, ends["eu"], ends["us"], ends["ap"])
		b.WriteString(statusTable(st, false, before))
		b.WriteString("\n^C stops the producers and judges\n")
		screen.frame(b.String())
		before = st
	}
}

// tell prints the verdict.
func (d *demoRun) tell(r demoResult) error {
	if d.json {
		if err := json.NewEncoder(d.t.out).Encode(r); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(d.t.out, r.String()); err != nil {
		return err
	}
	if !r.OK {
		return &verbError{errNotOK, exitJudged}
	}
	return nil
}

// say tells a person how far the demo is.
func (d *demoRun) say(format string, args ...any) {
	w := d.t.out
	if d.json {
		w = d.t.err
	}
	fmt.Fprintf(w, format, args...)
}

// directory makes the data directory; remove removes a temporary one.
func (d *demoRun) directory() (dir string, remove func(), err error) {
	if d.dir != "" {
		if err := os.MkdirAll(d.dir, 0o755); err != nil {
			return "", nil, fmt.Errorf("make data directory: %w", err)
		}
		return d.dir, func() {}, nil
	}
	dir, err = os.MkdirTemp("", "isthmus-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("make data directory: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil // what is left lies where temporary files are cleaned up
}

// logger logs to the error stream, or to a file while the table is on the screen.
func (d *demoRun) logger(dir string) (log *slog.Logger, closeLog func(), err error) {
	var w io.Writer = d.t.err
	closeLog = func() {}
	if d.live() {
		f, err := os.OpenFile(filepath.Join(dir, "demo.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("open log: %w", err)
		}
		w, closeLog = f, func() { _ = f.Close() }
	}
	log, err = d.log.logger(w)
	return log, closeLog, err
}

// writeOnce writes a file, or finds that it is there already; another file of that name is left alone.
func writeOnce(name, text string) error {
	have, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write topology: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("read topology: %w", err)
	case string(have) != text:
		return fmt.Errorf("%s is there already and is not the demo's; choose another --dir", name)
	}
	return nil
}
