package timeline

import (
	"math"
	"math/rand/v2"
	"testing"
)

// world is a few clusters with a mirror from each to each other, one partition, and a router that moves its home. Each record has a number; what is below 1 in a
// log is a marker.
type world struct {
	*testing.T
	r        *rand.Rand
	clusters []*cluster
	home     int
	line     Timeline
	m        *Map
	bound    int64 // reserved: nothing at or above it was shown
	origin   []int // by record, 1 is the first
	gone     map[int]bool
	tail     map[int]bool // was missing at a home when it began
	places   map[int]map[int64]bool
	taken    map[int64]int // virtual offset to record
	readers  []*consumer
	kind     uint64
	changes
}

// changes counts those of the home.
type changes struct {
	next          Timeline // the one that is tried
	planned, lost int
	returned      int // to a home with a tail that nobody else had
}

type cluster struct {
	name  string
	base  int64
	start int64
	log   []int
	at    map[int]int64 // offset of a record
	next  []int         // by target: index of what is copied next
	down  bool
}

func (c *cluster) end() int64 { return c.base + int64(len(c.log)) }

func (c *cluster) has(id int) bool {
	_, ok := c.at[id]
	return ok
}

func (c *cluster) append(id int) {
	if id > 0 {
		c.at[id] = c.end()
	}
	c.log = append(c.log, id)
}

func newWorld(t *testing.T, seed uint64, clusters int) *world {
	w := &world{T: t, kind: seed / 2 % 4, r: rand.New(rand.NewPCG(seed, 7)), origin: []int{0}, gone: map[int]bool{}, tail: map[int]bool{}, places: map[int]map[int64]bool{}, taken: map[int64]int{}}
	for i := range clusters {
		c := &cluster{name: string(rune('a' + i)), at: map[int]int64{}, next: make([]int, clusters)}
		c.base = int64(w.r.IntN(50))
		c.start = c.base
		w.clusters = append(w.clusters, c)
	}
	w.line = Begin(0, "a", w.clusters[0].base)
	w.bound = w.clusters[0].base
	w.build()
	w.reader()
	return w
}

func (w *world) at() *cluster { return w.clusters[w.home] }

func (w *world) produce() {
	for range w.r.IntN(6) {
		w.origin = append(w.origin, w.home)
		w.at().append(len(w.origin) - 1)
		if w.r.IntN(8) == 0 {
			w.at().append(0)
		}
	}
	w.reserve()
}

// reserve is what a router does before it shows or acknowledges anything.
func (w *world) reserve() {
	for w.m.Least(w.at().end()) > w.bound {
		w.bound += 16
	}
}

// mirror copies up to n records from one cluster to another.
func (w *world) mirror(from, to, n int) {
	a, b := w.clusters[from], w.clusters[to]
	for a.next[to] < len(a.log) && n > 0 && !a.down && !b.down && from != to {
		id := a.log[a.next[to]]
		if a.next[to]++; id > 0 && w.origin[id] == from && !w.gone[id] {
			b.append(id)
			n--
		}
	}
}

func (w *world) mirrorAll() {
	for from := range w.clusters {
		for to := range w.clusters {
			w.mirror(from, to, math.MaxInt)
		}
	}
}

// runs is what the offset maps of all mirrors tell together: where the records of one log are in another.
func (w *world) runs(from, to *cluster) []Run {
	out := []Run{}
	for i, id := range from.log {
		at, ok := to.at[id]
		if id < 1 || !ok {
			continue
		}
		o := from.base + int64(i)
		if n := len(out); n > 0 && out[n-1].From+out[n-1].Count == o && out[n-1].To+out[n-1].Count == at {
			out[n-1].Count++
			continue
		}
		out = append(out, Run{From: o, To: at, Count: 1})
	}
	w.r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// build makes the map of now, and sees that each record of the home's log is in exactly one piece.
func (w *world) build() {
	m, err := Build(w.line, w.allRuns(w.line))
	if err != nil {
		w.Fatalf("%v\n%+v", err, w.line)
	}
	w.m = m
	for i, id := range w.at().log {
		if o := w.at().base + int64(i); id > 0 && !w.gone[id] {
			if v := w.virtual(o); len(v) != 1 {
				w.Fatalf("record %d, at %d of home %s, has virtual offsets %d\n%+v\n%+v", id, o, w.at().name, v, w.line, m.pieces)
			}
		}
	}
}

func (w *world) allRuns(line Timeline) map[int64][]Run {
	runs := map[int64][]Run{}
	for _, g := range line {
		if g.Home != w.at().name {
			runs[g.Number] = w.runs(w.named(g.Home), w.at())
		}
	}
	return runs
}

// check holds what is answered about positions to the log itself.
func (w *world) check() {
	c := w.at()
	v := w.r.Int64N(w.m.Least(c.end()) + 2)
	below, real := w.m.Below(v), c.base+w.r.Int64N(int64(len(c.log)+2))
	least := w.m.Least(real)
	for i, id := range c.log {
		o := c.base + int64(i)
		if id < 1 || w.gone[id] {
			continue
		}
		at := w.virtual(o)[0]
		if at >= v && o < below {
			w.Fatalf("below %d deletes record %d at %d, which is virtual %d, at or behind %d\n%+v", below, id, o, at, v, w.m.pieces)
		}
		if o >= real && at < least {
			w.Fatalf("least of %d is %d, and record %d at %d is virtual %d\n%+v", real, least, id, o, at, w.m.pieces)
		}
		if p, _ := w.m.Place(at, c.start); o >= c.start && (p.Virtual != at || p.Real != o) {
			w.Fatalf("record %d is at %d, virtual %d, and the place is %+v\n%+v", id, o, at, p, w.m.pieces)
		}
	}
	commit := w.m.Commit(v)
	if got, trust := w.m.Committed(commit.Real, &commit); got != v || trust != Kept {
		w.Fatalf("committed %d, then it is %d, %d", v, got, trust)
	}
}

func (w *world) virtual(real int64) (out []int64) {
	for p := range w.m.All() {
		if p.Real <= real && real < p.realEnd() {
			out = append(out, p.Virtual+real-p.Real)
		}
	}
	return out
}

func (w *world) named(name string) *cluster { return w.clusters[name[0]-'a'] }

// plannedChange moves the home as planned, if the new home can have all of it.
func (w *world) plannedChange(to int) {
	if to == w.home || w.clusters[to].down {
		return
	}
	w.mirrorAll()
	for _, id := range w.at().log {
		if _, ok := w.clusters[to].at[id]; id > 0 && !ok && !w.gone[id] {
			return
		}
	}
	w.change(Planned(w.clusters[to].name, w.m.Least(w.at().end()), w.clusters[to].end()), to)
	w.planned++
}

// lose moves the home because it is lost.
func (w *world) lose(to int) {
	if to == w.home || w.clusters[to].down {
		return
	}
	old, c, now := w.at(), w.clusters[to], w.line.Now()
	l := Change{Home: c.name, End: now.First, Bound: w.bound, Real: c.end(), Own: c.end()}
	for i, id := range old.log {
		if o := old.base + int64(i); id > 0 && o >= now.Real && c.has(id) {
			l.End = now.Virtual(o) + 1
		}
	}
	for i, g := range w.line {
		if g.End == Running {
			g.End = now.Virtual(old.end())
		}
		l.Missing = append(l.Missing, w.missing(w.line[i], g.End, c)...)
	}
	old.down = true
	l.Bound = max(l.Bound, l.End)
	l.First = l.Bound + w.r.Int64N(3)
	w.change(l, to)
	w.lost++
}

// missing is what of a generation is not at a cluster. In some worlds it is what the mirror's runs say, which do not know markers; in some it is coarse.
func (w *world) missing(g Generation, end int64, c *cluster) (out []Span) {
	home := w.named(g.Home)
	for v := g.First; v < end; v++ {
		if id := home.log[g.At(v)-home.base]; id > 0 && !c.has(id) && !w.gone[id] {
			out = append(out, Span{First: v, End: v + 1})
		}
	}
	if w.kind == 1 && home != c {
		out = g.Uncopied(w.runs(home, c), g.Real, g.At(end))
	}
	if w.kind == 2 {
		out = Coarsen(out, 1)
	}
	for _, s := range out {
		for v := s.First; v < s.End; v++ {
			w.tail[home.log[g.At(v)-home.base]] = true
		}
	}
	return out
}

// change looks whether the new home has a tail, and makes the change then.
func (w *world) change(c Change, to int) {
	w.home = to
	try := func() *Map {
		line, err := w.line.Next(c)
		if err != nil {
			w.Fatal(err)
		}
		m, err := Build(line, w.allRuns(line))
		if err != nil {
			w.Fatalf("%v\n%+v", err, line)
		}
		w.m, w.next = m, line
		return m
	}
	if gaps := try().Gaps(w.at().base, c.Own); len(gaps) > 0 {
		c.Real = gaps[0].Real
		try()
		w.returned++
	}
	w.line, w.bound = w.next, max(w.bound, c.First)
	w.build()
}

// consumer reads everything from a position on.
type consumer struct {
	name   int
	pos    int64
	seen   map[int]bool
	passed map[int]bool // lay before it when it began
}

// reader begins a new one, at the beginning or where a record is.
func (w *world) reader() {
	r := &consumer{name: len(w.readers), pos: w.m.Start(w.at().start), seen: map[int]bool{}, passed: map[int]bool{}}
	if len(w.at().log) > 0 && w.r.IntN(2) == 0 {
		r.pos = max(r.pos, w.m.Least(w.at().base+w.r.Int64N(int64(len(w.at().log)))))
	}
	for i, id := range w.at().log {
		if id > 0 && !w.gone[id] && w.virtual(w.at().base + int64(i))[0] < r.pos {
			r.passed[id] = true
		}
	}
	w.readers = append(w.readers, r)
}

// fetch is one Fetch of a reader: batches of random sizes, of which at most some are in the answer. It tells whether anything was shown.
func (w *world) fetch(r *consumer) bool {
	c := w.at()
	w.reserve()
	for ask := r.pos; ; {
		place, ok := w.m.Place(ask, c.start)
		if !ok {
			if r.pos = w.m.Start(c.start); ask < r.pos { // auto.offset.reset = earliest
				ask = r.pos
				continue
			}
			w.Fatalf("reader %d: %d is out of range, and the log starts at %d", r.name, ask, r.pos)
		}
		shown, before := 0, int64(-1)
		first := max(c.start, place.Real-w.r.Int64N(3))
		for budget := 1 + w.r.IntN(12); first < c.end() && budget > 0; budget-- {
			last := min(c.end()-1, max(first, place.Real)+w.r.Int64N(4))
			show := place.Batch(first, last)
			if show == Behind {
				break
			}
			for o := first; o <= last && show != Before; o++ {
				if show == Part && (o < place.From || o >= place.End) {
					continue
				}
				if place.Offset(o) <= before {
					w.Fatalf("virtual offset %d behind %d in one answer, from %+v", place.Offset(o), before, place)
				}
				before = place.Offset(o)
				shown += w.show(r, before, c.log[o-c.base])
			}
			first = last + 1
		}
		if shown > 0 {
			return true
		}
		if first < min(place.End, c.end()) {
			ask = place.Offset(first) // nothing but holes so far
		} else if ask = place.Next; ask == math.MaxInt64 {
			return false
		}
	}
}

// show gives a record to the client, which leaves out what is before its position.
func (w *world) show(r *consumer, v int64, id int) int {
	if v < r.pos || id < 1 || w.gone[id] {
		return 0
	}
	if other, ok := w.taken[v]; ok && other != id {
		w.Fatalf("virtual offset %d was record %d, and is %d\n%+v", v, other, id, w.line)
	}
	if w.taken[v] = id; w.places[id] == nil {
		w.places[id] = map[int64]bool{}
	}
	if w.places[id][v] = true; r.seen[id] && !w.tail[id] {
		w.Fatalf("reader %d sees record %d again, at %d\n%+v\n%+v", r.name, id, v, w.line, w.m.pieces)
	}
	if v >= w.bound {
		w.Fatalf("virtual offset %d was shown, and only those below %d are reserved", v, w.bound)
	}
	r.seen[id], r.pos = true, v+1
	return 1
}

func (w *world) drain() {
	for _, r := range w.readers {
		for w.fetch(r) {
		}
	}
}

// finish ends all troubles and looks at what the readers have seen.
func (w *world) finish() {
	for _, c := range w.clusters {
		c.down = false
	}
	w.mirrorAll()
	w.reserve()
	w.drain()
	for _, r := range w.readers {
		for id := 1; id < len(w.origin); id++ {
			if !r.seen[id] && !r.passed[id] && !w.gone[id] {
				w.Fatalf("reader %d never saw record %d\n%+v\n%+v", r.name, id, w.line, w.m.pieces)
			}
		}
	}
	for id, places := range w.places {
		if len(places) > 1 && !w.tail[id] {
			w.Errorf("record %d was at virtual offsets %v, and was never in a tail", id, places)
		}
	}
}

func (w *world) step() {
	n := len(w.clusters)
	w.check()
	switch k := w.r.IntN(40); {
	case k < 10:
		w.produce()
	case k < 22:
		w.mirror(w.r.IntN(n), w.r.IntN(n), w.r.IntN(8))
	case k < 30:
		w.fetch(w.readers[w.r.IntN(len(w.readers))])
	case k < 32:
		if len(w.readers) < 6 {
			w.reader()
		}
	case k < 34:
		w.plannedChange(w.r.IntN(n))
	case k < 35:
		w.lose(w.r.IntN(n))
	case k < 37:
		w.clusters[w.r.IntN(n)].down = false
	case k < 38: // a compaction somewhere
		if len(w.origin) > 1 {
			w.gone[1+w.r.IntN(len(w.origin)-1)] = true
		}
	case k < 39: // retention
		c := w.clusters[w.r.IntN(n)]
		if len(c.log) > 20 && w.r.IntN(4) == 0 {
			for to := max(c.start, c.base+int64(w.r.IntN(len(c.log)/2))); c.start < to; c.start++ {
				w.gone[c.log[c.start-c.base]] = true
			}
		}
	}
}
