package generation

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/router/identity"
)

var (
	toUS = Value{Kind: Planned, Generation: 1, Home: "us", From: "eu", Switch: "s1", Asked: "anna", Began: 1, Proposed: 2}
	stay = Value{Kind: Stay, Home: "eu", Switch: "s1"}
)

func prepare(set string, round int64, b Ballot) Record {
	return Record{V: Version, Router: "shop", Kind: kindPrepare, ID: "p" + b.Unique, Set: set, Round: round, Ballot: &b}
}

func accept(set string, round int64, b Ballot, v Value) Record {
	return Record{V: Version, Router: "shop", Kind: kindAccept, ID: "a" + b.Unique, Set: set, Round: round, Ballot: &b, Value: &v}
}

func decided(set string, round int64, v Value) Record {
	return Record{V: Version, Router: "shop", Kind: kindDecided, ID: "d", Set: set, Round: round, Value: &v}
}

// TestRecord_RoundTrip: each kind is read as it was written.
func TestRecord_RoundTrip(t *testing.T) {
	b := Ballot{1, "eu-1", "x"}
	for _, r := range []Record{
		prepare("fast", 3, b), accept("", 1, b, toUS), decided("", 1, stay),
		{Kind: kindCut, ID: "c", Cut: &Chunk{ID: "cut", Index: 1, Topics: []CutTopic{{"t", 0, []int64{1}, []int64{2}, []int64{3}, []Had{{4, 5, []int64{1, 2}}}}}}},
		{Kind: kindBound, ID: "b", Bound: &Bound{"t", []int64{0, 7}}},
		{Kind: kindPlan, ID: "s1.x", Plan: &Plan{Switch: "s1", Ballot: b, Options: map[string]string{"tail": "list"}}},
	} {
		r.V, r.Router = Version, "shop"
		value, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, mine, err := Decode("shop", []byte(r.Key()), value)
		if err != nil || !mine || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %+v, %v, %v", r.Kind, got, mine, err)
		}
		if _, mine, err := Decode("shop2", []byte(r.Key()), value); mine || err != nil {
			t.Errorf("%s of another router: %v, %v", r.Kind, mine, err)
		}
	}
}

// TestRecord_WhoKnowsNoSwitches: a node that reads claims only stops at each record of which a home may follow, however long its texts are.
func TestRecord_WhoKnowsNoSwitches(t *testing.T) {
	long := strings.Repeat("x", maxText)
	v := Value{Unplanned, 1 << 60, long[1:] + "y", long, long, long, 1 << 60, 1 << 60, CutRef{long, maxChunks, long}, ""}
	for _, r := range []Record{prepare(long, 1<<60, Ballot{1 << 60, long, long}), accept(long, 1<<60, Ballot{1 << 60, long, long}, v), decided(long, 1<<60, v)} {
		value, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := identity.Decode("shop", []byte(r.Key()), value); !errors.Is(err, identity.ErrVersion) {
			t.Errorf("%s of %d bytes: %v", r.Kind, len(value), err)
		}
	}
}

// TestRecord_Others: what is none, what is newer, and what does not hold together.
func TestRecord_Others(t *testing.T) {
	for _, c := range []struct {
		key, value string
		mine       bool
		want       error
	}{
		{"shop/slot/x", `{"v":1,"router":"shop","kind":"slot","proposal":"x"}`, false, nil},
		{"shop/new/x", `{"v":5}`, true, ErrVersion},
		{"shop/prepare/x", `garbage`, true, ErrForeign},
		{"shop/prepare/x", `{"v":4,"router":"shop","kind":"prepare","id":"y"}`, true, ErrForeign},
		{"shop/prepare/x", `{"v":4,"router":"shop","kind":"prepare","id":"x","round":1}`, true, ErrForeign},
		{"shop/accept/x", `{"v":4,"router":"shop","kind":"accept","id":"x","round":1,"ballot":{"n":1,"id":"u"}}`, true, ErrForeign},
		{"shop/decided/x", `{"v":4,"router":"shop","kind":"decided","id":"x","round":1,"value":{"kind":"planned","generation":1,"home":"us","from":"us"}}`, true, ErrForeign},
		{"shop/bound/x", `{"v":4,"router":"shop","kind":"bound","id":"x"}`, true, ErrForeign},
		{"shop/cut/x", `{"v":4,"router":"shop","kind":"cut","id":"x","cut":{"id":"c","topics":[{"topic":"t","virtual":[1]}]}}`, true, ErrForeign},
		{"shop/plan/x", `{"v":4,"router":"shop","kind":"plan","id":"x"}`, true, ErrForeign},
		{"shop/other/x", `{"v":4,"router":"shop","kind":"other","id":"x"}`, true, ErrForeign},
	} {
		if _, mine, err := Decode("shop", []byte(c.key), []byte(c.value)); mine != c.mine || !errors.Is(err, c.want) {
			t.Errorf("%s %s: %v, %v", c.key, c.value, mine, err)
		}
	}
}

// FuzzDecode: whatever is in the topic, what is taken for a record can be applied and is written as it was read.
func FuzzDecode(f *testing.F) {
	for _, r := range []Record{prepare("", 1, Ballot{1, "n", "u"}), accept("s", 1, Ballot{1, "n", "u"}, toUS), decided("", 1, stay)} {
		value, _ := r.Encode()
		f.Add([]byte(r.Key()), value)
	}
	f.Add([]byte("shop/bound/b"), []byte(`{"v":4,"router":"shop","kind":"bound","id":"b","bound":{"topic":"t","offsets":[1,2]}}`))
	f.Add([]byte("shop/plan/s.u"), []byte(`{"v":4,"router":"shop","kind":"plan","id":"s.u","plan":{"switch":"s","ballot":{"id":"u"}}}`))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, mine, err := Decode("shop", key, value)
		if err != nil || !mine {
			return
		}
		var l Log
		l.Apply(r)
		if _, err := Judge([]*Log{&l}, 3, r.Set); err != nil && !errors.Is(err, errBroken) {
			t.Error(err)
		}
		again, err := r.Encode()
		if err != nil && len(value) < MaxBytes/6 { // escapes can make it longer
			t.Fatalf("%s: %v", value, err)
		}
		if got, _, err := Decode("shop", key, again); err == nil && !reflect.DeepEqual(got, r) {
			t.Errorf("%+v became %+v", r, got)
		}
	})
}

// TestCut: a cut of any size is put together as it was, from chunks in any order and twice; one that lacks something is none.
func TestCut(t *testing.T) {
	for _, partitions := range []int{1, 8, chunkNumbers/3 - 10, chunkNumbers / 3, chunkNumbers + 1} {
		var topics []CutTopic
		for i := range 3 {
			c := CutTopic{Topic: fmt.Sprint("t", i), Virtual: make([]int64, partitions), Real: make([]int64, partitions), Left: make([]int64, partitions)}
			for p := range partitions {
				c.Virtual[p], c.Real[p], c.Left[p] = int64(p), int64(p*i), 1<<62
				if i == 1 {
					c.Had = append(c.Had, Had{1 << 62, 1 << 61, slices.Repeat([]int64{1 << 60}, p%3*20)})
				}
			}
			topics = append(topics, c)
		}
		chunks, ref, err := split("cut", topics)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chunks {
			if _, err := (Record{Router: "shop", Kind: kindCut, ID: "x", Cut: &c}).Encode(); err != nil {
				t.Errorf("%d partitions: %v", partitions, err)
			}
		}
		shuffled := append(slices.Clone(chunks), chunks[0], Chunk{ID: "another"})
		slices.Reverse(shuffled)
		if got, err := join(ref, shuffled); err != nil || !reflect.DeepEqual(got, topics) {
			t.Errorf("%d partitions in %d chunks: %v", partitions, len(chunks), err)
		}
		if _, err := join(ref, chunks[1:]); !errors.Is(err, ErrCut) {
			t.Errorf("a chunk is missing: %v", err)
		}
		changed := slices.Clone(chunks)
		changed[0].Topics = changed[0].Topics[1:]
		if _, err := join(ref, changed); !errors.Is(err, ErrCut) {
			t.Errorf("a chunk is another: %v", err)
		}
	}
	one := []int64{1}
	for _, c := range []CutTopic{{"t", 0, one, nil, nil, nil}, {"t", 0, one, one, one, []Had{{}, {}}}, {"t", 0, one, one, one, []Had{{Missing: one}}}} {
		if _, _, err := split("cut", []CutTopic{c}); err == nil {
			t.Errorf("a cut whose lists differ in length was written: %+v", c)
		}
	}
}

// TestBounds: the greatest counts; only what stands before and says no more may go, and what went still holds.
func TestBounds(t *testing.T) {
	var b bounds
	b.add("1", Bound{"t", []int64{10, 5}})
	b.add("2", Bound{"t", []int64{7}})
	b.add("3", Bound{"other", []int64{1}})
	b.add("4", Bound{"t", []int64{8, 9, 1}})
	b.add("5", Bound{"t", []int64{8, 9, 1}})
	for id, want := range map[string][]string{"1": nil, "2": nil, "4": {"2"}, "5": {"2", "4"}, "?": nil} {
		if got := b.covered(id); !slices.Equal(got, want) {
			t.Errorf("%s covers %v, want %v", id, got, want)
		}
	}
	b.forget("2")
	b.forget("4")
	if got := b.greatest["t"]; !slices.Equal(got, []int64{10, 9, 1}) || len(b.live) != 3 {
		t.Errorf("%v, %v", got, b.live)
	}
}

// TestOwns: who reads other records passes over those of this version, of any kind, and over nothing of another version, kind or router.
func TestOwns(t *testing.T) {
	owns := Owns("shop")
	for _, c := range []struct {
		key, value string
		want       bool
	}{
		{"shop/prepare/x", `{"v":4}`, true},
		{"shop/cut/x", `{"v":4}`, true},
		{"shop/decided/x", `{"v":5}`, false},
		{"shop/decided/x", `{"v":3}`, false},
		{"shop/slot/x", `{"v":4}`, false},
		{"shoppers/plan/x", `{"v":4}`, false},
		{"shop/plan/x", `garbage`, false},
	} {
		if got := owns([]byte(c.key), []byte(c.value)); got != c.want {
			t.Errorf("%s %s: %v", c.key, c.value, got)
		}
	}
}
