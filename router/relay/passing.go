package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/isthmus-project/isthmus/router/walk"
)

// pass moves one frame: head bytes as they are, and the body through the walker, if there is one. before is called before each write,
// when the bytes that it writes have been walked.
func (r *Relay) pass(from, to *line, head, body int, w *walk.Walker, before func() error) error {
	buf := r.room(head + body)
	defer r.giveRoom(buf)
	if err := r.read(from, buf[:head]); err != nil {
		return err
	}
	ready, have, left := head, head, body
	for {
		n := min(left, len(buf)-have)
		if err := r.read(from, buf[have:have+n]); err != nil {
			return err
		}
		have, left = have+n, left-n
		if w == nil {
			ready = have
		} else {
			passed, err := w.Walk(buf[ready:have])
			if err != nil {
				return failed(from.side, "patch what passes", fmt.Errorf("%w: %w", ErrMalformed, err))
			}
			ready += passed
		}
		if before != nil {
			if err := before(); err != nil {
				return err
			}
		}
		if err := r.write(to, buf[:ready]); err != nil {
			return err
		}
		if have, ready = copy(buf, buf[ready:have]), 0; left == 0 {
			return nil // the walker keeps nothing of a body's end
		}
	}
}

// room is what a frame of size bytes passes through; it is given back to giveRoom. A long one gets more where nobody has to wait for it: readers may be
// slow, and many.
func (r *Relay) room(size int) []byte {
	if size > chunkSize && r.cfg.Pieces != nil && r.cfg.Pieces.TryAcquire(1) {
		return pieces.Get().(*[PieceSize]byte)[:]
	}
	return chunks.Get().(*[chunkSize]byte)[:]
}

func (r *Relay) giveRoom(buf []byte) {
	if len(buf) == PieceSize {
		pieces.Put((*[PieceSize]byte)(buf))
		r.cfg.Pieces.Release(1)
		return
	}
	chunks.Put((*[chunkSize]byte)(buf))
}

// collect reads a frame of size bytes as a whole, of at most limit. Its memory grows with what arrives. give must be called when the
// frame is not needed any more.
func (r *Relay) collect(ctx context.Context, from *line, size, limit int) (frame []byte, give func(), err error) {
	if size > limit {
		return nil, nil, failed(from.side, "collect a frame", fmt.Errorf("%d bytes, the limit is %d: %w", size, limit, ErrTooLong))
	}
	b := buffers.Get().(*[]byte)
	held := 0
	give = func() {
		r.free(held)
		release(b)
	}
	for have := 0; have < size; have = len(*b) {
		want := min(size, max(chunkSize, 2*have))
		if want > chunkSize {
			if err := r.take(ctx, want-have); err != nil {
				give()
				return nil, nil, err
			}
			held += want - have
		}
		if cap(*b) < want {
			*b = append(make([]byte, 0, want), *b...)
		}
		*b = (*b)[:want]
		for from0 := have; from0 < want; {
			to := min(want, from0+chunkSize)
			if err := r.read(from, (*b)[from0:to]); err != nil {
				give()
				return nil, nil, err
			}
			from0 = to
		}
	}
	return *b, give, nil
}

// take takes n bytes of the memory of all connections.
func (r *Relay) take(ctx context.Context, n int) error {
	if r.cfg.Memory == nil || r.cfg.Memory.TryAcquire(int64(n)) {
		r.seen.Held.Add(int64(n))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeouts.Step)
	defer cancel()
	if r.cfg.Memory.Acquire(ctx, int64(n)) != nil {
		return failed(Router, fmt.Sprintf("take %d bytes", n), ErrMemory)
	}
	r.seen.Held.Add(int64(n))
	return nil
}

func (r *Relay) free(n int) {
	r.seen.Held.Add(-int64(n))
	if r.cfg.Memory != nil && n > 0 {
		r.cfg.Memory.Release(int64(n))
	}
}

// read fills b, in one step.
func (r *Relay) read(from *line, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if len(b) > from.in.Buffered() { // else nothing can take time
		if err := r.arm(from.SetReadDeadline, r.cfg.Timeouts.Step); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(from.in, b); err != nil {
		return failed(from.side, "read the rest of a frame", r.told(cutShort(err)))
	}
	if from == r.client {
		r.seen.In.Add(int64(len(b)))
	}
	return nil
}

// write writes b, in one step.
func (r *Relay) write(to *line, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := r.arm(to.SetWriteDeadline, r.cfg.Timeouts.Step); err != nil {
		return err
	}
	if _, err := to.Write(b); err != nil {
		return failed(to.side, "write", r.told(err))
	}
	if to == r.client {
		r.seen.Out.Add(int64(len(b)))
	}
	return nil
}

// cutShort makes the end of a stream inside a frame an unexpected one.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// told says of a step that took too long how long that was.
func (r *Relay) told(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no progress for %v: %w", r.cfg.Timeouts.Step, err)
	}
	return err
}
