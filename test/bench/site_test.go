package bench

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
)

// site is one of the two clusters.
type site struct {
	name      string
	bootstrap string
	cluster   *broker.Cluster
	admin     *kadm.Client
}

func newSite(t *testing.T, name string, bootstrap []string) *site {
	t.Helper()
	c, err := broker.Open(broker.Profile{Name: name, Bootstrap: bootstrap}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &site{name: name, bootstrap: bootstrap[0], cluster: c, admin: kadm.NewClient(cl)}
}

// create creates the topic; one of that name may just have been deleted.
func (s *site) create(t *testing.T, topic string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := s.admin.CreateTopic(t.Context(), partitions, 1, nil, topic)
		if err == nil {
			return
		}
		if !errors.Is(err, kerr.TopicAlreadyExists) || time.Now().After(deadline) {
			t.Fatalf("create %s at %s: %v", topic, s.name, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// leader is the broker that leads the topic: there is one only. It waits until
// that broker knows of all partitions, which is a moment after the controller.
func (s *site) leader(t *testing.T, topic string, partitions int) broker.Broker {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		m, err := s.cluster.Metadata(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		ends, err := s.admin.ListEndOffsets(t.Context(), topic)
		if err != nil || ends.Error() != nil || len(ends[topic]) != partitions || len(m.Topics[topic].Partitions) != partitions {
			continue
		}
		return m.Brokers[m.Topics[topic].Partitions[0].Leader]
	}
	t.Fatalf("%s has no leaders at %s", topic, s.name)
	return broker.Broker{}
}

// records is the sum of the end offsets of the topic; 0 while there is none.
func (s *site) records(t *testing.T, topic string) (n int64) {
	ends, err := s.admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		return 0
	}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			n += o.Offset
		}
	})
	return n
}

// remove deletes the topics of these names, and those that begin so where the
// name ends in a star.
func (s *site) remove(t *testing.T, names ...string) {
	t.Helper()
	all, err := s.admin.ListTopicsWithInternal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var gone []string
	for _, topic := range all.Names() {
		for _, n := range names {
			if prefix, star := strings.CutSuffix(n, "*"); topic == n || star && strings.HasPrefix(topic, prefix) {
				gone = append(gone, topic)
			}
		}
	}
	if len(gone) == 0 {
		return
	}
	answers, err := s.admin.DeleteTopics(t.Context(), gone...)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		t.Fatalf("delete %v at %s: %v", gone, s.name, err)
	}
}
