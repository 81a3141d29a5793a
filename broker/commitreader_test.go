package broker

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// reading is a reader of some partitions, without a broker, and what it hands over.
func reading(t *testing.T, parts ...*commitPart) (*commitReader, func() []handedCommits) {
	t.Helper()
	l := &CommitLog{c: &Cluster{}, stats: CommitStats{Strange: map[string]int64{}, Held: map[int32]time.Time{}}}
	r := newCommitReader(&commitRun{l: l, batches: make(chan handedCommits)}, Broker{})
	r.session = idle(18)
	for _, p := range parts {
		r.parts[p.partition] = p
	}
	said, ended := []handedCommits(nil), make(chan struct{})
	go func() {
		defer close(ended)
		for b := range r.of.batches {
			b.Commits = slices.Clone(b.Commits)
			said = append(said, b)
			b.taken <- struct{}{}
		}
	}()
	return r, func() []handedCommits { close(r.of.batches); <-ended; return said }
}

// The last records of a log may be cleaned away: then no record reaches its end, but an answer without any bytes is the end, unless the
// broker only had no room for us.
func TestCommitReader_EndsWhereARecordIsMissing(t *testing.T) {
	behind := func() *commitPart {
		return &commitPart{partition: 1, next: 5, end: 9, epoch: -1, skip: -1, damaged: -1, began: true}
	}
	other := Fetched{Partition: 2, DivergingEnd: -1, LastStableOffset: 1, Batches: commitBatch(t, "g", 1)}
	for name, c := range map[string]struct {
		answer    []Fetched
		throttled bool
		want      bool
	}{
		"nothing for anybody":    {nil, false, true},
		"nothing for itself":     {[]Fetched{{Partition: 1, DivergingEnd: -1, LastStableOffset: 9}}, false, true},
		"throttled":              {nil, true, false},
		"something for another":  {[]Fetched{other}, false, false},
		"it cannot be read here": {[]Fetched{{Partition: 1, Err: kerr.NotLeaderForPartition}}, false, true},
	} {
		p := behind()
		r, said := reading(t, p, &commitPart{partition: 2, end: 1, epoch: -1, skip: -1, damaged: -1, began: true, reached: true})
		if c.throttled {
			r.session.throttle.ask(60_000)
		}
		_, lost, err := r.frame(t.Context(), &Frame{Partitions: c.answer})
		all := said()
		ends := slices.ContainsFunc(all, func(b handedCommits) bool { return b.Partition == 1 && b.atEnd })
		if lost.parts != nil { // it stays where it is
			ends = len(all) == 0
		}
		if err != nil || ends != c.want || p.reached != (c.want && lost.parts == nil) {
			t.Errorf("%s: %v, at its end: %v, handed %+v", name, err, p.reached, all)
		}
	}
}

// A damaged batch is read twice more, over other connections, before it is left out.
func TestCommitReader_ReadsWhatIsDamagedAgain(t *testing.T) {
	raw := commitBatch(t, "bad", 2)
	raw[len(raw)-1] ^= 1
	raw = append(raw, stamped(commitBatch(t, "good", 1), 2, -1, false)...)
	p := &commitPart{partition: 1, end: -1, epoch: -1, skip: -1, damaged: -1}
	r, said := reading(t, p)
	f := &Fetched{Partition: 1, LastStableOffset: 3, DivergingEnd: -1, Batches: raw}
	for range 2 {
		var damaged *damagedError
		if err := r.partition(t.Context(), p, f); !errors.As(err, &damaged) || p.next != 0 {
			t.Errorf("%v, next %d", err, p.next)
		}
	}
	err := r.partition(t.Context(), p, f)
	if all := said(); err != nil || p.next != 3 || len(all) != 2 || len(all[0].Commits) != 1 || all[0].Commits[0].Group != "good" || !all[1].atEnd {
		t.Errorf("%v, next %d, %+v", err, p.next, all)
	}
	if s := r.of.l.Stats(); s.Strange["a damaged batch"] != 1 {
		t.Errorf("%+v", s)
	}
}

// A leader whose log is not the one that was read has it read anew, and so has one whose log does not reach there; other errors keep
// the place. What nobody was told of before is not said to begin anew.
func TestCommitReader_BeginsAnewWhereLogsPart(t *testing.T) {
	for name, c := range map[string]struct {
		f     Fetched
		began bool
		next  int64
		tell  bool
	}{
		"it goes on":                  {Fetched{DivergingEnd: -1}, true, 5, false},
		"the logs part":               {Fetched{DivergingEpoch: 2, DivergingEnd: 3}, true, -1, true},
		"the log does not reach here": {Fetched{DivergingEnd: -1, Err: kerr.OffsetOutOfRange}, true, -1, true},
		"it begins later":             {Fetched{DivergingEnd: -1, Err: kerr.OffsetOutOfRange}, false, -1, false},
		"another leads":               {Fetched{DivergingEnd: -1, Err: kerr.NotLeaderForPartition}, true, 5, false},
	} {
		p := &commitPart{next: 5, epoch: 2, end: 4, reached: true, began: c.began}
		err := refusedFetch(p, &c.f)
		if (err != nil) != (name != "it goes on") || p.next != c.next || p.restarted != c.tell || p.reached != (c.next >= 0) {
			t.Errorf("%s: %v, %+v", name, err, p)
		}
	}
}
