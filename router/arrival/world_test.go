package arrival

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// world is a few clusters with a mirror from each to each other, and a router that moves the home of all topics. Each record has a number; what is
// below 1 in a log is a marker, or was compacted.
type world struct {
	*testing.T
	r        *rand.Rand
	clusters []string
	home     int
	parts    map[string][]*part // by topic
	switches []generation.Value
	cuts     map[string][]byte // as they are written
	now      Arrived
	maps     map[string][]*timeline.Map
	records  int
	topics   int // made ever
	places   map[int]int64
	gone     map[int]bool
	away     int  // a cluster that nobody reaches; -1 for none
	lossy    bool // clusters are lost
	lost     int  // switches away from such a home
	tails    int  // records that another home had not got
	again    int  // records that got another virtual offset
	later    int  // switches of partitions that came behind generation 0
	moved    int  // partitions over switches
}

// part is one partition at all clusters.
type part struct {
	logs []log // by cluster
	next [][]int
	from []int         // by record of the partition: where it began; see origin
	at   map[int]int   // number of a record to its place in from
	seen map[int64]int // virtual offset to record
	ever map[int64]int // as seen, also of records that have another by now
	born int           // generation
}

type log struct {
	base int64
	all  []int
	at   map[int]int64
}

func (l *log) end() int64 { return l.base + int64(len(l.all)) }

func (l *log) append(id int) {
	if id > 0 {
		l.at[id] = l.end()
	}
	l.all = append(l.all, id)
}

func newWorld(t *testing.T, seed uint64, clusters ...string) *world {
	w := &world{T: t, r: rand.New(rand.NewPCG(seed, 3)), clusters: clusters, parts: map[string][]*part{}, cuts: map[string][]byte{}, places: map[int]int64{}, away: -1, gone: map[int]bool{}}
	w.topic(1 + w.r.IntN(3))
	return w
}

// topic makes one with some partitions, which has other offsets at each cluster but the home, where it begins at 0. One in four has no records for a while.
func (w *world) topic(n int) {
	w.topics++
	for range n {
		w.grow(fmt.Sprintf("t%d", w.topics))
	}
}

func (w *world) grow(topic string) {
	p := &part{at: map[int]int{}, seen: map[int64]int{}, ever: map[int64]int{}, next: make([][]int, len(w.clusters)), born: len(w.switches)}
	for i := range w.clusters {
		l := log{at: map[int]int64{}}
		if i != w.home && w.r.IntN(2) == 0 {
			for range w.r.IntN(4) * 500 { // shifted, and nothing there
				l.append(0)
			}
		}
		p.logs, p.next[i] = append(p.logs, l), make([]int, len(w.clusters))
	}
	w.parts[topic] = append(w.parts[topic], p)
}

// any is one of the topics.
func (w *world) any() string {
	var names []string
	for name := range w.parts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[w.r.IntN(len(names))]
}

// produce writes to a partition at a cluster, with markers and what is compacted at once in between.
func (w *world) produce(p *part, cluster int) {
	for range w.r.IntN(5) {
		w.records++
		p.at[w.records], p.from = len(p.from), append(p.from, cluster)
		p.logs[cluster].append(w.records)
		if w.r.IntN(6) == 0 {
			p.logs[cluster].append(0)
		}
	}
}

func (w *world) mirror(p *part, from, to, n int) {
	if from == w.away || to == w.away {
		return
	}
	a := &p.logs[from]
	for i := p.next[from][to]; i < len(a.all) && n > 0 && from != to; i++ {
		p.next[from][to] = i + 1
		if id := a.all[i]; id > 0 && p.from[p.at[id]] == from && !w.gone[id] {
			p.logs[to].append(id)
			n--
			if w.r.IntN(40) == 0 {
				p.logs[to].append(0) // a hole that only this cluster has
			}
		}
	}
}

func (w *world) mirrorAll() {
	for _, ps := range w.parts {
		for _, p := range ps {
			for from := range w.clusters {
				for to := range w.clusters {
					w.mirror(p, from, to, 1<<30)
				}
			}
		}
	}
}

// Runs implements [Runs]. It asks both clusters.
func (w *world) Runs(_ context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	if w.away >= 0 && w.clusters[w.away] == from {
		return nil, errAway
	}
	return w.runs(from, at, topic, partition, func(*part, int) bool { return true })
}

// Copied implements [Runs].
func (w *world) Copied(_ context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	return w.runs(from, at, topic, partition, func(p *part, id int) bool { return w.clusters[p.from[p.at[id]]] == from })
}

// Producers implements [Runs].
func (*world) Producers(context.Context, string, string, string, int32) ([]gate.Producer, error) {
	return nil, nil
}

// Reached implements [Mirror]: not all that was copied is written down.
func (w *world) Reached(_ context.Context, from, to, topic string, partition int32) (int64, error) {
	if w.away >= 0 && w.clusters[w.away] == to {
		return 0, errAway
	}
	p, f := w.parts[topic][partition], slices.Index(w.clusters, from)
	n := p.next[f][slices.Index(w.clusters, to)]
	return p.logs[f].base + int64(max(0, n-(n+int(partition)+len(w.switches))%3)), nil // not of w.r: many ask at once
}

var errAway = errors.New("nobody reaches it")

func (w *world) runs(from, at, topic string, partition int32, is func(p *part, id int) bool) ([]timeline.Run, error) {
	ps := w.parts[topic]
	switch {
	case int(partition) >= len(ps) || from == at:
		return nil, errors.New("no such partition")
	case w.away >= 0 && w.clusters[w.away] == at:
		return nil, errAway
	}
	a, b := &ps[partition].logs[slices.Index(w.clusters, from)], &ps[partition].logs[slices.Index(w.clusters, at)]
	var out []timeline.Run
	for i, id := range a.all {
		to, ok := b.at[id]
		if id < 1 || !ok || !is(ps[partition], id) {
			continue
		}
		o := a.base + int64(i)
		if n := len(out); n > 0 && out[n-1].From+out[n-1].Count == o && out[n-1].To+out[n-1].Count == to {
			out[n-1].Count++
			continue
		}
		out = append(out, timeline.Run{From: o, To: to, Count: 1})
	}
	return out, nil
}

func (w *world) request() Request {
	there := map[string]int{}
	for topic, ps := range w.parts {
		there[topic] = len(ps)
	}
	return Request{Router: "r", There: there, First: w.clusters[0], Switches: w.switches, Now: time.Unix(1, 0), Salted: func(id int64) (int64, error) { return id, nil },
		Cut: func(_ context.Context, ref generation.CutRef) (topics []generation.CutTopic, err error) {
			return topics, json.Unmarshal(w.cuts[ref.ID], &topics)
		}}
}

// ends are the ends of all logs at a cluster.
func (w *world) ends(cluster int) map[string][]int64 {
	out := make(map[string][]int64)
	for topic, ps := range w.parts {
		for _, p := range ps {
			out[topic] = append(out[topic], p.logs[cluster].end())
		}
	}
	return out
}

// planned moves the home as a coordinator does.
func (w *world) planned(to int) {
	if to == w.home || to == w.away || w.home == w.away {
		return
	}
	w.mirrorAll()
	lines, err := Timelines(w.Context(), w.request())
	if err != nil {
		w.Fatal(err)
	}
	for home, topics := range Needed(lines, w.clusters[to]) {
		for topic, ends := range topics {
			for p, end := range ends {
				h := slices.Index(w.clusters, home)
				if int(p) < len(w.parts[topic]) && w.parts[topic][p].logs[h].base+int64(w.parts[topic][p].next[h][to]) < end {
					return // a cluster that is away has what the new home would need
				}
			}
		}
	}
	for _, ps := range w.parts {
		for _, p := range ps {
			if w.away >= 0 && p.next[w.away][to] < p.next[w.away][w.home] {
				return // clients know what only that one could bring there
			}
		}
	}
	topics, err := Cut(lines, w.clusters[to], w.ends(w.home), w.ends(to))
	if err == nil {
		err = Unseen(w.Context(), w.request(), w.clusters[w.home], w.clusters[to], lines, topics, func(string) bool { return true }, w)
	}
	if err != nil {
		w.Fatal(err)
	}
	w.move(to, generation.Planned, topics)
}

// cutOff moves the home as a coordinator does that cannot ask the one that is left.
func (w *world) cutOff(to int) {
	if to == w.home {
		return
	}
	w.away = w.home
	lines, err := Timelines(w.Context(), w.request())
	if err != nil {
		w.Fatal(err)
	}
	bound := func(topic string, p int, end int64) int64 {
		for v := range w.parts[topic][p].ever {
			end = max(end, v+1)
		}
		return end + (17*end+int64(p))%50
	}
	topics, err := CutOff(w.Context(), lines, Lost{From: w.clusters[w.home], To: w.clusters[to], Number: int64(len(w.switches)), Own: w.ends(to), First: bound, Back: func(string) bool { return true }}, w)
	if err != nil {
		w.Fatal(err)
	}
	had := make(map[int]bool) // what it had of what was written at the home of its generation
	for topic, ps := range w.parts {
		for n, p := range ps {
			line := timeline.Begin(int64(len(w.switches)), w.clusters[w.home], 0)
			if n < len(lines[topic]) && lines[topic][n] != nil {
				line = lines[topic][n]
			}
			i := slices.IndexFunc(topics, func(t generation.CutTopic) bool { return t.Topic == topic })
			for v, id := range p.seen {
				g := line[0]
				for _, next := range line {
					if next.First <= v {
						g = next
					}
				}
				h := slices.Index(w.clusters, g.Home)
				_, there := p.logs[to].at[id]
				written := h != w.home || g.At(v) < topics[i].Left[n]
				if there && p.from[p.at[id]] == h && written && (h == w.home || h == to) {
					had[id] = true
				}
			}
		}
	}
	w.lost++
	before := w.places
	w.places = map[int]int64{}
	for id := range had {
		if v, ok := before[id]; ok {
			w.places[id] = v
		}
	}
	for _, ps := range w.parts {
		for _, p := range ps {
			for v, id := range p.seen {
				if !had[id] { // it has another place from now on, or none until it comes
					delete(p.seen, v)
					if _, there := p.logs[to].at[id]; there {
						w.again++
					} else {
						w.tails++
					}
				}
			}
		}
	}
	w.move(to, generation.Unplanned, topics)
}

// move decides a switch and builds what it needs.
func (w *world) move(to int, kind generation.Kind, topics []generation.CutTopic) {
	var halves []generation.CutTopic // as a cut that does not fit into one chunk
	for _, t := range topics {
		n := w.r.IntN(len(t.Virtual) + 1)
		one, two := t, t
		one.Virtual, one.Real, one.Left = t.Virtual[:n], t.Real[:n], t.Left[:n]
		two.First, two.Virtual, two.Real, two.Left = n, t.Virtual[n:], t.Real[n:], t.Left[n:]
		if len(t.Had) > 0 {
			one.Had, two.Had = t.Had[:n], t.Had[n:]
		}
		halves = append(halves, one, two)
	}
	w.r.Shuffle(len(halves), func(i, j int) { halves[i], halves[j] = halves[j], halves[i] })
	raw, err := json.Marshal(halves)
	if err != nil {
		w.Fatal(err)
	}
	id := fmt.Sprint(len(w.switches))
	w.cuts[id] = raw
	w.switches = append(w.switches, generation.Value{Kind: kind, Generation: int64(len(w.switches) + 1), From: w.clusters[w.home], Home: w.clusters[to], Cut: generation.CutRef{ID: id}})
	w.home = to
	w.build()
	for _, ps := range w.parts {
		for _, p := range ps {
			w.moved++
			if p.born > 0 {
				w.later++
			}
		}
	}
}

func (w *world) build() {
	a, err := Build(w.Context(), w.request(), w)
	if err != nil {
		w.Fatalf("%v\n%+v\n%s", err, w.switches, w.cuts)
	}
	f, err := fold(w.Context(), w.request())
	if err != nil {
		w.Fatal(err)
	}
	f.runs = w
	if w.maps, err = f.place(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.now = a
}

// virtual is where clients see an offset of the home's log.
func (w *world) virtual(topic string, n int32, real int64) int64 {
	if maps := w.maps[topic]; int(n) < len(maps) && maps[n] != nil {
		for p := range maps[n].All() {
			if p.Real <= real && real < p.Real+p.Count {
				return p.Virtual + real - p.Real
			}
		}
		return -1
	}
	return real
}

// check sees that each record at the home has one virtual offset, that of ever, and that none is another's.
func (w *world) check() {
	if w.home == w.away {
		return
	}
	for topic, ps := range w.parts {
		for n, p := range ps {
			w.checkPart(topic, int32(n), p)
		}
	}
}

func (w *world) checkPart(topic string, n int32, p *part) {
	l := &p.logs[w.home]
	for i, id := range l.all {
		if id < 1 || w.gone[id] {
			continue
		}
		o := l.base + int64(i)
		v := w.virtual(topic, n, o)
		if w.now.Positions != nil {
			if at, known := w.now.Positions.Place(topic, n, v); known && (at.Real != o || at.Virtual != v) {
				w.Fatalf("%s:%d, generation %d: record %d is at %d, virtual %d, and the place of that is %+v", topic, n, len(w.switches), id, o, v, at)
			}
		}
		if v < 0 {
			w.Fatalf("%s:%d, generation %d: record %d is at %d, which no client sees", topic, n, len(w.switches), id, o)
		}
		if was, ok := w.places[id]; ok && was != v {
			w.Fatalf("%s:%d, generation %d: record %d was at virtual offset %d, and is at %d", topic, n, len(w.switches), id, was, v)
		}
		if other, ok := p.ever[v]; ok && other != id {
			w.Fatalf("%s:%d, generation %d: virtual offset %d was record %d, and is %d", topic, n, len(w.switches), v, other, id)
		}
		w.places[id], p.seen[v], p.ever[v] = v, id, id
	}
	for v, id := range p.seen { // all that was shown is here still
		if _, ok := l.at[id]; !ok && !w.gone[id] {
			w.Fatalf("%s:%d, generation %d: record %d at virtual offset %d is not at %s", topic, n, len(w.switches), id, v, w.clusters[w.home])
		}
	}
}

func (w *world) step() {
	topic := w.any()
	p := w.parts[topic][w.r.IntN(len(w.parts[topic]))]
	n := len(w.clusters)
	switch k := w.r.IntN(40); {
	case k < 16:
		if w.home != w.away {
			w.produce(p, w.home)
		}
	case k < 19: // not through the router
		if at := w.r.IntN(n); at != w.away {
			w.produce(p, at)
		}
	case k < 28:
		w.mirror(p, w.r.IntN(n), w.r.IntN(n), w.r.IntN(8))
	case k < 30:
		w.topic(w.r.IntN(3))
	case k < 31:
		if len(w.parts[topic]) < 8 {
			w.grow(topic)
		}
	case k < 32:
		if len(w.parts) > 1 {
			delete(w.parts, topic)
		}
	case k < 33:
		if w.records > 0 {
			w.gone[1+w.r.IntN(w.records)] = true
		}
	case k < 37 || k < 38 && !w.lossy:
		w.planned(w.r.IntN(n))
	case w.away >= 0:
		if w.r.IntN(2) == 0 {
			w.away = -1
		}
	case k < 38:
		w.cutOff(w.r.IntN(n))
	default:
		w.build() // as an instance that comes later
	}
	w.check()
}

// Rule M13: each record keeps its virtual offset in every generation, over random switches between two and three clusters. Where homes are lost, what the next one had not got from them gets
// another one; no offset ever has two records, and each record that a home has is seen there.
func TestWorld_RecordsKeepTheirOffsets(t *testing.T) {
	for _, clusters := range []string{"a b", "a b c"} {
		for name, lossy := range map[string]bool{"": false, " lost": true} {
			t.Run(clusters+name, func(t *testing.T) {
				var all world
				switches := 0
				for seed := range uint64(150) {
					w := newWorld(t, seed, strings.Fields(clusters)...)
					w.lossy = lossy
					for range 80 {
						w.step()
					}
					switches += len(w.switches)
					all.later, all.moved, all.records = all.later+w.later, all.moved+w.moved, all.records+w.records
					all.lost, all.tails, all.again = all.lost+w.lost, all.tails+w.tails, all.again+w.again
				}
				t.Logf("%d switches, %d records, %d timelines over a switch, %d of them of partitions that came later; %d homes lost with %d records, and %d seen again", switches, all.records, all.moved, all.later,
					all.lost, all.tails, all.again)
				if switches < 400 || all.later < 400 || lossy && (all.lost < 100 || all.tails < 100) {
					t.Error("that is too few to tell anything")
				}
			})
		}
	}
}
