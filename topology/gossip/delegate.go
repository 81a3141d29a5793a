package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Sizes of packets. A path over the internet takes 1400 bytes; what membership, label and key need is left free.
const (
	maxPacket    = 1400
	maxBroadcast = 1000
)

// delegate is what memberlist calls. It calls some of it with its own lock held, so nothing here may call memberlist.
type delegate struct{ p *Pool }

// NodeMeta is memberlist's.
func (d *delegate) NodeMeta(int) []byte {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return packMeta(d.p.metaLocked())
}

func (p *Pool) metaLocked() meta {
	return meta{Started: p.cfg.Started, Settled: p.contest.settled, DC: p.cfg.DC}
}

// NotifyMsg is memberlist's: a packet, or what came over a stream.
func (d *delegate) NotifyMsg(b []byte) { d.p.receive(bytes.Clone(b)) }

// GetBroadcasts is memberlist's.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte { return d.p.said.take(overhead, limit) }

// LocalState is memberlist's.
func (d *delegate) LocalState(bool) []byte {
	s := summary{Started: d.p.cfg.Started, Buckets: d.p.deps.Settings.Buckets()}
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	s.Nodes, s.Pins = d.p.members.known(), d.p.pinned
	return packSummary(d.p.cfg.Name, s)
}

// MergeRemoteState is memberlist's.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	from, kind, r, err := unpack(b)
	if err == nil && kind != kindSummary {
		err = fmt.Errorf("message kind %d, want a summary", kind)
	}
	if err != nil {
		d.p.unreadable(err, from)
		return
	}
	s, err := unpackSummary(r)
	if err != nil {
		d.p.unreadable(err, from)
		return
	}
	d.p.compare(from, s)
}

// NotifyAlive is memberlist's: it refuses nodes that no Isthmus can be.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	m, err := unpackMeta(n.Meta)
	switch {
	case err != nil:
		return fmt.Errorf("read what it says of itself: %w", err)
	case m.Started <= 0:
		return errors.New("it has no start")
	case n.Name == "" || len(n.Name) > maxNodeBytes:
		return errors.New("it has no name that a node can have")
	case len(n.Addr) != net.IPv4len && len(n.Addr) != net.IPv6len:
		return errors.New("it has no address")
	}
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.p.members.get(n.Name) == nil {
		return errors.New("there are too many nodes")
	}
	return nil
}

// NotifyJoin is memberlist's.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.seen(n) }

// NotifyUpdate is memberlist's.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.seen(n) }

func (d *delegate) seen(n *memberlist.Node) {
	m, err := unpackMeta(n.Meta)
	if err != nil {
		return // NotifyAlive refused it
	}
	p := d.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.Name == p.cfg.Name {
		return
	}
	p.members.join(n.Name, net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))), m)
	p.members.settleAll()
	p.said.nodes.Store(int64(p.members.joined()))
	p.publishLocked()
}

// NotifyLeave is memberlist's; it does not say why.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	p := d.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.Name == p.cfg.Name {
		return
	}
	p.members.leave(n.Name)
	p.members.settleAll()
	p.said.nodes.Store(int64(p.members.joined()))
	p.publishLocked()
}

// joined counts the nodes that membership has alive.
func (m *members) joined() (n int) {
	for _, p := range m.peers {
		if p.joined {
			n++
		}
	}
	return n
}

// receive takes one message.
func (p *Pool) receive(b []byte) {
	from, kind, r, err := unpack(b)
	if err != nil {
		p.unreadable(err, from)
		return
	}
	if from == p.cfg.Name {
		return // it came back around, or is of a node that took this one's name
	}
	switch kind {
	case kindReport:
		var rep Report
		if rep, err = unpackReport(r); err == nil {
			p.takeReport(from, rep)
		}
	case kindChange:
		err = p.readChange(r)
	case kindPins:
		var version Time
		var pins []Pin
		if version, pins, err = unpackPins(r); err == nil {
			p.takePins(version, pins)
		}
	case kindHolds, kindReportAt, kindPinsAt:
		err = p.readNotice(from, kind, r)
	case kindLost:
		var s sighting
		if s, err = unpackSighting(r); err == nil {
			p.takeSighting(from, s)
		}
	case kindBye:
		started := r.int()
		if err = r.done(); err == nil {
			p.takeBye(from, started)
		}
	case kindReliable:
		var l letter
		if l, err = unpackLetter(r); err == nil {
			p.mail.receive(from, l)
		}
	default:
		err = fmt.Errorf("message kind %d is not known", kind)
	}
	if err != nil {
		p.unreadable(err, from)
	}
}

// unreadable says once a minute for each sender that it does not understand it.
func (p *Pool) unreadable(err error, from string) {
	var newer *errNewer
	if errors.As(err, &newer) {
		if p.limit.ok("newer " + from) {
			p.deps.Log.Warn("a node speaks a newer version of the gossip; upgrade this one", "node", from, "version", newer.version, "known", messageVersion)
		}
		return
	}
	if p.limit.ok("broken " + from) {
		p.deps.Log.Warn("gossip message cannot be read", "node", from, "err", err)
	}
}

func (p *Pool) takeBye(from string, started int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.members.bye(from, started) {
		w := pack(from, kindBye)
		w.int(started)
		p.said.put("bye/"+from, w.b)
		p.members.settleAll()
		p.publishLocked()
	}
}

func (p *Pool) takeSighting(by string, s sighting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	news, changed := p.members.sight(by, s)
	if news {
		p.said.put("seen/"+s.Node+"/"+by, packSighting(by, s))
	}
	if changed {
		p.publishLocked()
	}
}

// outbox are the messages that go out with the next packets.
type outbox struct {
	queue memberlist.TransmitLimitedQueue
	nodes atomic.Int64
}

func newOutbox(repeats int) *outbox {
	o := &outbox{}
	o.queue.RetransmitMult = repeats
	o.queue.NumNodes = func() int { return int(o.nodes.Load()) }
	return o
}

// put says something; a later message of the same name replaces it.
func (o *outbox) put(name string, b []byte) { o.queue.QueueBroadcast(broadcast{name, b}) }

// outboxLimit bounds what waits; anti-entropy brings what is dropped.
const outboxLimit = 4096

func (o *outbox) take(overhead, limit int) [][]byte {
	if o.queue.NumQueued() > outboxLimit {
		o.queue.Prune(outboxLimit)
	}
	return o.queue.GetBroadcasts(overhead, limit)
}

// broadcast is memberlist's word for a message that is repeated for a while.
type broadcast struct {
	name string
	b    []byte
}

// Invalidates is memberlist's.
func (b broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(broadcast)
	return ok && o.name == b.name
}

// Name is memberlist's.
func (b broadcast) Name() string { return b.name }

// Message is memberlist's.
func (b broadcast) Message() []byte { return b.b }

// Finished is memberlist's.
func (b broadcast) Finished() {}

// contest is about this node's name.
type contest struct {
	settled     bool // it is this node's for a while
	first, last time.Time
	err         error
}

// NotifyConflict is memberlist's: a name has two addresses. Who had the name before keeps it: who is settled, or started first. Clocks only
// matter between two that are both settled, which a split can bring, or both new.
func (d *delegate) NotifyConflict(mine, other *memberlist.Node) {
	p := d.p
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := unpackMeta(other.Meta)
	if err != nil || mine.Name != p.cfg.Name {
		return
	}
	at := net.JoinHostPort(other.Addr.String(), strconv.Itoa(int(other.Port)))
	self := p.metaLocked()
	wins := self.Started < m.Started || self.Started == m.Started && bytes.Compare(mine.Addr, other.Addr) < 0
	if self.Settled != m.Settled {
		wins = self.Settled
	}
	if wins {
		if p.limit.ok("name " + at) {
			p.deps.Log.Warn("another node has this node's name, and is to step back", "name", p.cfg.Name, "address", at)
		}
		return
	}
	p.contest.last = p.deps.Now()
	if p.contest.err == nil {
		p.contest.first = p.contest.last
	}
	p.contest.err = fmt.Errorf("%w: node %q at %s was there before; give this one a name of its own", ErrNameTaken, p.cfg.Name, at)
}
