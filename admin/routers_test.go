package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func (n *fakeNode) Flush() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flushed++
}

func (n *fakeNode) Hurry(router string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hurried = append(n.hurried, router)
}

// Written tells of one topic.
func (n *fakeNode) Written(of *adminpb.Router) {
	of.Sets = append(of.Sets, &adminpb.RouterSet{Ends: []*adminpb.LogEnds{{Topic: n.name}}})
}

// Routers tells of one router on each node.
func (n *fakeNode) Routers(_ context.Context, router string) ([]*adminpb.Router, error) {
	if router != "" && router != "shop" {
		return nil, n.fails()
	}
	return []*adminpb.Router{{Name: "shop", Listen: n.name + ":9092", Ready: true}}, n.fails()
}

// RouterClients tells of a client of orders, one of payments and one of both, which moved as many bytes as the node's name says.
func (n *fakeNode) RouterClients(_ context.Context, router string) ([]*adminpb.RouterClient, error) {
	if router != "" && router != "shop" {
		return nil, n.fails()
	}
	bytes := int64(n.name[0])
	return []*adminpb.RouterClient{
		{Router: "shop", ClientId: "writer", Produces: []string{"orders"}, BytesIn: bytes},
		{Router: "shop", ClientId: "payer", Produces: []string{"payments"}, Fetches: []string{"payments"}, BytesIn: 1000 + bytes},
		{Router: "shop", ClientId: "auditor", Fetches: []string{"payments", "orders"}, BytesOut: 100 + bytes},
	}, n.fails()
}

func routersOf(all []*adminpb.Router) (out []string) {
	for _, r := range all {
		out = append(out, r.GetName()+" "+r.GetNode()+" "+r.GetListen())
	}
	return out
}

func clientsOf(all []*adminpb.RouterClient) (out []string) {
	for _, c := range all {
		out = append(out, c.GetClientId()+" "+c.GetNode())
	}
	return out
}

// TestRouters_AnyNodeAnswersForAll: each instance is as the node that runs it says, and who does not answer is named.
func TestRouters_AnyNodeAnswersForAll(t *testing.T) {
	town, nodes := fabric(t, nil, "b", "a", "c")
	c := town.client(t, "b", Login{})
	for _, name := range []string{"", "shop"} {
		res, err := c.Routers(t.Context(), name)
		if got := routersOf(res.GetRouters()); err != nil || !slices.Equal(got, []string{"shop a a:9092", "shop b b:9092", "shop c c:9092"}) || res.GetNode().GetName() != "b" {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	if _, err := c.Routers(t.Context(), "mars"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown router: %v, want ErrUnknown", err)
	}
	nodes["c"].mu.Lock()
	nodes["c"].broken = fmt.Errorf("it stops: %w", ErrNotReady)
	nodes["c"].mu.Unlock()
	res, err := c.Routers(t.Context(), "mars")
	if err != nil || len(res.GetRouters()) != 0 || len(res.GetUnanswered()) != 1 || res.GetUnanswered()[0].GetNode() != "c" {
		t.Errorf("a router that c may run: %v, %v", res, err)
	}
	clients, err := c.RouterClients(t.Context(), "", 0)
	if err != nil || clients.GetTotal() != 6 || len(clients.GetUnanswered()) != 1 || !strings.Contains(clients.GetUnanswered()[0].GetTrouble(), "it stops") {
		t.Errorf("%v, %v", clients, err)
	}
}

// TestRouterClients_TheBusiestFirst: of all nodes, up to the limit, and how many there are.
func TestRouterClients_TheBusiestFirst(t *testing.T) {
	town, _ := fabric(t, nil, "a", "b")
	c := town.client(t, "a", Login{})
	res, err := c.RouterClients(t.Context(), "shop", 0)
	if got := clientsOf(res.GetClients()); err != nil || res.GetTotal() != 6 || !slices.Equal(got, []string{"payer b", "payer a", "auditor b", "auditor a", "writer b", "writer a"}) {
		t.Errorf("%q of %d, %v", got, res.GetTotal(), err)
	}
	res, err = c.RouterClients(t.Context(), "", 3)
	if got := clientsOf(res.GetClients()); err != nil || res.GetTotal() != 6 || !slices.Equal(got, []string{"payer b", "payer a", "auditor b"}) {
		t.Errorf("three: %q of %d, %v", got, res.GetTotal(), err)
	}
	if res, err := c.RouterClients(t.Context(), "mars", 0); err != nil || res.GetTotal() != 0 {
		t.Errorf("of no router: %v, %v", res, err)
	}
	for _, limit := range []int32{-1, maxClients + 1} {
		if _, err := c.RouterClients(t.Context(), "", limit); err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

// TestRouterClients_OfOthersTopics: who is bound to topics sees clients of those, also behind busier ones, and nothing of other topics.
func TestRouterClients_OfOthersTopics(t *testing.T) {
	town, _ := fabric(t, func(_ string, c *Config) { c.Access = people(t) }, "a", "b")
	res, err := town.client(t, "a", Login{Token: tokenFor("viewer-orders")}).RouterClients(t.Context(), "", 1)
	if got := clientsOf(res.GetClients()); err != nil || res.GetTotal() != 4 || !slices.Equal(got, []string{"auditor b"}) || strings.Contains(fmt.Sprint(res), "pay") {
		t.Errorf("%v, %v", res, err)
	}
}

// TestAskRouters: a node that asks the others has their routers look at what was decided, and itself; nobody else can.
func TestAskRouters(t *testing.T) {
	town, nodes := newCity(), map[string]*fakeNode{"a": newFake("a"), "b": newFake("b")}
	nodes["a"].peers = []Peer{{Name: "b", Address: "b:1"}}
	keyed := func(c *Config) { c.Keys = func() [][]byte { return [][]byte{fabricKey} } }
	a := town.add(t, "a", nodes["a"], keyed)
	town.add(t, "b", nodes["b"], keyed)
	c := town.client(t, "b", Login{})
	if _, err := ask(t.Context(), c, c.api.Routers, &adminpb.RoutersRequest{Router: "shop", Look: true}); err != nil || len(nodes["b"].hurried) > 0 {
		t.Errorf("%v, %v", nodes["b"].hurried, err)
	}
	if res, err := ask(t.Context(), c, c.api.Routers, &adminpb.RoutersRequest{Router: "shop", Ends: true}); err != nil || len(res.GetRouters()[0].GetSets()) > 0 {
		t.Errorf("%v, %v", res, err)
	}
	if res, err := a.AskWritten(t.Context(), "shop"); err != nil || len(res.GetRouters()) != 2 || res.GetRouters()[1].GetSets()[0].GetEnds()[0].GetTopic() != "b" {
		t.Errorf("%v, %v", res, err)
	}
	got, err := a.AskRouters(t.Context(), "shop")
	if err != nil || len(got.GetRouters()) != 2 || len(nodes["a"].hurried) != 1 || len(nodes["b"].hurried) != 1 {
		t.Errorf("%v, %v; a %v, b %v", got.GetRouters(), err, nodes["a"].hurried, nodes["b"].hurried)
	}
	// Who only wants to know hurries nobody: links would leave the positions of groups alone for a while.
	if _, err := ask(t.Context(), c, c.api.Routers, &adminpb.RoutersRequest{Router: "shop", Flush: true}); err != nil || nodes["b"].flushed > 0 {
		t.Errorf("%v, %v", nodes["b"].flushed, err)
	}
	got, err = a.FlushRouters(t.Context(), "shop")
	if err != nil || len(got.GetRouters()) != 2 || nodes["a"].flushed != 1 || nodes["b"].flushed != 1 || len(nodes["a"].hurried) != 1 || len(nodes["b"].hurried) != 1 {
		t.Errorf("%v, %v; a %v, b %v", got.GetRouters(), err, nodes["a"].hurried, nodes["b"].hurried)
	}
}
