package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/router/switchover"
)

// TestSwitch_Docs: the page for who is paged says each outcome with its exit code, and each step.
func TestSwitch_Docs(t *testing.T) {
	page, err := os.ReadFile("../../docs/switchover.md")
	if err != nil {
		t.Fatal(err)
	}
	for outcome, end := range switchEnding {
		if row := fmt.Sprintf("| `%s` | %d |", outcome, end.code); outcome != readyOutcome && !strings.Contains(string(page), row) {
			t.Errorf("there is no row %s", row)
		}
	}
	for _, step := range []switchover.Step{switchover.Preflight, switchover.Prepare, switchover.Hold, switchover.Drain, switchover.Cut, switchover.Mirror, switchover.Commit,
		switchover.Release, switchover.Verify, switchover.Rollback} {
		if row := fmt.Sprintf("| `%s` |", step); !strings.Contains(string(page), row) {
			t.Errorf("there is no row %s", row)
		}
	}
}
