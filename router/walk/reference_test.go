package walk

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// reference patches a decoded message, which it changes, and encodes it: what the walker must make of the bytes.
func reference(m message, version int16, p *Patch) []byte {
	switch m := m.(type) {
	case *kmsg.ProduceRequest:
		for i := range m.Topics {
			t := &m.Topics[i]
			for j := range t.Partitions {
				if version >= 3 {
					refBatches(t.Partitions[j].Records, p, place(t.Topic, version, t.Partitions[j].Partition), true)
				}
			}
		}
	case *kmsg.ProduceResponse:
		refThrottle(p, &m.ThrottleMillis)
		for i := range m.Topics {
			t := &m.Topics[i]
			for j := range t.Partitions {
				q := &t.Partitions[j]
				refOffsets(p, place(t.Topic, version, q.Partition), Acked, &q.BaseOffset)
				refOffsets(p, place(t.Topic, version, q.Partition), Start, &q.LogStartOffset)
				refNode(p, &q.CurrentLeader.LeaderID)
				q.CurrentLeader.LeaderEpoch = -1
			}
		}
	case *kmsg.FetchRequest:
		for i := range m.Topics {
			t := &m.Topics[i]
			for j := range t.Partitions {
				q := &t.Partitions[j]
				refOffsets(p, place(t.Topic, version, q.Partition), Asked, &q.FetchOffset)
				refOffsets(p, place(t.Topic, version, q.Partition), Start, &q.LogStartOffset)
				q.CurrentLeaderEpoch, q.LastFetchedEpoch = -1, -1
			}
		}
	case *kmsg.FetchResponse:
		refThrottle(p, &m.ThrottleMillis)
		for i := range m.Topics {
			t := &m.Topics[i]
			for j := range t.Partitions {
				q := &t.Partitions[j]
				at := place(t.Topic, version, q.Partition)
				refOffsets(p, at, Watermark, &q.HighWatermark, &q.LastStableOffset, &q.DivergingEpoch.EndOffset, &q.SnapshotID.EndOffset)
				refOffsets(p, at, Start, &q.LogStartOffset)
				for k := range q.AbortedTransactions {
					refOffsets(p, at, Aborted, &q.AbortedTransactions[k].FirstOffset)
				}
				refNode(p, &q.PreferredReadReplica)
				refNode(p, &q.CurrentLeader.LeaderID)
				q.CurrentLeader.LeaderEpoch, q.DivergingEpoch.Epoch, q.SnapshotID.Epoch = -1, -1, -1
				refBatches(q.RecordBatches, p, at, false)
			}
		}
	}
	return m.AppendTo(nil)
}

func place(topic string, version int16, partition int32) Place {
	if version >= 13 {
		topic = ""
	}
	return Place{[]byte(topic), partition}
}

func refNode(p *Patch, id *int32) {
	if p.Node != nil && *id >= 0 {
		*id = p.Node(*id)
	}
}

func refThrottle(p *Patch, millis *int32) {
	if least := int32(p.Throttle.Milliseconds()); least > 0 {
		*millis = max(*millis, least)
	}
}

func refOffsets(p *Patch, at Place, of Field, offsets ...*int64) {
	for _, o := range offsets {
		if p.Offset != nil && *o >= 0 {
			*o = p.Offset(at, of, *o)
		}
	}
}

func refBatches(b []byte, p *Patch, at Place, request bool) {
	for len(b) >= batch.HeaderSize {
		h, err := batch.ParseHeader(b)
		size := h.Size()
		if err != nil {
			size = batch.OldSize(b)
		}
		if err == nil && request && p.Stamp != nil {
			if s, ok := p.Stamp(at, h); ok {
				batch.Restamp(b, s)
			}
		}
		if err == nil && !request {
			base := h.BaseOffset
			refOffsets(p, at, First, &base)
			batch.SetPlace(b, base, -1)
		}
		if size > len(b) {
			return
		}
		b = b[size:]
	}
}

// tame makes what kmsg leaves out as a default stay where it is when its epoch becomes -1.
func tame(m message) {
	if m, ok := m.(*kmsg.ProduceResponse); ok {
		for i := range m.Topics {
			for j := range m.Topics[i].Partitions {
				m.Topics[i].Partitions[j].CurrentLeader.LeaderID &= 0xff
			}
		}
	}
	if m, ok := m.(*kmsg.FetchResponse); ok {
		for i := range m.Topics {
			for j := range m.Topics[i].Partitions {
				p := &m.Topics[i].Partitions[j]
				p.CurrentLeader.LeaderID &= 0xff
				p.DivergingEpoch.EndOffset &= 0xffff
				p.SnapshotID.EndOffset &= 0xffff
			}
		}
	}
}

// endpoints is how many addresses of leaders an answer tells.
func endpoints(m message) int {
	switch m := m.(type) {
	case *kmsg.ProduceResponse:
		return len(m.Brokers)
	case *kmsg.FetchResponse:
		return len(m.Brokers)
	}
	return 0
}

func dropEndpoints(m message) {
	switch m := m.(type) {
	case *kmsg.ProduceResponse:
		m.Brokers = nil
	case *kmsg.FetchResponse:
		m.Brokers = nil
	}
}
