package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Bounds of what goes on at once.
const (
	maxSending  = 64   // streams that this node opened
	maxServing  = 64   // requests of other nodes
	maxQueued   = 1024 // letters for handlers
	replayRange = 1024 // how far letters may overtake each other
)

// Kinds of letters that the pool itself reads; callers' kinds cannot begin with a colon.
const (
	letterWant    = ":want"
	letterGive    = ":give"
	letterPropose = ":propose"
	letterKey     = ":key"
	letterAnswer  = ":answer"
	letterCompare = ":compare"
)

// mailbox sends and receives letters: messages over a stream for one life of one node. Each is numbered, so that it counts once.
type mailbox struct {
	p       *Pool
	sending chan struct{}
	serving chan struct{}
	queue   chan func()
	work    sync.WaitGroup

	mu       sync.Mutex
	ended    bool
	seq      uint64
	calls    map[uint64]chan []byte
	handlers map[string]func(from string, payload []byte)
	windows  map[lifeOf]*window
	served   map[request][]byte
	order    []request // of served
}

// lifeOf names a life of a node.
type lifeOf struct {
	name    string
	started int64
}

func newMailbox(p *Pool) *mailbox {
	return &mailbox{
		p: p, sending: make(chan struct{}, maxSending), serving: make(chan struct{}, maxServing), queue: make(chan func(), maxQueued),
		calls: make(map[uint64]chan []byte), handlers: make(map[string]func(string, []byte)), windows: make(map[lifeOf]*window), served: make(map[request][]byte),
	}
}

// window remembers which letters of a life came: all up to high-replayRange count as come.
type window struct {
	high uint64
	bits [replayRange / 64]uint64
}

// first tells whether a number comes for the first time, and remembers it.
func (w *window) first(n uint64) bool {
	if n == 0 || n+replayRange <= w.high {
		return false
	}
	for ; w.high < n; w.high++ {
		if n-w.high > replayRange {
			w.bits, w.high = [replayRange / 64]uint64{}, n-1
		}
		i := (w.high + 1) % replayRange
		w.bits[i/64] &^= 1 << (i % 64)
	}
	i := n % replayRange
	seen := w.bits[i/64]&(1<<(i%64)) != 0
	w.bits[i/64] |= 1 << (i % 64)
	return !seen
}

// Send tells one live node something, over a stream; it arrives once or, if that node is in trouble, not at all: nil means that it
// was written. kind has at most 32 bytes, payload at most [MaxPayloadBytes].
func (p *Pool) Send(ctx context.Context, node, kind string, payload []byte) error {
	if kind == "" || kind[0] == ':' || len(kind) > maxKindBytes || len(payload) > MaxPayloadBytes {
		return fmt.Errorf("send %.40q to %s: want a kind of 1 to %d bytes and at most %d bytes, not %d", kind, node, maxKindBytes, MaxPayloadBytes, len(payload))
	}
	return p.mail.send(ctx, node, kind, payload)
}

// Handle sets what is called for messages of a kind; before Run. Handlers are called one after the other and must not wait for long.
func (p *Pool) Handle(kind string, handler func(from string, payload []byte)) {
	p.mail.mu.Lock()
	defer p.mail.mu.Unlock()
	p.mail.handlers[kind] = handler
}

// spawn runs f unless too many do already; it tells whether it does.
func (m *mailbox) spawn(room chan struct{}, f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return false
	}
	select {
	case room <- struct{}{}:
	default:
		return false
	}
	m.work.Add(1)
	go func() {
		defer func() { <-room; m.work.Done() }()
		f()
	}()
	return true
}

// wait ends when all that was spawned did; nothing new is.
func (m *mailbox) wait() {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.work.Wait()
}

// send writes a letter; what memberlist does with it is bounded by the stream timeout, and goes on when ctx ends.
func (m *mailbox) send(ctx context.Context, node, kind string, payload []byte) error {
	done := make(chan error, 1)
	if !m.spawn(m.sending, func() { done <- m.write(node, kind, payload) }) {
		return fmt.Errorf("send %s to %s: too much is being sent already, or the pool ended", kind, node)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("send %s to %s: %w", kind, node, ctx.Err())
	}
}

// post sends without waiting.
func (m *mailbox) post(node, kind string, payload []byte) {
	m.spawn(m.sending, func() {
		if err := m.write(node, kind, payload); err != nil {
			m.p.deps.Log.Debug("gossip letter lost", "node", node, "kind", kind, "err", err)
		}
	})
}

func (m *mailbox) write(node, kind string, payload []byte) error {
	list := m.p.list.Load()
	if list == nil {
		return fmt.Errorf("send %s to %s: the pool does not run yet", kind, node)
	}
	m.p.mu.Lock()
	to, started := m.p.members.reach(node)
	m.p.mu.Unlock()
	if to == nil {
		return fmt.Errorf("send %s to %s: %w", kind, node, ErrUnknownNode)
	}
	m.mu.Lock()
	m.seq++
	seq := m.seq
	m.mu.Unlock()
	b := packLetter(m.p.cfg.Name, letter{FromStarted: m.p.cfg.Started, To: node, ToStarted: started, Seq: seq, Kind: kind, Payload: payload})
	if len(b) <= maxBroadcast {
		_ = list.SendBestEffort(to, b) // two round trips sooner, if it arrives; the second one of a number does not count
	}
	if err := list.SendReliable(to, b); err != nil {
		return fmt.Errorf("send %s to %s: %w", kind, node, err)
	}
	return nil
}

// reach is where a node can be sent to, and which life of it; nil if it is not there.
func (m *members) reach(name string) (*memberlist.Node, int64) {
	p := m.peers[name]
	if p == nil || !m.present(p) || name == m.self {
		return nil, 0
	}
	host, port, err := net.SplitHostPort(p.address)
	if err != nil {
		return nil, 0
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, 0
	}
	return &memberlist.Node{Name: name, Addr: net.ParseIP(host), Port: uint16(n)}, p.started
}

// receive takes a letter if it is for this life, and new.
func (m *mailbox) receive(from string, l letter) {
	if l.To != m.p.cfg.Name || l.ToStarted != m.p.cfg.Started {
		return // for another life of this node, or for a node that has its name
	}
	m.mu.Lock()
	w := m.windows[lifeOf{from, l.FromStarted}]
	if w == nil {
		if len(m.windows) >= maxNodes {
			m.forgetLocked()
		}
		w = &window{high: max(l.Seq, 1) - 1}
		w.high = max(w.high, replayRange) - replayRange // those before it may be on their way
		m.windows[lifeOf{from, l.FromStarted}] = w
	}
	fresh := w.first(l.Seq)
	handler := m.handlers[l.Kind]
	m.mu.Unlock()
	if !fresh {
		m.p.deps.Log.Debug("gossip letter came twice", "node", from, "kind", l.Kind)
		return
	}
	if m.own(from, l) {
		return
	}
	if handler == nil {
		m.p.deps.Log.Debug("gossip letter of an unknown kind", "node", from, "kind", l.Kind)
		return
	}
	select {
	case m.queue <- func() { handler(from, l.Payload) }:
	default:
		if m.p.limit.ok("full") {
			m.p.deps.Log.Warn("gossip letters dropped, their handlers are too slow", "kind", l.Kind)
		}
	}
}

// forgetLocked drops the windows of lives that no node has any more; all, if that makes no room.
func (m *mailbox) forgetLocked() {
	for life := range m.windows {
		if !m.p.isLife(life) {
			delete(m.windows, life)
		}
	}
	if len(m.windows) >= maxNodes {
		clear(m.windows)
	}
}

func (p *Pool) isLife(l lifeOf) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer := p.members.peers[l.name]
	return peer != nil && peer.started == l.started
}

// own reads the pool's own kinds; false if it is none.
func (m *mailbox) own(from string, l letter) bool {
	serve := map[string]func(){
		letterWant:    func() { m.p.serveWant(from, l.Payload) },
		letterGive:    func() { m.p.takeGive(from, l.Payload) },
		letterPropose: func() { m.answer(from, l, m.p.serveProposal) },
		letterKey:     func() { m.answer(from, l, m.p.serveKey) },
		letterAnswer:  func() { m.answered(l.Payload) },
		letterCompare: func() { m.p.serveCompare(from, l.Payload) },
	}[l.Kind]
	if serve == nil {
		return false
	}
	if !m.spawn(m.serving, serve) && m.p.limit.ok("serving") {
		m.p.deps.Log.Warn("gossip letters dropped, too many at once", "kind", l.Kind)
	}
	return true
}

// call sends a request and waits for its answer until ctx ends, and sends it again and again meanwhile; the other
// node serves it once.
func (m *mailbox) call(ctx context.Context, node, kind string, payload []byte, again time.Duration) ([]byte, error) {
	ch := make(chan []byte, 1)
	m.mu.Lock()
	m.seq++
	id := m.seq
	m.calls[id] = ch
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.calls, id)
		m.mu.Unlock()
	}()
	payload = append(binary.BigEndian.AppendUint64(nil, id), payload...)
	failed := make(chan error, 1)
	start := func() {
		if !m.spawn(m.sending, func() {
			if err := m.write(node, kind, payload); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		}) {
			m.p.deps.Log.Debug("gossip letter lost", "node", node, "kind", kind, "err", "too much is being sent already, or the pool ended")
		}
	}
	start()
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	for {
		select {
		case b := <-ch:
			return b, nil
		case err := <-failed:
			if errors.Is(err, ErrUnknownNode) {
				return nil, err
			}
		case <-ticker.C:
			start()
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", node, ctx.Err())
		}
	}
}

// request names a request of a life of a node.
type request struct {
	lifeOf
	id uint64
}

// maxServed is how many answers are kept for requests that come again.
const maxServed = 512

// answer serves a request, once.
func (m *mailbox) answer(from string, l letter, serve func(from string, b []byte) []byte) {
	if len(l.Payload) < 8 {
		m.p.unreadable(errShort, from)
		return
	}
	req := request{lifeOf{from, l.FromStarted}, binary.BigEndian.Uint64(l.Payload)}
	m.mu.Lock()
	reply, again := m.served[req]
	if !again {
		if len(m.order) >= maxServed {
			delete(m.served, m.order[0])
			m.order = m.order[1:]
		}
		m.served[req] = nil
		m.order = append(m.order, req)
	}
	m.mu.Unlock()
	if !again {
		reply = append(l.Payload[:8:8], serve(from, l.Payload[8:])...)
		m.mu.Lock()
		if _, ok := m.served[req]; ok {
			m.served[req] = reply
		}
		m.mu.Unlock()
	}
	if reply != nil { // nil: the first one is still being served, and will be answered
		m.post(from, letterAnswer, reply)
	}
}

func (m *mailbox) answered(payload []byte) {
	if len(payload) < 8 {
		return
	}
	m.mu.Lock()
	ch := m.calls[binary.BigEndian.Uint64(payload)]
	m.mu.Unlock()
	if ch != nil {
		select {
		case ch <- payload[8:]:
		default:
		}
	}
}

// loop calls the handlers.
func (m *mailbox) loop(ctx context.Context) error {
	for {
		select {
		case f := <-m.queue:
			f()
		case <-ctx.Done():
			return nil
		}
	}
}

var errNoAnswer = errors.New("an answer cannot be read")
