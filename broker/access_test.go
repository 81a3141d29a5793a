package broker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/broker"
)

// stage is a broker of a kind and a profile that does not fit it.
type stage struct {
	name    string
	profile func(t *testing.T) (broker.Profile, broker.Broker)
	field   string
	says    []string // of what is wrong and what to do
	class   broker.Class
}

func TestAccess_EachFaultHasItsMessage(t *testing.T) {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	ca, other := newIdentity(t), issue(t, nil, func(c *x509.Certificate) { c.Subject.CommonName = "stranger" })
	good := issue(t, &ca, nil)
	expired := issue(t, &ca, func(c *x509.Certificate) { c.NotAfter = past })
	early := issue(t, &ca, func(c *x509.Certificate) { c.NotBefore = future })
	foreign := issue(t, &other, nil)
	serve := func(id identity) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{id.pair}} }
	demand := func(version uint16) *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{good.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.roots, MaxVersion: version,
		}
	}
	trust := func(own ...identity) *tls.Config {
		c := &tls.Config{RootCAs: ca.roots}
		for _, o := range own {
			c.Certificates = append(c.Certificates, o.pair)
		}
		return c
	}
	bearer := oauth.Auth{Token: "secret"}.AsMechanism()
	login := plain.Auth{User: "u", Pass: "secret"}.AsMechanism()
	scrammed := scram.Auth{User: "u", Pass: "secret"}.AsSha512Mechanism()

	for _, tc := range []stage{
		{"unknown authority", onTLS(serve(good), &tls.Config{RootCAs: other.roots}), "tls.ca", []string{"signed by none of the authorities in ca", "put the certificate of the authority"}, broker.Fatal},
		{"unknown authority, no ca", onTLS(serve(good), &tls.Config{}), "tls.ca", []string{"no authority that this system trusts", "add ca"}, broker.Fatal},
		{"wrong name", onTLS(serve(good), &tls.Config{RootCAs: ca.roots, ServerName: "elsewhere"}), "tls.server_name", []string{"is for localhost, 127.0.0.1, not for elsewhere", "server_name"}, broker.Fatal},
		{"expired", onTLS(serve(expired), trust()), "tls", []string{"expired at " + past.UTC().Format("2006-01-02T15"), "renew it at the broker"}, broker.Fatal},
		{"not yet valid", onTLS(serve(early), trust()), "tls", []string{"not valid before " + future.UTC().Format("2006-01-02T15"), "clock"}, broker.Fatal},
		{"no certificate, TLS 1.3", onTLS(demand(tls.VersionTLS13), trust()), "tls.cert", []string{"asks for a client certificate and this cluster has none", "add cert"}, broker.Fatal},
		{"no certificate, TLS 1.2", onTLS(demand(tls.VersionTLS12), trust()), "tls.cert", []string{"asks for a client certificate and this cluster has none", "add cert"}, broker.Fatal},
		{"own expired, TLS 1.3", onTLS(demand(tls.VersionTLS13), trust(expired)), "tls.cert", []string{"refuses our client certificate: it is valid until " + past.UTC().Format("2006-01-02T15"), "renew it"}, broker.Fatal},
		{"own expired, TLS 1.2", onTLS(demand(tls.VersionTLS12), trust(expired)), "tls.cert", []string{"refuses our client certificate: it is valid until " + past.UTC().Format("2006-01-02T15"), "renew it"}, broker.Fatal},
		{"own not yet valid", onTLS(demand(tls.VersionTLS13), trust(early)), "tls.cert", []string{"not valid before " + future.UTC().Format("2006-01-02T15"), "wait until then"}, broker.Fatal},
		{"own of a stranger, TLS 1.3", onTLS(demand(tls.VersionTLS13), trust(foreign)), "tls.cert", []string{"does not know the authority that signed our client certificate (CN=stranger)", "truststore"}, broker.Fatal},
		{"own of a stranger, TLS 1.2", onTLS(demand(tls.VersionTLS12), trust(foreign)), "tls.cert", []string{"does not know the authority that signed our client certificate (CN=stranger)", "truststore"}, broker.Fatal},
		{"TLS too old", onTLS(&tls.Config{Certificates: []tls.Certificate{good.pair}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, trust()), "tls", []string{"neither TLS 1.2 nor 1.3"}, broker.Fatal},
		{"TLS to a listener without, which hangs up", onSocket(func(c net.Conn) { _ = c.Close() }, trust()), "tls", []string{"as a listener without TLS does", "take tls out"}, broker.Retry},
		{"TLS to what answers otherwise", onSocket(func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.0 400 no\r\n")) }, trust()), "tls", []string{"does not speak TLS", "take tls out"}, broker.Fatal},
		{"plain text to TLS", onSocket(func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 80}) }, nil), "tls", []string{"speaks TLS and this cluster has no tls", "add tls"}, broker.Fatal},
		{"wrong password", onLogin(login, refuse(kerr.SaslAuthenticationFailed)), "sasl.password", []string{"refuses the login by PLAIN", "correct user and password", "go away"}, broker.Fatal},
		{"wrong password by SCRAM", onLogin(scrammed, refuse(kerr.SaslAuthenticationFailed)), "sasl.password", []string{"refuses the login by SCRAM-SHA-512", "correct user and password", "go away"}, broker.Fatal},
		{"wrong token", onLogin(bearer, refuse(kerr.SaslAuthenticationFailed)), "sasl.token", []string{"refuses the login by OAUTHBEARER", "correct token"}, broker.Fatal},
		{"wrong token, in the words of RFC 7628", onLogin(bearer, challenge(`{"status":"invalid_token"}`)), "sasl.token", []string{"invalid_token", "correct token"}, broker.Fatal},
		{"a broker that does not know the password", onLogin(scrammed, challenge("v=bm90IGtub3du")), "sasl.password", []string{"do not agree on the login", "correct user and password"}, broker.Fatal},
		{"a broker that would have us hash for long", onLogin(scrammed, salted(1<<19+1)), "sasl.mechanism", []string{"do not agree on the login", "524289 rounds", "see whether this is your broker"}, broker.Fatal},
		{"a broker of many rounds", onLogin(scrammed, salted(1<<16)), "sasl.password", []string{"do not agree on the login", "correct user and password"}, broker.Fatal},
		{"other mechanism", onLogin(login, noHandshake(kerr.UnsupportedSaslMechanism)), "sasl.mechanism", []string{"does not offer PLAIN", "write a mechanism"}, broker.Fatal},
		{"no login wanted", onLogin(login, noHandshake(kerr.IllegalSaslState)), "sasl", []string{"takes no login", "take sasl out"}, broker.Fatal},
		{"login in clear", inClear(login), "tls", []string{"given away to whoever listens", "insecure = true"}, broker.Fatal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, b := tc.profile(t)
			p.Name = "eu"
			ctx := within(t, 20*time.Second)
			_, own := openProfile(t, p).ProduceConn(ctx, b)
			tc.judge(t, "our own connection", own)
			_, client := openProfile(t, p).Metadata(ctx) // apart, so that it need not wait for its turn
			tc.judge(t, "the client library", client)
		})
	}
}

// judge looks at one error.
func (tc stage) judge(t *testing.T, who string, err error) {
	t.Helper()
	var access *broker.AccessError
	if !errors.As(err, &access) {
		t.Errorf("%s: %v is no AccessError", who, err)
		return
	}
	text := err.Error()
	if access.Cluster != "eu" || access.Field != tc.field || !strings.Contains(text, "cluster eu: "+tc.field+": ") || broker.Classify(err) != tc.class {
		t.Errorf("%s: field %s, class %v, want %s, %v: %s", who, access.Field, broker.Classify(err), tc.field, tc.class, text)
	}
	for _, want := range tc.says {
		if !strings.Contains(text, want) {
			t.Errorf("%s: does not say %q: %s", who, want, text)
		}
	}
	if strings.Contains(text, "secret") {
		t.Errorf("%s: tells the secret: %s", who, text)
	}
}

// TestAccess_WordsOfABrokerAreFew: whoever answers may say anything of any length, and it comes to logs and to the status.
func TestAccess_WordsOfABrokerAreFew(t *testing.T) {
	long := strings.Repeat("go away\n\x1b[31m", 2_000)[:25_000]
	for name, play := range map[string]func(net.Conn, asked) bool{
		"refused": func(conn net.Conn, r asked) bool {
			if r.key == int16(kmsg.SASLHandshake) {
				return agree(conn, r, nil)
			}
			resp := kmsg.NewPtrSASLAuthenticateResponse()
			resp.Version, resp.ErrorCode, resp.ErrorMessage = r.version, kerr.SaslAuthenticationFailed.Code, &long
			return reply(conn, r, resp)
		},
		"other mechanisms": func(conn net.Conn, r asked) bool {
			resp := kmsg.NewPtrSASLHandshakeResponse()
			resp.Version, resp.ErrorCode = min(r.version, 1), kerr.UnsupportedSaslMechanism.Code
			for range 100 {
				resp.SupportedMechanisms = append(resp.SupportedMechanisms, long)
			}
			return reply(conn, r, resp)
		},
	} {
		p, b := onLogin(plain.Auth{User: "u", Pass: "secret"}.AsMechanism(), play)(t)
		p.Name = "eu"
		_, own := openProfile(t, p).ProduceConn(within(t, 20*time.Second), b)
		_, client := openProfile(t, p).Metadata(within(t, 20*time.Second))
		for who, err := range map[string]error{"our own connection": own, "the client library": client} {
			var access *broker.AccessError
			if !errors.As(err, &access) {
				t.Errorf("%s, %s: %v is no AccessError", name, who, err)
			} else if text := err.Error(); len(text) > 2000 || strings.ContainsAny(text, "\n\x1b") {
				t.Errorf("%s, %s: %d bytes of error, want few and one line: %.300s", name, who, len(text), text)
			}
		}
	}
}

// TestAccess_LoginIsWanted: a listener of SASL that is not logged in to hangs up, as a broker that stops would.
func TestAccess_LoginIsWanted(t *testing.T) {
	d := &puppet{play: func(net.Conn, int, asked) bool { return false }, versions: modest}
	p, _ := listen(t, d.serve)
	p.Name = "eu"
	_, err := openProfile(t, p).Metadata(within(t, 20*time.Second))
	stage{field: "sasl", says: []string{"wants TLS or SASL", "add sasl"}, class: broker.Retry}.judge(t, "the client library", err)
}

// TestAccess_SilentListener: a listener without TLS may take a ClientHello for the length of a request and wait for the rest.
func TestAccess_SilentListener(t *testing.T) {
	p, b := onKfake(func(p *broker.Profile) { p.Name, p.TLS = "eu", (&tls.Config{}).Clone })(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := openProfile(t, p).FetchSession(ctx, b)
	stage{field: "tls", says: []string{"a listener without TLS may be as silent", "take tls out"}, class: broker.Retry}.judge(t, "our own connection", err)
}

// onTLS is kfake with the server's configuration of TLS and a profile with ours.
func onTLS(server, client *tls.Config) func(*testing.T) (broker.Profile, broker.Broker) {
	return onKfake(func(p *broker.Profile) { p.TLS = client.Clone }, kfake.TLS(server))
}

func onKfake(change func(*broker.Profile), opts ...kfake.Opt) func(*testing.T) (broker.Profile, broker.Broker) {
	return func(t *testing.T) (broker.Profile, broker.Broker) {
		var p broker.Profile
		var b broker.Broker
		p.Bootstrap, b = startReal(t, append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
		change(&p)
		return p, b
	}
}

// onSocket is a listener that waits for the first bytes and then does as it is told.
func onSocket(play func(net.Conn), client *tls.Config) func(*testing.T) (broker.Profile, broker.Broker) {
	return func(t *testing.T) (broker.Profile, broker.Broker) {
		p, b := listen(t, func(c net.Conn) {
			defer c.Close()
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
			play(c)
			_, _ = io.Copy(io.Discard, c) // until the client has read it and hangs up
		})
		if client != nil {
			p.TLS = client.Clone
		}
		return p, b
	}
}

// listen serves connections on a socket until the test ends.
func listen(t *testing.T, serve func(net.Conn)) (broker.Profile, broker.Broker) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.Atoi(port)
	return broker.Profile{Bootstrap: []string{l.Addr().String()}}, broker.Broker{ID: 1, Host: host, Port: int32(n)}
}

// onLogin is a broker that answers a login as it is told.
func onLogin(m sasl.Mechanism, play func(net.Conn, asked) bool) func(*testing.T) (broker.Profile, broker.Broker) {
	return func(t *testing.T) (broker.Profile, broker.Broker) {
		d := &puppet{play: func(conn net.Conn, _ int, r asked) bool { return play(conn, r) }, versions: modest}
		p, b := listen(t, d.serve)
		p.SASL = m
		return p, b
	}
}

// modest answers ApiVersions with versions that there are: the client library takes the broker's word for it.
func modest(conn net.Conn, r asked) bool {
	resp := newest(r.version)
	for i := range resp.ApiKeys {
		k := &resp.ApiKeys[i]
		k.MaxVersion = kmsg.RequestForKey(k.ApiKey).MaxVersion()
	}
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MaxVersion = int16(kmsg.Metadata), 12
	resp.ApiKeys = append(resp.ApiKeys, k)
	return reply(conn, r, resp)
}

// agree is the answer to a handshake.
func agree(conn net.Conn, r asked, err *kerr.Error) bool {
	resp := kmsg.NewPtrSASLHandshakeResponse()
	if resp.Version, resp.SupportedMechanisms = min(r.version, 1), []string{"GSSAPI"}; err != nil {
		resp.ErrorCode = err.Code
	}
	return reply(conn, r, resp)
}

func noHandshake(err *kerr.Error) func(net.Conn, asked) bool {
	return func(conn net.Conn, r asked) bool { return agree(conn, r, err) }
}

// refuse answers the first token with an error.
func refuse(err *kerr.Error) func(net.Conn, asked) bool {
	return func(conn net.Conn, r asked) bool {
		if r.key == int16(kmsg.SASLHandshake) {
			return agree(conn, r, nil)
		}
		resp := kmsg.NewPtrSASLAuthenticateResponse()
		resp.Version, resp.ErrorCode, resp.ErrorMessage = r.version, err.Code, kmsg.StringPtr("go away")
		return reply(conn, r, resp)
	}
}

// challenge answers every token with a text.
func challenge(text string) func(net.Conn, asked) bool {
	return func(conn net.Conn, r asked) bool {
		if r.key == int16(kmsg.SASLHandshake) {
			return agree(conn, r, nil)
		}
		resp := kmsg.NewPtrSASLAuthenticateResponse()
		resp.Version, resp.SASLAuthBytes = r.version, []byte(text)
		return reply(conn, r, resp)
	}
}

// salted answers the first token of SCRAM as a broker does that stores passwords hashed so many times, and proves nothing after it.
func salted(rounds int) func(net.Conn, asked) bool {
	return func(conn net.Conn, r asked) bool {
		text := "v=bm90IGtub3du"
		if _, nonce, first := bytes.Cut(r.body, []byte(",r=")); first {
			text = fmt.Sprintf("r=%smore,s=c2FsdA==,i=%d", bytes.TrimRight(nonce, "\x00"), rounds)
		}
		return challenge(text)(conn, r)
	}
}

// inClear is a broker that is not on loopback and must not hear a byte.
func inClear(m sasl.Mechanism) func(*testing.T) (broker.Profile, broker.Broker) {
	return func(t *testing.T) (broker.Profile, broker.Broker) {
		p := broker.Profile{Bootstrap: []string{"127.0.0.1:9092"}, SASL: m}
		p.Dial = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				if n, err := theirs.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
					t.Errorf("heard %d bytes, %v; want none before the connection ends", n, err)
				}
			}()
			return farAway{ours}, nil
		}
		return p, somewhere
	}
}

// farAway is a connection to a documentation address.
type farAway struct{ net.Conn }

func (farAway) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9092}
}
