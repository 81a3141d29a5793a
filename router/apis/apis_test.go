package apis

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var update = flag.Bool("update", false, "write docs/router-apis.md")

// TestTable_HasEveryVersion: each version of each key that kmsg knows is in one row, and none that it does not know. A new kmsg fails
// here until somebody has decided about what it brings.
func TestTable_HasEveryVersion(t *testing.T) {
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			if len(byKey[key]) > 0 {
				t.Errorf("key %d has a row and no name", key)
			}
			continue
		}
		next := int16(0)
		for _, r := range byKey[key] {
			if r.From != next || r.To < r.From {
				t.Errorf("%s: a row from %d to %d where %d is next", r.Key.Name(), r.From, r.To, next)
			}
			next = r.To + 1
		}
		if next != req.MaxVersion()+1 {
			t.Errorf("%s: rows up to version %d, kmsg knows %d", kmsg.NameForKey(key), next-1, req.MaxVersion())
		}
	}
}

func TestTable_VisibleVersionsAreOneRange(t *testing.T) {
	for key, r := range ours() {
		for v := r.Min; v <= r.Max; v++ {
			if row, ok := Of(key, v); !ok || row.Does == Hide {
				t.Errorf("%s v%d is hidden between visible ones", kmsg.NameForKey(key), v)
			}
		}
	}
}

// TestTable_Caps are those that were proven with seven client libraries.
func TestTable_Caps(t *testing.T) {
	v := ours()
	for key, most := range map[kmsg.Key]int16{kmsg.Produce: 9, kmsg.Fetch: 12, kmsg.Metadata: 9, kmsg.OffsetCommit: 9, kmsg.OffsetFetch: 9, kmsg.EndTxn: 4, kmsg.TxnOffsetCommit: 4} {
		if got := v[int16(key)]; got != (Range{0, most}) {
			t.Errorf("%s is visible in %v, want 0 to %d", key.Name(), got, most)
		}
	}
	for key := int16(75); key <= kmsg.MaxKey; key++ {
		if r, ok := v[key]; ok {
			t.Errorf("%s is visible in %v", kmsg.NameForKey(key), r)
		}
	}
	for _, key := range []int16{4, 5, 6, 7, 23, 27, 38, 39, 40, 41, 52, 53, 54, 55, 56, 58, 59, 62, 63, 67, 68, 69, 70, 73} {
		if r, ok := v[key]; ok {
			t.Errorf("%s is visible in %v", kmsg.NameForKey(key), r)
		}
	}
}

func TestOf(t *testing.T) {
	for _, tc := range []struct {
		key, version int16
		does         Deed
		ok           bool
	}{
		{0, 2, Forward, true}, {0, 3, Patch, true}, {0, 9, Patch, true}, {0, 10, Hide, true}, {0, 14, Hide, false}, {0, -1, Hide, false},
		{18, 3, Answer, true}, {kmsg.MaxKey + 1, 0, Hide, false}, {-1, 0, Hide, false}, {1<<15 - 1, 0, Hide, false},
	} {
		if row, ok := Of(tc.key, tc.version); ok != tc.ok || row.Does != tc.does {
			t.Errorf("key %d version %d: %v, %v", tc.key, tc.version, row.Does, ok)
		}
	}
}

func TestFlexible(t *testing.T) {
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for v := range req.MaxVersion() + 1 {
			req.SetVersion(v)
			if Flexible(key, v) != req.IsFlexible() || AnswerTags(key, v) != (req.IsFlexible() && key != 18) {
				t.Errorf("%s v%d", req.(interface{ Key() int16 }), v)
			}
		}
	}
	if Flexible(-1, 0) || Flexible(kmsg.MaxKey+1, 0) || !Flexible(18, 99) || Flexible(17, 99) {
		t.Error("unknown keys and versions")
	}
}

func TestOffer(t *testing.T) {
	all := ours()
	older, alone := maps.Clone(all), maps.Clone(all)
	older[0] = Range{0, 7}
	older[3] = Range{4, 13}
	older[18] = Range{0, 2}
	delete(older, 60)
	alone[44] = Range{5, 6}
	got, err := Offer([]Broker{{"eu's broker 1", all}, {"us's broker 1", older}, {"us's broker 2", alone}})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[int16]Range{0: {0, 7}, 1: {0, 12}, 3: {4, 9}, 18: {0, 4}} {
		if got[key] != want {
			t.Errorf("%s: %v, want %v", kmsg.NameForKey(key), got[key], want)
		}
	}
	for _, key := range []int16{60, 44, 68} {
		if r, ok := got[key]; ok {
			t.Errorf("%s is offered in %v", kmsg.NameForKey(key), r)
		}
	}
	again, err := Offer([]Broker{{"us's broker 2", alone}, {"us's broker 1", older}, {"eu's broker 1", all}})
	if err != nil || !maps.Equal(got, again) {
		t.Errorf("another order gives %v, %v", again, err)
	}
	delete(older, 1)
	alone[2] = Range{12, 13}
	for _, b := range []Broker{{"us's broker 1", older}, {"us's broker 2", alone}} {
		if _, err := Offer([]Broker{{"eu's broker 1", all}, b}); err == nil || !strings.Contains(err.Error(), b.Name) {
			t.Errorf("%s lacks what all need: %v", b.Name, err)
		}
	}
}

func TestAnswerVersions(t *testing.T) {
	v := ours()
	for version := range int16(5) {
		resp := v.AnswerVersions(version)
		var read kmsg.ApiVersionsResponse
		read.SetVersion(version)
		if err := read.ReadFrom(resp.AppendTo(nil)); err != nil || read.ErrorCode != 0 || len(read.ApiKeys) != len(v) {
			t.Errorf("v%d: %+v, %v", version, read, err)
		}
		for _, k := range read.ApiKeys {
			if v[k.ApiKey] != (Range{k.MinVersion, k.MaxVersion}) {
				t.Errorf("v%d tells %+v", version, k)
			}
		}
	}
	for _, version := range []int16{5, 99, -1} {
		resp := v.AnswerVersions(version)
		if resp.Version != 0 || resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) != 1 || resp.ApiKeys[0].MaxVersion != 4 {
			t.Errorf("v%d: %+v", version, resp)
		}
	}
}

func TestPage(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "router-apis.md")
	if *update {
		if err := os.WriteFile(file, []byte(Page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Page() {
		t.Errorf("%s is not what the table says; -update writes it", file)
	}
}

func BenchmarkOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if row, ok := Of(3, 9); !ok || row.Does != Patch || !Flexible(3, 9) {
			b.Fatal(row)
		}
	}
}
