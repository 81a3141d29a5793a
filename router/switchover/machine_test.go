package switchover

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/router/generation"
)

var order = Order{Switch: "s1", Kind: generation.Planned, From: "eu", To: "us"}

func at(d time.Duration) generation.Moment { return generation.Moment{Mono: d, Wall: d} }

// TestNext: where each event leads from each step that it is about.
func TestNext(t *testing.T) {
	stay := generation.Value{Kind: generation.Stay, Home: "eu", Switch: "s1"}
	other := generation.Value{Kind: generation.Planned, Generation: 1, Home: "ap", From: "eu", Switch: "s0"}
	open := generation.Proposal{Round: 1, Prepared: at(0)}
	taken := open
	taken.Taken = &other
	elsewhere := open
	elsewhere.Generation, elsewhere.Home = 1, "us"
	const soon, never = time.Millisecond, time.Hour
	for _, c := range []struct {
		from    Step
		kind    generation.Kind
		event   Event
		want    Step
		outcome Outcome
	}{
		{Preflight, generation.Planned, Event{Happening: Ready}, Prepare, Running},
		{Preflight, generation.Planned, Event{Happening: No, Why: "lag"}, Idle, Refused},
		{Preflight, generation.Planned, Event{Happening: Tick, Now: at(never)}, Idle, Refused},
		{Preflight, generation.Planned, Event{Happening: Stop}, Idle, Aborted},
		{Prepare, generation.Planned, Event{Happening: Promised, Proposal: open}, Hold, Running},
		{Prepare, generation.Planned, Event{Happening: Promised, Proposal: taken}, Commit, Running},
		{Prepare, generation.Planned, Event{Happening: Promised, Proposal: elsewhere}, Rollback, Running},
		{Prepare, generation.Planned, Event{Happening: Overtook}, Idle, Beaten},
		{Prepare, generation.Planned, Event{Happening: Unsure}, Idle, Unknown},
		{Prepare, generation.Planned, Event{Happening: Tick, Now: at(never)}, Idle, Unknown},
		{Hold, generation.Planned, Event{Happening: Held}, Drain, Running},
		{Hold, generation.Unplanned, Event{Happening: Held}, Cut, Running},
		{Hold, generation.Planned, Event{Happening: Tick, Now: at(soon)}, Hold, Running},
		{Hold, generation.Planned, Event{Happening: Tick, Now: at(generation.LeaseLength)}, Drain, Running},
		{Hold, generation.Planned, Event{Happening: Drained}, Hold, Running},
		{Hold, generation.Planned, Event{Happening: Stop}, Rollback, Running},
		{Hold, generation.Planned, Event{Happening: Overtook}, Idle, Beaten},
		{Drain, generation.Back, Event{Happening: Drained}, Cut, Running},
		{Drain, generation.Back, Event{Happening: Tick, Now: at(soon)}, Drain, Running},
		{Drain, generation.Back, Event{Happening: Tick, Now: at(generation.LeaseLength)}, Cut, Running},
		{Cut, generation.Planned, Event{Happening: Written}, Mirror, Running},
		{Cut, generation.Unplanned, Event{Happening: Written}, Commit, Running},
		{Cut, generation.Planned, Event{Happening: Tick, Now: at(never)}, Rollback, Running},
		{Mirror, generation.Planned, Event{Happening: Mirrored}, Commit, Running},
		{Mirror, generation.Planned, Event{Happening: No}, Rollback, Running},
		{Mirror, generation.Planned, Event{Happening: Tick, Now: at(never)}, Rollback, Running},
		{Commit, generation.Planned, Event{Happening: Stop}, Commit, Running},
		{Commit, generation.Planned, Event{Happening: Decided}, Release, Committed},
		{Commit, generation.Planned, Event{Happening: Decided, Value: other}, Idle, Beaten},
		{Commit, generation.Planned, Event{Happening: Unsure}, Idle, Unknown},
		{Commit, generation.Planned, Event{Happening: Tick, Now: at(never)}, Idle, Unknown},
		{Rollback, generation.Planned, Event{Happening: Decided, Value: stay}, Verify, Aborted},
		{Rollback, generation.Planned, Event{Happening: Decided, Value: other}, Idle, Beaten},
		{Rollback, generation.Planned, Event{Happening: Unsure}, Idle, Unknown},
		{Release, generation.Planned, Event{Happening: Released}, Verify, Running},
		{Release, generation.Planned, Event{Happening: Tick, Now: at(never)}, Verify, Running},
		{Verify, generation.Planned, Event{Happening: Verified}, Idle, Running},
		{Verify, generation.Planned, Event{Happening: Tick, Now: at(never)}, Idle, Running},
		{Idle, generation.Planned, Event{Happening: Stop}, Idle, Running},
	} {
		s := State{Order: order, Attempt: "a", Step: c.from, Proposal: open, Prepared: c.from != Prepare && c.from != Preflight}
		s.Kind = c.kind
		if c.event.Happening == Decided && c.event.Value == (generation.Value{}) {
			c.event.Value = s.Value()
		}
		late := c.event
		if late.Attempt = "another"; c.event.Happening != Tick && c.event.Happening != Stop {
			if got, do := Next(s, late); got.Step != c.from || do != nil {
				t.Errorf("%s in %s, of another attempt: %s", c.event.Happening, c.from, got.Step)
			}
		}
		c.event.Attempt = "a"
		got, do := Next(s, c.event)
		if got.Step != c.want || got.Outcome != c.outcome {
			t.Errorf("%s in %s at %v: %s %q, want %s %q", c.event.Happening, c.from, c.event.Now.Mono, got.Step, got.Outcome, c.want, c.outcome)
		}
		if moved := got.Step != c.from; moved != (len(do) == 2 && do[0] == DoPlan && do[1] == does[got.Step]) {
			t.Errorf("%s in %s does %v", c.event.Happening, c.from, do)
		}
	}
	// A value of another switch is rolled forward, and is not this one.
	s, _ := Next(State{Order: order, Attempt: "a", Step: Commit, Proposal: taken}, Event{Happening: Decided, Attempt: "a", Value: other})
	if s.Step != Release || s.Outcome != Beaten {
		t.Errorf("%+v", s)
	}
}

// modelSteps are the ways of coordinators in the model.
func modelSteps(t *testing.T) map[[2]Step]bool {
	t.Helper()
	text, err := os.ReadFile("model/switch.pml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[[2]Step]bool{}
	for _, m := range regexp.MustCompile(`\bGO\((\w+), (\w+)\)`).FindAllStringSubmatch(strings.Replace(string(text), "#define GO(a, b)", "", 1), -1) {
		if m[1] != "a" {
			out[[2]Step{Step(m[1]), Step(m[2])}] = true
		}
	}
	return out
}

// TestWalk_BySeed: whichever step a coordinator is lost at, whatever is late, lost or answered twice, and whenever instances go: there are never two homes that take
// writes, nothing planned leaves an acknowledged record behind, and it ends. All ways that the machine goes are ways of the model, and it goes all of those.
func TestWalk_BySeed(t *testing.T) {
	model, gone := modelSteps(t), map[[2]Step]bool{}
	ends := map[Outcome]int{}
	for seed := range uint64(6000) {
		w := &walk{t: t, rng: rand.New(rand.NewPCG(seed, 1)), home: "eu", gone: gone, ends: ends}
		w.run()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for way := range gone {
		if !model[way] {
			t.Errorf("the machine goes from %s to %s, the model never does", way[0], way[1])
		}
	}
	for way := range model {
		if !gone[way] {
			t.Errorf("the model goes from %s to %s, the machine never did", way[0], way[1])
		}
	}
	for _, o := range []Outcome{Committed, Aborted, Refused, Beaten, Unknown} {
		if ends[o] < 50 {
			t.Errorf("%d attempts ended as %q", ends[o], o)
		}
	}
	t.Logf("%v", ends)
}

// walk is a world with one round after the other, as generation.Store gives them.
type walk struct {
	t    *testing.T
	rng  *rand.Rand
	now  time.Duration
	home string
	gen  int64
	gone map[[2]Step]bool
	ends map[Outcome]int

	opened   bool
	ballot   int               // the highest that was prepared
	accepted *generation.Value // in a minority
	instance [3]struct {
		until         time.Duration // of the lease
		gen           int64
		held, waiting bool // waiting for the home's answer
	}
	unmirrored map[string]bool
	coords     []*coord
	late       []lateEvent
}

type coord struct {
	State
	ballot int
	on     bool
}

type lateEvent struct {
	c *coord
	Event
}

func (w *walk) moment() generation.Moment { return at(w.now) }

func (w *walk) run() {
	w.unmirrored = map[string]bool{}
	for n := 0; n < 1500; n++ {
		w.now += time.Duration(w.rng.IntN(60)) * time.Millisecond
		w.instances()
		switch i := w.rng.IntN(100); {
		case i < 3 && len(w.coords) < 12 || w.opened && w.running() == 0:
			w.begin()
		case i < 5 && len(w.coords) > 0: // lost
			w.coords[w.rng.IntN(len(w.coords))].on = false
		case i < 7:
			w.feed(w.any(), Event{Happening: Stop, Why: "asked"})
		case i < 9: // nothing for a long time
			w.now += time.Duration(w.rng.IntN(40)) * time.Second
		case i < 20 && len(w.late) > 0:
			e := w.late[w.rng.IntN(len(w.late))]
			w.feed(e.c, e.Event)
		case i < 60:
			w.act(w.any())
		default:
			w.feed(w.any(), Event{Happening: Tick})
		}
	}
	for n := 0; w.opened || w.running() > 0; n++ { // it ends, also if nothing is answered any more but by the logs
		if n > 1000 {
			w.t.Fatal("it does not end")
		}
		if w.running() == 0 {
			w.begin()
		}
		w.now += time.Second
		for _, c := range w.coords {
			if c.Step == Prepare || c.Step == Commit || c.Step == Rollback || c.Step == Preflight {
				w.act(c)
			}
			w.feed(c, Event{Happening: Tick})
		}
	}
}

func (w *walk) running() (n int) {
	for _, c := range w.coords {
		if c.on && c.Step != Idle {
			n++
		}
	}
	return n
}

func (w *walk) any() *coord {
	if len(w.coords) == 0 {
		w.begin()
	}
	return w.coords[w.rng.IntN(len(w.coords))]
}

func (w *walk) begin() {
	o := Order{Switch: fmt.Sprint("s", w.rng.IntN(4)), From: w.home, To: map[string]string{"eu": "us", "us": "eu"}[w.home], Kind: []generation.Kind{generation.Planned, generation.Unplanned, generation.Back}[w.rng.IntN(3)]}
	c := &coord{on: true}
	c.State, _ = Begin(o, fmt.Sprint("a", len(w.coords)), w.moment())
	w.gone[[2]Step{Idle, Preflight}] = true
	w.coords = append(w.coords, c)
}

// instances take writes, get answers and leases, and restart.
func (w *walk) instances() {
	for i := range w.instance {
		in := &w.instance[i]
		leased := w.now < in.until
		switch w.rng.IntN(6) {
		case 0: // a reading; its lease counts from a while ago
			if !w.opened {
				if in.gen != w.gen {
					in.waiting = false // its connection ends
				}
				in.until, in.gen, in.held = w.now+generation.LeaseLength*9/10-time.Duration(w.rng.IntN(200))*time.Millisecond, w.gen, false
			} else if in.gen == w.gen {
				in.held = true
			}
		case 1:
			in.waiting = in.waiting || leased && !in.held
		case 2, 3:
			if w.rng.IntN(5) > 0 {
				break // the home takes its time
			}
			if in.waiting && leased {
				if in.gen != w.gen {
					w.t.Errorf("a write of generation %d is acknowledged in generation %d", in.gen, w.gen)
				}
				w.unmirrored[w.home] = true
			}
			in.waiting = false
		case 4:
			if w.rng.IntN(20) == 0 { // it is lost
				in.until, in.waiting, in.held = 0, false, false
			}
		}
	}
}

// feed gives an event to a coordinator that is there.
func (w *walk) feed(c *coord, e Event) {
	if !c.on {
		return
	}
	before := c.Step
	e.Now = w.moment()
	var do []Action
	c.State, do = Next(c.State, e)
	if before != c.Step {
		if w.gone[[2]Step{before, c.Step}] = true; c.Step == Idle {
			w.ends[c.Outcome]++
		}
	}
	if (len(do) > 0) != (before != c.Step) {
		w.t.Errorf("%s to %s does %v", before, c.Step, do)
	}
}

// act does what a coordinator's step begins with, perhaps again, and brings the answer: now, later, or both.
func (w *walk) act(c *coord) {
	if !c.on || c.Step == Idle {
		return
	}
	e := Event{Attempt: c.Attempt}
	switch c.Step {
	case Preflight:
		if e.Happening = Ready; w.rng.IntN(10) == 0 {
			e.Happening = No
		}
	case Prepare:
		e = w.prepare(c, e)
	case Hold, Drain:
		for _, in := range w.instance {
			if !(in.held && in.gen == w.gen) || in.waiting && (c.Step == Drain || c.Kind == generation.Unplanned) {
				return
			}
		}
		if e.Happening = Held; c.Step == Drain {
			e.Happening = Drained
		}
	case Cut:
		e.Happening, e.Cut = Written, generation.CutRef{ID: c.Attempt}
	case Mirror:
		if w.rng.IntN(3) > 0 {
			return // not yet
		}
		e.Happening = Mirrored
		if c.From == w.home {
			w.unmirrored[c.From] = false
		}
	case Commit, Rollback:
		e = w.propose(c, e)
	case Release:
		e.Happening = Released
	case Verify:
		e.Happening = Verified
	}
	if w.rng.IntN(4) == 0 && e.Happening != Mirrored && e.Happening != Held && e.Happening != Drained {
		w.late = append(w.late, lateEvent{c, e})
		return
	}
	w.feed(c, e)
}

func (w *walk) prepare(c *coord, e Event) Event {
	switch {
	case w.rng.IntN(10) == 0:
		e.Happening = Unsure
		return e
	case c.ballot != 0 && c.ballot < w.ballot:
		e.Happening = Overtook
		return e
	}
	w.ballot++
	c.ballot, w.opened = w.ballot, true
	e.Happening, e.Proposal = Promised, generation.Proposal{Round: int64(w.ballot), Generation: w.gen, Home: w.home, Prepared: w.moment(), Taken: w.accepted}
	return e
}

// propose has a value decided, accepted by a minority, or refused because of a higher ballot.
func (w *walk) propose(c *coord, e Event) Event {
	v := c.Value()
	switch {
	case !w.opened || c.ballot < w.ballot:
		if e.Happening = Overtook; w.rng.IntN(2) == 0 {
			e.Happening, e.Value = Decided, generation.Value{Kind: generation.Stay, Home: "?"}
		}
		return e
	case w.rng.IntN(8) == 0:
		if e.Happening = Unsure; w.rng.IntN(2) == 0 {
			w.accepted = &v
		}
		return e
	}
	w.opened, w.accepted, w.ballot = false, nil, w.ballot+1
	if e.Happening, e.Value = Decided, v; v.Kind == generation.Stay {
		return e
	}
	if v.From != w.home || v.Generation != w.gen+1 {
		w.t.Errorf("%+v is decided after generation %d at %s", v, w.gen, w.home)
	}
	if v.Kind != generation.Unplanned && w.unmirrored[w.home] {
		w.t.Errorf("%s switch %s leaves acknowledged records behind", v.Kind, v.Switch)
	}
	for _, in := range w.instance {
		if w.now < in.until && in.gen == w.gen && !in.held {
			w.t.Error("an instance may take writes at the home that was left")
		}
	}
	w.unmirrored[w.home] = false // the tail is another matter
	w.home, w.gen = v.Home, w.gen+1
	return e
}
