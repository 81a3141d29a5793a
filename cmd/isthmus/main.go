// Command isthmus links Kafka clusters: it mirrors topics between them, tells positions on one in terms of the other, and
// checks the file that describes them. There is one file per verb; the folder node joins the packages into a process.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action is back: a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	person := isTerminal(os.Stdin) && isTerminal(os.Stderr)
	code := run(ctx, os.Args[1:], terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv, person: person})
	stop()
	os.Exit(code)
}

// terminal is what the command has of the world.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	person   bool // somebody sits at in and err, and can be asked
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, t terminal) int {
	root := rootCommand(t)
	root.SetArgs(args)
	root.SetOut(t.out)
	root.SetErr(t.err)
	err := root.ExecuteContext(ctx)
	code := exitCode(err)
	if err != nil && err.Error() != "" {
		fmt.Fprintf(t.err, "isthmus: %v\n", err)
		if code == exitUsage && !isVerbError(err) {
			fmt.Fprintln(t.err, "isthmus: --help tells what each verb takes")
		}
	}
	return code
}

// Groups of verbs in the help of the root command.
const (
	groupRun    = "run"
	groupAsk    = "ask"
	groupChange = "change"
)

// rootCommand builds the command line.
func rootCommand(t terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "isthmus",
		Short: "Link Kafka clusters in many data centers",
		Long: `Isthmus mirrors Kafka clusters into each other: every record once, in order, byte for byte.

Exit codes:
  0  ok
  1  failed
  2  the command line or the topology file cannot be used
  3  the demo was judged not ok: records were lost, repeated, reordered or changed; or a drill failed
  4  the node cannot be reached
  5  refused: the login or its role does not suffice, the change was not confirmed, or a switch may not begin
  6  conflict: somebody else changed the same thing meanwhile; look again
  7  verify found that the two ends of a link differ
  8  a switch was aborted: the home stays
  9  a switch began, and nobody knows how it ended`,
		Example: `  isthmus demo                      three data centers on this machine
  isthmus check isthmus.toml        is the file right?
  isthmus plan isthmus.toml         which links, and who carries whose records?
  isthmus run -c isthmus.toml       run a node
  isthmus status --watch            what the fabric does now
  isthmus pause eu-us orders:3      stop one partition
  isthmus apply isthmus.toml        run another configuration, without a restart
  isthmus switchover shop --to us   move the clients of a router to another cluster`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Run:"}, &cobra.Group{ID: groupAsk, Title: "Ask a fabric, through any node:"},
		&cobra.Group{ID: groupChange, Title: "Change a fabric, through any node:"})
	for id, verbs := range map[string][]func(terminal) *cobra.Command{
		groupRun:    {checkCommand, planCommand, runCommand, demoCommand},
		groupAsk:    {statusCommand, translateCommand, ledgerCommand, driftCommand, groupsCommand, routerCommand, readyCommand, verifyCommand, nodesCommand, ownersCommand, settingsCommand, historyCommand, diffCommand, exportCommand, watchCommand},
		groupChange: {switchoverCommand, failoverCommand, failbackCommand, drillCommand, pauseCommand, resumeCommand, retryCommand, anchorCommand, drainCommand, setCommand, unsetCommand, applyCommand, undoCommand, rotateCommand},
	} {
		for _, verb := range verbs {
			cmd := verb(t)
			cmd.GroupID = id
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(versionCommand(t))
	return root
}
