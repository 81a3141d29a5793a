package house

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Bubbles returns the folders whose tests use synctest on more than one processor: see DESIGN.md, "Non-obvious", on timers in bubbles.
func Bubbles(tree fs.FS) ([]string, error) {
	uses, set := make(map[string]bool), make(map[string]bool)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		text, folder := string(src), path.Dir(name)
		uses[folder] = uses[folder] || strings.Contains(text, "\t\"testing/synctest\"\n")
		set[folder] = set[folder] || strings.Contains(text, "func TestMain(") && strings.Contains(text, "runtime.GOMAXPROCS(1)")
		return nil
	})
	var found []string
	for folder := range uses {
		if uses[folder] && !set[folder] {
			found = append(found, folder+": tests in bubbles need a TestMain with runtime.GOMAXPROCS(1), or the race detector crashes now and then")
		}
	}
	slices.Sort(found)
	return found, err
}
