package node

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/topology"
)

// TestRouters_WithoutAny: a node that runs no routers says so.
func TestRouters_WithoutAny(t *testing.T) {
	a := &answers{node: &Node{doors: &doors{}}}
	if all, err := a.Routers(context.Background(), ""); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
	if all, err := a.RouterClients(context.Background(), ""); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestRouters_ThatDoNotServe: a router that cannot be begun is listed with its reason.
func TestRouters_ThatDoNotServe(t *testing.T) {
	a := &answers{node: &Node{doors: &doors{by: map[string]*door{"shop": {spec: doorSpec{Router: topology.Router{Name: "shop", Node: "eu-1"}}, trouble: "the port is taken"}}}}}
	all, err := a.Routers(context.Background(), "")
	if err != nil || len(all) != 1 || all[0].GetName() != "shop" || all[0].GetReady() || all[0].GetTroubles()[0] != "the port is taken" {
		t.Errorf("%v, %v", all, err)
	}
	if other, err := a.Routers(context.Background(), "other"); err != nil || len(other) > 0 {
		t.Errorf("%v, %v", other, err)
	}
}

// TestRouterClient_IsText: what a client sent may be no text, and is told all the same.
func TestRouterClient_IsText(t *testing.T) {
	bad := "a\xffb"
	m := routerClient("shop", router.ClientInfo{Address: "10.0.0.1:5", Slot: -1, Broker: -1, Since: time.Unix(1, 0), In: 1, Out: 2, Throttled: time.Second,
		Who:       relay.Who{ClientID: bad, Software: bad, Version: bad, Produces: []string{bad}, Fetches: []string{bad}, More: true},
		Principal: relay.Principal{Name: bad, Mechanism: bad}, Subject: bad})
	if _, err := proto.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if m.GetClientId() != "a\uFFFDb" || m.GetSlot() != -1 || m.GetBytesOut() != 2 || !m.GetMoreTopics() || m.GetThrottledSeconds() != 1 {
		t.Errorf("%v", m)
	}
}

// TestRouterStatus_IsWhole: nothing of a status gets lost.
func TestRouterStatus_IsWhole(t *testing.T) {
	m := routerStatus(router.Status{Name: "shop", Node: "eu-1", Listen: "0.0.0.0:9092", Home: "eu", Ready: true, Troubles: []string{"slots = \"9093\" are all taken"},
		Heard: time.Unix(5, 0), Cluster: "abc", Slots: []router.SlotStatus{{Set: "fast", Index: 1, ID: 2, Broker: 3, There: true, Address: "door:9094", Instance: "eu-2", Live: true, Connections: 4}},
		Connections: 5, Bootstrap: 6, Opened: 7, Refused: map[string]int64{"connections": 8, "address": 9}, IDs: -1,
		Sets: []router.Standing{{Set: "fast", Home: "eu", Generation: 2, Phase: hold.Held, Round: 3, Writes: 4, Held: true, Leased: true, Trouble: "bad"}}})
	fields := m.ProtoReflect()
	for i := range fields.Descriptor().Fields().Len() {
		if f := fields.Descriptor().Fields().Get(i); !fields.Has(f) {
			t.Errorf("%s is not told", f.Name())
		}
	}
	of := m.GetSets()[0].ProtoReflect()
	for i := range of.Descriptor().Fields().Len() {
		if f := of.Descriptor().Fields().Get(i); !of.Has(f) && f.Name() != "ends" { // which are told when they are asked for
			t.Errorf("%s of a set is not told", f.Name())
		}
	}
	if m.GetRefused()[0].GetReason() != "address" || m.GetProducerIds() != -1 {
		t.Errorf("%v", m)
	}
}
