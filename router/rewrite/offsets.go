package rewrite

import "github.com/twmb/franz-go/pkg/kmsg"

// Epochs of leaders are a cluster's own, and no client gets over it when they become others at the same offsets. So clients are told none, and those that
// they tell all the same (of an old life, without the router) are not passed on. Offsets are the first home's; at another one they are mapped, and those below 0 are no offsets.

// toReal puts the home's offset in the place of a client's.
func (v *View) toReal(topic string, partition int32, at *int64) {
	if v.offsets != nil && *at >= 0 {
		*at = v.offsets.Real(topic, partition, *at)
	}
}

// toVirtual puts the offset that clients know in the place of the home's.
func (v *View) toVirtual(topic string, partition int32, at *int64) {
	if v.offsets != nil && *at >= 0 {
		*at = v.offsets.Virtual(topic, partition, *at)
	}
}

// said is what a client says of a position: the home's offset, and no epoch.
func (v *View) said(topic string, partition int32, at *int64, epoch *int32) {
	*epoch = -1
	v.toReal(topic, partition, at)
}

// told is what a client is told of a position: its own offset, and no epoch.
func (v *View) told(topic string, partition int32, at *int64, epoch *int32) {
	*epoch = -1
	v.toVirtual(topic, partition, at)
}

func listOffsets(m *kmsg.ListOffsetsRequest) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			m.Topics[i].Partitions[j].CurrentLeaderEpoch = -1
		}
	}
}

func (v *View) listedOffsets(m *kmsg.ListOffsetsResponse) {
	for _, t := range m.Topics {
		for j := range t.Partitions {
			p := &t.Partitions[j]
			v.told(t.Topic, p.Partition, &p.Offset, &p.LeaderEpoch)
			for k := range p.OldStyleOffsets {
				v.toVirtual(t.Topic, p.Partition, &p.OldStyleOffsets[k])
			}
		}
	}
}

func (v *View) offsetCommit(m *kmsg.OffsetCommitRequest) {
	for _, t := range m.Topics {
		for j := range t.Partitions {
			p := &t.Partitions[j]
			v.said(t.Topic, p.Partition, &p.Offset, &p.LeaderEpoch)
		}
	}
}

func (v *View) txnOffsetCommit(m *kmsg.TxnOffsetCommitRequest) {
	for _, t := range m.Topics {
		for j := range t.Partitions {
			p := &t.Partitions[j]
			v.said(t.Topic, p.Partition, &p.Offset, &p.LeaderEpoch)
		}
	}
}

// fetchedOffsets has the topics of one group in old versions and a list of groups from version 8 on.
func (v *View) fetchedOffsets(m *kmsg.OffsetFetchResponse) {
	for _, t := range m.Topics {
		for j := range t.Partitions {
			p := &t.Partitions[j]
			v.told(t.Topic, p.Partition, &p.Offset, &p.LeaderEpoch)
		}
	}
	for _, g := range m.Groups {
		for _, t := range g.Topics {
			for k := range t.Partitions {
				p := &t.Partitions[k]
				v.told(t.Topic, p.Partition, &p.Offset, &p.LeaderEpoch)
			}
		}
	}
}

func (v *View) deleteRecords(m *kmsg.DeleteRecordsRequest) {
	for _, t := range m.Topics {
		for j := range t.Partitions {
			v.toReal(t.Topic, t.Partitions[j].Partition, &t.Partitions[j].Offset)
		}
	}
}

func (v *View) deletedRecords(m *kmsg.DeleteRecordsResponse) {
	for _, t := range m.Topics {
		for j := range t.Partitions {
			v.toVirtual(t.Topic, t.Partitions[j].Partition, &t.Partitions[j].LowWatermark)
		}
	}
}

// Produced is what clients are told of what they produced, where the answer is decoded; else the walker does the same in passing.
func (v *View) Produced(m *kmsg.ProduceResponse) {
	m.Brokers = nil // addresses of new leaders (KIP-951)
	for _, t := range m.Topics {
		for j := range t.Partitions {
			p := &t.Partitions[j]
			p.CurrentLeader = kmsg.NewProduceResponseTopicPartitionCurrentLeader()
			v.toVirtual(t.Topic, p.Partition, &p.BaseOffset)
			if v.offsets != nil && p.LogStartOffset >= 0 {
				p.LogStartOffset = v.offsets.Start(t.Topic, p.Partition, p.LogStartOffset)
			}
		}
	}
}

// describedProducers has where transactions began that are open.
func (v *View) describedProducers(m *kmsg.DescribeProducersResponse) {
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			for k := range p.ActiveProducers {
				v.toVirtual(t.Topic, p.Partition, &p.ActiveProducers[k].CurrentTxnStartOffset)
			}
		}
	}
}
