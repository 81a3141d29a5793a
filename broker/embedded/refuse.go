package embedded

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mustStore reports whether a positive answer to a request of this key promises
// that something was stored. Group membership (JoinGroup and the like) is not
// in the list: it heals by itself and readers need it. Deleting topics and
// records is not either: it makes room.
func mustStore(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.Produce, kmsg.OffsetCommit, kmsg.TxnOffsetCommit,
		kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.EndTxn, kmsg.WriteTxnMarkers,
		kmsg.CreateTopics, kmsg.CreatePartitions, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs,
		kmsg.AlterPartitionAssignments, kmsg.UpdateFeatures,
		kmsg.CreateACLs, kmsg.DeleteACLs, kmsg.AlterClientQuotas, kmsg.AlterUserSCRAMCredentials,
		kmsg.OffsetDelete, kmsg.DeleteGroups,
		kmsg.AlterShareGroupOffsets, kmsg.DeleteShareGroupOffsets, kmsg.ShareAcknowledge:
		return true
	}
	return false
}

const refusal = "the disk of this embedded cluster is nearly full; nothing was stored"

// refuse answers a request that must not be stored now, with errors after
// which clients try again: KAFKA_STORAGE_ERROR where a partition or topic is
// concerned, COORDINATOR_NOT_AVAILABLE where a group or transaction is. Nil
// means that the request has no such answer and its connection must close.
func refuse(req kmsg.Request) kmsg.Response {
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		return refuseProduce(r, refusal)
	case *kmsg.OffsetCommitRequest:
		return refuseCommit(r)
	case *kmsg.TxnOffsetCommitRequest:
		return refuseTxnCommit(r)
	case *kmsg.AddPartitionsToTxnRequest:
		return refuseAddPartitions(r)
	case *kmsg.InitProducerIDRequest:
		resp := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		// Not COORDINATOR_NOT_AVAILABLE: an idempotent producer without
		// a transaction has no coordinator to look for.
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		return resp
	case *kmsg.AddOffsetsToTxnRequest:
		resp := r.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp
	case *kmsg.EndTxnRequest:
		resp := r.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp
	default:
		return refuseAdmin(req, kerr.KafkaStorageError.Code, refusal)
	}
}

func refuseProduce(r *kmsg.ProduceRequest, text string) kmsg.Response {
	resp := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range r.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode = kerr.KafkaStorageError.Code
			rp.ErrorMessage = kmsg.StringPtr(text)
			rp.BaseOffset = -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func refuseCommit(r *kmsg.OffsetCommitRequest) kmsg.Response {
	resp := r.ResponseKind().(*kmsg.OffsetCommitResponse)
	for _, t := range r.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode = kerr.CoordinatorNotAvailable.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func refuseTxnCommit(r *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	resp := r.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	for _, t := range r.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode = kerr.CoordinatorNotAvailable.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// refuseAddPartitions knows both shapes: one transaction up to version 3, many
// from version 4 on, where one error for all of them is enough.
func refuseAddPartitions(r *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	resp := r.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
	for _, t := range r.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition = p
			rp.ErrorCode = kerr.CoordinatorNotAvailable.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// refuseAdmin answers the requests that name topics or configurations.
func refuseAdmin(req kmsg.Request, code int16, text string) kmsg.Response {
	message := kmsg.StringPtr(text)
	switch r := req.(type) {
	case *kmsg.CreateTopicsRequest:
		resp := r.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic, rt.ErrorCode, rt.ErrorMessage = t.Topic, code, message
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.CreatePartitionsRequest:
		resp := r.ResponseKind().(*kmsg.CreatePartitionsResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewCreatePartitionsResponseTopic()
			rt.Topic, rt.ErrorCode, rt.ErrorMessage = t.Topic, code, message
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.AlterConfigsRequest:
		resp := r.ResponseKind().(*kmsg.AlterConfigsResponse)
		for _, a := range r.Resources {
			ra := kmsg.NewAlterConfigsResponseResource()
			ra.ResourceType, ra.ResourceName, ra.ErrorCode, ra.ErrorMessage = a.ResourceType, a.ResourceName, code, message
			resp.Resources = append(resp.Resources, ra)
		}
		return resp
	case *kmsg.IncrementalAlterConfigsRequest:
		resp := r.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
		for _, a := range r.Resources {
			ra := kmsg.NewIncrementalAlterConfigsResponseResource()
			ra.ResourceType, ra.ResourceName, ra.ErrorCode, ra.ErrorMessage = a.ResourceType, a.ResourceName, code, message
			resp.Resources = append(resp.Resources, ra)
		}
		return resp
	}
	return nil
}
