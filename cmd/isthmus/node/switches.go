package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/coordinator"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/router/timeline"
	"github.com/isthmus-project/isthmus/router/vigil"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// askPatience bounds one question to all instances of a router: one that is silent must not keep the others waiting.
const askPatience = time.Second

// clock is that of the process.
var clock = generation.Clock()

// generationsOf is the store of a router's generations.
func generationsOf(topo *topology.Topology, router, self string, clusters *opened) (*generation.Store, error) {
	controls, err := clusters.list(topo.Controls())
	if err != nil {
		return nil, err
	}
	return generation.NewStore(controls, generation.Config{Router: router, Node: self, Unique: rand.Text, Now: clock}), nil
}

// asks is how all instances of a router are asked.
type asks func(ctx context.Context, router string) (*adminpb.RoutersResponse, error)

// coordinator makes the coordinator of a router. end closes what it has opened.
func (n *Node) coordinator(topo *topology.Topology, router string) (c *coordinator.Coordinator, end func(), err error) {
	return n.coordinatorBy(topo, router, n.server.AskRouters)
}

// coordinatorBy is coordinator, of one that asks the instances so.
func (n *Node) coordinatorBy(topo *topology.Topology, router string, ask asks) (c *coordinator.Coordinator, end func(), err error) {
	clusters := newOpened(topo, n.open)
	store, err := generationsOf(topo, router, n.doors.self, clusters)
	if err != nil {
		clusters.close()
		return nil, nil, err
	}
	end = func() {
		store.Close()
		clusters.close()
	}
	c, err = coordinator.New(topo, router, n.coordinates(topo, router, store, clusters.get, ask))
	if err != nil {
		end()
		return nil, nil, err
	}
	return c, end, nil
}

// coordinates is what a coordinator works with.
func (n *Node) coordinates(topo *topology.Topology, router string, store *generation.Store, cluster func(string) (*broker.Cluster, error), ask asks) coordinator.Deps {
	return coordinator.Deps{
		Store: store, Cluster: cluster, Mirror: func() arrival.Mirror { return copied{n.set.Look()} }, Unique: rand.Text, Now: clock, Log: n.log,
		Salted: func(id, generation int64) (int64, error) { return gate.Salted(topo, id, generation) },
		Instances: func(ctx context.Context, set string) ([]coordinator.Standing, []string) {
			return standings(ctx, topo, router, set, ask)
		},
		Dead: func(cluster string) vigil.Verdict { return n.dead(topo, cluster) },
		Written: func(ctx context.Context, set string, generation int64) (map[string][]int64, []string) {
			return n.written(ctx, topo, router, set, generation)
		},
	}
}

// dead is what the data centers say of a cluster, by what their nodes measure.
func (n *Node) dead(topo *topology.Topology, cluster string) vigil.Verdict {
	var all []vigil.Observer
	for _, m := range n.fabric.pool.View().Members {
		reach, measured := m.Report.Reach[cluster]
		if m.Status == gossip.Alive && measured && (reach.Reads || reach.Writes || reach.Trouble != "") { // else it is not measured yet
			all = append(all, vigil.Observer{DC: m.Report.DC, Lost: !reach.Reads && !reach.Writes})
		}
	}
	return vigil.Judge(topo.DCs(), all)
}

// written asks all instances of a router how far the logs of a set's home go by what it acknowledged. Those at another home than that of the generation say nothing of it.
func (n *Node) written(ctx context.Context, topo *topology.Topology, router, set string, generation int64) (ends map[string][]int64, silent []string) {
	ends = make(map[string][]int64)
	silent = askInstances(ctx, topo, router, set, n.server.AskWritten, func(_ string, s *adminpb.RouterSet) bool {
		if s.GetGeneration() != generation {
			return false
		}
		for _, t := range s.GetEnds() {
			ends[t.GetTopic()] = greatest(ends[t.GetTopic()], t.GetOffsets())
		}
		return true
	})
	return ends, silent
}

// greatest is the greater of two lists, one by one.
func greatest(a, b []int64) []int64 {
	if len(a) < len(b) {
		a, b = b, a
	}
	a = slices.Clone(a)
	for i, v := range b {
		a[i] = max(a[i], v)
	}
	return a
}

// instancesOf are the nodes that run a router.
func instancesOf(topo *topology.Topology, router string) (nodes []string) {
	for _, r := range topo.Routers {
		if r.Name == router {
			nodes = append(nodes, r.Node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// standings asks all instances of a router how they do in a set.
func standings(ctx context.Context, topo *topology.Topology, router, set string, ask asks) (all []coordinator.Standing, missing []string) {
	missing = askInstances(ctx, topo, router, set, ask, func(node string, s *adminpb.RouterSet) bool {
		all = append(all, coordinator.Standing{Node: node, Home: s.GetHome(), Generation: s.GetGeneration(), Round: s.GetRound(), Held: s.GetHeld(), Trouble: s.GetTrouble()})
		return true
	})
	return all, missing
}

// askInstances asks all instances of a router, and gives take what each says of a set. It returns those of which nothing was taken.
func askInstances(ctx context.Context, topo *topology.Topology, router, set string, ask asks, take func(node string, s *adminpb.RouterSet) bool) (silent []string) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	silent = instancesOf(topo, router)
	res, err := ask(ctx, router)
	if err != nil {
		return silent
	}
	for _, r := range res.GetRouters() {
		for _, s := range r.GetSets() {
			if s.GetSet() == set && take(r.GetNode(), s) {
				silent = slices.DeleteFunc(silent, func(node string) bool { return node == r.GetNode() })
			}
		}
	}
	return silent
}

// copied is what links have copied, as routers ask for it.
type copied struct{ look *mirror.Look }

// Runs implements [arrival.Runs].
func (c copied) Runs(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	all, err := c.look.Runs(ctx, from, at, topic, partition)
	return runsOf(all), err
}

// Copied implements [arrival.Runs].
func (c copied) Copied(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	all, err := c.look.Copied(ctx, from, at, topic, partition)
	return runsOf(all), err
}

// Producers implements [arrival.Runs].
func (c copied) Producers(ctx context.Context, from, at, topic string, partition int32) ([]gate.Producer, error) {
	all, err := c.look.Producers(ctx, from, at, topic, partition)
	out := make([]gate.Producer, len(all))
	for i, p := range all {
		out[i] = gate.Producer{ID: p.ID, Epoch: p.Epoch, Last: p.Last, Time: p.Time}
		for _, b := range p.Batches {
			out[i].Batches = append(out[i].Batches, gate.Written{Epoch: b.Epoch, First: b.First, Last: b.Last, Base: b.Target, Time: b.Time})
		}
	}
	return out, err
}

func runsOf(all []mirror.Run) []timeline.Run {
	out := make([]timeline.Run, len(all))
	for i, r := range all {
		out[i] = timeline.Run{From: r.Source, To: r.Target, Count: r.Records}
	}
	return out
}

// Reached implements [arrival.Mirror].
func (c copied) Reached(ctx context.Context, from, to, topic string, partition int32) (int64, error) {
	return c.look.Durable(ctx, from, to, topic, partition)
}

// kinds are those of switches.
var kinds = map[adminpb.SwitchKind]generation.Kind{
	adminpb.SwitchKind_SWITCH_KIND_PLANNED: generation.Planned, adminpb.SwitchKind_SWITCH_KIND_UNPLANNED: generation.Unplanned, adminpb.SwitchKind_SWITCH_KIND_BACK: generation.Back,
}

// runSwitch runs a switch, or only its checks.
func (n *Node) runSwitch(ctx context.Context, req *adminpb.SwitchRequest, asker string, tell func(*adminpb.SwitchProgress) error) error {
	topo := n.fabric.runs()
	if topo == nil {
		return errors.New("the running configuration is not known yet; try again")
	}
	c, end, err := n.coordinator(topo, req.GetRouter())
	if err != nil {
		return err
	}
	defer end()
	asked := strings.TrimSpace(asker + ": " + req.GetWhy())
	o, err := c.Order(ctx, req.GetSet(), req.GetTo(), kinds[req.GetKind()], asked[:min(len(asked), maxAsked)])
	if err != nil {
		return err
	}
	if req.GetDryRun() {
		return tell(&adminpb.SwitchProgress{To: o.To, From: o.From, Step: string(switchover.Preflight), Checks: checksOf(c.Checks(ctx, o))})
	}
	t := &teller{tell: tell, order: o}
	last, err := c.Run(ctx, o, t.step)
	if err != nil {
		return fmt.Errorf("switch router %s: %w", req.GetRouter(), err)
	}
	n.log.Info("a switch has ended", "router", req.GetRouter(), "set", req.GetSet(), "switch", o.Switch, "kind", string(o.Kind), "from", o.From, "to", o.To,
		"outcome", string(last.Outcome), "why", last.Why, "asked", o.Asked)
	return nil
}

// maxAsked bounds what is kept of who wanted a switch, and why.
const maxAsked = 255

// care ends what others have left open at a router of this node, until ctx ends.
func (n *Node) care(ctx context.Context, topo *topology.Topology, router string, store *generation.Store, cluster func(string) (*broker.Cluster, error)) error {
	c, err := coordinator.New(topo, router, n.coordinates(topo, router, store, cluster, n.server.AskRouters))
	if err != nil {
		return err
	}
	return c.Care(ctx, slices.Index(instancesOf(topo, router), n.doors.self))
}
