package gate

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/isthmus-project/isthmus/router/pack"
)

// Version is that of the chunks that are written. Readers read it and all before.
const Version = 1

// MaxChunkBytes is the length of the longest chunk that is written.
const MaxChunkBytes = 512 << 10

// Partition is what the left log knew.
type Partition struct {
	Topic     string
	Partition int32
	Producers []Producer
}

// Where the next producer of a chunk belongs.
const (
	sameBefore    = iota // as the one before
	samePartition        // another partition of its topic
	sameNothing          // another topic
)

// Encode writes what left logs knew into chunks of MaxChunkBytes at most. Each can be read alone; a partition with many producers is in several, so who reads them
// puts together what is of one. Partitions without producers are left out. A chunk is a byte of version and then producers; numbers are varints, those marked
// ± may be negative.
//
//	where      0: the partition of the one before; 1: another of its topic, its number follows; 2: another topic, its name and the number follow
//	id         ± less that of the one before
//	epoch
//	last       and 1
//	time       ± less that of the one before
//	batches    how many, doubled, and 1 if the producer is unsure. For each:
//	  epoch    the producer's less this
//	  first
//	  length   in records, less 1
//	  base     and 1
//	  time     ± the producer's less this
//
// Producers in the order of their ids are shorter. One that cannot be is an error.
func Encode(partitions []Partition) ([][]byte, error) {
	var chunks [][]byte
	w := writer{b: []byte{Version}}
	for _, part := range partitions {
		if part.Topic == "" || part.Partition < 0 {
			return nil, fmt.Errorf("encode the producers of partition %q-%d: there is no such partition", part.Topic, part.Partition)
		}
		for _, p := range part.Producers {
			if err := p.check(); err != nil {
				return nil, fmt.Errorf("encode the producers of partition %s-%d: %w", part.Topic, part.Partition, err)
			}
			before := w
			if w.producer(part, p); len(w.b) <= MaxChunkBytes {
				continue
			}
			if len(before.b) > 1 {
				chunks = append(chunks, before.b[:len(before.b):len(before.b)])
				w = writer{b: []byte{Version}}
				w.producer(part, p)
			}
			if len(w.b) > MaxChunkBytes {
				return nil, fmt.Errorf("encode the producers of partition %.100s-%d: %w", part.Topic, part.Partition, pack.ErrTooLarge)
			}
		}
	}
	if len(w.b) > 1 {
		chunks = append(chunks, w.b)
	}
	return chunks, nil
}

// place is what the next producer is written as the difference to.
type place struct {
	topic     string
	partition int32
	id, time  int64
}

// writer writes one chunk.
type writer struct {
	b []byte
	place
}

func (w *writer) uint(n int64) { w.b = binary.AppendUvarint(w.b, uint64(n)) }
func (w *writer) int(n int64)  { w.b = binary.AppendVarint(w.b, n) }

func (w *writer) producer(part Partition, p Producer) {
	switch {
	case part.Topic == w.topic && part.Partition == w.partition:
		w.uint(sameBefore)
	case part.Topic == w.topic:
		w.uint(samePartition)
		w.uint(int64(part.Partition))
	default:
		w.uint(sameNothing)
		w.b = pack.String(w.b, part.Topic)
		w.uint(int64(part.Partition))
	}
	w.int(p.ID - w.id)
	w.uint(int64(p.Epoch))
	w.uint(int64(p.Last) + 1)
	w.int(p.Time - w.time)
	head := int64(len(p.Batches)) * 2
	if p.Unsure {
		head++
	}
	w.uint(head)
	for _, b := range p.Batches {
		w.uint(int64(p.Epoch) - int64(b.Epoch))
		w.uint(int64(b.First))
		w.uint(ahead(b.Last, b.First))
		w.uint(b.Base + 1)
		w.int(p.Time - b.Time)
	}
	w.place = place{part.Topic, part.Partition, p.ID, p.Time}
}

// Decode reads a chunk. A version that is not known is pack.ErrVersion, bytes that are no chunk are pack.ErrDamaged.
func Decode(chunk []byte) ([]Partition, error) {
	version, r := pack.Read(chunk)
	if r.Err() == nil && version != Version {
		return nil, fmt.Errorf("decode producers: version %d, known is %d: %w", version, Version, pack.ErrVersion)
	}
	var parts []Partition
	var at place
	for r.Left() > 0 {
		p, fresh := read(&r, &at)
		if r.Err() != nil {
			break
		}
		if at.topic == "" {
			return nil, fmt.Errorf("decode producers, behind %d partitions: one without a topic: %w", len(parts), pack.ErrDamaged)
		}
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("decode the producers of partition %.100s-%d: %w: %w", at.topic, at.partition, pack.ErrDamaged, err)
		}
		if fresh || len(parts) == 0 {
			parts = append(parts, Partition{Topic: at.topic, Partition: at.partition})
		}
		last := &parts[len(parts)-1]
		last.Producers = append(last.Producers, p)
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("decode producers, behind %d partitions: %w", len(parts), err)
	}
	return parts, nil
}

// read reads a producer, and tells whether it is of another partition than the one before.
func read(r *pack.Reader, at *place) (p Producer, fresh bool) {
	where := r.Uint(sameNothing)
	if where == sameNothing {
		at.topic = r.String()
	}
	if where != sameBefore {
		at.partition = int32(r.Uint(math.MaxInt32))
	}
	at.id += r.Int()
	p.ID, p.Epoch, p.Last = at.id, int16(r.Uint(math.MaxInt16)), int32(r.Uint(math.MaxInt32+1)-1)
	at.time += r.Int()
	head := r.Uint(2*Remembered + 1)
	p.Time, p.Unsure = at.time, head%2 == 1
	for range head / 2 {
		b := Written{Epoch: p.Epoch - int16(r.Uint(int64(p.Epoch))), First: int32(r.Uint(math.MaxInt32))}
		b.Last = after(b.First, r.Uint(math.MaxInt32/2))
		b.Base = r.Uint(math.MaxInt64) - 1
		b.Time = p.Time - r.Int()
		p.Batches = append(p.Batches, b)
	}
	return p, where != sameBefore
}
