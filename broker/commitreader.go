package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	commitWait      = 500 * time.Millisecond // how long a broker may wait for something new
	commitFetch     = 4 << 20                // bytes of one answer, of all partitions
	commitPartFetch = 1 << 20                // and of one
	// commitGather is the pause after an answer with little in it: so busy groups cost some requests a second, and not one for each of
	// their commits. It is what a commit may be told later for it.
	commitGather = 40 * time.Millisecond
	commitLittle = 64 << 10 // bytes
	// commitSilent is how long a broker may be silent that leads no more what it is asked for.
	commitSilent = 3 * time.Second
)

var (
	// errNotLeading ends the reader of a broker that is silent, and whose partitions another one leads now.
	errNotLeading = errors.New("the broker is silent, and another one leads now")
	// errMoved ends the reader of a broker that is somewhere else now.
	errMoved = errors.New("the broker has another address now")
	// errCommitsCut is about a partition whose log is not what was read of it.
	errCommitsCut = errors.New("the log was cut off before what was read of it")
)

// commitReader reads the partitions of the log of commits that one broker leads, over one fetch session.
type commitReader struct {
	of     *commitRun
	broker Broker
	stop   context.CancelCauseFunc // ends the connection, so that it gives everything back

	mu     sync.Mutex // never held across I/O
	coming []*commitPart
	ended  bool
	heard  time.Time // when the broker last answered

	// owned by run
	session *FetchSession
	parts   map[int32]*commitPart
	walk    commitWalk
	worked  bool
	taken   chan struct{}
}

func newCommitReader(of *commitRun, b Broker) *commitReader {
	return &commitReader{of: of, broker: b, heard: time.Now(), parts: map[int32]*commitPart{}, taken: make(chan struct{}, 1),
		walk: commitWalk{decoder: newCommitDecoder(), strange: of.l.strange}}
}

// take gives the reader a partition, unless it reads no more.
func (r *commitReader) take(p *commitPart) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.coming = append(r.coming, p)
	}
	return !r.ended
}

// silent reports whether the broker has not answered for a while.
func (r *commitReader) silent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.heard) > commitSilent
}

// run reads until the connection breaks, there is nothing left to read, or ctx ends. Then it gives back what it has; all is the end of
// the whole run, which wants nothing back.
func (r *commitReader) run(all, ctx context.Context) error {
	err := r.read(all, ctx)
	if r.session != nil {
		_ = r.session.Close()
	}
	r.mu.Lock()
	r.ended = true
	rest := r.coming
	r.mu.Unlock()
	rest = slices.AppendSeq(rest, maps.Values(r.parts))
	return r.giveBack(all, lostCommits{parts: rest, ended: true, err: err})
}

// giveBack hands partitions back, which others may lead now.
func (r *commitReader) giveBack(ctx context.Context, lost lostCommits) error {
	for _, p := range lost.parts {
		delete(r.parts, p.partition)
		r.of.l.read(p.partition, 0, time.Time{})
	}
	lost.reader, lost.worked, r.worked = r, r.worked, false
	select {
	case r.of.lost <- lost:
		return nil
	case <-ctx.Done():
		return errCommitsEnd
	}
}

// read fetches over one connection until it breaks or nothing is left to read. What was read is handed on also if the connection ends
// meanwhile, because it is not read again.
func (r *commitReader) read(all, ctx context.Context) (err error) {
	if r.session, err = r.of.l.c.FetchSession(ctx, r.broker); err != nil {
		return err
	}
	for {
		r.adopt()
		if len(r.parts) == 0 {
			return nil
		}
		frame, err := r.session.Fetch(ctx, FetchOptions{MaxWait: commitWait, MinBytes: 1, MaxBytes: commitFetch, ReadCommitted: true})
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.heard = time.Now()
		r.mu.Unlock()
		r.worked = true
		size, lost, err := r.frame(all, frame)
		frame.Release()
		if err == nil && len(lost.parts) > 0 {
			err = r.giveBack(all, lost)
		}
		if err == nil && size < commitLittle {
			err = pause(ctx, commitGather)
		}
		if err != nil {
			return err
		}
	}
}

// adopt puts what was given to it into the session.
func (r *commitReader) adopt() {
	r.mu.Lock()
	coming := r.coming
	r.coming = nil
	r.mu.Unlock()
	for _, p := range coming {
		r.parts[p.partition] = p
		r.set(p)
	}
}

// set tells the session from where to read on.
func (r *commitReader) set(p *commitPart) {
	r.session.Set(FetchPartition{Topic: CommitsTopic, TopicID: p.id, Partition: p.partition, Offset: p.next,
		LeaderEpoch: -1, LastFetchedEpoch: p.epoch, LogStart: -1, MaxBytes: commitPartFetch})
}

// frame takes one answer: how many bytes were in it, and which partitions cannot be read on here.
func (r *commitReader) frame(ctx context.Context, frame *Frame) (size int, lost lostCommits, err error) {
	for i := range frame.Partitions {
		f := &frame.Partitions[i]
		size += len(f.Batches)
		p := r.parts[f.Partition]
		if p == nil {
			continue
		}
		if err := refusedFetch(p, f); err != nil {
			r.session.Forget(f.Topic, p.id, f.Partition)
			delete(r.parts, f.Partition)
			lost.parts, lost.err = append(lost.parts, p), errors.Join(lost.err, err)
			continue
		}
		if err := r.partition(ctx, p, f); err != nil {
			return size, lost, fmt.Errorf("read %s:%d: %w", CommitsTopic, f.Partition, err)
		}
		r.set(p)
	}
	if size > 0 || r.session.throttle.pending() {
		return size, lost, nil
	}
	// One batch at the least is in an answer if there is one for any partition: so all are at their ends, also those whose last records were
	// cleaned away. What is not in the answer has not changed.
	for _, p := range r.parts {
		if p.end >= 0 && !p.reached {
			p.end = min(p.end, p.next)
			if err := r.hand(ctx, p, nil); err != nil {
				return size, lost, err
			}
		}
	}
	return size, lost, nil
}

// refusedFetch is why a partition cannot be read on at this broker.
func refusedFetch(p *commitPart, f *Fetched) error {
	switch {
	case errors.Is(f.Err, kerr.OffsetOutOfRange):
		p.restart(p.began)
		return f.Err
	case f.Err != nil:
		return f.Err
	case f.DivergingEnd >= 0:
		p.restart(true)
		return &PartitionError{Topic: CommitsTopic, Partition: p.partition, Err: errCommitsCut}
	}
	return nil
}

// partition takes what an answer has of one partition.
func (r *commitReader) partition(ctx context.Context, p *commitPart, f *Fetched) error {
	p.began = true
	if p.end < 0 {
		p.end = max(f.LastStableOffset, 0)
	}
	w := &r.walk
	w.next, w.epoch, w.skip, w.records = p.next, p.epoch, p.skip, 0
	err := w.over(f, func(some []Commit) error {
		return r.hand(ctx, p, some)
	})
	p.next, p.epoch = w.next, w.epoch
	r.of.l.read(p.partition, w.records, p.held(f, time.Now()))
	var damaged *damagedError
	if errors.As(err, &damaged) {
		if p.damaged == damaged.base {
			p.skip = damaged.base
		}
		p.damaged = damaged.base
	}
	if err == nil && (p.restarted || !p.reached && p.next >= p.end) {
		err = r.hand(ctx, p, nil)
	}
	return err
}

// hand gives commits to who wants them, and waits until they are taken.
func (r *commitReader) hand(ctx context.Context, p *commitPart, some []Commit) error {
	p.reached = p.reached || len(some) == 0 && p.next >= p.end
	b := handedCommits{CommitBatch{Partition: p.partition, Commits: some, Restarted: p.restarted}, p.reached, r.taken}
	select {
	case r.of.batches <- b:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-r.taken:
		p.restarted = false
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// held is since when an open transaction holds back what comes after it; zero: none does.
func (p *commitPart) held(f *Fetched, now time.Time) time.Time {
	if f.LastStableOffset < 0 || f.HighWatermark <= f.LastStableOffset {
		p.since = time.Time{}
		return p.since
	}
	if p.stable != f.LastStableOffset || p.since.IsZero() {
		p.stable, p.since = f.LastStableOffset, now
	}
	return p.since
}
