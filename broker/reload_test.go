package broker_test

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// logged is a log to look into.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// rotation is a broker that asks for TLS and a login, both of which change, and what a profile of it says.
type rotation struct {
	v       vault
	served  atomic.Pointer[tls.Config]
	wants   atomic.Pointer[string] // the password
	wrong   atomic.Int64           // logins with another
	log     logged
	profile broker.Profile
	c       *broker.Cluster
	at      broker.Broker
}

const (
	lost  = "cannot be read again"
	found = "can be read again"
)

func newRotation(t *testing.T) *rotation {
	t.Helper()
	r := &rotation{v: newVault(t)}
	d := &puppet{versions: modest, play: r.play}
	p, at := listen(t, func(conn net.Conn) { d.serve(tls.Server(conn, r.served.Load())) })
	r.at = at
	r.rotate(t, "first")
	profile, err := broker.NewProfile(topology.Cluster{
		Name: "eu", Bootstrap: p.Bootstrap,
		TLS:  &topology.TLS{CA: r.v.ref("ca.pem"), Cert: r.v.ref("cert.pem"), Key: r.v.ref("key.pem")},
		SASL: &topology.SASL{Mechanism: topology.Plain, User: "isthmus", Password: r.v.ref("pw")},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.profile = profile
	if r.c, err = broker.Open(profile, slog.New(slog.NewTextHandler(&r.log, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.c.Close)
	return r
}

// play takes the password of the moment.
func (r *rotation) play(conn net.Conn, _ int, q asked) bool {
	switch q.key {
	case int16(kmsg.SASLHandshake):
		return agree(conn, q, nil)
	case int16(kmsg.Metadata):
		resp := kmsg.NewPtrMetadataResponse()
		resp.Version = q.version
		return reply(conn, q, resp)
	}
	if !bytes.Contains(q.body, []byte("\x00isthmus\x00"+*r.wants.Load())) {
		r.wrong.Add(1)
		return false
	}
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.Version = q.version
	return reply(conn, q, resp)
}

// rotate changes everything at the broker and at us.
func (r *rotation) rotate(t *testing.T, password string) {
	t.Helper()
	ca := newIdentity(t)
	server, client := issue(t, &ca, nil), issue(t, &ca, nil)
	r.served.Store(&tls.Config{Certificates: []tls.Certificate{server.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.roots})
	r.wants.Store(&password)
	r.v.put("ca.pem", ca.cert)
	r.v.put("cert.pem", client.cert)
	r.v.put("key.pem", client.key)
	r.v.put("pw", []byte(password+"\n"))
}

// connects tries the client library and our own connections.
func (r *rotation) connects(t *testing.T, when string) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	conn, err := r.c.ProduceConn(ctx, r.at)
	if err != nil {
		t.Fatalf("%s: our own connection: %v", when, err)
	}
	defer conn.Close()
	again, err := broker.Open(r.profile, nil) // so that it has no connection yet
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Metadata(ctx); err != nil {
		t.Fatalf("%s: the client library: %v", when, err)
	}
}

func TestReload_NextConnectionUsesWhatIsThereNow(t *testing.T) {
	r := newRotation(t)
	r.connects(t, "at first")
	r.rotate(t, "second")
	r.connects(t, "after a rotation of everything")
	if n := r.wrong.Load(); n != 0 || r.log.count(lost) != 0 {
		t.Errorf("%d logins with an old password, log:\n%s", n, r.log.buf.String())
	}
}

func TestReload_KeepsTheLastGoodValueAndSaysSoOnce(t *testing.T) {
	for name, field := range map[string]string{"ca.pem": "tls.ca", "cert.pem": "tls.cert and tls.key", "key.pem": "tls.cert and tls.key", "pw": "sasl.password"} {
		t.Run(name, func(t *testing.T) {
			r := newRotation(t)
			r.connects(t, "at first")
			good := r.v.get(name)
			bad := []byte("hunter2 is no certificate")
			if name == "pw" {
				bad = []byte("\n") // empty
			}
			r.v.put(name, bad)
			r.connects(t, "while "+name+" is bad")
			r.connects(t, "while "+name+" is still bad")
			if r.log.count(lost) != 1 || r.log.count(field) == 0 || r.log.count("hunter2") != 0 {
				t.Errorf("want one line about %s and nothing of its content:\n%s", field, r.log.buf.String())
			}
			r.v.put(name, good)
			r.connects(t, "when "+name+" is good again")
			r.connects(t, "and again")
			if r.log.count(lost) != 1 || r.log.count(found) != 1 {
				t.Errorf("want one line when it is good again:\n%s", r.log.buf.String())
			}
			r.rotate(t, "third")
			r.connects(t, "after a rotation")
		})
	}
}
