package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// stretch is a batch of records from a real offset on, whose values are their offsets.
func stretch(t *testing.T, from, n int64, s batch.Stamp) []byte {
	t.Helper()
	var all []batch.Record
	for o := from; o < from+n; o++ {
		all = append(all, batch.Record{Offset: o, Timestamp: 5 + o, Value: fmt.Append(nil, o)})
	}
	raw, err := batch.Encode(nil, all, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	batch.SetPlace(raw[:batch.HeaderSize], from, 7)
	return raw
}

// TestPack: what is shown are the records of the piece from the place on, at virtual offsets, whatever batches they are in. What is in the piece as a whole stays as it is.
func TestPack(t *testing.T) {
	plain := batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1}
	ours := batch.Stamp{ProducerID: 9, Epoch: 1, Sequence: 40}
	piece := timeline.Place{Virtual: 1003, Real: 103, From: 100, End: 115}
	for name, c := range map[string]struct {
		place   timeline.Place
		batches [][2]int64 // from and how many
		want    string     // "virtual=real …"
		over    bool
		count   int
	}{
		"whole, from before the place on":  {piece, [][2]int64{{100, 5}, {105, 5}}, "1000=100 1001=101 1002=102 1003=103 1004=104 1005=105 1006=106 1007=107 1008=108 1009=109", false, 2},
		"over the end":                     {piece, [][2]int64{{110, 10}, {120, 2}}, "1010=110 1011=111 1012=112 1013=113 1014=114", true, 1},
		"from before the piece":            {timeline.Place{Virtual: 3, Real: 103, From: 100, End: 115}, [][2]int64{{98, 7}}, "3=103 4=104", false, 1},
		"on both sides":                    {timeline.Place{Virtual: 2, Real: 102, From: 102, End: 104}, [][2]int64{{98, 10}}, "2=102 3=103", false, 1},
		"before it, and nothing of it":     {piece, [][2]int64{{90, 5}, {116, 3}}, "", true, 0},
		"it goes on":                       {timeline.Place{Virtual: 7, Real: 5, From: 5, End: 1 << 62}, [][2]int64{{5, 2}}, "7=5 8=6", false, 1},
		"nothing of the piece in the last": {timeline.Place{Virtual: 2, Real: 106, From: 106, End: 108}, [][2]int64{{100, 6}}, "", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var raw []byte
			for _, b := range c.batches {
				raw = append(raw, stretch(t, b[0], b[1], ours)...)
			}
			raw = append(raw, stretch(t, 500, 3, plain)[:70]...) // cut short
			out, over, err := pack(raw, c.place, 1<<20)
			if err != nil || over != c.over {
				t.Fatalf("over %t, %v", over, err)
			}
			var got []string
			count := 0
			for rest := out; len(rest) > 0; count++ {
				var one []byte
				if _, one, rest, err = batch.Next(rest); err != nil {
					t.Fatal(err)
				}
				if h, err := batch.ParseHeader(one); err != nil || h.LeaderEpoch != -1 {
					t.Errorf("%+v, %v", h, err)
				}
				records, err := batch.Decode(one, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range records {
					got = append(got, fmt.Sprintf("%d=%s", r.Offset, r.Value))
				}
			}
			if all := strings.Join(got, " "); all != c.want || count != c.count {
				t.Errorf("%d batches: %s", count, all)
			}
		})
	}
	if _, _, err := pack(stretch(t, 98, 7, batch.Stamp{ProducerID: 9, Epoch: 1})[:30], piece, 1<<20); err != nil {
		t.Errorf("half a header: %v", err)
	}
	damaged := stretch(t, 110, 10, ours)
	damaged[len(damaged)-3] ^= 1
	damaged[batch.HeaderSize] ^= 0x80
	if _, _, err := pack(damaged, piece, 1<<20); err == nil || errors.Is(err, errSpans) {
		t.Errorf("damaged: %v", err)
	}
}
