package node

import (
	"context"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
)

// Homes implements [admin.Node].
func (a *answers) Homes(ctx context.Context, router string) (*admin.Homes, error) {
	topo := a.node.set.Topology()
	out := homesOf(topo, router)
	if len(out.Sets) == 0 {
		return out, nil
	}
	c, end, err := a.node.coordinator(topo, router)
	if err != nil {
		return nil, err
	}
	defer end()
	for i := range out.Sets {
		at := &out.Sets[i]
		if at.Home, at.Before, at.Generation, err = c.Home(ctx, at.Set); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// homesOf is what the file says of the homes of a router.
func homesOf(t *topology.Topology, router string) *admin.Homes {
	out := &admin.Homes{}
	for _, c := range t.Clusters {
		out.Clusters = append(out.Clusters, c.Name)
	}
	for _, r := range t.Routers {
		if r.Name != router {
			continue
		}
		out.Sets = append(out.Sets, admin.SetHome{Home: r.Home, Not: notHomes(t, router, "")})
		for _, s := range r.Sets {
			out.Sets = append(out.Sets, admin.SetHome{Set: s.Name, Home: s.Home, Not: notHomes(t, router, s.Name)})
		}
		break // its instances have the same
	}
	return out
}

// notHomes are the clusters that rules forbid a set as a home, and why.
func notHomes(t *topology.Topology, router, set string) map[string]string {
	not := make(map[string]string)
	for _, c := range t.Clusters {
		if err := t.MayBeHome(router, set, c.Name); err != nil {
			not[c.Name] = err.Error()
		}
	}
	return not
}

// Switch implements [admin.Node].
func (a *answers) Switch(ctx context.Context, req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
	return a.node.runSwitch(ctx, req, admin.Asker(ctx), tell)
}
