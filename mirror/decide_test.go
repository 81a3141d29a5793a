package mirror

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// FuzzDecide: of a batch, exactly the records that are carried, not aborted, not control
// and not below from go to the target, each once; and no batch goes there that its
// broker must refuse.
func FuzzDecide(f *testing.F) {
	f.Add(int64(10), int64(12), uint16(0x3f), uint8(0), uint8(3), int32(0))
	f.Add(int64(10), int64(0), uint16(0x2d), uint8(1), uint8(1), int32(200))
	f.Add(int64(10), int64(99), uint16(0), uint8(2), uint8(5), int32(0))
	f.Fuzz(func(t *testing.T, base, from int64, which uint16, attributes, flags uint8, maxBytes int32) {
		if base < 0 || base > 1<<40 || from < 0 || maxBytes < 0 || maxBytes > 0 && maxBytes < 200 {
			return
		}
		from = base - 4 + from%24
		s := batchSpec{base: base, last: base + 15, id: 7, attributes: int16(attributes) & (1<<3 | 1<<4 | 1<<5 | 1<<6)}
		for i := range int64(16) {
			if which>>i&1 == 1 {
				s.records = append(s.records, record(base+i))
			}
		}
		if n := len(s.records); flags&4 != 0 && n > 0 {
			s.last = s.records[n-1].Offset
		}
		raw := rawBatch(s)
		v := view{header: header(t, raw), from: from, carried: flags&1 != 0, aborted: flags&2 != 0, maxBytes: int(maxBytes)}
		act, reason := decide(v)
		if allActions[reason] != act {
			t.Fatalf("%v because of %s", act, reason)
		}
		var want []batch.Record
		if v.carried && !v.aborted && !v.header.Control() {
			for _, r := range s.records {
				if r.Offset < from {
					continue
				}
				if v.header.LogAppendTime() {
					r.Timestamp = v.header.MaxTimestamp
				}
				want = append(want, r)
			}
		}
		var out []*outBatch
		if act != actSkip {
			var err error
			out, err = prepare(&sourceBatch{raw: raw, header: v.header, act: act, why: reason, origin: "eu", from: from}, nil, int(maxBytes), 1<<20, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
		}
		checkOut(t, out, want, int(maxBytes))
		if len(want) > 0 && (out[len(out)-1].next != s.last+1 || !out[len(out)-1].end) {
			t.Errorf("the last batch ends at %d, its source batch at %d", out[len(out)-1].next, s.last+1)
		}
	})
}

// checkOut compares prepared batches with the records they should hold.
func checkOut(t *testing.T, out []*outBatch, want []batch.Record, maxBytes int) {
	t.Helper()
	for i, o := range out {
		batch.Patch(o.bytes, batch.Stamp{ProducerID: 1})
		h := header(t, o.bytes)
		got, err := batch.Decode(o.bytes, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var offsets []int64
		for _, s := range o.spans {
			for j := range s.records {
				offsets = append(offsets, s.first+j)
			}
		}
		if !h.Dense() || h.Control() || h.Transactional() || h.LogAppendTime() || h.DeleteHorizon() || maxBytes > 0 && h.Size() > maxBytes {
			t.Errorf("batch %d would be refused or mean something else: %+v, at most %d bytes", i, h, maxBytes)
		}
		if int(o.records) != len(got) || len(offsets) != len(got) || o.maxTime != h.MaxTimestamp || o.end != (i == len(out)-1) {
			t.Fatalf("batch %d says %+v and holds %d records up to time %d", i, o, len(got), h.MaxTimestamp)
		}
		for j, r := range got {
			if len(want) == 0 || want[0].Offset != offsets[j] || !batch.Equal(want[0], r) {
				t.Fatalf("batch %d: record %d from source offset %d is not what comes next: %v", i, j, offsets[j], want)
			}
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("%d records are lost, the first at %d", len(want), want[0].Offset)
	}
}

func TestAbortedIn_FollowsOverlappingTransactions(t *testing.T) {
	f := newFlow(linkOf(t, fabricOf(t, "eu>us"), "eu>us", Config{}, time.Now), "orders")
	const open = 1 << 4
	got := &broker.Fetched{Aborted: []broker.Aborted{{ProducerID: 2, FirstOffset: 12}, {ProducerID: 1, FirstOffset: 0}, {ProducerID: 1, FirstOffset: 9}}}
	var want []bool
	add := func(raw []byte, copied bool) {
		got.Batches, want = append(got.Batches, raw...), append(want, copied)
	}
	data := func(at, id int64, attributes int16) []byte {
		return rawBatch(batchSpec{base: at, id: id, attributes: attributes, records: records(at, 1)})
	}
	add(data(0, 1, open), false)
	add(data(1, 2, open), true) // of an earlier transaction of 2, which commits
	add(data(2, 1, 0), true)    // not transactional
	add(data(3, 1, open), false)
	add(abortMarker(4, 2, true), false)
	add(abortMarker(5, 1, false), false)
	add(data(6, 1, open), true)
	add(abortMarker(7, 1, true), false)
	add(data(9, 1, open), false)
	add(data(12, 2, open), false)
	add(abortMarker(13, 1, false), false)
	add(data(14, 2, open), false)
	add(abortMarker(15, 2, false), false)
	add(data(16, 2, open), true)
	var copied []bool
	if err := f.walk(got, 0, func(s *sourceBatch) error { copied = append(copied, s.act == actCopy); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(copied, want) {
		t.Errorf("copied %v\nwant   %v", copied, want)
	}
}

func TestMergeGroup_KeepsRecordsAndSpans(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		var parts []*outBatch
		var want []batch.Record
		for at := int64(rng.IntN(9)); len(parts) < 1+rng.IntN(6); {
			n := int64(1 + rng.IntN(5))
			recs := records(at, n)
			if rng.IntN(3) == 0 && n > 2 {
				recs = slices.Delete(recs, 1, 2)
			}
			raw := rawBatch(batchSpec{base: at, last: at + n - 1, records: recs})
			h := header(t, raw)
			act, _ := decide(view{header: h, carried: true})
			out, err := prepare(&sourceBatch{raw: raw, header: h, act: act, origin: "eu"}, nil, 0, 1<<20, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			parts, want = append(parts, out...), append(want, recs...)
			at += n + int64(rng.IntN(2))
		}
		last := parts[len(parts)-1]
		m, err := mergeGroup(parts, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		checkOut(t, []*outBatch{m}, want, 0)
		if m.next != last.next || m.origin != "eu" {
			t.Errorf("merged %+v, the last part %+v", m, last)
		}
		for i := 1; i < len(m.spans); i++ {
			if m.spans[i-1].first+m.spans[i-1].records == m.spans[i].first {
				t.Errorf("spans %v are not joined", m.spans)
			}
		}
	}
}

func TestPrepare_TooLargeRecord(t *testing.T) {
	recs := records(0, 3)
	recs[1].Value = bytes.Repeat([]byte("x"), 500)
	raw := rawBatch(batchSpec{records: recs})
	var large *errTooLarge
	_, err := prepare(&sourceBatch{raw: raw, header: header(t, raw), act: actSplit, origin: "eu"}, nil, 400, 1<<20, time.Time{})
	if !errors.As(err, &large) || large.offset != 1 || large.most != 400 {
		t.Errorf("error %v, want the record at 1", err)
	}
	raw[len(raw)-1] ^= 1
	if _, err := prepare(&sourceBatch{raw: raw, header: header(t, raw), act: actSplit, origin: "eu"}, nil, 400, 1<<20, time.Time{}); err == nil {
		t.Error("a damaged batch is encoded anew")
	}
}

// A target that packs everything anew refuses what is over its limit then: a batch that is small on the wire
// goes there in the form and in the parts that it takes.
func TestPrepare_TargetWithAnotherCompression(t *testing.T) {
	recs := records(0, 8)
	for i := range recs {
		recs[i].Value = bytes.Repeat([]byte("x"), 300)
	}
	packed, err := batch.Encode(nil, recs, batch.LZ4, batch.Stamp{})
	if err != nil {
		t.Fatal(err)
	}
	const most = 1000
	for _, tc := range []struct {
		to   packing
		act  action
		more bool // than one batch
	}{
		{packing{}, actCopy, false},
		{packing{true, batch.LZ4}, actCopy, false},
		{packing{true, batch.Gzip}, actRebuild, false},
		{packing{true, batch.None}, actRebuild, true},
	} {
		h := header(t, packed)
		act, _ := decide(view{header: h, carried: true, maxBytes: most, packing: tc.to})
		if act != tc.act || h.Size() > most {
			t.Fatalf("%v to %+v: %v, want %v", h.Codec(), tc.to, act, tc.act)
		}
		out, err := prepare(&sourceBatch{raw: slices.Clone(packed), header: h, act: act, origin: "eu", packing: tc.to}, nil, most, 1<<20, time.Time{})
		if err != nil || len(out) > 1 != tc.more {
			t.Fatalf("to %+v: %d batches, %v", tc.to, len(out), err)
		}
		checkOut(t, out, recs, most)
		for _, o := range out {
			if got := header(t, o.bytes).Codec(); got != tc.to.of(h) {
				t.Errorf("to %+v: %v", tc.to, got)
			}
		}
	}
}

// oldMessage is a message of format v1, as a broker may still hold it.
func oldMessage(r batch.Record) []byte {
	raw := (&kmsg.MessageV1{Offset: r.Offset, Magic: 1, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}).AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[12:], crc32.ChecksumIEEE(raw[16:]))
	return raw
}

// Messages of the old formats go to the target as v2, and are found there again.
func TestWalk_OldFormats(t *testing.T) {
	f := newFlow(linkOf(t, fabricOf(t, "eu>us"), "eu>us", Config{}, time.Now), "orders")
	recs := records(0, 5)
	var raw []byte
	for _, r := range recs[:3] {
		raw = append(raw, oldMessage(r)...)
	}
	raw = append(raw, rawBatch(batchSpec{base: 3, id: 1, records: recs[3:]})...)
	var out []*outBatch
	var walked []*sourceBatch
	err := f.walk(&broker.Fetched{Batches: append(raw, oldMessage(recs[0])[:20]...)}, 1, func(s *sourceBatch) error {
		walked = append(walked, s)
		if s.act == actSkip {
			return nil
		}
		bs, err := prepare(s, nil, 0, 1<<20, time.Time{})
		out = append(out, bs...)
		return err
	})
	if err != nil || len(walked) != 4 || walked[0].why != whyBelow || walked[1].why != whyOld || walked[3].act != actCopy {
		t.Fatalf("%d batches, %v: %+v", len(walked), err, walked)
	}
	want := recs[1:]
	for _, o := range out {
		checkOut(t, []*outBatch{o}, want[:o.records], 0)
		want = want[o.records:]
	}
	if len(want) > 0 {
		t.Errorf("%d records are lost", len(want))
	}
	got, err := walked[2].decode(1 << 20)
	if err != nil || len(got) != 1 || !batch.Equal(got[0], recs[2]) {
		t.Errorf("a finder sees %+v, %v", got, err)
	}
}

func TestJoins(t *testing.T) {
	small := &outBatch{origin: "eu", bytes: make([]byte, mergeBelow)}
	for _, tc := range []struct {
		name  string
		group int
		next  *outBatch
		most  int
		want  bool
	}{
		{"small ones", 100, small, 0, true},
		{"another origin", 100, &outBatch{origin: "ap", bytes: small.bytes}, 0, false},
		{"a large one", 100, &outBatch{origin: "eu", bytes: make([]byte, mergeBelow+1)}, 0, false},
		{"full", mergeTarget - mergeBelow + 1, small, 0, false},
		{"full for this target", 1000, small, 2 * mergeBelow, false},
	} {
		if got := joins(tc.group, "eu", tc.next, tc.most); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestFlow_Judge(t *testing.T) {
	topo := fabricOf(t, "ap>eu", "eu>us", "us>eu")
	other := fabricOf(t, "ap>eu", "eu>us") // same names, another fabric
	other.Fabric.Name = "elsewhere"
	f := newFlow(linkOf(t, topo, "eu>us", Config{}, time.Now), "orders")
	local := verdict{origin: "eu", carried: true}
	forged := verdict{origin: "eu", carried: true, forged: true}
	for _, tc := range []struct {
		name string
		id   int64
		want verdict
	}{
		{"no id", -1, local},
		{"a client", 4711, local},
		{"a client of a router", topo.RouterClientID("r1", 1, 2), verdict{origin: "eu", carried: true, client: true}},
		{"another fabric", other.MirrorID("us", "us"), local},
		{"relayed from ap", topo.MirrorID("ap", "ap"), verdict{origin: "ap", carried: true}},
		{"our own copies of us", topo.MirrorID("us", "us"), verdict{origin: "us"}},
		{"origin here", topo.MirrorID("eu", "us"), forged},
		{"written by a link from here", topo.MirrorID("ap", "eu"), forged},
		{"an origin nobody knows", topo.MirrorID("mars", "us"), forged},
		{"a layout nobody knows", topo.MirrorID("ap", "ap") | 1<<60, forged},
	} {
		for range 2 { // the second time from the cache
			if got := f.judge(f.link.routing(), tc.id); got != tc.want {
				t.Errorf("%s (%#x): %+v, want %+v", tc.name, tc.id, got, tc.want)
			}
		}
	}
}

// TestAdjoins: batches are merged where nothing lies between them at the source, and nowhere else.
func TestAdjoins(t *testing.T) {
	one := func(spans ...span) *outBatch { return &outBatch{spans: spans} }
	for _, tc := range []struct {
		b, next *outBatch
		want    bool
	}{
		{one(span{0, 3}), one(span{3, 1}), true},
		{one(span{0, 3}), one(span{4, 1}), false}, // a mark
		{one(span{0, 3}, span{5, 2}), one(span{7, 1}), true},
		{one(span{0, 3}, span{5, 2}), one(span{3, 1}), false},
		{one(), one(span{0, 1}), false},
	} {
		if got := adjoins(tc.b, tc.next); got != tc.want {
			t.Errorf("%v, then %v: %v", tc.b.spans, tc.next.spans, got)
		}
	}
}
