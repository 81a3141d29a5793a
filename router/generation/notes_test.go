package generation

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestStore_Note: writers that are in each other's way leave the same notes in the same order everywhere, each once, also while a control cluster is away; switches of sets go
// on beside them.
func TestStore_Note(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, 3)
		stores := []*Store{c.store(t, "eu-1"), c.store(t, "us-1"), c.store(t, "ap-1")}
		var all sync.WaitGroup
		for i, s := range stores {
			all.Go(func() {
				for n := 0; n < 5; {
					err := s.Note(t.Context(), "@log", fmt.Sprint(i, ".", n))
					switch {
					case err == nil:
						n++
					case !errors.Is(err, ErrBeaten):
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(7+5*i) * time.Millisecond)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		c.set(0, true)
		all.Wait()
		c.set(0, false)
		var want []string
		for _, s := range append(stores, c.store(t, "late")) {
			if _, err := s.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := s.Notes("@log")
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = got
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		}
		once := map[string]int{}
		for _, text := range want {
			once[text]++
		}
		for i := range stores {
			for n := range 5 {
				if text := fmt.Sprint(i, ".", n); once[text] < 1 || once[text] > 2 { // one that was left undecided by its writer, who wrote it again, is there twice
					t.Errorf("%s is there %d times", text, once[text])
				}
			}
		}
		if l := lease(t, stores[0], ""); !l.Holds(stores[0].cfg.Now()) {
			t.Error("notes stand in the way of leases")
		}
		if err := stores[0].Note(t.Context(), "log", "x"); err == nil || !strings.Contains(err.Error(), "no log of notes") {
			t.Error(err)
		}
	})
}

// TestValue_Notes: what is a note is in a log of notes, and nothing else is.
func TestValue_Notes(t *testing.T) {
	note, stay := Value{Kind: Noted, Note: "x"}, Value{Kind: Stay, Home: "eu"}
	for _, tc := range []struct {
		v    Value
		set  string
		well bool
	}{
		{note, "@log", true}, {stay, "", true}, {note, "", false}, {stay, "@log", false}, {Value{Kind: Noted}, "@log", false}, {Value{Kind: Noted, Note: "x", Home: "eu"}, "@log", false},
		{Value{Kind: Stay, Home: "eu", Note: "x"}, "", false}, {Value{Kind: Noted, Note: strings.Repeat("x", maxNote+1)}, "@log", false},
	} {
		if err := tc.v.checkIn(tc.set); (err == nil) != tc.well {
			t.Errorf("%s %q in %q: %v", tc.v.Kind, tc.v.Note[:min(9, len(tc.v.Note))], tc.set, err)
		}
	}
}
