package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/isthmus-project/isthmus/cmd/isthmus/node"
)

// build is what this program was built from, as Go noted it.
type build struct {
	Version  string `json:"version"`  // of the module; (devel) for a working copy
	Revision string `json:"revision"` // of the repository; empty if it is not known
	Modified bool   `json:"modified"` // the working copy had changes
	Time     string `json:"time"`     // of the revision, RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "vcs.time":
			b.Time = s.Value
		}
	}
	return b
}

// nodeBuild is what a node says of itself.
func nodeBuild() node.Build {
	b := thisBuild()
	return node.Build{Version: b.Version, Revision: b.Revision, Go: b.Go}
}

func versionCommand(t terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Tell what this program was built from",
		Example: "  isthmus version --json",
		Args:    cobra.NoArgs,
		RunE: verb(func(*cobra.Command, []string) error {
			b := thisBuild()
			if asJSON {
				return json.NewEncoder(t.out).Encode(b)
			}
			revision := b.Revision
			if b.Modified {
				revision += " with changes"
			}
			if revision == "" {
				revision = "revision not known"
			}
			_, err := fmt.Fprintf(t.out, "isthmus %s (%s), %s, %s\n", b.Version, revision, b.Go, b.Platform)
			return err
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}
