package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/router/timeline"
)

const (
	// readyPatience is how long each part of a look may take: a cluster that is away must not keep the others waiting.
	readyPatience = 15 * time.Second
	// flushed is how long nodes are given to write down what they have copied. By itself that is up to a second old.
	flushed = 200 * time.Millisecond
	// lastSwitches is how many switches of before are told of.
	lastSwitches = 5
)

// Readiness is what a switch would find at one moment.
type Readiness struct {
	switchover.Order
	Generation int64
	// Checks are those of a planned switch, Lost those of an unplanned one, were the home lost now.
	Checks, Lost []Check
	Tail         Tail
	Groups       GroupsBehind
	// Took is how long the last planned switches of the set took, checks and verification included, the newest first.
	Took []time.Duration
}

// Tail is what would be missing at the other cluster if the home were lost now.
type Tail struct {
	Partitions int      // that were looked at
	Behind     []Behind // those that miss any, most records first
	Err        error    // why not all could be learnt
}

// Behind is how many offsets below the end of a partition are not durably known to be mirrored.
type Behind struct {
	broker.TopicPartition
	Records int64
}

// GroupsBehind is where groups would go on at the other cluster if the home were lost now.
type GroupsBehind struct {
	Groups int // that were looked at
	Behind []GroupBehind
	Err    error // why not all could be learnt
}

// GroupBehind is a group that would not go on where it stands.
type GroupBehind struct {
	Group           string
	Reread, Skipped int64 // offsets at the other cluster
	Missing         int   // positions that are not there at all
}

// Ready looks what a switch of a set to a cluster would find, and what would be missing if the home were lost now. Nothing is begun. canary is a topic
// that has to go along both ways; empty for none.
func (c *Coordinator) Ready(ctx context.Context, set, to, canary string) (Readiness, error) {
	o, err := c.Order(ctx, set, to, generation.Planned, "")
	if err != nil {
		return Readiness{}, err
	}
	st, err := c.deps.Store.State(set)
	if err != nil {
		return Readiness{}, err
	}
	r := Readiness{Order: o, Generation: st.Generation, Took: took(c.deps.Store.Plans(set))}
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	c.deps.Instances(ctx, set) // so that nodes make durable what they have copied
	pause(ctx, flushed)
	var all sync.WaitGroup
	all.Go(func() { r.Checks = c.Checks(ctx, o) })
	all.Go(func() {
		lost := o
		lost.Kind = generation.Unplanned
		r.Lost = c.Checks(ctx, lost)
	})
	all.Go(func() { r.Tail = c.tail(ctx, o) })
	all.Go(func() { r.Groups = c.groupsBehind(ctx, o) })
	all.Wait()
	if canary != "" {
		r.Checks = append(r.Checks, c.checkCanary(o, canary))
	}
	return r, nil
}

// took is how long planned switches took by their last plans, the newest first.
func took(plans []generation.Plan) (out []time.Duration) {
	for _, p := range slices.Backward(plans) {
		if d := p.Since - p.Began; p.Kind != generation.Unplanned && p.Outcome == string(switchover.Committed) && d >= 0 && d < math.MaxInt64/int64(time.Millisecond) && len(out) < lastSwitches {
			out = append(out, time.Duration(d)*time.Millisecond)
		}
	}
	return out
}

// checkCanary looks whether a topic of a drill goes along both ways: one that does not would keep the set from moving.
func (c *Coordinator) checkCanary(o switchover.Order, topic string) Check {
	var err error
	switch {
	case ours(topic) || !c.here(o.Set).Topic(topic):
		err = fmt.Errorf("topic %s is not of what moves; name one that is", topic)
	case !c.carries(o.From, o.To, topic):
		err = fmt.Errorf("no link brings %s from %s to %s: add it to the topics of one, or name another", topic, o.From, o.To)
	case !c.carries(o.To, o.From, topic):
		err = fmt.Errorf("no link brings %s from %s to %s: add it to the topics of one, or name another", topic, o.To, o.From)
	}
	return found("canary", err, fmt.Sprintf("%s goes along both ways", topic))
}

// tail finds what of the home is not durably known to be at the other cluster.
func (c *Coordinator) tail(ctx context.Context, o switchover.Order) (t Tail) {
	from, err := c.deps.Cluster(o.From)
	if err != nil {
		return Tail{Err: err}
	}
	all, err := c.topics(ctx, from, o.Set)
	if err != nil {
		return Tail{Err: err}
	}
	topics, others := c.carried(o.From, o.To, all)
	if len(others) > 0 {
		t.Err = fmt.Errorf("no link brings %s: all of it would be missing", some(others))
	}
	if len(topics) == 0 {
		return t
	}
	ends, err := from.LogEnds(ctx, topics...)
	if err != nil {
		return Tail{Err: err}
	}
	t.Behind, err = c.behindEach(ctx, o, ends)
	for _, one := range ends {
		t.Partitions += len(one)
	}
	t.Err = cmp.Or(err, t.Err)
	return t
}

// behindEach tells of each partition how far the mirror is behind some ends, of those where it is.
func (c *Coordinator) behindEach(ctx context.Context, o switchover.Order, ends map[string][]int64) (out []Behind, err error) {
	ask, ctx := errgroup.WithContext(ctx)
	ask.SetLimit(partitionsAtOnce)
	mirror := c.deps.Mirror()
	var mu sync.Mutex
	for topic, list := range ends {
		for p, end := range list {
			if end == 0 {
				continue
			}
			ask.Go(func() error {
				at, err := mirror.Reached(ctx, o.From, o.To, topic, int32(p))
				if err != nil {
					return fmt.Errorf("how far %s:%d is mirrored from %s to %s: %w", topic, p, o.From, o.To, err)
				}
				if at < end {
					mu.Lock()
					defer mu.Unlock()
					out = append(out, Behind{broker.TopicPartition{Topic: topic, Partition: int32(p)}, end - at})
				}
				return nil
			})
		}
	}
	err = ask.Wait()
	slices.SortFunc(out, func(a, b Behind) int {
		return cmp.Or(cmp.Compare(b.Records, a.Records), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out, err
}

// groupsBehind compares where groups stand at the home with where they would go on at the other cluster.
func (c *Coordinator) groupsBehind(ctx context.Context, o switchover.Order) (g GroupsBehind) {
	from, err := c.deps.Cluster(o.From)
	if err != nil {
		return GroupsBehind{Err: err}
	}
	to, err := c.deps.Cluster(o.To)
	if err != nil {
		return GroupsBehind{Err: err}
	}
	here := c.here(o.Set)
	names, _, err := groupsOf(ctx, from, here)
	if err != nil {
		return GroupsBehind{Err: err}
	}
	ofSet := func(p *broker.GroupOffset) bool { return here.Topic(p.Topic) && !ours(p.Topic) }
	stand, err := positions(from.GroupOffsets(ctx, names...), ofSet)
	if err != nil {
		return GroupsBehind{Err: fmt.Errorf("positions at %s: %w", o.From, err)}
	}
	there, err := positions(to.GroupOffsets(ctx, names...), ofSet)
	if err != nil {
		return GroupsBehind{Err: fmt.Errorf("positions at %s: %w", o.To, err)}
	}
	runs, err := c.runsOf(ctx, o, stand)
	return GroupsBehind{Groups: len(stand), Behind: compareGroups(stand, there, runs), Err: err}
}

// runsOf is where what groups have before them is at the other cluster, of the partitions in which they stand. Partitions of which it is not known are missing.
func (c *Coordinator) runsOf(ctx context.Context, o switchover.Order, stand map[string][]broker.GroupOffset) (map[broker.TopicPartition][]timeline.Run, error) {
	wanted := make(map[broker.TopicPartition]bool)
	for _, list := range stand {
		for _, p := range list {
			wanted[p.TopicPartition] = true
		}
	}
	out := make(map[broker.TopicPartition][]timeline.Run, len(wanted))
	var mu sync.Mutex
	var first error
	var ask errgroup.Group
	ask.SetLimit(partitionsAtOnce)
	mirror := c.deps.Mirror()
	for tp := range wanted {
		ask.Go(func() error {
			runs, err := mirror.Runs(ctx, o.From, o.To, tp.Topic, tp.Partition)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				first = cmp.Or(first, fmt.Errorf("where %s:%d is at %s: %w", tp.Topic, tp.Partition, o.To, err))
				return nil
			}
			out[tp] = runs
			return nil
		})
	}
	_ = ask.Wait() // the first error is told with what was found
	return out, first
}

// compareGroups finds the groups that would not go on where they stand: of each partition in which it stands at the home, where it should go on by the runs and where it
// would. It is pure. What is wrong with most is first.
func compareGroups(stand, there map[string][]broker.GroupOffset, runs map[broker.TopicPartition][]timeline.Run) (out []GroupBehind) {
	for _, group := range slices.Sorted(maps.Keys(stand)) {
		at := make(map[broker.TopicPartition]int64, len(there[group]))
		for _, p := range there[group] {
			at[p.TopicPartition] = p.Offset
		}
		b := GroupBehind{Group: group}
		for _, p := range stand[group] {
			known, ok := runs[p.TopicPartition]
			if !ok {
				continue
			}
			should := goesOn(known, p.Offset)
			now, ok := at[p.TopicPartition]
			switch {
			case !ok && should > 0: // where nothing came before, beginning anew is right
				b.Missing++
			case ok && now < should:
				b.Reread += should - now
			case ok && now > should && unread(known, p.Offset):
				b.Skipped += now - should
			}
		}
		if b != (GroupBehind{Group: group}) {
			out = append(out, b)
		}
	}
	slices.SortStableFunc(out, func(a, b GroupBehind) int {
		return cmp.Or(cmp.Compare(b.Skipped, a.Skipped), cmp.Compare(b.Missing, a.Missing), cmp.Compare(b.Reread, a.Reread))
	})
	return out
}

// goesOn is where at the other cluster a reader goes on that has read everything before an offset: at the first copy of what it has not read, or behind all copies.
func goesOn(runs []timeline.Run, offset int64) int64 {
	first, end := int64(math.MaxInt64), int64(0)
	for _, r := range runs {
		end = max(end, r.To+r.Count)
		if r.From+r.Count > offset {
			first = min(first, r.To+max(0, offset-r.From))
		}
	}
	if first == math.MaxInt64 {
		return end
	}
	return first
}

// unread reports whether anything at or behind an offset is at the other cluster.
func unread(runs []timeline.Run, offset int64) bool {
	return slices.ContainsFunc(runs, func(r timeline.Run) bool { return r.From+r.Count > offset })
}
