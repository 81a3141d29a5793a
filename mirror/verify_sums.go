package mirror

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// sums is the digest of the source's batches, in the order in which the comparer passes them.
type sums struct {
	running hash.Hash
	queue   []batchSum
}

func newSums() sums { return sums{running: sha256.New()} }

type batchSum struct {
	next int64
	sum  [sha256.Size]byte
}

func (s *sums) add(b *sourceBatch) {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(b.header.BaseOffset))
	h := sha256.New()
	h.Write(at[:])
	if b.old == nil {
		h.Write(b.raw[batch.HeaderSize:])
	} else {
		h.Write(b.raw)
	}
	one := batchSum{next: b.header.NextOffset()}
	h.Sum(one.sum[:0])
	s.queue = append(s.queue, one)
}

// fold takes in what ends before an offset.
func (s *sums) fold(before int64) {
	for len(s.queue) > 0 && s.queue[0].next <= before {
		s.running.Write(s.queue[0].sum[:])
		s.queue = s.queue[1:]
	}
}

func (s *sums) upTo(offset int64) string {
	s.fold(offset)
	return hex.EncodeToString(s.running.Sum(nil)[:16])
}
