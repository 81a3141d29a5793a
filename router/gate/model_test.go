package gate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// The model: clients with five batches in flight, two routers, connections that close with answers lost, and brokers that check sequences as Kafka does. Each
// record is a number of its client, counted from 0.

var (
	errOrder = errors.New("out of order sequence")
	errAhead = errors.New("out of order sequence, ahead of what follows")
	errEpoch = errors.New("producer epoch is old")
)

// state is what a broker remembers of a producer id.
type state struct {
	epoch int16
	last  []Written // up to five; Base is the place in the log
}

// broker takes batches as Kafka does: any first sequence of an id that it does not know; then only what follows, or what is one of the last five.
type broker struct {
	ids map[int64]*state
	log []stored
}

// stored is a batch in a log.
type stored struct {
	Batch
	client, record int
	n              int // of its client's batches
}

func (b *broker) append(id int64, s stored) (at int, err error) {
	st := b.ids[id]
	switch {
	case st == nil:
		st = &state{epoch: s.Epoch}
		b.ids[id] = st
	case s.Epoch < st.epoch:
		return 0, errEpoch
	case s.Epoch > st.epoch:
		if s.First != 0 {
			return 0, errAhead
		}
		*st = state{epoch: s.Epoch}
	default:
		for _, w := range st.last {
			if w.First == s.First && w.Last == s.last() {
				return int(w.Base), nil
			}
		}
		if n := len(st.last); n > 0 && s.First != after(st.last[n-1].Last, 1) {
			if ahead(s.First, st.last[n-1].Last) > 0 {
				return 0, errAhead
			}
			return 0, errOrder
		}
	}
	b.log = append(b.log, s)
	st.last = append(st.last, Written{s.Epoch, s.First, s.last(), int64(len(b.log) - 1), 0})
	st.last = st.last[max(0, len(st.last)-5):]
	return len(b.log) - 1, nil
}

// conn is a connection of a client: what it has sent, what is on its way to the home, and what is owed to it.
type conn struct {
	n      uint64
	router int
	up     []stored // not yet read by the router
	down   []stored // not yet read by the broker
	owed   []owed   // oldest first
}

type owed struct {
	stored
	done bool
	base int64
}

// producer is a client.
type producer struct {
	id      int64
	total   int // records that it writes
	next    int // record
	batches int
	epoch   int16
	seq     int32
	unacked []stored
	sent    []stored // what of unacked is still to be sent on this connection, in order
	begun   bool     // something was acknowledged: now five may be in flight
	wild    bool     // may send what it sends again in another order, at first
	*conn
}

// model runs them all.
type model struct {
	r       *rand.Rand
	clients []*producer
	homes   [2]*broker
	home    int
	gen     int64
	virtual map[[2]int]int64 // of a home and its place in the log
	log     []stored         // in the order of virtual offsets
	known   []Producer       // when the generation began
	gates   [2]*Gate
	conns   uint64
	reasons [reasons]int
	acked   []Producer // by routers, in this generation
	tails
	fault
	err error
}

// tails is what was lost with a home.
type tails struct {
	waits []stored // not yet there
	late  map[int]bool
	told  map[[2]int]bool // clients and records that a router has seen acknowledged
	sure  map[[2]int]bool // what was in a tail, and whether it was acknowledged then
}

// fault is what is broken on purpose.
type fault struct {
	saltless bool
	unsure   bool // routers do not tell what was acknowledged
	short    bool // nobody remembers the generation before
	decide   func(Decision) Decision
}

func newModel(seed uint64, clients int) *model {
	m := &model{r: rand.New(rand.NewPCG(seed, 3)), virtual: map[[2]int]int64{}, tails: tails{late: map[int]bool{}, told: map[[2]int]bool{}, sure: map[[2]int]bool{}}}
	m.decide = func(d Decision) Decision { return d }
	m.homes = [2]*broker{{ids: map[int64]*state{}}, {ids: map[int64]*state{}}}
	for i := range clients {
		p := &producer{id: int64(i) * Salts, total: 40 + m.r.IntN(80), wild: i%2 == 0}
		if i%3 == 0 {
			p.seq = top - int32(m.r.IntN(60)) // it is old, and the home forgot it
		}
		m.clients = append(m.clients, p)
	}
	m.begin(nil)
	return m
}

// begin makes the gates of a generation.
func (m *model) begin(left []Producer) {
	m.known = left
	for i := range m.gates {
		g, err := New(left)
		if err != nil {
			m.fail("%v", err)
		}
		m.gates[i] = g
	}
}

func (m *model) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

func (m *model) salted(id int64) int64 {
	if m.saltless {
		return id
	}
	return id | Salt(m.gen)
}

// connect gives a client a new connection, over which it sends all that is not acknowledged.
func (m *model) connect(p *producer) {
	m.conns++
	p.conn = &conn{n: m.conns, router: m.r.IntN(2)}
	p.sent = slices.Clone(p.unacked)
	// Where it is not known what was acknowledged, a batch that always overtakes another is taken for the next.
	if p.wild && !m.unsure && len(p.sent) > 1 && m.r.IntN(3) == 0 {
		p.sent[0], p.sent[1] = p.sent[1], p.sent[0]
	}
}

// send makes a client send its next batch, again or new.
func (m *model) send(p *producer) {
	if p.conn == nil {
		m.connect(p)
	}
	if len(p.sent) == 0 {
		if p.next == p.total || len(p.unacked) > 0 && p.batches-p.unacked[0].n == Remembered || !p.begun && len(p.unacked) > 0 {
			return
		}
		if len(p.unacked) == 0 && p.begun && m.r.IntN(12) == 0 { // it made its epoch anew
			p.epoch, p.seq = p.epoch+1, 0
		}
		n := min(1+m.r.IntN(3), p.total-p.next)
		b := stored{Batch{p.id, p.epoch, p.seq, int32(n), false}, int(p.id / Salts), p.next, p.batches}
		p.batches++
		p.next, p.seq = p.next+n, after(p.seq, int64(n))
		p.unacked, p.sent = append(p.unacked, b), append(p.sent, b)
	}
	p.up, p.sent = append(p.up, p.sent[0]), p.sent[1:]
}

// route lets the router read one batch.
func (m *model) route(p *producer) {
	b := p.up[0]
	p.up = p.up[1:]
	d := m.gates[p.router].Batch(p.n, b.Batch)
	m.reasons[d.Reason]++
	switch d = m.decide(d); d.Outcome {
	case Forward:
		p.down, p.owed = append(p.down, b), append(p.owed, owed{stored: b})
	case Answer:
		p.owed = append(p.owed, owed{b, true, d.Base})
	case Close:
		for p.conn != nil && len(p.owed) > 0 && p.owed[0].done {
			m.answer(p)
		}
		if p.conn != nil {
			m.drop(p)
		}
		if st := m.homes[m.home].ids[m.salted(p.id)]; st != nil && d.Reason == Gap && !m.saltless {
			for _, g := range m.gates { // the home was asked
				g.Known(p.id)
			}
		}
	}
}

// take lets the broker read one batch.
func (m *model) take(p *producer) {
	b := p.down[0]
	p.down = p.down[1:]
	before := len(m.homes[m.home].log)
	at, err := m.homes[m.home].append(m.salted(p.id), b)
	if errors.Is(err, errAhead) && p.unacked[0].record != b.record { // so any broker refuses what overtook another; it comes again, and nothing behind it was forwarded
		p.conn, p.sent = nil, nil
		return
	}
	if err != nil {
		m.fail("client %d, record %d, sequence %d: %w", b.client, b.record, b.First, err)
		return
	}
	if len(m.homes[m.home].log) > before {
		m.virtual[[2]int{m.home, at}] = int64(len(m.log))
		m.log = append(m.log, b)
	}
	base := m.virtual[[2]int{m.home, at}]
	if i := slices.IndexFunc(p.owed, func(o owed) bool { return !o.done && o.First == b.First && o.Epoch == b.Epoch }); i >= 0 {
		p.owed[i].done, p.owed[i].base = true, base
	}
}

// answer gives a client the oldest answer that it is owed.
func (m *model) answer(p *producer) {
	o := p.owed[0]
	p.owed = p.owed[1:]
	m.gates[p.router].Acked(o.Batch)
	m.acked = Merge(m.acked, []Producer{{ID: p.id, Epoch: o.Epoch, Last: o.last()}}, 0)
	if m.told[[2]int{o.client, o.record}] = true; m.r.IntN(25) == 0 { // lost behind the router
		p.conn, p.sent = nil, nil
		return
	}
	if i := slices.IndexFunc(p.unacked, func(b stored) bool { return b.record == o.record }); i >= 0 {
		if o.base >= 0 && (o.base >= int64(len(m.log)) || m.log[o.base].record != o.record || m.log[o.base].client != o.client) {
			m.fail("client %d was told that record %d is at %d", o.client, o.record, o.base)
		}
		p.unacked, p.begun = slices.Delete(p.unacked, i, i+1), true
	}
}

// drop ends a connection. Some of what was on its way to the home still arrives.
func (m *model) drop(p *producer) {
	for n := m.r.IntN(6); n > 0 && p.conn != nil && len(p.down) > 0; n-- {
		m.take(p)
	}
	p.conn, p.sent = nil, nil
}

// step is one thing that happens.
func (m *model) step() {
	p := m.clients[m.r.IntN(len(m.clients))]
	switch k := m.r.IntN(30); {
	case k < 9 || p.conn == nil:
		m.send(p)
	case k < 16 && len(p.up) > 0:
		m.route(p)
	case k < 22 && len(p.down) > 0:
		m.take(p)
	case k < 28 && len(p.owed) > 0 && p.owed[0].done:
		m.answer(p)
	case k == 29:
		m.drop(p)
	}
}

func (m *model) done() bool {
	return !slices.ContainsFunc(m.clients, func(p *producer) bool { return p.next < p.total || len(p.unacked) > 0 })
}

// left is what the log of the home knows of its producers in this generation, up to a virtual offset.
func (m *model) left(from, to int) []Producer {
	var out []Producer
	for v := from; v < to; v++ {
		b := m.log[v]
		out = Merge(out, []Producer{{ID: b.ID, Epoch: b.Epoch, Last: b.last(), Batches: []Written{{b.Epoch, b.First, b.last(), int64(v), 0}}}}, 0)
	}
	return out
}

// planned changes the home after the router stopped reading and the home has answered all.
func (m *model) planned(from int) {
	for _, p := range m.clients {
		for p.conn != nil && len(p.down) > 0 {
			m.take(p)
		}
	}
	for _, p := range m.clients {
		for n := m.r.IntN(6); p.conn != nil && n > 0 && len(p.owed) > 0 && p.owed[0].done; n-- {
			m.answer(p)
		}
		p.conn, p.sent = nil, nil
	}
	m.change(m.left(from, len(m.log)))
}

// lose changes the home because it is gone. Of its last batches some were not copied; they come when it is back.
func (m *model) lose(from int) {
	for _, p := range m.clients {
		if p.conn != nil {
			m.drop(p)
		}
	}
	end := max(from, len(m.log)-m.r.IntN(8))
	tail := m.log[end:]
	left := Merge(m.left(from, end), m.acked, 0)
	if m.unsure {
		left = m.left(from, end)
		for i := range left {
			left[i].Unsure = true
		}
		for i := range m.known {
			m.known[i].Unsure = true
		}
	}
	m.waits = append(m.waits, tail...)
	for v := end; v < len(m.log); v++ {
		at := [2]int{m.log[v].client, m.log[v].record}
		if _, before := m.sure[at]; !before {
			m.sure[at] = m.told[at] && !m.unsure
		}
		m.log[v] = stored{client: -1} // a hole
	}
	m.change(left)
}

func (m *model) change(left []Producer) {
	if m.home, m.gen, m.acked = 1-m.home, m.gen+1, nil; m.short {
		m.known = nil
	}
	m.begin(Merge(m.known, left, 0))
}

// late brings what was lost.
func (m *model) bring() {
	for _, b := range m.waits {
		m.late[len(m.log)] = true
		m.log = append(m.log, b)
	}
	m.waits = nil
}
