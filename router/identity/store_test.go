package identity

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/isthmus-project/isthmus/broker"
)

// home is a kfake cluster in a bubble.
func home(t *testing.T, opts ...kfake.Opt) func() *broker.Cluster {
	t.Helper()
	var network kfake.VirtualNetwork
	fake, err := kfake.NewCluster(append([]kfake.Opt{kfake.ListenFn(network.Listen), kfake.Ports(9092, 9093, 9094), kfake.NumBrokers(3)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return func() *broker.Cluster {
		c, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:9092"}, Dial: network.DialContext}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
}

// namer gives unique texts.
func namer(prefix string) func() string {
	n := 0
	return func() string { n++; return fmt.Sprint(prefix, n) }
}

func open(t *testing.T, c *broker.Cluster, by string) *Store {
	t.Helper()
	s := NewStore(c, "shop", by, namer(by), nil)
	t.Cleanup(s.Close)
	return s
}

// TestStore_AtOnce: instances that start at once on an empty cluster agree on everything, and one that starts later finds the same.
func TestStore_AtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := home(t)
		var all []*Store
		var wg sync.WaitGroup
		for i := range 4 {
			s := open(t, cluster(), fmt.Sprint("node", i))
			all = append(all, s)
			wg.Go(func() {
				nodes := []int32{0, 1, 2}
				if i%2 == 1 {
					nodes = []int32{2, 1, 0} // another order, so that they want different slots
				}
				if err := s.Read(t.Context()); err != nil {
					t.Error(err)
				}
				if left, err := claim(t, s, fmt.Sprint("cluster", i), nodes, 3); err != nil || len(left) > 0 {
					t.Errorf("%v, %v", left, err)
				}
			})
		}
		wg.Wait()
		late := open(t, cluster(), "late")
		for _, s := range append(all, late) {
			if err := s.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := s.State(), all[0].State(); !reflect.DeepEqual(got, want) || len(got.Slots) != 3 || !got.KnownCluster {
				t.Errorf("%s reads %+v, the first %+v", s.by, got, want)
			}
		}
		for _, o := range late.State().Slots {
			if o.ID != o.Node {
				t.Errorf("broker %d is %d to clients", o.Node, o.ID)
			}
		}
	})
}

// TestStore_MoreBrokersThanSlots: who is left is said, the others keep theirs, and with more slots he gets one.
func TestStore_MoreBrokersThanSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, home(t)(), "eu-1")
		left, err := claim(t, s, "c", []int32{4, 5, 6}, 2)
		if err != nil || !reflect.DeepEqual(left, []int32{6}) {
			t.Fatalf("%v, %v", left, err)
		}
		if left, err = claim(t, s, "c", []int32{4, 5, 6}, 3); err != nil || len(left) > 0 {
			t.Fatalf("%v, %v", left, err)
		}
		if want := []Slot{{"", 0, 4, 4, 0}, {"", 1, 5, 5, 0}, {"", 2, 6, 6, 0}}; !reflect.DeepEqual(s.State().Slots, want) {
			t.Errorf("%v", s.State().Slots)
		}
	})
}

// TestStore_Blocks: no two instances ever have the same block.
func TestStore_Blocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := home(t)
		var mu sync.Mutex
		seen := map[int64]string{}
		var wg sync.WaitGroup
		for i := range 3 {
			s := open(t, cluster(), fmt.Sprint("node", i))
			wg.Go(func() {
				for range 5 {
					b, err := s.Block(t.Context())
					mu.Lock()
					if other, twice := seen[b]; err != nil || twice {
						t.Errorf("block %d of %s is %s's, %v", b, s.by, other, err)
					}
					seen[b] = s.by
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	})
}

// TestStore_WhatOthersWrote: a claim of a newer version stops the reader; garbage and other routers' claims do not.
func TestStore_WhatOthersWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := home(t)()
		s := open(t, c, "eu-1")
		if _, err := claim(t, s, "c", []int32{1}, 3); err != nil {
			t.Fatal(err)
		}
		write := func(key, value string) {
			t.Helper()
			if err := s.log.Append(t.Context(), broker.Record{Key: []byte(key), Value: []byte(value)}); err != nil {
				t.Fatal(err)
			}
		}
		write("shop/slot/x", "garbage")
		write("other/slot/x", `{"v":9}`)
		reader := open(t, c, "eu-2")
		if err := reader.Read(t.Context()); err != nil || len(reader.State().Slots) != 1 {
			t.Errorf("%+v, %v", reader.State(), err)
		}
		write("shop/slot/y", `{"v":4}`)
		for range 2 { // it does not pass by itself
			if err := reader.Read(t.Context()); !errors.Is(err, ErrVersion) {
				t.Errorf("a newer version: %v", err)
			}
		}
	})
}

// claim settles the cluster's id and slots of the rest.
func claim(t *testing.T, s *Store, cluster string, nodes []int32, count int) ([]int32, error) {
	t.Helper()
	if err := s.Cluster(t.Context(), cluster); err != nil {
		return nil, err
	}
	return s.Claim(t.Context(), "", 0, nodes, count)
}
