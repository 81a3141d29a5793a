package gossip

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
)

// digest is what tells two sets of changes apart. Each part is the exclusive or of hashes, so that what is added is taken out the
// same way.
type digest struct {
	buckets [64]uint64 // of versions
	values  uint64     // of what all keys have
}

// flip adds a version, or takes it out.
func (d *digest) flip(t Time) {
	h := hashTime(t)
	d.buckets[bucket(h)] ^= h
}

// value adds what a key has, or takes it out.
func (d *digest) value(v Value) {
	h := fnv.New64a()
	var b []byte
	b = appendTime(appendText(b, v.Key), v.Version)
	_, _ = h.Write(append(b, v.Value...)) // a hash never fails
	d.values ^= mix(h.Sum64())
}

func hashTime(t Time) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(appendTime(nil, t))
	return mix(h.Sum64())
}

// bucket is the part of the digest that a hash belongs to.
func bucket(hash uint64) int { return int(hash >> 58) }

// Hash is equal on nodes where all keys have the same values of the same versions.
func (s *Settings) Hash() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.digest.values
}

// Buckets are hashes of the versions that this node knows of, spread over 64 parts. Nodes that differ in a part exchange what
// [Settings.InBucket] lists there.
func (s *Settings) Buckets() [64]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.digest.buckets
}

// InBucket are the versions of one part of [Settings.Buckets], in their order; nil where i is not of 0 to 63.
func (s *Settings) InBucket(i int) (versions []Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.order {
		if bucket(hashTime(k.Version)) == i {
			versions = append(versions, k.Version)
		}
	}
	return versions
}

// Changes are the changes of these versions, as far as this node has them; without any version all that it has, in their order.
func (s *Settings) Changes(versions ...Time) (changes []Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(versions) == 0 {
		for _, k := range s.order {
			changes = append(changes, k.Change)
		}
	}
	for _, v := range versions {
		if k := s.all[v]; k != nil {
			changes = append(changes, k.Change)
		}
	}
	return changes
}

// Has tells whether this node has a change. It has none that it pruned.
func (s *Settings) Has(version Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[version] != nil
}

// appendTime and appendText are the words of the format of changes, see codec.go.
func appendTime(dst []byte, t Time) []byte {
	dst = binary.AppendUvarint(dst, uint64(t.Wall))
	dst = binary.AppendUvarint(dst, uint64(t.Counter))
	return appendText(dst, t.Node)
}

func appendText[T string | []byte](dst []byte, text T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(slices.Grow(dst, len(text)), text...)
}
