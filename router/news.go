package router

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// news is what those who follow the homes let others know of it.
type news struct {
	mu       sync.Mutex
	heard    time.Time         // when the home last said who its brokers are
	troubles map[string]string // by what they are about
	claims   map[string]int64  // of the identity, by what became of them
}

// What becomes of claims.
const (
	claimMade   = "made"
	claimFailed = "failed"
)

// hear notes that the home was heard.
func (n *news) hear(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = now
}

// trouble notes what is wrong, nil for nothing, and reports whether that was something else before.
func (n *news) trouble(about string, err error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.troubles[about]
	if err == nil {
		delete(n.troubles, about)
		return before != ""
	}
	if n.troubles == nil {
		n.troubles = make(map[string]string)
	}
	n.troubles[about] = err.Error()
	return before != err.Error()
}

// about is what is wrong with something; empty for nothing.
func (n *news) about(what string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.troubles[what]
}

// claimed counts a round of claims.
func (n *news) claimed(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.claims == nil {
		n.claims = make(map[string]int64)
	}
	if err != nil {
		n.claims[claimFailed]++
		return
	}
	n.claims[claimMade]++
}

// told is when the home was last heard, and what is wrong, by what it is about.
func (n *news) told() (heard time.Time, troubles []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, about := range slices.Sorted(maps.Keys(n.troubles)) {
		troubles = append(troubles, n.troubles[about])
	}
	return n.heard, troubles
}

// counted is how often claims were made and failed.
func (n *news) counted() (made, failed int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.claims[claimMade], n.claims[claimFailed]
}
