package mirror

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

const (
	windowRequests     = 5       // produce requests in flight to one broker
	windowRequestBytes = 4 << 20 // one produce request stops growing here
)

// window is the way to one target broker: it gathers one batch per partition
// into a request, keeps several requests in flight, and hands the answers back.
// A broken connection fails everything in flight; the pumps find their places.
type window struct {
	link   *Link
	broker int32

	mu     sync.Mutex
	listed []*pump
	wake   chan struct{} // 1 token: something became ready
}

func newWindow(l *Link, id int32) *window {
	return &window{link: l, broker: id, wake: make(chan struct{}, 1)}
}

// ready says that the pump has something to send. Callers hold the pump's mu.
func (w *window) ready(p *pump) {
	if w == nil || p.out.listed == w {
		return
	}
	p.out.listed = w
	w.mu.Lock()
	w.listed = append(w.listed, p)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run connects again and again until ctx ends.
func (w *window) run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if attempt > 0 {
			if err := sleep(ctx, w.link.jitter(min(100*time.Millisecond<<min(attempt, 6), 5*time.Second))); err != nil {
				return nil
			}
		}
		if err := w.awaitReady(ctx); err != nil {
			return nil
		}
		b, err := w.link.targetBroker(w.broker)
		if err == nil {
			var began time.Time
			began, err = w.session(ctx, b)
			if !began.IsZero() && w.link.now().Sub(began) > 10*time.Second {
				attempt = 0
			}
		}
		if err != nil && ctx.Err() == nil {
			w.link.trouble(w.link.to.Name(), err)
			w.failReady(err)
		}
	}
	return nil
}

// awaitReady blocks until a pump has something to send: no connection is held
// for nothing to say.
func (w *window) awaitReady(ctx context.Context) error {
	for {
		w.mu.Lock()
		n := len(w.listed)
		w.mu.Unlock()
		if n > 0 {
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
	for _, p := range listed {
		p.disconnected(w, err, w.link.now())
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
	w.link.reached(w.link.to.Name())
	began = w.link.now()
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
	if recvErr != nil {
		return began, recvErr
	}
	return began, sendErr
}

// send builds and writes requests while the connection lives.
func (w *window) send(ctx context.Context, conn *broker.ProduceConn, flights chan<- []broker.ProduceBatch, slots chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case slots <- struct{}{}:
		}
		var request []broker.ProduceBatch
		for len(request) == 0 {
			if err := w.awaitReady(ctx); err != nil {
				return err
			}
			request = w.gather()
		}
		err := conn.Send(ctx, request)
		flights <- request // capacity: one per slot
		if err != nil {
			return fmt.Errorf("send to broker %d of %s: %w", w.broker, w.link.to.Name(), err)
		}
	}
}

// gather takes at most one batch of each listed pump, in the order they became
// ready, until the request is large enough. Pumps with more to send go to the
// back of the list, so none starves.
func (w *window) gather() []broker.ProduceBatch {
	now := w.link.now()
	var request []broker.ProduceBatch
	bytes := 0
	w.mu.Lock()
	listed := w.listed
	w.listed = nil
	w.mu.Unlock()
	for i, p := range listed {
		if bytes >= windowRequestBytes {
			w.mu.Lock()
			w.listed = append(append([]*pump(nil), listed[i:]...), w.listed...)
			w.mu.Unlock()
			break
		}
		b := p.next(w, now)
		if b == nil {
			continue
		}
		request = append(request, broker.ProduceBatch{Topic: p.id.Topic, TopicID: p.targetTopicID(),
			Partition: p.id.Partition, Bytes: b.bytes, Token: b})
		bytes += len(b.bytes)
		p.again()
	}
	return request
}

// receive hands out answers in the order of the requests. When the connection
// breaks it fails every request that is still unanswered.
func (w *window) receive(ctx context.Context, stop context.CancelFunc, conn *broker.ProduceConn, flights <-chan []broker.ProduceBatch, slots <-chan struct{}) error {
	var broken error
	for request := range flights {
		var results []broker.ProduceResult
		if broken == nil {
			results, broken = conn.Recv(ctx)
			if broken != nil {
				broken = fmt.Errorf("answer of broker %d of %s: %w", w.broker, w.link.to.Name(), broken)
				stop()
				conn.Close()
			}
		}
		now := w.link.now()
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
		<-slots
	}
	return broken
}

// again lists the pump once more if it has more to send.
func (p *pump) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == StateRunning && len(p.out.queue) > 0 && !p.out.solo && len(p.out.inflight) < pumpInFlight {
		p.window.ready(p)
	}
}

// disconnected backs the pump off because its target broker cannot be reached.
func (p *pump) disconnected(w *window, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.listed == w {
		p.out.listed = nil
	}
	if p.window == w && p.state == StateRunning && len(p.out.inflight) == 0 {
		p.link.metrics.failed(p, err)
		p.drainLocked(err.Error(), now)
	}
}

func (p *pump) targetTopicID() [16]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked.TargetTopicID
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
