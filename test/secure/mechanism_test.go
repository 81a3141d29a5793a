package secure

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
)

// mechanisms mirrors a topic over every mechanism, all links in one node.
func (p *pair) mechanisms(t *testing.T) {
	s := newStage(t, "mechanisms")
	endpoint := p.tokenEndpoint(t)
	s.put("token", []byte(p.issuer.token(t, user, time.Hour)))
	s.put("secret", []byte(clientSecret))
	ways := []struct {
		name, listener string
		lines          []string
	}{
		{"tls", "TLS", []string{s.tls(p)}},
		{"mtls", "MTLS", []string{s.tls(p, s.shows("person", p.people.issue(t, user, false)))}},
		{"plain", "PLAIN", []string{s.tls(p), s.login("plain", "PLAIN", user, password)}},
		{"scram-256", "SCRAM", []string{s.tls(p), s.login("scram-256", "SCRAM-SHA-256", user, password)}},
		{"scram-512", "SCRAM", []string{s.tls(p), s.login("scram-512", "SCRAM-SHA-512", user, password)}},
		{"token", "OAUTH", []string{s.tls(p), `sasl = { mechanism = "OAUTHBEARER", token = "file:token" }`}},
		{"token-url", "OAUTH", []string{s.tls(p), fmt.Sprintf(
			`sasl = { mechanism = "OAUTHBEARER", token_url = %q, client_id = "isthmus", client_secret = "file:secret", scope = "mirror" }`, endpoint.url)}},
	}
	log := judge.NewLog()
	var topics []string
	for i, w := range ways {
		topic := "over-" + w.name
		s.cluster("eu-"+w.name, p.eu, w.listener, w.lines...)
		s.cluster("us-"+w.name, p.us, w.listener, w.lines...)
		s.link("eu-"+w.name, "us-"+w.name, topic)
		p.eu.create(t, topic, 2)
		write(t, p.eu, log, topic, 2, 400, uint64(i))
		topics = append(topics, topic)
	}
	n := s.node()
	n.Start()
	for i, w := range ways {
		copied(t, time.Minute, n, p.eu, "eu-"+w.name+"-us-"+w.name, topics[i])
	}
	p.judged(t, log, topics...)
	if endpoint.asked.Load() == 0 {
		t.Error("a cluster with token_url worked, and nobody asked for a token there")
	}
}

const clientSecret = "client secret"

// tokenEndpoint is a server that gives tokens to a client (RFC 6749, client credentials).
type tokenEndpoint struct {
	url   string
	asked atomic.Int32
}

func (p *pair) tokenEndpoint(t *testing.T) *tokenEndpoint {
	e := &tokenEndpoint{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth() // each escaped (RFC 6749, 2.3.1)
		w.Header().Set("Content-Type", "application/json")
		answer := map[string]any{"error": "invalid_client"}
		if id == "isthmus" && secret == url.QueryEscape(clientSecret) && r.PostFormValue("grant_type") == "client_credentials" && r.PostFormValue("scope") == "mirror" {
			e.asked.Add(1)
			answer = map[string]any{"access_token": p.issuer.token(t, user, time.Minute), "token_type": "Bearer", "expires_in": 60}
		} else {
			w.WriteHeader(http.StatusUnauthorized)
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Errorf("answer at the token endpoint: %v", err)
		}
	}))
	t.Cleanup(server.Close)
	e.url = server.URL + "/token"
	return e
}
