package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// find returns how far ahead the record is, 1 for the one after the next, -1 if it is not within what is looked at.
func (s *stream) find(r batch.Record) (int, error) {
	for i := 1; i <= verifyAhead; i++ {
		next, err := s.look(i)
		if errors.Is(err, io.EOF) || errors.As(err, new(*damaged)) {
			return -1, nil
		}
		if err != nil {
			return -1, err
		}
		if batch.Equal(next, r) {
			return i, nil
		}
	}
	return -1, nil
}

// guess is one explanation of a difference, and how well the rest fits if it is right.
type guess struct {
	kind string
	skip int // records of the side that has more
	fits int
}

// name finds out what explains best that s and t are not the same: what makes the most of what follows fit. Of equally good
// explanations the smallest wins.
func (c *comparer) name(s, t batch.Record) (*Difference, error) {
	best := guess{kind: DifferenceChanged}
	var err error
	try := func(g guess, i, j int) {
		if err == nil {
			if g.fits, err = c.fits(i, j); g.fits > best.fits {
				best = g
			}
		}
	}
	try(best, 1, 1)
	inSource, e := c.source.find(t)
	if e != nil {
		return nil, e
	}
	inTarget, e := c.target.find(s)
	if e != nil {
		return nil, e
	}
	if inSource > 0 && inTarget > 0 && err == nil {
		both := max(inSource, inTarget) + 1
		if same, e := c.permuted(both); e != nil {
			return nil, e
		} else if same {
			try(guess{kind: DifferenceSwapped, skip: both}, both, both)
		}
	}
	for i := 1; i <= verifyAhead && err == nil; i++ {
		try(guess{kind: DifferenceMissing, skip: i}, i, 0)
		try(guess{kind: DifferenceExtra, skip: i}, 0, i)
	}
	if err != nil {
		return nil, err
	}
	switch best.kind {
	case DifferenceMissing:
		return &Difference{best.kind, s.Offset, -1, fmt.Sprintf("%d of the source's records are not on the target, before target offset %d", best.skip, t.Offset)}, nil
	case DifferenceExtra:
		return c.surplus(t)
	case DifferenceSwapped:
		at, _ := c.target.look(max(inTarget, 0))
		return &Difference{best.kind, s.Offset, at.Offset, fmt.Sprintf("target offset %d has the record of a later source offset; the record is there at %d", t.Offset, at.Offset)}, nil
	}
	detail := unlike(s, t)
	if best.fits == 0 {
		detail += "; what follows is not the same either"
	}
	return &Difference{best.kind, s.Offset, t.Offset, detail}, nil
}

// fits counts how many records in a row are the same from i records ahead at the source and j ahead on the target. Both logs ending
// there is as good as it gets.
func (c *comparer) fits(i, j int) (n int, err error) {
	for ; n < verifyAligned; n++ {
		s, noSource := c.source.look(i + n)
		t, noTarget := c.target.look(j + n)
		for _, err := range []error{noSource, noTarget} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, new(*damaged)) {
				return 0, err
			}
		}
		if noSource != nil || noTarget != nil {
			if errors.Is(noSource, io.EOF) && errors.Is(noTarget, io.EOF) {
				return verifyAligned, nil
			}
			return n, nil
		}
		if !batch.Equal(s, t) {
			return n, nil
		}
	}
	return n, nil
}

// permuted reports whether the next n records of both sides are the same ones in another order.
func (c *comparer) permuted(n int) (bool, error) {
	var left []batch.Record
	for i := range n {
		t, err := c.target.look(i)
		if err != nil {
			return false, notEnd(err)
		}
		left = append(left, t)
	}
	for i := range n {
		s, err := c.source.look(i)
		if err != nil {
			return false, notEnd(err)
		}
		at := slices.IndexFunc(left, func(t batch.Record) bool { return batch.Equal(s, t) })
		if at < 0 {
			return false, nil
		}
		left = slices.Delete(left, at, at+1)
	}
	return true, nil
}

// surplus names a record of the target that is there beside those of the source: the source has it shortly before or after, or not.
func (c *comparer) surplus(t batch.Record) (*Difference, error) {
	if c.earlier != nil {
		for _, r := range slices.Backward(c.earlier(c.next)) {
			if batch.Equal(r, t) {
				return &Difference{DifferenceDoubled, r.Offset, t.Offset, "it is there once more"}, nil
			}
		}
	}
	for i := range verifyAhead {
		s, err := c.source.look(i)
		if err != nil {
			if e := notEnd(err); e != nil && !errors.As(err, new(*damaged)) {
				return nil, e
			}
			break
		}
		if batch.Equal(s, t) {
			return &Difference{DifferenceDoubled, s.Offset, t.Offset, "it is there once more, before its place"}, nil
		}
	}
	return &Difference{DifferenceExtra, -1, t.Offset, "it was written as this link's, and the source has no such record here"}, nil
}

// unlike says in what two records differ.
func unlike(s, t batch.Record) string {
	var out []string
	say := func(what string, a, b []byte) {
		switch {
		case (a == nil) != (b == nil):
			out = append(out, fmt.Sprintf("%s is null on one side only", what))
		case len(a) != len(b):
			out = append(out, fmt.Sprintf("%s has %d bytes, %d on the target", what, len(a), len(b)))
		case !bytes.Equal(a, b):
			at := 0
			for a[at] == b[at] {
				at++
			}
			out = append(out, fmt.Sprintf("%s differs from byte %d on: %#02x, %#02x on the target", what, at, a[at], b[at]))
		}
	}
	if s.Timestamp != t.Timestamp {
		out = append(out, fmt.Sprintf("timestamp is %d, %d on the target", s.Timestamp, t.Timestamp))
	}
	say("key", s.Key, t.Key)
	say("value", s.Value, t.Value)
	if len(s.Headers) != len(t.Headers) {
		out = append(out, fmt.Sprintf("%d headers, %d on the target", len(s.Headers), len(t.Headers)))
	}
	for i := range min(len(s.Headers), len(t.Headers)) {
		say(fmt.Sprintf("key of header %d", i), []byte(s.Headers[i].Key), []byte(t.Headers[i].Key))
		say(fmt.Sprintf("value of header %d", i), s.Headers[i].Value, t.Headers[i].Value)
	}
	return strings.Join(out, "; ")
}
