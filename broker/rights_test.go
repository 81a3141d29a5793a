package broker_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// TestRights_OfACertificate: that there is one is known without reading and parsing its file for each error.
func TestRights_OfACertificate(t *testing.T) {
	id, files := newIdentity(t), newVault(t)
	files.put("ca.pem", id.cert)
	files.put("cert.pem", id.cert)
	files.put("key.pem", id.key)
	for field, spec := range map[string]*topology.TLS{
		"sasl":     {CA: files.ref("ca.pem")},
		"tls.cert": {CA: files.ref("ca.pem"), Cert: files.ref("cert.pem"), Key: files.ref("key.pem")},
	} {
		d := &puppet{versions: modest, play: func(conn net.Conn, _ int, r asked) bool {
			resp := kmsg.NewPtrMetadataResponse()
			resp.Version = r.version
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic, rt.ErrorCode = kmsg.StringPtr("hidden"), kerr.TopicAuthorizationFailed.Code
			resp.Topics = append(resp.Topics, rt)
			return reply(conn, r, resp)
		}}
		at, _ := listen(t, func(conn net.Conn) { d.serve(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{id.pair}})) })
		p, err := broker.NewProfile(topology.Cluster{Name: "eu", Bootstrap: at.Bootstrap, TLS: spec})
		if err != nil {
			t.Fatal(err)
		}
		var dials, reads atomic.Int64
		settings := p.TLS
		p.TLS = func() *tls.Config { reads.Add(1); return settings() }
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		m, err := openProfile(t, p).Metadata(within(t, 20*time.Second), "hidden")
		var access *broker.AccessError
		if err != nil || !errors.As(m.Topics["hidden"].Err, &access) || access.Field != field {
			t.Errorf("%v, %v; want the lack of a right by field %s", m.Topics["hidden"].Err, err, field)
		}
		if reads.Load() != dials.Load() {
			t.Errorf("the settings of TLS were made %d times for %d connections", reads.Load(), dials.Load())
		}
	}
}

// TestRights_TheMissingOneIsNamed: with the cluster, the resource and the operation that an ACL has to allow.
func TestRights_TheMissingOneIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		describe := kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "seen", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true}
		open := describe
		open.Name, open.Operation = "zopen", kmsg.ACLOperationAll
		v := startVirtual(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "seen", "hidden", "zopen"), kfake.EnableSASL(), kfake.EnableACLs(),
			kfake.User("PLAIN", "u", "secret", describe, open))
		p := v.profile()
		p.SASL = plain.Auth{User: "u", Pass: "secret"}.AsMechanism()
		c := openProfile(t, p)
		ctx := t.Context()
		b, seen := leader(t, c, "seen", 0)
		rule := broker.ACL{Resource: kmsg.ACLResourceTypeTopic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Name: "seen",
			Principal: "User:a", Host: "*", Operation: kmsg.ACLOperationRead, Allow: true}
		quota := broker.Quota{Entity: []broker.QuotaPart{{Type: "user", Name: "a"}}, Values: map[string]float64{"producer_byte_rate": 1}}

		for name, tc := range map[string]struct {
			do   func() error
			want []string
		}{
			"metadata": {func() error {
				m, err := c.Metadata(ctx, "hidden")
				if err != nil {
					return err
				}
				return m.Topics["hidden"].Err
			}, []string{"sasl.user", "DESCRIBE on topic hidden"}},
			"settings": {func() error {
				configs, err := c.TopicConfigs(ctx, "seen", "zopen")
				if len(configs["zopen"]) == 0 {
					t.Error("a topic without rights hides the settings of another")
				}
				return err
			}, []string{"sasl.user", "DESCRIBE_CONFIGS on topic seen"}},
			"create": {func() error { return c.CreateTopic(ctx, "new", 1, 1, nil) }, []string{"sasl.user", "CREATE on topic new or the cluster"}},
			"grow":   {func() error { return c.GrowTopic(ctx, "seen", 2) }, []string{"sasl.user", "ALTER on topic seen"}},
			"settings of a topic": {func() error {
				refused, err := c.AlterTopicConfigs(ctx, false, []broker.TopicChanges{{Topic: "seen", Changes: []broker.ConfigChange{{Name: "retention.ms", Value: "1"}}}})
				return errors.Join(err, refused["seen"])
			}, []string{"sasl.user", "ALTER_CONFIGS on topic seen"}},
			"read rules": {func() error { _, err := c.ACLs(ctx); return err }, []string{"sasl.user", "DESCRIBE on the cluster"}},
			"make rules": {func() error {
				refused, err := c.CreateACLs(ctx, []broker.ACL{rule})
				return errors.Join(err, refused[rule])
			}, []string{"sasl.user", "ALTER on the cluster"}},
			"delete rules": {func() error {
				refused, err := c.DeleteACLs(ctx, []broker.ACL{rule})
				return errors.Join(err, refused[rule])
			}, []string{"sasl.user", "ALTER on the cluster"}},
			"read quotas": {func() error { _, err := c.Quotas(ctx); return err }, []string{"sasl.user", "DESCRIBE_CONFIGS on the cluster"}},
			"set quotas": {func() error {
				refused, err := c.AlterQuotas(ctx, false, []broker.Quota{quota})
				return errors.Join(err, refused[quota.For()])
			}, []string{"sasl.user", "ALTER_CONFIGS on the cluster"}},
			"offsets": {func() error {
				_, err := c.ListOffsets(ctx, "hidden", 0, broker.Latest, false)
				return err
			}, []string{"DESCRIBE on topic hidden"}},
			"read": {func() error {
				f, err := c.FetchOnce(ctx, "seen", 0, 0, 1<<20, false)
				if err == nil {
					f.Release()
				}
				return err
			}, []string{"READ on topic seen"}},
			"read by the library": {func() error {
				return c.ReadRange(ctx, "seen", 0, 0, 1, false, func(broker.Record) error { return nil })
			}, []string{"READ on topic seen"}},
			"write": {func() error {
				conn, err := c.ProduceConn(ctx, b)
				if err != nil {
					return err
				}
				defer conn.Close()
				if err := conn.Send(ctx, []broker.ProduceBatch{{Topic: "seen", TopicID: seen.ID, Bytes: encode(t, 1, batch.Stamp{ProducerID: 1 << 62})}}); err != nil {
					return err
				}
				results, err := conn.Recv(ctx)
				if err != nil {
					return err
				}
				return results[0].Err
			}, []string{"WRITE on topic seen"}},
			"write by the library": {func() error {
				p, err := c.Producer(broker.ProducerOptions{})
				if err != nil {
					return err
				}
				defer p.Close()
				_, err = p.Produce(within(t, time.Minute), broker.Record{Topic: "seen", Value: []byte("v")})
				return err
			}, []string{"sasl.user", "WRITE on topic seen"}},
		} {
			err := tc.do()
			if err == nil || broker.Classify(err) != broker.Pause {
				t.Errorf("%s: %v is %v, want pause", name, err, broker.Classify(err))
				continue
			}
			for _, want := range append(tc.want, "cluster fake", "no right", "ACL", "AUTHORIZATION_FAILED") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: does not say %q: %v", name, want, err)
				}
			}
		}
	})
}
