package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/router"
)

// Routers implements [admin.Node].
func (a *answers) Routers(_ context.Context, name string) (out []*adminpb.Router, err error) {
	for _, d := range a.node.Doors() {
		switch r := d.Router; {
		case name != "" && r.Name != name:
		case d.Serves == nil:
			out = append(out, &adminpb.Router{Name: r.Name, Node: r.Node, Listen: r.Listen, Home: r.Home, ProducerIds: -1, Troubles: []string{someLines(d.Trouble)}})
		default:
			out = append(out, routerStatus(d.Serves.Status()))
		}
	}
	return out, nil
}

// Written implements [admin.Node].
func (a *answers) Written(of *adminpb.Router) {
	for _, d := range a.node.Doors() {
		if d.Router.Name != of.GetName() || d.Serves == nil {
			continue
		}
		for _, s := range of.GetSets() {
			ends := d.Serves.Written(s.GetSet(), s.GetGeneration())
			for _, topic := range slices.Sorted(maps.Keys(ends)) {
				s.Ends = append(s.Ends, &adminpb.LogEnds{Topic: topic, Offsets: ends[topic]})
			}
		}
	}
}

func routerStatus(s router.Status) *adminpb.Router {
	out := &adminpb.Router{Name: s.Name, Node: s.Node, Listen: s.Listen, Home: s.Home, Ready: s.Ready, Heard: moment(s.Heard), Cluster: text([]byte(s.Cluster)),
		Connections: int64(s.Connections), Bootstrap: int64(s.Bootstrap), Opened: s.Opened, ProducerIds: int64(s.IDs)}
	for _, t := range s.Troubles {
		out.Troubles = append(out.Troubles, someLines(t))
	}
	for _, slot := range s.Slots {
		out.Slots = append(out.Slots, &adminpb.RouterSlot{Set: slot.Set, Index: int32(slot.Index), Id: slot.ID, Broker: slot.Broker, There: slot.There, Address: slot.Address,
			Instance: slot.Instance, Live: slot.Live, Connections: int64(slot.Connections)})
	}
	for _, at := range s.Sets {
		out.Sets = append(out.Sets, &adminpb.RouterSet{Set: at.Set, Home: at.Home, Generation: at.Generation, Phase: at.Phase.String(), Round: at.Round, Writes: int64(at.Writes),
			Held: at.Held, Leased: at.Leased, Trouble: someLines(at.Trouble)})
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
		out.Refused = append(out.Refused, &adminpb.RouterRefused{Reason: reason, Count: s.Refused[reason]})
	}
	return out
}

// RouterClients implements [admin.Node].
func (a *answers) RouterClients(_ context.Context, name string) (out []*adminpb.RouterClient, err error) {
	for _, r := range a.node.doors.routers() {
		if name != "" && r.Name() != name {
			continue
		}
		for _, c := range r.Clients() {
			out = append(out, routerClient(r.Name(), c))
		}
	}
	return out, nil
}

// routerClient is a connection in words that gRPC takes: what clients send may be no text.
func routerClient(name string, c router.ClientInfo) *adminpb.RouterClient {
	texts := func(all []string) (out []string) {
		for _, t := range all {
			out = append(out, text([]byte(t)))
		}
		return out
	}
	return &adminpb.RouterClient{Set: c.Set, Router: name, Address: c.Address, Slot: int32(c.Slot), Broker: c.Broker, ClientId: text([]byte(c.Who.ClientID)),
		Software: text([]byte(c.Who.Software)), SoftwareVersion: text([]byte(c.Who.Version)), Principal: text([]byte(c.Principal.Name)),
		Mechanism: text([]byte(c.Principal.Mechanism)), Subject: text([]byte(c.Subject)), Produces: texts(c.Who.Produces), Fetches: texts(c.Who.Fetches),
		MoreTopics: c.Who.More, BytesIn: c.In, BytesOut: c.Out, Requests: c.Requests, Pending: int32(c.Pending), Since: moment(c.Since),
		ThrottledSeconds: c.Throttled.Seconds()}
}

// Hurry implements [admin.Node].
func (a *answers) Hurry(router string) {
	for _, r := range a.node.doors.routers() {
		if r.Name() == router {
			r.Look()
		}
	}
	a.node.set.Flush()
	a.node.set.RestGroups(groupsRest)
}

// Flush implements [admin.Node].
func (a *answers) Flush() { a.node.set.Flush() }

// groupsRest is for how long links leave positions of groups alone after somebody has moved, or looked whether to move, a router: its coordinator asks all the time.
const groupsRest = 5 * time.Second
