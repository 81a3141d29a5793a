package identity

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// notes are those of a test, in memory: now and then somebody is faster, or a note is there although its writer was told that it is not.
type notes struct {
	mu   sync.Mutex
	all  []string
	rand *rand.Rand
	away error
}

// seen is how far one instance has read.
type seen struct {
	*notes
	n int
}

func (s *seen) Read(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n = len(s.all)
	return s.away
}

func (s *seen) Notes() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[:s.n], nil
}

func (s *seen) Note(_ context.Context, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	beaten := fmt.Errorf("a test: %w", ErrBeaten)
	if s.away != nil {
		return s.away
	}
	if s.n < len(s.all) || s.rand.IntN(3) == 0 { // of the next round nobody has read, nobody writes
		return beaten
	}
	s.all = append(s.all, text)
	if s.rand.IntN(4) == 0 {
		return beaten
	}
	s.n = len(s.all)
	return nil
}

// TestShared: instances that claim at the same time have the same identity in the end, with what the home's own topic had; nothing is given twice, and later claims in that topic
// change nothing.
func TestShared(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			open := home(t)
			unique := namer("u")
			old := NewStore(open(), "shop", "old", unique, nil)
			defer old.Close()
			if err := old.Cluster(t.Context(), "real"); err != nil {
				t.Fatal(err)
			}
			if _, err := old.Claim(t.Context(), "", 0, []int32{1, 2}, 4); err != nil {
				t.Fatal(err)
			}
			if _, err := old.Block(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := &notes{rand: rand.New(rand.NewPCG(seed, 1))}
			stores := make([]*Store, 3)
			blocks := make([][]int64, len(stores))
			var all sync.WaitGroup
			for i := range stores {
				by := fmt.Sprint("eu-", i)
				one := NewShared(&seen{notes: n}, NewStore(open(), "shop", by, namer(by+"."), nil))
				defer one.Close()
				stores[i] = one
				all.Go(func() {
					if err := one.Cluster(t.Context(), "another"); err != nil {
						t.Error(err)
					}
					if left, err := one.Claim(t.Context(), "", 0, []int32{1, 2, 3, int32(4 + i)}, 9); err != nil || len(left) > 0 {
						t.Errorf("%v, %v", left, err)
					}
					for range 5 {
						block, err := one.Block(t.Context())
						if err != nil {
							t.Error(err)
						}
						blocks[i] = append(blocks[i], block)
					}
				})
			}
			all.Wait()
			if _, err := old.Block(t.Context()); err != nil {
				t.Fatal(err)
			}
			late := NewShared(&seen{notes: n}, NewStore(open(), "shop", "late", unique, nil))
			defer late.Close()
			if err := late.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i, one := range stores {
				if err := one.Read(t.Context()); err != nil || !reflect.DeepEqual(one.State(), late.State()) {
					t.Errorf("seed %d: %d has %+v, the last %+v, %v", seed, i, one.State(), late.State(), err)
				}
			}
			if s := late.State(); s.Cluster != "real" || len(s.Slots) != 6 || s.Slots[0].Node != 1 || s.Slots[1].Node != 2 {
				t.Errorf("seed %d: %+v", seed, s)
			}
			twice := map[int64]bool{1: true}
			for _, own := range blocks {
				for _, b := range own {
					if twice[b] {
						t.Errorf("seed %d: block %d is given twice", seed, b)
					}
					twice[b] = true
				}
			}
		})
	}
}

// TestShared_Away: what cannot be read is an error, and a note of a newer version stops.
func TestShared_Away(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, unique := home(t), namer("u")
		n := &notes{rand: rand.New(rand.NewPCG(1, 1)), away: errors.New("away")}
		one := NewShared(&seen{notes: n}, NewStore(open(), "shop", "eu-1", unique, nil))
		defer one.Close()
		if err := one.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "away") {
			t.Error(err)
		}
		n.away = nil
		began := time.Now()
		if err := one.Read(t.Context()); err != nil || time.Since(began) > time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		n.all = append(n.all, `{"v":2}`)
		if err := one.Read(t.Context()); !errors.Is(err, ErrVersion) {
			t.Error(err)
		}
		n.all[len(n.all)-1] = `{"v":1,"claims":[{"v":1,"router":"shop","kind":"what"}]}`
		if err := one.Read(t.Context()); err != nil {
			t.Errorf("a claim that is none: %v", err)
		}
		n.all = append(n.all, `what`)
		if err := one.Read(t.Context()); !errors.Is(err, ErrForeign) {
			t.Error(err)
		}
	})
}

// TestShared_TooFew: while too few clusters keep notes what is known counts. Before the first note that is the home's own topic; later nothing is claimed but producer ids, which are never
// those of notes.
func TestShared_TooFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := home(t)
		n := &notes{rand: rand.New(rand.NewPCG(1, 1)), away: fmt.Errorf("a test: %w", ErrTooFew)}
		begin := func(by string) *Store {
			s := NewShared(&seen{notes: n}, NewStore(open(), "shop", by, namer(by+"."), nil))
			t.Cleanup(s.Close)
			if err := s.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		}
		blocks := map[int64]bool{}
		block := func(s *Store, upper bool) {
			t.Helper()
			b, err := s.Block(t.Context())
			if err != nil || blocks[b] || b >= Blocks || (b >= Blocks/2) != upper {
				t.Errorf("block %d, %v", b, err)
			}
			blocks[b] = true
		}
		one := begin("eu-1")
		if err := one.Cluster(t.Context(), "real"); err != nil {
			t.Fatal(err)
		}
		if left, err := one.Claim(t.Context(), "", 0, []int32{1, 2}, 4); err != nil || len(left) > 0 {
			t.Fatal(left, err)
		}
		block(one, true)
		two := begin("eu-2")
		if s := two.State(); s.Cluster != "real" || len(s.Slots) != 2 {
			t.Errorf("%+v", s)
		}
		block(two, true)
		n.away = nil
		time.Sleep(fewLasts)
		for _, s := range []*Store{one, two, begin("eu-3")} {
			if err := s.Read(t.Context()); err != nil || s.State().Cluster != "real" || len(s.State().Slots) != 2 {
				t.Errorf("%+v, %v", s.State(), err)
			}
			block(s, false)
		}
		if _, err := one.Claim(t.Context(), "", 0, []int32{3}, 4); err != nil {
			t.Fatal(err)
		}
		n.away = fmt.Errorf("a test: %w", ErrTooFew)
		four := begin("eu-4")
		if s := four.State(); s.Cluster != "real" || len(s.Slots) != 3 {
			t.Errorf("%+v", s)
		}
		block(four, true)
		block(one, true)
		if _, err := four.Claim(t.Context(), "", 0, []int32{4}, 4); !errors.Is(err, ErrTooFew) {
			t.Error(err)
		}
	})
}
