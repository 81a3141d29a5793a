package gossip

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func aReport() Report {
	return Report{Started: 5, Seq: 7, DC: "eu", Version: "1", GRPC: "a:1", HTTP: "b:2", Capacity: 1.5, Ready: true, FileHash: 3, ConfigHash: 4,
		Reach: map[string]Reach{"x": {Reads: true, RTT: time.Millisecond, Trouble: "slow"}, "y": {Writes: true}},
		Bytes: 1e6, Heavy: []Load{{Pump: 9, Bytes: 10, Lagging: true}}}
}

func TestMessages_ComeBackAsTheyWere(t *testing.T) {
	rep := aReport()
	from, kind, r, err := unpack(packReport("n1", rep))
	if err != nil || from != "n1" || kind != kindReport {
		t.Fatalf("head is %q %d %v, want that of a report of n1", from, kind, err)
	}
	if got, err := unpackReport(r); err != nil || !reflect.DeepEqual(got, rep) {
		t.Errorf("report is %+v (%v), want %+v", got, err, rep)
	}
	pins, version := []Pin{{1, "a"}, {2, "b"}}, Time{Wall: 1, Counter: 2, Node: "n"}
	_, _, r, _ = unpack(packPins("n1", version, pins))
	if v, got, err := unpackPins(r); err != nil || v != version || !reflect.DeepEqual(got, pins) {
		t.Errorf("pins are %v %v (%v)", v, got, err)
	}
	s := summary{Started: 3, Pins: version, Nodes: []known{{Name: "a", Started: 1, Seq: 2, Crashes: 3, Age: 4, Left: true}, {Name: "b"}}}
	s.Buckets[63] = 8
	_, _, r, _ = unpack(packSummary("n1", s))
	if got, err := unpackSummary(r); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("summary is %+v (%v), want %+v", got, err, s)
	}
	q := want{IDs: []Time{version}, Buckets: []part{{Index: 5, Has: []Time{version, version}}}, Reports: []string{"a", "b"}, Pins: true}
	if got, err := unpackWant(packWant(q)); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("want is %+v (%v), want %+v", got, err, q)
	}
	l := letter{FromStarted: 1, To: "n2", ToStarted: 2, Seq: 3, Kind: "k", Payload: []byte("p")}
	_, _, r, _ = unpack(packLetter("n1", l))
	if got, err := unpackLetter(r); err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("letter is %+v (%v), want %+v", got, err, l)
	}
	o := sighting{Node: "n", Started: 1, By: 2, Count: 3, Lost: true, Sure: true}
	_, _, r, _ = unpack(packSighting("n1", o))
	if got, err := unpackSighting(r); err != nil || got != o {
		t.Errorf("sighting is %+v (%v), want %+v", got, err, o)
	}
	m := meta{Started: 9, Settled: true, DC: "eu"}
	if got, err := unpackMeta(append(packMeta(m), "of a later version"...)); err != nil || got != m {
		t.Errorf("meta is %+v (%v), want %+v", got, err, m)
	}
}

func TestUnpack_NamesWhoSpeaksANewerVersion(t *testing.T) {
	b := packReport("n9", aReport())
	b[0] = messageVersion + 1
	from, _, _, err := unpack(b)
	var newer *errNewer
	if !errors.As(err, &newer) || from != "n9" || newer.version != messageVersion+1 {
		t.Errorf("a newer message gives %q and %v, want its sender and version", from, err)
	}
	b[0] = 0
	if _, _, _, err := unpack(b); err == nil || errors.As(err, &newer) && newer.version == 0 {
		t.Errorf("version 0 gives %v, want an error of its own", err)
	}
}

func TestUnpack_RefusesWhatNoNodeSays(t *testing.T) {
	rep := aReport()
	for name, change := range map[string]func(r *Report){
		"a negative capacity": func(r *Report) { r.Capacity = -1 },
		"a long data center":  func(r *Report) { r.DC = strings.Repeat("x", maxNameBytes+1) },
		"a round trip of a day": func(r *Report) {
			r.Reach = map[string]Reach{"x": {RTT: 24 * time.Hour}}
		},
		"a trouble that is no text": func(r *Report) {
			r.Reach = map[string]Reach{"x": {Trouble: "caf\xc3"}}
		},
		"too many pumps": func(r *Report) { r.Heavy = make([]Load, maxHeavy+1) },
	} {
		bad := rep
		change(&bad)
		_, _, r, err := unpack(packReport("n1", bad))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unpackReport(r); err == nil {
			t.Errorf("a report with %s is read, want an error", name)
		}
	}
	_, _, r, _ := unpack(append(packReport("n1", rep), 0))
	if _, err := unpackReport(r); err == nil {
		t.Error("a report with a byte too many is read, want an error")
	}
	r = &unpacker{b: []byte{0xff, 0xff, 0xff, 0xff, 0x7f}} // a count without items
	if n := r.count(maxIDs); n != 0 || r.err == nil {
		t.Errorf("a count of nothing gives %d items (%v), want an error", n, r.err)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(packReport("n1", aReport()))
	f.Add(packPins("n1", Time{Wall: 1, Node: "n"}, []Pin{{1, "a"}}))
	f.Add(packSummary("n1", summary{Started: 1, Nodes: []known{{Name: "a", Crashes: 1}}}))
	f.Add(packLetter("n1", letter{To: "self", ToStarted: 1, Seq: 1, Kind: letterWant, Payload: packWant(want{Pins: true, IDs: []Time{{Wall: 1, Node: "n"}}})}))
	f.Add(packLetter("n1", letter{To: "self", ToStarted: 1, Seq: 2, Kind: letterGive, Payload: packList([][]byte{packReport("n2", aReport())})}))
	f.Add(packLetter("n1", letter{To: "self", ToStarted: 1, Seq: 3, Kind: letterPropose, Payload: make([]byte, 20)}))
	f.Add(packLetter("n1", letter{To: "self", ToStarted: 1, Seq: 3, Kind: letterKey, Payload: make([]byte, 20)}))
	f.Add(packSighting("n1", sighting{Node: "n2", Started: 1, Lost: true}))
	f.Add(packChange("n1", Change{Version: Time{Wall: 1, Node: "n"}, Entries: []Entry{{Key: "k", Value: []byte("v")}}}))
	w := pack("n1", kindHolds)
	packTimes(w, []Time{{Wall: 1, Node: "n"}})
	f.Add(w.b)
	p := aPool(f, Config{Name: "self", Started: 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &delegate{p}
		d.NotifyMsg(b)
		d.MergeRemoteState(b, true)
		p.takeGive("n1", b)
		p.serveWant("n1", b)
		d.NotifyPingComplete(&memberlist.Node{Name: "n1"}, 0, b)
		_, _ = unpackMeta(b)
	})
}
