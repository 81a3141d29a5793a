package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// Drift is one thing in which a link's target differs from its source, beside the records.
type Drift struct {
	Link    string
	Kind    string // one of the kinds below
	Topic   string // empty for acl and quota
	Name    string // of the setting, the rule or whom the quota is for; empty for topic and partitions
	Source  string // as it is there; empty: it is not
	Target  string
	Verdict string // one of the verdicts below
	Why     string
}

// The kinds of drift.
const (
	DriftTopic      = "topic"
	DriftPartitions = "partitions"
	DriftConfig     = "topic-config"
	DriftACL        = "acl"
	DriftQuota      = "quota"
)

// What becomes of a drift.
const (
	WillBeSet     = "will be set"
	WillBeRemoved = "will be removed"
	LeftByPolicy  = "left by policy"
	NotAuthorised = "not authorised" // it would be done, and the target does not let us
	Refused       = "refused"        // the target does not take it
	CannotTell    = "cannot tell"    // one of the clusters does not answer for it
)

// ErrUnheard is returned by [Set.Drift] of a node whose link has not heard of both of its clusters yet.
var ErrUnheard = errors.New("both clusters have not been heard of yet")

// Drift is the dry run of what a link keeps alike on both sides: everything that differs now, and what would be done about it or why
// it is left. It asks both clusters. It returns [ErrNoLink] for a link this node does not run, and
// [ErrUnheard].
func (s *Set) Drift(ctx context.Context, link string) ([]Drift, error) {
	for _, l := range s.list() {
		if l.name == link {
			return l.drift(ctx)
		}
	}
	return nil, fmt.Errorf("link %q: %w", link, ErrNoLink)
}

// drift compares both clusters.
func (l *Link) drift(ctx context.Context) ([]Drift, error) {
	if err := l.driftReady(ctx); err != nil {
		return nil, err
	}
	out := l.driftTopics()
	for _, k := range l.keepers() {
		if wanted, _ := l.keeps(k.kind); !wanted {
			continue
		}
		seen, err := k.look(ctx, false)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			verdict := CannotTell
			if denied(err) {
				verdict = NotAuthorised
			}
			out = append(out, Drift{Kind: k.kind, Verdict: verdict, Why: fmt.Sprint("both sides cannot be compared: ", err)})
		}
		out = append(append(out, seen.left...), l.driftItems(ctx, seen)...)
	}
	for i := range out {
		out[i].Link = l.name
	}
	return out, nil
}

// driftReady has the notes that other nodes made.
func (l *Link) driftReady(ctx context.Context) error {
	l.mu.Lock()
	known := l.source.Topics != nil && l.target.Topics != nil
	l.mu.Unlock()
	if !known {
		return fmt.Errorf("link %s: %w: ask again when its status says that it is up", l.name, ErrUnheard)
	}
	if err := l.store.refresh(ctx); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("read what link %s noted: %w", l.name, err)
	}
	return nil
}

// driftTopics is about topics and their partitions, which the refresh loop makes.
func (l *Link) driftTopics() (out []Drift) {
	l.mu.Lock()
	source, target := l.source, l.target
	l.mu.Unlock()
	for _, topic := range l.wanted(l.routing(), source) {
		f := l.known(topic)
		there, here := source.Topics[topic], target.Topics[f.target()]
		if _, known := target.Topics[f.target()]; !known {
			here.Err = errUnknownTopic
		}
		d := Drift{Kind: DriftTopic, Topic: topic, Source: partitions(there), Target: partitions(here), Verdict: WillBeSet}
		lim := f.limits()
		switch {
		case there.Err != nil || here.Err != nil && !errors.Is(here.Err, errUnknownTopic):
			d.Verdict, d.Why = CannotTell, fmt.Sprint(errors.Join(there.Err, here.Err))
		case here.Err != nil && lim.blockedName != "":
			d.Verdict, d.Why = LeftByPolicy, lim.blockedName+": "+lim.blocked
		case here.Err != nil:
			d.Target, d.Why = "", "it is not there"
		case len(here.Partitions) == len(there.Partitions):
			continue
		case len(here.Partitions) > len(there.Partitions):
			d.Kind, d.Verdict, d.Why = DriftPartitions, LeftByPolicy, "the target has more; the partitions that the source lacks get no records from this link"
		case l.wasWhole(f, len(here.Partitions)):
			d.Kind, d.Why = DriftPartitions, "the source has grown"
			if lim.blockedName != "" {
				d.Why = lim.blocked
			}
		default:
			d.Kind, d.Verdict, d.Why = DriftPartitions, LeftByPolicy, "the target never had all of the source's: its number is somebody's choice"
		}
		out = append(out, d)
	}
	return append(out, l.driftGone(source, target)...)
}

// partitions is how a topic is shown.
func partitions(t broker.Topic) string {
	if t.Err != nil {
		return ""
	}
	return fmt.Sprintf("%d partitions", len(t.Partitions))
}

// known is what the link knows of a topic; nothing, where it is not copied here.
func (l *Link) known(topic string) *flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.flows[topic]; f != nil {
		return f
	}
	return newFlow(l, topic)
}

// driftGone is about topics that were mirrored and that the source no longer has.
func (l *Link) driftGone(source, target broker.Metadata) (out []Drift) {
	terms := l.terms()
	for _, first := range l.store.firsts() {
		_, there := source.Topics[first.Topic]
		here, known := target.Topics[first.Target()]
		if there || !known || here.Err != nil || !l.stillTakes(first) {
			continue
		}
		d := Drift{Kind: DriftTopic, Topic: first.Topic, Target: partitions(here), Verdict: LeftByPolicy, Why: "gone from the source; deleted = keep"}
		if terms.Policy.Deleted == topology.FollowDelete {
			d.Verdict, d.Why = WillBeRemoved, fmt.Sprintf("gone from the source; deleted = follow, after %v", terms.Policy.DeletedAfter)
		}
		out = append(out, d)
	}
	return out
}

// firsts are the pumps of first partitions that have state, by topic.
func (s *store) firsts() (out []PumpID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pumps {
		if p.Partition == 0 && p.path() == s.path {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, byTopic)
	return out
}

// driftItems is about what was compared item by item. The target is asked whether it would take the changes.
func (l *Link) driftItems(ctx context.Context, seen glance) (out []Drift) {
	all := l.judgeSides(seen.sides)
	var due []work
	for _, w := range all {
		w.items = slices.DeleteFunc(slices.Clone(w.items), func(j judged) bool { return j.do != doSet && j.do != doRemove })
		if len(w.items) > 0 {
			due = append(due, w)
		}
	}
	var refused map[tryKey]error
	if len(due) > 0 {
		refused, _ = seen.change(ctx, true, due)
	}
	for _, w := range all {
		for _, j := range w.items {
			if j.do == doNothing {
				continue
			}
			key := tryKey{w.key, j.name}
			err := refused[key]
			if err == nil {
				err = l.failed(key)
			}
			out = append(out, driftOf(w.key, j, err))
		}
	}
	return out
}

// failed is why the last change of an item was refused.
func (l *Link) failed(key tryKey) error {
	l.syncer.mu.Lock()
	defer l.syncer.mu.Unlock()
	if t := l.syncer.tries[key]; t != nil {
		return t.failed
	}
	return nil
}

// driftOf shows one item. err: the target refuses the change.
func driftOf(key noteKey, j judged, err error) Drift {
	d := Drift{Kind: key.kind, Topic: key.source(), Name: key.subject, Source: j.source.value, Target: j.target.value, Why: j.why}
	switch {
	case key.kind == DriftConfig:
		d.Name = j.name
	case key.kind == DriftQuota:
		d.Name += ": " + j.name
	default:
		for _, side := range []struct {
			is  item
			say *string
		}{{j.source, &d.Source}, {j.target, &d.Target}} {
			if side.is.there {
				*side.say = "there"
			}
		}
	}
	switch j.do {
	case doSet:
		d.Verdict = WillBeSet
	case doRemove:
		d.Verdict = WillBeRemoved
	default:
		d.Verdict = LeftByPolicy
		return d
	}
	if err != nil {
		d.Why = err.Error()
		if d.Verdict = Refused; denied(err) {
			d.Verdict = NotAuthorised
		}
	}
	return d
}
