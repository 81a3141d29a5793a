package secure

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
)

// The listeners of both clusters, and what they speak.
var listeners = map[string]string{
	"TLS": "SSL", "MTLS": "SSL", "EXPIRED": "SSL", // EXPIRED shows a certificate that ended yesterday
	"PLAIN": "SASL_SSL", "SCRAM": "SASL_SSL", "OAUTH": "SASL_SSL",
}

// The accounts that may do everything.
const (
	user     = "isthmus"
	password = "correct horse"
	turner   = "turner" // whose password and certificate change
)

// reauthenticate is how long a login by SCRAM lasts: short, so that a rotated password is asked for.
const reauthenticate = 3 * time.Second

// site is one real cluster.
type site struct {
	*kafka.Cluster
	name  string
	files folder // stores, which the broker reads when it starts
	admin *kadm.Client
}

// pair is a source and a target with the same listeners, and who signs for them.
type pair struct {
	ca     *authority // of the brokers
	people *authority // of the clients, where they need a certificate
	issuer *issuer
	eu, us *site
}

// startPair starts both clusters.
func startPair(t testing.TB) *pair {
	t.Helper()
	kafka.Require(t)
	p := &pair{ca: newAuthority(t, "brokers"), people: newAuthority(t, "people"), issuer: newIssuer(t)}
	jwks := folder{t, t.TempDir()}.put("jwks.json", p.issuer.jwks(t))
	var options []kafka.Options
	var sites []*site
	for _, name := range []string{"eu", "us"} {
		s := &site{name: name, files: folder{t, t.TempDir()}}
		options = append(options, kafka.Options{
			Name: name, HeapMB: 384, Listeners: listeners, Properties: s.properties(t, p, jwks),
			JavaOptions: []string{"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://" + jwks},
		})
		sites = append(sites, s)
	}
	for i, c := range kafka.StartAll(t, options...) {
		sites[i].Cluster = c
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()...), kgo.MetadataMinAge(100*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		sites[i].admin = kadm.NewClient(cl)
		sites[i].account(t, user, password)
	}
	p.eu, p.us = sites[0], sites[1]
	return p
}

// properties are the broker's settings. Who is not a super user has the rights that tests give to it, and no other.
func (s *site) properties(t testing.TB, p *pair, jwks string) map[string]string {
	t.Helper()
	trust := s.files.put("people.pem", p.people.pem)
	const login = "org.apache.kafka.common.security."
	return map[string]string{
		"authorizer.class.name":   "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":             "User:ANONYMOUS;User:" + user + ";User:" + turner,
		"ssl.keystore.type":       "PEM",
		"ssl.keystore.location":   s.files.put("broker.pem", p.ca.issue(t, "broker", false).store()),
		"ssl.truststore.type":     "PEM",
		"ssl.truststore.location": trust,

		"listener.name.expired.ssl.keystore.type":        "PEM",
		"listener.name.expired.ssl.keystore.location":    s.files.put("expired.pem", p.ca.issue(t, "broker", true).store()),
		"listener.name.mtls.ssl.client.auth":             "required",
		"listener.name.mtls.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",

		"listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
		"listener.name.plain.plain.sasl.jaas.config":  fmt.Sprintf("%splain.PlainLoginModule required user_%s=%q;", login, user, password),

		"listener.name.scram.sasl.enabled.mechanisms":                        "SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.scram.scram-sha-256.sasl.jaas.config":                 login + "scram.ScramLoginModule required;",
		"listener.name.scram.scram-sha-512.sasl.jaas.config":                 login + "scram.ScramLoginModule required;",
		"listener.name.scram.connections.max.reauth.ms":                      fmt.Sprint(reauthenticate.Milliseconds()),
		"listener.name.oauth.sasl.enabled.mechanisms":                        "OAUTHBEARER",
		"listener.name.oauth.oauthbearer.sasl.jaas.config":                   login + "oauthbearer.OAuthBearerLoginModule required;",
		"listener.name.oauth.oauthbearer.sasl.server.callback.handler.class": login + "oauthbearer.OAuthBearerValidatorCallbackHandler",

		"sasl.oauthbearer.jwks.endpoint.url": "file://" + jwks,
		"sasl.oauthbearer.expected.audience": tokenAudience,
		"sasl.oauthbearer.expected.issuer":   tokenIssuer,
	}
}

// client reaches the site over the listener that asks nothing.
func (s *site) client() judge.Client { return judge.Client{Name: s.name, Bootstrap: s.Bootstrap()} }

// account makes a SCRAM user, or gives it another password.
func (s *site) account(t testing.TB, name, password string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} { // one request may name a user once
		altered, err := s.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: name, Mechanism: m, Iterations: 4096, Password: password}})
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			t.Fatalf("give user %s of %s a password: %v", name, s.name, err)
		}
	}
}

// create makes a topic.
func (s *site) create(t testing.TB, topic string, partitions int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := s.admin.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		t.Fatalf("create topic %s on %s: %v", topic, s.name, err)
	}
}

// ends are the log ends of topics, by topic and partition.
func (s *site) ends(ctx context.Context, topics ...string) (map[string]map[int32]int64, error) {
	listed, err := s.admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the ends of %s: %w", s.name, err)
	}
	out := make(map[string]map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) {
		if out[o.Topic] == nil {
			out[o.Topic] = make(map[int32]int64)
		}
		out[o.Topic][o.Partition] = o.Offset
	})
	return out, nil
}

// grow gives a topic more partitions, to in all.
func (s *site) grow(t testing.TB, topic string, to int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	grown, err := s.admin.UpdatePartitions(ctx, to, topic)
	if err == nil {
		err = grown.Error()
	}
	if err != nil {
		t.Fatalf("grow topic %s on %s: %v", topic, s.name, err)
	}
}
