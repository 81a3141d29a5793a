package broker_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
)

// described has a kfake cluster answer of each partition that asked says, as brokers do: a producer whose id is the partition's number.
func described(t *testing.T, v virtual, asked func(topic string, p int32) (code int16)) *requests {
	t.Helper()
	r := &requests{}
	v.fake.ControlKey(int16(kmsg.DescribeProducers), func(req kmsg.Request) (kmsg.Response, error, bool) {
		v.fake.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
		n := 0
		for _, t := range req.(*kmsg.DescribeProducersRequest).Topics {
			rt := kmsg.NewDescribeProducersResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDescribeProducersResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, asked(t.Topic, p)
				a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				a.ProducerID, a.ProducerEpoch, a.LastSequence, a.LastTimestamp = int64(p), 3, 7, 1000
				rp.ActiveProducers = append(rp.ActiveProducers, a)
				rt.Partitions = append(rt.Partitions, rp)
				n++
			}
			resp.Topics = append(resp.Topics, rt)
		}
		r.note(n)
		return resp, nil, true
	})
	return r
}

// requests is how many partitions each request was about.
type requests struct {
	mu  sync.Mutex
	all []int
}

func (r *requests) note(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, n)
}

// Many partitions of two leaders: few requests, all answered, again where a leader had moved.
func TestCluster_ProducersOfManyPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(1300, "orders"), kfake.SeedTopics(3, "late"))
		moved := map[int32]bool{}
		var mu sync.Mutex
		r := described(t, v, func(topic string, p int32) int16 {
			mu.Lock()
			defer mu.Unlock()
			if topic == "late" && p < 2 && !moved[p] {
				moved[p] = true
				return kerr.NotLeaderForPartition.Code
			}
			return 0
		})
		all := make([]int32, 1300)
		for i := range all {
			all[i] = int32(i)
		}
		got, err := v.open(t).ProducersOf(t.Context(), map[string][]int32{"orders": all, "late": {0, 1, 2, 7}, "none": {0}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got["orders"]) != len(all) || got["none"] != nil || !slices.Equal(slices.Sorted(maps.Keys(got["late"])), []int32{0, 1, 2}) {
			t.Errorf("%d of %d partitions, of the others %v and %v", len(got["orders"]), len(all), got["late"], got["none"])
		}
		for topic, ps := range got {
			for p, states := range ps {
				if want := (broker.ProducerState{ID: int64(p), Epoch: 3, LastSequence: 7, LastTimestamp: 1000}); len(states) != 1 || states[0] != want {
					t.Fatalf("%s:%d: %+v", topic, p, states)
				}
			}
		}
		if n := slices.Max(r.all); n > 500 || len(r.all) > 8 {
			t.Errorf("requests of %v partitions", r.all)
		}
	})
}

func TestCluster_ProducersOfSaysWhatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		code int16
		want string
	}{
		"a right":        {kerr.TopicAuthorizationFailed.Code, "no right READ on topic orders"},
		"a leader gone":  {kerr.NotLeaderForPartition.Code, "orders:3"},
		"something else": {kerr.UnknownServerError.Code, "orders:3"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t, kfake.SeedTopics(40, "orders"))
				described(t, v, func(_ string, p int32) int16 {
					if p < 3 {
						return 0
					}
					return c.code
				})
				all := make([]int32, 40)
				for i := range all {
					all[i] = int32(i)
				}
				began := time.Now()
				_, err := v.open(t).ProducersOf(t.Context(), map[string][]int32{"orders": all})
				if !errors.Is(err, kerr.ErrorForCode(c.code)) || !strings.Contains(fmt.Sprint(err), c.want) || !strings.Contains(fmt.Sprint(err), "and 29 other partitions") {
					t.Errorf("%v", err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// A broker that takes the request and says nothing is not waited for longer than any leader is.
func TestCluster_ProducersOfASilentBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.Ports(9092), kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
		v.fake.ControlKey(int16(kmsg.DescribeProducers), func(kmsg.Request) (kmsg.Response, error, bool) {
			v.fake.KeepControl()
			v.fake.SleepControl(func() { time.Sleep(time.Minute) })
			return nil, nil, false
		})
		c := v.open(t)
		began := time.Now()
		_, err := c.ProducersOf(t.Context(), map[string][]int32{"orders": {0}})
		if took := time.Since(began); err == nil || took > 15*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		time.Sleep(2 * time.Minute)
	})
}
