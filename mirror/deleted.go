package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// A topic that is gone from the source stays on the target, unless the link's policy is to follow. Then it is deleted there too, when it
// has been gone for the time of grace: since when is durable, so that neither a restart nor another owner begins anew. The owner of the
// topic's first partition does it.

// vanished is what is noted of a topic that the source no longer has.
type vanished struct {
	since   time.Time
	cluster string // the source's cluster id: another cluster at its address has lost nothing
	writer  string
	doomed  time.Time // since when the target's topic was to be deleted; zero: its time is not over
}

// vanishing is what a link's refresh loop keeps between its looks.
type vanishing struct {
	at   time.Time
	said map[string]string // the last doubt, by topic
}

func vanishedKey(p PumpID) []byte { return stateKey(kindVanished, p) }

func (v vanished) encode() []byte {
	e := encoder{formatVersion}
	e.int(v.since.UnixMilli())
	e.str(v.cluster)
	e.str(v.writer)
	if !v.doomed.IsZero() { // older nodes leave alone what stands behind what they know
		e.int(v.doomed.UnixMilli())
	}
	return e
}

func decodeVanished(p PumpID, b []byte) (vanished, error) {
	d := newDecoder(b)
	v := vanished{since: time.UnixMilli(d.int()).UTC(), cluster: d.str(), writer: d.str()}
	if d.err == nil && len(d.b) > 0 {
		v.doomed = time.UnixMilli(d.int()).UTC()
	}
	if d.err != nil {
		return vanished{}, fmt.Errorf("decode since when the topic of %s is gone: %w", p, d.err)
	}
	return v, nil
}

// absence is what one look at both clusters tells of a topic.
type absence struct {
	follow   bool   // the policy
	answer   error  // the source's, asked for the topic by its name; nil: it is there
	cluster  string // the source's id; empty: it did not say
	brokers  int    // that it has, by its answer
	onTarget bool
	same     bool   // the target's topic is the one that was copied to
	copied   bool   // the link has copied records of it
	others   bool   // not all records on the target are known to be copies
	also     string // another link that brings the topic there, or takes it from there; empty: none does
}

// judgement is what becomes of a topic that the source seems to have lost.
type judgement string

const (
	vanishNothing judgement = ""       // nothing to do
	vanishDoubt   judgement = "doubt"  // the answer proves nothing: wait
	vanishNote    judgement = "note"   // gone since now
	vanishClear   judgement = "clear"  // it is back, or nobody wants it deleted any longer
	vanishWait    judgement = "wait"   // its time of grace runs
	vanishLeave   judgement = "leave"  // it is over, and the topic is not this link's alone
	vanishDelete  judgement = "delete" // it is over
	vanishForget  judgement = "forget" // somebody deleted it, and what is known of it is to be forgotten
	vanishDone    judgement = "done"   // it was deleted by the policy: the ledger is to say so
)

// judgeAbsence decides about a topic. known is nil where nothing is noted of it.
func judgeAbsence(a absence, known *vanished, now time.Time, grace time.Duration) (j judgement, why string) {
	switch {
	case known != nil && known.doneWith(a):
		return vanishDone, ""
	case !a.follow && known != nil:
		return vanishClear, "the link does not follow deletions any longer"
	case !a.follow || !a.copied:
		return vanishNothing, ""
	case a.answer == nil && known != nil:
		return vanishClear, "the source has it again"
	case a.answer == nil:
		return vanishNothing, ""
	case !errors.Is(a.answer, errUnknownTopic):
		return vanishDoubt, a.answer.Error()
	case a.cluster == "" || a.brokers == 0:
		return vanishDoubt, "the source's answer is not whole"
	case known == nil && a.onTarget:
		return vanishNote, ""
	case known == nil:
		return vanishNothing, ""
	case known.cluster != a.cluster:
		return vanishDoubt, fmt.Sprintf("the source is cluster %s, the topic was on %s", a.cluster, known.cluster)
	case now.Sub(known.since) < grace:
		return vanishWait, ""
	case !a.onTarget:
		return vanishForget, ""
	case !a.same:
		return vanishLeave, "the target's topic was created anew"
	case a.also != "":
		return vanishLeave, fmt.Sprintf("link %s has to do with it too", a.also)
	case a.others:
		return vanishLeave, "not all that is in it was copied by this link"
	}
	return vanishDelete, ""
}

// doneWith reports whether a topic that was to be deleted is gone, or another one is in its place.
func (v vanished) doneWith(a absence) bool {
	still := errors.Is(a.answer, errUnknownTopic) && a.cluster == v.cluster && a.brokers > 0
	return !v.doomed.IsZero() && a.copied && still && !(a.onTarget && a.same)
}

// vanishEvery is how often topics that are gone are looked at.
const vanishEvery = 5 * time.Second

// followDeletions looks at the topics that the source no longer lists. Nothing is done by that alone: the source is asked for each by name.
func (l *Link) followDeletions(ctx context.Context, source, target broker.Metadata) error {
	follow := l.terms().Policy.Deleted == topology.FollowDelete
	now := l.now()
	if within(now, l.vanishing.at, l.vanishing.at.Add(vanishEvery)) {
		return nil
	}
	l.vanishing.at = now
	if follow {
		if err := l.ready(ctx, target); err != nil {
			return err
		}
	}
	var errs []error
	for _, first := range l.store.topicsCopied() {
		_, listed := source.Topics[first.Topic]
		known := l.store.vanished(first)
		if listed && known == nil || !follow && known == nil || !l.stillTakes(first) || l.shared.owner(first) != "" {
			continue
		}
		if err := l.followDeletion(ctx, first, follow); err != nil {
			errs = append(errs, fmt.Errorf("topic %s, which is gone from %s: %w", first.Topic, l.spec.From, err))
		}
	}
	l.dropForgotten(source)
	return errors.Join(errs...)
}

// stillTakes reports whether the link takes a topic that it has copied, and calls it so.
func (l *Link) stillTakes(first PumpID) bool {
	return l.terms().Matches(first.Topic) && l.routing().as(l.spec, first.Topic) == first.As
}

// followDeletion looks at one topic, by the pump of its first partition.
func (l *Link) followDeletion(ctx context.Context, first PumpID, follow bool) error {
	if err := l.store.refresh(ctx); err != nil {
		return err
	}
	a, err := l.absenceOf(ctx, first)
	if err != nil {
		return err
	}
	a.follow = follow
	known := l.store.vanished(first)
	j, why := judgeAbsence(a, known, l.now(), l.terms().Policy.DeletedAfter)
	switch j {
	case vanishNote:
		v := vanished{since: l.now(), cluster: a.cluster, writer: l.writer}
		l.log.Warn("source topic is gone", "topic", first.Topic, "deleted_on_target_after", l.terms().Policy.DeletedAfter.String())
		return l.store.append(ctx, []broker.Record{{Topic: topicCheckpoints, Partition: partitionOf(first), Key: vanishedKey(first), Value: v.encode()}})
	case vanishClear:
		l.log.Info("target topic stays", "topic", first.Target(), "why", why)
		return l.store.append(ctx, []broker.Record{{Topic: topicCheckpoints, Partition: partitionOf(first), Key: vanishedKey(first)}})
	case vanishDoubt, vanishLeave:
		if l.vanishing.said[first.Target()] != why {
			l.vanishing.said[first.Target()] = why
			l.log.Warn("target topic is not deleted", "topic", first.Target(), "verdict", string(j), "why", why)
		}
	case vanishDelete:
		return l.deleteTarget(ctx, first, *known)
	case vanishDone:
		return l.deleted(ctx, first, *known)
	case vanishForget:
		return l.forget(ctx, first)
	}
	return nil
}

// absenceOf asks both clusters for the topic.
func (l *Link) absenceOf(ctx context.Context, first PumpID) (a absence, err error) {
	topic, target := first.Topic, first.Target()
	m, err := l.from.Metadata(ctx, topic)
	if err != nil {
		return a, err
	}
	a.answer, a.cluster, a.brokers = m.Topics[topic].Err, m.ClusterID, len(m.Brokers)
	if _, answered := m.Topics[topic]; !answered {
		a.answer = errors.New("the source did not answer for it")
	}
	at, err := l.to.Metadata(ctx, target)
	if err != nil {
		return a, err
	}
	t := at.Topics[target]
	if t.Err != nil && !errors.Is(t.Err, errUnknownTopic) {
		return a, t.Err
	}
	a.onTarget = t.Err == nil
	base, ok := l.store.best(first)
	a.copied, a.same = ok, t.ID == base.TargetTopicID && t.ID != [16]byte{}
	topo := l.routing().topo
	for _, o := range topo.Links {
		into := o.To == l.spec.To && (o.Name != l.name || o.Merges(topic)) && o.Makes(target)
		if back := o.From == l.spec.To && o.To == l.spec.From; into || back && topo.Takes(o, target) {
			a.also = o.Name
		}
	}
	for i := range t.Partitions {
		end, err := l.to.ListOffsets(ctx, target, int32(i), broker.Latest, false)
		if err != nil {
			return a, err
		}
		start, err := l.to.ListOffsets(ctx, target, int32(i), broker.Earliest, false)
		if err != nil {
			return a, err
		}
		// Copies leave no offsets out: what no run covers is somebody else's, or nobody knows whose.
		id := first
		id.Partition = int32(i)
		m, err := l.store.offsets(id)
		a.others = a.others || err != nil || end.Offset-start.Offset > oursIn(m.list(), start.Offset, end.Offset)
	}
	return a, nil
}

// oursIn counts the target offsets between start and end that some run covers; runs of several owners may hold the same.
func oursIn(runs []Run, start, end int64) (n int64) {
	runs = slices.SortedFunc(slices.Values(runs), func(a, b Run) int { return cmp.Compare(a.Target, b.Target) })
	for _, r := range runs {
		from, to := max(start, r.Target), min(end, r.targetEnd())
		n += max(0, to-from)
		start = max(start, to)
	}
	return n
}

// deleteTarget deletes the target's topic. That it is to be is durable before; the ledger says that it was, and so not before. Who comes after
// one that died in between finds a doomed topic gone, and goes on from there.
func (l *Link) deleteTarget(ctx context.Context, first PumpID, v vanished) error {
	if v.doomed.IsZero() {
		v.doomed = l.now()
		if err := l.store.append(ctx, []broker.Record{{Topic: topicCheckpoints, Partition: partitionOf(first), Key: vanishedKey(first), Value: v.encode()}}); err != nil {
			return err
		}
	}
	if err := l.to.DeleteTopic(ctx, first.Target()); err != nil {
		return err
	}
	l.log.Warn("target topic deleted", "topic", first.Target(), "gone_since", v.since.Format(time.RFC3339))
	return l.deleted(ctx, first, v)
}

// deleted has the ledger say what was deleted with a topic, and forgets what was copied.
func (l *Link) deleted(ctx context.Context, first PumpID, v vanished) error {
	var entries []LedgerEntry
	for _, id := range l.store.pumpsOf(first) {
		c, ok := l.store.best(id)
		if !ok || c.SourceNext <= 0 {
			continue
		}
		n := int64(-1) // unknown
		if m, err := l.store.offsets(id); err == nil {
			n = m.Records()
		}
		entries = append(entries, LedgerEntry{Link: l.name, Pump: id, First: 0, Last: c.SourceNext - 1, Records: n, Reason: ReasonDeleted, At: v.doomed, Writer: l.writer, log: leftLog,
			Policy: string(topology.FollowDelete), Detail: fmt.Sprintf("topic %s is gone from %s since %s, and was deleted on %s", first.Topic, l.spec.From, v.since.Format(time.RFC3339), l.spec.To)})
	}
	entries = slices.DeleteFunc(entries, l.store.entered) // whoever said it before knew more: what is forgotten goes piece by piece
	if err := l.store.enter(ctx, entries...); err != nil {
		return err
	}
	return l.forget(ctx, first)
}

// entered reports whether an entry is in the ledger.
func (s *store) entered(e LedgerEntry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ledger[s.path][string(e.key())]
	return ok
}

// forget takes away what is known of a topic: one that comes again under its name begins from nothing.
func (l *Link) forget(ctx context.Context, first PumpID) error {
	for _, p := range l.pumpsOf(first) {
		p.vanish(l.now())
	}
	var records, left []broker.Record
	for _, id := range l.store.pumpsOf(first) {
		left = append(left, l.store.leaves(id)...)
		records = append(records, l.store.tombstones(id)...)
	}
	records = append(records, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(first), Key: vanishedKey(first)})
	if err := l.store.append(ctx, left); err != nil { // first: else who begins anew leaves out what the old log had there
		return err
	}
	if err := l.store.append(ctx, records); err != nil {
		return err
	}
	return l.store.refresh(ctx)
}

func (l *Link) pumpsOf(first PumpID) []*pump {
	l.mu.Lock()
	f := l.flows[first.Topic]
	l.mu.Unlock()
	if f == nil || f.as != first.As {
		return nil
	}
	return f.pumpList()
}

// dropForgotten lets the flows go whose topics are gone, and of which nothing is known any more: another node has followed.
func (l *Link) dropForgotten(source broker.Metadata) {
	for _, f := range l.flowList() {
		if _, there := source.Topics[f.topic]; there || l.hasState(f.first()) {
			continue
		}
		for _, p := range f.pumpList() {
			p.vanish(l.now())
		}
		l.mu.Lock()
		delete(l.flows, f.topic)
		l.mu.Unlock()
	}
}

// vanish ends a pump of which nothing is kept.
func (p *pump) vanish(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.voidLocked()
	p.gone, p.dirty = true, false
	p.becomeLocked(StateElsewhere, "", "its topic was deleted", now)
	p.fetcher.drop(p)
}

// topicsCopied are the topics of the link's path that have a first partition in the store, or are noted as gone.
func (s *store) topicsCopied() (out []PumpID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, st := range s.pumps {
		if id.path() == s.path && id.Partition == 0 && (len(st.checkpoints) > 0 || st.vanished != nil) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, byTopic)
	return out
}

// byTopic orders pumps by the names of their topics.
func byTopic(a, b PumpID) int { return strings.Compare(a.named(), b.named()) }

// pumpsOf are those of a topic that the store knows.
func (s *store) pumpsOf(first PumpID) (out []PumpID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.pumps {
		if id.path() == s.path && id.named() == first.named() {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b PumpID) int { return int(a.Partition - b.Partition) })
	return out
}

// vanished is since when the topic of a pump is gone; nil: nothing is noted.
func (s *store) vanished(p PumpID) *vanished {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.pumps[p]; st != nil {
		return st.vanished
	}
	return nil
}

// tombstones take away all that is stored of a pump but its ledger.
func (s *store) tombstones(p PumpID) (out []broker.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[p]
	if st == nil {
		return nil
	}
	for writer := range st.checkpoints {
		out = append(out, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p), Key: Checkpoint{Pump: p, Writer: writer}.key()})
	}
	for _, i := range st.incarnations {
		out = append(out, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p), Key: i.value.key()})
	}
	if st.trouble != nil {
		out = append(out, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p), Key: troubleKey(p)})
	}
	for group := range st.groups {
		out = append(out, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p), Key: groupNoteKey(p, group)})
	}
	for _, e := range st.laneEnds {
		out = append(out, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p), Key: e.value.key()})
	}
	for _, v := range st.successions {
		out = append(out, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p), Key: v.value.key()})
	}
	for key := range st.chunks {
		out = append(out, broker.Record{Topic: topicMap, Partition: partitionOf(p), Key: []byte(key)})
	}
	return out
}
