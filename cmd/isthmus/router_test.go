package main

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// doors are two instances of one router and one of another, with every trouble.
func doors() *adminpb.RoutersResponse {
	slots := func(here int64) []*adminpb.RouterSlot {
		return []*adminpb.RouterSlot{
			{Index: 0, Id: 1, Broker: 1, There: true, Address: "kafka.example:9093", Instance: "eu-1", Live: true, Connections: here},
			{Index: 1, Id: 2, Broker: 2, Address: "kafka.example:9094", Instance: "eu-2", Live: true, Connections: 1},
			{Index: 2, Id: 3, Broker: 3, There: true, Address: "kafka.example:9095", Instance: "eu-3"},
		}
	}
	return &adminpb.RoutersResponse{Node: theNode(), Routers: []*adminpb.Router{
		{Name: "audit", Node: "us-1", Listen: "0.0.0.0:9092", Home: "us", Troubles: []string{"ask for metadata of cluster us: connection refused"},
			Refused: []*adminpb.RouterRefused{{Reason: "not_ready", Count: 17}}, ProducerIds: -1},
		{Name: "shop", Node: "eu-1", Listen: "0.0.0.0:9092", Home: "eu", Ready: true, Heard: ago(300 * time.Millisecond), Cluster: "Some-Cluster-Id", Slots: slots(40),
			Connections: 45, Bootstrap: 4, Opened: 1234, Refused: []*adminpb.RouterRefused{{Reason: "address", Count: 2}, {Reason: "connections", Count: 3}}, ProducerIds: 8000,
			Sets: []*adminpb.RouterSet{{Home: "eu", Phase: "serving", Leased: true},
				{Set: "fast", Home: "us", Generation: 3, Phase: "held", Round: 5, Held: true, Leased: true}}},
		{Name: "shop", Node: "eu-2", Listen: "0.0.0.0:9092", Home: "eu", Ready: true, Heard: ago(time.Minute), Cluster: "Some-Cluster-Id", Slots: slots(2),
			Troubles: []string{`slots = "9093-9095" are all taken, and brokers [4] of eu have none`}, Connections: 3, Opened: 3,
			Sets: []*adminpb.RouterSet{{Home: "eu", Phase: "serving", Trouble: "no majority of the control clusters answers"},
				{Set: "fast", Home: "us", Generation: 3, Phase: "draining", Round: 5, Writes: 17}}},
	}, Unanswered: []*adminpb.Unanswered{{Node: "us-2", Trouble: "dead for 4s"}}}
}

func guests() *adminpb.RouterClientsResponse {
	return &adminpb.RouterClientsResponse{Node: theNode(), Total: 1200, Clients: []*adminpb.RouterClient{
		{Router: "shop", Node: "eu-1", Address: "10.0.0.7:51234", Slot: 0, Broker: 1, ClientId: "checkout", Software: "apache-kafka-java", SoftwareVersion: "4.3.0",
			Principal: "anna", Mechanism: "SCRAM-SHA-256", Produces: []string{"orders", "payments"}, BytesIn: 123456789, BytesOut: 4567, Requests: 9000, Pending: 5,
			Since: ago(time.Hour), ThrottledSeconds: 1.5},
		{Router: "shop", Node: "eu-2", Address: "10.0.0.8:51235", Slot: -1, Broker: -1, ClientId: "evil\x1b[2J\tid", Subject: "CN=ben", Fetches: []string{"orders"}, Since: ago(time.Second)},
	}, Unanswered: []*adminpb.Unanswered{{Node: "us-2", Trouble: "dead for 4s"}}}
}

func TestRouter_Tables(t *testing.T) {
	f := serve(t)
	f.on("Routers", doors(), nil)
	f.on("RouterClients", guests(), nil)
	lines := f.session(t, "router status", "router status shop --json", "router clients", "router clients shop --limit 2 --json", "router status a b")
	if strings.Contains(lines, "\x1b") {
		t.Error("a client's id moves the cursor")
	}
	golden(t, "verb-router", lines)
	f.on("Routers", &adminpb.RoutersResponse{}, nil)
	f.on("RouterClients", &adminpb.RouterClientsResponse{Unanswered: []*adminpb.Unanswered{{Node: "us-2", Trouble: "dead for 4s"}}}, nil)
	golden(t, "verb-router-nothing", f.session(t, "router status", "router clients"))
}

// TestRouter_Completes: a shell is told the names of routers, each once.
func TestRouter_Completes(t *testing.T) {
	f := serve(t)
	f.on("Routers", doors(), nil)
	for _, verb := range []string{"status", "clients"} {
		code, out, _ := command(t.Context(), "__complete", "router", verb, "--addr", f.address, "")
		if want := "audit\nshop\n:4\n"; code != exitOK || out != want {
			t.Errorf("%s: exit %d, %q, want %q", verb, code, out, want)
		}
	}
}
