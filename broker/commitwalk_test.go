package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// logOf puts batches one behind the other, at the offsets given.
type logOf struct {
	t   *testing.T
	raw []byte
	at  []int // where each batch begins
}

// add puts a batch of commits of one group at an offset, of a transaction if it has a producer.
func (l *logOf) add(base int64, producer int64, group string, partitions int) {
	l.t.Helper()
	raw := commitBatch(l.t, group, partitions)
	l.at = append(l.at, len(l.raw))
	l.raw = append(l.raw, stamped(raw, base, producer, false)...)
}

// marker ends a transaction.
func (l *logOf) marker(base, producer int64, commit bool) {
	l.t.Helper()
	kind := byte(0)
	if commit {
		kind = 1
	}
	raw, err := batch.Encode(nil, []batch.Record{{Key: []byte{0, 0, 0, kind}, Value: make([]byte, 6)}}, 0, batch.Stamp{})
	if err != nil {
		l.t.Fatal(err)
	}
	l.at = append(l.at, len(l.raw))
	l.raw = append(l.raw, stamped(raw, base, producer, true)...)
}

// stamped gives a batch its offset and makes it one of a transaction, with a checksum that fits.
func stamped(raw []byte, base, producer int64, control bool) []byte {
	b := kmsg.NewRecordBatch()
	if err := b.ReadFrom(raw); err != nil {
		panic(err)
	}
	b.FirstOffset, b.PartitionLeaderEpoch = base, 4
	if producer >= 0 {
		b.ProducerID, b.Attributes = producer, b.Attributes|1<<4
	}
	if control {
		b.Attributes |= 1 << 5
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

// told is what a walk hands over: group:partition@offset.
func (w *commitWalk) told(t *testing.T, f *Fetched) (all []string, err error) {
	t.Helper()
	err = w.over(f, func(some []Commit) error {
		if len(some) > commitsAtATime+50 {
			t.Errorf("%d at a time", len(some))
		}
		for _, c := range some {
			all = append(all, fmt.Sprintf("%s:%d@%d", c.Group, c.Partition, c.At))
		}
		return nil
	})
	return all, err
}

func walker(from int64) (*commitWalk, *[]string) {
	var strange []string
	return &commitWalk{next: from, skip: -1, decoder: newCommitDecoder(), strange: func(what string) { strange = append(strange, what) }}, &strange
}

// What transactions aborted is not told, what they committed is, also where they overlap and where one producer has one after the other.
func TestCommitWalk_LeavesOutWhatWasAborted(t *testing.T) {
	l := &logOf{t: t}
	l.add(10, 1, "aborted", 2)
	l.add(12, 2, "committed", 1)
	l.add(13, -1, "plain", 1)
	l.add(14, 1, "aborted", 1)
	l.marker(15, 1, false)
	l.add(16, 1, "again", 1)
	l.marker(17, 2, true)
	l.marker(18, 1, true)
	l.add(19, 3, "late", 1)
	l.marker(20, 3, false)
	w, strange := walker(10)
	got, err := w.told(t, &Fetched{Batches: l.raw, Aborted: []Aborted{{3, 19}, {1, 10}}})
	if want := []string{"committed:0@12", "plain:0@13", "again:0@16"}; err != nil || !slices.Equal(got, want) || w.next != 21 || w.epoch != 4 || len(*strange) > 0 {
		t.Errorf("%v, %v, next %d of epoch %d, %v; want %v", got, err, w.next, w.epoch, *strange, want)
	}
}

// An answer may begin before the place and end within a batch.
func TestCommitWalk_BeginsAndEndsInsideABatch(t *testing.T) {
	l := &logOf{t: t}
	l.add(0, -1, "before", 2)
	l.add(2, -1, "a", 3)
	l.add(5, -1, "b", 1)
	l.add(6, -1, "c", 1)
	w, _ := walker(3)
	got, err := w.told(t, &Fetched{Batches: l.raw[:len(l.raw)-1]})
	if want := []string{"a:1@3", "a:2@4", "b:0@5"}; err != nil || !slices.Equal(got, want) || w.next != 6 {
		t.Errorf("%v, %v, next %d; want %v", got, err, w.next, want)
	}
	if got, err := w.told(t, &Fetched{Batches: l.raw[l.at[3] : len(l.raw)-1]}); err == nil || len(got) > 0 || w.next != 6 {
		t.Errorf("a first batch that is cut short: %v, %v, next %d", got, err, w.next)
	}
}

// A damaged batch stops the walk before it, after what is before it was told; when it is known to be damaged it is left out and counted.
func TestCommitWalk_LeavesOutWhatIsDamagedForGood(t *testing.T) {
	l := &logOf{t: t}
	l.add(0, -1, "a", 1)
	l.add(1, -1, "b", 2)
	l.add(3, -1, "c", 1)
	l.raw[l.at[1]+batch.HeaderSize+4] ^= 1
	w, strange := walker(0)
	got, err := w.told(t, &Fetched{Batches: l.raw})
	var damaged *damagedError
	if !errors.As(err, &damaged) || damaged.base != 1 || !slices.Equal(got, []string{"a:0@0"}) || w.next != 1 {
		t.Errorf("%v, %v, next %d", got, err, w.next)
	}
	w.skip = damaged.base
	got, err = w.told(t, &Fetched{Batches: l.raw[l.at[1]:]})
	if err != nil || !slices.Equal(got, []string{"c:0@3"}) || !slices.Equal(*strange, []string{"a damaged batch"}) || w.next != 4 {
		t.Errorf("%v, %v, %v, next %d", got, err, *strange, w.next)
	}
	if got, err := w.told(t, &Fetched{Batches: append(l.raw[:l.at[1]:l.at[1]], make([]byte, 70)...)}); err == nil || w.next != 4 {
		t.Errorf("what is no batch: %v, %v, next %d", got, err, w.next)
	}
}

// Much in one answer is told in parts; what who takes it says ends the walk.
func TestCommitWalk_TellsMuchInParts(t *testing.T) {
	l := &logOf{t: t}
	for i := range int64(300) {
		l.add(50*i, -1, "g", 50)
	}
	w, _ := walker(0)
	if got, err := w.told(t, &Fetched{Batches: l.raw}); err != nil || len(got) != 15000 || w.records != 15000 {
		t.Errorf("%d commits, %v", len(got), err)
	}
	w.next = 0
	enough, parts := errors.New("enough"), 0
	if err := w.over(&Fetched{Batches: l.raw}, func([]Commit) error { parts++; return enough }); err != enough || parts != 1 {
		t.Errorf("%v after %d parts", err, parts)
	}
}

// A rebalance writes a record for each member and assignment: the group is named once.
func TestCommitWalk_NamesAChangedGroupOnce(t *testing.T) {
	var recs []batch.Record
	for _, key := range []string{"0005000367727000036d656d", "00060003677270", "0007000367727000036d656d", "00030003677270", keyOfCommit, "00030003677270", "00190003677270"} {
		recs = append(recs, batch.Record{Key: unhex(t, key), Value: unhex(t, valueOf3)})
	}
	raw, err := batch.Encode(nil, recs, 0, batch.Stamp{})
	if err != nil {
		t.Fatal(err)
	}
	w, strange := walker(0)
	var kinds []CommitKind
	err = w.over(&Fetched{Batches: raw}, func(some []Commit) error {
		for _, c := range some {
			kinds = append(kinds, c.Kind)
		}
		return nil
	})
	if err != nil || !slices.Equal(kinds, []CommitKind{GroupChanged, Committed, GroupChanged}) || !slices.Equal(*strange, []string{"key type 25"}) {
		t.Errorf("%v, %v, %v", kinds, err, *strange)
	}
}

// FuzzCommitWalk: no bytes make it panic or go back.
func FuzzCommitWalk(f *testing.F) {
	raw := commitBatch(f, "g", 3)
	f.Add(raw, int64(0))
	f.Add(append(raw[:len(raw):len(raw)], raw[:20]...), int64(2))
	f.Fuzz(func(t *testing.T, raw []byte, from int64) {
		from = max(from, 0)
		w, _ := walker(from)
		last := from - 1
		_ = w.over(&Fetched{Batches: raw, Aborted: []Aborted{{1, 0}}}, func(some []Commit) error {
			for _, c := range some {
				if c.At < from || c.At < last {
					t.Fatalf("at %d after %d", c.At, last)
				}
				last = c.At
			}
			return nil
		})
		if w.next < from {
			t.Fatalf("from %d back to %d", from, w.next)
		}
	})
}
