package walk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

const (
	// MinBuffer is the shortest buffer that a body passes through: no field that must be seen whole is longer.
	MinBuffer = 512
	// maxTopic is the longest name that Kafka allows.
	maxTopic = 249
	// maxVarint is what a length or a tag takes at most.
	maxVarint = binary.MaxVarintLen32
)

// errMore says that a field is not there whole yet.
var errMore = errors.New("more bytes are needed")

// Walker goes over one body. It is used again with Reset, and is not safe for concurrent use.
type Walker struct {
	prog  *program
	patch *Patch
	left  int  // bytes of the body that have not passed
	pc    int  // the next operation
	over  int  // bytes to pass over before it
	tags  int  // tags to come of the section at pc; -1 where it has not begun
	shown bool // a batch of the partition was
	log   int  // bytes to come of the batches at pc; -1 where they have not begun
	depth int  // of arrays
	count [maxDepth]int
	at    Place
	name  [maxTopic]byte
	acks  int16
	acked bool
}

// Walkable reports whether there is a walker for a request and its answer.
func Walkable(key, version int16) bool {
	return (key == int16(kmsg.Produce) || key == int16(kmsg.Fetch)) && version >= 0 && int(version) < len(programs[key][0])
}

// Reset makes w ready for a body of size bytes. An answer's body begins behind its correlation id. The key and version must be [Walkable].
func (w *Walker) Reset(key, version int16, answer bool, size int, p *Patch) {
	side := 0
	if answer {
		side = 1
	}
	w.prog, w.patch, w.left = &programs[key][side][version], p, size
	w.pc, w.over, w.tags, w.log, w.depth = 0, 0, -1, -1, 0
	w.at, w.acks, w.acked = Place{}, 0, false
}

// Left is how many bytes of the body have not passed.
func (w *Walker) Left() int { return w.left }

// Acks is what a produce request asks for, once the walker has passed it: 0 has no answer.
func (w *Walker) Acks() (acks int16, known bool) { return w.acks, w.acked }

// Walk goes over the next bytes of the body, patches them, and returns how many have passed. The others must come again, at the
// front of the next call, with at least one more: there are fewer than [MinBuffer] of them. b must not reach beyond the body.
// An error means that the body is not what its version says; it names the place.
func (w *Walker) Walk(b []byte) (passed int, err error) {
	if len(b) > w.left {
		return 0, fmt.Errorf("walk: %d bytes given, %d are left", len(b), w.left)
	}
	i := 0
	for {
		n := min(w.over, len(b)-i)
		i, w.over = i+n, w.over-n
		w.left -= n
		if w.over > 0 {
			if w.left == 0 {
				return i, w.errorf("a field of %d bytes more", w.over)
			}
			return i, nil
		}
		if w.pc == len(w.prog.ops) {
			if w.left > 0 {
				return i, w.errorf("%d bytes behind the end", w.left)
			}
			return i, nil
		}
		n, err = w.step(b[i:])
		if err == errMore && len(b)-i < w.left {
			return i, nil
		}
		if err == errMore {
			return i, w.errorf("the body ends inside a field")
		}
		if err != nil {
			return i, err
		}
		i, w.left = i+n, w.left-n
	}
}

func (w *Walker) errorf(format string, args ...any) error {
	return fmt.Errorf("walk: at topic %q, partition %d, %d bytes before the end: %s", w.at.Topic, w.at.Partition, w.left, fmt.Sprintf(format, args...))
}

// step does the operation at pc, or a part of it, and returns how many bytes of b that took; what may be skipped is in w.over then.
func (w *Walker) step(b []byte) (int, error) {
	o := w.prog.ops[w.pc]
	switch o.do {
	case skip:
		w.over = o.n
	case acks:
		if len(b) < 2 {
			return 0, errMore
		}
		w.acks, w.acked = int16(binary.BigEndian.Uint16(b)), true
		w.over = 2
	case epoch, node, partition, throttle:
		if len(b) < 4 {
			return 0, errMore
		}
		w.int32(o.do, b)
		w.over = 4
	case offset:
		if len(b) < 8 {
			return 0, errMore
		}
		w.offset(Field(o.n), b)
		w.over = 8
	case topic:
		return w.topic(b)
	case text, opaque:
		length, n, err := w.length(b, o.do == text)
		if err != nil {
			return 0, err
		}
		w.over = max(length, 0)
		w.pc++
		return n, nil
	case open:
		return w.open(b, o.n)
	case next:
		if w.count[w.depth-1]--; w.count[w.depth-1] > 0 {
			w.pc = o.n
			return 0, nil
		}
		w.depth--
	case produced, fetched:
		return w.batches(b, o.do)
	case tags:
		return w.tag(b, o.n)
	}
	w.pc++
	return 0, nil
}

func (w *Walker) int32(do code, b []byte) {
	v := int32(binary.BigEndian.Uint32(b))
	switch {
	case do == epoch:
		binary.BigEndian.PutUint32(b, 1<<32-1)
	case do == partition:
		w.at.Partition = v
	case do == throttle:
		if least := w.patch.Throttle.Milliseconds(); least > 0 && least > int64(v) {
			binary.BigEndian.PutUint32(b, uint32(min(least, math.MaxInt32)))
		}
	case v >= 0 && w.patch.Node != nil:
		binary.BigEndian.PutUint32(b, uint32(w.patch.Node(v)))
	}
}

func (w *Walker) offset(of Field, b []byte) {
	if w.patch.Offset == nil {
		return
	}
	if v := int64(binary.BigEndian.Uint64(b)); v >= 0 {
		binary.BigEndian.PutUint64(b, uint64(w.patch.Offset(w.at, of, v)))
	}
}

// topic remembers a name.
func (w *Walker) topic(b []byte) (int, error) {
	length, n, err := w.length(b, true)
	if err != nil {
		return 0, err
	}
	length = max(length, 0)
	if length > maxTopic {
		w.at = Place{}
	} else {
		if len(b) < n+length {
			return 0, errMore
		}
		w.at = Place{Topic: w.name[:copy(w.name[:], b[n:n+length])]}
		if w.patch.Named != nil && length > 0 {
			if err := w.patch.Named(w.at.Topic); err != nil {
				return 0, err
			}
		}
	}
	w.over = length
	w.pc++
	return n, nil
}

// open begins an array, or passes over an empty one.
func (w *Walker) open(b []byte, behind int) (int, error) {
	count, n, err := w.length(b, false)
	if err != nil {
		return 0, err
	}
	if count <= 0 {
		w.pc = behind
		return n, nil
	}
	w.count[w.depth] = count
	w.depth++
	w.pc++
	return n, nil
}

// length reads a length or a count, -1 for null, and how many bytes it takes itself: two where short, else four, or a varint in a
// flexible version.
func (w *Walker) length(b []byte, short bool) (length, n int, err error) {
	switch {
	case w.prog.flexible:
		var v uint64
		if v, n, err = w.uvarint(b); err != nil {
			return 0, 0, err
		}
		length = int(v) - 1
	case short && len(b) < 2, !short && len(b) < 4:
		return 0, 0, errMore
	case short:
		length, n = int(int16(binary.BigEndian.Uint16(b))), 2
	default:
		length, n = int(int32(binary.BigEndian.Uint32(b))), 4
	}
	if length < -1 {
		return 0, 0, w.errorf("a length of %d", length)
	}
	return length, n, nil
}

// uvarint reads what Kafka calls an unsigned varint: at most 32 bit.
func (w *Walker) uvarint(b []byte) (uint64, int, error) {
	v, n := binary.Uvarint(b[:min(len(b), maxVarint)])
	switch {
	case n > 0 && v <= 1<<32-1:
		return v, n, nil
	case n == 0 && len(b) < maxVarint:
		return 0, 0, errMore
	}
	return 0, 0, w.errorf("a number that does not end")
}

// batches goes over the batches of a partition, one in a step.
func (w *Walker) batches(b []byte, do code) (int, error) {
	if w.log < 0 {
		length, n, err := w.length(b, false)
		if err != nil {
			return 0, err
		}
		w.log, w.shown = max(length, 0), false
		return n, nil
	}
	if w.log < batch.HeaderSize || do == produced && w.patch.Stamp == nil {
		w.over, w.log = w.log, -1 // a batch that is cut short, which clients throw away
		w.pc++
		return 0, nil
	}
	if len(b) < batch.HeaderSize {
		return 0, errMore
	}
	h, err := batch.ParseHeader(b)
	size := h.Size()
	switch {
	case errors.Is(err, batch.ErrMagic):
		size = batch.OldSize(b)
	case err != nil:
		size = w.log // not for us to judge: who gets it checks it
	case do == produced:
		if s, differs := w.patch.Stamp(w.at, h); differs {
			batch.Restamp(b[:batch.HeaderSize], s)
		}
	default:
		if w.patch.Shown != nil {
			show, err := w.patch.Shown(w.at, h, !w.shown)
			if err != nil {
				return 0, err
			}
			if w.shown = w.shown || show; !show {
				batch.CutShort(b[:batch.HeaderSize], w.log)
				size = w.log
			}
		}
		base := h.BaseOffset
		if w.patch.Offset != nil {
			base = w.patch.Offset(w.at, First, base)
		}
		batch.SetPlace(b[:batch.HeaderSize], base, -1)
	}
	if size <= 0 || size > w.log {
		size = w.log
	}
	w.over = size
	if w.log -= size; w.log == 0 {
		w.log = -1
		w.pc++
	}
	return 0, nil
}
