package broker_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/broker"
)

// doorman is a broker that counts logins and lets in or not.
type doorman struct {
	logins atomic.Int64
	open   atomic.Bool
}

func (d *doorman) play(conn net.Conn, _ int, r asked) bool {
	switch r.key {
	case int16(kmsg.SASLHandshake):
		return agree(conn, r, nil)
	case int16(kmsg.Metadata):
		resp := kmsg.NewPtrMetadataResponse()
		resp.Version = r.version
		return reply(conn, r, resp)
	}
	d.logins.Add(1)
	if !d.open.Load() {
		return refuse(kerr.SaslAuthenticationFailed)(conn, r)
	}
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.Version = r.version
	return reply(conn, r, resp)
}

// impatient are callers without any pause of their own; far fewer rounds than they have are needed to see that nobody holds them.
func impatient(ctx context.Context, c *broker.Cluster) *sync.WaitGroup {
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			for round := 0; round < 200 && ctx.Err() == nil; round++ {
				switch i % 3 {
				case 0:
					_, _ = c.Metadata(ctx)
				case 1:
					_, _ = c.FetchSession(ctx, somewhere)
				case 2:
					_, _ = c.ProduceConn(ctx, somewhere)
				}
			}
		})
	}
	return &all
}

// openPlain opens a cluster with a login by PLAIN.
func openPlain(t *testing.T, dial func(context.Context, string, string) (net.Conn, error)) *broker.Cluster {
	t.Helper()
	return openProfile(t, broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9092"}, Dial: dial, SASL: plain.Auth{User: "u", Pass: "p"}.AsMechanism()})
}

// TestGate_WrongPasswordIsTriedOnceASecond: however many want to connect, and however eagerly, by our own connections and the
// client library's.
func TestGate_WrongPasswordIsTriedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doorman{}
		p := &puppet{play: d.play, versions: modest}
		c := openPlain(t, p.dial)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		impatient(ctx, c).Wait()
		took := time.Since(start) // the client library goes on for a moment
		if n, most := d.logins.Load(), int64(took/time.Second)+1; n < 20 || n > most {
			t.Errorf("%d logins in %v, want about one a second", n, took)
		}

		d.open.Store(true)
		began := time.Now()
		s, err := c.FetchSession(t.Context(), somewhere)
		if err != nil || time.Since(began) > 1500*time.Millisecond {
			t.Fatalf("with the right password: %v after %v, want to be let in within about a second", err, time.Since(began))
		}
		_ = s.Close()
	})
}

// TestGate_RightPasswordDoesNotWait: connections that are let in only take turns.
func TestGate_RightPasswordDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doorman{}
		d.open.Store(true)
		p := &puppet{play: d.play, versions: modest}
		c := openPlain(t, p.dial)
		began := time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				conn, err := c.ProduceConn(t.Context(), somewhere)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.Close()
			})
		}
		if all.Wait(); time.Since(began) != 0 {
			t.Errorf("50 connections took %v, want no wait at all", time.Since(began))
		}
	})
}

// far is a broker at the end of a long line: each connection, and each answer, takes a round trip.
func far(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		time.Sleep(farTrip)
		conn, err := dial(ctx, network, address)
		return &farConn{Conn: conn}, err
	}
}

const farTrip = 300 * time.Millisecond

type farConn struct {
	net.Conn
	asked atomic.Bool
}

func (c *farConn) Write(b []byte) (int, error) {
	c.asked.Store(true)
	return c.Conn.Write(b)
}

func (c *farConn) Read(b []byte) (int, error) {
	if c.asked.Swap(false) {
		time.Sleep(farTrip)
	}
	return c.Conn.Read(b)
}

// TestGate_FarBrokerLetsAllIn: connections take turns only until the first was let in.
func TestGate_FarBrokerLetsAllIn(t *testing.T) {
	always := func(c *x509.Certificate) { c.NotBefore = time.Unix(0, 0) } // the clock of a bubble starts in 2000
	id := issue(t, nil, always)
	for name, secure := range map[string]bool{"PLAIN": false, "PLAIN by TLS": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &doorman{}
				d.open.Store(true)
				p := &puppet{play: d.play, versions: modest}
				profile := broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9092"}, SASL: plain.Auth{User: "u", Pass: "p"}.AsMechanism()}
				profile.Dial = far(p.dial)
				if secure {
					profile.TLS = (&tls.Config{RootCAs: id.roots}).Clone
					profile.Dial = far(func(context.Context, string, string) (net.Conn, error) {
						ours, theirs := net.Pipe()
						go p.serve(tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{id.pair}}))
						return ours, nil
					})
				}
				c := openProfile(t, profile)
				began := time.Now()
				var all sync.WaitGroup
				for range 50 {
					all.Go(func() {
						conn, err := c.ProduceConn(t.Context(), somewhere)
						if err != nil {
							t.Errorf("after %v: %v", time.Since(began), err)
							return
						}
						_ = conn.Close()
					})
				}
				if all.Wait(); time.Since(began) > 12*time.Second {
					t.Errorf("50 connections took %v", time.Since(began))
				}
			})
		})
	}
}

// TestGate_ChangeOfMindIsNoFlood: when a broker that let all in refuses all, a few learn it at once and the others wait.
func TestGate_ChangeOfMindIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doorman{}
		d.open.Store(true)
		p := &puppet{play: d.play, versions: modest}
		c := openPlain(t, far(p.dial))
		conn, err := c.ProduceConn(t.Context(), somewhere)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		d.open.Store(false)
		d.logins.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { _, _ = c.ProduceConn(ctx, somewhere) })
		}
		all.Wait()
		if n := d.logins.Load(); n < 5 || n > 8+10 {
			t.Errorf("%d logins in 10 s, want eight at once and then one a second", n)
		}
	})
}

// TestGate_WhoGivesUpHoldsNobody: an attempt that its caller ended says nothing about the broker.
func TestGate_WhoGivesUpHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doorman{}
		d.open.Store(true)
		p := &puppet{play: d.play, versions: modest}
		c := openPlain(t, far(p.dial))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(4*farTrip-farTrip/2, cancel) // to connect, versions, handshake, login
		if _, err := c.ProduceConn(ctx, somewhere); !errors.Is(err, context.Canceled) || d.logins.Load() != 1 {
			t.Fatalf("%v after %d logins, want the end of the context in the middle of one", err, d.logins.Load())
		}
		began := time.Now()
		conn, err := c.ProduceConn(t.Context(), somewhere)
		if err != nil || time.Since(began) > 5*farTrip {
			t.Fatalf("the next: %v after %v, want no wait", err, time.Since(began))
		}
		_ = conn.Close()
	})
}

// TestGate_RefusedMechanismIsTriedOnceASecond: the broker says so before there is a login.
func TestGate_RefusedMechanismIsTriedOnceASecond(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState} {
		for name, by := range map[string]func(context.Context, *broker.Cluster){
			"our own connections": func(ctx context.Context, c *broker.Cluster) { _, _ = c.ProduceConn(ctx, somewhere) },
			"the client library":  func(ctx context.Context, c *broker.Cluster) { _, _ = c.Metadata(ctx) },
		} {
			synctest.Test(t, func(t *testing.T) {
				d := &doorman{}
				d.open.Store(true)
				var hellos atomic.Int64
				p := &puppet{versions: modest, play: func(conn net.Conn, n int, r asked) bool {
					if r.key != int16(kmsg.SASLHandshake) || d.open.Load() {
						return d.play(conn, n, r)
					}
					hellos.Add(1)
					return agree(conn, r, refusal)
				}}
				c := openPlain(t, far(p.dial))
				conn, err := c.ProduceConn(t.Context(), somewhere)
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				d.open.Store(false) // the broker changes its mind
				ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
				defer cancel()
				var all sync.WaitGroup
				for range 6 {
					all.Go(func() {
						for round := 0; round < 200 && ctx.Err() == nil; round++ {
							by(ctx, c)
						}
					})
				}
				all.Wait()
				if n := hellos.Load(); n < 5 || n > 6+11 {
					t.Errorf("%s, %v: %d handshakes in 9.5 s, want one of each at once and then about one a second", name, refusal, n)
				} else {
					t.Logf("%s: %d handshakes", name, n)
				}
			})
		}
	}
}

// TestGate_HearsTheClientLibrary: a mechanism that is refused to it keeps our own connections out too.
func TestGate_HearsTheClientLibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &puppet{versions: modest, play: func(conn net.Conn, _ int, r asked) bool { return agree(conn, r, kerr.UnsupportedSaslMechanism) }}
		c := openPlain(t, p.dial)
		if _, err := c.Metadata(t.Context()); !errors.Is(err, kerr.UnsupportedSaslMechanism) {
			t.Fatal(err)
		}
		_, err := c.ProduceConn(within(t, 500*time.Millisecond), somewhere)
		if err == nil || !strings.Contains(err.Error(), "which refused the last attempt") || !errors.Is(err, kerr.UnsupportedSaslMechanism) {
			t.Errorf("%v, want to wait for a turn, because of what the client library was told", err)
		}
	})
}

// TestGate_SilentBrokerHoldsOthersForASecond: a login without an answer may be one that failed.
func TestGate_SilentBrokerHoldsOthersForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logins atomic.Int64
		began := time.Now()
		p := &puppet{versions: modest, play: func(conn net.Conn, _ int, r asked) bool {
			if r.key == int16(kmsg.SASLHandshake) {
				return agree(conn, r, nil)
			}
			if time.Since(began) < 5*time.Second { // the library sees an end of ctx late
				logins.Add(1)
			}
			return true
		}}
		c := openPlain(t, p.dial)
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		defer cancel()
		impatient(ctx, c).Wait()
		if n := logins.Load(); n < 4 || n > 6 {
			t.Errorf("%d logins in 4.5 s, want about one a second", n)
		}
	})
}

// TestGate_RefusedCertificateIsTriedOnceASecond: with TLS 1.3 the handshake of a refused certificate succeeds on our side.
func TestGate_RefusedCertificateIsTriedOnceASecond(t *testing.T) {
	ca, other := newIdentity(t), newIdentity(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var hellos atomic.Int64
		server := &tls.Config{
			Certificates: []tls.Certificate{ca.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.roots, MaxVersion: version,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				hellos.Add(1)
				return nil, nil
			},
		}
		p, _ := onTLS(server, &tls.Config{RootCAs: ca.roots, Certificates: []tls.Certificate{other.pair}})(t)
		p.Name = "eu"
		dialled := p.Bootstrap[0]
		p.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) { // wherever somewhere is
			return (&net.Dialer{}).DialContext(ctx, network, dialled)
		}
		p.Bootstrap = []string{somewhere.Host + ":9092"}
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		impatient(ctx, openProfile(t, p)).Wait()
		cancel()
		if n := hellos.Load(); n < 2 || n > 4 {
			t.Errorf("%s: %d handshakes in 2.5 s, want about one a second", tls.VersionName(version), n)
		} else {
			t.Logf("%s: %d handshakes", tls.VersionName(version), n)
		}
	}
}
