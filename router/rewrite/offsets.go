package rewrite

import "github.com/twmb/franz-go/pkg/kmsg"

// Epochs of leaders are a cluster's own, and no client gets over it when they become others at the same offsets. So clients are told none, and those that
// they tell all the same (of an old life, without the router) are not passed on.

func listOffsets(m *kmsg.ListOffsetsRequest) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			m.Topics[i].Partitions[j].CurrentLeaderEpoch = -1
		}
	}
}

func listedOffsets(m *kmsg.ListOffsetsResponse) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			m.Topics[i].Partitions[j].LeaderEpoch = -1
		}
	}
}

func offsetCommit(m *kmsg.OffsetCommitRequest) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			m.Topics[i].Partitions[j].LeaderEpoch = -1
		}
	}
}

func txnOffsetCommit(m *kmsg.TxnOffsetCommitRequest) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			m.Topics[i].Partitions[j].LeaderEpoch = -1
		}
	}
}

// fetchedOffsets has the topics of one group in old versions and a list of groups from version 8 on.
func fetchedOffsets(m *kmsg.OffsetFetchResponse) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			m.Topics[i].Partitions[j].LeaderEpoch = -1
		}
	}
	for i := range m.Groups {
		for j := range m.Groups[i].Topics {
			for k := range m.Groups[i].Topics[j].Partitions {
				m.Groups[i].Topics[j].Partitions[k].LeaderEpoch = -1
			}
		}
	}
}
