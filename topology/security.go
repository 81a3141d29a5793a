package topology

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// The mechanisms of SASL that a cluster may name.
const (
	// Plain sends user and password as they are.
	Plain = "PLAIN"
	// ScramSHA256 and ScramSHA512 prove the password without sending it.
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	// OAuthBearer sends a token, given by a reference or fetched from a token endpoint (client credentials grant).
	OAuthBearer = "OAUTHBEARER"
	// AWSMSKIAM signs by an AWS key. It is untested against a real service.
	AWSMSKIAM = "AWS_MSK_IAM"
	// GSSAPI is Kerberos by keytab. It is untested against a real service.
	GSSAPI = "GSSAPI"
)

// TLS says how to speak TLS to a cluster. All references may be zero: then the system's roots and no client certificate.
type TLS struct {
	// CA, Cert and Key refer to PEM. Cert and Key are both set or both zero.
	CA, Cert, Key Secret
	// ServerName overrides the name the broker's certificate is checked against; empty is the host that was dialed.
	ServerName string
}

// SASL is a login at a cluster. Only the fields of its mechanism are set.
type SASL struct {
	// Mechanism is one of the constants above.
	Mechanism string

	// User is the user of PLAIN and SCRAM, and the principal's name without its realm of GSSAPI.
	User string
	// Password is of PLAIN and SCRAM.
	Password Secret

	// Token is the token of OAUTHBEARER itself; it is zero where TokenURL is set.
	Token Secret
	// TokenURL is where OAUTHBEARER fetches a token: https, or http to loopback or in an insecure cluster.
	TokenURL string
	// ClientID and ClientSecret are what the token endpoint asks for; Scope may be empty.
	ClientID, Scope string
	ClientSecret    Secret

	// AccessKey and SecretKey are of AWS_MSK_IAM; SessionToken may be zero.
	AccessKey, SecretKey, SessionToken Secret

	// Realm, Service, Keytab and Krb5Conf are of GSSAPI. Service is the brokers' service name. Both references are files.
	Realm, Service   string
	Keytab, Krb5Conf Secret
}

// Untested tells whether the mechanism was never tried against a real service, for want of one.
func (s *SASL) Untested() bool { return s.Mechanism == AWSMSKIAM || s.Mechanism == GSSAPI }

// GivesAway tells whether somebody who listens on the wire, without TLS, can use or guess the login. GSSAPI is the one mechanism
// that is made for such a wire.
func (s *SASL) GivesAway() bool { return s.Mechanism != GSSAPI }

// mechanisms is the order in which they are named to a person.
var mechanisms = []string{Plain, ScramSHA256, ScramSHA512, OAuthBearer, AWSMSKIAM, GSSAPI}

// mechanismKeys are the keys beside mechanism that mean something for each.
var mechanismKeys = map[string][]string{
	Plain:       {"user", "password"},
	ScramSHA256: {"user", "password"},
	ScramSHA512: {"user", "password"},
	OAuthBearer: {"token", "token_url", "client_id", "client_secret", "scope"},
	AWSMSKIAM:   {"access_key", "secret_key", "session_token"},
	GSSAPI:      {"user", "realm", "keytab", "krb5_conf", "service"},
}

func (r *reader) tls(s scope) *TLS {
	t, ok := s.sub("tls", `{ ca = "file:ca.pem" }`)
	if !ok {
		return nil
	}
	t.only("ca", "cert", "key", "server_name")
	out := &TLS{
		CA: t.secret("ca", r.base, false), Cert: t.secret("cert", r.base, false), Key: t.secret("key", r.base, false),
		ServerName: t.str("server_name", `"kafka.example"`, false).text,
	}
	for _, pair := range [][2]string{{"cert", "key"}, {"key", "cert"}} {
		if have := t.t.keys[pair[0]]; have != nil && t.t.keys[pair[1]] == nil && !t.excused(pair[1]) {
			r.d.add(have.key, "tls has a %s but no %s; add %s = \"file:PATH\", or take out %s", pair[0], pair[1], pair[1], pair[0])
		}
	}
	return out
}

func (r *reader) sasl(s scope, insecure bool) *SASL {
	t, ok := s.sub("sasl", `{ mechanism = "SCRAM-SHA-512", user = "isthmus", password = "env:NAME" }`)
	if !ok {
		return nil
	}
	// The mechanism decides which keys are known, and is read after them so that a misspelled "mechanism" is not called missing.
	written := ""
	if n := t.t.keys["mechanism"]; n != nil && n.kind == kindString {
		written = n.text
	}
	assumed := assume(written, t.t.keys)
	known := append([]string{"mechanism"}, mechanismKeys[assumed]...)
	if assumed == written {
		t.onlyBut(r.foreign(t, written), known...)
	} else {
		for _, m := range mechanisms {
			known = append(known, missingFrom(known, mechanismKeys[m])...)
		}
		t.only(known...)
	}
	mechanism := t.str("mechanism", `"SCRAM-SHA-512"`, true)
	if mechanism.ok && assumed != written {
		hint := "write one of " + strings.Join(mechanisms, ", ")
		if best, ok := nearest(mechanism.text, mechanisms); ok {
			hint = "did you mean " + best + "?"
		}
		r.d.add(mechanism.pos, "unknown mechanism %s; %s", clip(mechanism.text), hint)
	}
	out := &SASL{Mechanism: mechanism.text}
	switch assumed {
	case Plain, ScramSHA256, ScramSHA512:
		out.User, out.Password = t.str("user", `"isthmus"`, true).text, t.secret("password", r.base, true)
	case OAuthBearer:
		r.oauth(t, out, insecure)
	case AWSMSKIAM:
		out.AccessKey, out.SecretKey = t.secret("access_key", r.base, true), t.secret("secret_key", r.base, true)
		out.SessionToken = t.secret("session_token", r.base, false)
	case GSSAPI:
		out.User, out.Realm = t.str("user", `"isthmus"`, true).text, t.str("realm", `"EXAMPLE.COM"`, true).text
		out.Keytab, out.Krb5Conf = r.file(t, "keytab"), r.file(t, "krb5_conf")
		if out.Service = t.str("service", `"kafka"`, false).text; out.Service == "" {
			out.Service = "kafka"
		}
	}
	return out
}

// principal reads whom a cluster takes us for.
func (r *reader) principal(s scope) string {
	const example = `"User:isthmus"`
	v := s.str("principal", example, false)
	if kind, name, _ := strings.Cut(v.text, ":"); v.ok && (kind == "" || name == "" || name == "*") {
		r.d.add(v.pos, "principal is no name as the cluster's rules have it; write principal = %s", example)
		return ""
	}
	return v.text
}

// assume is the mechanism as it is written, or else the one that most likely was meant, so that the other keys are checked too.
func assume(written string, keys map[string]*node) string {
	if slices.Contains(mechanisms, written) {
		return written
	}
	if best, ok := nearest(written, mechanisms); ok {
		return best
	}
	best, most := Plain, 0
	for _, m := range mechanisms {
		present := 0
		for _, key := range mechanismKeys[m] {
			if keys[key] != nil {
				present++
			}
		}
		if present > most {
			best, most = m, present
		}
	}
	return best
}

// missingFrom are the keys of more that known does not have.
func missingFrom(known, more []string) (missing []string) {
	for _, key := range more {
		if !slices.Contains(known, key) {
			missing = append(missing, key)
		}
	}
	return missing
}

// foreign reports and returns the keys that only other mechanisms know.
func (r *reader) foreign(t scope, mechanism string) (foreign []string) {
	for _, key := range t.t.order {
		var owners []string
		for _, m := range mechanisms {
			if slices.Contains(mechanismKeys[m], key) {
				owners = append(owners, m)
			}
		}
		if len(owners) == 0 || slices.Contains(mechanismKeys[mechanism], key) {
			continue
		}
		foreign = append(foreign, key)
		r.d.add(t.t.keys[key].key, "%s belongs to %s, not to %s; take it out, or change the mechanism", key, strings.Join(owners, ", "), mechanism)
	}
	return foreign
}

// oauth reads how a token is come by: given, or fetched.
func (r *reader) oauth(t scope, out *SASL, insecure bool) {
	given, fetched := t.t.keys["token"], t.t.keys["token_url"]
	switch {
	case given == nil && fetched == nil:
		if !t.excused("token") && !t.excused("token_url") {
			r.d.add(t.t.pos, `%s has neither token nor token_url; add token = "file:PATH", or token_url, client_id and client_secret`, t.title)
		}
	case given != nil && fetched != nil:
		r.d.add(max(given.key, fetched.key), "token and token_url exclude each other; keep token for a token that something else renews, token_url for one to fetch")
	case given != nil:
		for _, key := range []string{"client_id", "client_secret", "scope"} {
			if n := t.t.keys[key]; n != nil {
				r.d.add(n.key, "%s belongs to token_url, not to token; take it out", key)
			}
		}
		out.Token = t.secret("token", r.base, true)
	default:
		out.TokenURL = r.tokenURL(t, insecure)
		out.ClientID, out.ClientSecret = t.str("client_id", `"isthmus"`, true).text, t.secret("client_secret", r.base, true)
		out.Scope = t.str("scope", `"kafka"`, false).text
	}
}

// tokenURL reads the address of a token endpoint. Only a web address is one: a file: that was read and sent to whoever asks would
// give a local file away. The text of a bad one is not repeated where it can hold a password.
func (r *reader) tokenURL(t scope, insecure bool) string {
	const example = `"https://login.example/oauth2/token"`
	v := t.str("token_url", example, true)
	if !v.ok {
		return ""
	}
	u, err := url.Parse(v.text)
	switch {
	case err != nil:
		r.d.add(v.pos, "token_url is no URL; write token_url = %s", example)
	case u.Scheme != "https" && u.Scheme != "http":
		r.d.add(v.pos, "token_url is an address of the web and nothing else; write token_url = %s", example)
	case u.User != nil:
		r.d.add(v.pos, "token_url holds a user; write it as client_id and client_secret")
	case u.Hostname() == "":
		r.d.add(v.pos, "token_url names no host; write token_url = %s", example)
	case u.Fragment != "":
		r.d.add(v.pos, "token_url has a # in it; take out what begins there")
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && !insecure:
		r.d.add(v.pos, "token_url over http gives the client's secret and the token away to whoever listens; write https, or insecure = true in the cluster if you accept that")
	default:
		return v.text
	}
	return ""
}

// file reads a reference that must be a file.
func (r *reader) file(t scope, key string) Secret {
	n := t.t.keys[key]
	ref := t.secret(key, r.base, true)
	if strings.HasPrefix(ref.ref, "env:") {
		r.d.add(n.pos, "%s is a file; write %s = \"file:PATH\"", key, key)
	}
	return ref
}

// inClear reports a login that would go over the wire without TLS. Only what is plainly loopback counts as that: what a name
// leads to is known when it is dialled, and looked at again then.
func (r *reader) inClear(s scope, c Cluster) {
	if c.SASL == nil || mechanismKeys[c.SASL.Mechanism] == nil || !c.SASL.GivesAway() ||
		s.t.keys["tls"] != nil || s.excused("tls") || c.Insecure || s.excused("insecure") {
		return
	}
	for _, address := range c.Bootstrap {
		if host, _, err := net.SplitHostPort(address); err == nil && !isLoopback(host) {
			r.d.add(s.t.pos, "%s without tls gives the login at %s away to whoever listens; add tls = { ca = \"file:ca.pem\" }, or insecure = true if you accept that",
				c.SASL.Mechanism, address)
			return
		}
	}
}

// isLoopback tells whether a host, as it is written, can only be this machine.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// notes tells what is allowed of a cluster and yet may surprise.
func (c Cluster) notes() (notes []string) {
	if c.SASL == nil {
		return nil
	}
	if c.SASL.Untested() {
		notes = append(notes, fmt.Sprintf("cluster %s: %s is untested against a real service; try it before you rely on it", c.Name, c.SASL.Mechanism))
	}
	if c.TLS != nil || !c.SASL.GivesAway() {
		return notes
	}
	for _, address := range c.Bootstrap {
		if host, _, err := net.SplitHostPort(address); err == nil && !isLoopback(host) {
			return append(notes, fmt.Sprintf("cluster %s: %s without tls gives the login away to whoever listens", c.Name, c.SASL.Mechanism))
		}
	}
	return notes
}
