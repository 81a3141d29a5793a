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
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// A group's coordinator is the one broker that keeps its members and its offsets. Many groups share one, so what is asked about many
// groups is one request to each coordinator; what one of them does not tell is an error of its groups and of no others.

const (
	// maxCoordinators are remembered; what is beyond them is asked for again.
	maxCoordinators = 100_000
	// coordinatorsAtOnce are asked at a time.
	coordinatorsAtOnce = 8
	// findAtOnce is how many groups' coordinators one request asks for.
	findAtOnce = 5000
	// coordinatorTries is how often a group is asked about whose coordinator moves or starts. The first question about any group has the
	// cluster make the topic that keeps them, which takes seconds; the waits between tries are those for leaders.
	coordinatorTries = 6
	// groupPatience is what each group adds to the time that an answer may take.
	groupPatience = 10 * time.Millisecond
)

// coordinators are those that are known, until one says that it is none.
type coordinators struct {
	mu sync.Mutex // never held across I/O
	of map[string]int32
}

func (k *coordinators) get(group string) (int32, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id, ok := k.of[group]
	return id, ok
}

func (k *coordinators) put(group string, id int32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil || len(k.of) >= maxCoordinators {
		k.of = make(map[string]int32)
	}
	k.of[group] = id
}

func (k *coordinators) forget(group string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.of, group)
}

// coordinator is a broker that is asked about its groups.
type coordinator struct {
	*kgo.Broker
	id int32
}

// groupAsk asks one coordinator about some groups. refused has the groups about which it said that something is wrong; err is that of
// the whole request. Each call needs a request of its own.
type groupAsk func(ctx context.Context, b coordinator, groups []string) (refused map[string]error, err error)

// atCoordinators has each group's coordinator asked, at most atOnce groups with one request, and less where the answer was too long.
// What it returns is what stayed wrong, by group. A coordinator that has moved is looked up, and one that is about to coordinate is
// waited for.
func (c *Cluster) atCoordinators(ctx context.Context, groups []string, atOnce int, ask groupAsk) map[string]error {
	groups = slices.Compact(slices.Sorted(slices.Values(groups)))
	failed := make(map[string]error)
	hurt := make(map[int32]bool) // coordinators that broke off or said nothing: once more, if that is not what they were asked before
	for try := 0; ; try++ {
		at, lost := c.coordinatorsOf(ctx, groups)
		for id, err := range c.askEach(ctx, at, atOnce, hurt, ask) {
			lost[id] = err
		}
		groups = groups[:0]
		wait := false
		for group, err := range lost {
			again, waits := coordinatorMoved(err)
			if !again || try == coordinatorTries-1 || ctx.Err() != nil {
				failed[group] = err
				continue
			}
			groups, wait = append(groups, group), wait || waits
			c.coordinators.forget(group)
		}
		if len(groups) == 0 {
			return failed
		}
		slices.Sort(groups)
		if wait {
			_ = pause(ctx, leaderWait<<try) // its end is seen by the next try
		}
	}
}

// coordinatorMoved tells whether an error of a group is gone when its coordinator is looked up again, and whether that takes a moment.
func coordinatorMoved(err error) (again, wait bool) {
	var said *kerr.Error
	switch {
	case errors.Is(err, kerr.NotCoordinator), errors.Is(err, kerr.CoordinatorNotAvailable), errors.Is(err, kerr.CoordinatorLoadInProgress):
		return true, true
	case errors.Is(err, errGivenUp), errors.As(err, &said):
		return false, false
	}
	return Classify(err) == Retry, false
}

// errGivenUp is wrapped by the error of a coordinator that is not asked again.
var errGivenUp = errors.New("asked twice")

// askEach asks coordinators, some at a time. It returns the groups that were not answered for.
func (c *Cluster) askEach(ctx context.Context, at map[int32][]string, atOnce int, hurt map[int32]bool, ask groupAsk) map[string]error {
	var mu sync.Mutex
	lost := make(map[string]error)
	var all errgroup.Group
	all.SetLimit(coordinatorsAtOnce)
	for id, groups := range at {
		mu.Lock()
		before := hurt[id]
		mu.Unlock()
		all.Go(func() error {
			for some := range slices.Chunk(groups, atOnce) {
				refused, err := c.askParts(ctx, coordinator{c.client.Broker(int(id)), id}, some, ask)
				mu.Lock()
				for group, e := range refused {
					if e != nil {
						lost[group] = e
					}
				}
				mu.Unlock()
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					if !answered(err) {
						if before || errors.Is(err, errSilent) {
							err = fmt.Errorf("coordinator %d: %w (%w)", id, err, errGivenUp)
						}
						hurt[id] = true
					}
					for _, group := range groups[slices.Index(groups, some[0]):] { // the rest would wait as long
						if _, told := lost[group]; !told {
							lost[group] = err
						}
					}
					return nil
				}
			}
			return nil
		})
	}
	_ = all.Wait() // what went wrong is in lost
	return lost
}

// askParts asks one coordinator, and in halves where the answer is longer than what is read.
func (c *Cluster) askParts(ctx context.Context, b coordinator, groups []string, ask groupAsk) (map[string]error, error) {
	call, cancel := context.WithTimeoutCause(ctx, leaderPatience+time.Duration(len(groups))*groupPatience, errSilent)
	defer cancel()
	refused, err := ask(call, b, groups)
	switch {
	case err == nil:
		return refused, nil
	case errors.Is(err, errLongAnswer) && len(groups) > 1:
		half := len(groups) / 2
		first, err := c.askParts(ctx, b, groups[:half], ask)
		if err != nil {
			return first, err
		}
		second, err := c.askParts(ctx, b, groups[half:], ask)
		if first == nil {
			return second, err
		}
		maps.Copy(first, second)
		return first, err
	case errors.Is(err, context.DeadlineExceeded) && call.Err() != nil:
		err = context.Cause(call)
	}
	return refused, err
}

// coordinatorsOf returns who coordinates which groups, and the groups for which that cannot be told.
func (c *Cluster) coordinatorsOf(ctx context.Context, groups []string) (at map[int32][]string, lost map[string]error) {
	at, lost = make(map[int32][]string), make(map[string]error)
	var unknown []string
	for _, group := range groups {
		if id, known := c.coordinators.get(group); known {
			at[id] = append(at[id], group)
			continue
		}
		unknown = append(unknown, group)
	}
	for some := range slices.Chunk(unknown, findAtOnce) {
		found, err := c.findCoordinators(ctx, GroupKey, some)
		for _, group := range some {
			f, told := found[group]
			switch {
			case err != nil:
				lost[group] = err
			case !told:
				lost[group] = protocolErrorf("no coordinator in the answer")
			case f.err != nil:
				lost[group] = f.err
			default:
				c.coordinators.put(group, f.id)
				at[f.id] = append(at[f.id], group)
			}
		}
	}
	return at, lost
}

type foundCoordinator struct {
	id  int32
	err error
}

// findCoordinators asks any broker, which knows all.
func (c *Cluster) findCoordinators(ctx context.Context, kind int8, keys []string) (map[string]foundCoordinator, error) {
	req := kmsg.NewFindCoordinatorRequest()
	req.CoordinatorType, req.CoordinatorKeys = kind, keys // the client asks for one at a time where the broker is older than Kafka 3.0
	resp, err := askAny(ctx, c, req, (*kmsg.FindCoordinatorRequest).RequestWith)
	if err != nil {
		return nil, err
	}
	found := make(map[string]foundCoordinator, len(keys))
	for _, f := range resp.Coordinators {
		found[f.Key] = foundCoordinator{f.NodeID, codeError(f.ErrorCode)}
	}
	return found, nil
}

// The kinds of what has a coordinator (FindCoordinator's key types).
const (
	GroupKey       int8 = 0
	TransactionKey int8 = 1
)

// Coordinator asks who coordinates a group or a transactional id, never a cache. Errors of the coordinator's are of package kerr, such as
// CoordinatorNotAvailable.
func (c *Cluster) Coordinator(ctx context.Context, kind int8, key string) (id int32, err error) {
	found, err := c.findCoordinators(ctx, kind, []string{key})
	f, told := found[key]
	switch {
	case err != nil:
	case !told:
		err = protocolErrorf("no coordinator in the answer")
	default:
		err = f.err
	}
	if err != nil {
		return -1, c.failed(ctx, "find a coordinator", err)
	}
	return f.id, nil
}

// groupError names what was asked about a group, of which cluster, and the right on the group or on its topics that is missing.
func (c *Cluster) groupError(ctx context.Context, what string, err error, group, onGroup, onTopics string) error {
	switch {
	case err == nil:
		return nil
	case !answered(err):
		return c.failed(ctx, what, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return c.refused(what, c.profile.denied(err, onTopics, "a topic of group "+group), "")
	}
	return c.refused(what, c.profile.denied(err, onGroup, "group "+group), "")
}
