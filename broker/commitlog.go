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
	"golang.org/x/sync/errgroup"
)

// CommitsTopic is where Kafka's coordinators keep what groups commit.
const CommitsTopic = "__consumer_offsets"

// ErrNoCommitLog is wrapped by the error of [CommitLog.Run] where the cluster has no such topic (kfake has none, and Kafka none before
// the first group), or the user may not read it. What groups commit has to be asked for then: see GroupOffsets.
var ErrNoCommitLog = errors.New("the log of commits cannot be read")

const (
	commitRefresh  = 5 * time.Second        // how often it is looked at who leads the partitions
	commitRetry    = 250 * time.Millisecond // before a partition that was lost is looked up; doubled each time in vain
	commitRetryMax = 5 * time.Second
	// commitGone is how long the topic may be missing from a cluster that had it: a broker that starts may not know it yet.
	commitGone = 30 * time.Second
	// commitStarts is how many partitions are asked at a time where to begin.
	commitStarts = 16
	// maxStrange bounds the kinds of what cannot be read that are told apart.
	maxStrange = 64
)

// CommitLogOptions say from where a log of commits is read.
type CommitLogOptions struct {
	// FromEnd begins at the end of each partition, for who asks for the rest by GroupOffsets after it was reached. Else all that is
	// there is read first: the log is compacted now and then only, and may have gigabytes.
	FromEnd bool
}

// CommitBatch is some of what was added to one partition of the log of commits, in its order. All of a group is in one partition.
type CommitBatch struct {
	Partition int32
	Commits   []Commit // may be empty; the slice is valid until the function that got it returns, its strings for longer
	// Restarted: this partition is read anew, from its beginning (or its end: FromEnd). What was read before was cut off, or the topic is
	// another one; or what comes next was deleted before it was read. What is known of the groups of the partition may be wrong until
	// CaughtUp is true again.
	Restarted bool
	// CaughtUp: all partitions have been read up to where they ended when their reading began, or began anew.
	CaughtUp bool
}

// CommitStats is how a log of commits is doing.
type CommitStats struct {
	CaughtUp bool
	Records  int64            // read, whatever was in them
	Strange  map[string]int64 // what could not be read and was left out, by what it is; nothing of its content
	// Held are the partitions that have records which are not told yet because a transaction before them is open, and since when.
	Held map[int32]time.Time
	// Trouble is the last error of the partitions that are not read at the moment; nil if all are.
	Trouble error
}

// CommitLog tells what the groups of a cluster commit, in the order in which their coordinators write it down, as soon as they do.
// What transactions commit is told when they do; what they abort, never.
type CommitLog struct {
	c *Cluster
	o CommitLogOptions

	mu      sync.Mutex
	stats   CommitStats
	behind  map[int32]bool // partitions that were not read up to the end
	counted bool           // behind has all partitions that there are
}

// CommitLog makes a reader of the cluster's log of commits. Nothing is asked before Run.
func (c *Cluster) CommitLog(o CommitLogOptions) *CommitLog { return &CommitLog{c: c, o: o} }

// Stats may be asked for at any time.
func (l *CommitLog) Stats() CommitStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Strange, s.Held = maps.Clone(s.Strange), maps.Clone(s.Held)
	return s
}

// Run reads until ctx ends, which is no error, and hands what it reads to fn, from one goroutine. An error of fn ends it and is returned
// as it is. [ErrNoCommitLog] is the only other one: whatever else goes wrong is tried again, and told by Stats. Each Run starts anew.
func (l *CommitLog) Run(ctx context.Context, fn func(CommitBatch) error) error {
	l.mu.Lock()
	l.stats, l.behind, l.counted = CommitStats{Strange: map[string]int64{}, Held: map[int32]time.Time{}}, map[int32]bool{}, false
	l.mu.Unlock()
	all, ctx := errgroup.WithContext(ctx)
	run := &commitRun{l: l, batches: make(chan handedCommits), lost: make(chan lostCommits),
		parts: map[int32]*commitPart{}, held: map[int32]*commitReader{}, readers: map[int32]*commitReader{}, all: all}
	all.Go(func() error { return run.lead(ctx) })
	all.Go(func() error { return l.tell(ctx, run.batches, fn) })
	if err := all.Wait(); err != nil && !errors.Is(err, errCommitsEnd) {
		return err
	}
	return nil
}

// errCommitsEnd ends the goroutines of a Run whose context has ended.
var errCommitsEnd = errors.New("the run has ended")

// handedCommits are on their way from a reader to who wants them.
type handedCommits struct {
	CommitBatch
	atEnd bool // the partition was read up to where it ended
	taken chan<- struct{}
}

// tell hands what the readers have read to fn.
func (l *CommitLog) tell(ctx context.Context, batches <-chan handedCommits, fn func(CommitBatch) error) error {
	told := false // that all is read
	for {
		select {
		case <-ctx.Done():
			return errCommitsEnd
		case b := <-batches:
			b.CaughtUp = l.reached(b)
			if len(b.Commits) > 0 || b.Restarted || b.CaughtUp != told {
				if err := fn(b.CommitBatch); err != nil {
					return err
				}
				told = b.CaughtUp
			}
			b.taken <- struct{}{}
		}
	}
}

// reached notes how far a partition is, and tells whether all are at their end.
func (l *CommitLog) reached(b handedCommits) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.Restarted {
		l.behind[b.Partition] = true
	}
	if b.atEnd {
		delete(l.behind, b.Partition)
	}
	l.stats.CaughtUp = l.counted && len(l.behind) == 0
	return l.stats.CaughtUp
}

// found notes which partitions are to be read; a partition is behind from then on.
func (l *CommitLog) found(partitions []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range partitions {
		l.behind[p] = true
	}
	l.counted = true
}

// strange counts what cannot be read.
func (l *CommitLog) strange(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.stats.Strange[what]; !known && len(l.stats.Strange) >= maxStrange {
		what = "others"
	}
	l.stats.Strange[what]++
}

// read notes how much was read of a partition and since when the rest of it is held back; zero: it is not.
func (l *CommitLog) read(partition int32, records int, held time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Records += int64(records)
	if held.IsZero() {
		delete(l.stats.Held, partition)
	} else {
		l.stats.Held[partition] = held
	}
}

func (l *CommitLog) trouble(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Trouble = err
}

// commitRun is who reads which partition. Only lead touches it; what readers tell it comes over channels.
type commitRun struct {
	l       *CommitLog
	all     *errgroup.Group
	batches chan handedCommits
	lost    chan lostCommits

	id      TopicID
	parts   map[int32]*commitPart   // in nobody's hands
	held    map[int32]*commitReader // who has the others
	readers map[int32]*commitReader // by broker
	seen    time.Time               // when the cluster last had the topic
	waits   time.Duration
}

// lostCommits are partitions that a reader gives back. ended: it reads no more.
type lostCommits struct {
	reader *commitReader
	parts  []*commitPart
	ended  bool
	worked bool // it was answered since it was given the last partition
	err    error
}

// commitPart is a partition and how far it is read. It is one goroutine's at a time.
type commitPart struct {
	partition int32
	id        TopicID
	next      int64 // -1: where to begin is to be asked for
	epoch     int32 // of the last batch; -1 none
	end       int64 // up to where it has to be read to be at its end; -1 is not known yet
	skip      int64 // see commitWalk
	damaged   int64 // base offset of the batch that could not be read; -1 none
	began     bool  // something was heard of it
	reached   bool  // it was at its end
	restarted bool
	stable    int64     // the last stable offset when something was last held back
	since     time.Time // and since when
}

// newPart is a partition of which nothing was read.
func (l *CommitLog) newPart(partition int32, id TopicID) *commitPart {
	p := &commitPart{partition: partition, id: id, epoch: -1, end: -1, skip: -1, damaged: -1}
	if l.o.FromEnd {
		p.next = -1
	} // else 0, which is the beginning of most
	return p
}

// restart has a partition read anew; tell: whoever was told of it has to know.
func (p *commitPart) restart(tell bool) {
	p.next, p.epoch, p.end, p.reached = -1, -1, -1, false
	p.restarted = p.restarted || tell
}

// lead finds out who leads the partitions and gives them to readers of those brokers, again whenever one is given back.
func (r *commitRun) lead(ctx context.Context) error {
	r.seen, r.waits = time.Time{}, commitRetry
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return errCommitsEnd
		case lost := <-r.lost:
			if err := r.takeBack(lost); err != nil {
				return err
			}
			timer.Reset(r.waits)
			continue
		case <-timer.C:
		}
		err := r.look(ctx)
		again := commitRefresh
		switch {
		case errors.Is(err, ErrNoCommitLog):
			return err
		case ctx.Err() != nil:
			return errCommitsEnd
		case forbidden(err):
			return r.denied(err)
		case err != nil || len(r.parts) > 0:
			again, r.waits = r.waits, min(2*r.waits, commitRetryMax)
		}
		r.l.trouble(err)
		timer.Reset(again)
	}
}

// takeBack takes partitions from a reader.
func (r *commitRun) takeBack(lost lostCommits) error {
	if lost.ended && r.readers[lost.reader.broker.ID] == lost.reader {
		delete(r.readers, lost.reader.broker.ID)
	}
	if lost.worked {
		r.waits = commitRetry
	}
	for _, p := range lost.parts {
		delete(r.held, p.partition)
		r.parts[p.partition] = p
	}
	if lost.err == nil {
		return nil
	}
	if forbidden(lost.err) {
		return r.denied(lost.err)
	}
	r.l.trouble(lost.err)
	return nil
}

func (r *commitRun) denied(err error) error {
	return fmt.Errorf("%w: %w", ErrNoCommitLog, r.l.c.profile.denied(err, "READ", "topic "+CommitsTopic))
}

// look asks who leads the partitions and hands out those that are in nobody's hands.
func (r *commitRun) look(ctx context.Context) error {
	m, err := r.l.c.Metadata(ctx, CommitsTopic)
	if err != nil {
		return err
	}
	t := m.Topics[CommitsTopic]
	switch {
	case forbidden(t.Err):
		return r.denied(t.Err)
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition) && (r.seen.IsZero() || time.Since(r.seen) > commitGone):
		return fmt.Errorf("%w: cluster %s has no topic %s (%w)", ErrNoCommitLog, r.l.c.profile.Name, CommitsTopic, t.Err)
	case t.Err != nil:
		return t.Err
	}
	r.seen = time.Now()
	r.adopt(t)
	for id, reader := range r.readers {
		if b, known := m.Brokers[id]; known && b.address() != reader.broker.address() {
			reader.stop(errMoved) // who listens there now may be somebody else
		}
	}
	for partition, reader := range r.held { // one that answers says itself that it leads no more
		if int(partition) < len(t.Partitions) && t.Partitions[partition].Leader != reader.broker.ID && reader.silent() {
			reader.stop(errNotLeading)
		}
	}
	begun, err := r.begin(ctx)
	for _, p := range begun {
		b, known := Broker{}, false
		if int(p.partition) < len(t.Partitions) {
			b, known = m.Brokers[t.Partitions[p.partition].Leader]
		}
		if !known {
			err = errors.Join(err, &PartitionError{Cluster: r.l.c.profile.Name, Topic: CommitsTopic, Partition: p.partition, Err: kerr.LeaderNotAvailable})
			continue
		}
		r.give(ctx, b, p)
	}
	return err
}

// adopt takes the partitions that are new, which at the start are all. Those of another topic under the name are all new.
func (r *commitRun) adopt(t Topic) {
	if r.id != t.ID && len(r.parts)+len(r.held) > 0 {
		for _, reader := range r.readers {
			reader.stop(errors.New("the topic is another one now"))
		}
		for _, p := range r.parts {
			p.id = t.ID
			p.restart(p.began)
		}
	}
	r.id = t.ID
	var found []int32
	for i := range t.Partitions {
		partition := int32(i)
		_, homeless := r.parts[partition]
		if _, held := r.held[partition]; !held && !homeless {
			found = append(found, partition)
			r.parts[partition] = r.l.newPart(partition, t.ID)
		}
	}
	r.l.found(found)
}

// begin returns the partitions that can be read from where they stand, and asks for the place of those that have none.
func (r *commitRun) begin(ctx context.Context) ([]*commitPart, error) {
	place := Earliest
	if r.l.o.FromEnd {
		place = Latest
	}
	var ask errgroup.Group
	ask.SetLimit(commitStarts)
	errs := make([]error, len(r.parts))
	ready := make([]*commitPart, 0, len(r.parts))
	for i, p := range slices.SortedFunc(maps.Values(r.parts), func(a, b *commitPart) int { return int(a.partition - b.partition) }) {
		if p.id != r.id { // it was somebody's when the topic was found to be another
			p.id = r.id
			p.restart(p.began)
		}
		ready = append(ready, p)
		if p.next >= 0 {
			continue
		}
		ask.Go(func() error {
			at, err := r.l.c.ListOffsets(ctx, CommitsTopic, p.partition, place, true)
			if errs[i] = err; err == nil {
				p.next = at.Offset
			}
			return nil
		})
	}
	_ = ask.Wait() // in errs
	return slices.DeleteFunc(ready, func(p *commitPart) bool { return p.next < 0 }), errors.Join(errs...)
}

// give hands a partition to the reader of a broker, a new one if need be.
func (r *commitRun) give(ctx context.Context, b Broker, p *commitPart) {
	reader := r.readers[b.ID]
	if reader == nil || !reader.take(p) {
		reader = newCommitReader(r, b)
		reader.take(p)
		r.readers[b.ID] = reader
		own, stop := context.WithCancelCause(ctx)
		reader.stop = stop
		r.all.Go(func() error {
			defer stop(nil)
			return reader.run(ctx, own)
		})
	}
	delete(r.parts, p.partition)
	r.held[p.partition] = reader
}
