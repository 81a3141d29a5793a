package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
)

// authenticate proves who we are (KIP-43, KIP-152), also again on a connection whose session is about to end (KIP-368).
func (w *wire) authenticate(ctx context.Context, p Profile, address string) error {
	m := p.SASL
	version, err := w.versions.pick(keyHandshake, 1)
	if err != nil {
		return err
	}
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Version, hello.Mechanism = version, m.Name()
	raw, err := w.ask(ctx, hello)
	if err != nil {
		return fmt.Errorf("ask for mechanism %s: %w", m.Name(), err)
	}
	offered := kmsg.NewPtrSASLHandshakeResponse()
	offered.Version = version
	if err := offered.ReadFrom(raw); err != nil {
		return protocolErrorf("a SASL handshake does not decode: %v", err)
	}
	if err := codeError(offered.ErrorCode); err != nil {
		err = p.refusedLogin(address, offered.SupportedMechanisms, err)
		p.gate.refused(address, err)
		return err
	}
	session, token, err := m.Authenticate(ctx, address)
	if err != nil {
		return fmt.Errorf("begin to authenticate by %s: %w", m.Name(), err)
	}
	err = w.exchange(ctx, m.Name(), session, token)
	if answered(err) {
		err = p.refusedLogin(address, nil, err)
	}
	l, ours := session.(*loginSession)
	switch {
	case !ours:
	case err != nil:
		l.turn.fail(ctx, err)
	default:
		l.turn.letIn() // again, of a mechanism that has the last word
	}
	return err
}

// maxSteps bounds the exchange; SCRAM takes two.
const maxSteps = 10

// exchange passes tokens between the mechanism and the broker until both are done; GSSAPI is done and still has something to say.
func (w *wire) exchange(ctx context.Context, name string, session sasl.Session, token []byte) error {
	version, err := w.versions.pick(keyAuth, 1)
	if err != nil {
		return err
	}
	started, done := time.Now(), false
	for range maxSteps {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.Version, req.SASLAuthBytes = version, token
		raw, err := w.ask(ctx, req)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("authenticate by %s: %w (the broker hung up; some do so at a wrong password)", name, err)
		}
		if err != nil {
			return fmt.Errorf("authenticate by %s: %w", name, err)
		}
		answer := kmsg.NewPtrSASLAuthenticateResponse()
		answer.Version = version
		if err := answer.ReadFrom(raw); err != nil {
			return protocolErrorf("a SASL answer does not decode: %v", err)
		}
		if err := codeError(answer.ErrorCode); err != nil {
			return fmt.Errorf("%w: %.200q", err, orEmpty(answer.ErrorMessage))
		}
		next := []byte(nil)
		if !done {
			if done, next, err = session.Challenge(answer.SASLAuthBytes); err != nil {
				return err
			}
		}
		if done && len(next) == 0 {
			w.session = saslSession{}
			if ms := answer.SessionLifetimeMillis; ms > 0 { // renewed early: at 85 % of what is granted
				w.session.until = started.Add(time.Duration(min(ms, maxSessionMillis)) * time.Millisecond * 85 / 100)
			}
			return nil
		}
		token = next
	}
	return errors.Join(ErrAuthentication, protocolErrorf("mechanism %s is not done after %d steps", name, maxSteps))
}

// maxSessionMillis keeps a duration from overflowing: a year.
const maxSessionMillis = 365 * 24 * 3600 * 1000

// expired reports whether the session must be renewed before the next request.
func (w *wire) expired() bool {
	return !w.session.until.IsZero() && time.Now().After(w.session.until)
}
