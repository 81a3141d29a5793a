package relay

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/router/walk"
)

// Relay is one client connection and the upstream connection that belongs to it.
type Relay struct {
	cfg    Config
	client *line
	up     *line // nil until something is forwarded; set by the requests goroutine before the other one starts

	changed chan struct{} // an answer passed: something for the requests goroutine to look at
	over    chan struct{} // closed when the connection has failed
	answers sync.WaitGroup

	answered bool // the broker has, once; the answers goroutine's until it has ended

	walking
	course
	asker
	seen Seen

	mu    sync.Mutex
	state state
}

// walking is how Produce and Fetch pass.
type walking struct {
	toUp, toClient *walk.Walker // of the requests and of the answers goroutine; nil before the first use: many connections never produce or fetch
	patch          walk.Patch   // for answers, at patchOf
	patchOf        *rewrite.View
	notes          notes // of the answers goroutine
}

// course is where the connection goes. It is the requests goroutine's.
type course struct {
	generation    int64 // of the home that up goes to
	standIn       bool  // up is another broker than that of the slot
	bound         bool  // the client's own login was passed to up
	moved         bool  // up was left, and the next one does not know the user yet
	inTransaction bool  // one has begun over this connection
	writing       bool  // the request that is served is counted in Seen.Writes
	order         order
	session       *places // where the last Fetch was asked for; nil where offsets are the home's own
	unheard       bool    // a request without an answer was sent over it
	loose         bool    // one of before is, which has no answer: whatever is answered behind it says that it was served
}

// state is what both goroutines share.
type state struct {
	owe      pending
	err      error // the first
	over     bool
	draining bool
	inFrame  bool        // a request has begun
	muted    time.Time   // the client is not read before
	leaving  bool        // up is ended because the home has changed
	flush    bool        // somebody waits for what has no answer
	last     *time.Timer // of draining
}

// New makes a relay; Run runs it.
func New(cfg Config) (*Relay, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	r := &Relay{cfg: cfg, client: newLine(cfg.Client, Client), changed: make(chan struct{}, 1), over: make(chan struct{})}
	r.named = r.note
	r.loggedIn = cfg.Terminate != nil && cfg.Subject != "" // who showed a certificate is somebody
	r.state.owe = newPending(cfg.Limits.Pending, cfg.Limits.PendingBytes)
	return r, nil
}

// errDone ends what still runs when the client has what it asked for.
var errDone = errors.New("done")

// Run carries the connection until it ends, and returns when nothing of it is left. Nil means that the client hung up between requests, or that
// ctx ended: then no more requests are taken, and those that were are answered for as long as Linger. Any other end is an [*Error].
func (r *Relay) Run(ctx context.Context) error {
	defer r.client.Close()
	stop := context.AfterFunc(ctx, r.drain)
	defer stop()
	asked := r.requests(ctx)
	if asked == nil || isTold(asked) {
		r.settle()
	}
	r.fail(asked)
	r.answers.Wait()
	r.seen.Writes.Store(0) // nobody is told any more what became of them
	r.seen.Pending.Store(0)
	r.stopLast()
	err := r.cause()
	e, ok := err.(*Error)
	if ok && !r.answered && (e.Side == Upstream && !errors.Is(err, io.EOF) || errors.Is(err, ErrOrder) || errors.Is(err, ErrMoved)) {
		r.client.reset()
		return err
	}
	if !ok || e.Side != Client || isTold(err) {
		r.hangUp()
		return err
	}
	if asked == nil {
		return nil // it hung up, and so cannot be written to
	}
	return err
}

// isTold reports whether the client is told, by an answer, of an error that ends the requests, or is to get what is due in spite of it, so that answers must arrive.
func isTold(err error) bool {
	return errors.Is(err, ErrElsewhere) || errors.Is(err, ErrMoved) || errors.Is(err, ErrOrder) || errors.Is(err, ErrLogin) || errors.Is(err, ErrHomeLogin)
}

// drain stops taking requests, at the end of the one that is being read, which must not take long now.
func (r *Relay) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.draining = true
	r.wakeLocked()
	select {
	case r.changed <- struct{}{}:
	default:
	}
	r.state.last = time.AfterFunc(r.cfg.Timeouts.Linger, func() { r.fail(failed(Router, "drain", context.DeadlineExceeded)) })
}

// wakeLocked has the requests goroutine look at the state, if it waits for the next request. mu is held.
func (r *Relay) wakeLocked() {
	if !r.state.inFrame {
		_ = r.client.SetReadDeadline(aLongTimeAgo)
	}
}

func (r *Relay) stopLast() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.last != nil {
		r.state.last.Stop()
	}
}

// fail ends both goroutines for err, or, if it is nil, because all is done. Only the first call counts.
func (r *Relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.over {
		return
	}
	if err == nil {
		err = errDone
	}
	r.state.over, r.state.err = true, err
	close(r.over)
	_ = r.client.SetReadDeadline(aLongTimeAgo)
	_ = r.client.SetWriteDeadline(nowPlus(r.cfg.Timeouts.Linger)) // an answer on its way may end
	if r.up != nil {
		_ = r.up.SetDeadline(aLongTimeAgo)
	}
}

// cause is what the connection failed of, nil where all was done.
func (r *Relay) cause() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.err == errDone {
		return nil
	}
	return r.state.err
}

// arm sets a deadline for the next step. After a failure it is an error instead, so that no deadline undoes the one that fail has set.
func (r *Relay) arm(set func(time.Time) error, d time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.over {
		return r.state.err
	}
	_ = set(nowPlus(d)) // a connection that takes none has ended, and the step itself tells how
	return nil
}

// settle waits until nothing is pending any more, or it has taken too long.
func (r *Relay) settle() {
	timer := time.NewTimer(r.cfg.Timeouts.Linger)
	defer timer.Stop()
	for {
		r.mu.Lock()
		left := len(r.state.owe.queue)
		r.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-r.changed:
		case <-r.over:
			return
		case <-timer.C:
			return
		}
	}
}

// hangUp sends FIN and throws away what the client still sends, so that no reset overtakes what was written. Nobody else uses the
// connection any more.
func (r *Relay) hangUp() {
	if !r.client.closeWrite() || r.client.SetReadDeadline(nowPlus(r.cfg.Timeouts.Linger)) != nil {
		return // without FIN the client hears of the end by nothing but the closing
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.client, int64(r.cfg.Limits.Request)))
}
