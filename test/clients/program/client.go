package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Client is one library in one version.
type Client struct {
	// Kind and Version are the arguments of scripts/clients/fetch.sh; the version is empty where a go.mod or a package of the system says it.
	Kind, Version string
}

// String is the client's name.
func (c Client) String() string { return strings.TrimSuffix(c.Kind+" "+c.Version, " ") }

// Program brings the client and returns what runs it. What is missing is named, as the reason of a skip, or as a failure with
// ISTHMUS_REQUIRE_KAFKA=1; kcat, a package of the system, may be missing.
func (c Client) Program(t testing.TB) string {
	t.Helper()
	path, err := c.fetch()
	switch {
	case err != nil && os.Getenv("ISTHMUS_REQUIRE_KAFKA") == "1" && c.Kind != "kcat":
		t.Fatalf("real Kafka is required (ISTHMUS_REQUIRE_KAFKA=1), with client %s: %v", c, err)
	case err != nil:
		t.Skipf("client %s cannot run here: %v", c, err)
	}
	return path
}

func (c Client) fetch() (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(root, "scripts", "clients", "fetch.sh"), c.Kind)
	if c.Version != "" {
		cmd.Args = append(cmd.Args, c.Version)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("bring it: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// repository is where the nearest go.mod above is: Go runs tests in the folder of their package.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the repository: no go.mod above the working directory")
		}
		dir = parent
	}
}
