package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

const (
	tokenTimeout  = 8 * time.Second // less than dialTimeout, so that the caller hears of this one
	maxTokenBytes = 64 << 10        // far more than a broker takes
)

// errRedirected keeps the client's secret from where an endpoint, or somebody in its place, sends us.
var errRedirected = errors.New("the endpoint sends us elsewhere")

// tokenEndpoint fetches a token by the client credentials grant (RFC 6749, 4.4), a new one for each login: how long a broker
// keeps a session is how long its token lives.
type tokenEndpoint struct {
	cluster string
	spec    *topology.SASL
	secret  *fresh[string]
	client  *http.Client
}

func newTokenEndpoint(cluster string, spec *topology.SASL, secret *fresh[string]) *tokenEndpoint {
	return &tokenEndpoint{cluster: cluster, spec: spec, secret: secret, client: &http.Client{
		Timeout: tokenTimeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: tokenTimeout, ResponseHeaderTimeout: tokenTimeout,
			MaxResponseHeaderBytes: maxTokenBytes, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirected },
	}}
}

// fetch asks for a token. No error holds any part of the answer but its error code, nor the address's query.
func (e *tokenEndpoint) fetch(ctx context.Context) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if e.spec.Scope != "" {
		form.Set("scope", e.spec.Scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.spec.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", e.wrong("sasl.token_url", "is no address", "correct it", errors.New("the request cannot be made"))
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.SetBasicAuth(url.QueryEscape(e.spec.ClientID), url.QueryEscape(e.secret.get()))
	resp, err := e.client.Do(req)
	if err != nil {
		var failed *url.Error // names the whole address; what is inside does not
		if errors.As(err, &failed) {
			err = failed.Err
		}
		if errors.Is(err, errRedirected) {
			return "", e.wrong("sasl.token_url", "sends us to another address, which is not followed", "write the endpoint's own address", err)
		}
		return "", fmt.Errorf("cluster %s: sasl.token_url: fetch a token from %s: %w", e.cluster, req.URL.Host, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenBytes+1))
	if err != nil {
		return "", fmt.Errorf("cluster %s: sasl.token_url: read the token of %s: %w", e.cluster, req.URL.Host, err)
	}
	return e.read(resp.StatusCode, raw)
}

// read judges an answer.
func (e *tokenEndpoint) read(status int, raw []byte) (string, error) {
	var answer struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
		Error string `json:"error"`
	}
	if len(raw) > maxTokenBytes {
		return "", e.wrong("sasl.token_url", fmt.Sprintf("answers with more than %d bytes", maxTokenBytes), "is it a token endpoint?", ErrProtocol)
	}
	decoded := json.Unmarshal(raw, &answer) == nil
	switch {
	case status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "", e.wrong("sasl.client_secret", "the token endpoint refuses the client",
			"correct client_id, client_secret and scope; the reference is read again at each login", fmt.Errorf("%w: status %d, error %.60q", ErrAuthentication, status, answer.Error))
	case status >= 500 || status == http.StatusTooManyRequests:
		return "", fmt.Errorf("cluster %s: sasl.token_url: the token endpoint answers with status %d", e.cluster, status)
	case status != http.StatusOK || !decoded:
		return "", e.wrong("sasl.token_url", "answers like no token endpoint", "correct it", fmt.Errorf("status %d, JSON %v", status, decoded))
	case !isToken(answer.Token) || answer.Type != "" && !strings.EqualFold(answer.Type, "bearer"):
		return "", e.wrong("sasl.token_url", "hands out no bearer token", "correct it, or scope", fmt.Errorf("token_type %.60q", answer.Type))
	}
	return answer.Token, nil
}

func (e *tokenEndpoint) wrong(field, reason, remedy string, err error) error {
	return &AccessError{Cluster: e.cluster, Field: field, Reason: reason, Remedy: remedy, Err: err}
}

// isToken tells whether a text is a token of RFC 6750; anything else could end it early and add fields of its own.
func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/=", c)
	})
}

// bearerEnd is when the token in a first message of OAUTHBEARER ends, by the token's own word; false if it is no JWT (RFC 7519) or
// does not tell. The signature is not looked at: this only explains a refusal.
func bearerEnd(first []byte) (time.Time, bool) {
	_, rest, found := strings.Cut(string(first), "auth=Bearer ")
	token, _, _ := strings.Cut(rest, "\x01")
	parts := strings.Split(token, ".")
	if !found || len(parts) != 3 {
		return time.Time{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	var claims struct {
		End float64 `json:"exp"`
	}
	const farFuture = 1 << 37 // beyond it a date has no text
	if err != nil || json.Unmarshal(raw, &claims) != nil || claims.End <= 0 || claims.End > farFuture {
		return time.Time{}, false
	}
	return time.Unix(int64(claims.End), 0), true
}
