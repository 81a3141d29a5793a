package broker_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// roundTrip writes a batch and reads it back over connections of our own.
func roundTrip(t *testing.T, c *broker.Cluster) error {
	t.Helper()
	ctx := within(t, time.Minute)
	m, err := c.Metadata(ctx, "a")
	if err != nil {
		return err
	}
	mt := m.Topics["a"]
	conn, err := c.ProduceConn(ctx, m.Brokers[mt.Partitions[0].Leader])
	if err != nil {
		return err
	}
	defer conn.Close()
	raw := encode(t, 20000, batch.Stamp{ProducerID: 1 << 62})
	if err := conn.Send(ctx, []broker.ProduceBatch{{Topic: "a", TopicID: mt.ID, Bytes: raw}}); err != nil {
		return err
	}
	if results, err := conn.Recv(ctx); err != nil || results[0].Err != nil {
		return fmt.Errorf("recv: %w %+v", err, results)
	}
	f, err := c.FetchOnce(ctx, "a", 0, 0, 1<<20, false)
	if err != nil {
		return err
	}
	defer f.Release()
	if n, _ := count(t, f.Partitions[0].Batches); n != 20000 {
		return fmt.Errorf("read %d records", n)
	}
	return nil
}

func TestSecurity(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	secure := kfake.TLS(&tls.Config{Certificates: []tls.Certificate{id.pair}})
	logins := []kfake.Opt{
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "pw"),
		kfake.Superuser("SCRAM-SHA-256", "s", "pw"), kfake.Superuser("SCRAM-SHA-512", "l", "pw"),
	}
	for _, tc := range []struct {
		name  string
		opts  []kfake.Opt
		tls   *tls.Config
		sasl  sasl.Mechanism
		want  error // of our own connections
		class broker.Class
		real  bool
	}{
		{"tls", []kfake.Opt{secure}, &tls.Config{RootCAs: id.roots}, nil, nil, 0, false},
		{"plain", logins, nil, plain.Auth{User: "p", Pass: "pw"}.AsMechanism(), nil, 0, false},
		{"scram 256", logins, nil, scram.Auth{User: "s", Pass: "pw"}.AsSha256Mechanism(), nil, 0, false},
		{"scram 512 in tls", append(logins, secure), &tls.Config{RootCAs: id.roots}, scram.Auth{User: "l", Pass: "pw"}.AsSha512Mechanism(), nil, 0, false},
		// kfake hangs up where Kafka says SASL_AUTHENTICATION_FAILED, which TestSecurity_RefusedInWords has.
		{"wrong password", logins, nil, plain.Auth{User: "p", Pass: "secret-guess"}.AsMechanism(), errAny, broker.Retry, false},
		{"wrong password by scram", logins, nil, scram.Auth{User: "s", Pass: "secret-guess"}.AsSha256Mechanism(), errAny, broker.Retry, false},
		{"unknown authority", []kfake.Opt{secure}, &tls.Config{RootCAs: other.roots}, nil, errAny, broker.Fatal, true},
		{"wrong name", []kfake.Opt{secure}, &tls.Config{RootCAs: id.roots, ServerName: "elsewhere"}, nil, errAny, broker.Fatal, true},
		{"tls to plain text", nil, &tls.Config{RootCAs: id.roots}, nil, errAny, broker.Retry, false}, // kfake hangs up
	} {
		t.Run(tc.name, func(t *testing.T) {
			run := synctest.Test
			if tc.real { // on a pipe, which holds no byte, a refusal of TLS waits for a peer that is writing
				run = func(t *testing.T, f func(*testing.T)) { f(t) }
			}
			run(t, func(t *testing.T) {
				opts := append([]kfake.Opt{kfake.SeedTopics(1, "a"), kfake.NumBrokers(1)}, tc.opts...)
				p, b := broker.Profile{Name: "fake"}, somewhere
				if tc.real {
					p.Bootstrap, b = startReal(t, opts...)
				} else {
					p = startVirtual(t, opts...).profile()
				}
				if p.SASL = tc.sasl; tc.tls != nil {
					p.TLS = tc.tls.Clone
				}
				c := openProfile(t, p)
				if tc.want == nil {
					if err := roundTrip(t, c); err != nil {
						t.Error(err)
					}
					return
				}
				_, err := c.FetchSession(t.Context(), b)
				if err == nil || tc.want != errAny && !errors.Is(err, tc.want) || broker.Classify(err) != tc.class {
					t.Errorf("%v is %v, want %v", err, broker.Classify(err), tc.want)
				}
				_, admin := c.Metadata(t.Context())
				if admin == nil || broker.Classify(admin) != tc.class {
					t.Errorf("metadata: %v is %v", admin, broker.Classify(admin))
				}
				if text := fmt.Sprint(err, admin); strings.Contains(text, "secret") || !strings.Contains(text, "fake") {
					t.Errorf("tells the password, or not the cluster: %s", text)
				}
			})
		})
	}
}

var errAny = errors.New("any")

// startReal starts kfake on sockets.
func startReal(t *testing.T, opts ...kfake.Opt) ([]string, broker.Broker) {
	t.Helper()
	fake, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	at := fake.ListenAddrs()
	host, port, err := net.SplitHostPort(at[0])
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return at, broker.Broker{ID: 1, Host: host, Port: int32(n)}
}

// TestSecurity_RefusedInWords: what a broker says about a login is in the error.
func TestSecurity_RefusedInWords(t *testing.T) {
	for name, refuse := range map[string]func(conn net.Conn, r asked) bool{
		"PLAIN: UNSUPPORTED_SASL_MECHANISM": func(conn net.Conn, r asked) bool {
			resp := kmsg.NewPtrSASLHandshakeResponse()
			resp.Version, resp.ErrorCode, resp.SupportedMechanisms = r.version, kerr.UnsupportedSaslMechanism.Code, []string{"GSSAPI"}
			return reply(conn, r, resp)
		},
		"PLAIN: SASL_AUTHENTICATION_FAILED": func(conn net.Conn, r asked) bool {
			if r.key == int16(kmsg.SASLHandshake) {
				resp := kmsg.NewPtrSASLHandshakeResponse()
				resp.Version = r.version
				return reply(conn, r, resp)
			}
			resp := kmsg.NewPtrSASLAuthenticateResponse()
			resp.Version, resp.ErrorCode, resp.ErrorMessage = r.version, kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr("go away")
			return reply(conn, r, resp)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &puppet{play: func(conn net.Conn, _ int, r asked) bool { return refuse(conn, r) }}
			c := openProfile(t, broker.Profile{
				Name: "evil", Bootstrap: []string{"127.0.0.1:9092"}, Dial: p.dial, SASL: plain.Auth{User: "u", Pass: "secret"}.AsMechanism(),
			})
			_, err := c.ProduceConn(t.Context(), somewhere)
			if !errors.Is(err, broker.ErrAuthentication) || broker.Classify(err) != broker.Fatal ||
				!strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v, want %s", err, name)
			}
		})
	}
}

// TestSecurity_SessionIsRenewed: a fetch session logs in again before the broker ends it, and a produce connection says when.
func TestSecurity_SessionIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(1, "a"), kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "pw"),
			kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "10000"}))
		p := v.profile()
		p.SASL = plain.Auth{User: "p", Pass: "pw"}.AsMechanism()
		c := openProfile(t, p)
		b, mt := leader(t, c, "a", 0)
		s, err := c.FetchSession(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Set(broker.FetchPartition{Topic: "a", TopicID: mt.ID, LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 1 << 20})
		for range 20 {
			f, err := s.Fetch(t.Context(), broker.FetchOptions{MaxWait: 2 * time.Second, MinBytes: 1})
			if err != nil {
				t.Fatal(err)
			}
			f.Release()
		}
		conn, err := c.ProduceConn(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if left := time.Until(conn.ReopenBy()); left != 8500*time.Millisecond {
			t.Errorf("to be opened again in %v", left)
		}
	})
}

// TestSecurity_SilenceAtARenewalEnds: a fetch session that has to log in again is no more patient than a new one.
func TestSecurity_SilenceAtARenewalEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logins := 0
		p := &puppet{versions: modest, play: func(conn net.Conn, _ int, r asked) bool {
			switch r.key {
			case int16(kmsg.SASLHandshake):
				return agree(conn, r, nil)
			case int16(kmsg.SASLAuthenticate):
				if logins++; logins > 1 {
					return true // and says nothing
				}
				resp := kmsg.NewPtrSASLAuthenticateResponse()
				resp.Version, resp.SessionLifetimeMillis = r.version, 10_000
				return reply(conn, r, resp)
			}
			resp := kmsg.NewPtrFetchResponse()
			resp.Version = r.version
			return reply(conn, r, resp)
		}}
		c := openProfile(t, broker.Profile{
			Name: "eu", Bootstrap: []string{"127.0.0.1:9092"}, Dial: p.dial, SASL: plain.Auth{User: "u", Pass: "secret"}.AsMechanism(),
		})
		s, err := c.FetchSession(t.Context(), somewhere)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Set(broker.FetchPartition{Topic: "a"})
		time.Sleep(9 * time.Second)
		began := time.Now()
		if _, err := s.Fetch(t.Context(), broker.FetchOptions{}); err == nil || time.Since(began) > 10*time.Second {
			t.Errorf("%v after %v, want the end of patience after 10 s", err, time.Since(began))
		}
	})
}

func TestNewProfile(t *testing.T) {
	id, v := newIdentity(t), newVault(t)
	for name, content := range map[string][]byte{"ca.pem": id.cert, "cert.pem": id.cert, "key.pem": id.key, "bad.pem": []byte("hunter2"), "pw": []byte("hunter2")} {
		v.put(name, content)
	}
	ref := v.ref
	at := []string{"k:9092"}
	for _, tc := range []struct {
		name string
		c    topology.Cluster
		want string // in the error; empty = none
	}{
		{"plain", topology.Cluster{Bootstrap: at}, ""},
		{"embedded", topology.Cluster{Embedded: &topology.Embedded{Listen: "127.0.0.1:19092"}}, ""},
		{"embedded at any port", topology.Cluster{Embedded: &topology.Embedded{Listen: "127.0.0.1:0"}}, "embedded.listen"},
		{"all", topology.Cluster{Bootstrap: at, TLS: &topology.TLS{CA: ref("ca.pem"), Cert: ref("cert.pem"), Key: ref("key.pem"), ServerName: "x"},
			SASL: &topology.SASL{Mechanism: "SCRAM-SHA-512", User: "u", Password: ref("pw")}}, ""},
		{"bad ca", topology.Cluster{Bootstrap: at, TLS: &topology.TLS{CA: ref("bad.pem")}}, "tls.ca"},
		{"no such ca", topology.Cluster{Bootstrap: at, TLS: &topology.TLS{CA: ref("none.pem")}}, "tls.ca"},
		{"bad key", topology.Cluster{Bootstrap: at, TLS: &topology.TLS{Cert: ref("cert.pem"), Key: ref("bad.pem")}}, "tls.key"},
		{"no such password", topology.Cluster{Bootstrap: at, SASL: &topology.SASL{Mechanism: "PLAIN", Password: ref("none")}}, "sasl.password"},
		{"mechanism", topology.Cluster{Bootstrap: at, SASL: &topology.SASL{Mechanism: "LDAP", Password: ref("pw")}}, "sasl.mechanism"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.c.Name = "eu"
			p, err := broker.NewProfile(tc.c)
			if tc.want == "" {
				if err != nil || p.Name != "eu" || len(p.Bootstrap) != 1 || (p.TLS != nil) != (tc.c.TLS != nil) || (p.SASL != nil) != (tc.c.SASL != nil) {
					t.Errorf("%+v, %v", p, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "cluster eu: ") || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}
