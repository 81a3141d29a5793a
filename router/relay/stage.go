package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/router/written"
)

// Stage is where the home of a connection's set stands at one moment. It never changes; another one takes its place.
type Stage struct {
	// Generation counts the homes of the set.
	Generation int64
	// Phase says what may go to the home.
	Phase hold.Phase
	// Closed says that another home may have been decided on: what this one tells from now on may have come from there, and is not passed on before that is known.
	Closed bool
	// Producers are the gates of producers and the ids that this home sees; nil for the first home.
	Producers *gate.Book
	// Written is told what this home acknowledges; nil tells nobody.
	Written *written.Book
	// Over is closed when another stage has taken the place of this one.
	Over <-chan struct{}
}

// staged does with a request what the stage asks for, before anything of it but the header was read, and reports whether that was all: else it is to be forwarded to the
// home of now. A connection whose home has changed goes on at the new one, unseen by its client, or ends with ErrMoved where it cannot.
func (r *Relay) staged(ctx context.Context, h frame.Request) (done bool, err error) {
	if r.cfg.Stage == nil {
		return false, nil
	}
	writes := hold.Writes(h.Key)
	var patience *time.Timer
	for {
		if writes { // before the stage is looked at: who changes it looks at this afterwards, and so one of both sees the other
			r.seen.Writes.Add(1)
			r.writing = true
		}
		s := r.cfg.Stage()
		deed := hold.Of(h.Key, r.phase(s), func() bool { return r.inTransaction })
		if deed != hold.Forward {
			r.unwritten()
		}
		switch deed {
		case hold.Forward:
			return false, r.follow(s)
		case hold.Answer:
			_, give, err := r.collect(ctx, r.client, h.Header+h.Body(), r.cfg.Limits.Collected)
			if err != nil {
				return false, err
			}
			give() // nothing in it matters
			return true, r.answerHere(h, hold.Answered(h.Key, h.Version))
		}
		if err := r.served(); err != nil {
			return false, err
		}
		if patience == nil {
			patience = time.NewTimer(hold.Patience)
			defer patience.Stop()
			r.seen.Waiting.Store(true)
			defer func(since time.Time) {
				r.seen.Waiting.Store(false)
				r.seen.Waited.Add(int64(time.Since(since)))
			}(time.Now())
		}
		select {
		case <-s.Over:
		case <-r.over:
			return false, r.cause()
		case <-patience.C:
			return false, failed(Router, "wait for a home", fmt.Errorf("held for %v: %w", hold.Patience, ErrMoved))
		}
	}
}

// passable waits, with the answer to a Fetch, until it is known whether it is of the home that the client is to read from; left says that it is not.
func (r *Relay) passable(o owed) (left bool, err error) {
	if r.cfg.Stage == nil || o.key != int16(kmsg.Fetch) {
		return false, nil
	}
	var patience <-chan time.Time
	for {
		s := r.cfg.Stage()
		switch {
		case s.Generation != o.generation:
			return true, nil
		case !s.Closed && s.Phase != hold.Lost && (s.Phase == hold.Serving || r.leased(s.Generation)):
			return false, nil
		}
		if patience == nil {
			timer := time.NewTimer(hold.Patience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-s.Over:
		case <-r.over:
			return false, r.cause()
		case <-patience:
			return false, failed(Router, "wait for a home", fmt.Errorf("an answer was held for %v: %w", hold.Patience, ErrMoved))
		}
	}
}

// phase is that of a stage; who has no lease for its home is to do as if that were held.
func (r *Relay) phase(s Stage) hold.Phase {
	if s.Phase < hold.Held && !r.leased(s.Generation) {
		return hold.Held
	}
	return s.Phase
}

// leased reports whether writes may go to the home of a generation.
func (r *Relay) leased(generation int64) bool { return r.cfg.Lease == nil || r.cfg.Lease(generation) }

// follow takes the connection to the home of a stage.
func (r *Relay) follow(s Stage) error {
	if r.up != nil && s.Generation != r.generation {
		if err := r.leave(); err != nil {
			return err
		}
	}
	r.generation = s.Generation
	r.order.produces(s.Producers, s.Written)
	return nil
}

// leave ends the upstream connection when nothing is due from it any more. What was sent there and is not answered in time is not known to have happened, so that
// only the end of the connection says no more than that.
func (r *Relay) leave() error {
	switch {
	case r.bound:
		return failed(Router, "go on at another home", fmt.Errorf("the login is at the one that was left: %w", ErrMoved))
	case r.unheard: // nobody could tell the client that a partition has another leader there
		return failed(Router, "go on at another home", fmt.Errorf("it sends records without asking for an answer: %w", ErrMoved))
	}
	r.settle()
	r.mu.Lock()
	due, over := len(r.state.owe.queue), r.state.over
	if due == 0 && !over {
		r.state.leaving = true
		_ = r.up.Close()
	}
	r.mu.Unlock()
	switch {
	case over:
		return r.cause()
	case due > 0:
		return failed(Router, "go on at another home", fmt.Errorf("%d answers are due from the one that was left: %w", due, ErrMoved))
	}
	r.answers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.leaving, r.up, r.moved, r.session = false, nil, true, nil
	return nil
}

// left reports whether the upstream connection was ended because the home has changed.
func (r *Relay) left() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.leaving
}

// unanswered leaves a request that has no answer counted, one for all of them.
func (r *Relay) unanswered() {
	if r.unheard = true; r.writing && !r.loose {
		r.writing, r.loose = false, true
	}
}

// Drop ends the connection at once: what is due from the home is never passed on, also if it comes. It is for a home that is lost.
func (r *Relay) Drop() {
	r.fail(failed(Router, "wait for the home", fmt.Errorf("it is given up as lost: %w", ErrMoved)))
}

// Flush has the home say that it has served what was sent there without asking for an answer, if anything was. It does not wait for that; see [Seen.Writes].
func (r *Relay) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.flush = true
	r.wakeLocked()
}

// flushing reports whether somebody waits for what has no answer.
func (r *Relay) flushing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.flush
}

// flushed does what Flush asks for.
func (r *Relay) flushed() error {
	r.mu.Lock()
	asked := r.state.flush
	r.state.flush = false
	r.mu.Unlock()
	if !asked {
		return nil
	}
	return r.served()
}

// served waits until what has no answer was served, which the home does in the order of the requests.
func (r *Relay) served() error {
	if !r.loose {
		return nil
	}
	m := kmsg.NewPtrApiVersionsRequest()
	m.SetVersion(0)
	_, err := r.ask(m)
	return err
}

// unwritten takes back that the request which is served may change the home, where it was not sent, or has no answer.
func (r *Relay) unwritten() {
	if r.writing {
		r.writing = false
		r.seen.Writes.Add(-1)
	}
}
