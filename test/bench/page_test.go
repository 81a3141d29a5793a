package bench

import (
	"os"
	"strings"
	"testing"
)

// benchmarks is the page that is written: the table of TestBench, and a section of each other test.
const benchmarks = "../../docs/benchmarks.md"

// section replaces a section of the page, which begins with its head, or adds it at the end.
func section(t *testing.T, head, text string) {
	t.Helper()
	page, err := os.ReadFile(benchmarks)
	if err != nil {
		t.Fatal(err)
	}
	before, old, _ := strings.Cut(string(page), head)
	_, after, more := strings.Cut(old, "\n## ")
	whole := strings.TrimRight(before, "\n") + "\n\n" + head + "\n" + strings.Trim(text, "\n") + "\n"
	if more {
		whole += "\n## " + after
	}
	if err := os.WriteFile(benchmarks, []byte(whole), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sections are those that the page has.
func sections() string {
	page, err := os.ReadFile(benchmarks)
	if err != nil {
		return ""
	}
	_, after, ok := strings.Cut(string(page), "\n## ")
	if !ok {
		return ""
	}
	return "\n## " + after
}
