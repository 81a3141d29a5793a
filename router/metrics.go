package router

import (
	"maps"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/relay"
)

// Metrics are those of the routers of one node. Nothing is counted twice: what connections took is read from them at scrape time, and added
// to what those took that ended. All begin anew when a router does.
//
// By router:
//
//	isthmus_router_ready, isthmus_router_picture_age_seconds, isthmus_router_pending_answers, isthmus_router_held_bytes,
//	isthmus_router_producer_ids, isthmus_router_full_seconds_total, isthmus_router_throttled_seconds_total, isthmus_router_waited_seconds_total
//	isthmus_router_refused_connections_total{reason}, isthmus_router_ends_total{side}
//	isthmus_router_requests_total{key}, isthmus_router_answers_total{key}, isthmus_router_local_answers_total{key}
//	isthmus_router_dials_total{broker}, isthmus_router_dial_failures_total{broker}
//	isthmus_router_identity_claims_total{result}
//
// By router and slot, of which bootstrap is one, and other are all that clients are not told of: isthmus_router_connections, isthmus_router_opened_connections_total,
// isthmus_router_bytes_total{direction="in"|"out"}, which is from and to clients.
//
// By router and set, whose label is empty for what no set names:
//
//	isthmus_router_generation, isthmus_router_home{home}, isthmus_router_phase{phase}, isthmus_router_held_requests, isthmus_router_moves_total, isthmus_router_move_failures_total,
//	isthmus_router_gated_batches_total{reason}
//
// Labels are bounded: by the slots that a file names, the brokers of a home, and the keys of requests that this build knows.
type Metrics struct {
	routers func() []*Router
}

// NewMetrics makes the metrics of those routers that are there when it is asked. The caller registers them. Of two routers of one name the
// later one counts.
func NewMetrics(routers func() []*Router) *Metrics { return &Metrics{routers} }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("isthmus_router_"+name, help, append([]string{"router"}, labels...), nil)
}

var (
	descReady     = desc("ready", "Whether clients are served; 0 while the home was not reached yet.")
	descAge       = desc("picture_age_seconds", "Since the home last said who its brokers are.")
	descPending   = desc("pending_answers", "Answers that are due to clients.")
	descHeld      = desc("held_bytes", "Memory held for what is rewritten, of the limit of all connections together.")
	descIDs       = desc("producer_ids", "Ids for idempotent producers that can be given at once; more are claimed before they are used up.")
	descFull      = desc("full_seconds_total", "Time for which connections were not read because too many answers were due.")
	descThrottled = desc("throttled_seconds_total", "Time for which connections were told to wait because of a quota.")
	descRefused   = desc("refused_connections_total", "Connections that were not taken, by the reason.", "reason")
	descEnds      = desc("ends_total", "Connections that ended, by whose fault it was; none: they ended as they should.", "side")
	descRequests  = desc("requests_total", "Requests of clients, by their key.", "key")
	descAnswers   = desc("answers_total", "Answers to clients, by the request's key.", "key")
	descLocal     = desc("local_answers_total", "Answers that were made at the router, by the request's key.", "key")
	descDials     = desc("dials_total", "Attempts to connect a client to a broker, by the broker's id at the home.", "broker")
	descDialFails = desc("dial_failures_total", "Attempts to connect a client to a broker that failed, by the broker's id at the home.", "broker")
	descClaims    = desc("identity_claims_total", "Times that slots or producer ids were claimed, made or failed.", "result")
	descOpen      = desc("connections", "Connections that are open.", "slot")
	descOpened    = desc("opened_connections_total", "Connections that were taken.", "slot")
	descBytes     = desc("bytes_total", "Bytes from clients (in) and to them (out).", "slot", "direction")
)

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descReady, descAge, descPending, descHeld, descIDs, descFull, descThrottled, descRefused, descEnds, descRequests, descAnswers, descLocal,
		descDials, descDialFails, descClaims, descOpen, descOpened, descBytes, descGeneration, descHome, descPhase, descHolds, descMoves, descMoveFails, descGated, descWaited} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	byName := make(map[string]*Router)
	for _, r := range m.routers() {
		byName[r.Name()] = r
	}
	for name, r := range byName {
		s := sink{ch, name}
		r.collect(s)
		r.collectSets(s)
		slots, brokers := r.toldOf()
		r.open.collect(s, slots, brokers)
		s.keys(&r.open.keys)
	}
}

// sink takes the samples of one router.
type sink struct {
	ch   chan<- prometheus.Metric
	name string
}

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.name}, labels...)...)
}

func (s sink) counter(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, append([]string{s.name}, labels...)...)
}

// keys tells of the requests that were made; those that clients use first are there from the start, since an increase from nothing is not seen.
func (s sink) keys(k *relay.Keys) {
	for key := range k.Requests {
		name := kmsg.NameForKey(int16(key))
		local := key == int(kmsg.ApiVersions) || key == int(kmsg.InitProducerID)
		if n := k.Requests[key].Load(); n > 0 || usual[kmsg.Key(key)] {
			s.counter(descRequests, float64(n), name)
			s.counter(descAnswers, float64(k.Answers[key].Load()), name)
		}
		if n := k.Local[key].Load(); n > 0 || local {
			s.counter(descLocal, float64(n), name)
		}
	}
}

var usual = map[kmsg.Key]bool{kmsg.Produce: true, kmsg.Fetch: true, kmsg.Metadata: true, kmsg.ApiVersions: true}

// collect tells of the router itself.
func (r *Router) collect(s sink) {
	ready := 0.0
	if r.now.Load() != nil {
		ready = 1
	}
	s.gauge(descReady, ready)
	if heard, _ := r.news.told(); !heard.IsZero() {
		s.gauge(descAge, time.Since(heard).Seconds())
	}
	if r.ids != nil {
		s.gauge(descIDs, float64(r.ids.left()))
	}
	made, failed := r.news.counted()
	s.counter(descClaims, float64(made), claimMade)
	s.counter(descClaims, float64(failed), claimFailed)
}

// toldOf are the slots that clients are told of, bootstrap with them, by their numbers, and the brokers that are there, as labels name both.
func (r *Router) toldOf() (slots map[int]string, brokers []string) {
	slots = map[int]string{bootstrap: "bootstrap"}
	p := r.now.Load()
	if p == nil {
		return slots, nil
	}
	for _, t := range p.told {
		slots[numberOf(t.set, t.index)] = r.label(t.set, t.index)
	}
	for set, s := range p.sides {
		for _, b := range s.brokers {
			brokers = append(brokers, r.label(set, int(b.ID)))
		}
	}
	return slots, brokers
}

// label names a slot or a broker of a set.
func (r *Router) label(set, n int) string {
	if name := r.cfg.setName(set); name != "" {
		return name + "/" + strconv.Itoa(n)
	}
	return strconv.Itoa(n)
}

// otherSlot stands for all that clients are not told of.
const otherSlot = "other"

// collect tells of the connections at slots, and to brokers.
func (s *connections) collect(to sink, slots map[int]string, brokers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type sum struct {
		taken
		open, opened int64
	}
	at := map[string]*sum{otherSlot: {}}
	for _, label := range slots {
		at[label] = &sum{}
	}
	of := func(slot int) *sum {
		if found := at[slots[slot]]; found != nil {
			return found
		}
		return at[otherSlot]
	}
	for slot, n := range s.opened {
		of(slot).opened += n
	}
	for slot, t := range s.past {
		of(slot).taken = of(slot).taken.plus(t)
	}
	pending, held := int64(0), int64(0)
	for one := range s.all {
		all := of(one.slot)
		all.open++
		all.taken = all.taken.add(one.seen)
		pending += int64(one.seen.Pending.Load())
		held += one.seen.Held.Load()
	}
	to.gauge(descPending, float64(pending))
	to.gauge(descHeld, float64(held))
	var full, throttled, waited time.Duration
	for slot, all := range at {
		to.gauge(descOpen, float64(all.open), slot)
		to.counter(descOpened, float64(all.opened), slot)
		to.counter(descBytes, float64(all.in), slot, "in")
		to.counter(descBytes, float64(all.out), slot, "out")
		full, throttled, waited = full+all.full, throttled+all.throttled, waited+all.waited
	}
	to.counter(descFull, full.Seconds())
	to.counter(descThrottled, throttled.Seconds())
	to.counter(descWaited, waited.Seconds())
	for _, reason := range append([]string{otherReason}, words...) {
		to.counter(descRefused, float64(s.refused[reason]), reason)
	}
	for _, side := range []relay.Side{nobody, relay.Client, relay.Upstream, relay.Router} {
		to.counter(descEnds, float64(s.ends[side]), string(side))
	}
	dials := maps.Clone(s.dials)
	for _, id := range brokers {
		dials[id] = s.dials[id] // also those that nobody was taken to yet
	}
	for broker, d := range dials {
		to.counter(descDials, float64(d.all), broker)
		to.counter(descDialFails, float64(d.failed), broker)
	}
}
