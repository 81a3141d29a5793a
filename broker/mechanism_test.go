package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// listener keeps what it hears of logins and takes all of them.
type listener struct {
	mu    sync.Mutex
	heard []string // tokens, in the order they came
}

func (l *listener) play(conn net.Conn, _ int, r asked) bool {
	if r.key == int16(kmsg.SASLHandshake) {
		return agree(conn, r, nil)
	}
	req := kmsg.NewPtrSASLAuthenticateRequest()
	req.Version = r.version
	head := 8 + 2 + len("isthmus") // key, version, correlation id, client id
	if err := req.ReadFrom(r.body[head:]); err != nil {
		return false
	}
	l.mu.Lock()
	l.heard = append(l.heard, string(req.SASLAuthBytes))
	l.mu.Unlock()
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.Version = r.version
	if strings.HasPrefix(string(req.SASLAuthBytes), "{") { // AWS_MSK_IAM wants a word
		resp.SASLAuthBytes = []byte("{}")
	}
	return reply(conn, r, resp)
}

// logIn connects by a login of the topology and returns what the broker heard.
func logIn(t *testing.T, s *topology.SASL, host string) ([]string, error) {
	t.Helper()
	l := &listener{}
	d := &puppet{play: l.play}
	p, err := broker.NewProfile(topology.Cluster{Name: "eu", Bootstrap: []string{host + ":9092"}, SASL: s})
	if err != nil {
		return nil, err
	}
	p.Dial = d.dial
	conn, err := openProfile(t, p).ProduceConn(within(t, 20*time.Second), broker.Broker{ID: 1, Host: host, Port: 9092})
	if err != nil {
		return nil, err
	}
	_ = conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard, nil
}

func TestLogin_TokenIsReadAgain(t *testing.T) {
	v := newVault(t)
	spec := &topology.SASL{Mechanism: topology.OAuthBearer, Token: v.ref("token")}
	for _, token := range []string{"header.payload.signature", "another-one=="} {
		v.put("token", []byte(" "+token+"\n"))
		heard, err := logIn(t, spec, "127.0.0.1")
		if want := "n,,\x01auth=Bearer " + token + "\x01\x01"; err != nil || len(heard) != 1 || heard[0] != want {
			t.Errorf("%q, %v; want %q", heard, err, want)
		}
	}
	v.put("token", []byte("hunter2\x01auth=Bearer other"))
	if _, err := logIn(t, spec, "127.0.0.1"); err == nil || !strings.Contains(err.Error(), "cluster eu: sasl.token: ") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a token that could end itself: %v", err)
	}
}

// TestLogin_AWS holds the parts of the signed request that come from the topology; the signature is the library's, and nothing here
// is tested against the real service.
func TestLogin_AWS(t *testing.T) {
	v := newVault(t)
	v.put("access", []byte("AKIDEXAMPLE\n"))
	v.put("secret", []byte("hunter2\n"))
	v.put("session", []byte("temporary\n"))
	spec := &topology.SASL{Mechanism: topology.AWSMSKIAM, AccessKey: v.ref("access"), SecretKey: v.ref("secret"), SessionToken: v.ref("session")}
	heard, err := logIn(t, spec, "b-1.kafka.eu-central-1.amazonaws.com")
	if err != nil || len(heard) != 1 {
		t.Fatalf("%q, %v", heard, err)
	}
	var signed map[string]string
	if err := json.Unmarshal([]byte(heard[0]), &signed); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(signed["x-amz-credential"], "AKIDEXAMPLE/") || !strings.Contains(signed["x-amz-credential"], "/eu-central-1/kafka-cluster/") ||
		signed["x-amz-security-token"] != "temporary" || signed["x-amz-signature"] == "" || strings.Contains(heard[0], "hunter2") {
		t.Errorf("signed as %v", signed)
	}
}

// TestLogin_Kerberos goes as far as it can without a KDC: files are read, and a KDC that is not there is an error in time.
func TestLogin_Kerberos(t *testing.T) {
	v := newVault(t)
	k := keytab.New()
	if err := k.AddEntry("isthmus", "EXAMPLE.COM", "hunter2", time.Unix(1, 0), 1, 18); err != nil {
		t.Fatal(err)
	}
	raw, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v.put("keytab", raw)
	v.put("bad", []byte{5, 2, 0x7f, 0xff, 0xff, 0xff, 'h', 'u', 'n', 't', 'e', 'r', '2'})
	v.put("krb5.conf", []byte("[libdefaults]\ndefault_realm = EXAMPLE.COM\nudp_preference_limit = 1\n[realms]\nEXAMPLE.COM = {\n kdc = 127.0.0.1:1\n}\n"))
	spec := &topology.SASL{Mechanism: topology.GSSAPI, User: "isthmus", Realm: "EXAMPLE.COM", Service: "kafka", Keytab: v.ref("keytab"), Krb5Conf: v.ref("krb5.conf")}
	if _, err := logIn(t, spec, "127.0.0.1"); err == nil || !strings.Contains(err.Error(), "KDC") {
		t.Errorf("without a KDC: %v", err)
	}
	for field, broken := range map[string]func(*topology.SASL){
		"sasl.keytab":    func(s *topology.SASL) { s.Keytab = v.ref("bad") },
		"sasl.krb5_conf": func(s *topology.SASL) { s.Krb5Conf = v.ref("none") },
	} {
		spec := *spec
		broken(&spec)
		if _, err := logIn(t, &spec, "127.0.0.1"); err == nil || !strings.Contains(err.Error(), "cluster eu: "+field+": ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// talker is a mechanism with a last word after it is done, as GSSAPI has.
type talker struct{ said int }

func (*talker) Name() string { return "GSSAPI" }
func (m *talker) Authenticate(context.Context, string) (sasl.Session, []byte, error) {
	return m, []byte("first"), nil
}

func (m *talker) Challenge([]byte) (bool, []byte, error) {
	if m.said++; m.said > 1 {
		return false, nil, errors.New("challenged after it was done")
	}
	return true, []byte("last"), nil
}

func TestLogin_LastWordIsSent(t *testing.T) {
	l := &listener{}
	d := &puppet{play: l.play}
	c := openProfile(t, broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9092"}, Dial: d.dial, SASL: &talker{}})
	conn, err := c.ProduceConn(within(t, 20*time.Second), somewhere)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if got := strings.Join(l.heard, " "); got != "first last" {
		t.Errorf("the broker heard %q", got)
	}
}

func TestTokenEndpoint(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed with %v", r.Header)
	}))
	t.Cleanup(elsewhere.Close)
	say := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		field  string // of the error; empty = a token
		says   string
		class  broker.Class
	}{
		{"token", say(200, `{"access_token":"t.o-k_e~n","token_type":"Bearer","expires_in":60}`), "", "", 0},
		{"refused", say(401, `{"error":"invalid_client","error_description":"hunter2"}`), "sasl.client_secret", "invalid_client", broker.Fatal},
		{"refused in another way", say(400, `not JSON hunter2`), "sasl.client_secret", "status 400", broker.Fatal},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/?hunter2", http.StatusTemporaryRedirect)
		}, "sasl.token_url", "write the endpoint's own address", broker.Fatal},
		{"no endpoint", say(404, "hunter2"), "sasl.token_url", "answers like no token endpoint", broker.Fatal},
		{"no JSON", say(200, "<html>hunter2"), "sasl.token_url", "answers like no token endpoint", broker.Fatal},
		{"no token", say(200, `{"access_token":""}`), "sasl.token_url", "no bearer token", broker.Fatal},
		{"a token that ends itself", say(200, `{"access_token":"hunter2\u0001auth=x"}`), "sasl.token_url", "no bearer token", broker.Fatal},
		{"another type", say(200, `{"access_token":"hunter2","token_type":"mac"}`), "sasl.token_url", "mac", broker.Fatal},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("hunter2", 1000)); err != nil {
					return
				}
			}
		}, "sasl.token_url", "more than 65536 bytes", broker.Fatal},
		{"overloaded", say(503, "hunter2"), "sasl.token_url", "status 503", broker.Retry},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "sasl.token_url", "fetch a token from 127.0.0.1", broker.Retry},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asks := make(chan string, 10)
			at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				user, password, _ := r.BasicAuth()
				asks <- fmt.Sprintf("%s %s %s %s %s %s", r.Method, r.URL.RequestURI(), user, password, r.PostFormValue("grant_type"), r.PostFormValue("scope"))
				tc.answer(w, r)
			}))
			t.Cleanup(at.Close)
			v := newVault(t)
			v.put("secret", []byte("hunter2 %+"))
			heard, err := logIn(t, &topology.SASL{
				Mechanism: topology.OAuthBearer, TokenURL: at.URL + "/token?tenant=hunter2", ClientID: "me", ClientSecret: v.ref("secret"), Scope: "kafka:read",
			}, "127.0.0.1")
			// The secret is escaped before it goes into Basic (RFC 6749, 2.3.1).
			if got, want := <-asks, "POST /token?tenant=hunter2 me hunter2+%25%2B client_credentials kafka:read"; got != want {
				t.Errorf("asked %q, want %q", got, want)
			}
			if tc.field == "" {
				if err != nil || len(heard) != 1 || heard[0] != "n,,\x01auth=Bearer t.o-k_e~n\x01\x01" {
					t.Errorf("%q, %v", heard, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "cluster eu: "+tc.field+": ") || !strings.Contains(err.Error(), tc.says) ||
				strings.Contains(err.Error(), "hunter2") || broker.Classify(err) != tc.class {
				t.Errorf("%v is %v, want %s, %q, %v and no secret", err, broker.Classify(err), tc.field, tc.says, tc.class)
			}
		})
	}
}
