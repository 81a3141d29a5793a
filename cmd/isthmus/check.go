package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/topology"
)

// verdict is what check found, as --json prints it.
type verdict struct {
	OK       bool      `json:"ok"` // no faults and no problems
	File     string    `json:"file"`
	Faults   []fault   `json:"faults"`   // of the file
	Findings []finding `json:"findings"` // of the clusters, with --live
}

// fault is one fault of a topology file.
type fault struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

// finding is something that was found at the clusters.
type finding struct {
	// Severity is problem for what keeps something from being mirrored, warning for what may lose it later.
	Severity string   `json:"severity"`
	Kind     string   `json:"kind"` // one word, for scripts
	Link     string   `json:"link,omitempty"`
	Cluster  string   `json:"cluster"`
	Topics   []string `json:"topics,omitempty"`
	Message  string   `json:"message"`
}

// The severities of a finding.
const (
	problem = "problem"
	warning = "warning"
)

func checkCommand(t terminal) *cobra.Command {
	var live, asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a topology file, and with --live the clusters it names",
		Long: `Checks a topology file and describes what it says, and the files of users of its routers that are on this machine. All faults are told at once, as
file:line:column.

With --live it also asks the clusters. Problems keep something from being mirrored: a cluster that cannot be reached, a topic
on the target with fewer partitions or another cleanup policy. Warnings are about settings that can lose acknowledged
records at either end: replication factor 1, min.insync.replicas 1, unclean leader election.

Exits 0 without faults and problems, 2 for a file with faults, 1 for problems. Warnings do not change the exit code.`,
		Example: `  isthmus check isthmus.toml
  isthmus check --live isthmus.toml
  isthmus check --json isthmus.toml | jq .faults`,
		Args: cobra.ExactArgs(1),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			v := verdict{File: args[0], Faults: []fault{}, Findings: []finding{}}
			topo, err := topology.Load(args[0])
			if err == nil {
				err = usersOf(topo)
			}
			var faults topology.Errors
			switch {
			case errors.As(err, &faults):
				for _, f := range faults {
					v.Faults = append(v.Faults, fault{f.File, f.Line, f.Column, f.Msg})
				}
			case err != nil:
				v.Faults = append(v.Faults, fault{File: args[0], Message: err.Error()})
			}
			if err == nil && live {
				ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
				defer cancel()
				v.Findings = checkLive(ctx, topo)
			}
			v.OK = err == nil && !slices.ContainsFunc(v.Findings, func(f finding) bool { return f.Severity == problem })
			if asJSON {
				if jsonErr := json.NewEncoder(t.out).Encode(v); jsonErr != nil {
					return jsonErr
				}
			} else {
				v.tell(t, topo, err, live)
			}
			switch {
			case err != nil:
				return usage(errSaid)
			case !v.OK:
				return errSaid
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&live, "live", false, "ask the clusters too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	cmd.Flags().DurationVar(&timeout, "timeout", 15*time.Second, "with --live, how long to wait for the clusters")
	return cmd
}

// usersOf reads the files of users of routers that are on this machine; nodes may have theirs elsewhere, and the secrets that they refer to.
func usersOf(topo *topology.Topology) error {
	var all topology.Errors
	read := make(map[string]bool)
	for _, r := range topo.Routers {
		path, ok := r.Credentials.File()
		if !ok || read[path] {
			continue
		}
		read[path] = true
		text, err := r.Credentials.ResolveBytes()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("router %q: credentials: %w", r.Name, err)
		}
		var faults topology.Errors
		if _, err := topology.ParseUsers(path, text); errors.As(err, &faults) {
			all = append(all, faults...)
		}
	}
	if len(all) > 0 {
		return all
	}
	return nil
}

// tell tells a person: faults to the error stream, everything else to the output.
func (v verdict) tell(t terminal, topo *topology.Topology, err error, live bool) {
	if err != nil {
		fmt.Fprintln(t.err, err)
		return
	}
	fmt.Fprint(t.out, topo.Summary())
	for _, f := range v.Findings {
		about := "cluster " + f.Cluster
		if f.Link != "" {
			about = "link " + f.Link + ", " + about
		}
		fmt.Fprintf(t.out, "%s: %s: %s\n", f.Severity, about, f.Message)
	}
	switch {
	case !v.OK:
		fmt.Fprintf(t.out, "%s: the file is right, but see the problems above\n", v.File)
	case live && len(v.Findings) == 0:
		fmt.Fprintf(t.out, "%s: ok, and so are the clusters\n", v.File)
	default:
		fmt.Fprintf(t.out, "%s: ok\n", v.File)
	}
}

// some lists the first of many names.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
