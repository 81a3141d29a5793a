package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

var errUnknownTopic = kerr.UnknownTopicOrPartition

// Topic settings that are never copied to a mirror: they belong to the cluster,
// not to the data, or would change what the mirror may rely on.
var neverCopied = []string{"message.timestamp.type", "min.insync.replicas", "unclean.leader.election.enable", "compression.type"}

var neverCopiedPrefix = []string{"remote.", "local.retention.", "leader.replication.", "follower.replication.", "confluent.", "redpanda."}

// From the source's effective values, also when it only inherits them: the
// target must take whatever the source took.
var effective = []string{"max.message.bytes", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"}

// timeLimits are effective settings that releases before 3.6, and others, do not have: they take any time.
var timeLimits = []string{"message.timestamp.before.max.ms", "message.timestamp.after.max.ms"}

const noTimeLimit = "9223372036854775807"

// targetConfigs is the configuration a mirrored topic is created with. What exclude names is left to the target.
func targetConfigs(source map[string]broker.Config, exclude topology.Patterns) map[string]string {
	out := make(map[string]string)
	for key, c := range source {
		if !c.Dynamic || never(key) || exclude.Match(key) {
			continue
		}
		out[key] = c.Value
	}
	for _, key := range effective {
		if c, ok := source[key]; ok && c.Value != "" {
			out[key] = c.Value
		}
	}
	for _, key := range timeLimits {
		if _, ok := source[key]; !ok && len(source) > 0 {
			out[key] = noTimeLimit // a release without such limits; the target's own default would be an hour
		}
	}
	out["message.timestamp.type"], out["compression.type"] = "CreateTime", "producer"
	return out
}

// limitsOf judges the target's topic against the source's and reads what it takes.
func limitsOf(topic string, source, target map[string]broker.Config, sourcePartitions, targetPartitions int) limits {
	lim := limits{partitions: min(sourcePartitions, targetPartitions), keeps: retentionOf(source)}
	lim.maxBytes, _ = strconv.Atoi(target["max.message.bytes"].Value)
	if ms, err := strconv.ParseInt(target["message.timestamp.after.max.ms"].Value, 10, 64); err == nil && ms < int64(1<<53) {
		lim.afterMax = ms
	}
	if ms, err := strconv.ParseInt(target["message.timestamp.before.max.ms"].Value, 10, 64); err == nil && ms < int64(1<<53) {
		lim.beforeMax = ms
	}
	lim.packing = packingOf(target["compression.type"].Value)
	policy, want := target["cleanup.policy"].Value, source["cleanup.policy"].Value
	lim.cleaned = strings.Contains(policy, "compact")
	block := func(name, format string, args ...any) {
		if lim.blockedName == "" {
			lim.blockedName, lim.blocked, lim.cause, lim.partitions = name, fmt.Sprintf(format, args...), causeOfBlock(name), 0
		}
	}
	if policy != "" && want != "" && policy != want {
		block("cleanup-policy", "topic %s has cleanup.policy %q on the target and %q on the source: make them equal", topic, policy, want)
	}
	if kind := target["message.timestamp.type"].Value; kind == "LogAppendTime" {
		block("timestamp-type", "topic %s has message.timestamp.type LogAppendTime on the target, which would restamp every copy: set CreateTime there", topic)
	}
	if lim.blockedName == "" && targetPartitions < sourcePartitions {
		lim.blockedName, lim.cause = "fewer-partitions", CauseTopic
		lim.blocked = fmt.Sprintf("topic %s has %d partitions on the target and %d on the source: add partitions there; partitions from %d on wait", topic, targetPartitions, sourcePartitions, targetPartitions)
	}
	return lim
}

// configsEvery is how often the settings of a topic that runs are read again.
const configsEvery = 30 * time.Second

// settings are the configurations of many topics that were asked for at once, by
// cluster and topic: one round trip instead of one for each topic.
type settings map[*broker.Cluster]map[string]map[string]broker.Config

// askSettings asks for those of all topics that are due to be judged. What is not
// answered is asked for alone, where its error belongs to its topic.
func (l *Link) askSettings(ctx context.Context, topics []string, target broker.Metadata) settings {
	var source, both []string
	for _, topic := range topics {
		f := l.flow(topic)
		if f.judgedAt(l.now(), configsEvery) && f.limits().blockedName == "" {
			continue
		}
		source = append(source, topic)
		if t, there := target.Topics[f.target()]; there && t.Err == nil {
			both = append(both, f.target())
		}
	}
	known := make(settings)
	known[l.from], _ = l.from.TopicConfigs(ctx, source...)
	known[l.to], _ = l.to.TopicConfigs(ctx, both...)
	return known
}

// of returns the settings of one topic.
func (s settings) of(ctx context.Context, c *broker.Cluster, topic string) (map[string]broker.Config, error) {
	if configs, ok := s[c][topic]; ok {
		return configs, nil
	}
	all, err := c.TopicConfigs(ctx, topic)
	return all[topic], err
}

// ensure brings one flow as far as it can go: the topic on the target, its
// limits, and a pump with a checkpoint for every partition.
func (l *Link) ensure(ctx context.Context, f *flow, source broker.Topic, target broker.Metadata, known settings) error {
	if source.Err != nil {
		f.block("source-topic", fmt.Sprintf("%s answers for topic %s: %v", l.spec.From, f.topic, source.Err), source.Err)
		return nil
	}
	goal, there := target.Topics[f.target()]
	if there && goal.Err != nil && !errors.Is(goal.Err, errUnknownTopic) {
		f.block("target-topic", fmt.Sprintf("%s answers for topic %s: %v", l.spec.To, f.target(), goal.Err), goal.Err)
		return nil
	}
	there = there && goal.Err == nil
	if !there || len(goal.Partitions) < len(source.Partitions) {
		if err := l.news(ctx); err != nil {
			f.block("state", fmt.Sprintf("read what is known of topic %s: %v", f.topic, err), err)
			return err
		}
	}
	if name, detail := l.blockedByPromise(f.topic); name != "" {
		f.block(name, detail)
		return nil
	}
	if other := l.alikeTopic(f); other != "" {
		f.block("same-producer-id", fmt.Sprintf("topics %s and %s both are %s on %s, and would be written under one producer id, so that their copies could not be told apart: give one of them a name of its own there, or exclude it",
			other, f.topic, f.target(), l.spec.To))
		return nil
	}
	if !there && l.hasState(f.first()) {
		f.block("target-deleted", fmt.Sprintf("topic %s was deleted on %s; what was mirrored is gone there. Create it again only together with a new start", f.target(), l.spec.To))
		return nil
	}
	lim := f.limits()
	pumps := f.pumpList()
	fresh := f.judgedAt(l.now(), configsEvery) && lim.blockedName == "" && len(pumps) == len(source.Partitions) && !l.directAll(f)
	f.setIDs(source.ID, goal.ID)
	if there && fresh && lim.partitions > 0 {
		return nil
	}
	sourceConfigs, err := known.of(ctx, l.from, f.topic)
	if err != nil {
		f.block("source-configs", fmt.Sprintf("read the settings of topic %s on %s: %v", f.topic, l.spec.From, err), err)
		return err
	}
	if !there {
		return l.create(ctx, f, source, sourceConfigs, len(target.Brokers))
	}
	targetConfigs, err := known.of(ctx, l.to, f.target())
	if err != nil {
		f.block("target-configs", fmt.Sprintf("read the settings of topic %s on %s: %v", f.target(), l.spec.To, err), err)
		return err
	}
	lim = limitsOf(f.target(), sourceConfigs, targetConfigs, len(source.Partitions), len(goal.Partitions))
	if lim.blockedName == "cleanup-policy" && l.willFollow(f, sourceConfigs["cleanup.policy"]) {
		return nil
	}
	if lim.blockedName == "fewer-partitions" && l.wasWhole(f, len(goal.Partitions)) {
		if err := l.to.GrowTopic(ctx, f.target(), len(source.Partitions)); err != nil {
			f.block("fewer-partitions", err.Error())
			return err
		}
		l.poke()
		return nil
	}
	err = l.begin(ctx, f, source, goal, lim.partitions)
	if err != nil && !slices.ContainsFunc(f.pumpList(), (*pump).here) {
		f.block("begin", fmt.Sprintf("begin topic %s: %v", f.topic, err), err) // before set, which would say that the topic runs again
		return err
	}
	f.set(lim, len(source.Partitions), l.now())
	return err
}

// alikeTopic is another topic that is the same as a flow's on the target and written under the same ids, which of some millions of names two may be; the
// flow gives way to one whose name comes first. Empty: there is none.
func (l *Link) alikeTopic(f *flow) string {
	if f.as == "" {
		return ""
	}
	for _, other := range l.flowList() {
		if other.as == f.as && other.topic < f.topic && topology.SameID(l.spec.From, other.topic, f.topic) {
			return other.topic
		}
	}
	return ""
}

// followsWithin is how long a topic that runs may differ from the source in what it must not, while that is being set there.
const followsWithin = 10 * time.Second

// willFollow reports whether the target's cleanup.policy is about to be made the source's, which has just changed.
func (l *Link) willFollow(f *flow, source broker.Config) bool {
	f.mu.Lock()
	judged := f.judged
	f.mu.Unlock()
	return source.Dynamic && follows(l.terms().Keeps, "cleanup.policy") && f.limits().blockedName == "" &&
		!judged.IsZero() && l.now().Sub(judged) < configsEvery+followsWithin
}

// news reads what other nodes noted of the pumps they own: what is to be done about a topic that is not as it should be
// depends on it.
func (l *Link) news(ctx context.Context) error {
	if l.shared.owners == nil {
		return nil
	}
	return l.store.refresh(ctx)
}

// create makes the topic on the target, like the source's.
func (l *Link) create(ctx context.Context, f *flow, source broker.Topic, configs map[string]broker.Config, brokers int) error {
	factor := l.terms().ReplicationFactor
	if factor == 0 && len(source.Partitions) > 0 {
		factor = len(source.Partitions[0].Replicas)
	}
	if factor > brokers {
		l.log.Warn("replication factor lowered to the target's brokers", "topic", f.target(), "wanted", factor, "brokers", brokers)
		factor = brokers
	}
	want := targetConfigs(configs, l.terms().Keeps.ConfigsExclude)
	err := l.to.CreateTopic(ctx, f.target(), len(source.Partitions), max(1, factor), want)
	if errors.Is(err, kerr.InvalidConfig) {
		l.dropUnknown(ctx, f.target(), want)
		err = l.to.CreateTopic(ctx, f.target(), len(source.Partitions), max(1, factor), want)
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		f.block("create-topic", fmt.Sprintf("create topic %s on %s: %v", f.target(), l.spec.To, err), err)
		return err
	}
	l.log.Info("topic created on the target", "topic", f.target(), "partitions", len(source.Partitions), "replication_factor", factor)
	l.poke()
	return nil
}

// dropUnknown takes the settings out that the target's release does not have: those of its own state topic are all that it has.
func (l *Link) dropUnknown(ctx context.Context, topic string, want map[string]string) {
	all, err := l.to.TopicConfigs(ctx, topicCheckpoints)
	known := all[topicCheckpoints]
	var dropped []string
	maps.DeleteFunc(want, func(key, _ string) bool {
		_, ok := known[key]
		if err != nil || len(known) == 0 {
			ok = !slices.Contains(timeLimits, key)
		}
		if !ok {
			dropped = append(dropped, key)
		}
		return !ok
	})
	slices.Sort(dropped)
	l.log.Warn("settings left out that the target does not know", "topic", topic, "settings", dropped)
}

// hasState reports whether this link ever mirrored the topic.
func (l *Link) hasState(first PumpID) bool {
	_, ok := l.store.best(first)
	return ok
}

// begin makes the pumps that are missing, of those that are this node's. A pump without history first gets its
// durable beginning; of two nodes that try, one wins.
func (l *Link) begin(ctx context.Context, f *flow, source, target broker.Topic, n int) error {
	l.directAll(f)
	have := f.pumpList()
	var missing []PumpID
	for i := range n { // a partition is not shown before its beginning is durable
		id := f.pumpID(int32(i))
		if i < len(have) && have[i].wantsPlace() || i >= len(have) && l.shared.owner(id) == "" {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		f.grow(n)
		l.directAll(f)
		return nil
	}
	if err := l.store.refresh(ctx); err != nil {
		return err
	}
	missing, inherited := l.heirs(missing)
	starts, err := l.starts(ctx, f, missing, source, target, inherited)
	if err != nil {
		return fmt.Errorf("find the beginning of topic %s: %w", f.topic, err)
	}
	var proposals []Checkpoint
	for _, c := range starts {
		if _, known := l.store.best(c.Pump); !known && inherited[c.Pump].lost == "" {
			proposals = append(proposals, c)
		}
	}
	if err := l.witness(ctx, proposals, n); err != nil {
		return err
	}
	won, err := l.store.propose(ctx, proposals)
	if err != nil {
		return err
	}
	f.grow(n)
	for _, c := range starts {
		w, proposed := won[c.Pump]
		lost := proposed && w.Writer != l.writer
		if proposed {
			c = w
		}
		p := l.newPump(f, c)
		p.way.unled = inherited[c.Pump].lost
		if !proposed || lost {
			p.held = l.shared.before(p.id)
		}
		if lost && p.held == "" { // the other one begins now: not both at once
			p.out.contended = true
			l.pulse.met(l.now())
		}
		f.put(p)
	}
	f.await(inherited)
	l.directAll(f)
	return nil
}

// starts are where pumps begin or go on; who has to wait for a relay that has noted nothing yet is left out, and inherited says so.
func (l *Link) starts(ctx context.Context, f *flow, ids []PumpID, source, target broker.Topic, inherited map[PumpID]inheritance) (all []Checkpoint, err error) {
	found, waits := make([]Checkpoint, len(ids)), make([]string, len(ids))
	g, calls := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, id := range ids {
		if c, ok := l.store.best(id); ok {
			found[i] = c
			continue
		}
		g.Go(func() (err error) {
			found[i], err = l.beginning(calls, f, id, source.ID, target.ID, inherited[id])
			found[i].SourcePartitions = int32(len(source.Partitions))
			var unsaved *unsavedError
			if errors.As(err, &unsaved) {
				waits[i], err = unsaved.Error(), nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, c := range found {
		if waits[i] != "" {
			inherited[ids[i]] = inheritance{waits: waits[i]}
			continue
		}
		all = append(all, c)
	}
	return all, nil
}

// beginning is the first checkpoint of a pump: where others stopped, or else where the policy says to start.
func (l *Link) beginning(ctx context.Context, f *flow, id PumpID, source, target [16]byte, h inheritance) (Checkpoint, error) {
	at := int64(-2)
	start := l.terms().Start
	switch start.Kind {
	case topology.Latest:
		at = -1
	case topology.At:
		at = start.At.UnixMilli()
	}
	from, err := l.from.ListOffsets(ctx, id.Topic, id.Partition, at, false)
	if err != nil {
		return Checkpoint{}, err
	}
	if from.Offset < 0 { // no record is that young
		if from, err = l.from.ListOffsets(ctx, id.Topic, id.Partition, -1, false); err != nil {
			return Checkpoint{}, err
		}
	}
	if h.heir && h.lost == "" {
		from.Offset = h.place
	}
	end, err := l.to.ListOffsets(ctx, id.Target(), id.Partition, -1, false)
	if err != nil {
		return Checkpoint{}, err
	}
	fresh := end.Offset == 0
	if !fresh { // after its end was asked for: whatever is known here may be before it
		producers, err := l.to.Producers(ctx, id.Target(), id.Partition)
		fresh = err == nil && !f.knownIn(producers)
		if from, origin, relayed := relayIn(l.routing(), l.spec, id, producers); relayed && h == (inheritance{}) {
			return Checkpoint{}, &unsavedError{from, origin, id.To}
		}
	}
	return Checkpoint{Pump: id, SourceTopicID: source, SourceEpoch: -1, SourceNext: from.Offset,
		TargetTopicID: target, TargetEpoch: -1, TargetLast: -1, TargetFrom: end.Offset, Fresh: fresh, Writer: l.writer}, nil
}

func (l *Link) newPump(f *flow, c Checkpoint) *pump {
	p := &pump{id: c.Pump, flow: f, link: l, duty: duty{born: true}, acked: c, safe: c.clone(), fetchAt: c.SourceNext}
	p.safe.Writer, p.acked.Writer = l.writer, l.writer
	p.safe.Elected, p.acked.Elected = true, true
	p.epochs, p.sight.near = [2]int32{-1, -1}, near{leader: -1, replica: -1}
	p.out.sent, p.out.examineFrom, p.out.examineTo = make(map[string]int64), -1, -1
	p.chunk = c.SourceNext
	p.closed, p.merged = l.store.chunksOf(c.Pump), l.now()
	if p.offsets, p.unread = l.store.offsets(c.Pump); p.unread != nil {
		l.log.Error("offset map not read", "pump", p.id.String(), "error", p.unread)
	}
	p.condition = condition{state: StateWaiting, reason: "new", since: l.now(), epochs: p.epochs}
	p.inherit(l.store.trouble(c.Pump), l.now())
	l.metrics.begin(p)
	return p
}

func (f *flow) setIDs(source, target [16]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sourceID, f.targetID = source, target
}

func (f *flow) judgedAt(now time.Time, every time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return within(now, f.judged, f.judged.Add(every))
}

func (f *flow) set(lim limits, sourcePartitions int, now time.Time) {
	f.mu.Lock()
	f.judged = now
	f.mu.Unlock()
	f.say(lim)
	if lim.blockedName != "" {
		return
	}
	for _, p := range f.pumpList() {
		p.sized(int32(sourcePartitions))
	}
}

// sized notes that the target has as many partitions as the source.
func (p *pump) sized(n int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.safe.SourcePartitions != n {
		p.acked.SourcePartitions, p.safe.SourcePartitions, p.dirty = n, n, true
	}
}

// wasWhole reports whether the target, with as many partitions as it has now, once
// had every partition of the source: then the source has grown since. A target
// topic that never had them has partitions of its own choice: its clients may
// depend on their number, so that only somebody can change it.
func (l *Link) wasWhole(f *flow, targetPartitions int) bool {
	known := int32(0)
	for _, first := range l.store.firsts() { // of topics that are one there, any may have been the whole of it
		if first.Target() == f.target() {
			c, _ := l.store.best(first)
			known = max(known, c.SourcePartitions)
		}
	}
	if pumps := f.pumpList(); len(pumps) > 0 && pumps[0].here() {
		pumps[0].mu.Lock()
		known = max(known, pumps[0].safe.SourcePartitions)
		pumps[0].mu.Unlock()
	}
	return known > 0 && int(known) <= targetPartitions
}

// block stops the whole flow until the cause is cured; every refresh looks again. because is the error behind it, if there is one.
func (f *flow) block(name, detail string, because ...error) {
	lim := f.limits()
	lim.blockedName, lim.blocked, lim.cause, lim.partitions = name, detail, causeOfBlock(name, because...), 0
	f.mu.Lock()
	f.judged = time.Time{}
	f.mu.Unlock()
	f.say(lim)
}

// abandon forgets what is only of interest where a partition of the topic is copied.
func (f *flow) abandon() {
	if f.limits().blockedName == "" {
		return
	}
	f.mu.Lock()
	f.judged = time.Time{}
	f.mu.Unlock()
	f.lim.Store(&limits{})
}

// say stores the limits and logs a block once.
func (f *flow) say(lim limits) {
	before := f.limits()
	f.lim.Store(&lim)
	switch {
	case lim.blockedName != "" && lim.blocked != before.blocked:
		f.link.log.Error("topic blocked", "topic", f.topic, "state", lim.blockedName, "detail", lim.blocked)
	case lim.blockedName == "" && before.blockedName != "":
		f.link.log.Info("topic runs again", "topic", f.topic)
	}
}
