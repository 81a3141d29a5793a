package timeline

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/router/pack"
)

// written is of one of each kind.
func written(t testing.TB) []Entry {
	line, err := Begin(0, "eu", 0).Next(Change{Home: "us", End: 100, Bound: 150, First: 151, Real: 1000, Own: 1000, Missing: []Span{{20, 30}, {40, 41}}})
	if err != nil {
		t.Fatal(err)
	}
	back, err := line.Next(Change{Home: "eu", End: 180, Bound: 180, First: 180, Real: 100, Own: 130})
	if err != nil {
		t.Fatal(err)
	}
	return []Entry{{"orders", 0, Begin(0, "eu", 0)}, {"orders", 7, back}, {"late", 1<<31 - 1, Begin(2, "eu", 5)}, {"orders", 1, line}}
}

// TestCodec_IsForEver holds the format to bytes that are in the topics of clusters: they must be read for ever.
func TestCodec_IsForEver(t *testing.T) {
	const want = "01076f7264657273000001000265750000000007000300000000643202140a0a0101027573" +
		"01e80700" + "1d00" + "00" + "0000641e056c617465ffffffff0702010005050007" + "6f72646572730100020000000064320214" + "0a0a01" + "0101e80700"
	chunks, err := Encode(written(t))
	if err != nil || len(chunks) != 1 {
		t.Fatal(len(chunks), err)
	}
	if got := hex.EncodeToString(chunks[0]); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	b, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(b); err != nil || !reflect.DeepEqual(got, written(t)) {
		t.Errorf("got\n%+v, %v, want\n%+v", got, err, written(t))
	}
}

func TestCodec_Chunks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var entries []Entry
	for topic := range 500 {
		for partition := range 8 {
			line, at, real := Begin(0, "eu-central", 0), int64(0), map[string]int64{}
			for i := range 12 {
				home := []string{"us-east", "eu-central"}[i%2]
				at += r.Int64N(1 << 40)
				real[home] = max(real[home], at) + r.Int64N(1<<40)
				line = mustNext(t, line, Planned(home, at, real[home]))
				at = max(at, line.Now().First)
			}
			entries = append(entries, Entry{Topic: fmt.Sprintf("shop.topic-with-a-name-%d", topic), Partition: int32(partition), Timeline: line})
		}
	}
	chunks, err := Encode(entries)
	if err != nil {
		t.Fatal(err)
	}
	var got []Entry
	bytes := 0
	for _, c := range chunks {
		if bytes += len(c); len(c) > MaxChunkBytes {
			t.Errorf("a chunk of %d bytes", len(c))
		}
		part, err := Decode(c)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part...)
	}
	if !reflect.DeepEqual(got, entries) {
		t.Error("what was read is not what was written")
	}
	t.Logf("%d partitions with 13 generations: %d chunks, %d bytes", len(entries), len(chunks), bytes)
	if len(chunks) < 2 {
		t.Error("one chunk only")
	}
	if none, err := Encode(nil); err != nil || none != nil {
		t.Error(none, err)
	}
}

func mustNext(t *testing.T, line Timeline, c Change) Timeline {
	t.Helper()
	for _, g := range line {
		if g.Home == c.Home {
			c.Real = max(c.Real, g.At(g.End))
			c.Own = c.Real
		}
	}
	line, err := line.Next(c)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestCodec_WhatIsRefused(t *testing.T) {
	long := Begin(0, strings.Repeat("x", MaxChunkBytes), 0)
	if _, err := Encode([]Entry{{"t", 0, Begin(0, "eu", 0)}, {"t", 1, long}}); !errors.Is(err, pack.ErrTooLarge) || !strings.Contains(err.Error(), "t-1") {
		t.Error(err)
	}
	for _, e := range []Entry{{"", 0, Begin(0, "eu", 0)}, {"t", -1, Begin(0, "eu", 0)}, {"t", 0, nil}} {
		if _, err := Encode([]Entry{e}); !errors.Is(err, ErrImpossible) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	chunks, err := Encode(written(t))
	if err != nil {
		t.Fatal(err)
	}
	whole := chunks[0]
	for cut := range whole {
		got, err := Decode(whole[:cut])
		if err == nil && (cut == 0 || len(got) == 4) || err != nil && !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("%d of %d bytes: %+v, %v", cut, len(whole), got, err)
		}
	}
	if _, err := Decode(append([]byte{Version + 1}, whole[1:]...)); !errors.Is(err, pack.ErrVersion) {
		t.Error(err)
	}
	broken := bytes.Replace(whole, []byte("eu"), []byte{2, 2}, 1)
	if _, err := Decode(broken[:12]); err == nil {
		t.Error("half of an entry was read")
	}
	if _, err := Decode([]byte{1, 2, 't', 0, 0, 1, 0, 1, 'e', 0, 5, 0}); !errors.Is(err, ErrImpossible) || !strings.Contains(err.Error(), "t-0") {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	chunks, err := Encode(written(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chunks[0])
	f.Add([]byte{Version})
	f.Add([]byte{Version, 2, 't', 0, 0, 255, 255, 255, 255, 7, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := Decode(b)
		if err != nil {
			if entries != nil {
				t.Error("entries beside an error")
			}
			return
		}
		for _, e := range entries {
			if err := e.Timeline.Check(); err != nil {
				t.Errorf("%s-%d: %v", e.Topic, e.Partition, err)
			}
		}
		chunks, err := Encode(entries)
		if errors.Is(err, pack.ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var again []Entry
		for _, c := range chunks {
			part, err := Decode(c)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, part...)
		}
		if !reflect.DeepEqual(again, entries) {
			t.Errorf("%+v became %+v", entries, again)
		}
	})
}

// FuzzBuild: maps of any timelines and runs keep their promises.
func FuzzBuild(f *testing.F) {
	chunks, err := Encode(written(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chunks[0], []byte{1, 5, 4, 20, 3, 3, 9, 9, 9, 0, 0, 50})
	f.Fuzz(func(t *testing.T, b, more []byte) {
		entries, err := Decode(b)
		if err != nil {
			return
		}
		for _, e := range entries {
			runs := map[int64][]Run{}
			for i, g := range e.Timeline {
				if g.Home != e.Timeline.Now().Home {
					runs[g.Number] = []Run{}
				}
				for j := 3 * i; j+2 < len(more) && g.Home != e.Timeline.Now().Home; j += 3 {
					runs[g.Number] = append(runs[g.Number], Run{From: g.Real + int64(more[j]), To: int64(more[j+1]), Count: int64(more[j+2])})
				}
			}
			m, err := Build(e.Timeline, runs)
			if err != nil {
				continue
			}
			for v := range int64(200) {
				keeps(t, m, v)
			}
			for p := range m.All() {
				for _, v := range []int64{p.Virtual, p.end() - 1} {
					keeps(t, m, v)
				}
			}
		}
	})
}

// keeps looks at what is answered of one offset.
func keeps(t *testing.T, m *Map, v int64) {
	p, _ := m.Place(v, 0)
	if v < maxOffset && (p.Virtual < v || p.Real < p.From || p.Real >= p.End || p.Next <= p.Virtual) {
		t.Errorf("place of %d: %+v", v, p)
	}
	if m.Below(v) > p.Real || m.Least(p.Real) > p.Virtual || m.Least(m.Below(v)) > p.Virtual {
		t.Errorf("%d: place %+v, below %d, least %d", v, p, m.Below(v), m.Least(p.Real))
	}
	if start := m.Start(v); start > m.Least(v) {
		t.Errorf("log start %d: %d is above %d", v, start, m.Least(v))
	}
}
