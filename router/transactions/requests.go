package transactions

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Looks reports whether a request is of those that [Request] has something to do with.
func Looks(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn:
		return true
	}
	return false
}

// unknown is the error that all libraries get over which can get another id at all: they abort, and ask for one. INVALID_PRODUCER_ID_MAPPING says it better, but is the end of a producer for newer
// releases of Java's (4.3 at the latest), and behind TRANSACTION_ABORTABLE Java goes on under the same id.
var unknown = kerr.UnknownProducerID.Code

// uncommitted is the error for a commit. Java's commitTransaction throws it as it is, and the exception of unknown is one that its documentation calls final.
func uncommitted(version int16) int16 {
	if version >= 4 { // KIP-890
		return kerr.TransactionAbortable.Code
	}
	return kerr.InvalidProducerIDMapping.Code
}

// Request puts the home's id in the place of the client's, or says what the client is to be answered if it is of another generation; nil if it is to be forwarded.
func Request(m kmsg.Request, generation int64) (stale kmsg.Response) {
	switch m := m.(type) {
	case *kmsg.InitProducerIDRequest:
		if id, current := Real(m.ProducerID, generation); current && Fits(m.ProducerID) {
			m.ProducerID = id
		} else { // as one who has just started: the home would fence what it does not know
			m.ProducerID, m.ProducerEpoch = -1, -1
		}
	case *kmsg.AddPartitionsToTxnRequest:
		id, current := Real(m.ProducerID, generation)
		if m.ProducerID = id; !current {
			return notAdded(m)
		}
	case *kmsg.AddOffsetsToTxnRequest:
		id, current := Real(m.ProducerID, generation)
		if m.ProducerID = id; !current {
			r := m.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
			r.ErrorCode = unknown
			return r
		}
	case *kmsg.TxnOffsetCommitRequest:
		id, current := Real(m.ProducerID, generation)
		if m.ProducerID = id; !current {
			return taken(m)
		}
	case *kmsg.EndTxnRequest:
		id, current := Real(m.ProducerID, generation)
		if m.ProducerID = id; !current {
			r := m.ResponseKind().(*kmsg.EndTxnResponse)
			if m.Commit { // it was aborted when the home was left
				r.ErrorCode = uncommitted(m.Version)
			}
			return r
		}
	}
	return nil
}

// Answer puts the id that clients know in the place of the home's.
func Answer(m kmsg.Response, generation int64) {
	if r, is := m.(*kmsg.InitProducerIDResponse); is {
		r.ProducerID = Shown(r.ProducerID, generation)
	}
}

func notAdded(m *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	r := m.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	for _, t := range m.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p, unknown
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return r
}

// taken says that positions were committed. They are as void as their transaction, whose end says so; of the errors that libraries take here none gets the producer another id.
func taken(m *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	r := m.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	for _, t := range m.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return r
}

// noStart is a log start offset that none can have. With -1 beside the error, or a greater one, Java tries the same again, and not with it.
const noStart = -2

// Produced is what a client is answered for a batch of another generation.
func Produced(partition int32) kmsg.ProduceResponseTopicPartition {
	r := kmsg.NewProduceResponseTopicPartition()
	r.Partition, r.ErrorCode, r.BaseOffset, r.LogStartOffset = partition, unknown, -1, noStart
	return r
}
