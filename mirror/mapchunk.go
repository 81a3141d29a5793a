package mirror

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
)

// mapVersion is the format of map chunks. Format 1 had a varint for each field of a run; hand-overs still have it, because nodes of two
// releases speak with each other while a fabric is upgraded.
const mapVersion = 2

// ErrMap is returned for positions of a partition of which the durable offset map cannot be read.
var ErrMap = errors.New("its offset map cannot be read, so positions of this partition are not translated")

// mapChunk is a stretch of the offset map as one writer saw it.
type mapChunk struct {
	Pump   PumpID
	First  int64 // first source offset, part of the key
	Writer string
	Runs   []Run
}

func (c mapChunk) key() []byte { return chunkKey(c.Pump, c.Writer, c.First) }

func chunkKey(p PumpID, writer string, first int64) []byte {
	return stateKey(kindMap, p, writer, strconv.FormatInt(first, 10))
}

func (c mapChunk) encode() []byte { return encodeRuns(len(c.Runs), slices.Values(c.Runs)) }

// encodeRuns is version, origins, number of runs, runs.
func encodeRuns(n int, runs iter.Seq[Run]) []byte {
	var w runWriter
	for r := range runs {
		w.add(r)
	}
	e := encoder{mapVersion}
	e.int(int64(len(w.origins)))
	for _, o := range w.origins {
		e.str(o)
	}
	e.int(int64(n))
	return append(e, w.b...)
}

// encodeOld writes format 1.
func (c mapChunk) encodeOld() []byte {
	e := encoder{formatVersion}
	var origins []string
	for _, r := range c.Runs {
		if !slices.Contains(origins, r.Origin) {
			origins = append(origins, r.Origin)
		}
	}
	e.int(int64(len(origins)))
	for _, o := range origins {
		e.str(o)
	}
	e.int(int64(len(c.Runs)))
	prev := make([]Run, len(origins))
	var last Run
	for _, r := range c.Runs {
		o := slices.Index(origins, r.Origin)
		e.int(int64(o))
		e.int(r.Source - last.sourceEnd())
		e.int(r.Target - last.targetEnd())
		e.int(r.Records)
		e.int(int64(r.Epoch - prev[o].Epoch))
		e.int(r.Count - prev[o].Count - prev[o].Records)
		prev[o], last = r, r
	}
	return e
}

func decodeMapChunk(p PumpID, writer string, b []byte) (mapChunk, error) {
	c := mapChunk{Pump: p, Writer: writer}
	r := newChunkReader(b)
	for r.next() {
		c.Runs = append(c.Runs, r.run)
	}
	if r.err != nil {
		return mapChunk{}, fmt.Errorf("decode map chunk of %s by %s: %w", p, writer, r.err)
	}
	if len(c.Runs) > 0 {
		c.First = c.Runs[0].Source
	}
	return c, nil
}

// chunkReader reads a chunk's runs one by one, of either format.
type chunkReader struct {
	run  Run
	left int // runs still to come
	err  error
	of   durableChunk

	coded runReader
	old   decoder // of format 1
	prev  []Run   // by origin, of format 1
}

func newChunkReader(b []byte) *chunkReader {
	r := &chunkReader{}
	d := decoder{b: b}
	switch {
	case len(b) == 0:
		d.err = errShortState
	case b[0] != formatVersion && b[0] != mapVersion:
		d.err = fmt.Errorf("format %d, this build knows %d: %w", b[0], mapVersion, ErrNewerFormat)
	default:
		d.b = b[1:]
	}
	for range d.count() {
		r.coded.origins = append(r.coded.origins, d.str())
	}
	r.left, r.err = d.count(), d.err
	switch {
	case r.err != nil:
	case b[0] == mapVersion:
		r.coded.b = d.b
	default:
		r.old, r.prev = d, make([]Run, len(r.coded.origins))
	}
	return r
}

// next reads the next run; false at the end and behind a fault.
func (r *chunkReader) next() bool {
	switch {
	case r.err != nil:
	case r.left == 0:
		if len(r.coded.b) > 0 {
			r.err = fmt.Errorf("%d bytes are left behind the last run", len(r.coded.b))
		}
	case r.prev != nil:
		return r.nextOld()
	case r.coded.next():
		r.run, r.left = r.coded.last, r.left-1
		return true
	default:
		r.err = cmp.Or(r.coded.err, errShortState)
	}
	return false
}

func (r *chunkReader) nextOld() bool {
	d := &r.old
	o := d.int()
	if d.err == nil && (o < 0 || o >= int64(len(r.prev))) {
		d.err = errShortState
	}
	if d.err == nil {
		n, prev := Run{Origin: r.coded.origins[o]}, &r.prev[o]
		n.Source = r.run.sourceEnd() + d.int()
		n.Target = r.run.targetEnd() + d.int()
		n.Records = d.int()
		n.Epoch = prev.Epoch + int16(d.int())
		n.Count = prev.Count + prev.Records + d.int()
		if d.err == nil && !n.sane() {
			d.err = errShortState
		}
		*prev, r.run, r.left = n, n, r.left-1
	}
	r.err = d.err
	return r.err == nil
}

// durableChunk is a chunk as it is stored.
type durableChunk struct {
	writer string
	first  int64 // source offset in its key
	offset int64 // of its record in the state topic
	value  []byte
}

// chunkReaders is a heap of chunks by the runs that come next in them.
type chunkReaders []*chunkReader

func (h chunkReaders) Len() int { return len(h) }
func (h chunkReaders) Less(a, b int) bool {
	x, y := h[a].run, h[b].run
	return cmp.Or(cmp.Compare(x.Source, y.Source), cmp.Compare(x.Target, y.Target), cmp.Compare(y.Records, x.Records)) < 0
}
func (h chunkReaders) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *chunkReaders) Push(x any)   { *h = append(*h, x.(*chunkReader)) }
func (h *chunkReaders) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// mapOf makes one map of many chunks, which may tell the same. Runs come from each in its order, so that nearly all are put behind the others.
// With an error the map has what could be read.
func mapOf(chunks []durableChunk, anchors []Incarnation) (m OffsetMap, err error) {
	var h chunkReaders
	for _, i := range anchors {
		m.formerEnd = i.leaves(m.formerEnd)
	}
	say := func(r *chunkReader) {
		if r.err != nil && err == nil {
			err = fmt.Errorf("chunk by %s at source offset %d: %w", r.of.writer, r.of.first, r.err)
		}
	}
	for _, c := range chunks {
		r := newChunkReader(c.value)
		r.of = c
		if r.next() {
			h = append(h, r)
		}
		say(r)
	}
	heap.Init(&h)
	for len(h) > 0 {
		r := h[0].run
		for _, i := range anchors {
			r = i.keeps(r)
		}
		m.Add(r)
		if h[0].next() {
			heap.Fix(&h, 0)
			continue
		}
		say(h[0])
		heap.Pop(&h)
	}
	return m, err
}
