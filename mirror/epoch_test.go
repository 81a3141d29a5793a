package mirror

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// inEpoch makes a source batch of a leader epoch.
func inEpoch(t *testing.T, base, n int64, epoch int32, act action) *sourceBatch {
	raw := rawBatch(batchSpec{base: base, id: -1, records: records(base, n)})
	binary.BigEndian.PutUint32(raw[12:], uint32(epoch)) // not under the CRC
	return &sourceBatch{raw: raw, header: header(t, raw), act: act, origin: "eu"}
}

// TestFinder_EpochBelongsToThePosition tells of a soak in which the source was
// restarted and the mirror killed before its next checkpoint: the place was an
// offset of the new epoch with the old epoch beside it, and every later look
// called the source truncated, for good.
func TestFinder_EpochBelongsToThePosition(t *testing.T) {
	source := []*sourceBatch{
		inEpoch(t, 0, 4, 3, actCopy), inEpoch(t, 4, 4, 5, actCopy), inEpoch(t, 8, 2, 6, actSkip), inEpoch(t, 10, 4, 7, actCopy),
	}
	for name, c := range map[string]struct {
		own   []batch.Record
		next  int64
		epoch int32
	}{
		"within the first epoch":      {records(0, 2), 2, 3},
		"at the end of the first":     {records(0, 4), 4, 3},
		"within the second":           {records(0, 6), 6, 5},
		"at the end of the second":    {records(0, 8), 8, 5},
		"after the skipped, into one": {append(records(0, 8), records(10, 1)...), 11, 7},
	} {
		t.Run(name, func(t *testing.T) {
			fd := newFinder(Checkpoint{Pump: somePump, SourceEpoch: 2, TargetLast: -1})
			at := 0
			fd.next = func() (*sourceBatch, error) {
				if at == len(source) {
					return nil, io.EOF
				}
				at++
				return source[at-1], nil
			}
			fd.add = func(Run) {}
			target := make([]batch.Record, len(c.own))
			for i, r := range c.own {
				target[i] = r
				target[i].Offset = int64(i)
			}
			raw := rawBatch(batchSpec{base: 0, id: 1 << 62, records: target})
			if err := fd.own(header(t, raw), raw, "eu"); err != nil {
				t.Fatal(err)
			}
			if fd.at.SourceNext != c.next || fd.at.SourceEpoch != c.epoch {
				t.Errorf("place %d of epoch %d, want %d of epoch %d", fd.at.SourceNext, fd.at.SourceEpoch, c.next, c.epoch)
			}
		})
	}
}

// TestFinder_AnEpochMovesEveryLane: the decision is one for all origins of a pump,
// so that their counts belong to one source offset.
func TestFinder_AnEpochMovesEveryLane(t *testing.T) {
	fd := newFinder(Checkpoint{Pump: somePump, SourceNext: 20, SourceEpoch: -1, TargetLast: -1,
		Lanes: []Lane{{Origin: "eu", Count: 10}, {Origin: "ap", Count: 5}}})
	fd.incarnation = func(epoch int16) (Incarnation, bool) {
		return Incarnation{Epoch: 1, Source: 17, Lanes: []Lane{{Origin: "eu", Base: 8}, {Origin: "ap", Base: 4}}}, epoch == 1
	}
	sought := int64(-1)
	fd.seek = func(at int64) { sought = at }
	batches := []*sourceBatch{inEpoch(t, 17, 3, 0, actCopy)}
	fd.next = func() (*sourceBatch, error) {
		if len(batches) == 0 {
			return nil, io.EOF
		}
		b := batches[0]
		batches = batches[1:]
		return b, nil
	}
	fd.add = func(Run) {}
	target := records(17, 3)
	for i := range target {
		target[i].Offset = int64(40 + i)
	}
	raw := rawBatch(batchSpec{base: 40, id: 1 << 62, epoch: 1, records: target})
	if err := fd.own(header(t, raw), raw, "eu"); err != nil {
		t.Fatal(err)
	}
	if want := (Lane{Origin: "eu", Epoch: 1, Base: 8, Count: 11}); fd.at.lane("eu") != want {
		t.Errorf("eu: %+v, want %+v", fd.at.lane("eu"), want)
	}
	if want := (Lane{Origin: "ap", Epoch: 1, Base: 4, Count: 4}); fd.at.lane("ap") != want {
		t.Errorf("ap: %+v, want %+v", fd.at.lane("ap"), want)
	}
	if sought != 17 || fd.at.SourceNext != 20 {
		t.Errorf("sought %d, place %d", sought, fd.at.SourceNext)
	}
	if len(fd.repeated) != 2 {
		t.Errorf("repeated %+v, want one of each origin", fd.repeated)
	}
}
