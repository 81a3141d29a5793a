package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/test/certs"
	"github.com/isthmus-project/isthmus/topology"
)

// users is a folder with a file of users.
type users struct {
	t   *testing.T
	dir string
}

const shopUsers = `version = 1
[[user]]
name = "anna"
password = "file:anna"
at.eu = { mechanism = "SCRAM-SHA-512", username = "shop-anna", password = "file:home" }
at.us = { mechanism = "PLAIN", username = "us-anna", password = "file:home" }
[[user]]
name = "billing"
certificate = "CN=billing"
at.eu = { mechanism = "PLAIN", username = "shop-billing", password = "file:home" }
[[user]]
name = "carl"
password = "file:anna"
at.ap = { mechanism = "PLAIN", username = "carl", password = "file:home" }
`

func newUsers(t *testing.T) users {
	u := users{t, t.TempDir()}
	u.write("users.toml", shopUsers)
	u.write("anna", "door-secret")
	u.write("home", "home-secret")
	return u
}

func (u users) write(name, text string) {
	u.t.Helper()
	if err := os.WriteFile(filepath.Join(u.dir, name), []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// end makes a router terminate.
func (u users) end(r *topology.Router) {
	u.t.Helper()
	ref, err := topology.ParseSecret("file:" + filepath.Join(u.dir, "users.toml"))
	if err != nil {
		u.t.Fatal(err)
	}
	r.Auth, r.Credentials = topology.Terminate, ref
}

// rights lets a user write and read a topic.
func rights(topic string) (all []kfake.ACL) {
	for _, op := range []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe} {
		all = append(all, kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: topic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true})
	}
	return all
}

// writes says whether a client may write to a topic; the error is the last one where it is not done in a few seconds.
func writes(t *testing.T, cl *kgo.Client, topic string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
}

// TestTerminate_OwnRights: clients with names that no home knows have the rights of their own logins there and no others; who has none is told what to do.
func TestTerminate_OwnRights(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		u := newUsers(t)
		a, clients := certs.New(t), certs.New(t)
		r := instance(0)
		r.TLS = a.Issue(t, "door").Files(t, t.TempDir(), clients)
		u.end(&r)
		d := w.startAs(0, 1, func(c *router.Config) { c.Router, c.Instances = r, []topology.Router{r} }, plain.Auth{User: "admin", Pass: "admin"}.AsMechanism())
		time.Sleep(3 * time.Second)
		client := func(subject string, opts ...kgo.Opt) *kgo.Client {
			secure := &tls.Config{RootCAs: a.Pool, ServerName: "127.0.0.1", Certificates: []tls.Certificate{clients.Issue(t, subject).Pair(t)}}
			cl := w.client([]int{0}, append(opts, kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := w.net.DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return tls.Client(c, secure), nil
			}))...)
			t.Cleanup(cl.Close)
			return cl
		}
		auth := scram.Auth{User: "anna", Pass: "door-secret"}
		anna, billing := client("host", kgo.ClientID("a"), kgo.SASL(auth.AsSha256Mechanism())), client("billing", kgo.ClientID("b"))
		for _, tc := range []struct {
			who   string
			cl    *kgo.Client
			topic string
			want  error
		}{
			{"anna", anna, "orders", nil}, {"anna", anna, "bills", kerr.TopicAuthorizationFailed},
			{"billing", billing, "bills", nil}, {"billing", billing, "orders", kerr.TopicAuthorizationFailed},
		} {
			if err := writes(t, tc.cl, tc.topic); !errors.Is(err, tc.want) {
				t.Errorf("%s to %s: %v, want %v", tc.who, tc.topic, err, tc.want)
			}
		}
		var names []string
		for _, c := range d.router.Clients() {
			names = append(names, c.Who.ClientID+" "+c.Principal.Name+" "+c.Principal.Mechanism)
		}
		if slices.Sort(names); fmt.Sprint(slices.Compact(names)) != "[a anna SCRAM-SHA-256 b billing certificate]" {
			t.Errorf("clients are %q", names)
		}
		for who, text := range map[string]string{
			"anna/wrong":        "invalid username or password",
			"shop-anna/home":    "invalid username or password", // that the home knows him is nothing to the door
			"billing/":          "invalid username or password",
			"carl/door-secret":  `no login at cluster "eu"; add [user.at.eu]`,
			"admin/admin":       "invalid username or password",
			"shop-anna/home-se": "invalid username or password",
		} {
			name, password, _ := strings.Cut(who, "/")
			cl := client("host", kgo.SASL(plain.Auth{User: name, Pass: password + " "}.AsMechanism()))
			if password == "door-secret" {
				cl = client("host", kgo.SASL(plain.Auth{User: name, Pass: password}.AsMechanism()))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			err := cl.Ping(ctx)
			cancel()
			if !errors.Is(err, kerr.SaslAuthenticationFailed) || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q", who, err, text)
			}
		}
		time.Sleep(30 * time.Second) // they are counted when they have ended, which is after the client was told
		if refused := d.router.Status().Refused; refused["login"] == 0 || refused["home_login"] == 0 {
			t.Errorf("refused are %v", refused)
		}
		if strings.Contains(fmt.Sprintf("%+v", d.router.Clients())+w.logged(), "-secret") {
			t.Error("a secret is told")
		}
	}, append(homeUsers(), kfake.SeedTopics(3, "bills"))...)
}

// homeUsers are those of a home.
func homeUsers() []kfake.Opt {
	return []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "admin"),
		kfake.User("SCRAM-SHA-512", "shop-anna", "home-secret", rights("orders")...), kfake.User("PLAIN", "shop-billing", "home-secret", rights("bills")...)}
}

// TestTerminate_FileChanges: a password that is rotated counts for whoever comes then; a file that is wrong changes nothing, and that is said once and in the status.
func TestTerminate_FileChanges(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		u := newUsers(t)
		d := w.startAs(0, 1, func(c *router.Config) { u.end(&c.Router) }, plain.Auth{User: "admin", Pass: "admin"}.AsMechanism())
		time.Sleep(3 * time.Second)
		enters := func(password string) error {
			cl := w.client([]int{0}, kgo.SASL(plain.Auth{User: "anna", Pass: password}.AsMechanism()))
			defer cl.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := cl.Ping(ctx); err != nil {
				return err
			}
			return writes(t, cl, "orders")
		}
		stays := w.client([]int{0}, kgo.SASL(plain.Auth{User: "anna", Pass: "door-secret"}.AsMechanism()))
		defer stays.Close()
		if err := writes(t, stays, "orders"); err != nil {
			t.Fatal(err)
		}
		u.write("anna", "rotated-secret")
		time.Sleep(2 * time.Second)
		if err := enters("door-secret"); !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("the old password: %v", err)
		}
		if err := errors.Join(enters("rotated-secret"), writes(t, stays, "orders")); err != nil {
			t.Errorf("the new password, and who is there: %v", err)
		}
		u.write("users.toml", shopUsers+"[[user]]\nname = \"anna\"\n")
		time.Sleep(10 * time.Second)
		if err := enters("rotated-secret"); err != nil {
			t.Errorf("while the file is wrong: %v", err)
		}
		wrong := `users.toml:16:8: the user "anna" is already taken in line 3`
		if told := d.router.Status().Troubles; len(told) != 1 || !strings.Contains(told[0], wrong) {
			t.Errorf("troubles are %q", told)
		}
		if n := strings.Count(w.logged(), "what they were last counts"); n != 1 {
			t.Errorf("it is logged %d times:\n%s", n, w.logged())
		}
		u.write("users.toml", shopUsers)
		time.Sleep(2 * time.Second)
		if told := d.router.Status().Troubles; len(told) != 0 {
			t.Errorf("troubles are %q", told)
		}
		if strings.Contains(w.logged(), "-secret") {
			t.Error("a secret is told")
		}
	}, homeUsers()...)
}

// TestTerminate_Sets: a connection goes to one home, with the user's login there; who has one at the other home only does not get in.
func TestTerminate_Sets(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		us, err := kfake.NewCluster(kfake.ListenFn(w.net.Listen), kfake.Ports(9011), kfake.NumBrokers(1), kfake.ClusterID("other-cluster"), kfake.SeedTopics(3, "payments-1"), kfake.EnableSASL(),
			kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "us-anna", "home-secret", rights("payments-1")...))
		if err != nil {
			t.Fatal(err)
		}
		defer us.Close()
		u := newUsers(t)
		w.startWithSet(plain.Auth{User: "admin", Pass: "admin"}.AsMechanism(), u.end)
		time.Sleep(3 * time.Second)
		anna := w.client([]int{0}, kgo.SASL(plain.Auth{User: "anna", Pass: "door-secret"}.AsMechanism()))
		defer anna.Close()
		if err := errors.Join(writes(t, anna, "orders"), writes(t, anna, "payments-1")); err != nil {
			t.Error(err)
		}
		u.write("users.toml", strings.Replace(shopUsers, "at.us", "at.ap", 1))
		time.Sleep(2 * time.Second)
		anna2 := w.client([]int{0}, kgo.SASL(plain.Auth{User: "anna", Pass: "door-secret"}.AsMechanism()))
		defer anna2.Close()
		if err := errors.Join(writes(t, anna2, "orders"), writes(t, anna, "payments-1")); err != nil {
			t.Error(err)
		}
		if err := writes(t, anna2, "payments-1"); err == nil {
			t.Error("who has no login at us writes there")
		}
		if !w.said(`no login at cluster \"us\"; add [user.at.us]`) {
			t.Errorf("it is not said why:\n%s", w.logged())
		}
	}, homeUsers()...)
}
