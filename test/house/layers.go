package house

import (
	"fmt"
	"slices"
	"strings"
)

// Package is one package as go list shows it.
type Package struct {
	// ImportPath is the package's own path, with the module's.
	ImportPath string
	// Imports are the packages that its ordinary files import.
	Imports []string
	// TestImports and XTestImports are those that its tests import, inside the package and beside it.
	TestImports, XTestImports []string
}

// layers lists, for each folder at the top, the folders that it may import; its own is always allowed. Arrows point down
// only, and of two siblings (router and mirror) neither knows the other.
var layers = map[string][]string{
	"cmd":      {"admin", "router", "mirror", "broker", "topology", "checker"},
	"admin":    {"router", "mirror", "broker", "topology"},
	"router":   {"broker", "topology"},
	"mirror":   {"broker", "topology"},
	"broker":   {"topology"},
	"topology": {},
	"checker":  {},
}

// free are the folders that may import anything, and that nothing else may import.
var free = []string{"test", "scripts", "dashboards"}

// clients are packages that bring a Kafka client; beside the free folders only broker may import them, so that what the
// project asks of a cluster goes through one place.
var clients = []string{
	"github.com/twmb/franz-go/pkg/kgo",
	"github.com/twmb/franz-go/pkg/kadm",
}

// Layers returns every import that points the wrong way, one line each. Tests are held to the same arrows as the code they test.
func Layers(module string, packages []Package) []string {
	var found []string
	for _, p := range packages {
		from, ok := folder(module, p.ImportPath)
		if !ok || slices.Contains(free, from) {
			continue
		}
		allowed, known := layers[from]
		if !known {
			found = append(found, fmt.Sprintf("%s: no layer for folder %q; give it one in test/house/layers.go", p.ImportPath, from))
			continue
		}
		imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		slices.Sort(imports)
		for _, imp := range slices.Compact(imports) {
			if from != "broker" && slices.Contains(clients, imp) {
				found = append(found, fmt.Sprintf("%s: imports %s, which is for broker only", p.ImportPath, imp))
			}
			to, ours := folder(module, imp)
			if ours && to != from && !slices.Contains(allowed, to) {
				found = append(found, fmt.Sprintf("%s: imports %s; %s may import %v only", p.ImportPath, imp, from, allowed))
			}
		}
	}
	return found
}

// folder is the top folder of a package of the module; false for packages of others.
func folder(module, path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return "", false
	}
	top, _, _ := strings.Cut(rest, "/")
	return top, true
}
