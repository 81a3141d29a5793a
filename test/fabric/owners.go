package fabric

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
)

// View is what one node believes of who owns what. It is a [mirror.Owners].
type View struct {
	self string

	mu     sync.Mutex
	owner  func(mirror.PumpID) string
	before func(mirror.PumpID) string
	dead   []string
	turn   int // of the team when this view was set
}

// Self implements [mirror.Owners].
func (v *View) Self() string { return v.self }

// Owner implements [mirror.Owners].
func (v *View) Owner(p mirror.PumpID) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.owner(p)
}

// Before implements [mirror.Owners].
func (v *View) Before(p mirror.PumpID) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.before == nil {
		return ""
	}
	if node := v.before(p); !slices.Contains(v.dead, node) {
		return node
	}
	return ""
}

// become changes the view, unless it has come to a later one already.
func (v *View) become(owner func(mirror.PumpID) string, dead []string, turn int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if turn < v.turn {
		return
	}
	v.before, v.owner, v.dead, v.turn = v.owner, owner, dead, turn
}

// Team is some nodes that share the work of a fabric, with views and a post that the test sets.
type Team struct {
	f    *Fabric
	Post Post

	mu    sync.Mutex
	nodes map[string]*Node
	views map[string]*View
	dead  []string
	turn  int // counts the views that were given
}

// Post is how messages get from node to node.
type Post struct {
	Delay   time.Duration
	Lose    float64                    // of all
	Double  float64                    // of all
	Scatter time.Duration              // more delay, at most, each message's own
	Cut     func(from, to string) bool // nothing gets through
	Sent    int

	mu  sync.Mutex
	rng *rand.Rand
}

// Change has another part of what is sent from now on lost.
func (p *Post) Change(lose float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Lose = lose
}

// ErrNoPost is what a cut says to who sends.
var ErrNoPost = errors.New("no way to that node")

// Share starts nodes whose work is shared by the given rule.
func (f *Fabric) Share(owner func(mirror.PumpID) string, names ...string) *Team {
	t := &Team{f: f, nodes: make(map[string]*Node), views: make(map[string]*View)}
	t.Post.Delay = time.Millisecond
	t.Post.rng = rand.New(rand.NewPCG(f.rng.Uint64(), 3))
	for _, name := range names {
		t.Start(name, owner)
	}
	return t
}

// Start starts a node with a view of its own.
func (t *Team) Start(name string, owner func(mirror.PumpID) string) *Node {
	t.mu.Lock()
	v := &View{self: name, owner: owner, turn: t.turn}
	t.views[name] = v
	t.mu.Unlock()
	n := t.f.Run(name, func(d *mirror.SetDeps) { d.Owners, d.Peers = v, &mailbox{t, name} })
	t.mu.Lock()
	t.nodes[name] = n
	t.dead = slices.DeleteFunc(t.dead, func(d string) bool { return d == name })
	t.mu.Unlock()
	return n
}

// Node is one of the nodes.
func (t *Team) Node(name string) *Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes[name]
}

// Alive is all nodes that run.
func (t *Team) Alive() (out []*Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		out = append(out, n)
	}
	return out
}

// Move gives all nodes another view, each after a delay of its own of at most spread. A later one that comes earlier stays.
func (t *Team) Move(owner func(mirror.PumpID) string, spread time.Duration) {
	t.mu.Lock()
	t.turn++
	turn := t.turn
	names := make([]string, 0, len(t.nodes))
	for name := range t.nodes {
		names = append(names, name)
	}
	t.mu.Unlock()
	slices.Sort(names)
	for _, name := range names {
		delay := time.Duration(0)
		if spread > 0 {
			delay = time.Duration(t.f.rng.Int64N(int64(spread)))
		}
		time.AfterFunc(delay, func() { t.see(name, owner, turn) })
	}
}

// See gives one node another view.
func (t *Team) See(name string, owner func(mirror.PumpID) string) {
	t.mu.Lock()
	t.turn++
	turn := t.turn
	t.mu.Unlock()
	t.see(name, owner, turn)
}

func (t *Team) see(name string, owner func(mirror.PumpID) string, turn int) {
	t.mu.Lock()
	v, n, dead := t.views[name], t.nodes[name], slices.Clone(t.dead)
	t.mu.Unlock()
	if n != nil {
		v.become(owner, dead, turn)
		n.Set.Reconsider()
	}
}

// Kill ends a node as kill -9 does. The others' views tell of it at their next change.
func (t *Team) Kill(name string) {
	t.mu.Lock()
	n := t.nodes[name]
	delete(t.nodes, name)
	t.dead = append(t.dead, name)
	t.mu.Unlock()
	n.Kill()
}

// Leave ends a node in good order. The others' views do not ask it from now on.
func (t *Team) Leave(name string) {
	t.mu.Lock()
	n := t.nodes[name]
	delete(t.nodes, name)
	t.dead = append(t.dead, name)
	t.mu.Unlock()
	n.Stop()
}

// Stop ends all nodes.
func (t *Team) Stop() {
	for _, n := range t.Alive() {
		n.Stop()
	}
}

// mailbox is a node's [mirror.Peers].
type mailbox struct {
	team *Team
	self string
}

// Send implements [mirror.Peers].
func (m *mailbox) Send(_ context.Context, node string, payload []byte) error {
	p := &m.team.Post
	p.mu.Lock()
	p.Sent++
	copies, delay := 1, p.Delay
	if p.rng.Float64() < p.Double {
		copies++
	}
	if p.rng.Float64() < p.Lose {
		copies = 0
	}
	if p.Scatter > 0 {
		delay += time.Duration(p.rng.Int64N(int64(p.Scatter)))
	}
	cut := p.Cut != nil && p.Cut(m.self, node)
	p.mu.Unlock()
	if cut {
		return ErrNoPost
	}
	for i := range copies {
		time.AfterFunc(delay*time.Duration(i+1), func() {
			if n := m.team.Node(node); n != nil {
				n.Set.Receive(m.self, payload)
			}
		})
	}
	return nil
}

// Spread shares pumps among nodes by their hash; turn changes who gets what.
func Spread(turn int, nodes ...string) func(mirror.PumpID) string {
	return func(p mirror.PumpID) string {
		h := fnv.New32a()
		_, _ = h.Write([]byte(p.String())) // a hash never fails
		return nodes[(int(h.Sum32()>>8)+turn)%len(nodes)]
	}
}

// Only gives all to one node.
func Only(node string) func(mirror.PumpID) string { return func(mirror.PumpID) string { return node } }
