package gate

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/router/pack"
)

func written() []Partition {
	return []Partition{
		{"orders", 3, []Producer{
			{ID: 10, Epoch: 2, Last: 9, Time: 1000, Batches: []Written{{1, 0, 4, -1, 990}, {2, 0, 9, 77, 1000}}},
			{ID: 9, Last: -1, Time: 1001, Unsure: true},
		}},
		{"orders", 4, []Producer{{ID: 1 << 62, Last: 3, Time: 5, Batches: []Written{{0, top - 1, 3, math.MaxInt64 - 1, -5}}}}},
		{"late", 4, []Producer{{ID: 0, Epoch: math.MaxInt16, Last: top}}},
	}
}

// TestCodec_IsForEver holds the format to bytes that are in the topics of clusters: they must be read for ever.
func TestCodec_IsForEver(t *testing.T) {
	const want = "01" + "02066f726465727303" + "14020ad00f04" + "01000400" + "14" + "0000094e00" + "0001000002" + "01" +
		"0104" + "eeffffffffffffff7f" + "0004c70f02" + "00feffffff0705ffffffffffffffff7f14" +
		"02046c61746504" + "ffffffffffffffff7f" + "ffff01" + "8080808008" + "0900"
	chunks, err := Encode(written())
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
	if got, err := Decode(b); err != nil || !reflect.DeepEqual(got, written()) {
		t.Errorf("got\n%+v, %v, want\n%+v", got, err, written())
	}
}

// many are producers as routers give them ids, each with five batches.
func many(n int) []Producer {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]Producer, n)
	now, base := int64(1_790_000_000_000), int64(1)<<30
	for i := range out {
		p := Producer{ID: 0x65f058d000000200 + int64(i)<<9, Last: int32(r.IntN(1 << 30)), Time: now - r.Int64N(3_600_000)}
		for k := range Remembered {
			first := after(p.Last, int64(k-Remembered)*100+1)
			p.Batches = append(p.Batches, Written{0, first, after(first, 99), base + r.Int64N(1<<24), p.Time - int64(Remembered-1-k)*50})
		}
		out[i] = p
	}
	return out
}

func TestCodec_Chunks(t *testing.T) {
	var parts []Partition
	for i := range int32(40) {
		parts = append(parts, Partition{fmt.Sprintf("topic-%d", i/8), i % 8, many(100)})
	}
	parts = append(parts, Partition{"one", 0, many(30_000)}, Partition{"none", 0, nil})
	chunks, err := Encode(parts)
	if err != nil {
		t.Fatal(err)
	}
	var got []Partition
	bytes := 0
	for _, c := range chunks {
		if bytes += len(c); len(c) > MaxChunkBytes {
			t.Errorf("a chunk of %d bytes", len(c))
		}
		part, err := Decode(c)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(got); n > 0 && got[n-1].Topic == part[0].Topic && got[n-1].Partition == part[0].Partition {
			got[n-1].Producers = append(got[n-1].Producers, part[0].Producers...)
			part = part[1:]
		}
		got = append(got, part...)
	}
	if !reflect.DeepEqual(got, parts[:len(parts)-1]) {
		t.Error("what was read is not what was written")
	}
	t.Logf("34 000 producers: %d chunks, %d bytes", len(chunks), bytes)
	if len(chunks) < 3 {
		t.Errorf("%d chunks only", len(chunks))
	}
}

func TestCodec_WhatIsRefused(t *testing.T) {
	if _, err := Encode([]Partition{{strings.Repeat("x", MaxChunkBytes), 0, many(1)}}); !errors.Is(err, pack.ErrTooLarge) {
		t.Error(err)
	}
	for _, p := range []Partition{{"", 0, many(1)}, {"t", -1, many(1)}, {"t", 0, []Producer{{ID: -1}}}} {
		if _, err := Encode([]Partition{p}); err == nil {
			t.Errorf("%+v was written", p)
		}
	}
	chunks, err := Encode(written())
	if err != nil {
		t.Fatal(err)
	}
	whole := chunks[0]
	for cut := range whole {
		got, err := Decode(whole[:cut])
		if err == nil && (cut == 0 || reflect.DeepEqual(got, written())) || err != nil && !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("%d of %d bytes: %+v, %v", cut, len(whole), got, err)
		}
	}
	if _, err := Decode(append([]byte{Version + 1}, whole[1:]...)); !errors.Is(err, pack.ErrVersion) {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"no topic":         {Version, 0, 2, 0, 0, 0, 0},
		"negative id":      {Version, 2, 1, 't', 0, 1, 0, 0, 0, 0},
		"batch ahead":      {Version, 2, 1, 't', 0, 2, 0, 1, 0, 2, 0, 5, 1, 0, 0},
		"a strange place":  {Version, 3},
		"six batches":      {Version, 2, 1, 't', 0, 2, 0, 1, 0, 12},
		"id over the edge": {Version, 2, 1, 't', 0, 254, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0},
	} {
		if _, err := Decode(b); !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// flat is each producer with its partition.
func flat(parts []Partition) (out []Partition) {
	for _, p := range parts {
		for _, one := range p.Producers {
			out = append(out, Partition{p.Topic, p.Partition, []Producer{one}})
		}
	}
	return out
}

func FuzzDecode(f *testing.F) {
	chunks, err := Encode(written())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chunks[0])
	f.Add([]byte{Version})
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, err := Decode(b)
		if err != nil {
			if parts != nil {
				t.Error("partitions beside an error")
			}
			return
		}
		chunks, err := Encode(parts)
		if errors.Is(err, pack.ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var again []Partition
		for _, c := range chunks {
			part, err := Decode(c)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, part...)
		}
		if !reflect.DeepEqual(flat(again), flat(parts)) {
			t.Errorf("%+v became %+v", parts, again)
		}
	})
}
