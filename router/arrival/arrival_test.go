package arrival

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// told is what a mirror knows, by "from at".
type told map[string][]timeline.Run

func (m told) Runs(_ context.Context, from, at, _ string, _ int32) ([]timeline.Run, error) {
	runs, ok := m[from+" "+at]
	if !ok {
		return nil, fmt.Errorf("no link between %s and %s", from, at)
	}
	return runs, nil
}

func (told) Producers(context.Context, string, string, string, int32) ([]gate.Producer, error) {
	return nil, nil
}

func (m told) Copied(ctx context.Context, from, at, topic string, partition int32) ([]timeline.Run, error) {
	return m.Runs(ctx, "only "+from, at, topic, partition)
}

// request is one of switches like "planned b" from a on, and of their cuts.
func request(cuts []any, switches ...string) Request {
	r := Request{Router: "r", Set: "s", First: "a", Now: time.Unix(1, 0), Salted: func(id int64) (int64, error) { return id, nil }}
	home := r.First
	for i, s := range switches {
		kind, to, _ := strings.Cut(s, " ")
		r.Switches = append(r.Switches, generation.Value{Kind: generation.Kind(kind), Generation: int64(i + 1), From: home, Home: to, Cut: generation.CutRef{ID: fmt.Sprint(i)}})
		home = to
	}
	r.Cut = func(_ context.Context, ref generation.CutRef) ([]generation.CutTopic, error) {
		for i, c := range cuts {
			if err, failed := c.(error); ref.ID == fmt.Sprint(i) && failed {
				return nil, err
			}
			if ref.ID == fmt.Sprint(i) {
				return c.([]generation.CutTopic), nil
			}
		}
		return nil, generation.ErrCut
	}
	return r
}

// cut is that of the first partitions of a topic: virtual, real and left of each.
func cut(topic string, places ...[3]int64) []generation.CutTopic {
	t := generation.CutTopic{Topic: topic}
	for _, p := range places {
		t.Virtual, t.Real, t.Left = append(t.Virtual, p[0]), append(t.Real, p[1]), append(t.Left, p[2])
	}
	return []generation.CutTopic{t}
}

func TestBuild_Generation0HasNothing(t *testing.T) {
	if a, err := Build(t.Context(), request(nil), nil); err != nil || a.Positions != nil || a.Producers != nil {
		t.Errorf("%+v, %v", a, err)
	}
}

// A topic that comes in generation 1 is known by us's own offsets, and begins there when the home goes back; what was deleted meanwhile, and comes again under
// its name, begins anew.
func TestTimelines_PartitionsThatComeAndGo(t *testing.T) {
	old, late, late2 := cut("old", [3]int64{10, 1000, 10}), cut("late", [3]int64{5, 700, 5}), cut("late", [3]int64{7, 5, 702})
	r := request([]any{old, append(cut("old", [3]int64{12, 10, 1002}, [3]int64{0, 0, 0}), late...), append(cut("old", [3]int64{12, 1002, 10}), late2...)}, "planned b", "back a", "planned b")
	got, err := Timelines(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	g := func(number int64, home string, first, real, end int64) timeline.Generation {
		bound := end
		if end == timeline.Running {
			bound = 0
		}
		return timeline.Generation{Number: number, Home: home, First: first, Real: real, Own: real, End: end, Bound: bound}
	}
	want := map[string][]timeline.Timeline{
		"old":  {{g(0, "a", 0, 0, 10), g(1, "b", 10, 1000, 12), g(2, "a", 12, 10, 12), g(3, "b", 12, 1002, timeline.Running)}},
		"late": {{g(1, "b", 0, 0, 5), g(2, "a", 5, 700, 7), g(3, "b", 7, 5, timeline.Running)}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
	without := request([]any{cut("x", [3]int64{10, 1000, 10}), cut("y", [3]int64{3, 4, 3}), cut("x", [3]int64{2, 2000, 2})}, "planned b", "back a", "planned b")
	if got, err = Timelines(t.Context(), without); err != nil || len(got) != 1 || !reflect.DeepEqual(got["x"], []timeline.Timeline{{g(2, "a", 0, 0, 2), g(3, "b", 2, 2000, timeline.Running)}}) {
		t.Errorf("deleted, and there again: %+v, %v", got, err)
	}
	r.There = map[string]int{"late": 1}
	if got, err = Timelines(t.Context(), r); err != nil || len(got) != 1 || !reflect.DeepEqual(got["late"], want["late"]) {
		t.Errorf("what is not there any more: %+v, %v", got, err)
	}
}

// reaching is a mirror that has reached some offsets, by "from to".
type reaching struct {
	told
	reached map[string]int64
}

func (m reaching) Reached(_ context.Context, from, to, _ string, _ int32) (int64, error) {
	at, ok := m.reached[from+" "+to]
	if !ok {
		return 0, fmt.Errorf("no link from %s to %s", from, to)
	}
	return at, nil
}

// What the new home had at an unplanned switch is written down, so that it is the same whenever it is asked for, also when the tail has come: that has offsets of the new generation.
func TestCutOff_IsTheSameLater(t *testing.T) {
	// a had 100 records; b had 0 to 49 and 53 to 59, at 1000 and 1050, when it became home, and 62 and 63, which nobody had written down. Then it got 30 of its own, and the tail.
	then := []timeline.Run{{From: 0, To: 1000, Count: 50}, {From: 53, To: 1053, Count: 7}, {From: 62, To: 1060, Count: 2}}
	later := []timeline.Run{then[0], {From: 50, To: 1092, Count: 3}, then[1], {From: 60, To: 1095, Count: 2}, then[2], {From: 64, To: 1097, Count: 36}}
	lost := Lost{From: "a", To: "b", Own: map[string][]int64{"t": {1062}}, First: func(_ string, _ int, end int64) int64 { return end + 70 }, Back: func(string) bool { return false }}
	got, err := CutOff(t.Context(), nil, lost, reaching{told{"only a b": then}, map[string]int64{"a b": 60}})
	want := []generation.CutTopic{{Topic: "t", Virtual: []int64{130}, Real: []int64{1062}, Left: []int64{60}, Had: []generation.Had{{End: 60, From: 1050, Missing: []int64{50, 53}}}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	var first []timeline.Timeline
	for name, runs := range map[string][]timeline.Run{"at once": then, "when the tail is there": later} {
		r := request([]any{got}, "unplanned b")
		lines, err := Timelines(t.Context(), r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if first == nil {
			first = lines["t"]
		}
		if !reflect.DeepEqual(lines["t"], first) {
			t.Errorf("%s: %+v", name, lines)
		}
		a, err := Build(t.Context(), r, told{"only a b": runs}) // the lost home's maps cannot be asked for
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for v, real := range map[int64]int64{0: 1000, 49: 1049, 50: 1053, 53: 1053, 59: 1059, 60: 1050, 140: 1060, 142: 1062, 160: 1080} {
			if p, _ := a.Positions.Place("t", 0, v); p.Real != real {
				t.Errorf("%s: virtual offset %d is at %+v, want %d", name, v, p, real)
			}
		}
	}
	if _, err := Build(t.Context(), request([]any{cut("t", [3]int64{130, 1060, 100})}, "unplanned b"), told{}); !errors.Is(err, ErrCut) {
		t.Errorf("a cut that does not say what b had: %v", err)
	}
	if _, err := CutOff(t.Context(), nil, lost, reaching{told{}, map[string]int64{"a b": 60}}); err == nil || !strings.Contains(err.Error(), "topic t, partition 0") {
		t.Errorf("without runs: %v", err)
	}
	back := append(got, []generation.CutTopic(nil)...)
	if lines, err := Timelines(t.Context(), request([]any{back, cut("t", [3]int64{172, 100, 1092})}, "unplanned b", "back a")); err != nil || len(lines["t"][0]) != 3 || !reflect.DeepEqual(lines["t"][0][0], first[0][0]) {
		t.Errorf("one more switch: %+v, %v", lines, err)
	}
}

// A home is gone to when it has what all homes before it wrote, also those before the one that is left.
func TestNeeded(t *testing.T) {
	lines, err := Timelines(t.Context(), request([]any{cut("t", [3]int64{10, 1000, 10}, [3]int64{0, 0, 0}), cut("t", [3]int64{17, 5, 1007}, [3]int64{4, 9, 4})}, "planned b", "planned c"))
	if err != nil {
		t.Fatal(err)
	}
	if got := Needed(lines, "a"); !reflect.DeepEqual(got, map[string]map[string][]int64{"b": {"t": {1007, 4}}}) {
		t.Errorf("%v", got)
	}
	if got := Needed(lines, "d"); !reflect.DeepEqual(got, map[string]map[string][]int64{"a": {"t": {10, 0}}, "b": {"t": {1007, 4}}}) {
		t.Errorf("%v", got)
	}
}

// Of generations in which nothing was written nobody is asked; of one home only once.
func TestBuild_AsksForWhatItNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		asked int
		cuts  []any
	}{
		"nothing written": {0, []any{cut("t", [3]int64{0, 7, 0}), cut("t", [3]int64{0, 0, 7}), cut("t", [3]int64{0, 7, 0})}},
		"one home twice":  {1, []any{cut("t", [3]int64{5, 7, 5}), cut("t", [3]int64{5, 5, 7}), cut("t", [3]int64{9, 20, 9})}},
	} {
		asked := &asking{}
		if _, err := Build(t.Context(), request(c.cuts, "planned b", "back a", "planned b"), asked); err != nil || asked.n != c.asked {
			t.Errorf("%s: asked %d times, want %d: %v", name, asked.n, c.asked, err)
		}
	}
}

// asking counts questions.
type asking struct{ n int }

func (*asking) Producers(context.Context, string, string, string, int32) ([]gate.Producer, error) {
	return nil, nil
}

func (a *asking) Copied(context.Context, string, string, string, int32) ([]timeline.Run, error) {
	return nil, errTest
}

func (a *asking) Runs(context.Context, string, string, string, int32) ([]timeline.Run, error) {
	a.n++
	return []timeline.Run{{From: 0, To: 2, Count: 5}}, nil
}

func TestWithin_IsWhatAGenerationNeeds(t *testing.T) {
	runs := []timeline.Run{{From: 2, To: 2, Count: 3}, {From: 5, To: 6, Count: 2}, {From: 9, To: 9, Count: 1}}
	for _, c := range []struct {
		from, to int64
		want     []timeline.Run
	}{{0, 100, runs}, {4, 6, runs[:2]}, {5, 9, runs[1:2]}, {7, 9, []timeline.Run{}}, {10, 20, []timeline.Run{}}, {9, 10, runs[2:]}, {0, 2, []timeline.Run{}}} {
		if got := within(runs, c.from, c.to); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%d to %d: %v, want %v", c.from, c.to, got, c.want)
		}
	}
	if got := within(nil, 0, 5); got == nil || len(got) != 0 {
		t.Errorf("of nothing: %#v", got)
	}
}

func TestBuild_SaysWhatDoesNotFit(t *testing.T) {
	one := cut("t", [3]int64{10, 1000, 10})
	for name, c := range map[string]struct {
		r    Request
		want string
		is   error
	}{
		"another end":       {request([]any{cut("t", [3]int64{11, 1000, 10})}, "planned b"), "topic t, partition 0: the next generation begins at virtual offset 11", ErrCut},
		"twice":             {request([]any{append(one, one...)}, "planned b"), "topic t, partition 0: it is there twice", ErrCut},
		"lengths":           {request([]any{[]generation.CutTopic{{Topic: "t", Virtual: []int64{1}, Real: []int64{1}}}}, "planned b"), `topic "t"`, ErrCut},
		"not there":         {request(nil, "planned b"), "cut of generation 1", generation.ErrCut},
		"cannot be read":    {request([]any{errTest}, "planned b"), "cut of generation 1", errTest},
		"to where it is":    {request([]any{one}, "planned a"), "the home before is a", ErrCut},
		"no switch":         {request([]any{one}, "stay b"), "no switch", ErrCut},
		"log was cut":       {request([]any{one, cut("t", [3]int64{10, 9, 1000})}, "planned b", "back a"), "topic t, partition 0", timeline.ErrImpossible},
		"negative":          {request([]any{cut("t", [3]int64{-1, 1000, -1})}, "planned b"), "topic t, partition 0", timeline.ErrImpossible},
		"nothing tells":     {request([]any{one}, "planned c"), "no link between a and c", nil},
		"partition's range": {request([]any{[]generation.CutTopic{{Topic: "t", First: 200_000, Virtual: []int64{1}, Real: []int64{1}, Left: []int64{1}}}}, "planned b"), "from partition 200000 on", ErrCut},
	} {
		_, err := Build(t.Context(), c.r, told{"a b": nil, "b a": nil})
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), "of set s of router r") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := request([]any{one, one}, "planned b", "back a")
	r.Switches[1].Generation = 3
	if _, err := Build(t.Context(), r, told{}); !errors.Is(err, ErrCut) {
		t.Errorf("a generation is missing: %v", err)
	}
}

var errTest = errors.New("for a test")

// busy counts who asks at a time.
type busy struct {
	mu        sync.Mutex
	now, most int
	asked     int
	err       error
}

func (*busy) Producers(context.Context, string, string, string, int32) ([]gate.Producer, error) {
	return nil, nil
}

func (b *busy) Copied(context.Context, string, string, string, int32) ([]timeline.Run, error) {
	return nil, errTest
}

func (b *busy) Runs(context.Context, string, string, string, int32) ([]timeline.Run, error) {
	b.mu.Lock()
	b.now++
	b.asked++
	b.most = max(b.most, b.now)
	b.mu.Unlock()
	time.Sleep(time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now--
	return []timeline.Run{{From: 0, To: 1000, Count: 10}}, b.err
}

func many(n int) []generation.CutTopic {
	places := make([][3]int64, n)
	for i := range places {
		places[i] = [3]int64{10, 1010, 10}
	}
	return cut("t", places...)
}

// Many partitions: some at a time, and of errors the first ones.
func TestBuild_IsBounded(t *testing.T) { synctest.Test(t, isBounded) }

func isBounded(t *testing.T) {
	b := &busy{}
	if _, err := Build(t.Context(), request([]any{many(3000)}, "planned b"), b); err != nil || b.asked != 3000 || b.most != atOnce {
		t.Errorf("%d asked, %d at a time: %v", b.asked, b.most, err)
	}
	b = &busy{err: errTest}
	_, err := Build(t.Context(), request([]any{many(5000)}, "planned b"), b)
	if n := strings.Count(fmt.Sprint(err), "topic t, partition"); n != mostErrors || !errors.Is(err, errTest) || !strings.Contains(err.Error(), "of 5000 partitions") || b.asked > mostErrors+2*atOnce {
		t.Errorf("%d partitions named, %d asked: %.300v", n, b.asked, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, request([]any{many(5)}, "planned b"), &busy{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCut_SeesThatTheNextGenerationCanBe(t *testing.T) {
	r := request([]any{cut("t", [3]int64{10, 1000, 10}, [3]int64{0, 0, 0})}, "planned b")
	before, err := Timelines(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Cut(before, "a", map[string][]int64{"t": {1007, 0, 4}, "new": {3}, "none": nil}, map[string][]int64{"t": {10, 0, 2, 99}, "new": {8}, "other": {5}})
	want := append(cut("new", [3]int64{3, 8, 3}), cut("t", [3]int64{17, 10, 1007}, [3]int64{0, 0, 0}, [3]int64{4, 2, 4})...)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		left, real []int64
		want       string
		is         error
	}{
		"not known":          {[]int64{-1, 0}, []int64{10, 0}, "partition 0: its log ends at -1", nil},
		"not there":          {[]int64{1000, 0}, []int64{10}, "has 2 partitions, and 1 at a", nil},
		"left log cut off":   {[]int64{999, 0}, []int64{10, 0}, "generation 1 began there at 1000", timeline.ErrImpossible},
		"new home's cut off": {[]int64{1000, 0}, []int64{9, 0}, "partition 0", timeline.ErrImpossible},
	} {
		if _, err := Cut(before, "a", map[string][]int64{"t": c.left}, map[string][]int64{"t": c.real}); err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every partition of a set goes through three switches, and each map is made of a hundred runs.
func BenchmarkBuild_4000Partitions(b *testing.B) {
	var runs []timeline.Run
	for i := range int64(100) {
		runs = append(runs, timeline.Run{From: 11 * i, To: 2000 + 10*i, Count: 10})
	}
	one, two, three := make([][3]int64, 4000), make([][3]int64, 4000), make([][3]int64, 4000)
	for i := range one {
		one[i], two[i], three[i] = [3]int64{1100, 3000, 1100}, [3]int64{1200, 1100, 3100}, [3]int64{1300, 3200, 1200}
	}
	r := request([]any{cut("t", one...), cut("t", two...), cut("t", three...)}, "planned b", "back a", "planned b")
	b.ReportAllocs()
	for b.Loop() {
		a, err := Build(b.Context(), r, told{"a b": runs})
		if err != nil || a.Positions == nil {
			b.Fatal(err)
		}
	}
}
