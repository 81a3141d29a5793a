package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"
	saslscram "github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/router/users"
)

// TestTerminate_LogsInAsTheUser: who says who he is at the door is at the home whom the file says, by whichever mechanism each of the two is told.
func TestTerminate_LogsInAsTheUser(t *testing.T) {
	auth := saslscram.Auth{User: "anna", Pass: "pencil"}
	for _, tc := range []struct {
		by   sasl.Mechanism
		want string
	}{
		{asPlain("anna"), "shop-anna by SCRAM-SHA-512, shop-anna asks Metadata"},
		{auth.AsSha256Mechanism(), "shop-anna by SCRAM-SHA-512, shop-anna asks Metadata"},
		{auth.AsSha512Mechanism(), "shop-anna by SCRAM-SHA-512, shop-anna asks Metadata"},
		{asPlain("ben"), "shop-ben by PLAIN, shop-ben asks Metadata"},
	} {
		h := &home{lasts: time.Hour}
		terminated(t, h, nil, func(t *testing.T, l *lab) {
			send(t, l.client, request(9, 3, kmsg.NewPtrApiVersionsRequest()))
			expect(t, l.client, 9)
			if resp := l.logIn(tc.by); resp.ErrorCode != 0 || resp.SessionLifetimeMillis != time.Hour.Milliseconds() {
				t.Errorf("%+v", resp)
			}
			name, _, _ := strings.Cut(strings.TrimPrefix(tc.want, "shop-"), " ")
			if got := l.relay.Seen().Principal(); got != (Principal{name, tc.by.Name()}) {
				t.Errorf("%+v", got)
			}
			l.ask()
			l.isOnAccountOf(name)
			if got := h.done(); got != tc.want {
				t.Errorf("the home did %q, want %q", got, tc.want)
			}
			if k := l.relay.cfg.Keys; k.Answers[kmsg.SASLAuthenticate].Load() != k.Local[kmsg.SASLAuthenticate].Load() || k.Local[kmsg.SASLHandshake].Load() != 1 {
				t.Error("answers to requests of our own are counted as the client's")
			}
		})
	}
}

// TestTerminate_RefusedLogins: each is told why, the broker's own way; what the home was asked is what it must be asked for that, and the connection ends.
func TestTerminate_RefusedLogins(t *testing.T) {
	wrong := saslplain.Auth{User: "anna", Pass: "pencils"}.AsMechanism()
	nobody := saslplain.Auth{User: "zoe", Pass: "pencil"}.AsMechanism()
	for name, tc := range map[string]struct {
		h    *home
		by   sasl.Mechanism
		text string
		is   error
	}{
		"a wrong password":          {new(home), wrong, "authentication failed: invalid username or password", ErrLogin},
		"nobody":                    {new(home), nobody, "authentication failed: invalid username or password", ErrLogin},
		"no login at the home":      {new(home), asPlain("carl"), `user "carl" has no login at cluster "eu"; add [user.at.eu] with one of his own to the router's credentials`, ErrHomeLogin},
		"one that the home refuses": {new(home), asPlain("dora"), `user "dora": cluster "eu" refuses the login that the router's credentials have for it; mend [user.at.eu]: SASL_AUTHENTICATION_FAILED`, ErrHomeLogin},
		"endless work there":        {&home{slow: true}, asPlain("anna"), `user "anna": cluster "eu" wants more than 100000 iterations of SCRAM`, ErrHomeLogin},
		"another mechanism there":   {&home{only: "GSSAPI"}, asPlain("anna"), `user "anna": cluster "eu" takes GSSAPI, and not the mechanism SCRAM-SHA-512 of the router's credentials: UNSUPPORTED_SASL_MECHANISM`, ErrHomeLogin},
	} {
		terminated(t, tc.h, nil, func(t *testing.T, l *lab) {
			began := time.Now()
			resp := l.logIn(tc.by)
			if resp.ErrorCode != kerr.SaslAuthenticationFailed.Code || resp.ErrorMessage == nil || *resp.ErrorMessage != tc.text || len(resp.SASLAuthBytes) > 0 {
				t.Errorf("%s: %+v, %v", name, resp, *resp.ErrorMessage)
			}
			if d := time.Since(began); d < 100*time.Millisecond || d > time.Second {
				t.Errorf("%s: refused after %v", name, d)
			}
			l.gone(time.Minute)
			l.end(Client, tc.is)
			if got := tc.h.done(); got != "" || l.relay.Seen().Principal().Name != "" {
				t.Errorf("%s: the home did %q for %q", name, got, l.relay.Seen().Principal())
			}
		})
	}
}

// TestTerminate_NothingBeforeTheLogin: who asks for something first is hung up on, and no home is dialled for him.
func TestTerminate_NothingBeforeTheLogin(t *testing.T) {
	for _, m := range []kmsg.Request{kmsg.NewPtrMetadataRequest(), kmsg.NewPtrInitProducerIDRequest(), produce(1, 10), kmsg.NewPtrFetchRequest()} {
		for _, begun := range []bool{false, true} {
			h := new(home)
			terminated(t, h, func(c *Config) {
				c.Dial = func(context.Context, bool) (net.Conn, bool, error) {
					return nil, false, errors.New("the home is dialled")
				}
			}, func(t *testing.T, l *lab) {
				if begun {
					l.shake("PLAIN")
				}
				post(l.client, request(1, min(m.MaxVersion(), 4), m))
				l.gone(time.Minute)
				l.end(Client, ErrNoLogin)
			})
		}
	}
}

// TestTerminate_Mechanisms: what the door does not do it says, with what it does; PLAIN only where nobody listens.
func TestTerminate_Mechanisms(t *testing.T) {
	for _, tc := range []struct {
		mechanism string
		private   bool
		want      string
	}{
		{"OAUTHBEARER", true, "[PLAIN SCRAM-SHA-256 SCRAM-SHA-512]"}, {"", true, "[PLAIN SCRAM-SHA-256 SCRAM-SHA-512]"}, {"PLAIN", false, "[SCRAM-SHA-256 SCRAM-SHA-512]"},
	} {
		terminated(t, new(home), func(c *Config) { c.Terminate.Private = tc.private }, func(t *testing.T, l *lab) {
			if resp := l.shake(tc.mechanism); resp.ErrorCode != kerr.UnsupportedSaslMechanism.Code || fmt.Sprint(resp.SupportedMechanisms) != tc.want {
				t.Errorf("%+v", resp)
			}
			l.gone(time.Minute)
			l.end(Client, ErrLogin)
		})
	}
}

// TestTerminate_OutOfOrder: messages that do not belong there are told ILLEGAL_SASL_STATE.
func TestTerminate_OutOfOrder(t *testing.T) {
	terminated(t, new(home), nil, func(t *testing.T, l *lab) {
		if resp := l.prove([]byte("\x00anna\x00pencil")); resp.ErrorCode != kerr.IllegalSaslState.Code {
			t.Errorf("%+v", resp)
		}
		l.end(Client, ErrLogin)
	})
	terminated(t, new(home), nil, func(t *testing.T, l *lab) {
		l.shake("SCRAM-SHA-256")
		if resp := l.shake("PLAIN"); resp.ErrorCode != kerr.IllegalSaslState.Code {
			t.Errorf("%+v", resp)
		}
		l.end(Client, ErrLogin)
	})
}

// TestTerminate_HomeInTrouble: a home that cannot be reached, hangs up or is silent ends the connection without an answer to the login, so that clients try again.
func TestTerminate_HomeInTrouble(t *testing.T) {
	for name, tc := range map[string]struct {
		h    *home
		dial error
		is   error
	}{
		"cannot be reached": {new(home), errors.New("connection refused"), ErrUnreachable},
		"hangs up":          {&home{breakOff: true}, nil, io.EOF},
		"is silent":         {&home{silent: true}, nil, context.DeadlineExceeded},
	} {
		terminated(t, tc.h, func(c *Config) {
			if tc.dial != nil {
				c.Dial = func(context.Context, bool) (net.Conn, bool, error) { return nil, false, tc.dial }
			}
		}, func(t *testing.T, l *lab) {
			l.shake("PLAIN")
			m := kmsg.NewPtrSASLAuthenticateRequest()
			m.SASLAuthBytes = []byte("\x00anna\x00pencil")
			post(l.client, request(2, 2, m))
			_ = l.client.SetReadDeadline(time.Now().Add(time.Minute))
			if b, err := io.ReadAll(l.client); err != nil || len(b) > 0 {
				t.Errorf("%s: %q, %v", name, b, err)
			}
			l.end(Upstream, tc.is)
		})
	}
}

// TestTerminate_LogsInAgain: a client that renews its login has it renewed at the home, behind what was asked before, and stays who it is.
func TestTerminate_LogsInAgain(t *testing.T) {
	h := &home{lasts: time.Minute}
	terminated(t, h, nil, func(t *testing.T, l *lab) {
		h.hold = make(chan struct{})
		l.logIn(asPlain("anna"))
		send(t, l.client, request(5, 12, kmsg.NewPtrFetchRequest()))
		l.shake1(3, "PLAIN")
		m := kmsg.NewPtrSASLAuthenticateRequest()
		m.SASLAuthBytes = []byte("\x00anna\x00pencil")
		post(l.client, request(4, 2, m))
		time.Sleep(time.Minute) // longer than a login may take
		if got := h.done(); got != "shop-anna by SCRAM-SHA-512" {
			t.Errorf("the home did %q", got)
		}
		close(h.hold)
		expect(t, l.client, 5)
		expect(t, l.client, 3)
		var resp kmsg.SASLAuthenticateResponse
		resp.SetVersion(2)
		if err := resp.ReadFrom(expect(t, l.client, 4)[1:]); err != nil || resp.ErrorCode != 0 || resp.SessionLifetimeMillis != time.Minute.Milliseconds() {
			t.Errorf("%+v, %v", resp, err)
		}
		l.ask()
		if got := h.done(); got != "shop-anna by SCRAM-SHA-512, shop-anna asks Fetch, shop-anna by SCRAM-SHA-512, shop-anna asks Metadata" {
			t.Errorf("the home did %q", got)
		}
		if resp := l.logIn(asPlain("ben")); resp.ErrorCode != kerr.IllegalSaslState.Code || *resp.ErrorMessage != `the connection is that of "anna"; connect again as "ben"` {
			t.Errorf("%+v", resp)
		}
		l.gone(time.Minute)
		l.end(Client, ErrLogin)
		if got := h.done(); strings.Contains(got, "ben") {
			t.Errorf("the home did %q", got)
		}
	})
}

// TestTerminate_RefusedAgain: who is refused in the middle of things has the answers to what was asked before, and then that to the login.
func TestTerminate_RefusedAgain(t *testing.T) {
	h := new(home)
	terminated(t, h, nil, func(t *testing.T, l *lab) {
		h.hold = make(chan struct{})
		l.logIn(asPlain("anna"))
		send(t, l.client, request(5, 12, kmsg.NewPtrFetchRequest()))
		l.shake1(3, "PLAIN")
		m := kmsg.NewPtrSASLAuthenticateRequest()
		m.SASLAuthBytes = []byte("\x00anna\x00rotated")
		post(l.client, request(4, 2, m))
		time.Sleep(time.Second)
		close(h.hold)
		expect(t, l.client, 5)
		expect(t, l.client, 3)
		expect(t, l.client, 4)
		l.gone(time.Minute)
		l.end(Client, ErrLogin)
	})
}

// TestTerminate_RefusalsArrive: no reset overtakes the answer of a door, whatever the client still sends.
func TestTerminate_RefusalsArrive(t *testing.T) {
	door := usersOf(t, atDoor)
	for _, user := range []string{"zoe", "carl"} {
		client, ended := overTCP(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, func(c *Config) {
			c.Terminate = &Terminate{Users: door.Now, Home: func() string { return "eu" }, Private: true}
		})
		shake, prove := kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLAuthenticateRequest()
		shake.Mechanism, prove.SASLAuthBytes = "PLAIN", []byte("\x00"+user+"\x00pencil")
		send(t, client, request(1, 1, shake), request(2, 2, prove), make([]byte, 100<<10))
		expect(t, client, 1)
		if b := expect(t, client, 2); !strings.Contains(string(b), user) && !strings.Contains(string(b), "invalid username") {
			t.Errorf("%s: %q", user, b)
		}
		if _, err := io.ReadAll(client); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		_ = client.Close()
		if err := <-ended; !isTold(err) {
			t.Errorf("%s: ended with %v", user, err)
		}
	}
}

// shake1 begins a login and waits for nothing.
func (l *lab) shake1(correlation int32, mechanism string) {
	l.t.Helper()
	m := kmsg.NewPtrSASLHandshakeRequest()
	m.Mechanism = mechanism
	send(l.t, l.client, request(correlation, 1, m))
}

// TestTerminate_Certificate: who shows a user's certificate logs in by that, and the home is told again in time; long requests may be the first.
func TestTerminate_Certificate(t *testing.T) {
	h := &home{lasts: time.Minute}
	terminated(t, h, func(c *Config) { c.Subject = "CN=ben" }, func(t *testing.T, l *lab) {
		long := kmsg.NewPtrMetadataRequest()
		for range 3000 {
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = kmsg.StringPtr("a topic with a name that is not short")
			long.Topics = append(long.Topics, topic)
		}
		post(l.client, request(1, 9, long))
		expect(t, l.client, 1)
		if got := l.relay.Seen().Principal(); got != (Principal{"ben", "certificate"}) {
			t.Errorf("%+v", got)
		}
		l.ask()
		l.isOnAccountOf("ben")
		time.Sleep(50 * time.Second)
		l.ask()
		const asks = ", shop-ben asks Metadata"
		if got := h.done(); got != "shop-ben by PLAIN"+asks+asks+", shop-ben by PLAIN"+asks {
			t.Errorf("the home did %q", got)
		}
		if resp := l.logIn(asPlain("anna")); resp.ErrorCode != kerr.IllegalSaslState.Code {
			t.Errorf("%+v", resp)
		}
	})
	for subject, is := range map[string]error{"CN=anna": ErrNoLogin, "CN=dora": ErrHomeLogin} {
		terminated(t, new(home), func(c *Config) { c.Subject = subject }, func(t *testing.T, l *lab) {
			post(l.client, request(1, 9, kmsg.NewPtrMetadataRequest()))
			l.gone(time.Minute)
			l.end(Client, is)
		})
	}
	terminated(t, new(home), func(c *Config) { c.Subject = "CN=ben" }, func(t *testing.T, l *lab) {
		l.ask()
		l.shake("PLAIN")
		post(l.client, request(1, 9, kmsg.NewPtrMetadataRequest()))
		l.gone(time.Minute)
		l.end(Client, ErrNoLogin)
	})
	h = new(home)
	terminated(t, h, func(c *Config) { c.Subject = "CN=ben" }, func(t *testing.T, l *lab) {
		if resp := l.logIn(asPlain("anna")); resp.ErrorCode != 0 {
			t.Errorf("%+v", resp)
		}
		l.ask()
		if got := h.done(); got != "shop-anna by SCRAM-SHA-512, shop-anna asks Metadata" {
			t.Errorf("who logs in in spite of a certificate: the home did %q", got)
		}
	})
}

// TestTerminate_LongRequestsNeedALogin: who has begun a login but not ended it is nobody yet.
func TestTerminate_LongRequestsNeedALogin(t *testing.T) {
	terminated(t, new(home), nil, func(t *testing.T, l *lab) {
		l.shake("PLAIN")
		m := kmsg.NewPtrSASLAuthenticateRequest()
		m.SASLAuthBytes = make([]byte, 70<<10)
		post(l.client, request(2, 2, m))
		l.gone(time.Minute)
		var wrong *frame.Error
		if err := <-l.ended; !errors.As(err, &wrong) || wrong.Kind != frame.Size {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestLifetime(t *testing.T) {
	for ms, want := range map[int64]time.Duration{0: 0, -1: 0, 1: time.Millisecond, 3_600_000: time.Hour, 1<<63 - 1: 0, (1<<63 - 1) / 1_000_000: 0} {
		if got := lifetime(ms); got != want {
			t.Errorf("%d ms are %v, want %v", ms, got, want)
		}
	}
}

func TestTooSlow(t *testing.T) {
	for text, want := range map[string]bool{"": false, "v=abc": false, "r=a,s=b,i=4096": false, "r=a,s=b,i=100000": false, "r=a,s=b,i=100001": true, "r=a,s=b,i=4096,x=1": false,
		"r=a,s=b,i=99999999999999999999": true, "r=a,s=b,i=": true} {
		if tooSlow([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

// FuzzTerminate: whatever a client sends to a door where logins end, and a home answers to ours, the relay ends with an error of its own kind.
func FuzzTerminate(f *testing.F) {
	shake, prove := kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLAuthenticateRequest()
	shake.Mechanism, prove.SASLAuthBytes = "PLAIN", []byte("\x00ben\x00pencil")
	client := slices.Concat(request(1, 1, shake), request(2, 2, prove), request(3, 9, kmsg.NewPtrMetadataRequest()))
	home := slices.Concat(answer(1, 1, kmsg.NewPtrSASLHandshakeResponse()), answer(1, 2, kmsg.NewPtrSASLAuthenticateResponse()), answer(3, 9, kmsg.NewPtrMetadataResponse()))
	f.Add(client, home, "")
	f.Add(client[:len(client)/2], home[:10], "CN=ben")
	f.Add(request(3, 9, kmsg.NewPtrMetadataRequest()), home, "CN=ben")
	f.Fuzz(func(t *testing.T, client, home []byte, subject string) {
		var known *users.Users
		err := between(t, client, home, func(c *Config) {
			if known == nil {
				known = usersOf(t, atDoor)
			}
			c.Subject, c.Terminate = subject, &Terminate{Users: known.Now, Home: func() string { return "eu" }, Private: true}
		})
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestTerminate_Moves: who logged in at the door is logged in at the home that is next, and sees nothing of it.
func TestTerminate_Moves(t *testing.T) {
	h, s := &home{lasts: time.Hour}, new(stages)
	terminated(t, h, func(c *Config) {
		s.set(0, hold.Serving)
		c.Stage = func() Stage { return s.now.Load().Stage }
	}, func(t *testing.T, l *lab) {
		if resp := l.logIn(asPlain("anna")); resp.ErrorCode != 0 {
			t.Fatalf("%+v", resp)
		}
		l.ask()
		s.set(1, hold.Serving)
		l.ask()
		if got, want := h.done(), "shop-anna by SCRAM-SHA-512, shop-anna asks Metadata, shop-anna by SCRAM-SHA-512, shop-anna asks Metadata"; got != want {
			t.Errorf("the homes did %q, want %q", got, want)
		}
	})
}

// TestTerminate_WaitsForAHome: a login is not refused because a home is lost: clients would not try again.
func TestTerminate_WaitsForAHome(t *testing.T) {
	h, s := &home{lasts: time.Hour}, new(stages)
	terminated(t, h, func(c *Config) {
		s.set(0, hold.Lost)
		c.Stage = func() Stage { return s.now.Load().Stage }
	}, func(t *testing.T, l *lab) {
		time.AfterFunc(time.Second, func() { s.set(1, hold.Serving) })
		began := time.Now()
		if resp := l.logIn(asPlain("anna")); resp.ErrorCode != 0 || time.Since(began) < time.Second {
			t.Errorf("%+v after %v", resp, time.Since(began))
		}
	})
}
