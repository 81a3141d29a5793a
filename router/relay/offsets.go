package relay

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/router/timeline"
	"github.com/isthmus-project/isthmus/router/walk"
)

// Where a home knows records by other offsets than clients, a Fetch is asked for at the real place, and its answer is shown with virtual offsets, as far as it is of the piece that
// the place is in: what is behind it comes earlier, or later. Both directions are patched in passing.

var (
	// errNothing says that an answer has nothing of the piece that it was to be of. That is noted, and the client, which would only ask for the same again, comes back for what is next.
	errNothing = errors.New("nothing is left of what was asked for")
	// errSpans says that a batch is of two pieces. It is packed anew when the client comes back.
	errSpans = errors.New("a batch lies on both sides of a jump")
)

// places are where a Fetch was asked for, by topic and partition. In a session (KIP-227) those of the requests before count as well.
type places struct {
	mu    sync.Mutex
	at    map[string]map[int32]timeline.Place
	packs bool            // some of the partitions have batches that may have to be made anew
	own   map[string]bool // topics whose places are not those of a request before, which may be needed still
}

// after returns places that begin with those of the requests before, which are not changed any more.
func (p *places) after() *places {
	next := &places{at: make(map[string]map[int32]timeline.Place), own: make(map[string]bool)}
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		maps.Copy(next.at, p.at)
		next.packs = p.packs
	}
	return next
}

func (p *places) set(topic string, partition int32, at timeline.Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.own[topic] {
		p.own[topic] = true
		if p.at[topic] = maps.Clone(p.at[topic]); p.at[topic] == nil {
			p.at[topic] = make(map[int32]timeline.Place)
		}
	}
	p.at[topic][partition] = at
}

// pack notes that batches may have to be made anew, and packed reports it.
func (p *places) pack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.packs = true
}

func (p *places) packed() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.packs
}

func (p *places) of(at walk.Place) (timeline.Place, bool) {
	if p == nil {
		return timeline.Place{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	place, ok := p.at[string(at.Topic)][at.Partition]
	return place, ok
}

// asking maps the offsets of a Fetch to the home's and notes where that is.
func asking(o rewrite.Offsets, p *places) func(walk.Place, walk.Field, int64) int64 {
	return func(at walk.Place, of walk.Field, offset int64) int64 {
		if of != walk.Asked {
			return offset
		}
		place, mapped := o.Place(string(at.Topic), at.Partition, offset)
		if !mapped {
			return offset
		}
		p.set(string(at.Topic), at.Partition, place)
		if o.Packs(string(at.Topic), at.Partition) {
			p.pack()
		}
		return place.Real
	}
}

// telling maps the offsets of an answer to those that clients know.
func telling(o rewrite.Offsets, p *places) func(walk.Place, walk.Field, int64) int64 {
	return func(at walk.Place, of walk.Field, offset int64) int64 {
		place, asked := p.of(at)
		switch {
		case of == walk.Start:
			return o.Start(string(at.Topic), at.Partition, offset)
		case of == walk.First && asked: // what a batch has before the piece is before what the client asks for, and so it drops it
			return max(0, place.Virtual+offset-place.Real)
		case of == walk.Aborted && asked:
			return place.Offset(offset)
		}
		return o.Virtual(string(at.Topic), at.Partition, offset)
	}
}

// showing says how far a partition's batches are shown.
func showing(o rewrite.Offsets, p *places) func(walk.Place, batch.Header, bool) (bool, error) {
	return func(at walk.Place, h batch.Header, first bool) (bool, error) {
		place, asked := p.of(at)
		if !asked {
			return true, nil
		}
		switch last := h.LastOffset(); {
		case h.BaseOffset >= place.End && first:
			o.Skip(string(at.Topic), at.Partition, place)
			return false, fmt.Errorf("topic %s, partition %d, offset %d: %w", at.Topic, at.Partition, place.Virtual, errNothing)
		case h.BaseOffset >= place.End:
			return false, nil
		case last >= place.End, h.BaseOffset < place.From && place.Virtual+h.BaseOffset-place.Real < 0:
			o.Pack(string(at.Topic), at.Partition)
			return false, fmt.Errorf("topic %s, partition %d, real offsets %d to %d: %w", at.Topic, at.Partition, h.BaseOffset, last, errSpans)
		}
		return true, nil
	}
}

// nothingOf leaves nothing of what a Fetch got from a home that was left. What comes there since may be a copy of what was written at the next one, and has other offsets there: what was rolled back
// there is not in it.
func (r *Relay) nothingOf(resp kmsg.Response) {
	m := resp.(*kmsg.FetchResponse)
	o := r.cfg.View().Offsets()
	m.Brokers = nil
	for _, t := range m.Topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			p.RecordBatches, p.AbortedTransactions = nil, nil
			p.PreferredReadReplica = -1
			p.CurrentLeader = kmsg.NewFetchResponseTopicPartitionCurrentLeader()
			p.DivergingEpoch = kmsg.NewFetchResponseTopicPartitionDivergingEpoch()
			if o == nil {
				continue
			}
			for _, at := range []*int64{&p.HighWatermark, &p.LastStableOffset} {
				if *at >= 0 {
					*at = o.Virtual(t.Topic, p.Partition, *at)
				}
			}
			if p.LogStartOffset >= 0 {
				p.LogStartOffset = o.Start(t.Topic, p.Partition, p.LogStartOffset)
			}
		}
	}
}
