package sync

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
)

// Hand is a person at a cluster. What goes wrong ends the test.
type Hand struct {
	testing.TB
	*broker.Cluster
}

func (h Hand) must(refused int, err error) {
	h.Helper()
	if err != nil || refused > 0 {
		h.Fatalf("%v, %d refused", err, refused)
	}
}

// Set sets a setting of a topic; an empty value takes it away.
func (h Hand) Set(topic, name, value string) {
	h.Helper()
	changes := []broker.ConfigChange{{Name: name, Value: value, Remove: value == ""}}
	refused, err := h.AlterTopicConfigs(h.Context(), false, []broker.TopicChanges{{Topic: topic, Changes: changes}})
	h.must(len(refused), err)
}

// Allow makes rules.
func (h Hand) Allow(rules ...broker.ACL) {
	h.Helper()
	refused, err := h.CreateACLs(h.Context(), rules)
	h.must(len(refused), err)
}

// Forget takes rules away.
func (h Hand) Forget(rules ...broker.ACL) {
	h.Helper()
	refused, err := h.DeleteACLs(h.Context(), rules)
	h.must(len(refused), err)
}

// Quota sets values of a user's quota; NaN takes one away.
func (h Hand) Quota(user string, values map[string]float64) {
	h.Helper()
	refused, err := h.AlterQuotas(h.Context(), false, []broker.Quota{{Entity: []broker.QuotaPart{{Type: "user", Name: user}}, Values: values}})
	h.must(len(refused), err)
}

// Own are the settings of a topic that are set on it, without those that a copy has by its nature.
func (h Hand) Own(topic string) map[string]string {
	h.Helper()
	all, err := h.TopicConfigs(h.Context(), topic)
	if err != nil {
		h.Fatal(err)
	}
	out := make(map[string]string)
	for name, c := range all[topic] {
		if c.Dynamic && name != "compression.type" && name != "max.message.bytes" && !strings.HasPrefix(name, "message.timestamp.") {
			out[name] = c.Value
		}
	}
	return out
}

// Rules are all rules of the cluster.
func (h Hand) Rules() []broker.ACL {
	h.Helper()
	all, err := h.ACLs(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	return all
}

// QuotaValues are the values of all quotas, by entity and name.
func (h Hand) QuotaValues() map[string]float64 {
	h.Helper()
	all, err := h.Quotas(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	out := make(map[string]float64)
	for _, q := range all {
		for name, v := range q.Values {
			out[q.For()+" "+name] = v
		}
	}
	return out
}

// Reads is the rule that a user may read a topic.
func Reads(user, topic string) broker.ACL {
	return broker.ACL{Resource: kmsg.ACLResourceTypeTopic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Name: topic, Principal: "User:" + user, Host: "*",
		Operation: kmsg.ACLOperationRead, Allow: true}
}

// Same is an error unless both are equal.
func Same[K, V comparable](got, want map[K]V) error {
	if !maps.Equal(got, want) {
		return fmt.Errorf("%v, want %v", got, want)
	}
	return nil
}
