package mirror

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

func TestDivide(t *testing.T) {
	ended := func(at int64, next string, epoch int16, origins ...string) laneEnd {
		e := laneEnd{Pump: somePump, At: at, Next: next, Writer: fmt.Sprintf("w%d", at)}
		for _, o := range origins {
			e.Lanes = append(e.Lanes, Lane{Origin: o, Epoch: epoch})
		}
		return e
	}
	anchored := func(epoch int16) Incarnation { return Incarnation{Epoch: epoch, anchor: &anchorage{}} }
	held := func(origins ...string) map[string]bool {
		m := make(map[string]bool)
		for _, o := range origins {
			m[o] = true
		}
		return m
	}
	// The pump is of us→ap and copies what us produces. eu→ap has what comes over eu: of eu itself and of no. sa→ap has begun long ago.
	heirs := map[string]heir{"eu": {source: "eu"}, "no": {source: "eu"}, "sa": {source: "sa", begun: true}}
	for _, tc := range []struct {
		name    string
		held    map[string]bool
		facts   laneFacts
		carries []string
		copies  string // origin:offset, for offsets 9 and 10
		surplus string
		again   string // regained
	}{
		{"it copied nothing of others", held("us"), laneFacts{}, []string{"us"}, "us:9 us:10", "", ""},
		{"an origin that it copied goes on, with all that comes the same way", held("us", "eu"), laneFacts{}, []string{"us"},
			"eu:9 eu:10 no:9 no:10 us:9 us:10", "eu no", ""},
		{"another link has copied it since before there were ends", held("us", "sa"), laneFacts{}, []string{"us"}, "us:9 us:10", "", ""},
		{"nobody copies it any more", held("us", "xx"), laneFacts{}, []string{"us"}, "us:9 us:10 xx:9 xx:10", "", ""},
		{"its end is decided", held("us", "eu"), laneFacts{ends: []laneEnd{ended(10, "eu", 0, "eu", "no")}}, []string{"us"},
			"eu:9 no:9 us:9 us:10", "", ""},
		{"the first decision counts", held("us", "eu"), laneFacts{ends: []laneEnd{ended(10, "eu", 0, "eu", "no"), ended(5, "eu", 0, "eu", "no")}}, []string{"us"},
			"eu:9 no:9 us:9 us:10", "", ""},
		{"an epoch that is no anchor voids nothing", held("us", "eu"), laneFacts{ends: []laneEnd{ended(10, "eu", 0, "eu")}}, []string{"us"},
			"eu:9 us:9 us:10", "", ""},
		{"an anchor voids it, and the routes decide", held("us", "eu"), laneFacts{ends: []laneEnd{ended(10, "eu", 1, "eu")}, anchors: []Incarnation{anchored(2)}},
			[]string{"us"}, "us:9 us:10", "", ""},
		{"an anchor before it does not", held("us", "eu"), laneFacts{ends: []laneEnd{ended(10, "eu", 2, "eu")}, anchors: []Incarnation{anchored(2)}},
			[]string{"us"}, "eu:9 us:9 us:10", "", ""},
		{"the routes give it back", held("us", "eu"), laneFacts{ends: []laneEnd{ended(10, "eu", 0, "eu")}}, []string{"us", "eu"}, "eu:9 us:9 us:10", "", "eu"},
		{"and somebody says where to go on", held("us", "eu"), laneFacts{ends: []laneEnd{ended(10, "eu", 0, "eu")}, anchors: []Incarnation{anchored(1)}},
			[]string{"us", "eu"}, "eu:9 eu:10 us:9 us:10", "", ""},
	} {
		origins := []string{"eu", "no", "sa", "us", "xx"}
		w := divide(origins, tc.held, tc.facts, func(o string) bool { return slices.Contains(tc.carries, o) }, func(o string) heir { return heirs[o] })
		var copies []string
		for _, o := range origins {
			for at := range int64(2) {
				if w.copies(o, 9+at, slices.Contains(tc.carries, o)) {
					copies = append(copies, fmt.Sprintf("%s:%d", o, 9+at))
				}
				if w.gaveUp(o, 9+at) && w.copies(o, 9+at, true) {
					t.Errorf("%s: %s at %d is given up and copied", tc.name, o, 9+at)
				}
			}
		}
		surplus := slices.Sorted(maps.Keys(w.surplus))
		if got := fmt.Sprint(copies, surplus, w.regained); got != fmt.Sprintf("[%s] [%s] [%s]", tc.copies, tc.surplus, tc.again) {
			t.Errorf("%s: %s, want [%s] [%s] [%s]", tc.name, got, tc.copies, tc.surplus, tc.again)
		}
	}
}

// Own batches of an origin on the target, of which no checkpoint tells, are the pump's until it gives that up.
func TestPump_StrangersAreItsOwn(t *testing.T) {
	l := linkOf(t, fabricOf(t, "eu>us", "us>ap", "eu>ap"), "us>ap", Config{}, time.Now)
	id := PumpID{From: "us", To: "ap", Topic: "orders"}
	f := l.flow("orders")
	f.grow(1)
	p := l.newPump(f, Checkpoint{Pump: id, TargetLast: -1})
	f.put(p)
	if w := f.waysOf(0, l.routing()); w != nil {
		t.Fatalf("before it has copied anything it goes by the routes, not by %+v", w)
	}
	if p.stranger("us") {
		t.Error("what it copies by the routes is no stranger")
	}
	if !p.stranger("eu") || p.stranger("eu") {
		t.Error("an origin that it does not copy is one, and then known")
	}
	w := f.waysOf(0, l.routing())
	if w == nil || !w.copies("eu", 1<<40, false) || !w.lingering() || w.surplus["eu"] != "eu" {
		t.Errorf("it copies on what is its own, to give it up: %+v", w)
	}
}

func TestInherit(t *testing.T) {
	at := func(place int64) brought {
		return brought{link: "us-ap", origin: "eu", ended: true, known: true, succession: succession{Place: place, Why: "why not"}}
	}
	for _, tc := range []struct {
		name string
		all  []brought
		want inheritance
	}{
		{"nobody copied it", nil, inheritance{}},
		{"a place", []brought{at(7)}, inheritance{place: 7, heir: true}},
		{"the place of two origins", []brought{at(7), at(7)}, inheritance{place: 7, heir: true}},
		{"two places", []brought{at(7), at(8)}, inheritance{place: 8, heir: true, lost: "other links stopped at offsets 7 and 8"}},
		{"no place", []brought{at(-1)}, inheritance{lost: "why not"}},
		{"not given up", []brought{{link: "us-ap", origin: "eu"}}, inheritance{waits: "link us-ap has not given up yet what was produced in eu"}},
		{"given up", []brought{{link: "us-ap", origin: "eu", ended: true}},
			inheritance{waits: "link us-ap has given up what was produced in eu; how far that is on its source is being found out"}},
		{"gone before", []brought{{link: "us-ap", origin: "eu", gone: true}},
			inheritance{lost: "link us-ap brought what was produced in eu, and was taken away before it gave that up"}},
		{"gone when it had said all", []brought{{link: "us-ap", origin: "eu", gone: true, ended: true, known: true, succession: succession{Place: 7}}}, inheritance{place: 7, heir: true}},
	} {
		got := inherit(tc.all)
		if tc.name == "two places" {
			got.place = 8 // which of them is of no interest
		}
		if got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestStoppedAt(t *testing.T) {
	m := func(next, from int64, runs ...Run) *storedMap {
		s := &storedMap{next: next, from: from}
		for _, r := range runs {
			s.offsets.Add(r)
		}
		return s
	}
	for _, tc := range []struct {
		name         string
		m            *storedMap
		last         int64
		source, next int64
		err          string
	}{
		{"the last record", m(5, 5, run(0, 0, 5)), 4, 4, 5, ""},
		{"a hole behind it", m(9, 9, run(0, 0, 5), run(7, 5, 2)), 4, 4, 5, ""},
		{"another's record behind it", m(9, 9, run(0, 0, 5), run(5, 6, 2)), 4, 4, 5, ""},
		{"an earlier record comes behind it", m(9, 9, run(0, 0, 3), run(4, 3, 2), run(3, 5, 1)), 4, 5, 3, ""},
		{"not read yet", m(5, 5, run(0, 0, 5)), 5, 0, 0, "the offset map does not reach target offset 5 yet"},
		{"not in it", m(9, 9, run(0, 0, 3), run(4, 4, 5)), 3, 0, 0, "the offset map does not know the record at target offset 3"},
		{"trimmed", m(9, 9), 3, 0, 0, "the offset map does not know the record at target offset 3"},
	} {
		source, next, err := stoppedAt(tc.m, tc.last)
		if source != tc.source || next != tc.next || fmt.Sprint(err) != tc.err && (err != nil || tc.err != "") {
			t.Errorf("%s: %d, %d, %v, want %d, %d, %q", tc.name, source, next, err, tc.source, tc.next, tc.err)
		}
	}
}

// What another owner wrote of an origin that was given up is counted and named, and moves no place; of one that the pump copies it is its own.
func TestFinder_NamesWhatComesAfterTheEnd(t *testing.T) {
	h := header(t, rawBatch(batchSpec{base: 20, sequence: 5, records: records(20, 3)}))
	fd := newFinder(Checkpoint{Pump: somePump, SourceNext: 40, TargetLast: 9, TargetFrom: 10, Lanes: []Lane{{Origin: "ap", Count: 4}, {Origin: "eu", Count: 7}}})
	fd.gaveUp = func(origin string, at int64) bool { return origin == "ap" && at >= 40 }
	fd.next = func() (*sourceBatch, error) { return nil, io.EOF }
	fd.stranger = func(origin string) bool { return origin == "sa" }
	if err := fd.own(h, nil, "ap"); err != nil {
		t.Fatal(err)
	}
	want := []Run{{Target: 20, Origin: "ap", Count: 5, Records: 3}}
	if fd.at.SourceNext != 40 || fd.at.TargetFrom != 23 || fd.at.lane("ap").Count != 8 || !slices.Equal(fd.overruns, want) {
		t.Errorf("place %+v, overruns %+v, want %+v", fd.at, fd.overruns, want)
	}
	var stranger *strangerError
	if err := fd.own(h, nil, "sa"); !errors.As(err, &stranger) || stranger.origin != "sa" {
		t.Errorf("own batches of an origin that it does not copy: %v", err)
	}
}

// A broker that tells its producers knows of a relay's first copies before the relay has noted them.
func TestRelayIn(t *testing.T) {
	l := linkOf(t, fabricOf(t, "eu>us", "us>ap", "eu>ap", "ap>sa"), "eu>ap", Config{}, time.Now)
	r, id := l.routing(), PumpID{From: "eu", To: "ap", Topic: "orders"}
	by := func(ids ...int64) (all []broker.ProducerState) {
		for _, id := range ids {
			all = append(all, broker.ProducerState{ID: id})
		}
		return all
	}
	if from, origin, ok := relayIn(r, l.spec, id, by(7, r.ids["us"]["us"], r.ids["eu"]["eu"], r.ids["us"]["eu"])); !ok || from != "us" || origin != "eu" {
		t.Errorf("copies of eu from us: %q, %q, %v", from, origin, ok)
	}
	if from, origin, ok := relayIn(r, l.spec, id, by(7, -1, r.ids["us"]["us"], r.ids["eu"]["eu"], r.ids["us"]["ap"])); ok {
		t.Errorf("%q of %q, though each link has copied its own", from, origin)
	}
}

// A place that is taken over may tell of origins that no checkpoint told of: they are the pump's until it gives them up.
func TestPump_TakesOverWhatIsNotNotedYet(t *testing.T) {
	l := linkOf(t, fabricOf(t, "eu>us", "us>ap", "eu>ap"), "us>ap", Config{}, time.Now)
	id := PumpID{From: "us", To: "ap", Topic: "orders"}
	f := l.flow("orders")
	f.grow(1)
	p := l.newPump(f, Checkpoint{Pump: id, TargetLast: -1})
	p.held = "before"
	f.put(p)
	if w := f.waysOf(0, l.routing()); w != nil {
		t.Fatalf("before it has copied anything it goes by the routes, not by %+v", w)
	}
	safe := Checkpoint{Pump: id, SourceNext: 5, TargetLast: 4, TargetFrom: 5, Lanes: []Lane{{Origin: "eu", Count: 5}}}
	p.takeOver(gift{have: true, safe: safe}, time.Now())
	if w := f.waysOf(0, l.routing()); w == nil || !w.lingering() {
		t.Errorf("it would leave lying what it holds of eu: %+v", w)
	}
}

// An end that an anchor has voided is decided anew, also at the same place by the same owner.
func TestStore_DecidesAVoidedEndAnew(t *testing.T) {
	s := memoryStore()
	first := laneEnd{Pump: somePump, At: 5, Next: "ap", Lanes: []Lane{{Origin: "ap", Count: 5}}, Writer: "a"}
	other := laneEnd{Pump: somePump, At: 7, Next: "ap", Lanes: []Lane{{Origin: "ap", Count: 7}}, Writer: "b"}
	for n, e := range []laneEnd{first, other, first} {
		s.take(topicCheckpoints, recordOf(int64(n), e.key(), e.encode()))
	}
	if e, ended, _ := s.laneFacts(somePump).of("ap"); !ended || e.At != 5 {
		t.Fatalf("decided at %d, %v; want the first in offset order, however often it was written", e.At, ended)
	}
	i := anchoredAt(1, 4, anchorage{sourceCut: noCut, targetCut: noCut}, "ap")
	s.take(topicCheckpoints, recordOf(3, i.key(), i.encode()))
	if e, ended, ever := s.laneFacts(somePump).of("ap"); ended || !ever {
		t.Fatalf("%+v is decided, %v; want it voided", e, ever)
	}
	again := first
	again.Lanes = []Lane{{Origin: "ap", Epoch: 1, Count: 5}}
	s.take(topicCheckpoints, recordOf(4, again.key(), again.encode()))
	if e, ended, _ := s.laneFacts(somePump).of("ap"); !ended || e.Lanes[0].Epoch != 1 {
		t.Errorf("%+v, %v; want the one of the new epoch", e, ended)
	}
}

// What was given up stays so when a link elsewhere gives the topic another name, and positions are told over the way before as they were.
func TestWays_DecidedHoldsUnderOtherNames(t *testing.T) {
	file := "[fabric]\nname = \"test\"\n"
	for i, c := range []string{"eu", "us", "ap", "sa"} {
		file += fmt.Sprintf("[[cluster]]\nname = %q\nbootstrap = [\"127.0.0.1:%d\"]\n", c, 9001+i)
	}
	for _, l := range [][2]string{{"eu", "us"}, {"us", "ap"}, {"eu", "ap"}, {"ap", "sa"}} {
		file += fmt.Sprintf("[[link]]\nfrom = %q\nto = %q\ntopics = [\"*\"]\n", l[0], l[1])
	}
	renamed, err := topology.Parse("test.toml", []byte(file+"prefix = \"far.\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if renamed.SameName("orders") {
		t.Fatal("it is to have another name somewhere")
	}
	l := linkOf(t, renamed, "us>ap", Config{}, time.Now)
	id := PumpID{From: "us", To: "ap", Topic: "orders"}
	f := l.flow("orders")
	f.grow(1)
	f.put(l.newPump(f, Checkpoint{Pump: id, SourceNext: 4, TargetLast: 3, TargetFrom: 4, Lanes: []Lane{{Origin: "eu", Count: 4}}}))
	end := laneEnd{Pump: id, At: 5, Next: "eu", Lanes: []Lane{{Origin: "eu", Count: 5}}, Writer: "a"}
	l.store.take(topicCheckpoints, recordOf(1, end.key(), end.encode()))
	if w := f.waysOf(0, l.routing()); w == nil || !w.copies("eu", 4, false) || w.copies("eu", 5, true) || w.lingering() {
		t.Errorf("what was decided does not hold: %+v", w)
	}

	maps := map[string]*worldMap{"eu>us": {}, "us>ap": {}, "eu>ap": {before: []inherited{{via: "us", origins: []string{"eu"}, place: 5}}}}
	for hop, r := range map[string]Run{"eu>us": run(0, 0, 5), "us>ap": run(0, 0, 5), "eu>ap": run(5, 5, 5)} {
		r.Origin = "eu"
		maps[hop].Add(r)
	}
	get := func(from, to, _ string, _ int32) (mapView, bool) { m, ok := maps[from+">"+to]; return m, ok }
	got, err := translate(renamed, get, way{"eu", "ap", "orders", "orders"}, 0, 2)
	if err != nil || got.Result != 2 {
		t.Errorf("offset 2 of eu goes on at %d of ap, %v; want 2: the relay had brought that", got.Result, err)
	}
}

// An end of no lanes is none: who looks at ends asks for the first of them.
func TestDecodeLaneEnd_OfNoLanes(t *testing.T) {
	if e, err := decodeLaneEnd(somePump, "a", (laneEnd{At: 5, Next: "ap"}).encode()); err == nil {
		t.Errorf("%+v is taken", e)
	}
}

// The last looks behind two ends do not wait for each other.
func TestCalming_OfTwoEnds(t *testing.T) {
	var c calming
	now := time.UnixMilli(1_700_000_000_000)
	for _, which := range []string{"5/eu", "5/sa"} {
		if over, due, began := c.of(which, now); over || due || !began {
			t.Fatalf("%s: over %v, due %v, began %v; want it to begin", which, over, due, began)
		}
	}
	now = now.Add(calmFor)
	c.looked(now)
	for _, which := range []string{"5/eu", "5/sa"} {
		if over, due, began := c.of(which, now); !over || !due || began {
			t.Errorf("%s: over %v, due %v, began %v; want it to be over", which, over, due, began)
		}
	}
}
