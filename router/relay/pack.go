package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/router/timeline"
	"github.com/isthmus-project/isthmus/router/walk"
)

// A batch may lie on both sides of a jump: the mirror made one of records that were not neighbours at the home that they were written at, because what lay between came from elsewhere, or was
// compacted. It cannot be patched in passing. Such a partition is noted in the book of positions, the connection ends once, and from then on answers with the partition are decoded, and of
// such batches another one is made of the records that are in the piece.

// packAnswer passes on a Fetch's answer of which batches may have to be made anew.
func (r *Relay) packAnswer(ctx context.Context, h frame.Answer, o owed, offsets rewrite.Offsets, patch *walk.Patch) error {
	in, head, give, err := r.collectAnswer(ctx, h, o)
	if err != nil {
		return err
	}
	defer give()
	m := kmsg.NewPtrFetchResponse()
	m.SetVersion(o.version)
	if err := m.ReadFrom(in[head:]); err != nil {
		return failed(Upstream, "read an answer", fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	m.ThrottleMillis = max(m.ThrottleMillis, int32(patch.Throttle.Milliseconds()))
	m.Brokers = nil // addresses of new leaders (KIP-951)
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			if err := r.packed(m.Topics[i].Topic, &m.Topics[i].Partitions[j], o, offsets, patch); err != nil {
				return failed(Upstream, "pack an answer", err)
			}
		}
	}
	out := buffers.Get().(*[]byte)
	defer release(out)
	*out = m.AppendTo(append((*out)[:0], in[:head]...))
	binary.BigEndian.PutUint32(*out, uint32(len(*out)-4))
	return r.writeInSteps(*out)
}

// packed makes of a partition of an answer what clients are told.
func (r *Relay) packed(topic string, p *kmsg.FetchResponseTopicPartition, o owed, offsets rewrite.Offsets, patch *walk.Patch) error {
	at := walk.Place{Topic: []byte(topic), Partition: p.Partition}
	tell := telling(offsets, o.places)
	told := func(of walk.Field, offset *int64) {
		if *offset >= 0 {
			*offset = tell(at, of, *offset)
		}
	}
	told(walk.Watermark, &p.HighWatermark)
	told(walk.Watermark, &p.LastStableOffset)
	told(walk.Start, &p.LogStartOffset)
	for k := range p.AbortedTransactions {
		p.AbortedTransactions[k].FirstOffset = tell(at, walk.Aborted, p.AbortedTransactions[k].FirstOffset)
	}
	if p.PreferredReadReplica >= 0 && patch.Node != nil {
		p.PreferredReadReplica = patch.Node(p.PreferredReadReplica)
	}
	p.DivergingEpoch, p.CurrentLeader, p.SnapshotID = kmsg.NewFetchResponseTopicPartitionDivergingEpoch(), kmsg.NewFetchResponseTopicPartitionCurrentLeader(), kmsg.NewFetchResponseTopicPartitionSnapshotID()
	place, asked := o.places.of(at)
	if !asked {
		place = timeline.Place{Virtual: offsets.Virtual(topic, p.Partition, 0), End: 1 << 62}
	}
	all, over, err := pack(p.RecordBatches, place, r.cfg.Limits.CollectedAnswer)
	if err == nil && over && len(all) == 0 {
		offsets.Skip(topic, p.Partition, place)
		err = errNothing
	}
	if err != nil {
		return fmt.Errorf("topic %s, partition %d, offset %d: %w", topic, p.Partition, place.Virtual, err)
	}
	p.RecordBatches = all
	return nil
}

// pack is what of some batches of a home is in the piece of a place, at virtual offsets; over says that there is something behind the piece. A batch at the end that is cut short is left out.
func pack(raw []byte, place timeline.Place, maxBytes int) (out []byte, over bool, err error) {
	for len(raw) > 0 {
		h, one, rest, err := batch.Next(raw)
		if errors.Is(err, batch.ErrShort) {
			return out, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		raw = rest
		switch virtual := place.Virtual + h.BaseOffset - place.Real; {
		case h.LastOffset() < place.Real:
		case h.BaseOffset >= place.End:
			return out, true, nil
		case h.BaseOffset >= place.From && h.LastOffset() < place.End, h.LastOffset() < place.End && virtual >= 0:
			n := len(out)
			out = append(out, one...)
			batch.SetPlace(out[n:n+batch.HeaderSize], virtual, -1)
		case h.Transactional() || h.Control():
			return nil, false, fmt.Errorf("real offsets %d to %d, of a transaction: %w", h.BaseOffset, h.LastOffset(), errSpans)
		default:
			if out, err = packOne(out, h, one, place, maxBytes); err != nil {
				return nil, false, err
			}
		}
	}
	return out, false, nil
}

// packOne makes a batch of those records of one that are in the piece, if there are any.
func packOne(out []byte, h batch.Header, one []byte, place timeline.Place, maxBytes int) ([]byte, error) {
	records, err := batch.Decode(one, maxBytes)
	if err != nil {
		return nil, err
	}
	kept := records[:0]
	for _, rec := range records {
		if rec.Offset >= place.Real && rec.Offset >= place.From && rec.Offset < place.End {
			rec.Offset += place.Virtual - place.Real
			kept = append(kept, rec)
		}
	}
	if len(kept) == 0 {
		return out, nil
	}
	n := len(out)
	out, err = batch.Encode(out, kept, h.Codec(), batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
	if err != nil {
		return nil, err
	}
	batch.SetPlace(out[n:n+batch.HeaderSize], kept[0].Offset, -1)
	return out, nil
}
