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

	"github.com/isthmus-project/isthmus/cmd/isthmus/demo"
)

// Bounds on the parts of a demo that nobody set a time for.
const (
	upWithin      = 30 * time.Second // until every node answers
	prepareAtMost = time.Minute
	judgeAtMost   = 30 * time.Minute // some millions of records, read twice
	stopWithin    = 5 * time.Second  // for nodes to end in order
)

// errNotOK is what a demo ends with whose judge found something.
var errNotOK = errors.New("the demo is not ok: see the verdict")

// demoRun is one run of the demo.
type demoRun struct {
	t       terminal
	log     logging
	at      demo.Bases
	dir     string
	timeFor time.Duration // 0 = until interrupted
	json    bool
	drill   bool
	load    demo.Config
}

// demoResult is the last line of demo --json.
type demoResult struct {
	demo.Verdict
	Ledger  int      `json:"ledger"`         // entries in the ledgers of all links
	Seconds float64  `json:"seconds"`        // that producers wrote
	Dead    []string `json:"dead,omitempty"` // nodes that ended before
}

// String tells a person.
func (r demoResult) String() string {
	text := r.Verdict.String()
	if len(r.Dead) > 0 {
		text += fmt.Sprintf("  nodes that ended before: %s\n", strings.Join(r.Dead, ", "))
	}
	return text
}

func demoCommand(t terminal) *cobra.Command {
	d := demoRun{t: t}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run three data centers that mirror each other, and judge the result",
		Long: `Runs three embedded Kafka clusters (eu, us, ap) in this process, with producers in each that write the same topics (keyed records and
tombstones, headers, transactions of which some are aborted, all compressions), and two Isthmus nodes in each data center, each a
process of its own, that share the mirroring of each cluster into each other. The nodes in eu are also a door to the cluster there, for
Kafka clients. It says how to ask the nodes, how to read through the door, how to pause and set something, and how to kill one and
watch the others take over. What was killed stays dead.

When the time is over, or on the first ^C, the producers stop, what you have set is taken back, the mirrors catch up, and every
cluster is read back with an ordinary consumer and judged against what the producers logged as acknowledged. Exits 0 only if
every record is at every cluster exactly once, in order and unchanged. A second ^C ends it without a verdict.

After two minutes the producers slow down, so that the demo can be left running.

With --drill it makes a drill instead: the clients of the door go to us and back, while a canary measures what they notice. It prints the
report, and exits as isthmus drill does.`,
		Example: `  isthmus demo
  isthmus demo --for 20s --json | tail -1 | jq .clusters
  isthmus demo --dir data/demo     keep the data, and go on with it next time
  isthmus demo --drill             practise to move clients, and print the report`,
		Args: cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) }),
	}
	f := cmd.Flags()
	f.DurationVar(&d.timeFor, "for", 0, "how long the producers write; 0 is until interrupted")
	f.BoolVar(&d.json, "json", false, "the verdict as one JSON object on the output, everything else on the error stream")
	f.BoolVar(&d.drill, "drill", false, "make a drill with the door's clients, print its report, and end")
	f.StringVar(&d.dir, "dir", "", "data directory; default a temporary one that is removed if all is well")
	f.StringVar(&d.at.HTTP, "http", defaultHTTP, "`host:port` of metrics and health of the first node; the others are ten ports apart, the clusters last; port 0 is free ones")
	f.StringVar(&d.at.GRPC, "grpc", defaultGRPC, "`host:port` of the admin API of the first node")
	f.StringVar(&d.at.Gossip, "gossip", "127.0.0.1:7946", "`host:port` of the gossip of the first node")
	f.StringVar(&d.at.Door, "door", "127.0.0.1:19092", "`host:port` where clients bootstrap at the first node of eu; the second is ten ports apart")
	f.Float64Var(&d.load.Rate, "rate", 1600, "records a second that are written at each cluster")
	d.log.flags(cmd, "warn")
	return cmd
}

// run runs the demo from the empty directory to the verdict.
func (d *demoRun) run(ctx context.Context) (err error) {
	if d.timeFor < 0 || d.load.Rate < 1 || d.load.Rate > 1e6 {
		return usage(errors.New("--for must not be negative, and --rate must be from 1 to 1000000"))
	}
	dir, remove, err := d.directory()
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			remove()
		} else {
			d.say("data and logs stay in %s\n", dir)
		}
	}()
	log, closeLog, err := d.logger(dir)
	if err != nil {
		return err
	}
	defer closeLog()
	// Clusters and nodes outlive ctx: after an interrupt the mirrors have to catch up before they are judged.
	after, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	stage, err := d.stage(after, dir, log)
	if err != nil {
		return err
	}
	var result demoResult
	if d.drill {
		err = stage.practised(ctx)
	} else {
		result, err = stage.judged(ctx)
	}
	stage.nodes.Stop(stopWithin)
	stop()
	if hostErr := <-stage.ended; err == nil {
		err = hostErr
	}
	if err != nil || d.drill {
		return err
	}
	return d.tell(result)
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

// live tells whether somebody watches.
func (d *demoRun) live() bool { return !d.json && isTerminal(d.t.out) }

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

// writeOwn writes the topology of a demo; another file of that name is left alone.
func writeOwn(name, text string) error {
	have, err := os.ReadFile(name)
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("read topology: %w", err)
	case err == nil && !demo.IsFile(string(have)):
		return fmt.Errorf("%s is there already and is not the demo's; choose another --dir", name)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write topology: %w", err)
	}
	return nil
}
