package real

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/test/certs"
	"github.com/isthmus-project/isthmus/test/node"
)

// sessions is how long the brokers believe a login by SCRAM.
const sessions = 4 * time.Second

// enders are two doors that check logins: one in clear on this machine, and one that wants certificates.
type enders struct {
	dir              string
	clear, certified int // ports of the bootstraps
	clients          *certs.Authority
	config           string // properties file of anna as a Java client
}

// doorWord is anna's password at the door, which no broker knows.
const doorWord = "battery staple"

// open has anna and the clerk, who are bob at the home, the robot, who is alice, carl who is nobody there, and dora whose password there is wrong.
func (s *stage) open(t *testing.T, dir string) string {
	t.Helper()
	e := enders{dir: dir, clear: node.FreeRow(t, 1+slots), certified: node.FreeRow(t, 1+slots), clients: certs.New(t), config: filepath.Join(dir, "anna.properties")}
	s.ends = e
	shown := filepath.Join(dir, "certified")
	if err := os.Mkdir(shown, 0o700); err != nil {
		t.Fatal(err)
	}
	files := s.ca.Issue(t, "door").Files(t, shown, e.clients)
	e.write(t, "anna", doorWord)
	e.write(t, "anna.properties", fmt.Sprintf("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\n"+
		"sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"anna\" password=%q;\n", doorWord))
	own := func(mechanism, user, password string) string {
		return fmt.Sprintf("at.home = { mechanism = %q, username = %q, password = \"file:%s\" }\n", mechanism, user, password)
	}
	text := "version = 1\n"
	for _, u := range [][2]string{
		{"name = \"anna\"\npassword = \"file:anna\"\n", own("SCRAM-SHA-512", bob, "password")},
		{"name = \"clerk\"\ncertificate = \"CN=clerk\"\n", own("SCRAM-SHA-512", bob, "password")},
		{"name = \"robot\"\ncertificate = \"CN=robot\"\n", own("PLAIN", alice, "password")},
		{"name = \"carl\"\npassword = \"file:anna\"\n", strings.Replace(own("PLAIN", alice, "password"), "at.home", "at.mars", 1)},
		{"name = \"dora\"\npassword = \"file:anna\"\n", own("SCRAM-SHA-512", bob, "anna")},
	} {
		text += "[[user]]\n" + u[0] + u[1]
	}
	e.write(t, "users.toml", text)
	out := ""
	for name, port := range map[string]int{"ends": e.clear, "certified": e.certified} {
		out += fmt.Sprintf("[[router]]\nname = %q\nnode = \"n1\"\nlisten = \"127.0.0.1:%d\"\nadvertise = \"127.0.0.1\"\nslots = \"%d-%d\"\nhome = \"home\"\nauth = \"terminate\"\ncredentials = \"file:users.toml\"\n",
			name, port, port+1, port+slots)
		if name == "certified" {
			out += fmt.Sprintf("tls = { cert = %q, key = %q, client_ca = %q }\n", files.Cert, files.Key, files.ClientCA)
		}
	}
	return out
}

func (e enders) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shows is a client's TLS with a certificate.
func (s *stage) shows(t *testing.T, subject string) *tls.Config {
	return &tls.Config{RootCAs: s.ca.Pool, Certificates: []tls.Certificate{s.ends.clients.Issue(t, subject).Pair(t)}}
}

// writes says whether a client may write to a topic.
func writes(t *testing.T, cl *kgo.Client, topic string) error {
	t.Helper()
	return cl.ProduceSync(deadline(t), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
}

func asPlain(user, password string) kgo.Opt {
	return kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism())
}

// terminate: names and passwords that no broker knows have the rights of their own logins there, for Kafka's own client too; nobody else gets in.
func terminate(t *testing.T, s *stage) {
	auth := scram.Auth{User: "anna", Pass: doorWord}
	anna := s.through(t, s.ends.clear, nil, kgo.SASL(auth.AsSha512Mechanism()))
	defer anna.Close()
	node.Until(t, time.Minute, "the door serves", anna.Ping)
	robot := s.through(t, s.ends.certified, s.shows(t, "robot"))
	defer robot.Close()
	node.Until(t, time.Minute, "the door serves", robot.Ping)
	clerk := s.through(t, s.ends.certified, s.shows(t, "clerk"))
	defer clerk.Close()
	for _, tc := range []struct {
		who   string
		cl    *kgo.Client
		topic string
		want  error
	}{
		{"anna", anna, "bobs", nil}, {"anna", anna, "others", kerr.TopicAuthorizationFailed},
		{"the clerk", clerk, "bobs", nil}, {"the clerk", clerk, "others", kerr.TopicAuthorizationFailed},
		{"the robot", robot, "others", nil},
	} {
		if err := writes(t, tc.cl, tc.topic); !errors.Is(err, tc.want) {
			t.Errorf("%s at %s: %v, want %v", tc.who, tc.topic, err, tc.want)
		}
	}
	for _, tc := range []struct {
		name, text string
		port       int
		login      kgo.Opt
	}{
		{"anna at the brokers", "", s.clear, asPlain("anna", doorWord)},
		{"alice at the door", "invalid username or password", s.ends.clear, asPlain(alice, word)},
		{"a wrong password", "invalid username or password", s.ends.clear, asPlain("anna", word)},
		{"a wrong password by SCRAM", "invalid username or password", s.ends.clear, kgo.SASL(scram.Auth{User: "anna", Pass: word}.AsSha256Mechanism())},
		{"nobody there", `user "carl" has no login at cluster "home"; add [user.at.home]`, s.ends.clear, asPlain("carl", doorWord)},
		{"refused there", "mend [user.at.home]: SASL_AUTHENTICATION_FAILED", s.ends.clear, asPlain("dora", doorWord)},
	} {
		cl := s.through(t, tc.port, nil, tc.login, kgo.RequestRetries(0))
		if err := cl.Ping(deadline(t)); !errors.Is(err, kerr.SaslAuthenticationFailed) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v", tc.name, err)
		}
		cl.Close()
	}
	if out := toolAt(t, s.ends.clear, s.ends.config, "TopicCommand", "--list"); out != "bobs\n" {
		t.Errorf("anna sees %q", out)
	}
	rotate := func(to string) {
		s.ends.write(t, "anna", to)
		node.Until(t, 10*time.Second, "the new password counts", func(ctx context.Context) error {
			cl := s.through(t, s.ends.clear, nil, asPlain("anna", to), kgo.RequestRetries(0))
			defer cl.Close()
			return cl.Ping(ctx)
		})
	}
	rotate("rotated")
	cl := s.through(t, s.ends.clear, nil, asPlain("anna", doorWord), kgo.RequestRetries(0))
	defer cl.Close()
	if err := cl.Ping(deadline(t)); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("the old password: %v", err)
	}
	node.Until(t, 5*sessions, "who was there is out when the login is renewed", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, sessions)
		defer cancel()
		if anna.ProduceSync(ctx, &kgo.Record{Topic: "bobs", Value: []byte("x")}).FirstErr() == nil {
			return errors.New("it writes")
		}
		return nil
	})
	rotate(doorWord)
}

// renewed: brokers that believe a login for a while are told again in time, of those with a password and of those with a certificate, so that no connection ends; and of Kafka's own client.
func renewed(t *testing.T, s *stage) {
	for name, at := range map[string]struct {
		port   int
		secure *tls.Config
		opts   []kgo.Opt
	}{
		"password":    {s.ends.clear, nil, []kgo.Opt{asPlain("anna", doorWord)}},
		"certificate": {s.ends.certified, s.shows(t, "clerk"), nil},
	} {
		var dials atomic.Int32
		cl := s.through(t, at.port, at.secure, append(at.opts, kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			if at.secure != nil {
				return (&tls.Dialer{Config: at.secure}).DialContext(ctx, network, address)
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
		defer cl.Close()
		if err := writes(t, cl, "bobs"); err != nil {
			t.Fatal(err)
		}
		before := dials.Load()
		tick := time.NewTicker(100 * time.Millisecond)
		for range 3 * sessions / (100 * time.Millisecond) {
			if <-tick.C; t.Failed() {
				break
			}
			if err := writes(t, cl, "bobs"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		tick.Stop()
		if after := dials.Load(); after > before {
			t.Errorf("%s: %d connections more in %v", name, after-before, 3*sessions)
		}
	}
	out := toolAt(t, s.ends.clear, s.ends.config, "VerifiableProducer", "--topic", "bobs", "--max-messages", "300", "--throughput", "30")
	if n := strings.Count(out, `"name":"producer_send_success"`); n != 300 {
		t.Errorf("Kafka's own producer wrote %d of 300:\n%s", n, out)
	}
}
