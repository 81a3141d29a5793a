package broker_test

import (
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/isthmus-project/isthmus/broker"
)

// TestCluster_AltersTopicConfigs: what is set is in effect, what is removed is the default again, a topic that is not there is
// refused by itself, and a dry run changes nothing.
func TestCluster_AltersTopicConfigs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startVirtual(t, kfake.SeedTopics(1, "a", "b")).open(t)
		retention := func(topic string) broker.Config {
			all, err := c.TopicConfigs(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			return all[topic]["retention.ms"]
		}
		before := retention("a")
		set := []broker.ConfigChange{{Name: "retention.ms", Value: "1234"}}
		if refused, err := c.AlterTopicConfigs(t.Context(), true, []broker.TopicChanges{{Topic: "a", Changes: set}}); err != nil || len(refused) > 0 {
			t.Fatal(err, refused)
		}
		if got := retention("a"); got != before {
			t.Errorf("after a dry run retention.ms is %v, before it was %v", got, before)
		}
		refused, err := c.AlterTopicConfigs(t.Context(), false, []broker.TopicChanges{{Topic: "gone", Changes: set}, {Topic: "a", Changes: set}})
		if err != nil || len(refused) != 1 || !errors.Is(refused["gone"], kerr.UnknownTopicOrPartition) {
			t.Errorf("%v, refused %v; want the topic that is gone refused alone", err, refused)
		}
		if got := retention("a"); got != (broker.Config{Value: "1234", Dynamic: true}) {
			t.Errorf("retention.ms is %v after it was set to 1234", got)
		}
		if refused, err := c.AlterTopicConfigs(t.Context(), false, []broker.TopicChanges{{Topic: "a", Changes: []broker.ConfigChange{{Name: "retention.ms", Remove: true}}}}); err != nil || len(refused) > 0 {
			t.Fatal(err, refused)
		}
		if got := retention("a"); got != before {
			t.Errorf("retention.ms is %v after it was removed, want the default %v", got, before)
		}
	})
}

// TestCluster_KeepsACLs: rules are made, told and deleted exactly; one that is there already, or is not there, is no error.
func TestCluster_KeepsACLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startVirtual(t).open(t)
		literal := broker.ACL{Resource: kmsg.ACLResourceTypeTopic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Name: "a", Principal: "User:u", Host: "*", Operation: kmsg.ACLOperationRead, Allow: true}
		prefixed, deny := literal, literal
		prefixed.Pattern, deny.Allow = kmsg.ACLResourcePatternTypePrefixed, false
		var many []broker.ACL
		for i := range 450 { // more than one request
			one := literal
			one.Host = string(rune('a'+i%26)) + string(rune('a'+i/26))
			many = append(many, one)
		}
		for range 2 {
			if refused, err := c.CreateACLs(t.Context(), append(many, literal, prefixed, deny)); err != nil || len(refused) > 0 {
				t.Fatal(err, refused)
			}
		}
		for range 2 {
			if refused, err := c.DeleteACLs(t.Context(), append(many, literal)); err != nil || len(refused) > 0 {
				t.Fatal(err, refused)
			}
		}
		got, err := c.ACLs(t.Context())
		if err != nil || len(got) != 2 || !slices.Contains(got, prefixed) || !slices.Contains(got, deny) {
			t.Errorf("%v, %v; want the prefixed rule and the one that forbids", got, err)
		}
		if a, b := prefixed.String(), deny.String(); a == b || a == literal.String() {
			t.Errorf("rules that differ are called %q and %q", a, b)
		}
	})
}

// TestCluster_KeepsQuotas: values are set and taken away one by one, also of the default entity.
func TestCluster_KeepsQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startVirtual(t).open(t)
		both := broker.Quota{Entity: []broker.QuotaPart{{Type: "client-id", Name: "default"}, {Type: "user", Name: "u v"}}, Values: map[string]float64{"producer_byte_rate": 1, "consumer_byte_rate": 2}}
		rest := broker.Quota{Entity: []broker.QuotaPart{{Type: "client-id", Default: true}}, Values: map[string]float64{"producer_byte_rate": 3}}
		if refused, err := c.AlterQuotas(t.Context(), false, []broker.Quota{both, rest}); err != nil || len(refused) > 0 {
			t.Fatal(err, refused)
		}
		gone := broker.Quota{Entity: both.Entity, Values: map[string]float64{"producer_byte_rate": math.NaN()}}
		if refused, err := c.AlterQuotas(t.Context(), false, []broker.Quota{gone}); err != nil || len(refused) > 0 {
			t.Fatal(err, refused)
		}
		got, err := c.Quotas(t.Context())
		if err != nil || len(got) != 2 {
			t.Fatal(got, err)
		}
		for i, want := range []string{`client-id "default", user "u v"`, "client-id default"} {
			if got[i].For() != want {
				t.Errorf("quota %d is for %s, want %s", i, got[i].For(), want)
			}
		}
		if v := got[0].Values; len(v) != 1 || v["consumer_byte_rate"] != 2 {
			t.Errorf("values %v, want the consumer's alone", v)
		}
	})
}

// TestCluster_OldBrokersHaveNoQuotas: they are named as such, not as a broken connection.
func TestCluster_OldBrokersHaveNoQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startVirtual(t, old(kversion.V2_2_0()), kfake.SeedTopics(1, "a")).open(t)
		if _, err := c.Quotas(within(t, time.Minute)); !errors.Is(err, broker.ErrUnsupported) {
			t.Errorf("quotas: %v", err)
		}
		change := []broker.TopicChanges{{Topic: "a", Changes: []broker.ConfigChange{{Name: "retention.ms", Value: "1"}}}}
		if _, err := c.AlterTopicConfigs(within(t, time.Minute), false, change); !errors.Is(err, broker.ErrUnsupported) {
			t.Errorf("settings: %v", err)
		}
	})
}
