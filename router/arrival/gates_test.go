package arrival

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/topology"
)

// saltedIn is gate.Salted, as a router has it, and the id of one of its clients.
func saltedIn(t *testing.T, generation int64) (salted func(int64) (int64, error), id func(counter uint32, in int64) int64) {
	t.Helper()
	topo, err := topology.Parse("test.toml", []byte("[fabric]\nname = \"test\"\n[[cluster]]\nname = \"a\"\nbootstrap = [\"127.0.0.1:1\"]\n[[cluster]]\nname = \"b\"\nbootstrap = [\"127.0.0.1:2\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return func(id int64) (int64, error) { return gate.Salted(topo, id, generation) },
		func(counter uint32, in int64) int64 { return topo.RouterClientID("r", counter, uint16(gate.Salt(in))) }
}

func TestKnown_TheNewestOfEachClientCounts(t *testing.T) {
	salted, id := saltedIn(t, 4)
	state := func(id int64, last int32) broker.ProducerState {
		return broker.ProducerState{ID: id, Epoch: 2, LastSequence: last, LastTimestamp: int64(1000 + last)}
	}
	in := func(states ...broker.ProducerState) map[string]map[int32][]broker.ProducerState {
		return map[string]map[int32][]broker.ProducerState{"t": {3: states}}
	}
	sure := func(counter uint32, last int32) gate.Producer {
		return gate.Producer{ID: id(counter, 0), Epoch: 2, Last: last, Time: int64(1000 + last)}
	}
	unsure := func(counter uint32, last int32) gate.Producer {
		p := sure(counter, last)
		p.Unsure = true
		return p
	}
	homes := []string{"a", "b", "a", "b"}
	for name, c := range map[string]struct {
		found states
		want  []gate.Producer
	}{
		"of the generation that ended":      {states{"b": in(state(id(7, 3), 41))}, []gate.Producer{sure(7, 41)}},
		"in the order of ids":               {states{"b": in(state(id(9, 3), 1), state(id(8, 3), 2))}, []gate.Producer{sure(8, 2), sure(9, 1)}},
		"it was silent in that":             {states{"b": in(state(id(7, 1), 41))}, []gate.Producer{unsure(7, 41)}},
		"the newer of one cluster's":        {states{"b": in(state(id(7, 3), 50), state(id(7, 1), 60))}, []gate.Producer{sure(7, 50)}},
		"the newer of two clusters'":        {states{"b": in(state(id(7, 1), 41)), "a": in(state(id(7, 2), 44), state(id(7, 0), 12))}, []gate.Producer{unsure(7, 44)}},
		"a salt of another cluster's times": {states{"b": in(state(id(7, 2), 41), state(id(7, 4), 41))}, nil},
		"other producers":                   {states{"b": in(state(4711, 5), state(-1, 5), state(id(7, 3)|math.MinInt64, 5))}, nil},
		"no sequence yet":                   {states{"b": in(state(id(7, 3), -1))}, []gate.Producer{sure(7, -1)}},
		"what cannot be":                    {states{"b": in(state(id(7, 3), -2), broker.ProducerState{ID: id(8, 3), Epoch: -1})}, nil},
	} {
		got := known(homes, c.found, salted)
		if c.want == nil && len(got) == 0 {
			continue
		}
		if len(got) != 1 || got[0].Topic != "t" || got[0].Partition != 3 || !reflect.DeepEqual(got[0].Producers, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if _, err := gate.NewBook(time.Unix(1, 0), got, salted); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// clusterOf opens a kfake cluster of that name which remembers producers.
func clusterOf(t *testing.T, net *kfake.VirtualNetwork, name string, port int, remembers func(p int32) []broker.ProducerState, code int16) *broker.Cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.ListenFn(net.Listen), kfake.Ports(port), kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	fake.ControlKey(int16(kmsg.DescribeProducers), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
		for _, t := range req.(*kmsg.DescribeProducersRequest).Topics {
			rt := kmsg.NewDescribeProducersResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDescribeProducersResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, code
				for _, s := range remembers(p) {
					a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					a.ProducerID, a.ProducerEpoch, a.LastSequence, a.LastTimestamp = s.ID, int32(s.Epoch), s.LastSequence, s.LastTimestamp
					rp.ActiveProducers = append(rp.ActiveProducers, a)
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	c, err := broker.Open(broker.Profile{Name: name, Bootstrap: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Dial: net.DialContext}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// The home that is left knows a producer up to sequence 41 of partition 0: what follows goes on, what was written is answered, a gap closes. Who was silent
// there is known by the home before.
func TestBuild_GatesProducersOfTheHomeThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		salted, id := saltedIn(t, 2)
		net := &kfake.VirtualNetwork{}
		left := clusterOf(t, net, "b", 9010, func(p int32) []broker.ProducerState {
			return []broker.ProducerState{{ID: id(7, 1), LastSequence: 41 + p}, {ID: 4711, LastSequence: 3}}
		}, 0)
		before := clusterOf(t, net, "a", 9020, func(int32) []broker.ProducerState { return []broker.ProducerState{{ID: id(8, 0), LastSequence: 5}} }, 0)
		r := request([]any{cut("t", [3]int64{10, 1000, 10}, [3]int64{4, 50, 4}), cut("t", [3]int64{20, 10, 1010}, [3]int64{4, 4, 50})}, "planned b", "back a")
		r.Left, r.Salted = left, salted
		decides := func(b *gate.Book, p int32, counter uint32, first int32) gate.Reason {
			return b.Batch("t", p, uint64(counter), gate.Batch{ID: id(counter, 0), First: first, Records: 1}).Reason
		}
		a, err := Build(t.Context(), r, told{"b a": nil})
		if err != nil {
			t.Fatal(err)
		}
		for first, want := range map[int32]gate.Reason{41: gate.Old, 43: gate.Gap} {
			if got := decides(a.Producers, 0, 7, first); got != want {
				t.Errorf("sequence %d: %v, want %v", first, got, want)
			}
		}
		if got := decides(a.Producers, 1, 7, 43); got != gate.Follows {
			t.Errorf("in the other partition 43 is next: %v", got)
		}
		if got := decides(a.Producers, 0, 8, 5); got != gate.Unknown {
			t.Errorf("nobody was asked who knows it: %v", got)
		}
		if got, ok := a.Producers.Salted(id(7, 0)); !ok || got != id(7, 2) {
			t.Errorf("the home sees %x, %t", got, ok)
		}
		r.Earlier = []*broker.Cluster{before, left}
		if a, err = Build(t.Context(), r, told{"b a": nil}); err != nil {
			t.Fatal(err)
		}
		if got := decides(a.Producers, 0, 8, 5); got != gate.Old {
			t.Errorf("it was written at the home before: %v", got)
		}
		r.Earlier = []*broker.Cluster{clusterOf(t, net, "a", 9030, func(int32) []broker.ProducerState { return nil }, kerr.NotLeaderForPartition.Code)}
		began := time.Now()
		if _, err = Build(t.Context(), r, told{"b a": nil}); err != nil || time.Since(began) > 3*time.Second {
			t.Errorf("a home before that does not answer: %v after %v", err, time.Since(began))
		}
		r.Left = clusterOf(t, net, "b", 9040, func(int32) []broker.ProducerState { return nil }, kerr.TopicAuthorizationFailed.Code)
		if _, err = Build(t.Context(), r, told{"b a": nil}); !errors.Is(err, kerr.TopicAuthorizationFailed) || !strings.Contains(fmt.Sprint(err), "READ") {
			t.Errorf("a right is missing: %v", err)
		}
		r.Left = before
		if _, err = Build(t.Context(), r, told{"b a": nil}); err == nil || !strings.Contains(err.Error(), "the home that is left is b") {
			t.Errorf("another cluster: %v", err)
		}
		r.Left = nil
		if a, err = Build(t.Context(), r, told{"b a": nil}); err != nil || decides(a.Producers, 0, 7, 43) != gate.Unknown || !a.Producers.Open(r.Now) {
			t.Errorf("nobody is asked: %v", err)
		}
		if got, ok := a.Producers.Salted(id(7, 0)); !ok || got != id(7, 2) {
			t.Errorf("the home sees %x, %t", got, ok)
		}
	})
}

// brought is a mirror that knows what it has copied of clients' producers.
type brought struct {
	told
	producers []gate.Producer
}

func (b brought) Producers(_ context.Context, from, at, _ string, p int32) ([]gate.Producer, error) {
	if from != "a" || at != "b" || p != 0 {
		return nil, nil
	}
	return b.producers, nil
}

// The home is lost. What the mirror had brought is answered with its offset when it comes again, what follows goes on, and a gap is closed at first: the batches between may come yet, or be
// in the tail. What cannot be does not stand in the way.
func TestBuild_GatesProducersOfALostHome(t *testing.T) {
	salted, id := saltedIn(t, 1)
	c := cut("t", [3]int64{1000, 1060, 60})
	c[0].Had = []generation.Had{{End: 60, From: 1060}}
	r := request([]any{c}, "unplanned b")
	r.Along, r.Salted = true, salted
	runs := brought{told{"only a b": {{From: 0, To: 1000, Count: 60}}}, []gate.Producer{
		{ID: id(7, 0), Last: 41, Batches: []gate.Written{{First: 30, Last: 35, Base: 1048}, {First: 36, Last: 41, Base: 1054}}},
		{ID: id(8, 0), Last: 5, Batches: []gate.Written{{First: 30, Last: 35, Base: 1001}}},
		{ID: id(9, 3), Last: 5}, {ID: 4711, Last: 3},
	}}
	a, err := Build(t.Context(), r, runs)
	if err != nil {
		t.Fatal(err)
	}
	decides := func(counter uint32, first, records int32) gate.Decision {
		return a.Producers.Batch("t", 0, uint64(counter), gate.Batch{ID: id(counter, 0), First: first, Records: records})
	}
	if d := decides(7, 36, 6); d.Reason != gate.Repeated || d.Base != 54 {
		t.Errorf("brought: %+v", d)
	}
	if d := decides(7, 43, 1); d.Reason != gate.Gap {
		t.Errorf("a gap: %+v", d)
	}
	for range 3 {
		decides(7, 43, 1)
	}
	if d := decides(7, 43, 1); d.Reason != gate.LostTail {
		t.Errorf("a gap that stays: %+v", d)
	}
	for counter, want := range map[uint32]gate.Reason{8: gate.Follows, 9: gate.Unknown} {
		if d := decides(counter, 6, 1); d.Reason != want {
			t.Errorf("producer %d: %+v, want %v", counter, d, want)
		}
	}
	r.Along = false // an instance that comes later: its clients have been elsewhere meanwhile
	if a, err = Build(t.Context(), r, runs); err != nil || decides(7, 43, 1).Reason != gate.Unknown {
		t.Errorf("nobody is taken along: %v", err)
	}
}
