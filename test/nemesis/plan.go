package nemesis

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is what a step does.
type Kind string

// The kinds of steps. Those that last are undone by themselves.
const (
	Kill     Kind = "kill"     // kill -9 of a node, which comes back
	Stop     Kind = "stop"     // a node ends in good order, and comes back
	Freeze   Kind = "freeze"   // a node's clock and network stand still, and go on
	Cut      Kind = "cut"      // between a node and a cluster: connections break, and none can be made
	Deaf     Kind = "deaf"     // the node hears nothing of the cluster
	Mute     Kind = "mute"     // the cluster hears nothing of the node
	Slow     Kind = "slow"     // delays of N ms, and few bytes a second
	Reset    Kind = "reset"    // connections break once
	Fault    Kind = "fault"    // a cluster answers the next N requests of a kind with an error
	Leader   Kind = "leader"   // a partition gets another leader
	Delete   Kind = "delete"   // the first N percent of a partition are deleted
	Recreate Kind = "recreate" // a topic is deleted and made anew, after a while
	Grow     Kind = "grow"     // a topic gets N more partitions
	Pause    Kind = "pause"    // a topic, or one partition of it if N is odd, is paused on all links
	Retry    Kind = "retry"    // a node is told to try now
	Policy   Kind = "policy"   // a policy of all links is another one from now on
	Anchor   Kind = "anchor"   // a partition of a link goes on at N percent of its source's log; over 100: only what that would do is asked for
	Rate     Kind = "rate"     // every link may copy N bytes a second only
	Clock    Kind = "clock"    // a node's clock is N minutes off
	Move     Kind = "move"     // partitions get other owners, and nodes hear of it one after the other
	Post     Kind = "post"     // N percent of what nodes tell each other is lost
)

// Step is one thing that happens.
type Step struct {
	At, For time.Duration
	Kind    Kind
	Node    int
	Cluster string
	Topic   string
	Part    int32
	N       int
	What    string // of a Fault: the request, and the error; of a Policy: its line; of an Anchor: the link
}

// String is one line.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%8.1fs %-8s", s.At.Seconds(), s.Kind)
	if s.Node >= 0 {
		fmt.Fprintf(&b, " n%d", s.Node)
	}
	if s.Cluster != "" {
		fmt.Fprintf(&b, " %s", s.Cluster)
	}
	if s.Topic != "" {
		fmt.Fprintf(&b, " %s:%d", s.Topic, s.Part)
	}
	if s.N != 0 {
		fmt.Fprintf(&b, " %d", s.N)
	}
	if s.What != "" {
		fmt.Fprintf(&b, " %s", s.What)
	}
	if s.For > 0 {
		fmt.Fprintf(&b, " for %.1fs", s.For.Seconds())
	}
	return b.String()
}

// Sharing is how the nodes of a plan share their work.
type Sharing string

// The ways to share.
const (
	Alone   Sharing = "alone"   // there is one node
	Unaware Sharing = "unaware" // every node does everything and knows of no other
	Team    Sharing = "team"    // each has its part, and parts move
)

// Plan is what a seed says.
type Plan struct {
	Seed       uint64
	Length     time.Duration
	Name       string
	Clusters   []string
	Links      []string
	Sharing    Sharing
	Nodes      int
	Brokers    int
	Partitions int32
	Steps      []Step
	Abrupt     bool // judged as things stand at the end, without healing
	Verbose    bool // the nodes' logs are shown
}

// String lists all of it.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v, %s (%s), %d nodes (%s), %d brokers a cluster, %d partitions a topic\n", p.Seed, p.Length, p.Name,
		strings.Join(p.Links, " "), p.Nodes, p.Sharing, p.Brokers, p.Partitions)
	for _, s := range p.Steps {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// shapes are the topologies.
var shapes = []struct {
	name            string
	clusters, links []string
}{
	{"one way", []string{"eu", "us"}, []string{"eu>us"}},
	{"both ways", []string{"eu", "us"}, []string{"eu>us", "us>eu"}},
	{"mesh", []string{"eu", "us", "ap"}, []string{"eu>us", "us>eu", "eu>ap", "ap>eu", "us>ap", "ap>us"}},
	{"relay", []string{"eu", "us", "ap"}, []string{"eu>us", "us>ap"}},
	{"hub", []string{"eu", "us", "ap"}, []string{"eu>us", "us>eu", "us>ap", "ap>us"}},
}

// topics are what is written to and mirrored.
var topics = []string{"orders", "transfers"}

// requests and answers of faulty brokers.
var (
	requests = []string{"produce", "fetch", "list-offsets", "epochs", "metadata"}
	answers  = []string{"not-leader", "timed-out", "storage", "unknown"}
)

// policies are the lines of a link that change on the way.
var policies = []string{`recreated = "new-incarnation"`, `recreated = "halt"`, `truncated_source = "keep"`, `truncated_source = "freeze"`,
	`poison = "dead-letter"`, `poison = "skip"`, `poison = "halt"`, `deleted = "follow"`, `deleted = "keep"`}

// NewPlan is the schedule of a seed: the same for ever, as long as this function is.
func NewPlan(seed uint64, length time.Duration) Plan {
	rng := rand.New(rand.NewPCG(seed, 6))
	shape := shapes[rng.IntN(len(shapes))]
	p := Plan{Seed: seed, Length: length, Name: shape.name, Clusters: shape.clusters, Links: shape.links,
		Brokers: 1 + rng.IntN(2), Partitions: 1 + rng.Int32N(3)}
	p.Sharing = []Sharing{Alone, Unaware, Team}[rng.IntN(3)]
	p.Nodes = map[Sharing]int{Alone: 1, Unaware: 2, Team: 2 + rng.IntN(2)}[p.Sharing]
	for at := 5 * time.Second; at < length; at += time.Duration(200+rng.IntN(6000)) * time.Millisecond {
		if s, ok := p.step(rng); ok {
			s.At = at
			p.Steps = append(p.Steps, s)
		}
	}
	slices.SortStableFunc(p.Steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return p
}

// weights say how often each kind is drawn.
var weights = []struct {
	kind Kind
	n    int
}{{Kill, 5}, {Stop, 2}, {Freeze, 4}, {Cut, 4}, {Deaf, 3}, {Mute, 3}, {Slow, 3}, {Reset, 4}, {Fault, 5}, {Leader, 3}, {Delete, 3},
	{Recreate, 2}, {Grow, 1}, {Pause, 3}, {Retry, 1}, {Policy, 2}, {Anchor, 1}, {Rate, 1}, {Clock, 2}, {Move, 4}, {Post, 2}}

func (p *Plan) draw(rng *rand.Rand) Kind {
	all := 0
	for _, w := range weights {
		all += w.n
	}
	at := rng.IntN(all)
	for _, w := range weights {
		if at -= w.n; at < 0 {
			return w.kind
		}
	}
	return Kill
}

// hop reports whether a cluster hands on what it got from another one. The ledger of a link from there counts by its log, and does not say of
// which records; where that was made anew, copies of others come once more.
func (p *Plan) hop(cluster string) bool {
	return (p.Name == "relay" || p.Name == "hub") && cluster == "us"
}

// step draws one; not ok: it has no meaning here. Its draws are the same in number whatever it is.
func (p *Plan) step(rng *rand.Rand) (s Step, ok bool) {
	s = Step{Kind: p.draw(rng), Node: rng.IntN(p.Nodes)}
	cluster, topic, part, n := p.Clusters[rng.IntN(len(p.Clusters))], topics[rng.IntN(len(topics))], rng.Int32N(p.Partitions), rng.IntN(100)
	lasts := time.Duration(300+rng.IntN(12_000)) * time.Millisecond
	what := requests[rng.IntN(len(requests))] + " " + answers[rng.IntN(len(answers))]
	switch s.Kind {
	case Kill, Stop:
		s.For = lasts
	case Freeze:
		s.For = 2 * lasts
	case Cut, Deaf, Mute:
		s.Cluster, s.For = cluster, 2*lasts
	case Slow:
		s.Cluster, s.For, s.N = cluster, 2*lasts, 5+3*n
	case Reset:
		s.Cluster = cluster
	case Fault:
		s.Node, s.Cluster, s.What, s.N, s.For = -1, cluster, what, 1+n/4, lasts
	case Leader:
		s.Node, s.Cluster, s.Topic, s.Part = -1, cluster, topic, part
		return s, p.Brokers > 1
	case Delete:
		s.Node, s.Cluster, s.Topic, s.Part, s.N = -1, cluster, topic, part, 1+n
	case Grow:
		s.Node, s.Cluster, s.Topic, s.N = -1, p.Clusters[0], topic, 1+n%2
	case Recreate:
		s.Node, s.Cluster, s.Topic, s.N = -1, cluster, topic, max(0, 40*n-2000)
		return s, !p.hop(cluster)
	case Pause:
		s.Node, s.Topic, s.Part, s.For, s.N = -1, topic, part, lasts, n
	case Retry:
	case Policy:
		s.Node, s.What = -1, policies[n%len(policies)]
	case Anchor:
		s.Node, s.Topic, s.Part, s.N, s.What = -1, topic, part, int(lasts/(100*time.Millisecond)), p.Links[n%len(p.Links)]
	case Rate:
		s.Node, s.For, s.N = -1, lasts, 2000+500*n
	case Clock:
		s.For, s.N = 3*lasts, []int{-60, -59, -1, 1, 59, 60}[n%6]
	case Move, Post:
		s.Node, s.For, s.N = -1, lasts/4, n/2
		return s, p.Sharing == Team
	}
	return s, true
}
