package router

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/relay"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/router/sets"
	"github.com/isthmus-project/isthmus/topology"
)

const (
	// otherPatience is how long a client waits for what another home has to say. It has connections of its own to wait at, so this is short.
	otherPatience = time.Second
	// otherRest is how long a home that did not answer is not asked.
	otherRest = 2 * time.Second
	// rightsKnown is how long it is believed that a home checks no rights.
	rightsKnown = time.Minute
)

// apart asks the homes of sets for what clients of other sets are told. With the router's own login: the names, partitions and leaders of topics that a client names are
// told to it whatever its rights at that home are, which decides itself when the client comes to it; lists of all topics have those of another home only
// where nobody logs in there, or it checks no rights.
type apart struct {
	sets  *sets.Map
	homes []*other // by set
}

// other is how the home of a set answers when it is asked for clients of others.
type other struct {
	mu     sync.Mutex
	rest   time.Time // it is not asked before
	open   bool      // it checks no rights
	openAt time.Time // until when that is believed
}

// newApart returns nil for a router without sets.
func newApart(r topology.Router) *apart {
	if len(r.Sets) == 0 {
		return nil
	}
	a := &apart{sets: sets.NewMap(r)}
	for range len(r.Sets) + 1 {
		a.homes = append(a.homes, new(other))
	}
	return a
}

// moved forgets how the home before answered.
func (a *apart) moved(set int) {
	if a == nil {
		return
	}
	o := a.homes[set]
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest, o.openAt = time.Time{}, time.Time{}
}

// of is what a connection to the home of a set is to know of the others.
func (a *apart) of(set int, now func() *picture) relay.Sets {
	return seenFrom{a.sets.Of(set), a, set, now}
}

// seenFrom implements [relay.Sets].
type seenFrom struct {
	sets.Here
	*apart
	set int
	now func() *picture
}

// Topics implements [relay.Sets].
func (s seenFrom) Topics(ctx context.Context, names []string) (out []kmsg.MetadataResponseTopic) {
	by := make(map[int][]string)
	for _, n := range names {
		set := s.sets.OfTopic(n)
		by[set] = append(by[set], n)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for set, o := range s.homes {
		if set == s.set || names != nil && len(by[set]) == 0 {
			continue
		}
		all.Go(func() {
			topics := s.topics(ctx, o, set, by[set])
			mu.Lock()
			defer mu.Unlock()
			out = append(out, topics...)
		})
	}
	all.Wait()
	return out
}

// topics are those of one other set.
func (s seenFrom) topics(ctx context.Context, o *other, set int, names []string) (out []kmsg.MetadataResponseTopic) {
	ctx, cancel := context.WithTimeout(ctx, otherPatience)
	defer cancel()
	cluster := s.now().sides[set].cluster
	if names == nil && !cluster.Anonymous() && !o.checksNoRights(ctx, cluster) {
		return nil
	}
	var m broker.Metadata
	err := o.ask(func() (err error) {
		m, err = cluster.Metadata(ctx, names...)
		return err
	})
	if err != nil {
		for _, n := range names {
			out = append(out, kmsg.MetadataResponseTopic{Topic: kmsg.StringPtr(n), ErrorCode: kerr.LeaderNotAvailable.Code})
		}
		return out
	}
	view := s.now().sides[set].view
	for _, t := range m.Topics {
		if s.sets.OfTopic(t.Name) == set && (names != nil || !t.Internal) {
			out = append(out, topicOf(t, view))
		}
	}
	return out
}

// Coordinator implements [relay.Sets].
func (s seenFrom) Coordinator(ctx context.Context, kind int8, key string) (rewrite.Slot, int16) {
	ctx, cancel := context.WithTimeout(ctx, otherPatience)
	defer cancel()
	set := s.sets.OfGroup(key)
	o, id := s.homes[set], int32(-1)
	err := o.ask(func() (err error) {
		id, err = s.now().sides[set].cluster.Coordinator(ctx, kind, key)
		return err
	})
	if slot, ok := s.now().sides[set].view.SlotOf(id); err == nil && ok {
		return slot, 0
	}
	return rewrite.Slot{ID: -1, Port: -1}, kerr.CoordinatorNotAvailable.Code
}

// ask asks a home, unless it has just not answered. Its answers are errors of package kerr, too.
func (o *other) ask(fn func() error) error {
	o.mu.Lock()
	resting := time.Now().Before(o.rest)
	o.mu.Unlock()
	if resting {
		return errResting
	}
	err := fn()
	if answer := (*kerr.Error)(nil); err != nil && !errors.As(err, &answer) {
		o.mu.Lock()
		o.rest = time.Now().Add(otherRest)
		o.mu.Unlock()
	}
	return err
}

// errResting says that a home is not asked because it did not answer a moment ago.
var errResting = errors.New("it did not answer a moment ago")

// checksNoRights reports whether all may see everything at a home. Where that cannot be told they may not.
func (o *other) checksNoRights(ctx context.Context, cluster *broker.Cluster) bool {
	o.mu.Lock()
	open, known := o.open, time.Now().Before(o.openAt)
	o.mu.Unlock()
	if known {
		return open
	}
	err := o.ask(func() error {
		_, err := cluster.ACLs(ctx)
		return err
	})
	if errors.Is(err, errResting) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.openAt = errors.Is(err, kerr.SecurityDisabled), time.Now().Add(rightsKnown)
	return o.open
}

// topicOf is a topic of another home as clients are told it.
func topicOf(t broker.Topic, view *rewrite.View) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.IsInternal, out.ErrorCode = kmsg.StringPtr(t.Name), t.Internal, codeOf(t.Err)
	for _, p := range t.Partitions {
		rp := kmsg.NewMetadataResponseTopicPartition()
		rp.Partition, rp.Leader, rp.LeaderEpoch, rp.ErrorCode = p.ID, view.Virtual(p.Leader), -1, codeOf(p.Err)
		if rp.Leader < 0 && p.Leader >= 0 && rp.ErrorCode == 0 {
			rp.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		rp.Replicas, rp.ISR = view.List(p.Replicas), view.List(p.ISR)
		out.Partitions = append(out.Partitions, rp)
	}
	return out
}

// codeOf is the error of a topic or a partition as the protocol has it; what has no code is to be asked again.
func codeOf(err error) int16 {
	if err == nil {
		return 0
	}
	if e := (*kerr.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return kerr.LeaderNotAvailable.Code
}
