package mirror

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// streamOf is a log of the records, in batches of the given sizes in turn.
func streamOf(records []batch.Record, sizes ...int) stream {
	var list []*sourceBatch
	for i := 0; len(records) > 0; i++ {
		n := min(sizes[i%len(sizes)], len(records))
		part := records[:n]
		records = records[n:]
		raw := rawBatch(batchSpec{base: part[0].Offset, id: 1, records: part})
		h, err := batch.ParseHeader(raw)
		if err != nil {
			panic(err)
		}
		act, _ := decide(view{header: h, from: 0, carried: true})
		list = append(list, &sourceBatch{raw: raw, header: h, act: act})
	}
	return stream{upTo: 1 << 40, pull: func() (*sourceBatch, error) {
		if len(list) == 0 {
			return nil, io.EOF
		}
		b := list[0]
		list = list[1:]
		return b, nil
	}}
}

// at gives records other offsets, in a row.
func at(from int64, records []batch.Record) []batch.Record {
	out := slices.Clone(records)
	for i := range out {
		out[i].Offset = from + int64(i)
	}
	return out
}

type comparing struct {
	*comparer
	notes []string
}

func newComparing(source, target stream, history []batch.Record) *comparing {
	c := &comparing{}
	c.comparer = &comparer{source: source, target: target, to: 1 << 40, owed: newOwed(),
		note: func(at, n int64, why string) { c.notes = append(c.notes, fmt.Sprintf("%d %s", at, why)) },
		earlier: func(at int64) []batch.Record {
			var out []batch.Record
			for _, r := range history {
				if r.Offset < at {
					out = append(out, r)
				}
			}
			return out
		}}
	return c
}

// plant makes one fault in a copy of records.
var plants = map[string]func(rs []batch.Record, i int) []batch.Record{
	"missing": func(rs []batch.Record, i int) []batch.Record { return slices.Delete(rs, i, i+1) },
	"doubled": func(rs []batch.Record, i int) []batch.Record { return slices.Insert(rs, i, rs[i]) },
	"swapped": func(rs []batch.Record, i int) []batch.Record { rs[i], rs[i+1] = rs[i+1], rs[i]; return rs },
	"changed value": func(rs []batch.Record, i int) []batch.Record {
		rs[i].Value = append(slices.Clone(rs[i].Value[:len(rs[i].Value)-1]), rs[i].Value[len(rs[i].Value)-1]^1)
		return rs
	},
	"changed key": func(rs []batch.Record, i int) []batch.Record {
		rs[i].Key = append(slices.Clone(rs[i].Key[:len(rs[i].Key)-1]), rs[i].Key[len(rs[i].Key)-1]^1)
		return rs
	},
	"changed timestamp": func(rs []batch.Record, i int) []batch.Record { rs[i].Timestamp++; return rs },
	"changed headers": func(rs []batch.Record, i int) []batch.Record {
		rs[i].Headers = []batch.RecordHeader{{Key: "planted"}}
		return rs
	},
	"changed null": func(rs []batch.Record, i int) []batch.Record { rs[i].Value = nil; return rs },
	"extra": func(rs []batch.Record, i int) []batch.Record {
		return slices.Insert(rs, i, batch.Record{Key: []byte("who"), Value: []byte("is this")})
	},
}

func TestComparer_NamesASingleFault(t *testing.T) {
	const n = 300
	source := records(1000, n)
	for name, plant := range plants {
		for _, i := range []int{0, 1, 77, 99, 100, n - 2, n - 1} {
			if name == "swapped" && i == n-1 {
				continue
			}
			t.Run(fmt.Sprintf("%s at %d", name, i), func(t *testing.T) {
				target := at(50, plant(slices.Clone(source), i))
				c := newComparing(streamOf(source, 10, 3), streamOf(target, 10, 3, 7), source)
				d, err := c.run()
				if err != nil || d == nil {
					t.Fatalf("nothing was found, %v", err)
				}
				kind, _, _ := strings.Cut(name, " ")
				wantSource, wantTarget, proved := int64(1000+i), int64(50+i), i
				switch kind {
				case "missing":
					wantTarget = -1
				case "extra":
					wantSource = -1
				case "swapped":
					wantTarget++
				case "doubled": // the second of the two is the one too many
					wantTarget++
					proved++
				}
				if d.Kind != kind || d.Source != wantSource || d.Target != wantTarget || int(c.records) != proved {
					t.Errorf("found %q after %d records, want %s at source offset %d, target offset %d after %d", d, c.records, kind, wantSource, wantTarget, proved)
				}
				if what, ok := strings.CutPrefix(name, "changed "); ok && !strings.Contains(d.Detail, what) {
					t.Errorf("the detail %q does not name the %s", d.Detail, what)
				}
			})
		}
	}
}

// FuzzComparer: whatever is done to a copy, and however both logs are cut into batches, nothing is found if and only if they hold the
// same, and all that comes before the first difference is proved.
func FuzzComparer(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, []byte{0x12}, uint8(3), uint8(4))
	f.Add([]byte{1, 1, 1, 1, 2, 2, 1, 1}, []byte{0x21, 0x03}, uint8(1), uint8(8))
	f.Add([]byte{1, 2, 1, 2, 1, 2, 1, 2}, []byte{0x34}, uint8(2), uint8(3))
	f.Add([]byte{5, 4, 3, 2, 1}, []byte{}, uint8(5), uint8(1))
	f.Fuzz(func(t *testing.T, contents, edits []byte, a, b uint8) {
		if len(contents) > 200 || len(edits) > 4 {
			return
		}
		var source []batch.Record
		for i, v := range contents { // equal contents are common, so that explanations are ambiguous
			source = append(source, batch.Record{Offset: int64(i + i/7), Timestamp: 9, Key: []byte{v % 3}, Value: []byte{v}})
		}
		target := slices.Clone(source)
		names := []string{"missing", "doubled", "swapped", "changed value", "changed timestamp", "extra"}
		for _, e := range edits {
			if i := int(e & 31); i+1 < len(target) && target[i].Value != nil {
				target = plants[names[int(e>>5)%len(names)]](target, i)
			}
		}
		target = at(0, target)
		same := 0
		for same < min(len(source), len(target)) && batch.Equal(source[same], target[same]) {
			same++
		}
		c := newComparing(streamOf(source, int(a%9)+1), streamOf(target, int(b%9)+1), source)
		d, err := c.run()
		if err != nil {
			t.Fatal(err)
		}
		if equal := same == len(source) && same == len(target); equal != (d == nil) {
			t.Fatalf("found %v, the logs are the same: %t", d, equal)
		}
		if int(c.records) != same {
			t.Fatalf("%d records proved, want %d (%v)", c.records, same, d)
		}
		if d != nil && d.Kind == DifferenceDoubled && !slices.ContainsFunc(source, func(r batch.Record) bool { return r.Offset == d.Source }) {
			t.Fatalf("%v: the source has no such record", d)
		}
	})
}

// A log that was cleaned lacks what later records of the same keys have replaced, and nothing else.
func TestComparer_CleanedLogs(t *testing.T) {
	rec := func(offset int64, key, value string) batch.Record {
		r := batch.Record{Offset: offset, Timestamp: 7, Key: []byte(key)}
		if value != "" {
			r.Value = []byte(value)
		}
		return r
	}
	all := []batch.Record{rec(0, "a", "1"), rec(1, "b", "1"), rec(2, "a", "2"), rec(3, "c", "1"), rec(4, "c", ""), rec(5, "b", "2"), rec(6, "d", "1")}
	without := func(offsets ...int64) []batch.Record {
		return slices.DeleteFunc(slices.Clone(all), func(r batch.Record) bool { return slices.Contains(offsets, r.Offset) })
	}
	shift := func(rs []batch.Record) []batch.Record {
		for i := range rs {
			rs[i].Offset += 100
		}
		return rs
	}
	for _, tc := range []struct {
		name           string
		source, target []batch.Record
		want           string // kind and offsets; empty: none
	}{
		{"the same", all, all, ""},
		{"the target was cleaned", all, without(0, 1), ""},
		{"its tombstone is gone, too", all, without(0, 3, 4), ""},
		{"the source was cleaned", without(0, 1), all, ""},
		{"both were, differently", without(0, 3), without(1, 3, 4), ""},
		{"the newest of a key is missing", all, without(2), "missing 2 -1"},
		{"the last record is missing", all, without(6), "missing 6 -1"},
		{"one that has no successor is missing, and another one was cleaned", all, without(0, 5), "missing 5 -1"},
		{"the target has what the source never had", without(6), all, "extra 6 106"},
		{"a value is another", all, append(without(5, 6), rec(5, "b", "3"), rec(6, "d", "1")), "changed 5 105"},
	} {
		for _, mapped := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, with a map: %t", tc.name, mapped), func(t *testing.T) {
				source, target := slices.Clone(tc.source), shift(slices.Clone(tc.target))
				c := newComparing(streamOf(source, 2, 1), streamOf(target, 3, 1), source)
				c.cleaned = true
				if mapped {
					c.claim = func(target int64) (int64, bool) { return target - 100, true }
				}
				d, err := c.run()
				if err != nil {
					t.Fatal(err)
				}
				if d == nil {
					d = c.unpaid()
				}
				got := ""
				if d != nil {
					got = fmt.Sprintf("%s %d %d", d.Kind, d.Source, d.Target)
				}
				if mapped && got != tc.want || (got == "") != (tc.want == "") {
					t.Errorf("found %v, want %q; notes %q", d, tc.want, c.notes)
				}
			})
		}
	}
}

// What the map says is there twice is no work of a cleaner.
func TestComparer_DoubledInACleanedLog(t *testing.T) {
	source := records(0, 10)
	target := at(0, slices.Concat(source[:7], source[3:4], source[7:]))
	var m OffsetMap
	for _, r := range []Run{{0, 0, 7, "eu", 0, 0}, {3, 7, 1, "eu", 1, 3}, {7, 8, 3, "eu", 1, 7}} {
		m.Add(r)
	}
	c := newComparing(streamOf(source, 7, 3), streamOf(target, 4), source)
	c.cleaned, c.claim = true, m.SourceOf
	if d, err := c.run(); err != nil || d == nil || d.Kind != DifferenceDoubled || d.Source != 3 || d.Target != 7 {
		t.Errorf("found %v, %v; want source offset 3 doubled at target offset 7", d, err)
	}
}

// Random cleaning is never an alarm, and a record that lacks its successor always is one.
func TestComparer_CleaningIsNoDifference(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 6))
		var all []batch.Record
		last := make(map[string]int64)
		for i := range int64(200) {
			r := batch.Record{Offset: i, Timestamp: i, Key: fmt.Appendf(nil, "k%d", rng.IntN(20)), Value: fmt.Appendf(nil, "%d", rng.IntN(3))}
			if rng.IntN(10) == 0 {
				r.Value = nil
			}
			all = append(all, r)
			last[string(r.Key)] = i
		}
		clean := func(upTo int64) []batch.Record { // as a cleaner does: up to a place, the last of each key before it stays
			kept := make(map[string]int64)
			for _, r := range all[:upTo] {
				kept[string(r.Key)] = r.Offset
			}
			return slices.DeleteFunc(slices.Clone(all), func(r batch.Record) bool {
				return r.Offset < upTo && (kept[string(r.Key)] != r.Offset || r.Value == nil && upTo > 100)
			})
		}
		source, target := clean(rng.Int64N(200)), clean(rng.Int64N(200))
		broken := int64(-1)
		if seed%3 == 0 {
			i := rng.IntN(len(target))
			if r := target[i]; last[string(r.Key)] == r.Offset && r.Value != nil && slices.ContainsFunc(source, func(s batch.Record) bool { return s.Offset == r.Offset }) {
				broken = r.Offset
				target = slices.Delete(target, i, i+1)
			}
		}
		c := newComparing(streamOf(source, 1+rng.IntN(9)), streamOf(target, 1+rng.IntN(9)), source)
		c.cleaned, c.claim = true, func(t int64) (int64, bool) { return t, true }
		d, err := c.run()
		if err != nil {
			t.Fatal(err)
		}
		if d == nil {
			d = c.unpaid()
		}
		switch {
		case broken < 0 && d != nil:
			t.Errorf("seed %d: a false alarm: %v", seed, d)
		case broken >= 0 && (d == nil || d.Kind != DifferenceMissing || d.Source != broken):
			t.Errorf("seed %d: offset %d is missing, found %v", seed, broken, d)
		}
	}
}

func TestComparer_DeclaredIsNoDifference(t *testing.T) {
	source := records(0, 100)
	pick := func(from, to int64) []batch.Record { return slices.Clone(source[from:to]) }
	join := func(parts ...[]batch.Record) []batch.Record { return at(0, slices.Concat(parts...)) }
	var m OffsetMap
	mapped := func(runs ...Run) func(int64) (int64, bool) {
		m = OffsetMap{}
		for _, r := range runs {
			m.Add(r)
		}
		copied := m
		return copied.SourceOf
	}
	entry := func(r Reason, first, last int64) LedgerEntry { return LedgerEntry{Reason: r, First: first, Last: last} }
	for _, tc := range []struct {
		name   string
		target []batch.Record
		claim  func(int64) (int64, bool)
		ledger []LedgerEntry
		want   string
	}{
		{"skipped", join(pick(0, 40), pick(50, 100)), mapped(Run{0, 0, 40, "eu", 0, 0}, Run{50, 40, 50, "eu", 0, 40}), []LedgerEntry{entry(ReasonSkipped, 40, 49)}, ""},
		{"skipped fewer than are missing", join(pick(0, 40), pick(50, 100)), mapped(Run{0, 0, 40, "eu", 0, 0}, Run{50, 40, 50, "eu", 0, 40}), []LedgerEntry{entry(ReasonSkipped, 40, 48)}, "missing 49"},
		{"repeated in a new epoch", join(pick(0, 50), pick(30, 100)), mapped(Run{0, 0, 50, "eu", 0, 0}, Run{30, 50, 70, "eu", 1, 30}), []LedgerEntry{entry(ReasonRepeated, 30, 49)}, ""},
		{"repeated, and not declared", join(pick(0, 50), pick(30, 100)), mapped(Run{0, 0, 50, "eu", 0, 0}, Run{30, 50, 70, "eu", 1, 30}), nil, "doubled 30"},
		{"an order that broke and was mended", join(pick(0, 50), pick(60, 70), pick(50, 100)),
			mapped(Run{0, 0, 50, "eu", 0, 0}, Run{60, 50, 10, "eu", 0, 60}, Run{50, 60, 50, "eu", 1, 50}),
			[]LedgerEntry{entry(ReasonOrderBreak, 50, 69), entry(ReasonRepeated, 60, 69)}, ""},
		{"the last ones skipped", join(pick(0, 90)), mapped(Run{0, 0, 90, "eu", 0, 0}), []LedgerEntry{entry(ReasonDeadLetter, 90, 99)}, ""},
		{"the map is wrong", join(pick(0, 100)), mapped(Run{0, 0, 50, "eu", 0, 0}, Run{51, 50, 49, "eu", 0, 51}), nil, "mapped 50"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newComparing(streamOf(source, 7, 3), streamOf(tc.target, 10), source)
			c.claim, c.declared = tc.claim, tc.ledger
			d, err := c.run()
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if d != nil {
				got = fmt.Sprintf("%s %d", d.Kind, d.Source)
			}
			if got != tc.want {
				t.Errorf("found %v, want %q; %q", d, tc.want, c.notes)
			}
		})
	}
}
