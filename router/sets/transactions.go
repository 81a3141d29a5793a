package sets

import "github.com/twmb/franz-go/pkg/kmsg"

// ofTransactions sends who asks about a transactional id of another set to look for its coordinator again, and keeps a transaction in one set: its
// coordinator can only end what is at its own home.
func ofTransactions(m kmsg.Request, here Here, resp kmsg.Response) bool {
	switch m := m.(type) {
	case *kmsg.InitProducerIDRequest:
		r := resp.(*kmsg.InitProducerIDResponse)
		r.ErrorCode, r.ProducerID, r.ProducerEpoch = notCoordinator, -1, -1
		return m.TransactionalID != nil && !here.Group(*m.TransactionalID)
	case *kmsg.EndTxnRequest:
		resp.(*kmsg.EndTxnResponse).ErrorCode = notCoordinator
		return !here.Group(m.TransactionalID)
	case *kmsg.AddOffsetsToTxnRequest:
		r := resp.(*kmsg.AddOffsetsToTxnResponse)
		if r.ErrorCode = violation; !here.Group(m.TransactionalID) {
			r.ErrorCode = notCoordinator
			return true
		}
		return !here.Group(m.Group)
	case *kmsg.TxnOffsetCommitRequest:
		r := resp.(*kmsg.TxnOffsetCommitResponse)
		for _, t := range m.Topics {
			rt := kmsg.NewTxnOffsetCommitResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, notCoordinator
				rt.Partitions = append(rt.Partitions, rp)
			}
			r.Topics = append(r.Topics, rt)
		}
		return !here.Group(m.Group)
	case *kmsg.AddPartitionsToTxnRequest:
		return added(m, here, resp.(*kmsg.AddPartitionsToTxnResponse))
	}
	return false
}

// added refuses the partitions of other sets, and those that came with them, as brokers do where one of several is refused.
func added(m *kmsg.AddPartitionsToTxnRequest, here Here, r *kmsg.AddPartitionsToTxnResponse) bool {
	known := here.Group(m.TransactionalID)
	_, some := others(m.Topics, here.Topic, func(t *kmsg.AddPartitionsToTxnRequestTopic) string { return t.Topic })
	for _, t := range m.Topics {
		code := notAttempted
		switch {
		case !known:
			code = notCoordinator
		case !here.Topic(t.Topic):
			code = violation
		}
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return !known || some
}
