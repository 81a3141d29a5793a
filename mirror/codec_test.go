package mirror

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

var somePump = PumpID{From: "eu", To: "us", Topic: "orders", Partition: 3}

// stateValues are one of each durable value, encoded, and what reads it back.
func stateValues() map[string]struct {
	value  any
	raw    []byte
	decode func([]byte) (any, error)
} {
	type entry = struct {
		value  any
		raw    []byte
		decode func([]byte) (any, error)
	}
	c := Checkpoint{Pump: somePump, SourceTopicID: [16]byte{1, 2}, SourceEpoch: 7, SourceNext: 1 << 40, TargetTopicID: [16]byte{3}, TargetEpoch: -1,
		TargetLast: 99, TargetFrom: 100, Lanes: []Lane{{"eu", 2, 5, 1 << 33}, {"ap", 0, 0, 4}}, Writer: "n/1"}
	first := Checkpoint{Pump: somePump, SourceNext: 3, TargetLast: -1, TargetFrom: 100, Fresh: true, Writer: "n/1"}
	on := Checkpoint{Pump: somePump, SourceNext: 9, TargetLast: -1, TargetFrom: 100, Elected: true, Writer: "n/1"}
	i := Incarnation{Pump: somePump, Epoch: 3, Source: 34, Lanes: []Lane{{Origin: "ap", Base: 12}, {Origin: "eu", Base: 5}}, Writer: "n/1", Why: "order-break"}
	m := mapChunk{Pump: somePump, First: 10, Writer: "n/1", Runs: []Run{{10, 5, 7, "eu", 0, 0}, {17, 12, 1, "ap", 2, 9}, {30, 13, 2, "eu", 0, 7}, {12, 50, 2, "eu", 1, 4}}}
	l := LedgerEntry{Link: "a", Pump: somePump, First: 1, Last: 9, Records: -1, Reason: ReasonRetention, Detail: "why", At: time.UnixMilli(5000).UTC(), Writer: "n/1",
		Policy: "dead-letter", Digest: "c0ffee", log: 3}
	n := troubleNote{halted: true, cause: CausePoison, what: "why", since: time.UnixMilli(5000).UTC(), attempts: 12, next: time.UnixMilli(9000).UTC(), writer: "n/1"}
	e := laneEnd{Pump: somePump, At: 1 << 40, Next: "ap", Lanes: []Lane{{Origin: "ap", Epoch: 3, Count: 7}, {Origin: "sa"}}, Writer: "n/1"}
	s := succession{Pump: somePump, which: "7/ap", Place: -1, Last: 5, Why: "nobody knows", Writer: "n/1"}
	return map[string]entry{
		"end":        {e, e.encode(), func(b []byte) (any, error) { return decodeLaneEnd(somePump, "n/1", b) }},
		"succession": {s, s.encode(), func(b []byte) (any, error) { return decodeSuccession(somePump, "n/1", "7/ap", b) }},
		"tail":       {someTail, someTail.encode(), func(b []byte) (any, error) { return decodeLedgerEntry(somePump, b) }},
		"clients": {someClients, encodeClients(3, time.UnixMilli(1000), someClients), func(b []byte) (any, error) {
			_, all, err := decodeClients(somePump, "n/1", b)
			return all, err
		}},
		"trouble":     {n, n.encode(), func(b []byte) (any, error) { return decodeTroubleNote(somePump, b) }},
		"checkpoint":  {c, c.encode(), func(b []byte) (any, error) { return decodeCheckpoint(somePump, "n/1", b) }},
		"beginning":   {first, first.encode(), func(b []byte) (any, error) { return decodeCheckpoint(somePump, "n/1", b) }},
		"going on":    {on, on.encode(), func(b []byte) (any, error) { return decodeCheckpoint(somePump, "n/1", b) }},
		"incarnation": {i, i.encode(), func(b []byte) (any, error) { return decodeIncarnation(somePump, "n/1", b) }},
		"map":         {m, m.encode(), func(b []byte) (any, error) { return decodeMapChunk(somePump, "n/1", b) }},
		"ledger":      {l, l.encode(), func(b []byte) (any, error) { return decodeLedgerEntry(somePump, b) }},
		"key": {[]string{"n/1", "ap"}, stateKey(kindIncarnation, somePump, "n/1", "ap"), func(b []byte) (any, error) {
			kind, p, rest, err := decodeStateKey(b, 2)
			if err == nil && (kind != kindIncarnation || p != somePump) {
				return nil, errors.New("another kind or pump")
			}
			return rest, err
		}},
	}
}

func TestState_RoundTrip(t *testing.T) {
	for name, v := range stateValues() {
		got, err := v.decode(v.raw)
		if err != nil || !reflect.DeepEqual(got, v.value) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, v.value)
		}
		for n := range v.raw {
			if name == "ledger" && n == len(v.raw)-len("\x16dead-letter\x0cc0ffee\x06") || (name == "beginning" || name == "going on") && n >= len(v.raw)-2 {
				continue // what an older node wrote ends here
			}
			if rest := len(v.raw) - n; name == "tail" && (rest == len("\x0cdivert\x0cc0ffee\x06\x02r\x08fast\x08\x10\x02\x04\x06\x08\x02") || rest == len("\x02r\x08fast\x08\x10\x02\x04\x06\x08\x02")) {
				continue
			}
			if _, err := v.decode(v.raw[:n]); err == nil {
				t.Errorf("%s: cut at %d of %d: no error", name, n, len(v.raw))
			}
		}
		newer := append([]byte{v.raw[0] + 1}, v.raw[1:]...)
		if _, err := v.decode(newer); !errors.Is(err, ErrNewerFormat) {
			t.Errorf("%s: newer format: %v", name, err)
		}
	}
}

// An entry as nodes wrote it that knew neither policy nor digest is read for ever, and they read ours.
func TestLedger_OldEntryIsRead(t *testing.T) {
	const old = "\x01\x02a\x02\x12\x01\x20behind-retention\x06why\x90N\x06n/1"
	want := LedgerEntry{Link: "a", Pump: somePump, First: 1, Last: 9, Records: -1, Reason: ReasonRetention, Detail: "why",
		At: time.UnixMilli(5000).UTC(), Writer: "n/1"}
	if got, err := decodeLedgerEntry(somePump, []byte(old)); err != nil || got != want {
		t.Errorf("an old entry reads %+v, %v, want %+v", got, err, want)
	}
	want.Policy, want.Digest = "skip", "c0ffee"
	if got := want.encode(); !strings.HasPrefix(string(got), old) {
		t.Errorf("a new entry is %q, want it to begin as old nodes read it: %q", got, old)
	}
}

// FuzzState: no bytes make a decoder panic, and what it takes says the same when it is written and read again.
func FuzzState(f *testing.F) {
	for _, v := range stateValues() {
		f.Add(v.raw)
	}
	f.Add([]byte{formatVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	endless := encoder{formatVersion}
	endless.int(1 << 40) // elements, in no bytes
	f.Add([]byte(endless))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, v := range stateValues() {
			got, err := v.decode(b)
			e, ok := got.(interface{ encode() []byte })
			if err != nil || !ok {
				continue
			}
			if again, err := v.decode(e.encode()); err != nil || !reflect.DeepEqual(again, got) {
				t.Fatalf("%s: %+v became %+v, %v", name, got, again, err)
			}
		}
		for kind := range restOf {
			_, _, _, _ = decodeStateKey(append([]byte{formatVersion, kind}, b...), restOf[kind])
		}
	})
}

func TestLane_SequenceWraps(t *testing.T) {
	const wrap = int64(1) << 31
	for _, tc := range []struct {
		base, count int64
		want        int32
	}{{0, 0, 0}, {0, 5, 5}, {10, 15, 5}, {0, wrap - 1, 1<<31 - 1}, {0, wrap, 0}, {7, 7 + 3*wrap + 2, 2}} {
		l := Lane{Base: tc.base, Count: tc.count}
		if got := l.sequence(); got != tc.want {
			t.Errorf("sequence of %+v: %d, want %d", l, got, tc.want)
		}
		for _, off := range []int64{0, 1, -1, 1000, -1000, 1<<30 - 1, -(1<<30 - 1)} {
			at := Lane{Base: tc.base, Count: tc.count + off}
			if at.Count < tc.base {
				continue
			}
			if got := l.countAt(at.sequence()); got != at.Count {
				t.Errorf("%+v: count of %d: %d, want %d", l, at.sequence(), got, at.Count)
			}
		}
	}
}

// ahead is a strict weak order: what is not ahead of each other is a class of equals.
func TestCheckpoint_AheadOrders(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	some := func() Checkpoint {
		c := Checkpoint{SourceNext: int64(rng.IntN(3))}
		for _, o := range []string{"eu", "ap"}[:rng.IntN(3)] {
			c.Lanes = append(c.Lanes, Lane{Origin: o, Epoch: int16(rng.IntN(2)), Count: int64(rng.IntN(3))})
		}
		return c
	}
	equal := func(a, b Checkpoint) bool { return !a.ahead(b) && !b.ahead(a) }
	for range 20000 {
		a, b, c := some(), some(), some()
		switch {
		case a.ahead(a):
			t.Fatalf("%+v is ahead of itself", a)
		case a.ahead(b) && b.ahead(a):
			t.Fatalf("%+v and %+v are both ahead", a, b)
		case a.ahead(b) && b.ahead(c) && !a.ahead(c):
			t.Fatalf("%+v > %+v > %+v is broken", a, b, c)
		case equal(a, b) && equal(b, c) && !equal(a, c):
			t.Fatalf("%+v = %+v = %+v is broken", a, b, c)
		}
	}
	if old, zombie := (Checkpoint{SourceNext: 5, Lanes: []Lane{{"eu", 1, 4, 4}}}), (Checkpoint{SourceNext: 9, Lanes: []Lane{{"eu", 0, 0, 9}}}); !old.ahead(zombie) {
		t.Error("a fenced epoch with a higher count wins")
	}
}
