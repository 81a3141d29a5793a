package fabric

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// pumps returns what a node's pumps of a topic are doing, over all its links.
func pumps(n *Node, topic string) (out []mirror.PumpStatus) {
	for _, l := range n.Set.Status() {
		for _, f := range l.Flows {
			if f.Topic == topic {
				out = append(out, f.Pumps...)
			}
		}
	}
	return out
}

// eventually waits for a condition in virtual time.
func eventually(t *testing.T, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", most, what)
		}
	}
}

// TestLink_OneTopicWithoutRights: missing rights on one topic, on either side,
// stop that topic by name; its neighbour flows, and it heals by itself.
func TestLink_OneTopicWithoutRights(t *testing.T) {
	for name, c := range map[string]struct {
		cluster string
		key     kmsg.Key
	}{
		"read at the source":      {"eu", kmsg.Fetch},
		"write at the target":     {"us", kmsg.Produce},
		"describe at the source":  {"eu", kmsg.DescribeConfigs},
		"create at the target":    {"us", kmsg.CreateTopics},
		"list offsets, at either": {"us", kmsg.ListOffsets},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"open", "secret"}, On: []string{"eu"}, Verbose: testing.Verbose()})
				defer f.Close()
				fault := kfake.Fault{Keys: []kmsg.Key{c.key}, Topic: "secret", Err: kerr.TopicAuthorizationFailed, Count: -1}
				if c.key == kmsg.DescribeConfigs {
					fault.Topic, fault.Resource = "", "secret"
				}
				denied := f.Clusters[c.cluster].Fault(fault)
				n := f.Start("n1")
				defer n.Stop()
				log := judge.NewLog()
				write(t, f, log, "eu",
					judge.Load{Topic: "open", Partitions: 2, Records: 500, Rate: 500, Size: 80, Seed: 1},
					judge.Load{Topic: "secret", Partitions: 2, Records: 500, Rate: 500, Size: 80, Seed: 2})
				eventually(t, 20*time.Second, "the open topic is copied", func() bool {
					ps := pumps(n, "open")
					return len(ps) == 2 && ps[0].LagRecords+ps[1].LagRecords == 0 && ps[0].SourceEnd+ps[1].SourceEnd == 500
				})
				if said := explain(n, "secret"); !strings.Contains(said, "TOPIC_AUTHORIZATION_FAILED") {
					t.Errorf("the status of the denied topic does not say why: %q", said)
				}
				denied.Remove()
				if err := CaughtUp(2*time.Minute, n); err != nil {
					t.Fatal(err)
				}
				verdict(t, f, judge.Case{Topics: []string{"open", "secret"}, Log: log})
			})
		})
	}
}

// explain is everything the status says about a topic.
func explain(n *Node, topic string) string {
	said := ""
	for _, l := range n.Set.Status() {
		for _, f := range l.Flows {
			if f.Topic == topic {
				said += f.Blocked
				for _, p := range f.Pumps {
					said += " " + p.Reason
				}
			}
		}
	}
	return said
}

// TestLink_BrokerErrorsPass: whatever a broker answers for a while, the copy is
// exact in the end. Two of the codes say that the records were written all the
// same.
func TestLink_BrokerErrorsPass(t *testing.T) {
	for _, c := range []struct {
		cluster string
		key     kmsg.Key
		err     *kerr.Error
	}{
		{"us", kmsg.Produce, kerr.NotEnoughReplicas},
		{"us", kmsg.Produce, kerr.NotEnoughReplicasAfterAppend},
		{"us", kmsg.Produce, kerr.RequestTimedOut},
		{"us", kmsg.Produce, kerr.NotLeaderForPartition},
		{"us", kmsg.Produce, kerr.OutOfOrderSequenceNumber},
		{"us", kmsg.Produce, kerr.UnknownProducerID},
		{"us", kmsg.Produce, kerr.InvalidProducerEpoch},
		{"us", kmsg.Produce, kerr.CorruptMessage},
		{"us", kmsg.Produce, kerr.UnknownServerError},
		{"eu", kmsg.Fetch, kerr.NotLeaderForPartition},
		{"eu", kmsg.Fetch, kerr.KafkaStorageError},
		{"eu", kmsg.Fetch, kerr.UnknownTopicID},
		{"eu", kmsg.Fetch, kerr.OffsetOutOfRange},
	} {
		t.Run(fmt.Sprintf("%s %s %s", c.cluster, c.key.Name(), c.err.Message), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, Verbose: testing.Verbose()})
				defer f.Close()
				n := f.Start("n1")
				defer n.Stop()
				log := judge.NewLog()
				done := make(chan struct{})
				go func() {
					defer close(done)
					write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 4000, Rate: 400, Size: 80})
				}()
				for range 12 {
					time.Sleep(700 * time.Millisecond)
					f.Clusters[c.cluster].Fault(kfake.Fault{Keys: []kmsg.Key{c.key}, Topic: "orders", Err: c.err, Count: 2})
				}
				<-done
				if err := CaughtUp(3*time.Minute, n); err != nil {
					t.Fatal(err)
				}
				verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
			})
		})
	}
}
