package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/users"
)

// Where logins end at the door, the client says here who it is, by SASL or by the certificate that it showed in its handshake. Then this relay logs in at
// the home as that user, with the user's own login there, before anything else is forwarded (home.go):
//
//	client                       door                          home
//	SaslHandshake ─────────────▶ mechanisms of the users
//	SaslAuthenticate ──────────▶ is he who he says he is?
//	                             connect, SaslHandshake ─────▶
//	                             SaslAuthenticate ───────────▶ the user's own login there
//	      ◀───────────────────── done, for so long ◀────────── done, for so long
//
// A login that the home ends after a while the client renews in time, as with a broker (KIP-368), and then the same is done again on the same connections.
// Who came by certificate is not told that, so it is done for him with his next request.

// Terminate says how logins end at the door.
type Terminate struct {
	// Users are those of now.
	Users func() *users.Book
	// Home is the name of the cluster that was dialled.
	Home func() string
	// Private says that nobody listens to what the client sends: it is encrypted, or does not leave the machine. PLAIN is offered there alone.
	Private bool
}

// entered is who came in where logins end at the door. Only the requests goroutine uses it.
type entered struct {
	user  *users.User  // nil before
	began *users.Login // nil: no login has begun
	renew time.Time    // when the home is to be told again who it is, of who came by certificate; zero for never
}

// refusedAfter is how long who is refused waits for that: guessing is to be slow. A broker's own default (connection.failed.authentication.delay.ms).
const refusedAfter = 100 * time.Millisecond

// admit lets a request pass that is none of a login: of a client that has logged in, or shows a certificate of a user.
func (r *Relay) admit(ctx context.Context) error {
	t, e := r.cfg.Terminate, &r.entered
	if t == nil || e.user != nil && e.began == nil && (e.renew.IsZero() || time.Now().Before(e.renew)) {
		return nil
	}
	user := t.Users().ByCertificate(r.cfg.Subject)
	if e.began != nil || user == nil || e.user != nil && user.Name != e.user.Name {
		return failed(Client, "take a request", ErrNoLogin)
	}
	lasts, err := r.logIn(ctx, user)
	if err != nil {
		return err
	}
	r.enter(user, "certificate")
	if e.renew = (time.Time{}); lasts > 0 {
		e.renew = time.Now().Add(lasts * 4 / 5)
	}
	return nil
}

// enter notes who came in.
func (r *Relay) enter(user *users.User, mechanism string) {
	r.entered = entered{user: user}
	r.loggedIn = true
	r.seen.principal.Store(&Principal{user.Name, mechanism})
}

// loginHere answers a request of a login.
func (r *Relay) loginHere(ctx context.Context, h frame.Request) error {
	_, body, give, err := r.request(ctx, h, maxLogin)
	if err != nil {
		return err
	}
	defer give()
	wrong := func(err error) error {
		return failed(Client, "read a login", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	if h.Key == int16(kmsg.SASLHandshake) {
		m := kmsg.NewSASLHandshakeRequest()
		m.SetVersion(h.Version)
		if err := m.ReadFrom(body); err != nil {
			return wrong(err)
		}
		return r.handshake(h, m.Mechanism)
	}
	m := kmsg.NewSASLAuthenticateRequest()
	m.SetVersion(h.Version)
	if err := m.ReadFrom(body); err != nil {
		return wrong(err)
	}
	return r.authenticate(ctx, h, m.SASLAuthBytes)
}

// handshake begins a login.
func (r *Relay) handshake(h frame.Request, mechanism string) error {
	t, e := r.cfg.Terminate, &r.entered
	book := t.Users()
	answer := kmsg.NewPtrSASLHandshakeResponse()
	answer.SetVersion(h.Version)
	answer.SupportedMechanisms = book.Mechanisms(t.Private)
	var wrong error
	switch began := book.Begin(mechanism, t.Private); {
	case e.began != nil:
		wrong = kerr.IllegalSaslState
	case began == nil:
		wrong = kerr.UnsupportedSaslMechanism
	default:
		e.began = began
		return r.answerHere(h, answer)
	}
	answer.ErrorCode = codeOf(wrong)
	return r.turnAway(h, answer, fmt.Errorf("a login by %.*q: %w", maxShown, mechanism, wrong))
}

// authenticate takes the next message of a login.
func (r *Relay) authenticate(ctx context.Context, h frame.Request, message []byte) error {
	e := &r.entered
	answer := kmsg.NewPtrSASLAuthenticateResponse()
	answer.SetVersion(h.Version)
	refuse := func(wrong *kerr.Error, err error) error {
		text := err.Error()
		answer.ErrorCode, answer.ErrorMessage, answer.SASLAuthBytes = wrong.Code, &text, nil
		return r.turnAway(h, answer, err)
	}
	if e.began == nil {
		return refuse(kerr.IllegalSaslState, errors.New("a login begins with SaslHandshake"))
	}
	began := e.began
	said, user, err := began.Next(message)
	if err != nil {
		return refuse(kerr.SaslAuthenticationFailed, err)
	}
	if answer.SASLAuthBytes = said; user == nil {
		return r.answerHere(h, answer)
	}
	if e.user != nil && e.user.Name != user.Name {
		return refuse(kerr.IllegalSaslState, fmt.Errorf("the connection is that of %q; connect again as %q", e.user.Name, user.Name))
	}
	lasts, err := r.logIn(ctx, user)
	if denied := (*deniedError)(nil); errors.As(err, &denied) {
		return refuse(kerr.SaslAuthenticationFailed, denied)
	}
	if err != nil {
		return err
	}
	answer.SessionLifetimeMillis = lasts.Milliseconds()
	r.enter(user, began.Mechanism)
	return r.answerHere(h, answer)
}

// turnAway answers a login that is refused, after a while, and ends the connection.
func (r *Relay) turnAway(h frame.Request, answer kmsg.Response, why error) error {
	timer := time.NewTimer(refusedAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.over:
		return r.cause()
	}
	if err := r.answerHere(h, answer); err != nil {
		return err
	}
	if denied := (*deniedError)(nil); errors.As(why, &denied) {
		return failed(Client, "log in", why)
	}
	return failed(Client, "log in", fmt.Errorf("%w: %w", ErrLogin, why))
}

func codeOf(err error) int16 {
	if e := (*kerr.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return kerr.UnknownServerError.Code
}
