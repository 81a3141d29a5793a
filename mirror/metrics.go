package mirror

import (
	"errors"
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
//	isthmus_mirror_lost_records_total{reason}, isthmus_mirror_duplicate_records_total
//	isthmus_mirror_forged_ids_total, isthmus_mirror_fenced_total
//
// By link: isthmus_mirror_errors_total{code}, isthmus_mirror_replication_latency_seconds,
// isthmus_mirror_rpo_seconds, isthmus_mirror_source_head_age_seconds,
// isthmus_mirror_link_up, isthmus_mirror_buffered_bytes, isthmus_mirror_ledger_entries.
//
// By link, topic and partition: isthmus_mirror_lag_records, isthmus_mirror_lag_bytes,
// isthmus_mirror_lag_seconds, isthmus_mirror_map_runs; isthmus_mirror_partition_state{state}.
type Metrics struct {
	records, batches, bytes, decisions *prometheus.CounterVec
	lost, duplicates, forged, fences   *prometheus.CounterVec
	errors                             *prometheus.CounterVec
	latency                            *prometheus.HistogramVec
	series                             int

	mu    sync.Mutex
	links []*Link
}

// NewMetrics registers the mirror's metrics. series caps the partitions that
// have series of their own; the rest is folded into topic "_other".
func NewMetrics(reg prometheus.Registerer, series int) *Metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_mirror_" + name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &Metrics{
		records:    vec("records_total", "Records acknowledged by the target.", "link", "topic"),
		batches:    vec("batches_total", "Batches acknowledged by the target.", "link", "topic"),
		bytes:      vec("bytes_total", "Wire bytes of batches read from the source (in) and acknowledged by the target (out).", "link", "topic", "direction"),
		decisions:  vec("decisions_total", "What became of source batches.", "link", "topic", "action", "reason"),
		lost:       vec("lost_records_total", "Records the source deleted before they were mirrored.", "link", "topic", "reason"),
		duplicates: vec("duplicate_records_total", "Records known to be twice on the target; each is in the ledger.", "link", "topic"),
		forged:     vec("forged_ids_total", "Source batches under a producer id of this fabric that no link of it writes.", "link", "topic"),
		fences:     vec("fenced_total", "Times another owner of the same partition was found writing.", "link", "topic"),
		errors:     vec("errors_total", "Errors of either cluster, by Kafka's name of the code.", "link", "code"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "isthmus_mirror_replication_latency_seconds",
			Help:    "From a batch being visible at the source to its acknowledgement by the target.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"link"}),
		series: series,
	}
	reg.MustRegister(m.latency, m)
	return m
}

// linkMetrics are the metrics of one link. Per topic handles are kept so that
// the hot path does not look up labels.
type linkMetrics struct {
	all     *Metrics
	link    string
	latency prometheus.Observer

	mu     sync.RWMutex
	topics map[string]*topicMetrics
}

type topicMetrics struct {
	records, batches, in, out, forged prometheus.Counter
	decisions                         map[why]prometheus.Counter
	sumRecords, sumBytes              atomic.Int64
}

func (m *Metrics) link(l *Link) *linkMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links = append(m.links, l)
	m.errors.WithLabelValues(l.name, codeNetwork) // from the start, as the counters of a topic are
	return &linkMetrics{all: m, link: l.name, latency: m.latency.WithLabelValues(l.name), topics: make(map[string]*topicMetrics)}
}

var allActions = map[why]action{whyBelow: actSkip, whyControl: actSkip, whyAborted: actSkip, whyEmpty: actSkip, whyElsewhere: actSkip,
	whyWhole: actCopy, whyCut: actRebuild, whyAppend: actRebuild, whyHoles: actRebuild, whyTooLarge: actSplit}

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
	a.lost.WithLabelValues(m.link, topic, string(ReasonRetention))
	a.duplicates.WithLabelValues(m.link, topic)
	a.fences.WithLabelValues(m.link, topic)
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
	descRPO        = desc("rpo_seconds", "Greatest lag of the link's partitions: what would be lost now with the source.", "link")
	descHeadAge    = desc("source_head_age_seconds", "Since the source last answered for the partition heard of longest ago; lag is not known beyond it.", "link")
	descUp         = desc("link_up", "1 while both clusters answer.", "link")
	descBuffered   = desc("buffered_bytes", "Fetched bytes held in memory, and those reserved for fetches under way.", "link")
	descLedger     = desc("ledger_entries", "Entries of the ledger.", "link")
	descFolded     = desc("folded_partitions", "Partitions without series of their own; they are in topic \"_other\".")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("isthmus_mirror_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descLagRecords, descLagBytes, descLagSeconds, descRuns, descState,
		descRPO, descHeadAge, descUp, descBuffered, descLedger, descFolded} {
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
				if p.State != StateYielded { // its owner's node speaks for it
					rpo, age = max(rpo, p.Lag), max(age, heardAgo(p, l.now()))
				}
				if left <= 0 {
					folded++
					other.add(p)
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
		gauge(descRPO, rpo.Seconds(), st.Name)
		gauge(descHeadAge, age.Seconds(), st.Name)
		gauge(descUp, oneIf(st.Up), st.Name)
		gauge(descBuffered, float64(l.budget.used()), st.Name)
		gauge(descLedger, float64(len(l.Ledger())), st.Name)
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

func collectPump(gauge func(*prometheus.Desc, float64, ...string), link, topic string, p PumpStatus) {
	part := strconv.Itoa(int(p.Partition))
	gauge(descLagRecords, float64(p.LagRecords), link, topic, part)
	gauge(descLagBytes, float64(p.LagBytes), link, topic, part)
	gauge(descLagSeconds, p.Lag.Seconds(), link, topic, part)
	gauge(descRuns, float64(p.Runs), link, topic, part)
	for _, s := range States {
		gauge(descState, oneIf(p.State == s), link, topic, part, string(s))
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
