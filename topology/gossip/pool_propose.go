package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxTextBytes bounds an error or a note that goes over the wire.
const maxTextBytes = 8 << 10

// Propose writes a change for everybody: through the one node that puts writes in order, which refuses it with [ErrConflict] if a
// key has another version than its entry's Base; if that node does not answer, by itself. It returns the change with its version, and
// a note for people about what went otherwise than usual. Author, Reason, Undoes and Entries are the caller's.
func (p *Pool) Propose(ctx context.Context, c Change) (Change, string, error) {
	if err := c.Check(); err != nil {
		return Change{}, "", err
	}
	if !c.Version.IsZero() {
		return Change{}, "", fmt.Errorf("propose a change: it has the version %v already", c.Version)
	}
	node := p.Sequencer()
	if node == p.cfg.Name {
		return p.write(ctx, c)
	}
	done, text, err := p.propose(ctx, node, c)
	if !errors.Is(err, errNoAnswer) {
		return done, text, err
	}
	if ctx.Err() != nil {
		return Change{}, "", fmt.Errorf("propose a change: %w", ctx.Err())
	}
	note := fmt.Sprintf("node %s, which puts writes in order, did not answer, so this node wrote by itself: if another one wrote the same setting at the same moment, the later write wins", node)
	done, text, err = p.write(ctx, c)
	if errors.Is(err, ErrConflict) {
		if done, ok := p.arrived(c); ok {
			return done, "", nil
		}
	}
	return done, joinNotes(note, text), err
}

// propose lets another node write. Its answer may get lost while the change itself arrives, so both count. The error wraps
// errNoAnswer if neither came.
func (p *Pool) propose(ctx context.Context, node string, c Change) (Change, string, error) {
	type reply struct {
		b   []byte
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timings.Answer)
	defer cancel()
	replies := make(chan reply, 1)
	b := EncodeChange(nil, withVersion(c, p.deps.Clock.Now()))
	go func() {
		b, err := p.mail.call(ctx, node, letterPropose, b, p.cfg.Timings.Answer/3)
		replies <- reply{b, err}
	}()
	var late <-chan time.Time
	var done Change
	ok := false
	for {
		changed := p.deps.Settings.Changed()
		if !ok {
			done, ok = p.arrived(c)
		}
		if ok && late == nil { // gossip was faster than the answer, which says where it is stored
			timer := time.NewTimer(saveAnswer + p.cfg.Timings.ProbeTimeout)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-late:
			return done, "", nil
		case r := <-replies:
			switch {
			case r.err != nil && ok:
				return done, "", nil
			case r.err != nil:
				return Change{}, "", fmt.Errorf("propose a change: %w: %w", errNoAnswer, r.err)
			}
			return p.proposed(node, r.b)
		case <-changed:
		}
	}
}

// withVersion is for the wire: a change without a version has no encoding.
func withVersion(c Change, v Time) Change {
	c.Version = v
	return c
}

// Sequencer is the node that puts writes in order: the first live one by name that is ready, or the first live one if none is.
func (p *Pool) Sequencer() string {
	v := p.View()
	first := ""
	for _, m := range v.Members {
		switch {
		case m.Status != Alive:
		case m.Report.Ready && !m.Report.Draining:
			return m.Name
		case first == "":
			first = m.Name
		}
	}
	if first == "" {
		return v.Self
	}
	return first
}

// arrived finds the change that a proposal became although its answer got lost.
func (p *Pool) arrived(c Change) (Change, bool) {
	v, ok := p.deps.Settings.Get(c.Entries[0].Key)
	if !ok || v.Version == c.Entries[0].Base {
		return Change{}, false
	}
	for _, done := range p.deps.Settings.Changes(v.Version) {
		if done.Author == c.Author && done.Reason == c.Reason && sameEntries(done.Entries, c.Entries) {
			return done, true
		}
	}
	return Change{}, false
}

func sameEntries(a, b []Entry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Key != b[i].Key || a[i].Deleted != b[i].Deleted || a[i].Base != b[i].Base || !bytes.Equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}

// write writes a change by this node, tells it, and stores it.
func (p *Pool) write(ctx context.Context, c Change) (Change, string, error) {
	done, err := p.deps.Settings.Propose(c)
	if err != nil {
		return Change{}, "", err
	}
	p.spread([]Change{done})
	return done, p.store.save(ctx, done), nil
}

func joinNotes(notes ...string) string {
	var all []string
	for _, n := range notes {
		if n != "" {
			all = append(all, n)
		}
	}
	return strings.Join(all, "; ")
}

// What a proposal became.
const (
	proposalDone = iota
	proposalConflict
	proposalRefused
)

// serveProposal writes for another node.
func (p *Pool) serveProposal(from string, b []byte) []byte {
	w := &packer{}
	c, _, err := DecodeChange(b)
	note := ""
	if err == nil {
		c.Version = Time{}
		ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Timings.Answer/2)
		defer cancel()
		c, note, err = p.write(ctx, c)
	}
	switch {
	case errors.Is(err, ErrConflict):
		w.byte(proposalConflict)
		w.string(cut(err.Error()))
	case err != nil:
		w.byte(proposalRefused)
		w.string(cut(err.Error()))
	default:
		w.byte(proposalDone)
		w.string(cut(note))
		w.b = EncodeChange(w.b, c)
	}
	p.deps.Log.Debug("wrote for another node", "node", from, "version", c.Version.String(), "err", err)
	return w.b
}

func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxTextBytes)], "") }

// remoteConflict carries another node's words.
type remoteConflict struct{ text string }

func (e remoteConflict) Error() string { return e.text }
func (remoteConflict) Unwrap() error   { return ErrConflict }

// proposed reads what the writing node answered.
func (p *Pool) proposed(node string, b []byte) (Change, string, error) {
	r := &unpacker{b: b}
	outcome, text := r.byte(), r.string(maxTextBytes)
	switch {
	case r.err != nil:
		return Change{}, "", fmt.Errorf("propose a change to %s: %w: %w", node, errNoAnswer, r.err)
	case outcome == proposalConflict:
		return Change{}, "", remoteConflict{text}
	case outcome != proposalDone:
		return Change{}, "", fmt.Errorf("%s, which puts writes in order, refused it: %s", node, text)
	}
	c, _, err := DecodeChange(r.b)
	if err != nil {
		return Change{}, "", fmt.Errorf("propose a change to %s: %w: %w", node, errNoAnswer, err)
	}
	p.takeChanges([]Change{c}) // so that who asked reads what it wrote
	return c, text, nil
}
