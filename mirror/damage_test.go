package mirror

import (
	"errors"
	"fmt"
	"testing"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/topology"
)

func TestDamage_GoesOnByPolicy(t *testing.T) {
	source, target := &damage{}, &damage{target: true}
	newSource, newTarget := &damage{anew: true}, &damage{anew: true, target: true}
	keep, anew := topology.Policy{TruncatedSource: topology.KeepTruncated}, topology.Policy{Recreated: topology.NewIncarnation}
	defaults := topology.Policy{TruncatedSource: topology.FreezeTruncated, Recreated: topology.HaltRecreated}
	for _, tc := range []struct {
		name   string
		d      *damage
		p      topology.Policy
		policy string
		on     bool
	}{
		{"a truncated source is frozen", source, defaults, "keep", false},
		{"and without a policy", source, topology.Policy{}, "keep", false},
		{"keep goes on", source, keep, "keep", true},
		{"not with a topic made anew", newSource, keep, "new-incarnation", false},
		{"a truncated target heals", target, defaults, "", true},
		{"a new topic halts", newTarget, defaults, "new-incarnation", false},
		{"a new source goes on", newSource, anew, "new-incarnation", true},
		{"a new target goes on", newTarget, anew, "new-incarnation", true},
		{"not with a truncated source", source, anew, "keep", false},
	} {
		policy, on := tc.d.goesOn(tc.p)
		if on != tc.on || policy != tc.policy {
			t.Errorf("%s: %q, %t", tc.name, policy, on)
		}
	}
}

func run(source, target, records int64) Run {
	return Run{Source: source, Target: target, Records: records, Origin: "eu", Count: source}
}

func TestMappedFrom(t *testing.T) {
	runs := []Run{run(0, 0, 5), run(7, 5, 3), run(12, 20, 2)}
	for _, tc := range []struct {
		from int64
		want mapped
	}{
		{0, mapped{10, 0, 13, 0, 21}},
		{4, mapped{6, 4, 13, 4, 21}},
		{5, mapped{5, 7, 13, 5, 21}},
		{13, mapped{1, 13, 13, 21, 21}},
		{14, mapped{0, 0, -1, 0, -1}},
	} {
		if got := mappedFrom(runs, tc.from); got != tc.want {
			t.Errorf("from %d: %+v, want %+v", tc.from, got, tc.want)
		}
	}
}

func TestLossOf(t *testing.T) {
	ordered := []Run{run(0, 0, 5), run(7, 5, 3), run(12, 20, 2)}
	crossed := []Run{run(0, 10, 3), run(3, 0, 4)} // the first three lie behind the others
	for _, tc := range []struct {
		name            string
		runs            []Run
		at, start, next int64
		want            targetLoss
	}{
		{"nothing", ordered, 22, 0, 14, targetLoss{first: 14, last: -1, from: 14}},
		{"the end of a run", ordered, 6, 0, 14, targetLoss{first: 8, last: 13, again: 4, from: 8}},
		{"others stood there too", ordered, 12, 0, 14, targetLoss{first: 12, last: 13, again: 2, from: 12}},
		{"of which the source has less", ordered, 6, 13, 14, targetLoss{first: 8, last: 13, gone: 3, again: 1, from: 13}},
		{"of which the source has nothing", ordered, 6, 14, 14, targetLoss{first: 8, last: 13, gone: 4, from: 14}},
		{"everything", ordered, 0, 2, 14, targetLoss{first: 0, last: 13, gone: 2, again: 8, from: 2}},
		{"what is not lost stands behind it at the source", crossed, 5, 0, 7, targetLoss{first: 0, last: 2, again: 3, doubled: 4, from: 0}},
		{"of which the source has nothing, nor what comes next", ordered, 6, 20, 14, targetLoss{first: 8, last: 13, gone: 4, from: 14}},
		{"an empty map", nil, 0, 0, 9, targetLoss{first: 9, last: -1, from: 9}},
	} {
		if got := lossOf(tc.runs, tc.at, tc.start, tc.next); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestLastCommon(t *testing.T) {
	for common := range int64(300) {
		for _, most := range []int64{common, common + 1, common + 7, 1000} {
			asked := 0
			got, err := lastCommon(0, most, func(at int64) (bool, error) { asked++; return at <= common, nil })
			if err != nil || got != common || asked > 24 {
				t.Fatalf("common up to %d of %d: %d after %d questions, %v", common, most, got, asked, err)
			}
		}
	}
	if got, err := lastCommon(5, 5, func(int64) (bool, error) { return false, nil }); got != 5 || err != nil {
		t.Errorf("nothing to ask: %d, %v", got, err)
	}
	broken := errors.New("away")
	if _, err := lastCommon(0, 9, func(int64) (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func anchoredAt(epoch int16, source int64, a anchorage, origins ...string) Incarnation {
	i := Incarnation{Pump: somePump, Epoch: epoch, Source: source, Writer: "a", Why: "test", anchor: &a}
	for _, o := range origins {
		i.Lanes = append(i.Lanes, Lane{Origin: o, Base: 8})
	}
	return i
}

// What an anchored epoch voids is void for that epoch's forerunners only, and for the origins that it names.
func TestIncarnation_KeepsRuns(t *testing.T) {
	old := run(0, 100, 10)
	later, other := old, old
	later.Epoch, other.Origin = 2, "ap"
	for _, tc := range []struct {
		name string
		a    anchorage
		r    Run
		want int64
	}{
		{"no cut", anchorage{sourceCut: noCut, targetCut: noCut}, old, 10},
		{"at the source", anchorage{sourceCut: 4, targetCut: noCut}, old, 4},
		{"behind it", anchorage{sourceCut: 10, targetCut: noCut}, old, 10},
		{"before it", anchorage{sourceCut: 0, targetCut: noCut}, old, 0},
		{"on the target", anchorage{sourceCut: noCut, targetCut: 103}, old, 3},
		{"all of it", anchorage{sourceCut: noCut, targetCut: 0}, old, 0},
		{"both", anchorage{sourceCut: 6, targetCut: 103}, old, 3},
		{"of the epoch itself", anchorage{sourceCut: 0, targetCut: 0}, later, 10},
		{"of an origin that had none", anchorage{sourceCut: 0, targetCut: 0}, other, 10},
	} {
		if got := anchoredAt(2, 4, tc.a, "eu").keeps(tc.r); max(0, got.Records) != tc.want {
			t.Errorf("%s: %d records are left, want %d", tc.name, got.Records, tc.want)
		}
	}
	if got := (Incarnation{Epoch: 2, Lanes: []Lane{{Origin: "eu"}}}).keeps(old); got != old {
		t.Errorf("an epoch that is not anchored voids %+v", got)
	}
}

// The later run wins: of a map with both, only the new copy of an offset that the source has given to another record is found.
func TestOffsetMap_CutIsUnambiguous(t *testing.T) {
	var m OffsetMap
	m.Add(run(0, 0, 8))
	i := anchoredAt(1, 5, anchorage{sourceCut: 5, targetCut: noCut}, "eu")
	m.cut(i)
	if at, ok := m.Forward(5); ok || m.Records() != 5 {
		t.Errorf("source offset 5 is at %d, of %d records", at, m.Records())
	}
	m.Add(Run{Source: 5, Target: 8, Records: 4, Origin: "eu", Epoch: 1, Count: 8})
	for source, want := range []int64{0, 1, 2, 3, 4, 8, 9, 10, 11} {
		if at, ok := m.Forward(int64(source)); !ok || at != want {
			t.Errorf("source offset %d is at %d, want %d", source, at, want)
		}
	}
	for target, want := range []int64{0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7, 8} { // behind what the source lost comes what it has now
		if at, ok := m.Inverse(int64(target)); !ok || at != want {
			t.Errorf("target offset %d is from %d, want %d", target, at, want)
		}
	}
}

// One record moves a pump, whoever reads it: the first of an epoch wins, later epochs win over earlier ones, and a zombie's checkpoint never does.
func TestStore_AnchoredDecisionMovesThePump(t *testing.T) {
	at := func(writer string, next int64, epoch int16, count int64) Checkpoint {
		return Checkpoint{Pump: somePump, SourceTopicID: [16]byte{1}, TargetTopicID: [16]byte{2}, SourceNext: next, TargetLast: count - 1, TargetFrom: count,
			TargetEpoch: 3, SourceEpoch: 4, SourcePartitions: 2, Writer: writer, Lanes: []Lane{{Origin: "eu", Epoch: epoch, Count: count}}}
	}
	s := memoryStore(at("a", 8, 0, 8))
	first := anchoredAt(1, 5, anchorage{sourceTopicID: [16]byte{9}, targetTopicID: [16]byte{2}, targetFrom: 11, sourceCut: 5, targetCut: noCut, sourcePartitions: 3}, "eu")
	second := first
	second.Writer, second.Source = "b", 6
	put := func(offset int64, i Incarnation) { s.take(topicCheckpoints, recordOf(offset, i.key(), i.encode())) }
	put(10, first)
	put(11, second)
	want := "5 [9] -1 11 -1 -1 [{eu 1 8 8}] 3"
	say := func() string {
		c, _ := s.best(somePump)
		return fmt.Sprint(c.SourceNext, c.SourceTopicID[:1], c.SourceEpoch, c.TargetFrom, c.TargetLast, c.TargetEpoch, c.Lanes, c.SourcePartitions)
	}
	if got := say(); got != want {
		t.Errorf("the pump is at %s, want %s", got, want)
	}
	zombie := at("z", 99, 0, 99)
	s.take(topicCheckpoints, recordOf(12, zombie.key(), zombie.encode()))
	if got := say(); got != want {
		t.Errorf("behind a zombie the pump is at %s, want %s", got, want)
	}
	if i, ok := s.anchored(zombie); !ok || i.Writer != "a" {
		t.Errorf("a zombie learns of %+v, %t", i, ok)
	}
	moved := at("a", 7, 1, 10)
	s.take(topicCheckpoints, recordOf(13, moved.key(), moved.encode()))
	if c, _ := s.best(somePump); c.SourceNext != 7 || c.SourceEpoch != 4 {
		t.Errorf("who went on from there is at %+v", c)
	}
	if i, ok := s.anchored(moved); ok {
		t.Errorf("who went on from there is moved by %+v", i)
	}
	put(14, anchoredAt(3, 2, anchorage{sourceCut: noCut, targetCut: noCut}, "eu"))
	if c, _ := s.best(somePump); c.SourceNext != 2 || c.lane("eu").Epoch != 3 || s.lastEpoch(somePump) != 3 {
		t.Errorf("by a later anchor the pump is at %+v", c)
	}
}

func recordOf(offset int64, key, value []byte) batch.Record {
	return batch.Record{Offset: offset, Key: key, Value: value}
}

// A source that answers with what comes after a gap, instead of saying that the place is out of its log, has deleted what is in between.
func TestPump_LogStartBehindThePlaceIsLookedInto(t *testing.T) {
	b := newBench(t)
	b.pump.offer(&broker.Fetched{DivergingEnd: -1, PreferredReplica: -1, LogStart: 7, HighWatermark: 9,
		Batches: rawBatch(batchSpec{base: 7, records: []batch.Record{{Value: []byte("x")}}})}, b.pump.fetchAt, nil, b.now)
	if b.pump.state != StateFinding || b.pump.cause != CauseRetention || len(b.pump.out.queue) > 0 || b.pump.acked.SourceNext != 0 {
		t.Errorf("%s [%s], %d batches queued, next %d", b.pump.state, b.pump.cause, len(b.pump.out.queue), b.pump.acked.SourceNext)
	}
}

// What another writer stored of the map before an anchored epoch is read without what is void.
func TestStore_RunsAreReadWithoutWhatIsVoid(t *testing.T) {
	s := memoryStore()
	c := mapChunk{Pump: somePump, Writer: "b", Runs: []Run{run(0, 0, 8)}}
	s.take(topicMap, recordOf(1, c.key(), c.encode()))
	i := anchoredAt(1, 5, anchorage{sourceCut: 5, targetCut: noCut}, "eu")
	s.take(topicCheckpoints, recordOf(2, i.key(), i.encode()))
	if got := runsIn(s); len(got) != 1 || got[0] != run(0, 0, 5) {
		t.Errorf("%+v, want the first five records", got)
	}
}
