package generation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is some logs, and what nodes that use them know. Records are appended at once, later, twice (under another id), or without the writer hearing of it.
type world struct {
	rng   *rand.Rand
	logs  [][]Record
	away  []bool
	late  []lateRecord
	truth map[int64]Value // what is decided, by round
	ids   int
	said  []Value // all that was proposed by choice
}

type lateRecord struct {
	log int
	Record
}

func (w *world) append(log int, r Record) {
	w.ids++
	r.ID = fmt.Sprint("r", w.ids)
	w.logs[log] = append(w.logs[log], r)
}

// send brings a record to a log in one of the ways that happen.
func (w *world) send(log int, r Record) {
	switch {
	case w.away[log]:
	case w.rng.IntN(4) == 0:
		w.late = append(w.late, lateRecord{log, r})
	default:
		w.append(log, r)
		if w.rng.IntN(6) == 0 {
			w.late = append(w.late, lateRecord{log, r})
		}
	}
}

// read is what a log says up to its end.
func (w *world) read(log int) *Log {
	var l Log
	for _, r := range w.logs[log] {
		l.Apply(r)
	}
	return &l
}

// some are the logs that a reader reaches now.
func (w *world) some() (out []*Log) {
	for i := range w.logs {
		if !w.away[i] && w.rng.IntN(5) > 0 {
			out = append(out, w.read(i))
		}
	}
	return out
}

// check counts accepts by hand, in all logs, and finds two values in one round.
func (w *world) check(t *testing.T) {
	t.Helper()
	type one struct {
		round int64
		b     Ballot
	}
	count := map[one]int{}
	for _, log := range w.logs {
		top, seen := map[int64]Ballot{}, map[one]bool{}
		for _, r := range log {
			switch {
			case r.Kind == kindPrepare && r.Ballot.Compare(top[r.Round]) > 0:
				top[r.Round] = *r.Ballot
			case r.Kind == kindAccept && r.Ballot.Compare(top[r.Round]) >= 0 && !seen[one{r.Round, *r.Ballot}]:
				seen[one{r.Round, *r.Ballot}] = true
				if count[one{r.Round, *r.Ballot}]++; count[one{r.Round, *r.Ballot}] < majority(len(w.logs)) {
					continue
				}
				if o, there := w.truth[r.Round]; there && o != *r.Value {
					t.Fatalf("round %d decides %+v and %+v", r.Round, o, *r.Value)
				}
				w.truth[r.Round] = *r.Value
			}
		}
	}
}

// simProposer is a coordinator as Store.Prepare and Store.Propose make one, each of whose messages may go astray.
type simProposer struct {
	name   string
	ballot Ballot
	round  int64
	state  State
	value  *Value // proposed, with this ballot
}

// step does the next thing, by what it reads now. It reports whether the round that it works on is known to be decided.
func (p *simProposer) step(t *testing.T, w *world) {
	logs := w.some()
	st, err := Judge(logs, len(w.logs), "")
	if err != nil {
		t.Fatal(err)
	}
	if p.round != st.Round || w.rng.IntN(20) == 0 { // begin, crash, or find that it is over
		if len(logs) < majority(len(w.logs)) {
			return
		}
		w.ids++
		*p = simProposer{name: p.name, round: st.Round, state: st, ballot: st.Highest.Above(p.name, fmt.Sprint("u", w.ids))}
		for i := range w.logs {
			for round := int64(1); round < st.Round; round++ {
				if v, ok := decision(logs, len(w.logs), "", round); ok {
					w.send(i, decided("", round, v))
				}
			}
			w.send(i, prepare("", p.round, p.ballot))
		}
		return
	}
	s := stand(logs, "", p.round, p.ballot)
	if s.Beaten != (Ballot{}) {
		p.round = 0
		return
	}
	if p.value == nil {
		if s.Counts < majority(len(w.logs)) {
			if i := w.rng.IntN(len(w.logs)); w.rng.IntN(3) == 0 {
				w.send(i, prepare("", p.round, p.ballot)) // again: under another id it is another record
			}
			return
		}
		if p.value = s.Taken; p.value == nil {
			p.value = p.choose(w)
		}
	}
	for i := range w.logs {
		if w.rng.IntN(3) > 0 {
			w.send(i, accept("", p.round, p.ballot, *p.value))
		}
	}
}

func (p *simProposer) choose(w *world) *Value {
	home, others := p.state.Home, []string{"ap", "eu", "us"}
	if home == "" {
		home = "eu"
	}
	v := Value{Kind: Stay, Generation: p.state.Generation, Home: home, Switch: p.ballot.Unique}
	if w.rng.IntN(3) > 0 {
		others = slices.DeleteFunc(others, func(s string) bool { return s == home })
		v = Value{Kind: Planned, Generation: v.Generation + 1, Home: others[w.rng.IntN(2)], From: home, Switch: v.Switch}
	}
	w.said = append(w.said, v)
	return &v
}

// TestDecide_BySeed: whatever is late, lost, twice or away, and whoever crashes, of each round one value is decided at most, one that somebody chose; no reader takes
// another for it; and who is left alone gets the next round decided.
func TestDecide_BySeed(t *testing.T) {
	rounds := 0
	for seed := range uint64(400) {
		w := &world{rng: rand.New(rand.NewPCG(seed, 9)), truth: map[int64]Value{}}
		n := []int{1, 2, 3, 3, 5}[w.rng.IntN(5)]
		w.logs, w.away = make([][]Record, n), make([]bool, n)
		var all []*simProposer
		for i := range 3 + w.rng.IntN(3) {
			all = append(all, &simProposer{name: fmt.Sprint("n", i)})
		}
		for range 150 {
			if w.rng.IntN(8) == 0 {
				i := w.rng.IntN(n)
				w.away[i] = !w.away[i]
			}
			if len(w.late) > 0 && w.rng.IntN(3) == 0 {
				i := w.rng.IntN(len(w.late))
				w.append(w.late[i].log, w.late[i].Record)
				w.late = slices.Delete(w.late, i, i+1)
			}
			all[w.rng.IntN(len(all))].step(t, w)
			w.check(t)
			w.believed(t)
		}
		for _, r := range w.late {
			w.append(r.log, r.Record)
		}
		w.late = nil
		w.check(t)
		w.alone(t)
		rounds += len(w.truth)
		for _, v := range w.truth {
			if !slices.Contains(w.said, v) {
				t.Errorf("seed %d: nobody chose %+v", seed, v)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if rounds < 1000 {
		t.Errorf("%d rounds were decided; the simulation hardly does anything", rounds)
	}
	t.Logf("%d rounds decided", rounds)
}

// believed: what a reader of some logs takes for decided is.
func (w *world) believed(t *testing.T) {
	t.Helper()
	logs := w.some()
	st, err := Judge(logs, len(w.logs), "")
	if err != nil {
		t.Fatal(err)
	}
	for round := int64(1); round < st.Round; round++ {
		if v, _ := decision(logs, len(w.logs), "", round); v != w.truth[round] {
			t.Fatalf("round %d: %+v is read, %+v is decided", round, v, w.truth[round])
		}
	}
}

// alone: the last proposer reaches a majority, and gets something decided that was not.
func (w *world) alone(t *testing.T) {
	t.Helper()
	logs, n := []*Log(nil), len(w.logs)
	for i := range w.logs {
		w.away[i] = i >= majority(n)
	}
	read := func() (State, []*Log) {
		logs = nil
		for i := range majority(n) {
			logs = append(logs, w.read(i))
		}
		st, err := Judge(logs, n, "")
		if err != nil {
			t.Fatal(err)
		}
		return st, logs
	}
	st, _ := read()
	p := &simProposer{name: "z", state: st, ballot: st.Highest.Above("z", "last")}
	for i := range majority(n) {
		w.append(i, prepare("", st.Round, p.ballot))
	}
	_, logs = read()
	s := stand(logs, "", st.Round, p.ballot)
	if s.Counts < majority(n) || s.Beaten != (Ballot{}) {
		t.Fatalf("alone, and %+v", s)
	}
	if p.value = s.Taken; p.value == nil {
		p.value = p.choose(w)
	}
	for i := range majority(n) {
		w.append(i, accept("", st.Round, p.ballot, *p.value))
	}
	w.check(t)
	if after, _ := read(); after.Round <= st.Round {
		t.Errorf("alone, and round %d is not decided", st.Round)
	}
}

// TestLease_BySeed: an instance whose clock is slow or fast, or that is frozen, never may write at one home while another may at the next. Coordinators decide
// when they have waited, by clocks of their own, and some rounds end without a switch.
func TestLease_BySeed(t *testing.T) {
	switches := 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		rate := func() float64 { return 0.95 + 0.1*rng.Float64() }
		type instance struct {
			rate   float64
			frozen time.Duration // until then, of real time
			began  Moment        // of the reading under way
			logs   []int         // it has read so many records of each log, -1 for not yet
			lease  Lease
		}
		const n = 3
		w := &world{rng: rng, logs: make([][]Record, n), away: make([]bool, n), truth: map[int64]Value{}}
		all := make([]*instance, 3)
		for i := range all {
			all[i] = &instance{rate: rate()}
		}
		coordinator := &simProposer{name: "c"}
		var prepared, now Moment
		crate, has := rate(), false
		for real := time.Duration(0); real < 3*time.Minute; real += 20 * time.Millisecond {
			at := func(rate float64) Moment {
				d := time.Duration(float64(real) * rate)
				return Moment{d, time.Hour + d}
			}
			for _, i := range all {
				switch {
				case real < i.frozen:
					continue
				case rng.IntN(400) == 0:
					i.frozen = real + time.Duration(rng.Int64N(int64(6*time.Second)))
					continue
				case i.logs == nil && rng.IntN(20) == 0: // the reading takes its time, the lease counts from here
					i.began, i.logs = at(i.rate), []int{-1, -1, -1}
				case i.logs != nil && rng.IntN(3) == 0: // one log after the other, each whenever it is
					l := rng.IntN(n)
					i.logs[l] = len(w.logs[l])
				}
				if i.logs == nil {
					continue
				}
				var logs []*Log
				for l, until := range i.logs {
					if until >= 0 {
						logs = append(logs, (&world{logs: [][]Record{w.logs[l][:until]}}).read(0))
					}
				}
				if len(logs) < majority(n) {
					continue
				}
				st, err := Judge(logs, n, "")
				if err != nil {
					t.Fatal(err)
				}
				i.logs = nil
				if l := Grant(i.began, len(logs), n, st); l.good || i != all[0] { // one keeps what it has, as who hears nothing does
					i.lease = l
				}
			}
			// The coordinator prepares at a majority, waits, and decides at a majority.
			now = at(crate)
			first, second := rng.IntN(n), rng.IntN(n-1)
			if second >= first {
				second++
			}
			switch {
			case !has && rng.IntN(100) == 0:
				st, _ := Judge([]*Log{w.read(0), w.read(1), w.read(2)}, n, "")
				coordinator = &simProposer{name: "c", state: st, round: st.Round, ballot: st.Highest.Above("c", fmt.Sprint("u", w.ids))}
				w.append(first, prepare("", st.Round, coordinator.ballot))
				w.append(second, prepare("", st.Round, coordinator.ballot))
				prepared, has = now, true
			case has && Outwaited(prepared, now):
				v := coordinator.choose(w)
				w.append(first, accept("", coordinator.round, coordinator.ballot, *v))
				w.append(second, accept("", coordinator.round, coordinator.ballot, *v))
				w.append(rng.IntN(n), decided("", coordinator.round, *v))
				if has = false; v.Kind != Stay {
					switches++
				}
			}
			// Whoever is frozen asks again when it goes on, so only those who run count.
			where := map[int64]bool{}
			for _, i := range all {
				if real >= i.frozen && i.lease.Holds(at(i.rate)) {
					where[i.lease.Generation] = true
				}
			}
			if len(where) > 1 {
				t.Fatalf("seed %d at %v: writes in generations %v", seed, real, where)
			}
		}
	}
	if switches < 300 {
		t.Errorf("%d switches", switches)
	}
	t.Logf("%d switches", switches)
}
