package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

const (
	windowRequests     = 5       // produce requests in flight to one broker
	windowRequestBytes = 4 << 20 // one produce request stops growing here
)

// window is the way of a track to one target broker: it gathers one batch per partition
// into a request, keeps several requests in flight, and hands the answers back.
// A broken connection fails everything in flight; the pumps find their places.
type window struct {
	link   *Link
	broker int32
	both   *[tracks]*window // of the broker

	mu     sync.Mutex
	listed []listing
	warmed bool          // a connection is wanted before there is something to send
	wake   chan struct{} // 1 token: something became ready
	turns
	line
	share
}

// listing is a pump's place in the list of a window. Only the latest one of a pump counts, of all windows: it may have been listed elsewhere since,
// and here again, and one request must not hold two batches of a partition.
type listing struct {
	pump   *pump
	ticket uint64
}

// newWindow makes those of both tracks, and returns that of pumps that follow.
func newWindow(l *Link, id int32) *window {
	both, at := new([tracks]*window), newLine(l.cfg.Workers)
	for t := range both {
		both[t] = &window{link: l, broker: id, both: both, wake: make(chan struct{}, 1)}
		both[t].line = at.beside()
	}
	return both[trackLive]
}

// ready says that the pump has something to send. Callers hold the pump's mu.
func (w *window) ready(p *pump) {
	if w == nil || p.out.listed == w {
		return
	}
	p.out.listed = w
	p.out.ticket++
	w.mu.Lock()
	w.listed = append(w.listed, listing{p, p.out.ticket})
	w.mu.Unlock()
	nudge(w.wake)
}

// warm has the window connect: a pump is about to have something to send.
func (w *window) warm() {
	w.mu.Lock()
	w.warmed = true
	w.mu.Unlock()
	nudge(w.wake)
}

// run connects again and again until ctx ends.
func (w *window) run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if attempt > 0 {
			if err := w.pause(ctx, w.link.jitter(reconnectWaits.after(attempt))); err != nil {
				return nil
			}
		}
		if err := w.await(ctx, true); err != nil {
			return nil
		}
		b, err := w.link.targetBroker(w.broker)
		if err == nil {
			var began time.Time
			began, err = w.session(ctx, b)
			switch {
			case began.IsZero():
			case err == nil && w.link.now().Sub(began) > time.Second: // its login ends; the next one is made at once
				attempt = -1
			case w.link.now().Sub(began) > 10*time.Second:
				attempt = 0
			}
		}
		if err != nil && ctx.Err() == nil {
			w.failed(err)
		}
	}
	return nil
}

// failed notes that a session ended with an error, or could not begin.
func (w *window) failed(err error) {
	if !ownEnd(err) {
		w.down.Store(true)
		w.link.trouble(w.link.to.Name(), partProduce(w.broker), err)
	}
	w.link.poke() // another may lead by now
	w.failReady(err)
}

// errMoved ends a session with an address that is somebody else's by now.
var errMoved = errors.New("has moved")

// ownEnd reports whether it was not the target's doing that a session ended.
func ownEnd(err error) bool { return errors.Is(err, errStopped) || errors.Is(err, errMoved) }

// await blocks until a pump has something to send: no connection is held for nothing to say, but it may be made a
// moment before.
func (w *window) await(ctx context.Context, connect bool) error {
	for {
		w.mu.Lock()
		ready := len(w.listed) > 0 || connect && w.warmed
		if connect {
			w.warmed = false
		}
		w.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
		}
	}
}

// failReady reports the lack of a connection to the pumps that wait for it.
func (w *window) failReady(err error) {
	w.mu.Lock()
	listed := w.listed
	w.listed = nil
	w.mu.Unlock()
	for _, at := range listed {
		if at.called() {
			at.pump.disconnected(w, err, w.link.now())
		}
	}
}

// session speaks over one connection until it breaks.
func (w *window) session(ctx context.Context, b broker.Broker) (began time.Time, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, w.link.cfg.DialTimeout)
	conn, err := w.link.to.ProduceConn(dialCtx, b)
	cancel()
	if err != nil {
		return began, fmt.Errorf("connect to broker %d of %s: %w", b.ID, w.link.to.Name(), err)
	}
	w.connected()
	defer w.open.Store(false)
	began = w.link.now()
	w.answered.Store(began.UnixNano())
	flights := make(chan []broker.ProduceBatch, windowRequests)
	slots := make(chan struct{}, windowRequests)
	received := make(chan error, 1)
	sessionCtx, stop := context.WithCancel(ctx)
	go func() { received <- w.receive(sessionCtx, stop, conn, flights, slots) }()
	sendErr := w.send(sessionCtx, conn, flights, slots)
	close(flights)
	if sendErr != nil {
		conn.Close()
	}
	recvErr := <-received
	stop()
	conn.Close()
	return began, endOf(sendErr, recvErr)
}

// connected has the pumps go on that waited for the broker.
func (w *window) connected() {
	w.swift()
	if w.up() {
		w.link.resume(w, nil)
	}
}

// endOf says why a session ended: what broke the one half breaks the other. Answers come late or not at all for what was
// written well, so theirs is the cause, unless we hung up.
func endOf(sendErr, recvErr error) error {
	if recvErr == nil || ownEnd(sendErr) {
		return sendErr
	}
	return recvErr
}

// send builds and writes requests while the connection lives, and until its login ends, which is no error.
func (w *window) send(ctx context.Context, conn *broker.ProduceConn, flights chan<- []broker.ProduceBatch, slots chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case slots <- struct{}{}:
		}
		var request []broker.ProduceBatch
		var began time.Time
		var doubtful bool
		for len(request) == 0 {
			if err := w.await(ctx, false); err != nil {
				return err
			}
			if now, err := w.link.targetBroker(w.broker); err == nil && moved(conn.Broker(), now) {
				return fmt.Errorf("broker %d of %s %w to %s:%d", w.broker, w.link.to.Name(), errMoved, now.Host, now.Port)
			}
			// The broker would hang up, also after a long idle time; what is in flight is answered before.
			if until := conn.ReopenBy(); !until.IsZero() && w.link.now().After(until) {
				return nil
			}
			request, began, doubtful = w.gather()
		}
		err := errStopped
		if writes := w.link.now(); !w.link.pulse.outdated(began, writes, doubtful) {
			err = conn.Send(ctx, request)
			w.wrote(writes, w.link.now())
		}
		if err == nil {
			written(request)
		}
		flights <- request // capacity: one per slot
		if err != nil {
			return fmt.Errorf("send to broker %d of %s: %w", w.broker, w.link.to.Name(), err)
		}
	}
}

// gather takes at most one batch of each listed pump, in the order they became
// ready, until the request is large enough. Pumps with more to send go to the
// back of the list, so none starves; while the way is narrow, those wait for whom
// it is not the turn yet. doubtful: the broker might take one of the batches
// from anybody. began is when the first of them was judged: before that they are
// merged, which may take longer than another owner waits.
func (w *window) gather() (request []broker.ProduceBatch, began time.Time, doubtful bool) {
	began = w.link.now()
	w.mu.Lock()
	listed := w.listed
	w.listed = nil
	w.mu.Unlock()
	narrow := w.narrow(began)
	if narrow {
		w.begin(listed)
	}
	var packed []*pump
	bytes := 0
	for i, at := range listed {
		if bytes >= windowRequestBytes {
			w.mu.Lock()
			w.listed = append(append([]listing(nil), listed[i:]...), w.listed...)
			w.mu.Unlock()
			break
		}
		if narrow && !w.turn(at) {
			w.mu.Lock()
			w.listed = append(w.listed, at)
			w.mu.Unlock()
			continue
		}
		if !at.called() {
			continue
		}
		if n := at.pump.pack(w, began); n > 0 {
			packed = append(packed, at.pump)
			bytes += n
		}
	}
	began = w.link.now()
	// A request has one batch for a partition, and of topics that are one there several pumps write to it; one of those may have that name already.
	var full map[topicPartition]bool
	if slices.ContainsFunc(packed, func(p *pump) bool { return p.id.As != "" }) {
		full = make(map[topicPartition]bool)
	}
	for _, p := range packed {
		at := topicPartition{p.id.Target(), p.id.Partition}
		if full[at] {
			p.later()
			continue
		}
		b := p.next(w, began)
		if b == nil {
			continue
		}
		if narrow {
			w.charge(p, int64(len(b.bytes)))
		}
		id, alone := p.target()
		request = append(request, broker.ProduceBatch{Topic: p.id.Target(), TopicID: id, Partition: p.id.Partition, Bytes: b.bytes, Token: b})
		doubtful = doubtful || alone
		if full != nil {
			full[at] = true
		}
		p.again()
	}
	return request, began, doubtful
}

// receive hands out answers in the order of the requests. When the connection
// breaks it fails every request that is still unanswered.
func (w *window) receive(ctx context.Context, stop context.CancelFunc, conn *broker.ProduceConn, flights <-chan []broker.ProduceBatch, slots <-chan struct{}) error {
	var broken error
	answered := false
	for request := range flights {
		var results []broker.ProduceResult
		if broken == nil {
			results, broken = conn.Recv(ctx)
			if broken != nil {
				broken = fmt.Errorf("answer of broker %d of %s: %w", w.broker, w.link.to.Name(), broken)
				w.down.Store(true) // before the pumps hear of it
				stop()
				conn.Close()
			} else if !answered {
				answered = true
				w.link.reached(w.link.to.Name(), partProduce(w.broker))
			}
		}
		now := w.link.now()
		w.answered.Store(now.UnixNano())
		if broken != nil {
			for _, b := range request {
				out := b.Token.(*outBatch)
				out.pump.result(out, broker.ProduceResult{Batch: b, Err: broken}, now)
			}
		} else {
			for _, r := range results {
				out := r.Batch.Token.(*outBatch)
				out.pump.result(out, r, now)
			}
		}
		w.caughtUp()
		<-slots
	}
	return broken
}

// written lets go of the frames of batches that are on the wire: what has to be written again is read again.
func written(request []broker.ProduceBatch) {
	for _, b := range request {
		b.Token.(*outBatch).unhold()
	}
}

// called takes the pump off the list, and reports whether it has not been listed anew since.
func (at listing) called() bool {
	p := at.pump
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.ticket != at.ticket {
		return false
	}
	p.out.listed = nil
	return true
}

// again lists the pump once more if it has more to send.
func (p *pump) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == StateRunning && len(p.out.queue) > 0 && !p.out.solo && len(p.out.inflight) < pumpInFlight {
		p.window.ready(p)
	}
}

// later lists a pump again of which nothing was taken.
func (p *pump) later() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == StateRunning && len(p.out.queue) > 0 {
		p.window.ready(p)
	}
}

// disconnected backs the pump off because its target broker cannot be reached.
func (p *pump) disconnected(w *window, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.window == w && p.state == StateRunning && len(p.out.inflight) == 0 {
		p.link.metrics.failed(p, err)
		p.drainLocked(causeOf(err, CauseTarget), err.Error(), now)
	}
}

// target is the topic's id there, and whether what was just taken for it goes alone.
func (p *pump) target() (id [16]byte, alone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked.TargetTopicID, p.out.solo
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
