// Command isthmus links Kafka clusters: it mirrors topics between them, tells positions on one in terms of the other, and
// checks the file that describes them. There is one file per verb; wire.go joins the packages into a node.
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
	code := run(ctx, os.Args[1:], terminal{out: os.Stdout, err: os.Stderr, env: os.Getenv})
	stop()
	os.Exit(code)
}

// terminal is what the command has of the world.
type terminal struct {
	out, err io.Writer
	env      func(string) string
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
  3  the demo was judged not ok: records were lost, repeated, reordered or changed
  4  the node cannot be reached`,
		Example: `  isthmus demo                      three data centers on this machine
  isthmus check isthmus.toml        is the file right?
  isthmus run -c isthmus.toml       run a node
  isthmus status --watch            what it does now`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		checkCommand(t), runCommand(t), demoCommand(t), statusCommand(t), translateCommand(t), ledgerCommand(t), versionCommand(t),
	)
	return root
}
