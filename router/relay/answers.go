package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/walk"
	"github.com/isthmus-project/isthmus/router/written"
)

// readAnswers passes the broker's answers on until one of the connections ends.
func (r *Relay) readAnswers(ctx context.Context) error {
	for {
		b, err := r.up.in.Peek(frame.AnswerHeader)
		if err != nil {
			return failed(Upstream, "wait for an answer", r.silent(err, len(b) > 0))
		}
		h, err := frame.ParseAnswer(b, r.cfg.Limits.Answer)
		if err != nil {
			return failed(Upstream, "read a header", err)
		}
		r.mu.Lock()
		o, err := r.state.owe.answered(h.Correlation)
		r.mu.Unlock()
		if err != nil {
			return failed(Upstream, "read a header", fmt.Errorf("%w: %w", ErrMalformed, err))
		}
		if o.reply != nil {
			if err := r.reply(ctx, h, o); err != nil {
				return err
			}
			continue
		}
		if err := r.answer(ctx, h, o); err != nil {
			return err
		}
		r.answered = true
		count(&r.cfg.Keys.Answers, o.key)
		r.done()
		if err := r.flush(); err != nil {
			return err
		}
	}
}

// silent says of a broker that does not answer for how long it did not.
func (r *Relay) silent(err error, begun bool) error {
	switch {
	case errors.Is(err, io.EOF) && begun:
		return io.ErrUnexpectedEOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("silent for %v: %w", r.cfg.Timeouts.Answer, err)
	}
	return err
}

// answer passes one answer on, of which nothing has been read but the header.
func (r *Relay) answer(ctx context.Context, h frame.Answer, o owed) error {
	if o.writes && !r.leased(o.generation) { // before a byte of it has passed, and before anybody takes what it says for true
		return failed(Router, "pass the answer to a write on", fmt.Errorf("generation %d: %w", o.generation, ErrLease))
	}
	if o.after != nil {
		r.holdBack(o.after)
	}
	left, err := r.passable(o)
	if err != nil {
		return err
	}
	if left {
		o.edit = r.nothingOf
	}
	row, _ := apis.Of(o.key, o.version)
	switch {
	case walk.Walkable(o.key, o.version) && o.edit == nil:
		patch := r.patchNow()
		patch.Throttle = r.chargeAnswer(h, o)
		patch.Offset, patch.Shown = nil, nil
		if offsets := r.patchOf.Offsets(); offsets != nil {
			patch.Offset, patch.Shown = telling(offsets, o.places), showing(offsets, o.places)
			if o.key == int16(kmsg.Fetch) && o.places.packed() {
				return r.packAnswer(ctx, h, o, offsets, patch)
			}
		}
		if o.key == int16(kmsg.Produce) && o.written != nil {
			patch.Offset = r.noting(o.written, patch.Offset)
		}
		if r.toClient == nil {
			r.toClient = new(walk.Walker)
		}
		r.toClient.Reset(o.key, o.version, true, h.Body(), patch)
		return r.pass(r.up, r.client, frame.AnswerHeader, h.Body(), r.toClient, nil)
	case r.cfg.View().Answers(row) || o.edit != nil:
		return r.rewriteAnswer(ctx, h, o)
	case o.claim != nil:
		return r.loginAnswer(ctx, h, o)
	}
	return r.pass(r.up, r.client, frame.AnswerHeader, h.Body(), nil, nil)
}

// notes are what noting last returned, and the book.
type notes struct {
	in    *written.Book
	write func(walk.Place, walk.Field, int64) int64
}

// noting is then, of which the book is told what was acknowledged at which offset of the home.
func (r *Relay) noting(w *written.Book, then func(walk.Place, walk.Field, int64) int64) func(walk.Place, walk.Field, int64) int64 {
	if w == r.notes.in && then == nil {
		return r.notes.write
	}
	note := func(at walk.Place, of walk.Field, offset int64) int64 {
		if of == walk.Acked {
			w.Acked(at.Topic, at.Partition, offset)
		}
		if then == nil {
			return offset
		}
		return then(at, of, offset)
	}
	if then == nil {
		r.notes = notes{w, note}
	}
	return note
}

// patchNow is what is written over in answers, at the view of now.
func (r *Relay) patchNow() *walk.Patch {
	if v := r.cfg.View(); v != r.patchOf {
		r.patchOf, r.patch = v, walk.Patch{Node: v.Virtual}
	}
	return &r.patch
}

// collectAnswer collects an answer whose body, from head on, is to be decoded, and checks it.
func (r *Relay) collectAnswer(ctx context.Context, h frame.Answer, o owed) (in []byte, head int, give func(), err error) {
	in, give, err = r.collect(ctx, r.up, frame.AnswerHeader+h.Body(), r.cfg.Limits.CollectedAnswer)
	if err != nil {
		return nil, 0, nil, err
	}
	head = frame.AnswerHeader
	if apis.AnswerTags(o.key, o.version) {
		n, err := frame.AnswerTags(in[head:])
		if err != nil {
			give()
			return nil, 0, nil, failed(Upstream, "read a header", err)
		}
		head += n
	}
	give, err = r.check(ctx, r.up, o.key, o.version, true, in[head:], give)
	return in, head, give, err
}

// rewriteAnswer passes on what has to be decoded.
func (r *Relay) rewriteAnswer(ctx context.Context, h frame.Answer, o owed) error {
	in, head, give, err := r.collectAnswer(ctx, h, o)
	if err != nil {
		return err
	}
	defer give()
	out := buffers.Get().(*[]byte)
	defer release(out)
	*out = append((*out)[:0], in[:head]...)
	if *out, err = r.cfg.View().Answer(*out, o.key, o.version, in[head:], o.edit); err != nil {
		return failed(Upstream, "rewrite an answer", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	binary.BigEndian.PutUint32(*out, uint32(len(*out)-4))
	return r.writeInSteps(*out)
}

// writeInSteps writes what was collected to the client.
func (r *Relay) writeInSteps(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), chunkSize)
		if err := r.write(r.client, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// watchLocked sets how long the broker may be silent: for ever while it owes nothing. While an answer passes its steps have deadlines of
// their own. mu is held.
func (r *Relay) watchLocked() {
	switch {
	case r.up == nil || r.state.over || r.state.owe.passing:
	case r.state.owe.waits():
		_ = r.up.SetReadDeadline(nowPlus(r.cfg.Timeouts.Answer))
	default:
		_ = r.up.SetReadDeadline(time.Time{})
	}
}
