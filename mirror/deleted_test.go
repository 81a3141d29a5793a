package mirror

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestJudgeAbsence(t *testing.T) {
	now, grace := time.Unix(1_000_000, 0), time.Hour
	gone := absence{follow: true, answer: kerr.UnknownTopicOrPartition, cluster: "c", brokers: 3, onTarget: true, same: true, copied: true}
	since := func(age time.Duration) *vanished { return &vanished{since: now.Add(-age), cluster: "c"} }
	doomed := since(grace)
	doomed.doomed = now
	but := func(f func(*absence)) absence { a := gone; f(&a); return a }
	for _, tc := range []struct {
		name  string
		a     absence
		known *vanished
		want  judgement
	}{
		{"it is noted first", gone, nil, vanishNote},
		{"its grace runs", gone, since(grace - time.Second), vanishWait},
		{"it is over", gone, since(grace), vanishDelete},
		{"the link keeps", but(func(a *absence) { a.follow = false }), nil, vanishNothing},
		{"the link keeps again: the time begins anew", but(func(a *absence) { a.follow = false }), since(2 * grace), vanishClear},
		{"it was never copied", but(func(a *absence) { a.copied = false }), since(2 * grace), vanishNothing},
		{"it is back", but(func(a *absence) { a.answer = nil }), since(2 * grace), vanishClear},
		{"it is there", but(func(a *absence) { a.answer = nil }), nil, vanishNothing},
		{"not authorised", but(func(a *absence) { a.answer = kerr.TopicAuthorizationFailed }), since(2 * grace), vanishDoubt},
		{"no answer", but(func(a *absence) { a.answer = errors.New("cut") }), nil, vanishDoubt},
		{"half an answer", but(func(a *absence) { a.brokers = 0 }), nil, vanishDoubt},
		{"nobody knows who answered", but(func(a *absence) { a.cluster = "" }), since(2 * grace), vanishDoubt},
		{"another cluster answers", but(func(a *absence) { a.cluster = "d" }), since(2 * grace), vanishDoubt},
		{"it is not on the target either", but(func(a *absence) { a.onTarget = false }), nil, vanishNothing},
		{"it was just deleted", but(func(a *absence) { a.onTarget = false }), since(grace), vanishForget},
		{"it was to be deleted, and is there", gone, doomed, vanishDelete},
		{"it was to be deleted, and is gone", but(func(a *absence) { a.onTarget = false }), doomed, vanishDone},
		{"it was to be deleted, and another one is there", but(func(a *absence) { a.same = false }), doomed, vanishDone},
		{"it was to be deleted, is gone, and the link keeps now", but(func(a *absence) { a.onTarget, a.follow = false, false }), doomed, vanishDone},
		{"it was to be deleted, is there, and the link keeps now", but(func(a *absence) { a.follow = false }), doomed, vanishClear},
		{"it was to be deleted, is gone, and back at the source", but(func(a *absence) { a.onTarget, a.answer = false, nil }), doomed, vanishClear},
		{"it was to be deleted, is gone, and nobody knows who says so", but(func(a *absence) { a.onTarget, a.cluster = false, "d" }), doomed, vanishDoubt},
		{"the target's is another one", but(func(a *absence) { a.same = false }), since(grace), vanishLeave},
		{"another link brings it too", but(func(a *absence) { a.also = "x" }), since(grace), vanishLeave},
		{"others wrote to it", but(func(a *absence) { a.others = true }), since(grace), vanishLeave},
	} {
		got, why := judgeAbsence(tc.a, tc.known, now, grace)
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if says := got == vanishDoubt || got == vanishLeave || got == vanishClear; says != (why != "") {
			t.Errorf("%s: %q says %q", tc.name, got, why)
		}
	}
}

func TestVanished_IsDurable(t *testing.T) {
	v := vanished{since: time.UnixMilli(123456).UTC(), cluster: "c", writer: "n"}
	doomed := v
	doomed.doomed = time.UnixMilli(234567).UTC()
	if got, err := decodeVanished(somePump, doomed.encode()); err != nil || got != doomed {
		t.Errorf("%+v, %v; want %+v", got, err, doomed)
	}
	s := memoryStore()
	s.take(topicCheckpoints, recordOf(1, vanishedKey(somePump), v.encode()))
	if got := s.vanished(somePump); got == nil || *got != v {
		t.Errorf("%+v, want %+v", got, v)
	}
	if _, ok := s.best(somePump); ok {
		t.Error("it counts as a place")
	}
	s.take(topicCheckpoints, recordOf(2, vanishedKey(somePump), nil))
	if got := s.vanished(somePump); got != nil {
		t.Errorf("%+v is still there", got)
	}
}

// What is forgotten leaves nothing behind that a topic of the same name would find.
func TestStore_TombstonesLeaveNothing(t *testing.T) {
	s := memoryStore(Checkpoint{Pump: somePump, SourceNext: 5, Writer: "a"}, Checkpoint{Pump: somePump, SourceNext: 6, Writer: "b"})
	i := anchoredAt(1, 4, anchorage{sourceCut: noCut, targetCut: noCut}, "eu")
	s.take(topicCheckpoints, recordOf(5, i.key(), i.encode()))
	c := mapChunk{Pump: somePump, Writer: "a", Runs: []Run{run(0, 0, 5)}}
	s.take(topicMap, recordOf(6, c.key(), c.encode()))
	s.take(topicCheckpoints, recordOf(7, groupNoteKey(somePump, "shop"), groupPair{source: 5, target: 5}.encode()))
	end := laneEnd{Pump: somePump, At: 5, Next: "ap", Lanes: []Lane{{Origin: "ap", Count: 5}}, Writer: "a"}
	s.take(topicCheckpoints, recordOf(8, end.key(), end.encode()))
	next := succession{Pump: somePump, which: end.which(), Place: 7, Last: 4, Writer: "b"}
	s.take(topicCheckpoints, recordOf(9, next.key(), next.encode()))
	for n, r := range s.tombstones(somePump) {
		s.take(r.Topic, recordOf(int64(10+n), r.Key, r.Value))
	}
	if c, ok := s.best(somePump); ok || len(runsIn(s)) > 0 || s.lastEpoch(somePump) != 0 || s.groupPair(somePump, "shop") != nil {
		t.Errorf("%+v is left, %d runs, epoch %d", c, len(runsIn(s)), s.lastEpoch(somePump))
	}
	if _, known := s.succession(end); known || len(s.laneFacts(somePump).ends) > 0 {
		t.Error("it has given up origins of which it has copied nothing, and another link would go on behind them")
	}
}
