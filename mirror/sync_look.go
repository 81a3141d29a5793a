package mirror

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// merging is how the items of a kind are merged on this link. back: there is a way back over links that keep the kind alike too.
func (l *Link) merging(back bool) kept { return kept{returns: back, wins: l.spec.From < l.spec.To} }

// wayBack reports whether changes of a topic's target come back to its source over links that all keep something.
func (l *Link) wayBack(r *routing, topic string, keeps func(topology.Keeps) bool) bool {
	now, ok := r.topo.Link(l.name)
	if !ok {
		return false
	}
	back := r.topo.Cycle(now, topic)
	return len(back) > 0 && !slices.ContainsFunc(back, func(l topology.Link) bool { return !keeps(l.Keeps) })
}

// keptTopics are the link's topics that are on both sides, by the pump of their first partition; own: of those only the ones that this node brings in line.
func (l *Link) keptTopics(own bool) (topics []PumpID) {
	l.mu.Lock()
	source, target := l.source, l.target
	l.mu.Unlock()
	for _, topic := range l.wanted(l.routing(), source) {
		if l.terms().Merges(topic) { // whose settings they are to be, of all that are one there, nobody can say
			continue
		}
		first := l.routing().pumpID(l.spec, topic, 0)
		at, there := target.Topics[first.Target()]
		if there && at.Err == nil && source.Topics[topic].Err == nil && (!own || l.shared.owner(first) == "") {
			topics = append(topics, first)
		}
	}
	return topics
}

// names are the link's topics: those at the source, and those that it mirrored and that are still on the target. A topic that the source does
// not name any more, for good or for the moment in which its broker starts, keeps who may read it.
func (l *Link) names() []string {
	l.mu.Lock()
	source, target := l.source, l.target
	l.mu.Unlock()
	names := l.wanted(l.routing(), source)
	for _, first := range l.store.firsts() {
		if at, there := target.Topics[first.Target()]; there && at.Err == nil && l.stillTakes(first) {
			names = append(names, first.Topic)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (l *Link) lookConfigs(ctx context.Context, own bool) (glance, error) {
	topics := l.keptTopics(own)
	if len(topics) == 0 {
		return glance{}, nil
	}
	var names, targets []string
	for _, first := range topics {
		names, targets = append(names, first.Topic), append(targets, first.Target())
	}
	source, err := l.from.TopicConfigs(ctx, names...)
	if source == nil {
		return glance{}, err
	}
	target, wrong := l.to.TopicConfigs(ctx, targets...)
	if err = errors.Join(err, wrong); target == nil {
		return glance{}, err
	}
	seen := glance{cost: time.Duration(len(topics)) * topicCost, change: l.changeConfigs}
	r, keeps := l.routing(), l.terms().Keeps
	for _, first := range topics {
		topic := first.Topic
		there, here := source[topic], target[first.Target()]
		if there == nil || here == nil {
			seen.left = append(seen.left, Drift{Kind: DriftConfig, Topic: topic, Verdict: CannotTell, Why: "one side does not tell its settings"})
			continue
		}
		back := l.wayBack(r, topic, func(k topology.Keeps) bool { return len(k.Configs) > 0 })
		seen.sides = append(seen.sides, compareConfigs(first.named(), keeps, l.merging(back), there, here))
	}
	return seen, err
}

// oneByOne is how many topics of which the target refused the changes together are tried setting by setting in one pass.
const oneByOne = 20

func (l *Link) changeConfigs(ctx context.Context, dry bool, due []work) (map[tryKey]error, error) {
	topics := make([]broker.TopicChanges, len(due))
	for i, w := range due {
		topics[i] = configChanges(w.key.target(), w.items)
	}
	refused, err := l.to.AlterTopicConfigs(ctx, dry, topics)
	if err != nil && len(topics) <= 1 {
		return nil, err
	}
	out := make(map[tryKey]error)
	alone := 0
	for i, w := range due {
		why := refused[w.key.target()]
		if why == nil && err != nil {
			why = err // not asked for, as far as is known; it is looked at again
		}
		if why == nil {
			continue
		}
		single := len(w.items) > 1 && broker.Classify(why) != broker.Retry && !denied(why) && alone < oneByOne
		if single {
			alone++
		}
		for n, j := range w.items {
			key := tryKey{w.key, j.name}
			out[key] = why
			if single { // one that the target does not take is not to keep the others out
				one, err := l.to.AlterTopicConfigs(ctx, dry, []broker.TopicChanges{{Topic: w.key.target(), Changes: topics[i].Changes[n : n+1]}})
				if out[key] = errors.Join(err, one[w.key.target()]); out[key] == nil {
					delete(out, key)
				}
			}
		}
	}
	return out, nil
}

func (l *Link) lookACLs(ctx context.Context, _ bool) (glance, error) {
	source, err := l.from.ACLs(ctx)
	if errors.Is(err, kerr.SecurityDisabled) { // it has no rules, which is not to say that they are gone
		return glance{left: []Drift{{Kind: DriftACL, Verdict: LeftByPolicy, Why: l.spec.From + " checks no rights, so it has no rules"}}}, nil
	}
	if err != nil {
		return glance{}, err
	}
	target, err := l.to.ACLs(ctx)
	if errors.Is(err, kerr.SecurityDisabled) {
		return glance{left: []Drift{{Kind: DriftACL, Verdict: LeftByPolicy, Why: l.spec.To + " checks no rights, and keeps no rules"}}}, nil
	}
	if err != nil {
		return glance{}, err
	}
	r, names := l.routing(), l.names()
	back := slices.ContainsFunc(names, func(topic string) bool {
		return l.wayBack(r, topic, func(k topology.Keeps) bool { return k.ACLs })
	})
	terms := l.terms()
	scope := aclScope{topics: terms.Topics, exclude: terms.Exclude, groups: terms.Groups, names: names, self: l.self(r.topo),
		writable: func(topic string) bool { return l.wayBack(r, topic, func(topology.Keeps) bool { return true }) }}
	if !terms.Naming.Keeps() {
		scope.as = func(topic string) (string, bool) { return r.topo.TargetTopic(terms, topic) }
	}
	want, left := scope.wantedACLs(source)
	seen := glance{cost: time.Duration(len(source)+len(target)) * ruleCost}
	noted := func(key noteKey) bool { return l.store.notesOf(key) != nil }
	here := make(map[broker.ACL]bool, len(target))
	for _, a := range target {
		here[a] = true
	}
	stays := make(map[string]bool)
	for _, a := range left {
		if !a.asIs || !here[a.ACL] {
			seen.left = append(seen.left, Drift{Kind: DriftACL, Name: a.String(), Source: "there", Verdict: LeftByPolicy, Why: a.why})
		}
		stays[a.String()] = stays[a.String()] || a.asIs
	}
	ours := func(a broker.ACL) bool {
		return !scope.self.is(a.Principal) && !stays[a.String()] && (scope.about(a) || noted(noteKey{kind: DriftACL, subject: a.String()}))
	}
	subjects := slices.DeleteFunc(l.store.subjects(DriftACL), func(key noteKey) bool { return stays[key.subject] })
	var rules map[string]broker.ACL
	seen.sides, rules = compareACLs(l.merging(back), want, slices.DeleteFunc(target, func(a broker.ACL) bool { return !ours(a) }), noted, subjects)
	seen.change = func(ctx context.Context, dry bool, due []work) (map[tryKey]error, error) {
		return l.changeACLs(ctx, dry, due, rules)
	}
	return seen, nil
}

// changeACLs first adds what forbids, and last takes it away, so that nobody may for a moment what nobody meant. Kafka has no dry
// run for rules.
func (l *Link) changeACLs(ctx context.Context, dry bool, due []work, rules map[string]broker.ACL) (map[tryKey]error, error) {
	refused := make(map[tryKey]error)
	if dry {
		return refused, nil
	}
	var add, remove [2][]broker.ACL // those that forbid, those that allow
	for _, w := range due {
		a, i := rules[w.key.subject], 0
		if a.Allow {
			i = 1
		}
		if w.items[0].do == doSet {
			add[i] = append(add[i], a)
		} else {
			remove[1-i] = append(remove[1-i], a)
		}
	}
	for _, step := range []struct {
		do    func(context.Context, []broker.ACL) (map[broker.ACL]error, error)
		rules []broker.ACL
	}{{l.to.CreateACLs, add[0]}, {l.to.CreateACLs, add[1]}, {l.to.DeleteACLs, remove[0]}, {l.to.DeleteACLs, remove[1]}} {
		if len(step.rules) == 0 {
			continue
		}
		no, err := step.do(ctx, step.rules)
		if err != nil {
			return nil, err
		}
		for a, why := range no {
			refused[tryKey{noteKey{kind: DriftACL, subject: a.String()}, ""}] = why
		}
	}
	return refused, nil
}

func (l *Link) lookQuotas(ctx context.Context, _ bool) (glance, error) {
	source, err := l.from.Quotas(ctx)
	if err != nil {
		return glance{}, err
	}
	target, err := l.to.Quotas(ctx)
	if err != nil {
		return glance{}, err
	}
	r, names := l.routing(), l.names()
	back := slices.ContainsFunc(names, func(topic string) bool {
		return l.wayBack(r, topic, func(k topology.Keeps) bool { return k.Quotas })
	})
	seen := glance{cost: time.Duration(len(source)+len(target)) * ruleCost}
	source, target, spared, left := l.self(r.topo).without(source, target)
	seen.left = left
	var entities map[string][]broker.QuotaPart
	seen.sides, entities = compareQuotas(l.merging(back), source, target, l.store.subjects(DriftQuota))
	for i := range seen.sides {
		seen.sides[i].spared = spared[seen.sides[i].key.subject]
	}
	seen.change = func(ctx context.Context, dry bool, due []work) (map[tryKey]error, error) {
		changes := make([]broker.Quota, len(due))
		for i, w := range due {
			changes[i] = quotaChange(entities[w.key.subject], w.items)
		}
		no, err := l.to.AlterQuotas(ctx, dry, changes)
		if err != nil {
			return nil, err
		}
		refused := make(map[tryKey]error)
		for _, w := range due {
			if why := no[w.key.subject]; why != nil {
				for _, j := range w.items {
					refused[tryKey{w.key, j.name}] = why
				}
			}
		}
		return refused, nil
	}
	return seen, nil
}
