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
