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
}

// Chunk is a part of a cut. It is never changed.
type Chunk struct {
	ID     string     `json:"id"`
	Index  int        `json:"index"`
	Topics []CutTopic `json:"topics"`
}

const (
	// chunkPartitions is how many partitions a chunk has at the most: three numbers of 20 bytes each.
	chunkPartitions = 8000
	// maxChunks bounds what is believed of a reference.
	maxChunks = 10000
)

func (c *Chunk) check() error {
	switch {
	case c == nil || c.ID == "" || c.Index < 0 || c.Index >= maxChunks:
		return errors.New("no chunk of a cut")
	}
	for _, t := range c.Topics {
		if t.Topic == "" || t.First < 0 || len(t.Real) != len(t.Virtual) || len(t.Left) != len(t.Virtual) {
			return fmt.Errorf("cut of topic %.100q: %d virtual offsets, %d real ones, %d of the home that is left", t.Topic, len(t.Virtual), len(t.Real), len(t.Left))
		}
	}
	return nil
}

// split cuts a cut into chunks, and makes the reference to them. A topic without partitions is left out.
func split(id string, topics []CutTopic) ([]Chunk, CutRef, error) {
	chunks := []Chunk{{ID: id}}
	room := chunkPartitions
	for _, t := range topics {
		if err := (&Chunk{ID: id, Topics: []CutTopic{t}}).check(); err != nil {
			return nil, CutRef{}, err
		}
		for len(t.Virtual) > 0 {
			if room <= 0 {
				chunks = append(chunks, Chunk{ID: id, Index: len(chunks)})
				room = chunkPartitions
			}
			n := min(room, len(t.Virtual))
			last := &chunks[len(chunks)-1]
			last.Topics = append(last.Topics, CutTopic{t.Topic, t.First, t.Virtual[:n], t.Real[:n], t.Left[:n]})
			room -= n + 10 // a topic's name counts too
			t = CutTopic{t.Topic, t.First + n, t.Virtual[n:], t.Real[n:], t.Left[n:]}
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
			if n := len(out); n > 0 && out[n-1].Topic == t.Topic && out[n-1].First+len(out[n-1].Virtual) == t.First {
				o := &out[n-1]
				o.Virtual, o.Real, o.Left = slices.Concat(o.Virtual, t.Virtual), slices.Concat(o.Real, t.Real), slices.Concat(o.Left, t.Left)
				continue
			}
			out = append(out, t)
		}
	}
	return out, nil
}
