package gossip

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// askAgain is how long a node waits for what it asked for until it asks somebody else.
	askAgain = 1500 * time.Millisecond
	// giveBytes is about how much goes into one letter.
	giveBytes = 256 << 10
	// fewChanges is up to how many changes that came at once are passed on; more are left to the comparison of summaries.
	fewChanges = 8
)

// fetching is what this node is to ask for, and what it asked for lately.
type fetching struct {
	asked   map[string]time.Time
	pending map[string]*want // by the node that has it
	wake    chan struct{}
	hash    uint64 // of the settings, and since when
	since   time.Time
}

func newFetching() fetching {
	return fetching{asked: make(map[string]time.Time), pending: make(map[string]*want), wake: make(chan struct{}, 1)}
}

// onceLocked tells whether nobody was asked for a thing lately.
func (f *fetching) onceLocked(what string, now time.Time) bool {
	if now.Sub(f.asked[what]) < askAgain {
		return false
	}
	if len(f.asked) > maxIDs {
		clear(f.asked)
	}
	f.asked[what] = now
	return true
}

func (f *fetching) fromLocked(node string) *want {
	q := f.pending[node]
	if q == nil {
		q = &want{}
		f.pending[node] = q
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return q
}

// fetchLoop asks.
func (p *Pool) fetchLoop(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-p.fetch.wake:
		case <-tick.C:
			p.tidy()
		case <-ctx.Done():
			return nil
		}
		p.mu.Lock()
		pending := p.fetch.pending
		p.fetch.pending = make(map[string]*want)
		p.mu.Unlock()
		for node, q := range pending {
			p.mail.post(node, letterWant, packWant(*q))
		}
	}
}

// tidy drops what is over.
func (p *Pool) tidy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members.forget()
	for what, at := range p.fetch.asked {
		if p.deps.Now().Sub(at) > askAgain {
			delete(p.fetch.asked, what)
		}
	}
}

// readNotice reads that another node has something, and asks it for that if it is missing here.
func (p *Pool) readNotice(from string, kind messageKind, r *unpacker) error {
	switch kind {
	case kindHolds:
		ids := unpackTimes(r)
		if err := r.done(); err != nil {
			return err
		}
		for _, id := range ids {
			if p.deps.Settings.Has(id) {
				continue
			}
			p.mu.Lock()
			if p.fetch.onceLocked(id.String(), p.deps.Now()) {
				q := p.fetch.fromLocked(from)
				q.IDs = append(q.IDs, id)
			}
			p.mu.Unlock()
		}
	case kindReportAt:
		node, started, seq := r.string(maxNameBytes), r.int(), r.uint()
		if err := r.done(); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.missLocked(from, known{Name: node, Started: started, Seq: seq})
	default:
		version := r.time()
		if err := r.done(); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if version.Compare(p.pinned) > 0 && p.fetch.onceLocked("pins", p.deps.Now()) {
			p.fetch.fromLocked(from).Pins = true
		}
	}
	return nil
}

// missLocked asks a node for the report of another one if it has a newer one.
func (p *Pool) missLocked(from string, k known) {
	if k.Seq == 0 || k.Name == p.cfg.Name {
		return
	}
	peer := p.members.peers[k.Name]
	if peer != nil {
		if peer.started > k.Started || peer.started == k.Started && !newer(k.Started, k.Seq, peer.report) {
			return
		}
		if o := peer.other; o != nil && peer.started != k.Started && !newer(k.Started, k.Seq, *o) {
			return
		}
	}
	if p.fetch.onceLocked(fmt.Sprintf("report/%s/%d/%d", k.Name, k.Started, k.Seq), p.deps.Now()) {
		q := p.fetch.fromLocked(from)
		q.Reports = append(q.Reports, k.Name)
	}
}

// compare asks another node for what it has and this one has not.
func (p *Pool) compare(from string, s summary) {
	own := p.deps.Settings.Buckets()
	var parts []part
	for i := range own {
		if own[i] != s.Buckets[i] {
			parts = append(parts, part{Index: byte(i), Has: p.deps.Settings.InBucket(i)})
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := false
	for _, k := range s.Nodes {
		if k.Left && k.Name != p.cfg.Name {
			changed = p.members.bye(k.Name, k.Started) || changed
		}
		if k.Crashes > 0 || p.members.peers[k.Name] != nil {
			p.members.heard(from, k)
		}
		p.missLocked(from, k)
	}
	if len(parts) > 0 {
		p.fetch.fromLocked(from).Buckets = parts
	}
	if s.Pins.Compare(p.pinned) > 0 {
		p.fetch.fromLocked(from).Pins = true
	}
	if changed {
		p.members.settleAll()
		p.publishLocked()
	}
}

// calm is how long the settings must not have changed here until another node's are compared: what is new is on its way anyway.
const calm = 700 * time.Millisecond

// AckPayload is memberlist's: what goes with the answer to its probe. So each node compares its settings with a random other one
// every second, and a setting whose packets got lost is late, not missing.
func (d *delegate) AckPayload() []byte {
	w := &packer{}
	w.hash(fold(d.p.deps.Settings.Buckets()))
	return w.b
}

// fold makes one hash of the parts.
func fold(parts [64]uint64) (h uint64) {
	for i, v := range parts {
		h = mix(h ^ v ^ uint64(i))
	}
	return h
}

// NotifyPingComplete is memberlist's.
func (d *delegate) NotifyPingComplete(other *memberlist.Node, _ time.Duration, payload []byte) {
	p := d.p
	r := &unpacker{b: payload}
	theirs, ours := r.hash(), fold(p.deps.Settings.Buckets())
	p.mu.Lock()
	now, f := p.deps.Now(), &p.fetch
	if ours != f.hash {
		f.hash, f.since = ours, now
	}
	ask := r.err == nil && theirs != ours && now.Sub(f.since) >= calm && f.onceLocked("compare", now)
	p.mu.Unlock()
	if ask {
		p.mail.post(other.Name, letterCompare, append([]byte{1}, d.LocalState(false)...))
	}
}

// serveCompare compares with another node; the first byte tells whether that one is to do the same.
func (p *Pool) serveCompare(from string, b []byte) {
	if len(b) == 0 {
		p.unreadable(errShort, from)
		return
	}
	d := &delegate{p}
	d.MergeRemoteState(b[1:], false)
	if b[0] == 1 {
		p.mail.post(from, letterCompare, append([]byte{0}, d.LocalState(false)...))
	}
}

// serveWant gives another node what it asks for.
func (p *Pool) serveWant(from string, b []byte) {
	q, err := unpackWant(b)
	if err != nil {
		p.unreadable(err, from)
		return
	}
	ids := slices.DeleteFunc(q.IDs, func(id Time) bool { return !p.deps.Settings.Has(id) })
	for _, w := range q.Buckets {
		has := make(map[Time]bool, len(w.Has))
		for _, id := range w.Has {
			has[id] = true
		}
		for _, id := range p.deps.Settings.InBucket(int(w.Index)) {
			if !has[id] {
				ids = append(ids, id)
			}
		}
	}
	out := giving{p: p, to: from}
	p.mu.Lock()
	var small [][]byte
	for _, name := range q.Reports {
		if peer := p.members.peers[name]; peer != nil && peer.report.Seq > 0 {
			small = append(small, packReport(name, peer.report))
		}
	}
	if q.Pins && !p.pinned.IsZero() {
		small = append(small, packPins(p.cfg.Name, p.pinned, p.pins))
	}
	p.mu.Unlock()
	for _, m := range small {
		out.add(m)
	}
	for _, id := range ids {
		for _, c := range p.deps.Settings.Changes(id) {
			out.add(packChange(p.cfg.Name, c))
		}
	}
	out.flush()
}

// giving collects messages into letters.
type giving struct {
	p     *Pool
	to    string
	list  [][]byte
	bytes int
}

func (g *giving) add(b []byte) {
	if g.bytes > 0 && g.bytes+len(b) > giveBytes {
		g.flush()
	}
	g.list, g.bytes = append(g.list, b), g.bytes+len(b)
}

func (g *giving) flush() {
	if len(g.list) == 0 {
		return
	}
	// One letter after the other: a node that asks for much takes one stream, not all.
	if err := g.p.mail.write(g.to, letterGive, packList(g.list)); err != nil {
		g.p.deps.Log.Debug("gossip letter lost", "node", g.to, "kind", letterGive, "err", err)
	}
	g.list, g.bytes = nil, 0
}

// takeGive takes what this node asked for.
func (p *Pool) takeGive(from string, b []byte) {
	list, err := unpackList(b)
	if err != nil {
		p.unreadable(err, from)
		return
	}
	var changes []Change
	for _, m := range list {
		by, kind, r, err := unpack(m)
		switch {
		case err != nil:
			p.unreadable(err, from)
		case kind == kindChange:
			c, rest, err := DecodeChange(r.b)
			if err != nil || len(rest) > 0 {
				p.unreadable(fmt.Errorf("read a change: %w", cmpErr(err, errShort)), from)
				continue
			}
			changes = append(changes, c)
		case kind == kindReport, kind == kindPins:
			p.receive(m)
		default:
			p.unreadable(fmt.Errorf("message kind %d is not given", kind), by)
		}
	}
	p.takeChanges(changes)
}

func cmpErr(err, or error) error {
	if err != nil {
		return err
	}
	return or
}

func packChange(from string, c Change) []byte {
	w := pack(from, kindChange)
	w.b = EncodeChange(w.b, c)
	return w.b
}

func (p *Pool) readChange(r *unpacker) error {
	c, rest, err := DecodeChange(r.b)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("message has %d bytes too many", len(rest))
	}
	p.takeChanges([]Change{c})
	return nil
}

// takeChanges merges changes of other nodes, and passes on what is new.
func (p *Pool) takeChanges(changes []Change) {
	taken, err := p.deps.Settings.Merge(changes...)
	if err != nil && p.limit.ok("merge "+err.Error()[:min(80, len(err.Error()))]) {
		p.deps.Log.Warn("settings of another node refused", "err", err)
	}
	p.spread(taken)
}

// spread passes changes on: themselves, or where they are too large for a packet, that they are here.
func (p *Pool) spread(changes []Change) {
	if len(changes) == 0 {
		return
	}
	if len(changes) <= fewChanges {
		for _, c := range changes {
			b := packChange(p.cfg.Name, c)
			if len(b) > maxBroadcast {
				w := pack(p.cfg.Name, kindHolds)
				packTimes(w, []Time{c.Version})
				b = w.b
			}
			p.said.put("change/"+c.Version.String(), b)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.publishLocked()
}
