package gossip

import (
	"math"
	"slices"
	"time"
)

// crashMemory is how long a crash counts.
const crashMemory = 10 * time.Minute

// forgetAfter is how long a node that is gone stays in the view, and is looked for.
const forgetAfter = 24 * time.Hour

// peer is what this node knows of one node.
type peer struct {
	name, address string
	dc            string
	status        Status
	since         time.Time

	started int64     // the life that membership tells of; 0: it is known by reports only
	joined  bool      // membership has it alive
	missed  time.Time // when membership lost it
	gone    bool      // its watchers lost it
	left    bool      // this life said that it goes
	report  Report
	other   *Report // the last one of another life than membership knows: that life may come, or be a second node of this name

	crashed map[int64]time.Time   // lives that ended without a word, and when
	told    map[string]toldCrash  // what others counted
	seen    map[string]sightingBy // what its watchers say, by their name
}

type toldCrash struct {
	count int
	at    time.Time
}

type sightingBy struct {
	sighting
	at time.Time
}

// members is all that is known of the nodes. Its owner locks it.
type members struct {
	self  string
	now   func() time.Time
	peers map[string]*peer
	turn  uint64 // counts what can change who watches whom

	cached    map[string][]string // watchers by node, as of cachedAt
	cachedAt  uint64
	cachedAll []watcher
}

func newMembers(self string, now func() time.Time) *members {
	return &members{self: self, now: now, peers: make(map[string]*peer)}
}

// get returns what is known of a node, and makes room for a new one; nil if there is none.
func (m *members) get(name string) *peer {
	p := m.peers[name]
	if p == nil && len(m.peers) < maxNodes {
		p = &peer{name: name, status: Dead, crashed: make(map[int64]time.Time), told: make(map[string]toldCrash), seen: make(map[string]sightingBy)}
		m.peers[name] = p
	}
	return p
}

// join notes that membership has a node.
func (m *members) join(name, address string, d meta) bool {
	p := m.get(name)
	if p == nil {
		return false
	}
	if d.Started != p.started {
		m.live(p, d.Started)
	}
	if !p.joined {
		clear(p.seen) // it refuted whatever was said
		p.gone = false
	}
	p.address, p.dc, p.joined, p.missed = address, d.DC, true, time.Time{}
	m.turn++
	return m.settle(p)
}

// live begins a new life of a name.
func (m *members) live(p *peer, started int64) {
	if p.started != 0 && !p.left && started > p.started {
		// It came back before anybody missed it, or was missed already: its last life crashed either way.
		if _, known := p.crashed[p.started]; !known {
			p.crashed[p.started] = m.now()
		}
	}
	p.started, p.left = started, false
	clear(p.seen)
	p.gone = false
	if p.report.Started != started {
		p.report = Report{}
	}
	if p.other != nil && p.other.Started == started {
		p.report, p.other = *p.other, nil
	}
}

// leave notes that membership lost a node, or was told that it goes.
func (m *members) leave(name string) bool {
	p := m.peers[name]
	if p == nil {
		return false
	}
	p.joined, p.missed = false, m.now()
	m.turn++
	return m.settle(p)
}

// bye notes that a life of a node ends in good order.
func (m *members) bye(name string, started int64) bool {
	p := m.peers[name]
	if p == nil || p.started != started || p.left {
		return false
	}
	p.left = true
	delete(p.crashed, started)
	m.settle(p)
	return true
}

// tell takes a report over if it is the newest of the node's life. A report of another life waits until membership knows that life.
func (m *members) tell(name string, rep Report) bool {
	p := m.get(name)
	if p == nil {
		return false
	}
	if p.started != rep.Started {
		if p.other == nil || newer(rep.Started, rep.Seq, *p.other) {
			p.other = &rep
		}
		return false
	}
	if p.report.Seq != 0 && !newer(rep.Started, rep.Seq, p.report) {
		return false
	}
	p.report = rep
	return true
}

// doubt is how long a node still counts as there after membership lost it. memberlist judges by the word of few; if it is wrong,
// the node says so within that time. That a node is dead its watchers know sooner.
const doubt = 3 * time.Second

// present tells whether membership has a node, or lost it just now.
func (m *members) present(p *peer) bool {
	return p.joined || !p.missed.IsZero() && m.now().Sub(p.missed) < doubt
}

// settle works out the status of a node again.
func (m *members) settle(p *peer) bool {
	status := Dead
	switch {
	case p.left:
		status = Left
	case p.name == m.self, m.present(p) && !m.lost(p):
		status = Alive
	}
	if status == p.status && !p.since.IsZero() {
		return false
	}
	switch {
	case status == Dead && p.started != 0:
		p.crashed[p.started] = m.now()
	case status == Alive:
		delete(p.crashed, p.started) // it was only out of reach
	}
	p.status, p.since = status, m.now()
	m.turn++
	return true
}

// crashes is how often a node crashed lately as this node saw it itself, and as any node that told it did;
// age is that of the last one that it saw itself.
func (m *members) crashes(name string) (own, any int, age time.Duration) {
	p := m.peers[name]
	if p == nil {
		return 0, 0, 0
	}
	now := m.now()
	age = crashMemory
	for _, at := range p.crashed {
		if now.Sub(at) < crashMemory {
			own++
			age = min(age, now.Sub(at))
		}
	}
	any = own
	for _, t := range p.told {
		if now.Sub(t.at) < crashMemory {
			any = max(any, t.count)
		}
	}
	return own, any, age
}

// heard notes how many crashes of a node another one counted.
func (m *members) heard(by string, k known) {
	p := m.get(k.Name)
	switch {
	case p == nil:
	case k.Crashes == 0:
		delete(p.told, by)
	case len(p.told) < maxNodes:
		p.told[by] = toldCrash{int(k.Crashes), m.now().Add(-time.Duration(k.Age) * time.Second)}
	}
}

// forget drops what is over for long.
func (m *members) forget() {
	now := m.now()
	for name, p := range m.peers {
		for life, at := range p.crashed {
			if now.Sub(at) >= crashMemory && (life != p.started || p.status != Dead) {
				delete(p.crashed, life)
			}
		}
		for by, t := range p.told {
			if now.Sub(t.at) >= crashMemory {
				delete(p.told, by)
			}
		}
		if name != m.self && !p.joined && now.Sub(p.since) > forgetAfter {
			delete(m.peers, name)
		}
	}
}

// known is what a digest tells of all nodes.
func (m *members) known() []known {
	all := make([]known, 0, len(m.peers))
	for _, name := range sortedKeys(m.peers) {
		p := m.peers[name]
		if p.started == 0 {
			continue
		}
		own, _, age := m.crashes(name)
		all = append(all, known{Name: name, Started: p.started, Seq: p.report.Seq, Crashes: byte(min(own, math.MaxUint8)), Age: uint64(age / time.Second), Left: p.left})
	}
	return all
}

// view lists the nodes that membership ever told of.
func (m *members) view(pins []Pin) *View {
	v := &View{Self: m.self, Pins: slices.Clone(pins)}
	for _, name := range sortedKeys(m.peers) {
		if p := m.peers[name]; p.started != 0 {
			v.Members = append(v.Members, Member{Name: name, Address: p.address, Status: p.status, Since: p.since, Report: p.report})
		}
	}
	return v
}
