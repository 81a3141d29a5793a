package node

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Said repeats, as the very last, what a test failed of: the logs of nodes and brokers that follow a failure push it out of sight.
type Said struct {
	mu    sync.Mutex
	words []string
}

// NewSaid is for a test that has started nothing yet.
func NewSaid(t testing.TB) *Said {
	s := new(Said)
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.words) > 0 {
			t.Logf("it failed of:\n%s", strings.Join(s.words, "\n"))
		}
	})
	return s
}

// In is a test, or a subtest of it, that keeps what it fails of.
func (s *Said) In(t testing.TB) testing.TB { return &saying{t, s} }

type saying struct {
	testing.TB
	said *Said
}

func (t *saying) keep(text string) string {
	t.said.mu.Lock()
	defer t.said.mu.Unlock()
	t.said.words = append(t.said.words, t.Name()+": "+text)
	return text
}

func (t *saying) Error(args ...any) {
	t.Helper()
	t.TB.Error(t.keep(fmt.Sprint(args...)))
}

func (t *saying) Errorf(format string, args ...any) {
	t.Helper()
	t.TB.Error(t.keep(fmt.Sprintf(format, args...)))
}

func (t *saying) Fatal(args ...any) {
	t.Helper()
	t.TB.Fatal(t.keep(fmt.Sprint(args...)))
}

func (t *saying) Fatalf(format string, args ...any) {
	t.Helper()
	t.TB.Fatal(t.keep(fmt.Sprintf(format, args...)))
}
