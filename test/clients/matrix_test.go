package clients

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-project/isthmus/test/kafka"
)

//go:embed testdata/hidden.txt
var hidden string

// listed reports whether a feature of a client is known to be hidden.
func listed(e Entry, f Feature) bool {
	return slices.Contains(strings.Split(strings.TrimSpace(hidden), "\n"), e.String()+": "+string(f))
}

// releases are those of Kafka that `make clients` runs against.
var releases = []string{"4.3.0", "3.9.1"}

// TestMatrix is each client and feature, directly and through the router: all of them with ISTHMUS_CLIENTS=all, which writes docs/clients.md, or with
// ISTHMUS_CLIENTS=NAME,NAME those of some libraries; else the smaller set on one release. What is hidden must be what testdata/hidden.txt lists.
func TestMatrix(t *testing.T) {
	kafka.Require(t)
	want := os.Getenv("ISTHMUS_CLIENTS")
	run := releases
	if want == "" {
		run = run[:1]
	}
	tables := make(map[string][]Row)
	for _, release := range run {
		t.Run(release, func(t *testing.T) {
			l := Open(t, release)
			rows := make([]Row, len(Entries))
			t.Run("clients", func(t *testing.T) {
				for i, e := range Entries {
					if want == "" && !e.Small || want != "" && want != "all" && !slices.Contains(strings.Split(want, ","), e.Kind) {
						continue
					}
					t.Run(strings.ReplaceAll(e.String(), " ", "-"), func(t *testing.T) {
						t.Parallel()
						rows[i] = row(t, l, e, want == "")
					})
				}
			})
			tables[release] = rows
		})
	}
	if want != "all" || t.Skipped() {
		return
	}
	if err := os.WriteFile(filepath.Join("..", "..", "docs", "clients.md"), []byte(Page(run, tables)), 0o666); err != nil {
		t.Error(err)
	}
}

// row runs the features of a client. Where the time is short only what differs by its answers is also run directly.
func row(t *testing.T, l *Lab, e Entry, short bool) Row {
	path := e.Program(t)
	r := Row{Client: e.Kind, Cells: make(map[Feature]Cell)}
	var mu sync.Mutex
	for _, f := range Features {
		if !e.Has(f) {
			r.Cells[f] = Cell{State: Absent}
			continue
		}
		t.Run(string(f), func(t *testing.T) {
			name := strings.NewReplacer(" ", "-").Replace(fmt.Sprint(e, "-", f))
			limit := cellLimit
			if listed(e, f) {
				limit = hiddenLimit
			}
			routed := l.Try(t, path, f, l.Routed, name+"-routed", limit)
			direct := Outcome{Facts: routed.Facts}
			if !short || f == Admin || listed(e, f) {
				direct = l.Try(t, path, f, l.Direct, name+"-direct", cellLimit)
			}
			c := Compare(direct, routed, listed(e, f))
			if c.State == Fails {
				t.Errorf("%s: %s\nclient: %s", e, c.Note, routed.Said)
			}
			t.Logf("%s: %s", c.State, c.Note)
			mu.Lock()
			defer mu.Unlock()
			r.Version, r.Cells[f] = routed.Version, c
		})
	}
	return r
}

func TestCompare(t *testing.T) {
	good, bad := Outcome{Facts: []string{"a", "b"}}, Outcome{Wrong: []string{"lost"}, Said: "its own words"}
	other := Outcome{Facts: []string{"a", "c"}}
	for _, tc := range []struct {
		name           string
		direct, routed Outcome
		listed         bool
		want           Cell
	}{
		{"same", good, good, false, Cell{Same, ""}},
		{"wrong", good, bad, false, Cell{Fails, "lost"}},
		{"hidden", good, bad, true, Cell{Hidden, "its own words"}},
		{"other facts", good, other, false, Cell{Fails, "directly: b; routed: c"}},
		{"hidden by other facts", good, other, true, Cell{Hidden, "directly: b; routed: c"}},
		{"no longer hidden", good, good, true, Cell{Fails, "it is not hidden any more: take it out of testdata/hidden.txt"}},
		{"never", bad, bad, false, Cell{Never, "lost"}},
		{"never, though listed", bad, bad, true, Cell{Never, "lost"}},
		{"another order", good, Outcome{Facts: []string{"b", "a"}}, false, Cell{Fails, "the same in another order"}},
	} {
		if got := Compare(tc.direct, tc.routed, tc.listed); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// TestHidden holds that each line of the list is a feature of a client of the matrix, once.
func TestHidden(t *testing.T) {
	var known []string
	for _, e := range Entries {
		for _, f := range Features {
			if e.Has(f) {
				known = append(known, e.String()+": "+string(f))
			}
		}
	}
	lines := strings.Split(strings.TrimSpace(hidden), "\n")
	for i, line := range lines {
		if !slices.Contains(known, line) || slices.Contains(lines[:i], line) {
			t.Errorf("testdata/hidden.txt: %q is no feature of a client, or is there twice", line)
		}
	}
}
