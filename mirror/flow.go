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
	maxBytes    int           // max.message.bytes: largest batch; 0 unknown
	afterMax    time.Duration // message.timestamp.after.max.ms; 0 none
	cleaned     bool          // the target topic is compacted: own batches may vanish from it
	partitions  int
	blocked     string // why the flow does not run, as state: detail
	blockedName string
}

// latest is the largest record timestamp the target takes now, in ms.
func (l limits) latest(now time.Time) int64 {
	if l.afterMax <= 0 {
		return math.MaxInt64
	}
	return now.Add(l.afterMax).UnixMilli()
}

// flow is one topic on one link.
type flow struct {
	link  *Link
	topic string
	lim   atomic.Pointer[limits]

	mu       sync.Mutex
	verdicts map[int64]verdict
	pumps    []*pump // index = partition
	sourceID [16]byte
	targetID [16]byte
	judged   time.Time // when the settings of both topics were last read
	forged   map[int32]*forgery
}

// verdict is what a producer id says about a batch on this flow.
type verdict struct {
	origin  string
	carried bool
	forged  bool
}

func newFlow(l *Link, topic string) *flow {
	f := &flow{link: l, topic: topic, verdicts: make(map[int64]verdict)}
	f.lim.Store(&limits{})
	return f
}

func (f *flow) limits() limits { return *f.lim.Load() }

// verdictsKept bounds the cache; only ids of our own fabric are in it, so a
// healthy fabric needs a handful.
const verdictsKept = 1024

// judge says where a batch was first produced and whether this link carries it.
// A client's id, -1 and ids of other fabrics mean: produced here. An id of our
// own fabric that nobody here writes is forged: the batch counts as produced
// here, and is reported.
func (f *flow) judge(producerID int64) verdict {
	prov := topology.Provenance{}
	if producerID >= 0 {
		prov = f.link.topo.Provenance(producerID)
	}
	if prov.Kind == topology.Client || prov.Kind == topology.RouterClient {
		return verdict{origin: f.link.from.Name(), carried: f.link.carries(f.link.from.Name(), f.topic)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if v, ok := f.verdicts[producerID]; ok {
		return v
	}
	v := verdict{origin: prov.Origin, carried: f.link.carries(prov.Origin, f.topic)}
	if prov.Kind == topology.Forged || prov.Origin == f.link.from.Name() || prov.From == f.link.from.Name() {
		here := f.link.from.Name()
		v = verdict{origin: here, carried: f.link.carries(here, f.topic), forged: true}
	}
	if len(f.verdicts) >= verdictsKept {
		clear(f.verdicts)
	}
	f.verdicts[producerID] = v
	return v
}

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

// walk decides about every whole batch of a fetch answer, in order. It is used
// for copying and for finding a place, so that both see the same records.
func (f *flow) walk(got *broker.Fetched, from int64, fn func(*sourceBatch) error) error {
	aborted := abortedIn{}
	for _, a := range got.Aborted {
		aborted.pending = append(aborted.pending, abortedTxn{a.ProducerID, a.FirstOffset})
	}
	slices.SortFunc(aborted.pending, func(a, b abortedTxn) int {
		return int(min(max(a.firstOffset-b.firstOffset, -1), 1))
	})
	maxBytes := f.limits().maxBytes
	for rest := got.Batches; len(rest) > 0; {
		h, raw, after, err := batch.Next(rest)
		if errors.Is(err, batch.ErrShort) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w after source offset %d: %w", errPoison, from, err)
		}
		rest = after
		v := f.judge(h.ProducerID)
		s := &sourceBatch{raw: raw, header: h, origin: v.origin, from: from, forged: v.forged}
		s.act, s.why = decide(view{header: h, from: from, carried: v.carried,
			aborted: aborted.batch(h, raw), maxBytes: maxBytes})
		if err := fn(s); err != nil {
			return err
		}
		from = max(from, h.NextOffset())
	}
	return nil
}
