package mirror

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

// on is an item with a value; none is one that is not there.
func on(value string) item { return item{value, true} }

var none item

func notes(value string, ours bool) *noted { return &noted{value, ours} }

// TestMerge_OneWay: the source's items go to the target, and leave it only if this link put them there, or the source had them.
func TestMerge_OneWay(t *testing.T) {
	for name, tc := range map[string]struct {
		source, target item
		note           *noted
		adopts         bool
		do             deed
		after          *noted // if anything is noted
		back           bool
	}{
		"on neither":                       {none, none, nil, false, doNothing, nil, false},
		"gone from both":                   {none, none, notes("1", true), false, doNothing, nil, false},
		"alike, somebody else's":           {on("1"), on("1"), nil, false, doNothing, nil, false},
		"alike, adopted":                   {on("1"), on("1"), nil, true, doNothing, notes("1", false), false},
		"alike, and both changed":          {on("2"), on("2"), notes("1", true), false, doNothing, notes("2", true), false},
		"new":                              {on("1"), none, nil, false, doSet, notes("1", true), false},
		"another value":                    {on("1"), on("2"), nil, false, doSet, notes("1", true), false},
		"changed at the source":            {on("2"), on("1"), notes("1", true), false, doSet, notes("2", true), false},
		"changed back on the target":       {on("1"), on("2"), notes("1", true), false, doSet, notes("1", true), true},
		"taken away on the target":         {on("1"), none, notes("1", true), false, doSet, notes("1", true), true},
		"removed, ours":                    {none, on("1"), notes("1", true), false, doRemove, nil, false},
		"removed, it was there before":     {none, on("1"), notes("1", false), false, doLeave, nil, false},
		"removed, adopted":                 {none, on("1"), notes("1", false), true, doRemove, nil, false},
		"removed, ours, changed meanwhile": {none, on("2"), notes("1", true), true, doLeave, nil, false},
		"the target's own":                 {none, on("1"), nil, true, doLeave, nil, false},
	} {
		v := kept{adopts: tc.adopts}.merge(tc.source, tc.target, tc.note, false)
		after := v.note
		if v.keeps {
			after = tc.note
		}
		if v.do != tc.do || !reflect.DeepEqual(after, tc.after) || v.back != tc.back {
			t.Errorf("%s: do %d, noted %v, back %v; want %d, %v, %v", name, v.do, after, v.back, tc.do, tc.after, tc.back)
		}
		if (v.do == doLeave || v.do == doSet || v.do == doRemove) && v.why == "" {
			t.Errorf("%s: nothing says why", name)
		}
	}
}

// TestMerge_Settles: two links that keep two clusters alike, both ways, come to rest whatever was on either side and in the notes,
// in whatever order they run; and what only one side changed is what both have then.
func TestMerge_Settles(t *testing.T) {
	sizes := [8]byte{3, 3, 3, 2, 3, 2, 2, 2}
	for n := range 3 * 3 * 3 * 2 * 3 * 2 * 2 * 2 {
		var b [8]byte
		for i, size := range sizes {
			b[i], n = byte(n%int(size)), n/int(size)
		}
		settles(t, b)
	}
}

// settles runs both links: b has both sides, both notes with whose they are, whether items are adopted, and which link runs first.
func settles(t *testing.T, b [8]byte) {
	t.Helper()
	value := func(b byte) item {
		if b%3 == 0 {
			return item{}
		}
		return on(fmt.Sprint(b % 3))
	}
	a, c := value(b[0]), value(b[1])
	note := func(b, own byte) *noted {
		if i := value(b); i.there {
			return &noted{i.value, own%2 > 0}
		}
		return nil
	}
	forth, back := note(b[2], b[3]), note(b[4], b[5])
	adopts := b[6]%2 > 0
	settled := forth != nil && back != nil && forth.value == back.value && adopts
	base := item{}
	if settled {
		base = on(forth.value)
	}
	wantA := settled && c == base && a != base // only the first side changed
	want := a
	changes := 0
	for i := range 12 {
		late := i >= 6
		for k := range 2 {
			first := (int(b[7])+k)%2 == 0
			how := kept{adopts: adopts, returns: true, wins: first}
			source, target, n := &a, &c, &forth
			if !first {
				source, target, n = &c, &a, &back
			}
			v := how.merge(*source, *target, *n, late)
			switch v.do {
			case doSet:
				*target = *source
			case doRemove:
				*target = item{}
			}
			if v.do == doSet || v.do == doRemove {
				if changes++; i > 8 {
					t.Fatalf("still changes in round %d: a %v, c %v, notes %v %v", i, a, c, forth, back)
				}
			}
			if !v.keeps {
				*n = v.note
			}
		}
	}
	if changes > 4 {
		t.Errorf("%d changes", changes)
	}
	if wantA && (a != want || c != want) {
		t.Errorf("the first side alone changed to %v; in the end there is %v and %v", want, a, c)
	}
	if a.there && c.there && a.value != c.value {
		t.Errorf("%v: both have it, and differ for good: %v and %v", b, a, c)
	}
}

// TestNotes_AreRead: what is noted is read again; a node that does not know a kind of record reads on.
func TestNotes_AreRead(t *testing.T) {
	all := map[string]noted{"retention.ms": {"1000", true}, "": {"", false}}
	got, err := decodeNotes(encodeNotes(all))
	if err != nil || !maps.Equal(got, all) {
		t.Errorf("%v, %v; want %v", got, err, all)
	}
	s := newStateLog(nil, nil)
	key, at := noteKey{kind: DriftConfig, topic: "t"}, path{"eu", "us"}
	for _, tc := range []struct {
		notes map[string]noted
		want  int
	}{{all, 2}, {nil, 0}} {
		r := key.record(at, tc.notes)
		if err := s.takeLocked(batch.Record{Key: r.Key, Value: r.Value}); err != nil || len(s.notes[at][key]) != tc.want {
			t.Errorf("%v: %d are noted, want %d", err, len(s.notes[at][key]), tc.want)
		}
	}
	if err := s.takeLocked(batch.Record{Key: stateKey('?', key.pump(at)), Value: []byte("?")}); err != nil || len(s.pumps) > 0 {
		t.Errorf("a record of an unknown kind: %v, and %d pumps are known", err, len(s.pumps))
	}
}

// FuzzNotes: no bytes make the decoder panic, and what it takes says the same when it is written and read again.
func FuzzNotes(f *testing.F) {
	f.Add(encodeNotes(map[string]noted{"a": {"1", true}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeNotes(b)
		if err != nil {
			return
		}
		if again, err := decodeNotes(encodeNotes(got)); err != nil || !maps.Equal(again, got) {
			t.Fatalf("%v became %v, %v", got, again, err)
		}
	})
}

func patterns(t *testing.T, texts ...string) (out topology.Patterns) {
	t.Helper()
	for _, text := range texts {
		p, err := topology.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// TestConfigs_Compared: what is followed, what never is, and what is only ever raised.
func TestConfigs_Compared(t *testing.T) {
	set := func(v string) broker.Config { return broker.Config{Value: v, Dynamic: true} }
	source := map[string]broker.Config{"retention.ms": set("1"), "segment.bytes": {Value: "2"}, "min.insync.replicas": set("2"),
		"remote.storage.enable": set("true"), "local.retention.ms": set("5"), "delete.retention.ms": set("7"), "max.message.bytes": set("100"),
		"message.timestamp.after.max.ms": set("50"), "message.timestamp.before.max.ms": set("60"), "hidden": set("")}
	target := map[string]broker.Config{"retention.ms": {Value: "1"}, "flush.ms": set("9"), "compression.type": set("producer"),
		"max.message.bytes": {Value: "90"}, "message.timestamp.after.max.ms": set("51"), "message.timestamp.before.max.ms": set("60")}
	k := topology.Keeps{Configs: patterns(t, "*"), ConfigsExclude: patterns(t, "delete.*")}
	got := compareConfigs("t", k, kept{}, source, target)
	if want := map[string]string{"retention.ms": "1"}; !maps.Equal(got.source, want) {
		t.Errorf("followed of the source: %v, want %v", got.source, want)
	}
	if want := map[string]string{"flush.ms": "9"}; !maps.Equal(got.target, want) {
		t.Errorf("compared of the target: %v, want %v", got.target, want)
	}
	var raised []string
	for _, j := range got.decided {
		raised = append(raised, fmt.Sprint(j.name, " ", j.do == doSet))
	}
	slices.Sort(raised)
	if want := []string{"max.message.bytes true", "message.timestamp.after.max.ms false"}; !slices.Equal(raised, want) {
		t.Errorf("of what a topic takes: %v, want %v", raised, want)
	}
	if none := compareConfigs("t", topology.Keeps{}, kept{}, source, target); len(none.source)+len(none.decided) > 0 {
		t.Errorf("without patterns %v are followed", none)
	}
}

// rule reads "allow|deny PRINCIPAL OPERATION RESOURCE literal|prefixed NAME".
func rule(t *testing.T, text string) broker.ACL {
	t.Helper()
	w := strings.Fields(text)
	op, err := kmsg.ParseACLOperation(w[2])
	resource, wrong := kmsg.ParseACLResourceType(w[3])
	pattern, bad := kmsg.ParseACLResourcePatternType(w[4])
	if err != nil || wrong != nil || bad != nil {
		t.Fatal(text, err, wrong, bad)
	}
	return broker.ACL{Allow: w[0] == "allow", Principal: "User:" + w[1], Host: "*", Operation: op, Resource: resource, Pattern: pattern, Name: w[5]}
}

// TestACLs_Wanted: which rules of the source a target gets, and as what.
func TestACLs_Wanted(t *testing.T) {
	both := func(name string) bool { return name == "orders-both" }
	for _, tc := range []struct {
		source         string
		topics, groups string // default orders-*, g-*
		exclude        string
		want           []string
	}{
		{source: "allow u read topic literal orders-1", want: []string{"allow u read topic literal orders-1"}},
		{source: "allow u describe topic literal orders-1", want: []string{"allow u describe topic literal orders-1"}},
		{source: "allow u describe_configs topic literal orders-1", want: []string{"allow u describe_configs topic literal orders-1"}},
		{source: "allow u read topic literal later", want: nil},
		{source: "allow u read topic literal orders-later", want: []string{"allow u read topic literal orders-later"}},
		{source: "allow u write topic literal orders-1", want: nil},
		{source: "allow u write topic literal orders-both", want: []string{"allow u write topic literal orders-both"}},
		{source: "allow u all topic literal orders-1", want: []string{"allow u read topic literal orders-1"}},
		{source: "allow u all topic literal orders-both", want: []string{"allow u read topic literal orders-both", "allow u write topic literal orders-both"}},
		{source: "allow u alter topic literal orders-1", want: nil},
		{source: "allow u delete topic literal orders-both", want: nil},
		{source: "allow u read topic prefixed orders-", want: []string{"allow u read topic prefixed orders-"}},
		{source: "allow u read topic prefixed orders-1", want: []string{"allow u read topic prefixed orders-1"}},
		{source: "allow u read topic prefixed ord", want: []string{"allow u read topic literal orders-1", "allow u read topic literal orders-both"}},
		{source: "allow u write topic prefixed orders-", want: []string{"allow u write topic literal orders-both"}},
		{source: "allow u read topic prefixed orders-", exclude: "orders-x*", want: []string{"allow u read topic literal orders-1", "allow u read topic literal orders-both"}},
		{source: "allow u read topic prefixed other", want: nil},
		{source: "allow u read topic prefixed __", topics: "*", want: nil},
		{source: "allow u read topic literal __consumer_offsets", topics: "*", want: nil},
		{source: "allow u read topic literal *", want: []string{"allow u read topic literal orders-1", "allow u read topic literal orders-both"}},
		{source: "allow u read topic literal *", topics: "*", want: []string{"allow u read topic literal *"}},
		{source: "allow u read topic prefixed orders-", topics: "~^orders", want: []string{"allow u read topic literal orders-1", "allow u read topic literal orders-both"}},
		{source: "deny u write topic literal orders-1", want: []string{"deny u write topic literal orders-1"}},
		{source: "deny u alter topic prefixed ord", want: []string{"deny u alter topic prefixed ord"}},
		{source: "deny u all topic literal *", want: []string{"deny u all topic literal *"}},
		{source: "deny u read topic literal later", want: nil},
		{source: "deny * write topic literal orders-1", want: nil},
		{source: "deny * delete topic literal orders-1", want: []string{"deny * delete topic literal orders-1"}},
		{source: "deny isthmus all topic literal *", want: nil},
		{source: "allow u read group literal g-1", want: []string{"allow u read group literal g-1"}},
		{source: "allow u all group literal g-1", want: []string{"allow u read group literal g-1"}},
		{source: "allow u delete group literal g-1", want: nil},
		{source: "allow u read group literal h", want: nil},
		{source: "allow u read group prefixed g-", want: []string{"allow u read group prefixed g-"}},
		{source: "allow u read group prefixed g", want: nil},
		{source: "deny u read group prefixed g", want: []string{"deny u read group prefixed g"}},
		{source: "allow u read group literal *", groups: "*", want: []string{"allow u read group literal *"}},
		{source: "allow u alter cluster literal kafka-cluster", topics: "*", want: nil},
		{source: "deny u alter cluster literal kafka-cluster", topics: "*", want: nil},
		{source: "allow u write transactional_id prefixed orders-", topics: "*", want: nil},
	} {
		s := aclScope{topics: patterns(t, "orders-*"), groups: patterns(t, "g-*"), names: []string{"orders-1", "orders-both"}, writable: both, self: self{cluster: "us", principal: "User:isthmus"}}
		if tc.topics != "" {
			s.topics = patterns(t, tc.topics)
		}
		if tc.groups != "" {
			s.groups = patterns(t, tc.groups)
		}
		if tc.exclude != "" {
			s.exclude = patterns(t, tc.exclude)
		}
		want := make(map[broker.ACL]bool)
		for _, text := range tc.want {
			want[rule(t, text)] = true
		}
		got, left := s.wantedACLs([]broker.ACL{rule(t, tc.source)})
		if !maps.Equal(got, want) {
			t.Errorf("%s, topics %v without %v, groups %v: %v, want %v", tc.source, s.topics.Strings(), s.exclude.Strings(), s.groups.Strings(), got, want)
		}
		if a := rule(t, tc.source); s.concerns(a) && len(got) == 0 && len(left) == 0 {
			t.Errorf("%s is not copied, and nothing says why", tc.source)
		}
	}
}

// TestQuotas_Change: what is set and what is taken away is in one change of the entity.
func TestQuotas_Change(t *testing.T) {
	q := func(user string, values map[string]float64) broker.Quota {
		return broker.Quota{Entity: []broker.QuotaPart{{Type: "user", Name: user}}, Values: values}
	}
	sides, entities := compareQuotas(kept{}, []broker.Quota{q("a", map[string]float64{"x": 0.1, "y": 2})}, []broker.Quota{q("a", map[string]float64{"y": 2, "z": 3}), q("b", map[string]float64{"x": 1})},
		[]noteKey{{kind: DriftQuota, subject: "user gone"}})
	if len(sides) != 3 {
		t.Fatalf("%d entities, want 3", len(sides))
	}
	all := sides[0].kept.mergeAll(sides[0].source, sides[0].target, map[string]noted{"z": {"3", true}}, func(string) bool { return false })
	got := quotaChange(entities["user a"], all)
	if len(got.Values) != 2 || got.Values["x"] != 0.1 || got.Values["z"] == got.Values["z"] {
		t.Errorf("the change is %v, want x set to 0.1 and z taken away", got)
	}
}

// A worker that raises a limit of the target may be the first on its node to change anything: the loop has nothing to do where other nodes own
// the topics.
func TestSyncer_FirstChangeIsAWorkers(t *testing.T) {
	b := newBench(t)
	j := judged{name: "max.message.bytes", source: item{"2000000", true}, outcome: outcome{do: doSet}}
	due := []work{{noteKey{kind: DriftConfig, topic: "orders"}, []judged{j}}}
	b.link.tell(DriftConfig, due, nil)
	if n := b.link.tried(tryKey{due[0].key, j.name}, j, nil, b.now); n != 2 {
		t.Errorf("it was done %d times, want 2", n)
	}
}

// A clock that was set back does not make anything wait for as long: neither the settings of a topic, nor a change that was refused.
func TestWaits_ClockSetBack(t *testing.T) {
	b := newBench(t)
	f, day := b.pump.flow, 24*time.Hour
	f.judged = b.now
	if !f.judgedAt(b.now.Add(time.Second), configsEvery) || f.judgedAt(b.now.Add(time.Hour), configsEvery) || f.judgedAt(b.now.Add(-day), configsEvery) {
		t.Error("settings that were read a second ago are not taken for fresh, or those of an hour ago or of tomorrow are")
	}
	j := judged{name: "retention.ms", source: item{"1", true}, outcome: outcome{do: doSet}}
	all := []work{{noteKey{kind: DriftConfig, topic: "orders"}, []judged{j}}}
	refused := map[tryKey]error{{all[0].key, j.name}: errors.New("refused")}
	b.link.tell(DriftConfig, all, refused)
	if due := b.link.due(DriftConfig, all); len(due) != 0 {
		t.Error("a change that was refused is made again at once")
	}
	b.now = b.now.Add(-day)
	if due := b.link.due(DriftConfig, all); len(due) != 1 {
		t.Error("a change that was refused waits for a day, because the clock was set back by as much")
	}
}
