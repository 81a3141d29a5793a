package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

const (
	minTokenBytes = 16 // a shorter one can be guessed
	maxTokenBytes = 4096
	maxTokens     = 16 // of one identity: two are enough to rotate
	// tokensFresh is how long tokens are believed without reading them again: so long does a token work that was taken away.
	tokensFresh = time.Second
	// tokensKept is how long the last tokens of an identity stay good that cannot be read: a file may be just being written.
	tokensKept = time.Minute
)

// digest is what is kept of a token.
type digest = [sha256.Size]byte

// tokens knows the bearer tokens of identities. They are read again when they are a second old, and for each token that is not
// known: it may be the new one of a rotation.
type tokens struct {
	log  *slog.Logger
	now  func() time.Time
	turn chan struct{} // one reads at a time
	none bool          // no identity has a token

	mu     sync.Mutex // not held while reading
	known  []known
	readAt time.Time
}

// known are the tokens of one identity.
type known struct {
	identity topology.Identity
	digests  []digest
	goodAt   time.Time // when they were last read
	failed   error     // the last reading; nil if it was good
}

// newTokens reads all tokens once; all that is wrong is in the error.
func newTokens(identities []topology.Identity, now func() time.Time, log *slog.Logger) (*tokens, error) {
	t := &tokens{log: log, now: now, turn: make(chan struct{}, 1)}
	for _, i := range identities {
		if !i.Token.IsZero() {
			t.known = append(t.known, known{identity: i})
		}
	}
	t.known, t.readAt, t.none = t.read(t.known), now(), len(t.known) == 0
	var all error
	for _, k := range t.known {
		if k.failed != nil {
			all = errors.Join(all, fmt.Errorf("admin.identity %s: token: %w", k.identity.Name, k.failed))
		}
	}
	return t, all
}

// find returns the identity that a token belongs to.
func (t *tokens) find(ctx context.Context, token []byte) (topology.Identity, bool, error) {
	if t.none || len(token) < minTokenBytes || len(token) > maxTokenBytes {
		return topology.Identity{}, false, nil
	}
	want := sha256.Sum256(token)
	if who, ok := t.look(want, true); ok {
		return who, true, nil
	}
	asked := t.now()
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return topology.Identity{}, false, ctx.Err()
	}
	t.refresh(asked)
	who, ok := t.look(want, false)
	return who, ok, nil
}

// look compares with every token there is, so that the time it takes tells nothing.
func (t *tokens) look(want digest, fresh bool) (who topology.Identity, ok bool) {
	t.mu.Lock()
	all, readAt := t.known, t.readAt
	t.mu.Unlock()
	now := t.now()
	if fresh && now.Sub(readAt) >= tokensFresh {
		return who, false
	}
	for _, k := range all {
		if k.failed != nil && now.Sub(k.goodAt) >= tokensKept {
			continue
		}
		for _, d := range k.digests {
			if subtle.ConstantTimeCompare(d[:], want[:]) == 1 {
				who, ok = k.identity, true
			}
		}
	}
	return who, ok
}

// refresh reads the tokens again, unless somebody did since asked. Only who has the turn calls it.
func (t *tokens) refresh(asked time.Time) {
	t.mu.Lock()
	old, readAt := t.known, t.readAt
	t.mu.Unlock()
	if readAt.After(asked) {
		return
	}
	begun := t.now()
	next := t.read(old)
	t.mu.Lock()
	t.known, t.readAt = next, begun
	t.mu.Unlock()
	for i, k := range next {
		switch was := old[i].failed; {
		case k.failed != nil && was == nil:
			t.log.Warn("a token cannot be read again; its last value stays in use for a while", "identity", k.identity.Name,
				"error", k.failed, "for", tokensKept)
		case k.failed == nil && was != nil:
			t.log.Info("a token can be read again; its value is in use", "identity", k.identity.Name)
		}
	}
}

func (t *tokens) read(old []known) []known {
	next := slices.Clone(old)
	owner := make(map[digest]string)
	for i := range next {
		k := &next[i]
		digests, err := readTokens(k.identity.Token)
		for _, d := range digests {
			if other, taken := owner[d]; taken && other != k.identity.Name {
				err = fmt.Errorf("it is also a token of identity %s: give each its own", other)
			}
		}
		if k.failed = err; err == nil {
			k.digests, k.goodAt = digests, t.now()
		}
		for _, d := range k.digests {
			owner[d] = k.identity.Name
		}
	}
	return next
}

// readTokens reads the tokens that a reference leads to, one a line.
func readTokens(ref topology.Secret) ([]digest, error) {
	text, err := ref.Resolve()
	if err != nil {
		return nil, err
	}
	var out []digest
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
			continue
		case len(line) < minTokenBytes || len(line) > maxTokenBytes:
			return nil, fmt.Errorf("a token of %s has %d characters, want %d to %d", ref, len(line), minTokenBytes, maxTokenBytes)
		case len(out) == maxTokens:
			return nil, fmt.Errorf("%s has more than %d tokens: take old ones out", ref, maxTokens)
		}
		out = append(out, sha256.Sum256(line))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no token", ref)
	}
	return out, nil
}
