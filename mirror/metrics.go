package mirror

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Metrics are the mirror's metrics of one node. Counters are written where
// things happen; everything that is a state or an age is read from the links at
// scrape time, so that it is true while a link stands still.
//
// By link and topic:
//
//	isthmus_mirror_records_total, isthmus_mirror_batches_total
//	isthmus_mirror_bytes_total{direction="in"|"out"}
//	isthmus_mirror_decisions_total{action,reason}
//	isthmus_mirror_lost_records_total{reason}, isthmus_mirror_duplicate_records_total,
//	isthmus_mirror_orphan_records_total, isthmus_mirror_left_out_records_total{cause}
//	isthmus_mirror_forged_ids_total, isthmus_mirror_fenced_total
//
// By link: isthmus_mirror_throttled_seconds_total, isthmus_mirror_errors_total{code}, isthmus_mirror_replication_latency_seconds,
// isthmus_mirror_rpo_seconds, isthmus_mirror_source_head_age_seconds,
// isthmus_mirror_link_up, isthmus_mirror_guarantee{guarantee},
// isthmus_mirror_buffered_bytes, isthmus_mirror_ledger_entries, isthmus_mirror_stuck_transactions,
// isthmus_mirror_group_positions_set_total{cluster}, isthmus_mirror_group_positions_pending{state}, isthmus_mirror_group_pending_seconds. Those of the audit
// are listed with auditMetrics.
//
// By link and topic, only while something waits: isthmus_mirror_retention_headroom_seconds, isthmus_mirror_retention_headroom_bytes.
//
// By link, topic and partition: isthmus_mirror_lag_records, isthmus_mirror_lag_bytes,
// isthmus_mirror_lag_seconds, isthmus_mirror_map_runs; isthmus_mirror_partition_state{state};
// isthmus_mirror_partition_cause{cause}, only while there is one.
//
// The source is not asked for what is paused: it has no lag, and counts neither for rpo nor for head age. Its state tells of it.
type Metrics struct {
	records, batches, bytes, decisions *prometheus.CounterVec
	forged, fences                     *prometheus.CounterVec
	gaps
	auditMetrics
	errors, throttled, groupsSet *prometheus.CounterVec
	latency                      *prometheus.HistogramVec
	series                       int

	mu    sync.Mutex
	links []*Link
}

// gaps count records that are not on the target once, as they should.
type gaps struct{ lost, duplicates, orphans, omitted, tails *prometheus.CounterVec }

// NewMetrics registers the mirror's metrics. series caps the partitions that
// have series of their own; the rest is folded into topic "_other".
func NewMetrics(reg prometheus.Registerer, series int) *Metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_mirror_" + name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &Metrics{
		records:   vec("records_total", "Records acknowledged by the target.", "link", "topic"),
		batches:   vec("batches_total", "Batches acknowledged by the target.", "link", "topic"),
		bytes:     vec("bytes_total", "Wire bytes of batches read from the source (in) and acknowledged by the target (out).", "link", "topic", "direction"),
		decisions: vec("decisions_total", "What became of source batches.", "link", "topic", "action", "reason"),
		gaps: gaps{
			lost:       vec("lost_records_total", "Records that are not on the target, by the ledger's reason.", "link", "topic", "reason"),
			duplicates: vec("duplicate_records_total", "Records known to be twice on the target; each is in the ledger.", "link", "topic"),
			orphans:    vec("orphan_records_total", "Records on the target that their source lost after they were mirrored; each is in the ledger.", "link", "topic"),
			omitted:    vec("left_out_records_total", "Records left out by the policy for what cannot be copied, by the cause; each is in the ledger.", "link", "topic", "cause"),
			tails:      vec("tail_records_total", "Records that a lost home had and that were not copied when another became home, by what became of them; the ledger has the sum.", "link", "topic", "outcome"),
		},
		forged:    vec("forged_ids_total", "Source batches under a producer id of this fabric that no link of it writes.", "link", "topic"),
		fences:    vec("fenced_total", "Times another owner of the same partition was found writing.", "link", "topic"),
		groupsSet: vec("group_positions_set_total", "Positions of groups that were set, by the cluster where.", "link", "cluster"),
		throttled: vec("throttled_seconds_total", "Time for which fetches waited because of the link's byte_rate.", "link"),
		errors:    vec("errors_total", "Errors of either cluster, by Kafka's name of the code.", "link", "code"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "isthmus_mirror_replication_latency_seconds",
			Help:    "From a batch being visible at the source to its acknowledgement by the target.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"link"}),
		series: series,
	}
	m.auditMetrics = newAuditMetrics(vec)
	reg.MustRegister(m.latency, m)
	return m
}

// linkMetrics are the metrics of one link. Per topic handles are kept so that
// the hot path does not look up labels.
type linkMetrics struct {
	all       *Metrics
	link      string
	latency   prometheus.Observer
	throttled prometheus.Counter

	mu     sync.RWMutex
	topics map[string]*topicMetrics
}

type topicMetrics struct {
	records, batches, in, out, forged prometheus.Counter
	decisions                         map[why]prometheus.Counter
	sumRecords, sumBytes              atomic.Int64
	audit                             topicAudit
}

func (m *Metrics) link(l *Link) *linkMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links = append(m.links, l)
	m.errors.WithLabelValues(l.name, codeNetwork) // from the start, as the counters of a topic are
	return &linkMetrics{all: m, link: l.name, latency: m.latency.WithLabelValues(l.name), throttled: m.throttled.WithLabelValues(l.name), topics: make(map[string]*topicMetrics)}
}

// unlink ends the series of a link that is gone.
func (m *Metrics) unlink(l *Link) {
	m.mu.Lock()
	m.links = slices.DeleteFunc(m.links, func(o *Link) bool { return o == l })
	again := slices.ContainsFunc(m.links, func(o *Link) bool { return o.name == l.name })
	m.mu.Unlock()
	if again { // the counters of a link that starts again go on
		return
	}
	for _, v := range []*prometheus.CounterVec{m.records, m.batches, m.bytes, m.decisions, m.lost, m.duplicates, m.orphans, m.omitted, m.tails, m.forged, m.fences, m.errors, m.throttled, m.groupsSet,
		m.audited, m.auditedBytes, m.mismatches} {
		v.DeletePartialMatch(prometheus.Labels{"link": l.name})
	}
	m.latency.DeletePartialMatch(prometheus.Labels{"link": l.name})
}

var allActions = map[why]action{whyBelow: actSkip, whyControl: actSkip, whyAborted: actSkip, whyEmpty: actSkip, whyElsewhere: actSkip, whyOmitted: actSkip, whyAround: actRebuild,
	whyWhole: actCopy, whyCut: actRebuild, whyAppend: actRebuild, whyHoles: actRebuild, whyTooLarge: actSplit, whyRecoded: actRebuild, whyOld: actRebuild}

func (m *linkMetrics) topic(topic string) *topicMetrics {
	m.mu.RLock()
	t := m.topics[topic]
	m.mu.RUnlock()
	if t != nil {
		return t
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if t = m.topics[topic]; t != nil {
		return t
	}
	a := m.all
	t = &topicMetrics{
		records: a.records.WithLabelValues(m.link, topic), batches: a.batches.WithLabelValues(m.link, topic),
		in: a.bytes.WithLabelValues(m.link, topic, "in"), out: a.bytes.WithLabelValues(m.link, topic, "out"),
		forged: a.forged.WithLabelValues(m.link, topic), decisions: make(map[why]prometheus.Counter),
	}
	for w, act := range allActions {
		t.decisions[w] = a.decisions.WithLabelValues(m.link, topic, act.String(), string(w))
	}
	// Exported as zero from the start: an increase from nothing is not seen.
	for _, r := range []Reason{ReasonRetention, ReasonTruncatedTarget, ReasonRecreated, ReasonAnchored} {
		a.lost.WithLabelValues(m.link, topic, string(r))
	}
	a.orphans.WithLabelValues(m.link, topic)
	a.duplicates.WithLabelValues(m.link, topic)
	for _, c := range []Cause{CausePoison, CauseLarge, CauseLate, CauseEarly, CauseNullKey} {
		a.omitted.WithLabelValues(m.link, topic, string(c))
	}
	for _, out := range fateNames {
		a.tails.WithLabelValues(m.link, topic, out)
	}
	a.fences.WithLabelValues(m.link, topic)
	t.audit = a.auditMetrics.topic(m.link, topic)
	m.topics[topic] = t
	return t
}

func (m *linkMetrics) begin(p *pump) { m.topic(p.id.Topic) }

func (m *linkMetrics) decided(p *pump, s *sourceBatch) {
	t := m.topic(p.id.Topic)
	t.decisions[s.why].Inc()
	if s.why != whyBelow {
		t.in.Add(float64(len(s.raw)))
	}
	if s.forged {
		t.forged.Inc()
	}
}

func (m *linkMetrics) copied(p *pump, b *outBatch, now time.Time) {
	t := m.topic(p.id.Topic)
	t.records.Add(float64(b.records))
	t.batches.Inc()
	t.out.Add(float64(len(b.bytes)))
	t.sumRecords.Add(int64(b.records))
	t.sumBytes.Add(int64(len(b.bytes)))
	m.latency.Observe(now.Sub(b.seen).Seconds())
}

func (m *linkMetrics) fenced(p *pump) { m.all.fences.WithLabelValues(m.link, p.id.Topic).Inc() }

func (m *linkMetrics) lost(p *pump, r Reason, n int64) {
	m.all.lost.WithLabelValues(m.link, p.id.Topic, string(r)).Add(float64(n))
}

// orphaned counts records of the target that their source lost.
func (m *linkMetrics) orphaned(p *pump, n int64) {
	m.all.orphans.WithLabelValues(m.link, p.id.Topic).Add(float64(n))
}

// leftOut counts records; where their number is not known, offsets.
func (m *linkMetrics) leftOut(p *pump, found []stretch) {
	for _, s := range found {
		n := s.records
		if n < 0 {
			n = s.last - s.first + 1
		}
		m.all.omitted.WithLabelValues(m.link, p.id.Topic, string(s.cause)).Add(float64(n))
	}
}

// tail counts what has become of a tail since it was counted before; nil: it was not.
func (m *linkMetrics) tail(p *pump, now, before *TailSum) {
	was := TailSum{}
	if before != nil {
		was = *before
	}
	for out, n := range map[fate]int64{outDelivered: now.Delivered - now.Unsettled - was.Delivered + was.Unsettled, outAgain: now.Again - was.Again, outDiverted: now.Diverted - was.Diverted, outListed: now.Listed - was.Listed,
		outUnsettled: now.Unsettled - was.Unsettled} {
		m.all.tails.WithLabelValues(m.link, p.id.Topic, fateNames[out]).Add(float64(max(0, n)))
	}
}

func (m *linkMetrics) doubled(p *pump, n int64) {
	m.all.duplicates.WithLabelValues(m.link, p.id.Topic).Add(float64(n))
}

// codeNetwork is the code of an error that no broker sent.
const codeNetwork = "NETWORK"

func (m *linkMetrics) failed(_ *pump, err error) {
	code := codeNetwork
	var known *kerr.Error
	if errors.As(err, &known) {
		code = known.Message
	}
	m.all.errors.WithLabelValues(m.link, code).Inc()
}

// bytesOf estimates the wire bytes of so many records by the mean so far.
func (m *linkMetrics) bytesOf(topic string, records int64) int64 {
	t := m.topic(topic)
	n := t.sumRecords.Load()
	if n == 0 {
		return 0
	}
	return int64(float64(records) * float64(t.sumBytes.Load()) / float64(n))
}

var (
	descLagRecords = desc("lag_records", "Records at the source that are not mirrored yet.", "link", "topic", "partition")
	descLagBytes   = desc("lag_bytes", "Wire bytes of the records not mirrored yet, estimated from the mean.", "link", "topic", "partition")
	descLagSeconds = desc("lag_seconds", "Age of the oldest record not mirrored yet, since this node saw it; grows while stalled, 0 when caught up.", "link", "topic", "partition")
	descRuns       = desc("map_runs", "Runs of the offset map.", "link", "topic", "partition")
	descState      = desc("partition_state", "1 for the state the partition is in.", "link", "topic", "partition", "state")
	descCause      = desc("partition_cause", "1 for what keeps the partition from running, or holds it back; no series while nothing does.", "link", "topic", "partition", "cause")
	descStuck      = desc("stuck_transactions", "Partitions whose committed records end at a transaction that does not.", "link")
	descRoom       = desc("retention_headroom_seconds", "Least time until the source's retention reaches what is not copied yet; no series while nothing waits.", "link", "topic")
	descRoomBytes  = desc("retention_headroom_bytes", "Least bytes that may be written until then; no series while nothing waits, or without such a bound.", "link", "topic")
	descRPO        = desc("rpo_seconds", "Greatest lag of the link's partitions that are not paused: what would be lost now with the source.", "link")
	descHeadAge    = desc("source_head_age_seconds", "Since the source last answered for the partition heard of longest ago, without the paused ones; lag is not known beyond it.", "link")
	descUp         = desc("link_up", "1 while both clusters answer.", "link")
	descGuarantee  = desc("guarantee", "1 for what the link promises, by what its target was seen to do.", "link", "guarantee")
	descBuffered   = desc("buffered_bytes", "Fetched bytes held in memory, and those reserved for fetches under way.", "link")
	descLedger     = desc("ledger_entries", "Entries of the ledger.", "link")
	descFolded     = desc("folded_partitions", "Partitions without series of their own; they are in topic \"_other\".")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("isthmus_mirror_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descLagRecords, descLagBytes, descLagSeconds, descRuns, descState, descCause,
		descStuck, descRoom, descRoomBytes, descRPO, descHeadAge, descUp, descGuarantee, descBuffered, descLedger, descAuditAge, descFolded, descGroupsPending, descGroupsAge} {
		out <- d
	}
}

// Collect implements prometheus.Collector: it asks every link for its status.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	links := append([]*Link(nil), m.links...)
	m.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	left, folded := m.series, 0
	for _, l := range links {
		st := l.Status()
		other := foldedLag{}
		var rpo, age time.Duration
		for _, f := range st.Flows {
			for _, p := range f.Pumps {
				if p.State == StateElsewhere { // so does it for these, which have no series here
					continue
				}
				if p.State != StateYielded && p.State != StatePaused { // its owner's node speaks for it; nobody asks for what is paused
					rpo, age = max(rpo, p.Lag), max(age, heardAgo(p, l.now()))
				}
				if left <= 0 {
					folded++
					if p.State != StatePaused {
						other.add(p)
					}
					continue
				}
				left--
				collectPump(gauge, st.Name, f.Topic, p)
			}
		}
		if other.any {
			gauge(descLagRecords, float64(other.records), st.Name, "_other", "")
			gauge(descLagBytes, float64(other.bytes), st.Name, "_other", "")
			gauge(descLagSeconds, other.age.Seconds(), st.Name, "_other", "")
		}
		collectWarnings(gauge, st)
		gauge(descRPO, rpo.Seconds(), st.Name)
		gauge(descHeadAge, age.Seconds(), st.Name)
		gauge(descUp, oneIf(st.Up), st.Name)
		for _, g := range Guarantees {
			gauge(descGuarantee, oneIf(st.Guarantee == g), st.Name, string(g))
		}
		gauge(descBuffered, float64(l.budget.used()), st.Name)
		gauge(descLedger, float64(len(l.Ledger())), st.Name)
		gauge(descAuditAge, l.audits.waits(l.now()).Seconds(), st.Name)
		collectGroups(gauge, l)
	}
	gauge(descFolded, float64(folded))
}

// heardAgo is since when the source has not answered for the partition; one that
// was never heard counts from when the pump began to want it.
func heardAgo(p PumpStatus, now time.Time) time.Duration {
	if p.SeenAgo < 0 {
		return now.Sub(p.Since)
	}
	return p.SeenAgo
}

// collectWarnings is what is about to go wrong.
func collectWarnings(gauge func(*prometheus.Desc, float64, ...string), st LinkStatus) {
	stuck := 0
	for _, f := range st.Flows {
		left, bytes := time.Duration(-1), int64(-1)
		for _, p := range f.Pumps {
			if p.Stuck {
				stuck++
			}
			if p.Headroom >= 0 && (left < 0 || p.Headroom < left) {
				left = p.Headroom
			}
			if p.HeadroomBytes >= 0 && (bytes < 0 || p.HeadroomBytes < bytes) {
				bytes = p.HeadroomBytes
			}
		}
		if left >= 0 {
			gauge(descRoom, left.Seconds(), st.Name, f.Topic)
		}
		if bytes >= 0 {
			gauge(descRoomBytes, float64(bytes), st.Name, f.Topic)
		}
	}
	gauge(descStuck, float64(stuck), st.Name)
}

func collectPump(gauge func(*prometheus.Desc, float64, ...string), link, topic string, p PumpStatus) {
	part := strconv.Itoa(int(p.Partition))
	if p.State != StatePaused { // what was last seen would stand still while the source goes on
		gauge(descLagRecords, float64(p.LagRecords), link, topic, part)
		gauge(descLagBytes, float64(p.LagBytes), link, topic, part)
		gauge(descLagSeconds, p.Lag.Seconds(), link, topic, part)
	}
	gauge(descRuns, float64(p.Runs), link, topic, part)
	for _, s := range States {
		gauge(descState, oneIf(p.State == s), link, topic, part, string(s))
	}
	if p.Cause != "" {
		gauge(descCause, 1, link, topic, part, string(p.Cause))
	}
}

// foldedLag sums the partitions beyond the cap.
type foldedLag struct {
	records, bytes int64
	age            time.Duration
	any            bool
}

func (f *foldedLag) add(p PumpStatus) {
	f.records, f.bytes, f.age, f.any = f.records+p.LagRecords, f.bytes+p.LagBytes, max(f.age, p.Lag), true
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
