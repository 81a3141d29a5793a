package nemesis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
	"github.com/isthmus-project/isthmus/test/judge"
)

// stallAfter is how long copying may take when all is well again. Halted pumps are looked at every few minutes only.
const stallAfter = 10 * time.Minute

// stage is a plan on its way, in a bubble.
type stage struct {
	t       testing.TB
	plan    Plan
	f       *fabric.Fabric
	team    *fabric.Team
	nodes   []*actor
	writers *writers
	past    *Past
	faults  map[string]*kfake.FaultHandle
	turn    int
	deaf    map[string]int // clusters that answer fetches with faults

	late sync.WaitGroup // steps that take their time

	mu     sync.Mutex
	paused map[string]int    // topics and partitions, and by how many steps
	lines  map[string]string // settings of all links, by their names
}

// actor is a node of the plan over all its lives.
type actor struct {
	name  string
	node  *fabric.Node // nil while it is down
	clock *clock
}

// clock is a node's: it may be off, and it may stand still.
type clock struct {
	mu      sync.Mutex
	off     time.Duration
	stopped time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped.IsZero() {
		return c.stopped.Add(c.off)
	}
	return time.Now().Add(c.off)
}

func (c *clock) set(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

func (c *clock) stop(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped = (time.Time{}); yes {
		c.stopped = time.Now()
	}
}

// play runs a plan. It must be called in a bubble. What is wrong in the end is returned; what cannot be done ends the test.
func play(t testing.TB, p Plan) (wrong []string) {
	s := &stage{t: t, plan: p, faults: make(map[string]*kfake.FaultHandle), deaf: make(map[string]int), paused: make(map[string]int), lines: make(map[string]string), past: NewPast()}
	for i := range p.Nodes {
		s.nodes = append(s.nodes, &actor{name: fmt.Sprintf("n%d", i), clock: new(clock)})
	}
	s.f = fabric.New(t, fabric.Options{Clusters: p.Clusters, Links: p.Links, Topics: topics, Partitions: p.Partitions, Brokers: p.Brokers,
		Seed: p.Seed, Verbose: testing.Verbose() && p.Verbose, Change: s.change})
	defer s.f.Close()
	for _, c := range s.f.Clusters {
		wholeAnswers(c)
	}
	if p.Sharing == Team {
		s.team = s.f.Share(s.owner())
	}
	for _, a := range s.nodes {
		s.start(a)
	}
	s.writers = write(p.Seed, s.f.Clients(), p.Partitions)
	s.act()
	s.writers.end()
	s.late.Wait()
	if p.Abrupt {
		return s.abrupt()
	}
	s.heal()
	healed := time.Now()
	wrong = append(wrong, s.rest(stallAfter)...)
	for _, a := range s.nodes {
		s.end(a, false)
	}
	// Another node finds everything in what is durable, and has nothing left to copy.
	last := s.f.Start("last")
	defer last.Stop()
	if err := caughtUp(stallAfter, 0, func() {}, last); err != nil && len(wrong) == 0 {
		wrong = append(wrong, "a new node: "+err.Error())
	}
	return append(wrong, s.verdict(last, time.Since(healed))...)
}

// abrupt ends all nodes as they stand, and has what they did judged.
func (s *stage) abrupt() []string {
	last := s.nodes[0].node
	for _, a := range s.nodes {
		s.end(a, false)
	}
	return s.verdict(last, 0)
}

// verdict is what is wrong by the ledger of a node, nothing having been written for some time.
func (s *stage) verdict(n *fabric.Node, idle time.Duration) []string {
	ledger, err := n.Set.Ledger("")
	if err != nil {
		s.t.Fatal(err)
	}
	var ways []judge.Way
	if idle > 0 {
		ways = fabric.Ways(n)
	}
	wrong, err := Evidence{Clients: s.f.Clients(), Topics: topics, Topology: s.f.Topology, Past: s.past, Log: s.writers.log, Ledger: ledger,
		Ways: ways, Idle: idle, StallAfter: stallAfter}.Judge(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return wrong
}

// wholeAnswers has a cluster answer fetches whatever their size: where it cuts an answer short, kfake forgets to say which of its transactions
// were aborted.
func wholeAnswers(c *kfake.Cluster) {
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req.(*kmsg.FetchRequest).MaxBytes = math.MaxInt32
		return nil, nil, false
	})
}

// change gives a node its clock, and the settings of now.
func (s *stage) change(node string, d *mirror.SetDeps) {
	for _, a := range s.nodes {
		if a.name == node {
			d.Now, d.Topology = a.clock.now, s.topology()
		}
	}
}

func (s *stage) owner() func(mirror.PumpID) string {
	var names []string
	for i, a := range s.nodes {
		if a.node != nil || s.turn == 0 || i == 0 && s.plan.Nodes == 1 {
			names = append(names, a.name)
		}
	}
	if len(names) == 0 {
		names = []string{s.nodes[0].name}
	}
	return fabric.Spread(s.turn, names...)
}

func (s *stage) start(a *actor) {
	if s.team != nil {
		a.node = s.team.Start(a.name, s.owner())
	} else {
		a.node = s.f.Start(a.name)
	}
	a.node.Set.SetPauses(s.why)
	a.node.Set.Reconsider()
}

// end ends a node that runs.
func (s *stage) end(a *actor, kill bool) {
	if a.node == nil {
		return
	}
	n := a.node
	a.node = nil
	if !kill { // what stands still cannot be told to end
		a.thaw(n)
	}
	switch {
	case s.team != nil && kill:
		s.team.Kill(a.name)
	case s.team != nil:
		s.team.Leave(a.name)
	case kill:
		n.Kill()
	default:
		n.Stop()
	}
	a.clock.stop(false)
}

// thaw ends a freeze.
func (a *actor) thaw(n *fabric.Node) {
	a.clock.stop(false)
	for _, p := range n.Paths {
		p.LetGo()
	}
}

// why says whether a partition is paused.
func (s *stage) why(_, topic string, part int32) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "ops: a fault", s.paused[topic] > 0 || s.paused[fmt.Sprintf("%s:%d", topic, part)] > 0
}

func (s *stage) pause(what string, by int) {
	s.mu.Lock()
	s.paused[what] += by
	s.mu.Unlock()
	for _, a := range s.nodes {
		if a.node != nil {
			a.node.Set.Reconsider()
		}
	}
}

// act does every step at its time, and undoes those that last.
func (s *stage) act() {
	type event struct {
		at time.Duration
		do func()
	}
	var events []event
	for _, step := range s.plan.Steps {
		undo := func() {}
		events = append(events, event{step.At, func() { undo = s.do(step) }})
		if step.For > 0 && step.At+step.For < s.plan.Length {
			events = append(events, event{step.At + step.For, func() { undo() }})
		}
	}
	for at := lookEvery; at < s.plan.Length; at += lookEvery {
		events = append(events, event{at, s.look})
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	began := time.Now()
	for _, e := range events {
		if wait := time.Until(began.Add(e.at)); wait > 0 {
			time.Sleep(wait)
		}
		e.do()
		if s.plan.Verbose {
			s.t.Logf("at %v", e.at)
		}
	}
	if wait := time.Until(began.Add(s.plan.Length)); wait > 0 {
		time.Sleep(wait)
	}
}

// lookEvery is how often the clusters are read on the way.
const lookEvery = 20 * time.Second

// look reads what all clusters have now. Faults may be in the way.
func (s *stage) look() {
	ctx, cancel := context.WithTimeout(context.Background(), lookEvery)
	defer cancel()
	for _, c := range s.f.Clients() {
		_ = s.past.Look(ctx, c, topics)
	}
}

// heal takes all faults away, and brings back who is down.
func (s *stage) heal() {
	for _, h := range s.faults {
		h.Remove()
	}
	s.mu.Lock()
	clear(s.paused)
	clear(s.lines)
	if s.plan.Seed%2 == 0 { // the others are taken out of what halts them by hand
		s.lines["recreated"] = `recreated = "new-incarnation"`
	}
	s.mu.Unlock()
	for _, a := range s.nodes {
		a.clock.stop(false)
		a.clock.set(0)
		if a.node == nil {
			s.start(a)
		}
		for _, p := range a.node.Paths {
			p.Heal()
			p.Reset()
		}
		s.apply(a)
		a.node.Set.Reconsider()
	}
	if s.team != nil {
		s.team.Post.Change(0)
		s.turn++
		s.team.Move(s.owner(), 0)
	}
}

// rest waits until everything is copied. Of nodes that know of no other only one stays, as they never rest.
func (s *stage) rest(most time.Duration) (wrong []string) {
	if s.plan.Sharing == Unaware {
		for _, a := range s.nodes[1:] {
			s.end(a, false)
		}
	}
	if err := caughtUp(most, 2*time.Second, s.mend, s.running()...); err != nil {
		wrong = append(wrong, err.Error())
	}
	return wrong
}

// caughtUp waits until each partition of each link is copied by one of the nodes that has nothing left to copy, and it stays so. Who yielded
// to another owner goes on only when there is something to copy. What does not go on by itself is mended by whoever can.
func caughtUp(most, calm time.Duration, mend func(), nodes ...*fabric.Node) error {
	began := time.Now()
	since := began
	for {
		why := behind(nodes)
		if len(why) > 0 {
			since = time.Now()
			mend()
		}
		if len(why) == 0 && time.Since(since) >= calm {
			return nil
		}
		if time.Since(began) > most {
			return errors.New("not caught up: " + strings.Join(why, "; "))
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// behind says which partitions are not where they should be.
func behind(nodes []*fabric.Node) (why []string) {
	ok := make(map[string]bool)
	said := make(map[string]string)
	for _, n := range nodes {
		for _, l := range n.Set.Status() {
			if !l.Up {
				why = append(why, l.Name+": "+l.Trouble)
			}
			for _, fl := range l.Flows {
				for _, p := range fl.Pumps {
					name := fmt.Sprintf("%s %s:%d", l.Name, fl.Topic, p.Partition)
					ok[name] = ok[name] || (p.State == mirror.StateRunning || p.State == mirror.StateYielded) && p.LagRecords == 0 && p.SourceEnd >= 0
					if p.State != mirror.StateElsewhere {
						said[name] += fmt.Sprintf(" %s: %s (%s) lag %d of %d", n.Name, p.State, p.Reason, p.LagRecords, p.SourceEnd)
					}
				}
			}
		}
	}
	for name, good := range ok {
		if !good {
			why = append(why, name+said[name])
		}
	}
	if len(ok) == 0 {
		why = append(why, "no partition is known")
	}
	slices.Sort(why)
	return why
}

// admin runs calls of an ordinary admin client. A cluster that answers with a fault may refuse them.
func (s *stage) admin(cluster string, call func(context.Context, *kadm.Client) error) error {
	c := s.f.Client(cluster)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial))
	if err != nil {
		return fmt.Errorf("make a client of %s: %w", cluster, err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return call(ctx, kadm.NewClient(cl))
}

// keys and errs are what the words of a Fault mean.
var (
	keys = map[string]kmsg.Key{"produce": kmsg.Produce, "fetch": kmsg.Fetch, "list-offsets": kmsg.ListOffsets, "epochs": kmsg.OffsetForLeaderEpoch,
		"metadata": kmsg.Metadata}
	errs = map[string]*kerr.Error{"not-leader": kerr.NotLeaderForPartition, "timed-out": kerr.RequestTimedOut, "storage": kerr.KafkaStorageError,
		"unknown": kerr.UnknownServerError}
)
