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
func (w *wire) authenticate(ctx context.Context, m sasl.Mechanism, address string) error {
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
		return fmt.Errorf("%w: mechanism %s: %w (the broker offers %q)", ErrAuthentication, m.Name(), err, offered.SupportedMechanisms)
	}
	session, token, err := m.Authenticate(ctx, address)
	if err != nil {
		return fmt.Errorf("%w: mechanism %s: %w", ErrAuthentication, m.Name(), err)
	}
	return w.exchange(ctx, m.Name(), session, token)
}

// maxSteps bounds the exchange; SCRAM takes two.
const maxSteps = 10

// exchange passes tokens between the mechanism and the broker until both are done.
func (w *wire) exchange(ctx context.Context, name string, session sasl.Session, token []byte) error {
	version, err := w.versions.pick(keyAuth, 1)
	if err != nil {
		return err
	}
	started := time.Now()
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
			said := ""
			if answer.ErrorMessage != nil {
				said = *answer.ErrorMessage
			}
			return fmt.Errorf("%w: mechanism %s: %w: %s", ErrAuthentication, name, err, said)
		}
		done, next, err := session.Challenge(answer.SASLAuthBytes)
		if err != nil {
			return fmt.Errorf("%w: mechanism %s: %w", ErrAuthentication, name, err)
		}
		if done {
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
