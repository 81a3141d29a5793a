package fabric

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// forgetful makes a cluster one that stores no producer ids, and so enforces no
// sequences either: a double of the implementations that the probe is for.
func forgetful(c *kfake.Cluster) {
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		for _, t := range req.(*kmsg.ProduceRequest).Topics {
			if strings.HasPrefix(t.Topic, "__isthmus.") && t.Topic != "__isthmus.probe" {
				continue // of the state's own producer, which is not what is tried here
			}
			for _, p := range t.Partitions {
				if len(p.Records) >= batch.HeaderSize {
					batch.Patch(p.Records, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
				}
			}
		}
		return nil, nil, false
	})
}

func guarantee(n *Node) (mirror.Guarantee, string) {
	st := n.Set.Status()[0]
	return st.Guarantee, st.GuaranteeWhy
}

func TestProbe_KfakeKeepsTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}})
		defer f.Close()
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		if g, why := guarantee(n); g != mirror.GuaranteeExactlyOnce || why != "" {
			t.Errorf("the link promises %s (%s)", g, why)
		}
	})
}

// A target that drops producer ids: the link says that it is at-least-once, loses
// nothing across a crash, and what is doubled is all that is wrong.
func TestProbe_TargetWithoutTheLockIsAtLeastOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}, On: []string{"eu"}})
		defer f.Close()
		forgetful(f.Clusters["us"])
		log := judge.NewLog()
		ctx := context.Background()
		write := func(seed uint64) {
			if err := judge.Write(ctx, f.Client("eu"), judge.Load{Topic: "orders", Partitions: 2, Records: 500, Rate: 200, Size: 50, Compression: "none", Seed: seed}, log); err != nil {
				t.Fatal(err)
			}
		}
		n := f.Start("n1")
		write(1)
		n.Kill()
		n = f.Start("n2")
		defer func() { n.Stop() }()
		write(2)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		if g, why := guarantee(n); g != mirror.GuaranteeAtLeastOnce || !strings.Contains(why, "does not keep the producer ids") || !strings.Contains(why, "repeated batch") {
			t.Errorf("the link promises %s (%s)", g, why)
		}
		v, err := judge.Case{Topics: []string{"orders"}, Clusters: f.Clients(), Log: log, Targets: []string{"us"},
			Carries: func(target, origin, _ string) bool { return target == "us" && origin == "eu" }}.Check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if lost := v.Reports["us"].Count(checker.Lost) + v.Reports["us"].Pending; lost > 0 {
			t.Errorf("%d records are not on a target that was promised each at least once:\n%s", lost, v)
		}
	})
}

// Without provenance there is no loop filter: such a target may not be in a cycle
// of same-name links.
func TestProbe_TargetWithoutTheLockIsRefusedInACycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us", "us>eu"}, Topics: []string{"orders"}})
		defer f.Close()
		forgetful(f.Clusters["us"])
		n := f.Start("n1")
		defer n.Stop()
		time.Sleep(10 * time.Second)
		for _, st := range n.Set.Status() {
			blocked := len(st.Flows) > 0 && strings.HasPrefix(st.Flows[0].Blocked, "no-loop-filter: ")
			if want := st.To == "us"; blocked != want {
				t.Errorf("%s: blocked %v, want %v: %+v", st.Name, blocked, want, st.Flows)
			}
		}
	})
}

// probeOf is whether a request writes to the scratch topic under a producer id.
func probeOf(req kmsg.Request) bool {
	r, ok := req.(*kmsg.ProduceRequest)
	if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return false
	}
	h, err := batch.ParseHeader(r.Topics[0].Partitions[0].Records)
	return err == nil && h.ProducerID&(1<<62|7<<56) == 1<<62|7<<56 && h.ProducerID > 0
}

// What passes is probed again; what stays until somebody acts is said.
func TestProbe_IsRepeatedForWhatPasses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault kfake.Fault
		want  mirror.Guarantee
		says  string
	}{
		{"too few replicas", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: 4}, mirror.GuaranteeExactlyOnce, ""},
		{"the leader has not heard of the topic", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownTopicOrPartition, Count: 4}, mirror.GuaranteeExactlyOnce, ""},
		{"the same, of batches with an id", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownTopicOrPartition, Count: 4, When: probeOf}, mirror.GuaranteeExactlyOnce, ""},
		{"the topic is made anew", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownTopicID, Count: 4, When: probeOf}, mirror.GuaranteeExactlyOnce, ""},
		{"no right to write", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: 4}, mirror.GuaranteeUnproven, "Give the user "},
		{"no right to make it", kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.TopicAuthorizationFailed, Count: 4}, mirror.GuaranteeUnproven, "Give the user "},
		{"against a policy", kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.PolicyViolation, Count: 4}, mirror.GuaranteeUnproven, "Make topic __isthmus.probe "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}})
				defer f.Close()
				us := f.Clusters["us"]
				tc.fault.Topic = "__isthmus.probe"
				fault := us.Fault(tc.fault)
				n := f.Start("n1")
				defer n.Stop()
				if err := CaughtUp(2*time.Minute, n); err != nil {
					t.Fatal(err)
				}
				if g, why := guarantee(n); g != tc.want || !strings.Contains(why, tc.says) || fault.Hits() == 0 {
					t.Errorf("after %d refusals the link promises %s (%s), want %s", fault.Hits(), g, why, tc.want)
				}
			})
		})
	}
}

// A target that refuses our ids says so also where retention has moved the start of the scratch topic's log.
func TestProbe_TargetThatRefusesIDsIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}})
		defer f.Close()
		createTopic(t, f, "us", "__isthmus.probe", 1, nil)
		write(t, f, judge.NewLog(), "us", judge.Load{Topic: "__isthmus.probe", Partitions: 1, Records: 10, Size: 20})
		admin(t, f, "us", func(ctx context.Context, a *kadm.Client) error {
			var to kadm.Offsets
			to.AddOffset("__isthmus.probe", 0, 10, -1)
			_, err := a.DeleteRecords(ctx, to)
			return err
		})
		f.Clusters["us"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "__isthmus.probe", Err: kerr.InvalidProducerIDMapping, Count: -1, When: probeOf})
		n := f.Start("n1")
		defer n.Stop()
		eventually(t, 20*time.Second, "the topic is blocked", func() bool {
			st := n.Set.Status()[0]
			return len(st.Flows) > 0 && strings.HasPrefix(st.Flows[0].Blocked, "refuses-ids: ")
		})
	})
}
