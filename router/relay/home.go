package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/users"
)

// deniedError says why a user who is known at the door does not get in at the home. Clients are told it.
type deniedError struct{ text string }

func (e *deniedError) Error() string { return e.text }

// Unwrap tells it from a login that the door refuses.
func (e *deniedError) Unwrap() error { return ErrHomeLogin }

func denied(format string, args ...any) error {
	return failed(Client, "log in", &deniedError{fmt.Sprintf(format, args...)})
}

// maxSteps bounds the messages of a login at the home; no mechanism here has more than three.
const maxSteps = 8

// logIn connects to the home, the first time, and logs in there as the user, with his own login. It says for how long that is good; 0 is for ever. The error is a
// deniedError where the user does not get in; with any other nobody knows.
func (r *Relay) logIn(ctx context.Context, user *users.User) (lasts time.Duration, err error) {
	if _, err := r.staged(ctx, frame.Request{Key: int16(kmsg.SASLAuthenticate)}); err != nil { // a home that is lost is waited for: clients take a login that fails for final
		return 0, err
	}
	if err := r.connect(ctx, int16(kmsg.SASLAuthenticate)); err != nil {
		return 0, err
	}
	home := r.cfg.Terminate.Home()
	own, ok := user.At(home)
	if !ok {
		return 0, denied("user %q has no login at cluster %q; add [user.at.%s] with one of his own to the router's credentials", user.Name, home, home)
	}
	if err := r.quiet(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.Timeouts.Login, fmt.Errorf("the login is not done after %v: %w", r.cfg.Timeouts.Login, context.DeadlineExceeded))
	defer cancel()
	mechanism := own.Mechanism()
	shake := kmsg.NewPtrSASLHandshakeRequest()
	shake.Mechanism = mechanism.Name()
	var shaken kmsg.SASLHandshakeResponse
	if err := r.askHome(ctx, shake, &shaken); err != nil {
		return 0, err
	}
	if err := kerr.ErrorForCode(shaken.ErrorCode); err != nil {
		takes := "no logins"
		if len(shaken.SupportedMechanisms) > 0 {
			takes = strings.Join(shaken.SupportedMechanisms, ", ")
		}
		return 0, denied("user %q: cluster %q takes %s, and not the mechanism %s of the router's credentials: %v", user.Name, home, takes[:min(len(takes), maxShown)], mechanism.Name(), codeName(err))
	}
	session, message, err := mechanism.Authenticate(ctx, "")
	for range maxSteps {
		if err != nil {
			return 0, denied("user %q: cluster %q proves nothing, or the router's credentials for it cannot be used: %v", user.Name, home, err)
		}
		prove := kmsg.NewPtrSASLAuthenticateRequest()
		prove.SASLAuthBytes = message
		var proven kmsg.SASLAuthenticateResponse
		if err := r.askHome(ctx, prove, &proven); err != nil {
			return 0, err
		}
		if err := kerr.ErrorForCode(proven.ErrorCode); err != nil {
			return 0, denied("user %q: cluster %q refuses the login that the router's credentials have for it; mend [user.at.%s]: %v", user.Name, home, home, codeName(err))
		}
		if tooSlow(proven.SASLAuthBytes) {
			return 0, denied("user %q: cluster %q wants more than %d iterations of SCRAM", user.Name, home, mostIterations)
		}
		var done bool
		if done, message, err = session.Challenge(proven.SASLAuthBytes); err == nil && done {
			return lifetime(proven.SessionLifetimeMillis), nil
		}
	}
	return 0, denied("user %q: cluster %q does not end the login", user.Name, home)
}

// mostIterations bounds the work that a home can make of a login. Brokers have 4096, and at most 16384 (KIP-554).
const mostIterations = 100_000

// tooSlow reports whether a server's message of SCRAM asks for more than that.
func tooSlow(message []byte) bool {
	_, text, ok := bytes.Cut(message, []byte(",i="))
	text, _, _ = bytes.Cut(text, []byte(","))
	n, err := strconv.Atoi(string(text))
	return ok && (err != nil || n > mostIterations)
}

// lifetime is what a broker gives in milliseconds; what it cannot mean is for ever.
func lifetime(ms int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	if ms <= 0 || ms > most/4 {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// codeName is an error of the protocol in short.
func codeName(err error) string {
	if e := (*kerr.Error)(nil); errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// quiet waits until the home owes nothing: what it is asked next is about the connection itself. How long the home may take to answer bounds that.
func (r *Relay) quiet() error {
	for {
		r.mu.Lock()
		waits := r.state.owe.waits()
		r.mu.Unlock()
		if !waits {
			return nil
		}
		select {
		case <-r.changed:
		case <-r.over:
			return r.cause()
		}
	}
}

// askHome sends a request of our own and reads its answer. Nothing else is due.
func (r *Relay) askHome(ctx context.Context, m kmsg.Request, into kmsg.Response) error {
	offered, ok := r.cfg.Versions[m.Key()]
	if !ok {
		return denied("cluster %q takes no logins", r.cfg.Terminate.Home())
	}
	version := offered.Max
	m.SetVersion(version)
	into.SetVersion(version)
	got, err := r.send(m)
	if err != nil {
		return err
	}
	select {
	case body := <-got.body:
		if err := into.ReadFrom(body); err != nil {
			return failed(Upstream, "read the answer to a login", fmt.Errorf("%w: %w", ErrMalformed, err))
		}
		if refused := codeIn(into); refused == 0 {
			close(got.looked)
		}
		return nil
	case <-ctx.Done():
		return failed(Upstream, "log in", context.Cause(ctx))
	case <-r.over:
		return r.cause()
	}
}

// codeIn is the error code of an answer in a login.
func codeIn(m kmsg.Response) int16 {
	switch m := m.(type) {
	case *kmsg.SASLHandshakeResponse:
		return m.ErrorCode
	case *kmsg.SASLAuthenticateResponse:
		return m.ErrorCode
	}
	return 0
}
