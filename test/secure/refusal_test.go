package secure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// refusal is one thing that is wrong with how a cluster is reached.
type refusal struct {
	name, listener string
	lines          []string // tls and sasl
	says           []string // field, what is wrong, what to do; all in one line that names the cluster
}

// refusals are all that go wrong at the first contact.
func (p *pair) refusals(t *testing.T, s *stage, endpoint string) []refusal {
	foreign := newAuthority(t, "somebody else")
	s.put("foreign.pem", foreign.pem)
	s.put("old-token", []byte(p.issuer.token(t, user, -time.Hour)))
	s.put("forged-token", []byte(newIssuer(t).token(t, user, time.Hour)))
	s.put("wrong-secret", []byte("open sesame"))
	const correct = "correct user and password"
	bearer := func(rest string) string { return `sasl = { mechanism = "OAUTHBEARER", ` + rest + ` }` }
	return []refusal{
		{"plain-password", "PLAIN", []string{s.tls(p), s.login("plain-password", "PLAIN", user, "wrong guess")}, []string{"sasl.password", "refuses the login by PLAIN", correct}},
		{"scram256-password", "SCRAM", []string{s.tls(p), s.login("scram256-password", "SCRAM-SHA-256", user, "wrong guess")}, []string{"sasl.password", "refuses the login by SCRAM-SHA-256", correct}},
		{"scram512-password", "SCRAM", []string{s.tls(p), s.login("scram512-password", "SCRAM-SHA-512", user, "wrong guess")}, []string{"sasl.password", "refuses the login by SCRAM-SHA-512", correct}},
		{"plain-user", "PLAIN", []string{s.tls(p), s.login("plain-user", "PLAIN", "nobody", password)}, []string{"sasl.password", "refuses the login by PLAIN", correct}},
		{"scram-user", "SCRAM", []string{s.tls(p), s.login("scram-user", "SCRAM-SHA-512", "nobody", password)}, []string{"sasl.password", "refuses the login by SCRAM-SHA-512", correct}},
		{"mechanism", "SCRAM", []string{s.tls(p), s.login("mechanism", "PLAIN", user, password)}, []string{"sasl.mechanism", "does not offer PLAIN", "write a mechanism that is enabled"}},
		{"no-login", "SCRAM", []string{s.tls(p)}, []string{"hung up", "TLS or SASL"}},
		{"login-unasked", "", []string{s.login("login-unasked", "PLAIN", user, password)}, []string{"sasl", "takes no login", "take sasl out"}},
		{"wrong-ca", "TLS", []string{`tls = { ca = "file:foreign.pem" }`}, []string{"tls.ca", "signed by none of the authorities in ca", "put the certificate of the authority"}},
		{"no-ca", "TLS", []string{`tls = {}`}, []string{"tls.ca", "signed by no authority that this system trusts", "add ca"}},
		{"wrong-name", "TLS", []string{s.tls(p, `server_name = "elsewhere"`)}, []string{"tls.server_name", "not for elsewhere", "server_name"}},
		{"expired-broker", "EXPIRED", []string{s.tls(p)}, []string{"tls", "expired at", "renew it at the broker"}},
		{"expired-person", "MTLS", []string{s.tls(p, s.shows("expired", p.people.issue(t, user, true)))}, []string{"tls.cert", "valid until", "renew it"}},
		{"foreign-person", "MTLS", []string{s.tls(p, s.shows("foreign", foreign.issue(t, user, false)))}, []string{"tls.cert", "somebody else", "truststore"}},
		{"no-person", "MTLS", []string{s.tls(p)}, []string{"tls.cert", "asks for a client certificate", "add cert"}},
		{"no-tls", "TLS", nil, []string{"tls", "speaks TLS and this cluster has no tls", "add tls"}},
		{"tls-unasked", "", []string{s.tls(p)}, []string{"tls", "TLS listener", "take tls out"}},
		{"old-token", "OAUTH", []string{s.tls(p), bearer(`token = "file:old-token"`)}, []string{"sasl.token", "the token expired at", "renew what token refers to"}},
		{"forged-token", "OAUTH", []string{s.tls(p), bearer(`token = "file:forged-token"`)}, []string{"sasl.token", "the login by OAUTHBEARER", "correct token"}},
		{"token-secret", "OAUTH", []string{s.tls(p), bearer(fmt.Sprintf(`token_url = %q, client_id = "isthmus", client_secret = "file:wrong-secret"`, endpoint))},
			[]string{"sasl.client_secret", "refuses the client", "correct client_id, client_secret"}},
	}
}

// saysWhatIsWrong runs links with all refusals beside a healthy one, in one node.
func (p *pair) saysWhatIsWrong(t *testing.T) {
	s := newStage(t, "refusals")
	all := p.refusals(t, s, p.tokenEndpoint(t).url)
	s.cluster("eu", p.eu, "TLS", s.tls(p))
	s.cluster("us", p.us, "TLS", s.tls(p))
	s.link("eu", "us", "neighbour")
	for _, r := range all {
		s.cluster(r.name, p.eu, r.listener, r.lines...)
		s.link(r.name, "us", "never")
	}
	log := judge.NewLog()
	p.eu.create(t, "neighbour", 2)
	write(t, p.eu, log, "neighbour", 2, 200, 0)
	n := s.node()
	n.Start()
	copied(t, time.Minute, n, p.eu, "eu-us", "neighbour")
	check := checkLive(t, s.file())
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			if err := r.saidIn("cluster "+r.name+": ", check); err != nil {
				t.Errorf("check --live does not say what is wrong: %v", err)
			}
			node.Until(t, 30*time.Second, "status says what is wrong", func(ctx context.Context) error {
				out, err := n.CLI(ctx, "status", r.name+"-us")
				if err != nil {
					return err
				}
				return r.saidIn("! "+r.name+"-us: ", string(out))
			})
			if err := r.saidIn("cluster="+r.name+" ", n.Log()); err != nil {
				t.Errorf("the log does not say what is wrong: %v", err)
			}
		})
	}
	write(t, p.eu, log, "neighbour", 2, 200, 1)
	copied(t, 20*time.Second, n, p.eu, "eu-us", "neighbour")
	p.judged(t, log, "neighbour")
	for _, text := range []string{check, n.Log()} {
		for _, secret := range []string{"wrong guess", password, "open sesame", "eyJ"} { // eyJ begins every token
			if strings.Contains(text, secret) {
				t.Errorf("a secret (%q) is printed in:\n%s", secret, text)
			}
		}
	}
	p.healsByItself(t, s, n)
}

// healsByItself corrects a password file under a node that runs.
func (p *pair) healsByItself(t *testing.T, s *stage, n *node.Node) {
	t.Helper()
	s.login("plain-password", "PLAIN", user, password)
	node.Until(t, 30*time.Second, "the link goes on with the corrected password", func(ctx context.Context) error {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		for _, l := range st.GetLinks() {
			if l.GetFrom() == "plain-password" && !l.GetUp() {
				return errors.New(l.GetTrouble())
			}
		}
		return nil
	})
}

// saidIn looks for a line about the cluster that says all, and gives nothing away.
func (r refusal) saidIn(about, text string) error {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, about) {
			continue
		}
		missing := ""
		for _, word := range r.says {
			if !strings.Contains(line, word) && missing == "" {
				missing = word
			}
		}
		if missing == "" {
			return nil
		}
		lines = append(lines, fmt.Sprintf("without %q: %s", missing, line))
	}
	if len(lines) == 0 {
		return fmt.Errorf("nothing is said of %q", about)
	}
	return errors.New(lines[len(lines)-1])
}
