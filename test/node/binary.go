package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Main runs the tests of a package, calls after, and removes the binary that they built; TestMain calls it.
func Main(m *testing.M, after ...func()) {
	code := m.Run()
	for _, fn := range after {
		fn()
	}
	if err := os.RemoveAll(binaryDir()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// binaryDir is where this run of the tests keeps what it built.
func binaryDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("isthmus-%d", os.Getpid()))
}

// binary builds the program once for all suites, or takes the one that ISTHMUS_BIN names.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("ISTHMUS_BIN"); path != "" {
		return path, nil
	}
	path := filepath.Join(binaryDir(), "isthmus")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/isthmus-project/isthmus/cmd/isthmus")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build isthmus: %w: %s", err, out)
	}
	return path, nil
})
