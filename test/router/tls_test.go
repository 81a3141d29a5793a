package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/test/certs"
	"github.com/isthmus-project/isthmus/topology"
)

// secured starts a router with TLS, by names if it is told to; clients is nil where they need no certificate.
func (w *world) secured(shown certs.Identity, dir string, clients *certs.Authority, byName bool, change func(*router.Config)) *door {
	r := instance(0)
	r.TLS = shown.Files(w.t, dir, clients)
	if byName {
		r.Slots, r.SNI = topology.Ports{}, "b{slot}.kafka.example"
	}
	return w.start(0, 1, func(c *router.Config) {
		c.Router, c.Instances = r, []topology.Router{r}
		if change != nil {
			change(c)
		}
	})
}

// shake connects to an address of the machine and does the handshake of a client that asks for a name.
func (w *world) shake(address, name string, cfg *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	c, err := w.net.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	cfg = cfg.Clone()
	cfg.ServerName = name
	secure := tls.Client(c, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return secure, nil
}

// TestRouter_TLSByName: over one listener clients find every broker by the name that they ask for, and go nowhere else. Who says another name,
// or none, bootstraps.
func TestRouter_TLSByName(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		a := certs.New(t)
		w.secured(a.Issue(t, "door", "kafka.example", "*.kafka.example"), t.TempDir(), nil, true, nil)
		time.Sleep(3 * time.Second)
		var mu sync.Mutex
		asked := make(map[string]bool)
		dial := func(_ context.Context, _, address string) (net.Conn, error) {
			host, port, _ := net.SplitHostPort(address)
			if port != "9100" || !strings.HasSuffix(host, "kafka.example") {
				t.Errorf("a client was sent to %s", address)
			}
			mu.Lock()
			asked[host] = true
			mu.Unlock()
			return w.shake("127.0.0.1:9100", host, &tls.Config{RootCAs: a.Pool})
		}
		client := func(opts ...kgo.Opt) *kgo.Client {
			cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers("kafka.example:9100"), kgo.Dialer(dial)}, opts...)...)
			if err != nil {
				t.Fatal(err)
			}
			return cl
		}
		out := client(kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerLinger(5*time.Millisecond))
		produce(t, out, 0, 1000)
		m, err := kadm.NewClient(out).BrokerMetadata(t.Context())
		if err != nil || len(m.Brokers) != 3 {
			t.Fatalf("%v, %v", m, err)
		}
		for _, b := range m.Brokers {
			if b.Host != fmt.Sprintf("b%d.kafka.example", b.NodeID) || b.Port != 9100 {
				t.Errorf("broker %d is told to be at %s:%d", b.NodeID, b.Host, b.Port)
			}
		}
		in := client(kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
		consume(t, in, 1000)
		in.Close()
		out.Close()
		if len(asked) != 4 {
			t.Errorf("clients asked for %v", asked)
		}
		for _, name := range []string{"", "other.example", "b9x.kafka.example"} {
			c, err := w.shake("127.0.0.1:9100", name, &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatalf("%q: %v", name, err)
			}
			ask(t, c)
			_ = c.Close()
		}
		c, err := w.shake("127.0.0.1:9100", "b9.kafka.example", &tls.Config{RootCAs: a.Pool})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
			t.Error("a slot without a broker answers")
		}
	})
}

// TestRouter_ClientCertificates: who has none of the authority is not let in, and it is said; files that change are read again, for new
// connections, and those that are there stay.
func TestRouter_ClientCertificates(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		a, clients, others := certs.New(t), certs.New(t), certs.New(t)
		dir := t.TempDir()
		d := w.secured(a.Issue(t, "door"), dir, clients, false, nil)
		time.Sleep(3 * time.Second)
		enter := func(roots, by *certs.Authority) (*tls.Conn, error) {
			cfg := &tls.Config{RootCAs: roots.Pool}
			if by != nil {
				cfg.Certificates = []tls.Certificate{by.Issue(t, "ana").Pair(t)}
			}
			c, err := w.shake("127.0.0.1:9101", "127.0.0.1", cfg)
			if err != nil {
				return nil, err
			}
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			wrote := make(chan error, 1)
			go func() { // a pipe takes nothing from who does not read, and a refusal may be on its way
				_, err := c.Write([]byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0})
				wrote <- err
			}()
			if _, err := c.Read(make([]byte, 4096)); err != nil { // TLS 1.3 tells a client here that its certificate is refused
				_ = c.NetConn().Close()
				<-wrote
				return nil, err
			}
			return c, <-wrote
		}
		stays, err := enter(a, clients)
		if err != nil {
			t.Fatal(err)
		}
		defer stays.Close()
		if all := d.router.Clients(); len(all) != 1 || all[0].Subject != "CN=ana" {
			t.Errorf("clients are %+v", all)
		}
		for name, by := range map[string]*certs.Authority{"no certificate": nil, "one of another authority": others} {
			if c, err := enter(a, by); err == nil {
				_ = c.Close()
				t.Errorf("%s: let in", name)
			}
		}
		time.Sleep(time.Second)
		if refused := d.router.Status().Refused; refused["tls"] != 2 {
			t.Errorf("refused are %v", refused)
		}
		if !w.said(router.ErrTLS.Error()) {
			t.Errorf("it is not said:\n%s", w.logged())
		}
		next := certs.New(t)
		next.Issue(t, "door").Files(t, dir, others)
		time.Sleep(2 * time.Second)
		if _, err := enter(a, others); err == nil {
			t.Error("the old certificate is still shown")
		}
		if _, err := enter(next, clients); err == nil {
			t.Error("clients of the old authority are still let in")
		}
		c, err := enter(next, others)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if _, err := stays.Write([]byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if _, err := stays.Read(make([]byte, 4096)); err != nil {
			t.Errorf("the connection that was there: %v", err)
		}
	})
}

// TestRouter_SlowHandshakes: those who say nothing, little, or no TLS keep nobody out, and are hung up on.
func TestRouter_SlowHandshakes(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		a := certs.New(t)
		w.secured(a.Issue(t, "door"), t.TempDir(), nil, false, func(c *router.Config) { c.Limits.Handshakes = 8 })
		time.Sleep(3 * time.Second)
		var slow []net.Conn
		for i := range 300 {
			c, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9101")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			slow = append(slow, c)
			if i == 0 { // one place of two that this address has
				if _, err := c.Write([]byte{0x16}); err != nil {
					t.Fatal(err)
				}
			}
		}
		began := time.Now()
		c, err := w.shake("127.0.0.1:9101", "127.0.0.1", &tls.Config{RootCAs: a.Pool})
		if err != nil {
			t.Fatal(err)
		}
		ask(t, c)
		_ = c.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("a good client waited %v", took)
		}
		for i, c := range slow {
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := c.Read(make([]byte, 64)); err == nil {
				_, err = c.Read(make([]byte, 64))
				if err == nil {
					t.Errorf("connection %d is answered", i)
				}
			} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				t.Fatalf("connection %d is still open after %v", i, time.Since(began))
			}
		}
		if !w.said(router.ErrHandshake.Error()) {
			t.Error("nothing is said of it")
		}
	})
}
