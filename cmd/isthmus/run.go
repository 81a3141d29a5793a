package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/cmd/isthmus/node"
	"github.com/isthmus-project/isthmus/topology"
)

// logging are the flags of the verbs that run something for long.
type logging struct {
	level, format string
	now           slog.LevelVar // it may be changed while the verb runs
}

func (l *logging) flags(cmd *cobra.Command, level string) {
	cmd.Flags().StringVar(&l.level, "log-level", level, "debug, info, warn or error")
	cmd.Flags().StringVar(&l.format, "log-format", "text", "text or json")
}

// logger makes the log that the flags ask for.
func (l *logging) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, usage(fmt.Errorf("--log-level %q is none of debug, info, warn, error", l.level))
	}
	l.now.Set(level)
	opts := &slog.HandlerOptions{Level: &l.now}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, usage(fmt.Errorf("--log-format %q is neither text nor json", l.format))
}

func runCommand(t terminal) *cobra.Command {
	var file, name, http, grpc, gossip string
	var insecure bool
	var l logging
	cmd := &cobra.Command{
		Use:   "run -c FILE [--node NAME]",
		Short: "Run a node: its links, its routers, its embedded clusters and its admin API",
		Long: `Runs a node of a topology file until it is interrupted, and then stops it in order: what is in flight is finished and noted.

A file without [[node]] is run by one process, and with one [[node]] that one is meant; with several, choose with --node. The nodes
of a file find each other by gossip and share the partitions of all links: each goes to a node that reaches both its clusters, one
near the target if there is one. A node that is told to end hands its work over first, answers what clients of its routers have asked,
and sends them away. The first node of a data center runs the embedded clusters there. Clusters that cannot be reached are waited for and
keep no other from working; so is a router whose address is not to be had.`,
		Example: `  isthmus run -c isthmus.toml
  isthmus run -c isthmus.toml --node eu-1 --log-format json
  isthmus run -c isthmus.toml --http 127.0.0.1:8070 --grpc 127.0.0.1:8071`,
		Args: cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage(errors.New("which topology? name its file with -c FILE"))
			}
			log, err := l.logger(t.err)
			if err != nil {
				return err
			}
			source, err := topology.Read(file)
			if err != nil {
				return usage(err)
			}
			topo, err := topology.Parse(source.Name, source.Text)
			if err != nil {
				return usage(err)
			}
			self, err := node.Choose(topo, name)
			if err != nil {
				return usage(err)
			}
			self.HTTP = cmp.Or(http, self.HTTP, defaultHTTP)
			self.GRPC = cmp.Or(grpc, self.GRPC, defaultGRPC)
			n, err := node.New(node.Config{Topology: topo, Source: source, Self: self, Gossip: gossip, Level: &l.now, Insecure: insecure, Build: nodeBuild(), Log: log})
			if err != nil {
				return err
			}
			return n.Run(cmd.Context())
		}),
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "the topology `file`")
	cmd.Flags().StringVar(&name, "node", "", "which [[node]] of the file this process is")
	cmd.Flags().StringVar(&http, "http", "", "`host:port` of metrics and health; default the file's, else "+defaultHTTP)
	cmd.Flags().StringVar(&grpc, "grpc", "", "`host:port` of the admin API; default the file's, else "+defaultGRPC)
	cmd.Flags().StringVar(&gossip, "gossip", "", "`host:port` to listen on for gossip where it is not the file's, which the others reach")
	cmd.Flags().BoolVar(&insecure, "insecure", false, "allow addresses that others can reach, without TLS or login")
	l.flags(cmd, "info")
	return cmd
}
