package mirror

import (
	"encoding/binary"
	"math"
	"slices"
)

// Runs are coded as what differs from what the run before lets one expect: the same gap at the source (a transaction's marker), none at the
// target, the same length, origin and epoch, and the count that its origin had reached. A run is one byte of flags and a varint for each flag
// that is set, in the order of the flags; so a topic with a marker every hundred records costs one byte a run, and any other two to four.
const (
	runGap     = 1 << iota // source offsets between the run and the one before; signed
	runTarget              // the same at the target; signed
	runRecords             // unsigned
	runOrigin              // index in the table of origins; unsigned
	runEpoch               // less the one that the origin had; signed
	runCount               // less what the origin had reached; signed
	runFlags   = 1<<iota - 1
)

// runState is what both ends of the coding expect of the next run.
type runState struct {
	last   Run
	gap    int64
	origin int
	few    [4]runLane
	more   []runLane // of origins that have no place in few
}

// runLane is what an origin has reached.
type runLane struct {
	count int64
	epoch int16
}

func (s *runState) lane(origin int) *runLane {
	if origin < len(s.few) {
		return &s.few[origin]
	}
	origin -= len(s.few)
	for len(s.more) <= origin {
		s.more = append(s.more, runLane{})
	}
	return &s.more[origin]
}

// runWriter codes runs.
type runWriter struct {
	runState
	origins []string // names by index; grows
	b       []byte
}

func (w *runWriter) add(r Run) {
	at, flags := len(w.b), byte(0)
	w.b = append(w.b, 0)
	if gap := r.Source - w.last.sourceEnd(); gap != w.gap {
		flags |= runGap
		w.b = binary.AppendVarint(w.b, gap)
	}
	if gap := r.Target - w.last.targetEnd(); gap != 0 {
		flags |= runTarget
		w.b = binary.AppendVarint(w.b, gap)
	}
	if r.Records != w.last.Records {
		flags |= runRecords
		w.b = binary.AppendUvarint(w.b, uint64(r.Records))
	}
	origin := w.origin
	if origin >= len(w.origins) || w.origins[origin] != r.Origin {
		if origin = slices.Index(w.origins, r.Origin); origin < 0 {
			origin, w.origins = len(w.origins), append(w.origins, r.Origin)
		}
	}
	if origin != w.origin {
		flags |= runOrigin
		w.b = binary.AppendUvarint(w.b, uint64(origin))
	}
	l := w.lane(origin)
	if r.Epoch != l.epoch {
		flags |= runEpoch
		w.b = binary.AppendVarint(w.b, int64(r.Epoch)-int64(l.epoch))
	}
	if r.Count != l.count {
		flags |= runCount
		w.b = binary.AppendVarint(w.b, r.Count-l.count)
	}
	w.b[at] = flags
	w.gap, w.last, w.origin = r.Source-w.last.sourceEnd(), r, origin
	l.count, l.epoch = r.Count+r.Records, r.Epoch
}

// runReader reads what a runWriter wrote. The first fault sticks.
type runReader struct {
	runState
	origins []string
	b       []byte
	err     error
}

// next reads the next run into last; false at the end and behind a fault.
func (r *runReader) next() bool {
	if r.err != nil || len(r.b) == 0 {
		return false
	}
	flags, n := r.b[0], &r.last // in place: this is all that a lookup does
	r.b = r.b[1:]
	if flags&runGap != 0 {
		r.gap = r.int()
	}
	n.Source, n.Target = n.Source+n.Records+r.gap, n.Target+n.Records
	if flags&runTarget != 0 {
		n.Target += r.int()
	}
	if flags&runRecords != 0 {
		n.Records = int64(r.uint())
	}
	if flags&runOrigin != 0 {
		r.origin = int(min(r.uint(), math.MaxInt32))
	}
	if r.origin >= len(r.origins) || flags > runFlags {
		r.err = errShortState
		return false
	}
	l := r.lane(r.origin)
	n.Origin, n.Epoch, n.Count = r.origins[r.origin], l.epoch, l.count
	if flags&runEpoch != 0 {
		n.Epoch += int16(r.int())
	}
	if flags&runCount != 0 {
		n.Count += r.int()
	}
	l.count, l.epoch = n.Count+n.Records, n.Epoch
	if !n.sane() {
		r.err = errShortState
	}
	return r.err == nil
}

// sane reports whether r can be a run at all.
func (r *Run) sane() bool {
	return r.Records > 0 && r.Source >= 0 && r.Target >= 0 && r.Source+r.Records > 0 && r.Target+r.Records > 0
}

func (r *runReader) uint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // nearly always
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err, r.b = errShortState, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *runReader) int() int64 {
	u := r.uint()
	return int64(u>>1) ^ -int64(u&1)
}
