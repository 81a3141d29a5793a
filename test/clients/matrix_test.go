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

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/test/kafka"
)

// What is known not to be the same both ways, or not to work either way, a line each: release of Kafka, client: feature.
var (
	//go:embed testdata/hidden.txt
	hidden string
	//go:embed testdata/never.txt
	never string
)

// listed reports whether a feature of a client is in a list.
func listed(list, release string, e Entry, f Feature) bool {
	return slices.Contains(lines(list), line(release, e, f))
}

func line(release string, e Entry, f Feature) string { return fmt.Sprintf("%s %s: %s", release, e, f) }

func lines(list string) []string { return strings.Split(strings.TrimSpace(list), "\n") }

// atOnce is how many clients run at a time.
const atOnce = 4

// releases are those of Kafka that `make clients` runs against.
var releases = []string{"4.3.0", "3.9.1"}

// clientsWanted says which clients are to be run: see TestMatrix.
func clientsWanted() string { return os.Getenv("ISTHMUS_CLIENTS") }

// TestMatrix is each client and feature, directly and through the router: all of them with ISTHMUS_CLIENTS=all, which writes docs/clients.md, or with
// ISTHMUS_CLIENTS=KIND,KIND those of some libraries; else the smaller set on one release. What is hidden must be
// what testdata/hidden.txt lists, and what works neither way what testdata/never.txt does.
func TestMatrix(t *testing.T) {
	kafka.Require(t)
	want := clientsWanted()
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
				var all errgroup.Group // not t.Parallel: they wait more than they work, and the machine's cores are no measure
				all.SetLimit(atOnce)
				for i, e := range Entries {
					if !wanted(e) {
						continue
					}
					all.Go(func() error {
						t.Run(strings.ReplaceAll(e.String(), " ", "-"), func(t *testing.T) { rows[i] = row(t, l, release, e, want == "") })
						return nil
					})
				}
				_ = all.Wait() // none of them returns one
			})
			tables[release] = rows
			t.Run("restarts", func(t *testing.T) { restarts(t, l) })
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
func row(t *testing.T, l *Lab, release string, e Entry, short bool) Row {
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
			known, stuck := listed(hidden, release, e, f), listed(never, release, e, f)
			routed := l.twice(t, path, f, l.Routed, name+"-routed", known || stuck)
			direct := Outcome{Facts: routed.Facts}
			if !short || f == Admin || known && len(routed.Wrong) == 0 {
				direct = l.twice(t, path, f, l.Direct, name+"-direct", stuck)
			}
			c := Compare(direct, routed, known)
			if c.State == Fails || (c.State == Never) != stuck {
				t.Errorf("%s: %s: %s\nclient: %s", e, c.State, c.Note, routed.Said)
			}
			t.Logf("%s: %s", c.State, c.Note)
			mu.Lock()
			defer mu.Unlock()
			r.Version, r.Cells[f] = routed.Version, c
		})
	}
	return r
}

// twice tries a feature once more if it did not come to its end in time and should: kafka-python, as the leader of a group, now and then stops for good before
// it assigns, directly as well. What went wrong otherwise is not tried again.
func (l *Lab) twice(t *testing.T, path string, f Feature, bootstrap, topic string, stuck bool) Outcome {
	t.Helper()
	if stuck {
		return l.Try(t, path, f, bootstrap, topic, stuckLimit)
	}
	o := l.Try(t, path, f, bootstrap, topic, cellLimit)
	if !o.Late {
		return o
	}
	t.Logf("%s, tried again: %v\n%s", topic, o.Wrong, o.Said)
	return l.Try(t, path, f, bootstrap, topic+"-again", cellLimit)
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
		{"hidden by other facts", good, other, true, Cell{Hidden, "it says nothing; directly: b; routed: c"}},
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

// TestLists holds that each line of the lists is a feature of a client of the matrix, once.
func TestLists(t *testing.T) {
	var known []string
	for _, e := range Entries {
		for _, f := range Features {
			for _, release := range releases {
				if e.Has(f) {
					known = append(known, line(release, e, f))
				}
			}
		}
	}
	all := append(lines(hidden), lines(never)...)
	for i, l := range all {
		if !slices.Contains(known, l) || slices.Contains(all[:i], l) {
			t.Errorf("testdata: %q is no feature of a client, or is there twice", l)
		}
	}
}

// TestPage holds that docs/clients.md is of a run in which nothing failed, and has hidden and never what the lists have.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	for state, want := range map[State]int{Hidden: len(lines(hidden)), Never: len(lines(never)), Fails: 0} {
		if got := strings.Count(string(page), fmt.Sprintf(" %s |", state)); got != want {
			t.Errorf("docs/clients.md has %d cells %q, want %d: make clients", got, state, want)
		}
	}
	if strings.Contains(string(page), "||") || strings.Contains(string(page), "|  |") {
		t.Error("docs/clients.md has empty cells: make clients")
	}
}
