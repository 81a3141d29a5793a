package generation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// CutRef names the chunks of a cut, and tells whether one has them all, as they were written. They are written before the decision that refers to them.
type CutRef struct {
	ID     string `json:"id,omitempty"` // of one writing: who takes over writes another cut
	Chunks int    `json:"chunks,omitempty"`
	Digest string `json:"digest,omitempty"` // SHA-256 of all topics, in hex
}

// CutTopic says where a generation begins in the partitions of one topic, from First on.
type CutTopic struct {
	Topic string `json:"topic"`
	First int    `json:"first,omitempty"`
	// By partition: the first virtual offset, the first real one at the new home, and the end at the home that is left.
	Virtual []int64 `json:"virtual"`
	Real    []int64 `json:"real"`
	Left    []int64 `json:"left"`
	// Had is, by partition, what the new home has of the generations before, where it did not wait for all of them, or has what the one that is left has not; else empty.
	Had []Had `json:"had,omitempty"`
}

// Had is what a home that was not gone to in good order has of a partition. It is written down, because nobody can find it again once the mirror goes on.
type Had struct {
	End     int64   `json:"end"`               // virtual offset behind the last record that it has of the generation that ends
	From    int64   `json:"from"`              // its first offset that may be of the new generation
	Missing []int64 `json:"missing,omitempty"` // virtual offsets before End of what it has not: the first, and the one behind the last, of each stretch
}

// Chunk is a part of a cut. It is never changed.
type Chunk struct {
	ID     string     `json:"id"`
	Index  int        `json:"index"`
	Topics []CutTopic `json:"topics"`
}

const (
	// chunkNumbers is how many numbers of 20 bytes a chunk has at the most, unless one partition alone has more.
	chunkNumbers = 24_000
	// maxChunks bounds what is believed of a reference.
	maxChunks = 10000
)

func (c *Chunk) check() error {
	switch {
	case c == nil || c.ID == "" || c.Index < 0 || c.Index >= maxChunks:
		return errors.New("no chunk of a cut")
	}
	for _, t := range c.Topics {
		if t.Topic == "" || t.First < 0 || len(t.Real) != len(t.Virtual) || len(t.Left) != len(t.Virtual) || len(t.Had) > 0 && len(t.Had) != len(t.Virtual) {
			return fmt.Errorf("cut of topic %.100q: %d virtual offsets, %d real ones, %d of the home that is left, %d of what it had", t.Topic, len(t.Virtual), len(t.Real), len(t.Left), len(t.Had))
		}
		for _, h := range t.Had {
			if len(h.Missing)%2 != 0 {
				return fmt.Errorf("cut of topic %.100q: %d ends of stretches that are missing", t.Topic, len(h.Missing))
			}
		}
	}
	return nil
}

// numbers is about how many numbers of 20 bytes a partition takes.
func (t *CutTopic) numbers(partition int) int {
	if len(t.Had) == 0 {
		return 3
	}
	return 8 + len(t.Had[partition].Missing)
}

// cut is the first n partitions, and the others.
func (t CutTopic) cut(n int) (first, rest CutTopic) {
	first, rest = t, t
	first.Virtual, first.Real, first.Left = t.Virtual[:n], t.Real[:n], t.Left[:n]
	rest.First, rest.Virtual, rest.Real, rest.Left = t.First+n, t.Virtual[n:], t.Real[n:], t.Left[n:]
	if len(t.Had) > 0 {
		first.Had, rest.Had = t.Had[:n], t.Had[n:]
	}
	return first, rest
}

// split cuts a cut into chunks, and makes the reference to them. A topic without partitions is left out.
func split(id string, topics []CutTopic) ([]Chunk, CutRef, error) {
	chunks := []Chunk{{ID: id}}
	room := chunkNumbers
	for _, t := range topics {
		if err := (&Chunk{ID: id, Topics: []CutTopic{t}}).check(); err != nil {
			return nil, CutRef{}, err
		}
		for len(t.Virtual) > 0 {
			if room <= 0 {
				chunks = append(chunks, Chunk{ID: id, Index: len(chunks)})
				room = chunkNumbers
			}
			n := 0
			for room -= 30; n == 0 || n < len(t.Virtual) && room > 0; n++ { // a topic's name counts too
				room -= t.numbers(n)
			}
			last := &chunks[len(chunks)-1]
			var first CutTopic
			first, t = t.cut(n)
			last.Topics = append(last.Topics, first)
		}
	}
	if len(chunks) > maxChunks {
		return nil, CutRef{}, fmt.Errorf("a cut of %d chunks, and at most %d are read", len(chunks), maxChunks)
	}
	digest, err := digestOf(chunks)
	return chunks, CutRef{id, len(chunks), digest}, err
}

// digestOf is the sum over all chunks of a cut.
func digestOf(chunks []Chunk) (string, error) {
	sum := sha256.New()
	for _, c := range chunks {
		b, err := json.Marshal(c)
		if err != nil {
			return "", fmt.Errorf("encode chunk %d of cut %s: %w", c.Index, c.ID, err)
		}
		sum.Write(b)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// ErrCut says that chunks of a cut are missing, or not those that were decided on: nobody can tell where the generation begins.
var ErrCut = errors.New("the cut is not there as it was decided")

// join puts the chunks of a cut together. Those of others, and those that are there twice, may be among them.
func join(ref CutRef, all []Chunk) ([]CutTopic, error) {
	if ref.Chunks < 0 || ref.Chunks > maxChunks {
		return nil, fmt.Errorf("cut %.100s of %d chunks: %w", ref.ID, ref.Chunks, ErrCut)
	}
	byIndex := map[int]Chunk{}
	for _, c := range all {
		if c.ID == ref.ID {
			byIndex[c.Index] = c
		}
	}
	var chunks []Chunk
	for i := range ref.Chunks {
		c, ok := byIndex[i]
		if !ok {
			return nil, fmt.Errorf("cut %s: chunk %d of %d is missing: %w", ref.ID, i, ref.Chunks, ErrCut)
		}
		chunks = append(chunks, c)
	}
	digest, err := digestOf(chunks)
	if err != nil {
		return nil, err
	}
	if digest != ref.Digest {
		return nil, fmt.Errorf("cut %s: its digest is %.16s, decided was %.16s: %w", ref.ID, digest, ref.Digest, ErrCut)
	}
	var out []CutTopic
	for _, c := range chunks {
		for _, t := range c.Topics {
			if n := len(out); n > 0 && out[n-1].Topic == t.Topic && out[n-1].First+len(out[n-1].Virtual) == t.First && (len(out[n-1].Had) > 0) == (len(t.Had) > 0) {
				o := &out[n-1]
				o.Virtual, o.Real, o.Left, o.Had = slices.Concat(o.Virtual, t.Virtual), slices.Concat(o.Real, t.Real), slices.Concat(o.Left, t.Left), slices.Concat(o.Had, t.Had)
				continue
			}
			out = append(out, t)
		}
	}
	return out, nil
}
