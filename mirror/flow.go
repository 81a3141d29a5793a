package mirror

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// limits are what the target topic takes, read from its configuration.
type limits struct {
	maxBytes    int       // max.message.bytes: largest batch; 0 unknown
	afterMax    int64     // message.timestamp.after.max.ms, may be thousands of years; 0 none
	beforeMax   int64     // message.timestamp.before.max.ms, likewise
	packing     packing   // compression.type
	keeps       retention // of the source
	cleaned     bool      // the target topic is compacted: own batches may vanish from it
	partitions  int
	blocked     string // why the flow does not run, as state: detail
	blockedName string
	cause       Cause // of the block
}

// latest is the largest record timestamp the target takes now, in ms.
func (l limits) latest(now time.Time) int64 {
	ms := now.UnixMilli()
	if l.afterMax <= 0 || l.afterMax > math.MaxInt64-ms {
		return math.MaxInt64
	}
	return ms + l.afterMax
}

// earliest is the smallest record timestamp the target takes now, in ms.
func (l limits) earliest(now time.Time) int64 {
	if l.beforeMax <= 0 {
		return math.MinInt64
	}
	return now.UnixMilli() - l.beforeMax
}

// packing is the compression that the target topic gives to what it gets: that of
// the producer, which is the zero value, or always the same.
type packing struct {
	fixed bool
	codec batch.Codec
}

// packingOf reads compression.type.
func packingOf(setting string) packing {
	if setting == "uncompressed" {
		return packing{fixed: true}
	}
	for c := batch.Gzip; c <= batch.Zstd; c++ {
		if c.String() == setting {
			return packing{fixed: true, codec: c}
		}
	}
	return packing{}
}

// of is the codec that a batch with this header has on the target.
func (p packing) of(h batch.Header) batch.Codec {
	if p.fixed {
		return p.codec
	}
	return h.Codec()
}

// flow is one topic on one link.
type flow struct {
	link  *Link
	topic string // of the source
	as    string // its name on the target; empty: the same
	lim   atomic.Pointer[limits]
	ids   atomic.Pointer[flowIDs]
	tap   tap // of the topic: see Rates.Flows

	mu sync.Mutex
	judging
	pumps    []*pump // index = partition
	sourceID [16]byte
	targetID [16]byte
	judged   time.Time // when the settings of both topics were last read
	forged   map[int32]*forgery
	scout    *pump   // tries for all partitions that lack a right; nil = none does
	raised   telling // what was done about limits for the sake of single records
}

// judging is what a flow knows by the routes of a moment.
type judging struct {
	verdicts map[int64]verdict // by these routes:
	judgedBy *routing
	taken    bool                     // the link copies some of the topic by them
	plain    atomic.Pointer[laneWays] // of the pumps that copy what the routes say, by routes of its own
}

// verdict is what a producer id says about a batch on this flow.
type verdict struct {
	origin  string
	carried bool
	forged  bool
	client  bool // of a router
}

func newFlow(l *Link, topic string) *flow {
	f := &flow{link: l, topic: topic, as: l.routing().as(l.spec, topic), judging: judging{verdicts: make(map[int64]verdict)}}
	f.tap.credit = tapCredit
	f.lim.Store(&limits{})
	return f
}

// pumpID names the pump of a partition.
func (f *flow) pumpID(partition int32) PumpID {
	return PumpID{From: f.link.spec.From, To: f.link.spec.To, Topic: f.topic, As: f.as, Partition: partition}
}

// first names the pump of the first partition, which stands for the topic.
func (f *flow) first() PumpID { return f.pumpID(0) }

// target is the topic's name on the target.
func (f *flow) target() string { return f.first().Target() }

func (f *flow) limits() limits { return *f.lim.Load() }

// verdictsKept bounds the cache; only ids of our own fabric are in it, so a
// healthy fabric needs a handful.
const verdictsKept = 1024

// judge says where a batch was first produced and whether this link carries it.
// A client's id, -1 and ids of other fabrics mean: produced here. An id of our
// own fabric that nobody here writes is forged: the batch counts as produced
// here, and is reported.
func (f *flow) judge(r *routing, producerID int64) verdict {
	here := f.link.spec.From
	prov := topology.Provenance{}
	if producerID >= 0 {
		prov = r.topo.Provenance(producerID)
	}
	if prov.Kind == topology.Client || prov.Kind == topology.RouterClient {
		return verdict{origin: here, carried: r.carries(f.link.spec, here, f.topic), client: prov.Kind == topology.RouterClient}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followLocked(r)
	if v, ok := f.verdicts[producerID]; ok {
		return v
	}
	v := verdict{origin: prov.Origin, carried: r.carries(f.link.spec, prov.Origin, f.topic)}
	if prov.Kind == topology.Forged || prov.Origin == here || prov.From == here {
		v = verdict{origin: here, carried: r.carries(f.link.spec, here, f.topic), forged: true}
	}
	if len(f.verdicts) >= verdictsKept {
		clear(f.verdicts)
	}
	v = filtered(v)
	f.verdicts[producerID] = v
	return v
}

// followLocked forgets what was known by other routes.
func (f *flow) followLocked(r *routing) {
	if f.judgedBy != r {
		clear(f.verdicts)
		f.judgedBy, f.taken = r, r.takes(f.link.spec, f.topic) && r.as(f.link.spec, f.topic) == f.as
	}
}

// takes reports whether the link still copies anything of the topic.
func (f *flow) takes(r *routing) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followLocked(r)
	return f.taken
}

// errNotTaken: the link does not copy the topic any longer. Its pumps stay where they are, so that they go on there if it
// does again: going over its batches would pass them by.
var errNotTaken = errors.New("the link does not copy this topic any longer")

// forgery is what one partition of the source holds under forged producer ids,
// since this process runs: one entry of the ledger that grows.
type forgery struct {
	entry LedgerEntry
	dirty bool
}

// report notes a batch under a forged id. It was copied as ordinary client data.
func (f *flow) report(p *pump, s *sourceBatch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.forged[p.id.Partition]
	if g == nil {
		if f.forged == nil {
			f.forged = make(map[int32]*forgery)
		}
		g = &forgery{entry: LedgerEntry{Link: f.link.name, Pump: p.id, First: s.header.BaseOffset, Reason: ReasonForged,
			Detail: fmt.Sprintf("clients of %s write under producer id %#x, which is made like this fabric's own", f.link.spec.From, s.header.ProducerID),
			At:     f.link.now(), Writer: f.link.writer}}
		f.forged[p.id.Partition] = g
		f.link.log.Warn("forged producer id", "pump", p.id.String(), "offset", s.header.BaseOffset, "producer_id", s.header.ProducerID)
	}
	g.entry.Last, g.dirty = s.header.LastOffset(), true
	g.entry.Records += int64(s.header.Records)
}

// forgeries returns the entries that are to be written.
func (f *flow) forgeries() (out []LedgerEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.forged {
		if g.dirty {
			g.dirty = false
			out = append(out, g.entry)
		}
	}
	return out
}

// reportAgain has all entries written once more: a write failed.
func (f *flow) reportAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.forged {
		g.dirty = true
	}
}

// errPoison: a source batch that cannot be read.
var errPoison = errors.New("unreadable batch")

// unreadable is an errPoison where not even the header tells what is there.
type unreadable struct {
	at   int64  // source offset behind the last batch that could be read
	rest []byte // of the answer
	err  error
}

func (e *unreadable) Error() string {
	return fmt.Sprintf("%v after source offset %d: %v", errPoison, e.at, e.err)
}

func (e *unreadable) Unwrap() []error { return []error{errPoison, e.err} }

// walk decides about every whole batch of a fetch answer, in order. It is used
// for copying and for finding a place, so that both see the same records.
func (f *flow) walk(got *broker.Fetched, from int64, fn func(*sourceBatch) error) error {
	routes := f.link.routing()
	if !f.takes(routes) {
		return errNotTaken
	}
	aborted := abortedIn{}
	for _, a := range got.Aborted {
		aborted.pending = append(aborted.pending, abortedTxn{a.ProducerID, a.FirstOffset})
	}
	slices.SortFunc(aborted.pending, func(a, b abortedTxn) int {
		return int(min(max(a.firstOffset-b.firstOffset, -1), 1))
	})
	lim, left, ways := f.limits(), f.omits(got.Partition), f.waysOf(got.Partition, routes)
	for rest := got.Batches; len(rest) > 0; {
		h, raw, after, err := batch.Next(rest)
		var old []batch.Record
		if errors.Is(err, batch.ErrMagic) {
			h, old, raw, after, err = batch.NextOld(rest, f.link.cfg.DecodeBytes)
		}
		if errors.Is(err, batch.ErrShort) && !whole(rest, got.Batches) {
			return nil
		}
		if err != nil {
			if end, ok := left.past(from); ok {
				return fn(passedOver(from, end)) // what is behind it has to be asked for
			}
			return &unreadable{at: from, rest: rest, err: err}
		}
		rest = after
		v := f.judge(routes, h.ProducerID)
		if ways != nil {
			v.carried = ways.copies(v.origin, h.BaseOffset, v.carried)
		}
		s := &sourceBatch{raw: raw, header: h, origin: v.origin, from: from, forged: v.forged, client: v.client, packing: lim.packing, old: old}
		if len(left) > 0 {
			s.omitted = left.within(h.BaseOffset, h.LastOffset())
		}
		s.act, s.why = decide(view{header: h, from: from, carried: v.carried,
			aborted: aborted.batch(h, raw), maxBytes: lim.maxBytes, packing: lim.packing, omitted: s.omitted})
		if err := fn(s); err != nil {
			return err
		}
		from = max(from, h.NextOffset())
	}
	return nil
}

// whole reports whether what is cut short should not be: the first batch of an answer is always whole (KIP-74), however
// large it is. So its length is wrong.
func whole(rest, all []byte) bool { return len(rest) == len(all) && len(rest) >= batch.HeaderSize }
