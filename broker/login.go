package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/isthmus-project/isthmus/topology"
)

// login is a mechanism that takes turns at each broker and says what it means when it fails. Our own connections and the client
// library both use it.
type login struct {
	sasl.Mechanism
	cluster string
	gate    *gate
}

// Authenticate begins a login.
func (l *login) Authenticate(ctx context.Context, address string) (sasl.Session, []byte, error) {
	t, err := l.gate.login(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	session, first, err := l.Mechanism.Authenticate(ctx, address)
	if err != nil {
		t.fail(ctx, err)
		return nil, nil, err
	}
	return &loginSession{Session: session, login: l, turn: t, first: first}, first, nil
}

// loginSession is one login.
type loginSession struct {
	sasl.Session
	login *login
	turn  *turn
	first []byte // what the login began with; of OAUTHBEARER it holds the token
}

// Challenge takes what the broker answered.
func (s *loginSession) Challenge(answer []byte) (done bool, next []byte, err error) {
	switch name := s.login.Name(); {
	case name == topology.OAuthBearer && len(answer) > 0: // RFC 7628: an answer instead of silence is a refusal
		err = fmt.Errorf("the broker answers %.200q", answer)
	case name == topology.ScramSHA256, name == topology.ScramSHA512:
		err = checkRounds(answer)
	}
	if err == nil {
		done, next, err = s.Session.Challenge(answer)
	}
	if err != nil {
		err = s.refused(err)
		s.turn.fail(context.Background(), err)
		return false, nil, err
	}
	if done && len(next) == 0 { // what has to be said yet may be refused
		s.turn.letIn()
	}
	return done, next, nil
}

// maxRounds is far more than brokers take (16384), and less than a second of work.
const maxRounds = 1 << 19

// checkRounds looks at the first answer of SCRAM (RFC 5802): whoever answers chooses how often we hash, which nothing could end.
func checkRounds(answer []byte) error {
	for attr := range bytes.SplitSeq(answer, []byte(",")) {
		n, is := bytes.CutPrefix(attr, []byte("i="))
		if i, err := strconv.Atoi(string(n)); is && err == nil && i > maxRounds {
			return protocolErrorf("it asks for %d rounds of hashing, the limit is %d", i, maxRounds)
		}
	}
	return nil
}

// refused says what to do about a login that failed.
func (s *loginSession) refused(err error) error {
	e := &AccessError{
		Cluster: s.login.cluster, Address: s.turn.address, Field: loginField(s.login), Remedy: loginRemedy(s.login),
		Reason: s.turn.address + " and we do not agree on the login by " + s.login.Name(),
		Err:    fmt.Errorf("%w: mechanism %s: %w", ErrAuthentication, s.login.Name(), err),
	}
	if errors.Is(err, ErrProtocol) {
		e.Field, e.Remedy = "sasl.mechanism", "see whether this is your broker; another mechanism may work"
	}
	// Brokers tell their own log only that a token is too old.
	if end, ok := bearerEnd(s.first); ok && s.login.Name() == topology.OAuthBearer && time.Now().After(end) {
		e.Reason = s.turn.address + " refuses the login by OAUTHBEARER: the token expired at " + end.UTC().Format(time.RFC3339)
		e.Remedy = "renew what token refers to, which is read again at each login; with token_url, set the clock of this machine or of the endpoint"
	}
	return e
}

// loginField is the field of the topology that a refusal is about.
func loginField(m sasl.Mechanism) string {
	switch m.Name() {
	case topology.OAuthBearer:
		return "sasl.token"
	case topology.AWSMSKIAM:
		return "sasl.secret_key"
	case topology.GSSAPI:
		return "sasl.keytab"
	}
	return "sasl.password"
}

// loginRemedy is what to look at after a refusal.
func loginRemedy(m sasl.Mechanism) string {
	const again = ", or the account at the broker; the reference is read again at each login"
	switch m.Name() {
	case topology.OAuthBearer:
		return "correct token, or what token_url hands out" + again
	case topology.AWSMSKIAM:
		return "correct access_key and secret_key" + again
	case topology.GSSAPI:
		return "correct user, realm, keytab and service" + again
	}
	return "correct user and password" + again
}
