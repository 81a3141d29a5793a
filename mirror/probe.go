package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// topicProbe is the scratch topic of the capability probe: nobody reads it, and
// what is in it goes within the hour.
const topicProbe = "__isthmus.probe"

// prober tries on a scratch topic whether a target keeps the lock. Apache Kafka
// does; of another implementation of the protocol it has to be seen.
type prober struct {
	to  *broker.Cluster
	id  int64
	now func() time.Time
}

// newProber takes an id of its own: above 2^62, as those of mirrors are, and in no
// fabric (the spare bits are set), so that nobody takes the batches for copies.
func newProber(to *broker.Cluster, now func() time.Time) *prober {
	return &prober{to: to, id: 1<<62 | 7<<56 | rand.Int64N(1<<56), now: now}
}

// observe runs the steps. An error is one of reaching the target, or of its
// rights; what the target does with batches is the observation.
func (p *prober) observe(ctx context.Context, brokers int) (observation, error) {
	leader, id, err := p.topic(ctx, brokers)
	if err != nil {
		return observation{}, fmt.Errorf("make topic %s: %w", topicProbe, err)
	}
	conn, err := p.to.ProduceConn(ctx, leader)
	if err != nil {
		return observation{}, fmt.Errorf("connect to broker %d of %s: %w", leader.ID, p.to.Name(), err)
	}
	defer conn.Close()
	var failed error
	send := func(producer int64, epoch int16, sequence int32) reply {
		if failed != nil {
			return reply{}
		}
		r, err := p.send(ctx, conn, id, producer, epoch, sequence)
		failed = err
		return r
	}
	// A partition that never held a record takes an unknown id from sequence 0 only
	// (Kafka from 4.5 on, kfake).
	send(-1, -1, -1)
	o := observation{anyFirst: true, first: send(p.id, 0, probeFirst)}
	first := probeFirst
	if o.first.err != nil {
		first, o.anyFirst, o.first = 0, false, send(p.id, 0, 0)
	}
	o.repeat = send(p.id, 0, first)
	o.gap = send(p.id, 0, first+probeGap)
	o.bump = send(p.id, 1, 0)
	o.zombie = send(p.id, 0, first+1)
	if failed == nil && o.first.err == nil {
		o.mum, failed = p.isMum(ctx)
	}
	last := send(-1, -1, -1) // the log is read up to here
	if failed != nil {
		return observation{}, failed
	}
	if o.first.err != nil { // nothing of it is in the log, and nobody knows from where on
		return o, nil
	}
	o.log, err = p.readBack(ctx, o.first.base, last.base)
	return o, err
}

// isMum reports whether the target tells nothing of an id that it has just taken batches of.
func (p *prober) isMum(ctx context.Context) (bool, error) {
	producers, err := p.to.Producers(ctx, topicProbe, 0)
	if err != nil && aside(err) {
		return false, err
	}
	return !slices.ContainsFunc(producers, func(s broker.ProducerState) bool { return s.ID == p.id }), nil
}

// topic makes the scratch topic and finds its leader.
func (p *prober) topic(ctx context.Context, brokers int) (broker.Broker, broker.TopicID, error) {
	factor := min(3, max(1, brokers))
	err := p.to.CreateTopic(ctx, topicProbe, 1, factor, map[string]string{
		"cleanup.policy": "delete", "retention.ms": "3600000", "segment.ms": "3600000",
		"message.timestamp.type": "CreateTime", "compression.type": "producer",
		"min.insync.replicas": strconv.Itoa(max(1, factor-1)),
	})
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return broker.Broker{}, broker.TopicID{}, err
	}
	for {
		m, err := p.to.Metadata(ctx, topicProbe)
		if err != nil {
			return broker.Broker{}, broker.TopicID{}, err
		}
		t := m.Topics[topicProbe]
		if t.Err == nil && len(t.Partitions) > 0 {
			if b, ok := m.Brokers[t.Partitions[0].Leader]; ok {
				return b, t.ID, nil
			}
		}
		if t.Err != nil && broker.Classify(t.Err) != broker.Retry && !errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			return broker.Broker{}, broker.TopicID{}, t.Err
		}
		// The brokers may need a moment before they all know a new topic.
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return broker.Broker{}, broker.TopicID{}, fmt.Errorf("no leader for topic %s of %s: %w", topicProbe, p.to.Name(), err)
		}
	}
}

// send writes one batch of one record and waits for its answer. Answers that say
// nothing about the lock (no leader, no right, or to a batch without an id) are errors.
func (p *prober) send(ctx context.Context, conn *broker.ProduceConn, topic broker.TopicID, id int64, epoch int16, sequence int32) (reply, error) {
	records := []batch.Record{{Timestamp: p.now().UnixMilli(), Value: []byte("probe")}}
	raw, err := batch.Encode(nil, records, batch.None, batch.Stamp{ProducerID: id, Epoch: epoch, Sequence: sequence})
	if err != nil {
		return reply{}, err
	}
	if err := conn.Send(ctx, []broker.ProduceBatch{{Topic: topicProbe, TopicID: topic, Bytes: raw}}); err != nil {
		return reply{}, err
	}
	results, err := conn.Recv(ctx)
	if err != nil {
		return reply{}, err
	}
	r := results[0]
	if r.Err != nil && (id < 0 || aside(r.Err)) {
		return reply{}, r.Err
	}
	return replyOf(r), nil
}

// aside reports a refusal that is not about producer ids and sequences.
func aside(err error) bool {
	return broker.Classify(err) == broker.Retry || forbidden(err) || isOneOf(err, kerr.NotEnoughReplicas,
		kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID)
}

// forbidden reports a refusal that stays until somebody acts: no right to probe, or no scratch topic as it has to be.
func forbidden(err error) bool {
	return isOneOf(err, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.PolicyViolation, kerr.InvalidConfig)
}

func isOneOf(err error, list ...error) bool {
	return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
}

// readBack returns the batches under the probe's id from one offset to another.
func (p *prober) readBack(ctx context.Context, from, to int64) ([]probed, error) {
	var out []probed
	for at := from; at < to; {
		frame, err := p.to.FetchOnce(ctx, topicProbe, 0, at, 1<<20, false)
		if err != nil {
			return nil, err
		}
		before := at
		for raw := frame.Partitions[0].Batches; len(raw) > 0; {
			h, _, rest, err := batch.Next(raw)
			if err != nil {
				break // cut off at the end of the answer
			}
			if h.ProducerID == p.id && h.BaseOffset >= at {
				out = append(out, probed{epoch: h.ProducerEpoch, sequence: h.BaseSequence})
			}
			at, raw = max(at, h.NextOffset()), rest
		}
		frame.Release()
		if at == before {
			return nil, fmt.Errorf("the probe's own batches cannot be read back: %s answers nothing at offset %d of %s", p.to.Name(), at, topicProbe)
		}
	}
	return out, nil
}

// prove finds out what the target keeps, before anything is copied. What passes, as too few replicas or a leader that
// has not heard of a new topic, is an error: the next pass probes again.
func (l *Link) prove(ctx context.Context, brokers []int32) error {
	l.readExpiry(ctx, brokers)
	if g, _ := l.promise(); g != GuaranteeUnknown {
		return nil
	}
	o, err := l.shared.probe(ctx, l.to, func() (observation, error) {
		return newProber(l.to, l.now).observe(ctx, len(brokers))
	})
	switch {
	case err != nil && forbidden(err):
		remedy := fmt.Sprintf("Give the user Create, Describe, Read and Write on topic %s", topicProbe)
		if isOneOf(err, kerr.PolicyViolation, kerr.InvalidConfig) {
			remedy = fmt.Sprintf("Make topic %s with one partition and cleanup.policy=delete", topicProbe)
		}
		why := fmt.Sprintf("%s does not let itself be probed: %v. %s, then start the link again", l.spec.To, err, remedy)
		l.log.Warn("target not probed", "cluster", l.spec.To, "guarantee", string(GuaranteeUnproven), "error", err)
		l.vow(GuaranteeUnproven, why, capabilities{foreign: true, marked: true})
		return nil
	case err != nil:
		return fmt.Errorf("probe %s: %w", l.spec.To, err)
	}
	c := o.judge()
	g, why := c.guarantee()
	if g == GuaranteeExactlyOnce {
		l.log.Info("target probed", "cluster", l.spec.To, "guarantee", string(g), "duplicate_marker", c.marked, "any_first_sequence", c.anyFirst)
	} else {
		l.log.Warn("target does not keep the lock", "cluster", l.spec.To, "guarantee", string(g), "why", why)
	}
	l.vow(g, why, c)
	return nil
}

func (l *Link) vow(g Guarantee, why string, c capabilities) {
	l.mu.Lock()
	l.lock.guarantee, l.lock.why, l.lock.can = g, why, c
	l.mu.Unlock()
	l.unmarked.Store(c.keepsIDs && !c.marked) // without ids there is nothing to read back
	l.blind.Store(c.blind)
	l.mum.Store(c.mum)
}

// promise is the link's guarantee and why it is not exactly-once.
func (l *Link) promise() (Guarantee, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lock.guarantee, l.lock.why
}

// expiryEvery is how often the target's producer.id.expiration.ms is read again.
const expiryEvery = 10 * time.Minute

// expiryDefault is Kafka's, for brokers that do not tell theirs.
const expiryDefault = 24 * time.Hour

// expirySoon is how soon it is asked for again when a broker did not tell.
const expirySoon = 30 * time.Second

// readExpiry learns after how long the target's brokers forget a producer id.
func (l *Link) readExpiry(ctx context.Context, brokers []int32) {
	now := l.now()
	l.mu.Lock()
	first := l.lock.expiryAt.IsZero()
	due := first || now.Sub(l.lock.expiryAt) >= expiryEvery
	if due {
		l.lock.expiryAt = now
	}
	l.mu.Unlock()
	if !due {
		return
	}
	// A broker that is down must not hold up the link.
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	all, err := l.to.BrokerConfigs(ask, brokers...)
	if l.learnExpiry(all, err, now) {
		return
	}
	level := slog.LevelDebug // a right that is missing is told once
	if first {
		level = slog.LevelInfo
	}
	l.log.Log(ctx, level, "target does not tell producer.id.expiration.ms of all brokers", "cluster", l.spec.To,
		"taken", time.Duration(l.expiry.Load()).String(), "error", err)
}

// learnExpiry takes what the brokers told: the shortest of all counts. A broker
// that did not answer may have forgotten our ids as early as was last heard of it,
// so without all answers the time may only get shorter (at first it is Kafka's
// default). It reports whether all is known.
func (l *Link) learnExpiry(all map[int32]map[string]string, err error, now time.Time) bool {
	shortest := time.Duration(0)
	for _, configs := range all {
		if ms, bad := strconv.ParseInt(configs["producer.id.expiration.ms"], 10, 64); bad == nil && ms > 0 {
			if d := time.Duration(min(ms, int64(expiryMost/time.Millisecond))) * time.Millisecond; shortest == 0 || d < shortest {
				shortest = d
			}
		}
	}
	known := err == nil && shortest > 0
	if last := time.Duration(l.expiry.Load()); !known && (shortest == 0 || shortest > last) {
		shortest = last
	}
	l.expiry.Store(int64(shortest))
	if err != nil {
		l.mu.Lock()
		l.lock.expiryAt = now.Add(expirySoon - expiryEvery)
		l.mu.Unlock()
	}
	return known
}

// expiryMost keeps a duration from overflowing: ten years.
const expiryMost = 10 * 365 * 24 * time.Hour

// blockedByPromise says why a topic may not be copied to a target as it was
// probed; empty = it may.
func (l *Link) blockedByPromise(topic string) (name, detail string) {
	g, why := l.promise()
	if g != GuaranteeAtLeastOnce {
		return "", ""
	}
	l.mu.Lock()
	foreign := l.lock.can.foreign
	l.mu.Unlock()
	if !foreign {
		return "refuses-ids", fmt.Sprintf("%s refuses producer ids that it did not allocate: nothing can be mirrored to it", l.spec.To)
	}
	if back := l.routing().topo.Cycle(l.terms(), topic); len(back) > 0 {
		return "no-loop-filter", fmt.Sprintf("the link would be at-least-once (%s) and is part of a cycle of same-name links (%s): records could go round for ever. Take topic %s out of one of them", why, cycleText(l.name, back), topic)
	}
	return "", ""
}

// cycleText names the links of a cycle.
func cycleText(link string, back []topology.Link) string {
	names := []string{link}
	for _, l := range back {
		names = append(names, l.Name)
	}
	return strings.Join(names, " → ")
}
