package mirror

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// handInbox bounds the messages that wait to be read. What is beyond is lost, and asked for again.
	handInbox = 1024
	// handSendFor is how long one message may take.
	handSendFor = time.Second
	// movedFor is for how long a pump is not given away with its place after it was anchored.
	movedFor = time.Minute
	// handLooks bounds the pumps that confirm a place that was handed over, at a time.
	handLooks = 32
)

// handover speaks with the other nodes' mirrors for all links of a node.
type handover struct {
	peers Peers
	find  func(PumpID) *pump
	log   *slog.Logger
	now   func() time.Time
	wake  chan struct{}

	mu     sync.Mutex // held for moments; a leaf of the lock order
	x      *exchange
	inbox  []letter
	given  []gift
	start  []PumpID            // pumps whose owner before need not be asked any more
	looks  []*pump             // whose places are to be confirmed
	offers map[string][]PumpID // what others own and this node copies, by owner
}

// letter is a message and who sent it.
type letter struct {
	from string
	handMessage
}

// taker is who gets a pump that leaves.
type taker struct {
	hand *handover
	order
}

func newHandover(peers Peers, find func(PumpID) *pump, log *slog.Logger, now func() time.Time, first uint64) *handover {
	return &handover{peers: peers, find: find, log: log, now: now, wake: make(chan struct{}, 1), x: newExchange(first), offers: make(map[string][]PumpID)}
}

func (h *handover) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// claim asks the owner before for a pump that is ready to start.
func (h *handover) claim(p PumpID, from string, have int64) {
	h.mu.Lock()
	h.x.want(p, from, have, h.now())
	h.mu.Unlock()
	h.signal()
}

// skip starts a pump without its owner before.
func (h *handover) skip(p PumpID) {
	h.mu.Lock()
	h.x.drop(p)
	h.start = append(h.start, p)
	h.mu.Unlock()
	h.signal()
}

// offer tells a node that this one copies a pump of its.
func (h *handover) offer(p PumpID, owner string) {
	h.mu.Lock()
	h.offers[owner] = append(h.offers[owner], p)
	h.mu.Unlock()
	h.signal()
}

// receive takes a message of another node.
func (h *handover) receive(from string, payload []byte) {
	m, err := decodeHand(payload)
	if err != nil {
		h.log.Debug("hand-over", "from", from, "error", err)
		return
	}
	h.mu.Lock()
	if len(h.inbox) < handInbox {
		h.inbox = append(h.inbox, letter{from, m})
	}
	h.mu.Unlock()
	h.signal()
}

// given takes a pump that was let go.
func (t *taker) given(g gift) {
	t.hand.mu.Lock()
	t.hand.given = append(t.hand.given, g)
	t.hand.mu.Unlock()
	t.hand.signal()
}

// giftLocked is what the new owner gets of a pump. Callers hold the pump's mu.
func (p *pump) giftLocked(t *taker) gift {
	g := gift{order: t.order, at: p.link.now(), safe: p.safe.clone(), old: p.out.old}
	if g.at.Sub(p.moved) < movedFor || p.unledLocked() {
		return g // who asks may know the log only as it was before: the store tells
	}
	for _, r := range p.offsets.Since(t.have) {
		if r = r.slice(r.Source, p.safe.SourceNext); r.Records > 0 {
			g.runs = append(g.runs, r)
		}
		if len(g.runs) > handRuns {
			break
		}
	}
	if g.have = g.check() == nil; !g.have {
		g.runs = nil
	}
	return g
}

// run speaks until ctx ends.
func (h *handover) run(ctx context.Context) error {
	var sends, looks errgroup.Group
	looks.SetLimit(handLooks)
	defer func() {
		_ = sends.Wait() // they return no errors
		_ = looks.Wait()
	}()
	for {
		out, started, next := h.step()
		for _, g := range started {
			if p := h.find(g.pump); p != nil {
				p.takeOver(g, h.now())
			}
		}
		h.confirm(ctx, &looks)
		for node, payloads := range out {
			sends.Go(func() error {
				for _, b := range payloads {
					h.send(ctx, node, b)
				}
				return nil
			})
		}
		t := time.NewTimer(max(time.Millisecond, next.Sub(h.now())))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		case <-h.wake:
			t.Stop()
		}
	}
}

func (h *handover) send(ctx context.Context, node string, payload []byte) {
	ctx, cancel := context.WithTimeout(ctx, handSendFor)
	defer cancel()
	if err := h.peers.Send(ctx, node, payload); err != nil && ctx.Err() == nil {
		h.log.Debug("hand-over not sent", "to", node, "error", err)
	}
}

// look has the place of a pump confirmed that was handed over, beside the workers of its link: a partition stands still.
func (h *handover) look(p *pump) {
	h.mu.Lock()
	h.looks = append(h.looks, p)
	h.mu.Unlock()
	h.signal()
}

// confirm looks at what is to be confirmed.
func (h *handover) confirm(ctx context.Context, looks *errgroup.Group) {
	h.mu.Lock()
	list := h.looks
	h.looks = nil
	h.mu.Unlock()
	for _, p := range list {
		if !looks.TryGo(func() error { p.link.look(ctx, p); return nil }) {
			p.link.agenda.add(p, 0)
		}
	}
}

// step does what there is to do, and says what is to be sent to whom, which pumps start, and when to come back.
func (h *handover) step() (out map[string][][]byte, started []gift, next time.Time) {
	now := h.now()
	h.mu.Lock()
	inbox, skipped := h.inbox, h.start
	h.inbox, h.start = nil, nil
	h.mu.Unlock()
	for _, p := range skipped {
		started = append(started, gift{order: order{pump: p}})
	}
	answers := make(map[string][]gift)
	for _, m := range inbox {
		started = append(started, h.hear(m, answers, now)...)
	}
	h.mu.Lock()
	waiting := h.x.waiting(now)
	h.mu.Unlock()
	for _, o := range waiting {
		h.ask(o, answers, now)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.given {
		h.x.released(g)
		answers[g.to] = append(answers[g.to], g)
	}
	h.given = nil
	due, over := h.x.due(now)
	asks := make(map[string][]claim)
	for _, c := range due {
		asks[c.from] = append(asks[c.from], c)
	}
	for _, p := range over {
		started = append(started, gift{order: order{pump: p}})
	}
	out = make(map[string][][]byte)
	for node, list := range h.offers {
		out[node] = encodeOffers(list)
	}
	clear(h.offers)
	for node, list := range asks {
		out[node] = append(out[node], encodeAsks(list)...)
	}
	for node, list := range answers {
		out[node] = append(out[node], encodeAnswers(list)...)
	}
	return out, started, h.x.wakeAt(now)
}

// hear takes a message: what is answered at once is added to the answers. It returns the pumps that were waited for.
func (h *handover) hear(m letter, answers map[string][]gift, now time.Time) (ours []gift) {
	for _, c := range m.asks {
		h.ask(order{pump: c.pump, to: m.from, number: c.number, have: c.have}, answers, now)
	}
	for _, id := range m.offers {
		if p := h.find(id); p != nil {
			p.offered(m.from, now)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range m.answers {
		if h.x.answered(g, m.from) {
			ours = append(ours, g)
		}
	}
	return ours
}

// ask judges one question: it is answered at once, or the pump is let go, or nothing is said for now.
func (h *handover) ask(o order, answers map[string][]gift, now time.Time) {
	p, s := h.find(o.pump), standsOff
	if p != nil {
		s = p.standing()
	}
	h.mu.Lock()
	verdict := h.x.asked(o, s, now)
	g := gift{order: o}
	if verdict == replyAgain {
		g = h.x.gifts[o.pump]
	}
	h.mu.Unlock()
	switch verdict {
	case replyNotMine, replyAgain:
		answers[o.to] = append(answers[o.to], g)
	case replyRelease:
		p.release(&taker{h, o}, now)
	}
}

// standing is what the pump is doing, for another node.
func (p *pump) standing() standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.leaving != nil && p.leaving.asker != nil:
		return standsBack
	case !p.born || p.gone || p.idleLocked():
		return standsOff
	case p.owner == "":
		return standsFor
	}
	return standsAway
}

// offered has the owner of a pump ask the node that copies it.
func (p *pump) offered(from string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.born || p.gone || p.owner != "" || p.leaving != nil {
		return // what is just being begun is offered again
	}
	switch p.state {
	case StateRunning:
	case StateYielded:
		p.held = from
		p.becomeLocked(StateWaiting, CauseOwner, "asking "+from+" for it", now)
	default:
		return // it could not go on where the other one stops; that one offers it again
	}
	p.link.shared.hand.claim(p.id, from, p.acked.SourceNext)
}

// release lets the pump go to another node.
func (p *pump) release(t *taker, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || !p.born || p.anchoring || p.leaving != nil && p.leaving.asker != nil {
		return
	}
	p.leaveLocked(&leaving{to: StateElsewhere, reason: "handed over to " + t.to, asker: t}, now)
}

// takeOver starts a pump that waited for its owner before: at the place that one released, if it did.
func (p *pump) takeOver(g gift, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.held
	if from == "" || p.gone {
		return
	}
	p.held = ""
	if g.have && !p.acked.ahead(g.safe) {
		g.safe.Writer = p.link.writer
		g.safe.SourcePartitions = max(g.safe.SourcePartitions, p.safe.SourcePartitions)
		p.acked, p.safe, p.fetchAt = g.safe, g.safe.clone(), g.safe.SourceNext
		p.sight.epoch = g.safe.SourceEpoch // it belongs to the place
		p.out.old, p.handed = g.old, true
		p.way.ways.Store(nil) // it may hold origins that no checkpoint tells of yet
		for _, r := range g.runs {
			p.offsets.Add(r)
		}
	}
	if p.state != StateWaiting || p.window == nil || p.fetcher == nil {
		p.handed = false
		return
	}
	p.out.keep = p.handed // what is read meanwhile
	p.beginsLocked("taken over from "+from, now)
	p.fetcher.mark(p)
}
