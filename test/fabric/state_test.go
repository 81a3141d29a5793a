package fabric

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// place is a place in a partition of a state topic.
type place struct {
	topic     [16]byte
	partition int32
	offset    int64
}

// readsOfState counts how often each place of the state topics is read from.
func readsOfState(t *testing.T, f *Fabric, name string) func() map[place]int {
	var topics kadm.TopicDetails
	admin(t, f, name, func(ctx context.Context, a *kadm.Client) (err error) {
		topics, err = a.ListTopicsWithInternal(ctx)
		return err
	})
	state := make(map[[16]byte]bool)
	for _, one := range topics {
		state[one.ID] = strings.HasPrefix(one.Topic, "__isthmus.")
	}
	var mu sync.Mutex
	reads := make(map[place]int)
	f.Clusters[name].ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.Clusters[name].KeepControl()
		mu.Lock()
		defer mu.Unlock()
		for _, topic := range req.(*kmsg.FetchRequest).Topics {
			for _, p := range topic.Partitions {
				if state[topic.TopicID] {
					reads[place{topic.TopicID, p.Partition, p.FetchOffset}]++
				}
			}
		}
		return nil, nil, false
	})
	return func() map[place]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(reads)
	}
}

// What a target holds of its links' state is read once by a node, and not by each of its links: with many of them that is most
// of what a node that starts, or takes over, waits for.
func TestState_OfATargetIsReadOnceForAllLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clusters, links := []string{"us"}, []string(nil)
		for _, from := range []string{"c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"} {
			clusters, links = append(clusters, from), append(links, from+">us")
		}
		f := New(t, Options{Clusters: clusters, Links: links, Topics: []string{"orders"}})
		defer f.Close()
		n := f.Start("n1")
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		n.Stop()
		reads := readsOfState(t, f, "us")
		n = f.Start("n2")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d places of the state topics were read from", len(reads()))
		if len(reads()) == 0 {
			t.Error("nothing of the state topics was read")
		}
		for at, times := range reads() {
			if times > 1 {
				t.Errorf("partition %d of a state topic was read %d times from offset %d", at.partition, times, at.offset)
			}
		}
	})
}

// Only what is not in the segment that is written to is compacted: with small ones who begins reads little. A cluster that does not
// let its clients choose gets the topics all the same.
func TestState_TopicsHaveSmallSegments(t *testing.T) {
	for _, refused := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, Options{Clusters: []string{"eu", "us"}, Links: []string{"eu>us"}, Topics: []string{"orders"}})
			defer f.Close()
			if refused {
				refuseSetting(f.Clusters["us"], "segment.bytes")
			}
			n := f.Start("n1")
			defer n.Stop()
			if err := CaughtUp(time.Minute, n); err != nil {
				t.Fatal(err)
			}
			var all kadm.ResourceConfigs
			admin(t, f, "us", func(ctx context.Context, a *kadm.Client) (err error) {
				all, err = a.DescribeTopicConfigs(ctx, "__isthmus.checkpoints")
				return err
			})
			for _, c := range all[0].Configs {
				small := c.MaybeValue() == "33554432"
				if c.Key == "segment.bytes" && small == refused || c.Key == "cleanup.policy" && c.MaybeValue() != "compact" {
					t.Errorf("refused %t: %s is %s", refused, c.Key, c.MaybeValue())
				}
			}
		})
	}
}

// refuseSetting makes a cluster refuse topics that come with a setting.
func refuseSetting(c *kfake.Cluster, key string) {
	c.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.CreateTopicsRequest)
		if !slices.ContainsFunc(r.Topics[0].Configs, func(one kmsg.CreateTopicsRequestTopicConfig) bool { return one.Name == key }) {
			return nil, nil, false
		}
		res := r.ResponseKind().(*kmsg.CreateTopicsResponse)
		one := kmsg.NewCreateTopicsResponseTopic()
		one.Topic, one.ErrorCode = r.Topics[0].Topic, kerr.PolicyViolation.Code
		res.Topics = append(res.Topics, one)
		return res, nil, true
	})
}
