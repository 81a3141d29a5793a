package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

const (
	// pollShare: of so much time one part is what asking for all positions may take of a processor, here and, about as much, at the brokers.
	pollShare = 20
	// pollCost is what decoding and comparing one position may take: estimated, not measured.
	pollCost = 2 * time.Microsecond
	// pollLeast and pollMost are between questions where commits are not heard, pollHeard where they are.
	pollLeast, pollMost, pollHeard = 500 * time.Millisecond, 5 * time.Minute, 5 * time.Minute
	// heldMost is how long a transaction may hold commits back until positions are asked for again, and heldLook how often is looked.
	heldMost, heldLook = 500 * time.Millisecond, time.Second
	// hearAgain is after which time a log of commits that could not be read is tried again.
	hearAgain = 10 * time.Minute
	// hearSoon is that of one that was not there: Kafka makes it when the first group commits.
	hearSoon = 5 * time.Second
)

// ear hears of one cluster's positions: of each commit as it happens, where its log of commits may be read, and of all of them by asking, once then and
// again and again elsewhere.
type ear struct {
	link    *Link
	cluster *broker.Cluster
	book    *groupBook
	names   groupNames
	log     *broker.CommitLog
	heard   atomic.Bool   // commits are heard as they happen
	missed  chan struct{} // some may not have been heard
	wait    time.Duration // between questions, as last told
}

func newEar(l *Link, c *broker.Cluster, b *groupBook, names groupNames) *ear {
	return &ear{link: l, cluster: c, book: b, names: names, log: c.CommitLog(broker.CommitLogOptions{FromEnd: true}), missed: make(chan struct{}, 1)}
}

// run hears until ctx ends.
func (e *ear) run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { e.listen(ctx) })
	both.Go(func() { e.ask(ctx) })
	both.Wait()
}

// listen reads the log of commits, where it may.
func (e *ear) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := e.log.Run(ctx, func(b broker.CommitBatch) error {
			e.take(b)
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		if e.heard.Swap(false) {
			e.miss()
		}
		if e.link.syncer.news("commits of "+e.cluster.Name(), fmt.Sprint(err)) {
			e.link.log.Info("commits are not heard as they happen; positions of groups are asked for instead", "cluster", e.cluster.Name(), "why", err)
		}
		again := hearAgain
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			again = hearSoon
		}
		if sleep(ctx, again) != nil {
			return
		}
	}
}

// take takes some of the log.
func (e *ear) take(b broker.CommitBatch) {
	terms := e.link.terms()
	for _, c := range b.Commits {
		topic, ok := e.names.known(c.Topic)
		switch {
		case !ok || !terms.KeepsGroup(c.Group):
		case c.Kind == broker.Committed:
			e.book.set(c.Group, topic, c.Partition, &groupPosition{offset: c.Offset, metadata: c.Metadata, time: c.Time})
		case c.Kind == broker.Uncommitted:
			e.book.set(c.Group, topic, c.Partition, nil)
		}
	}
	if was := e.heard.Swap(b.CaughtUp); b.CaughtUp && (!was || b.Restarted) {
		e.miss() // what was before the log's end, or was lost of it
	}
}

func (e *ear) miss() {
	select {
	case e.missed <- struct{}{}:
	default:
	}
}

// ask asks for all positions, again and again.
func (e *ear) ask(ctx context.Context) {
	for {
		call, cancel := context.WithTimeout(ctx, refreshTimeout)
		n, err := e.askOnce(call)
		cancel()
		if ctx.Err() != nil {
			return
		}
		e.link.sayTrouble("groups of "+e.cluster.Name(), err)
		e.rest(ctx, e.pause(n))
		if ctx.Err() != nil || sleep(ctx, pollLeast) != nil { // never without a pause
			return
		}
	}
}

// rest waits, until commits may have been missed, or are held back.
func (e *ear) rest(ctx context.Context, wait time.Duration) {
	over := time.NewTimer(wait)
	defer over.Stop()
	look := time.NewTicker(heldLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-e.missed:
		case <-over.C:
		case <-look.C:
			if wait < pollHeard || !e.held() { // else it is asked by cost already
				continue
			}
		}
		return
	}
}

// pause is the time until the next question, by what they cost.
func (e *ear) pause(positions int) time.Duration {
	if e.heard.Load() && !e.held() {
		e.wait = 0
		return pollHeard
	}
	wait := min(max(pollLeast, time.Duration(positions)*pollCost*pollShare), pollMost)
	if wait > pollLeast && (e.wait == 0 || wait > 2*e.wait || e.wait > 2*wait) {
		e.wait = wait
		e.link.log.Info("there are so many positions of groups that they are asked for less often", "cluster", e.cluster.Name(), "positions", positions, "every", wait.Round(time.Second).String())
	}
	return wait - pollLeast
}

// held reports whether commits are not told because a transaction before them in the log, of whatever group, has been open for long.
func (e *ear) held() bool {
	for _, since := range e.log.Stats().Held {
		if e.link.now().Sub(since) > heldMost {
			return true
		}
	}
	return false
}

// askOnce asks once, and returns how many positions there are. What could not be learnt stays as it was.
func (e *ear) askOnce(ctx context.Context) (n int, err error) {
	list, err := e.cluster.Groups(ctx)
	terms := e.link.terms()
	ids := make([]string, 0, len(list))
	for _, g := range list {
		if terms.KeepsGroup(g.ID) {
			ids = append(ids, g.ID)
		}
	}
	var errs []error
	now, unknown := make(map[groupKey]bool), make(map[string]bool)
	for group, of := range e.cluster.GroupOffsets(ctx, ids...) {
		if of.Err != nil {
			errs, unknown[group] = append(errs, of.Err), true
		}
		for _, o := range of.Offsets {
			if o.Err != nil {
				errs, unknown[group] = append(errs, o.Err), true
				continue
			}
			n++
			topic, ok := e.names.known(o.Topic)
			if !ok {
				continue
			}
			now[groupKey{group, topicPartition{topic, o.Partition}}] = true
			e.book.set(group, topic, o.Partition, &groupPosition{offset: o.Offset, metadata: o.Metadata, time: -1})
		}
	}
	if err == nil { // else a broker that did not answer may have more
		e.book.retain(func(key groupKey) bool { return now[key] || unknown[key.group] })
		e.book.finish()
	}
	if most := 3; len(errs) > most {
		errs = append(errs[:most], fmt.Errorf("and %d more", len(errs)-most))
	}
	return n, errors.Join(append(errs, err)...)
}
