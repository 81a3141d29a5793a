package mirror

import (
	"errors"
	"io"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// errNotFound: the source does not have an own record of the target, at least not where it could be.
var errNotFound = errors.New("own record is not in the source")

// cleaned is what a finder knows of the stretch since the last own record that it found in the source (its anchor), on a
// target that is cleaned itself. There, counts alone are right only while the source is dense.
type cleaned struct {
	skipped int64 // own records that were copied and that the target no longer has
	lacking int64 // own records on the target that the source does not have
	sparse  bool  // the source is not dense, as far as it was read
}

// anchored begins a new stretch: everything so far is accounted for.
func (f *finder) anchored() {
	f.skipped, f.lacking = 0, 0
	f.sparse = f.sparse && len(f.ahead) > 0 || f.cur != nil && !f.cur.header.Dense()
}

// find takes the source record that an own record of the target is a copy of. Where the target lost own records before
// it, so many source records may come first, in a dense source exactly so many. In one with holes a record that looks the same
// further on may be a later one, written again: nothing tells whether what comes before it was copied.
func (f *finder) find(t batch.Record, origin string) (batch.Record, error) {
	same := func(i int64) (lookedAt, bool, error) {
		s, err := f.look(int(i))
		return s, err == nil && s.origin == origin && batch.Equal(s.Record, t), err
	}
	if _, _, err := f.peek(); err != nil {
		return batch.Record{}, err
	}
	most := f.skipped
	if most > alignRecords {
		if err := f.passCleaned(); err != nil {
			return batch.Record{}, err
		}
		most = 0
	}
	at := f.skipped
	s, ok, err := same(at)
	for i := int64(0); !ok && i <= most; i++ {
		at = i
		if s, ok, err = same(i); err != nil {
			break
		}
	}
	switch {
	case ok && at > 0 && f.sparse:
		return batch.Record{}, errCleaned
	case ok:
		f.ahead = f.ahead[at+1:]
		f.anchored()
		return s.Record, nil
	case err != nil && !errors.Is(err, io.EOF):
		return batch.Record{}, err
	}
	if f.mayJump {
		f.lacking++
	}
	return batch.Record{}, errNotFound
}

// passCleaned moves the source over own records that the target no longer has. Only a dense source tells how far.
func (f *finder) passCleaned() error {
	for ; f.skipped > 0; f.skipped-- {
		_, _, err := f.peek()
		if errors.Is(err, io.EOF) {
			break // nothing is left that could be copied again
		}
		if err != nil {
			return err
		}
		if f.sparse || f.lacking > 0 {
			return errCleaned
		}
		f.take()
	}
	f.skipped, f.lacking = 0, 0
	return nil
}

// finish accounts for own records at the end that the target no longer has.
func (f *finder) finish() error {
	if f.skipped == 0 {
		return nil
	}
	if err := f.passCleaned(); err != nil {
		return err
	}
	f.at.SourceNext, f.at.SourceEpoch = f.position()
	return nil
}

// alignRecords bounds how far align looks ahead.
const alignRecords = 1 << 16

// align looks whether records of other origins are missing on the target before this batch: each origin has a sequence
// of its own, so a target that lost its end (an unclean election) may have lost those and taken this. If so, the source
// is moved to the batch, and the first record that was jumped over is remembered.
func (f *finder) align(raw []byte, origin string, known int64) error {
	if f.holes || f.mayJump || known > 0 {
		return nil // there, a record that is not found is no proof of anything
	}
	_, first, err := f.peek()
	if errors.Is(err, io.EOF) || err == nil && first == origin {
		return nil
	}
	if err != nil {
		return err
	}
	target, err := batch.Decode(raw, finderDecodeBytes)
	if err != nil || len(target) == 0 {
		return err
	}
	for i := range alignRecords {
		s, err := f.look(i)
		switch {
		case errors.Is(err, io.EOF) || f.holes:
			return nil
		case err != nil:
			return err
		case s.origin != origin:
			continue
		case batch.Equal(s.Record, target[0]):
			if f.gapAt < 0 {
				f.gapAt, _ = f.position()
			}
			f.ahead = f.ahead[i:]
		}
		return nil
	}
	return nil
}
