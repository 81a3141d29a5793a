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

	"github.com/isthmus-project/isthmus/broker/shape"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/members"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/router/sets"
	"github.com/isthmus-project/isthmus/router/transactions"
	"github.com/isthmus-project/isthmus/router/walk"
)

// requests takes requests until the client hangs up between two of them, the relay is drained (nil), or something fails.
func (r *Relay) requests(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // requests that were taken are served to their end; drain bounds that
	for {
		err := r.waitForRoom()
		var h frame.Request
		if err == nil {
			h, err = r.nextRequest()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		r.asked(h)
		r.charge(h)
		err = r.serve(ctx, h)
		r.unwritten()
		if err != nil {
			return err
		}
	}
}

// waitForRoom waits until another answer may become due. io.EOF means that no more requests are taken.
func (r *Relay) waitForRoom() error {
	for {
		r.mu.Lock()
		room, draining := r.state.owe.room(), r.state.draining
		r.mu.Unlock()
		switch {
		case draining:
			return io.EOF
		case room:
			return nil
		}
		since := time.Now()
		select {
		case <-r.changed:
			r.seen.full(since)
		case <-r.over:
			return r.cause()
		}
	}
}

// nextRequest waits for a request and parses its header, which stays in the buffer. io.EOF means that there is none to come.
func (r *Relay) nextRequest() (frame.Request, error) {
	for {
		if err := r.flushed(); err != nil {
			return frame.Request{}, err
		}
		if err := r.between(); err != nil {
			return frame.Request{}, err
		}
		_, err := r.client.in.Peek(1)
		if err == nil {
			break
		}
		if err == io.EOF {
			return frame.Request{}, io.EOF
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return frame.Request{}, failed(Client, "wait for a request", err)
		}
		if r.idle() && !r.flushing() {
			return frame.Request{}, failed(Client, "wait for a request", fmt.Errorf("idle for %v: %w", r.cfg.Timeouts.Idle, err))
		}
	}
	r.waitMuted()
	if err := r.begin(); err != nil {
		return frame.Request{}, err
	}
	for need := 1; ; {
		b, err := r.client.peek(need)
		if err != nil {
			return frame.Request{}, failed(Client, "read a header", r.told(cutShort(err)))
		}
		h, err := frame.ParseRequest(b, r.longest(), apis.Flexible)
		if short, ok := err.(*frame.Short); ok {
			need = short.Need
			continue
		}
		if err != nil {
			return frame.Request{}, failed(Client, "read a header", err)
		}
		return h, nil
	}
}

// longest is the longest request that the client may send now: who has not logged in is nobody yet, and has nothing to say that is long. A
// broker hangs up on whose login is wrong.
func (r *Relay) longest() int {
	if before := r.cfg.Limits.BeforeLogin; before > 0 && !r.loggedIn {
		return min(before, r.cfg.Limits.Request)
	}
	return r.cfg.Limits.Request
}

// between is where the connection is between two requests. io.EOF means that no more are taken.
func (r *Relay) between() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.inFrame = false
	switch {
	case r.state.over:
		return r.state.err
	case r.state.draining:
		return io.EOF
	}
	if r.state.flush {
		_ = r.client.SetReadDeadline(aLongTimeAgo) // again: it is looked at when nothing is there to be read
		return nil
	}
	_ = r.client.SetReadDeadline(nowPlus(r.cfg.Timeouts.Idle))
	return nil
}

// begin is where a request has begun.
func (r *Relay) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.over {
		return r.state.err
	}
	r.state.inFrame = true
	_ = r.client.SetReadDeadline(nowPlus(r.cfg.Timeouts.Step))
	return nil
}

// idle reports, of a client that asked nothing for a while, whether it has nothing to wait for either. Why else its deadline may have
// passed is for between to say.
func (r *Relay) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.state.owe.queue) == 0 && !r.state.over && !r.state.draining
}

// serve does what the table says with a request, of which nothing has been read but the header.
func (r *Relay) serve(ctx context.Context, h frame.Request) error {
	row, ok := apis.Of(h.Key, h.Version)
	switch {
	case h.Key == int16(kmsg.ApiVersions):
		return r.versions(ctx, h)
	case !ok || row.Does == apis.Hide || !r.cfg.Versions.Has(h.Key, h.Version):
		return failed(Client, "take a request", fmt.Errorf("%s v%d: %w", kmsg.NameForKey(h.Key), h.Version, ErrUnsupported))
	case r.cfg.Terminate != nil && isLogin(h.Key):
		return r.loginHere(ctx, h)
	}
	if err := r.admit(ctx); err != nil {
		return err
	}
	if h.Key == int16(kmsg.InitProducerID) && r.cfg.ProducerID != nil {
		return r.producer(ctx, h, row)
	}
	if done, err := r.staged(ctx, h); done || err != nil {
		return err
	}
	if err := r.connect(ctx, h.Key); err != nil {
		return err
	}
	r.passes(h.Key)
	o := owed{key: h.Key, version: h.Version, correlation: h.Correlation, kind: forward, account: r.spender.account, wait: r.spender.wait}
	if members.Looks(h.Key) {
		if b := r.book(); b != nil {
			return r.ofGroup(ctx, h, o, row, b)
		}
	}
	into, err := r.looksInto(h)
	switch {
	case err != nil:
		return err
	case into:
		return r.gated(ctx, h, o, row)
	case r.generation > 0 && transactions.Looks(h.Key):
		return r.ofTransaction(ctx, h, o, row)
	case walk.Walkable(h.Key, h.Version):
		return r.walkRequest(h, o)
	case r.sets != nil && sets.Looks(h.Key):
		return r.lookAt(ctx, h, o, row)
	case r.cfg.View().Requests(row):
		return r.rewriteRequest(ctx, h, o, row)
	case isLogin(h.Key):
		return r.loginRequest(ctx, h, o)
	}
	if err := r.owe(o); err != nil {
		return err
	}
	return r.pass(r.client, r.up, h.Header, h.Body(), nil, nil)
}

// passes notes what a request that is forwarded says of the connection.
func (r *Relay) passes(key int16) {
	switch kmsg.Key(key) {
	case kmsg.SASLAuthenticate:
		r.loggedIn, r.bound = true, true
	case kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn:
		r.inTransaction = true
	case kmsg.EndTxn:
		r.inTransaction = false
	}
}

// walkRequest forwards Produce or Fetch. An answer becomes due when the walker knows that there will be one, which is before the last byte
// has left.
func (r *Relay) walkRequest(h frame.Request, o owed) error {
	if r.toUp == nil {
		r.toUp = new(walk.Walker)
	}
	patch := r.names(h.Key)
	patch.Offset, patch.Stamp = nil, r.order.stamp
	if offsets := r.cfg.View().Offsets(); offsets != nil && h.Key == int16(kmsg.Fetch) {
		r.session = r.session.after()
		o.places, patch.Offset = r.session, asking(offsets, r.session)
	}
	r.toUp.Reset(h.Key, h.Version, false, h.Body(), patch)
	noted := false
	err := r.pass(r.client, r.up, h.Header, h.Body(), r.toUp, func() error {
		if noted {
			return nil
		}
		if h.Key == int16(kmsg.Produce) {
			acks, known := r.toUp.Acks()
			if !known || acks == 0 {
				return nil
			}
		}
		noted = true
		return r.owe(o)
	})
	if err == nil && !noted {
		r.unanswered()
	}
	if errors.Is(err, ErrElsewhere) {
		return failed(Router, "take a request", err) // what was answered is still written, and no reset overtakes it
	}
	return err
}

// rewriteRequest forwards what has to be decoded.
func (r *Relay) rewriteRequest(ctx context.Context, h frame.Request, o owed, row apis.Row) error {
	in, body, give, err := r.request(ctx, h, r.cfg.Limits.Collected)
	if err != nil {
		return err
	}
	defer give()
	return r.sendOn(h, o, row, in, body)
}

// sendOn forwards a request that was collected: its header as it is, and a body, rewritten where the table says so.
func (r *Relay) sendOn(h frame.Request, o owed, row apis.Row, in, body []byte) (err error) {
	out := buffers.Get().(*[]byte)
	defer release(out)
	*out = append((*out)[:0], in[:h.Header]...)
	if view := r.cfg.View(); view.Requests(row) {
		if *out, err = view.Request(*out, h.Key, h.Version, body); err != nil {
			return failed(Client, "rewrite a request", fmt.Errorf("%w: %w", ErrMalformed, err))
		}
	} else {
		*out = append(*out, body...)
	}
	binary.BigEndian.PutUint32(*out, uint32(len(*out)-4))
	if err := r.owe(o); err != nil {
		return err
	}
	return r.write(r.up, *out)
}

// request collects a request of at most limit bytes whose body is to be decoded, and checks it.
func (r *Relay) request(ctx context.Context, h frame.Request, limit int) (whole, body []byte, give func(), err error) {
	whole, give, err = r.collect(ctx, r.client, h.Header+h.Body(), limit)
	if err != nil {
		return nil, nil, nil, err
	}
	body = whole[h.Header:]
	give, err = r.check(ctx, r.client, h.Key, h.Version, false, body, give)
	return whole, body, give, err
}

// check looks at a body that is to be decoded, and takes the memory for that.
func (r *Relay) check(ctx context.Context, from *line, key, version int16, answer bool, body []byte, give func()) (func(), error) {
	n, err := rewrite.Elements(key, version, answer, body)
	if err != nil {
		give()
		return nil, failed(from.side, "read a body", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	memory := n * shape.ElementBytes
	if memory <= chunkSize {
		return give, nil
	}
	if err := r.take(ctx, memory); err != nil {
		give()
		return nil, err
	}
	return func() {
		r.free(memory)
		give()
	}, nil
}

// isNews reports whether a request is about the cluster, or is a login, which comes before one: any broker answers it as well.
func isNews(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.Metadata, kmsg.FindCoordinator, kmsg.DescribeCluster, kmsg.ApiVersions:
		return true
	}
	return isLogin(key)
}

// connect dials the broker, the first time. A broker that stands in for it takes no request that is meant for that one.
func (r *Relay) connect(ctx context.Context, key int16) error {
	switch {
	case r.up != nil && r.standIn && !isNews(key):
		return failed(Upstream, "connect", fmt.Errorf("another broker stands in for it: %w", ErrUnreachable))
	case r.up != nil:
		return nil
	}
	dialling, cancel := r.whileOn(ctx, r.cfg.Timeouts.Dial)
	defer cancel()
	c, standIn, err := r.cfg.Dial(dialling, isNews(key))
	if err != nil {
		return failed(Upstream, "connect", fmt.Errorf("%w: %w", ErrUnreachable, err))
	}
	r.standIn = standIn
	if r.cfg.Sets != nil {
		if r.sets = r.cfg.Sets(); r.sets != nil {
			r.own = make(map[string]bool)
		}
	}
	r.mu.Lock()
	r.up = newLine(c, Upstream)
	r.mu.Unlock()
	r.answers.Go(func() {
		defer c.Close()
		if err := r.readAnswers(ctx); !r.left() {
			r.fail(err)
		}
	})
	if r.moved && r.entered.user != nil {
		r.moved = false
		_, err = r.logIn(ctx, r.entered.user)
		return err
	}
	return nil
}

// whileOn is a context that ends after d, or when the connection has failed: nobody waits for a home that was given up.
func (r *Relay) whileOn(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	go func() {
		select {
		case <-r.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// owe notes an answer that the broker will give.
func (r *Relay) owe(o owed) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.over {
		return r.state.err
	}
	o.writes, r.writing, o.generation, o.written = r.writing, false, r.generation, r.order.written
	o.clears, r.loose = r.loose, false
	if _, err := r.state.owe.push(o); err != nil {
		return failed(Router, "note a request", err)
	}
	r.seen.Pending.Store(int32(len(r.state.owe.queue)))
	r.watchLocked()
	return nil
}
