package relay

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func token(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2lnbmF0dXJl"
}

// TestLogin: a name counts when the answer says that the login is done, and not before.
func TestLogin(t *testing.T) {
	type step struct {
		asks, answer string
		code         int16
	}
	for name, tc := range map[string]struct {
		mechanism string
		steps     []step
		want      string
	}{
		"plain":                  {"PLAIN", []step{{"\x00anna\x00secret", "", 0}}, "anna"},
		"plain for another":      {"PLAIN", []step{{"ben\x00anna\x00secret", "", 0}}, "anna"},
		"plain, refused":         {"PLAIN", []step{{"\x00anna\x00secret", "", 58}}, ""},
		"plain, garbage":         {"PLAIN", []step{{"secret", "", 0}}, ""},
		"scram":                  {"SCRAM-SHA-256", []step{{"n,,n=an=2Cna=3D,r=abc", "r=abcdef,s=c2FsdA==,i=4096", 0}, {"c=biws,r=abcdef,p=cHJvb2Y=", "v=c2ln", 0}}, "an,na="},
		"scram, half":            {"SCRAM-SHA-512", []step{{"n,,n=anna,r=abc", "r=abcdef,s=c2FsdA==,i=4096", 0}}, ""},
		"scram, wrong proof":     {"SCRAM-SHA-512", []step{{"n,,n=anna,r=abc", "r=abcdef,s=c2FsdA==,i=4096", 0}, {"c=biws,r=abcdef,p=cHJvb2Y=", "e=invalid-proof", 0}}, ""},
		"scram, refused":         {"SCRAM-SHA-512", []step{{"n,,n=anna,r=abc", "r=abcdef,s=c2FsdA==,i=4096", 0}, {"c=biws,r=abcdef,p=cHJvb2Y=", "", 58}}, ""},
		"scram, garbage":         {"SCRAM-SHA-512", []step{{"n", "", 0}, {"n,,r=a", "", 0}}, ""},
		"bearer":                 {"OAUTHBEARER", []step{{"n,,\x01auth=Bearer " + token(`{"sub":"anna"}`) + "\x01\x01", "", 0}}, "anna"},
		"bearer, told why not":   {"OAUTHBEARER", []step{{"n,,\x01auth=Bearer " + token(`{"sub":"anna"}`) + "\x01\x01", `{"status":"invalid_token"}`, 0}, {"\x01", "", 58}}, ""},
		"bearer, opaque":         {"OAUTHBEARER", []step{{"n,,\x01auth=Bearer secret\x01\x01", "", 0}}, ""},
		"bearer, no JSON":        {"OAUTHBEARER", []step{{"n,,\x01auth=Bearer a.b.c\x01\x01", "", 0}}, ""},
		"another":                {"GSSAPI", []step{{"\x00anna\x00secret", "", 0}}, ""},
		"long":                   {"PLAIN", []step{{"\x00" + strings.Repeat("a", 2*maxShown) + "\x00secret", "", 0}}, strings.Repeat("a", maxShown)},
		"once more, as somebody": {"PLAIN", []step{{"\x00anna\x00secret", "", 0}, {"\x00ben\x00secret", "", 0}}, "ben"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				shake := kmsg.NewPtrSASLHandshakeRequest()
				shake.Mechanism = tc.mechanism
				send(t, l.client, request(1, 1, shake))
				broker := <-l.broker
				defer broker.Close()
				asked(t, broker, kmsg.SASLHandshake, 1)
				send(t, broker, answer(1, 1, kmsg.NewPtrSASLHandshakeResponse()))
				expect(t, l.client, 1)
				for i, s := range tc.steps {
					auth := kmsg.NewPtrSASLAuthenticateRequest()
					auth.SASLAuthBytes = []byte(s.asks)
					send(t, l.client, request(int32(2+i), 2, auth))
					if got := asked(t, broker, kmsg.SASLAuthenticate, int32(2+i)); !strings.Contains(string(got), s.asks) {
						t.Errorf("the broker is asked %q", got)
					}
					resp := kmsg.NewPtrSASLAuthenticateResponse()
					resp.SASLAuthBytes, resp.ErrorCode = []byte(s.answer), s.code
					send(t, broker, answer(int32(2+i), 2, resp))
					var back kmsg.SASLAuthenticateResponse
					back.SetVersion(2)
					if err := back.ReadFrom(expect(t, l.client, int32(2+i))[1:]); err != nil || string(back.SASLAuthBytes) != s.answer || back.ErrorCode != s.code {
						t.Errorf("%+v, %v", back, err)
					}
				}
				synctest.Wait()
				if kept := fmt.Sprintf("%+v %+v %+v", l.relay.Seen().Who(), l.relay.Seen().Principal(), l.relay.login); strings.Contains(kept, "secret") {
					t.Errorf("a secret is kept: %s", kept)
				}
				want := Principal{}
				if tc.want != "" {
					want = Principal{tc.want, tc.mechanism}
				}
				if got := l.relay.Seen().Principal(); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			})
		})
	}
}

func FuzzLogin(f *testing.F) {
	f.Add("PLAIN", []byte("\x00anna\x00secret"), []byte{})
	f.Add("SCRAM-SHA-256", []byte("n,,n=anna,r=abc"), []byte("v="))
	f.Add("OAUTHBEARER", []byte("n,,\x01auth=Bearer "+token(`{"sub":"anna"}`)+"\x01\x01"), []byte{})
	f.Fuzz(func(t *testing.T, mechanism string, message, answer []byte) {
		l := login{mechanism: mechanism}
		for range 3 {
			if c := l.asks(message); c != nil {
				if c.Name == "" || len(c.Name) > maxShown {
					t.Errorf("%q", c.Name)
				}
				c.proven(answer)
			}
		}
	})
}
