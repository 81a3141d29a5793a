package sets

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Looks reports whether requests of a key have to be looked at where there are several sets. Produce and Fetch are walked instead.
func Looks(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.Metadata, kmsg.FindCoordinator, kmsg.ListGroups:
		return true
	}
	return refuses(kmsg.RequestForKey(key), nil, nil)
}

// Refuse answers a request that must not go to the home of this connection; nil lets it pass.
func Refuse(m kmsg.Request, here Here) kmsg.Response {
	resp := m.ResponseKind()
	resp.SetVersion(m.GetVersion())
	if refuses(m, here, resp) {
		return resp
	}
	return nil
}

// refuses fills in resp if a request is to be refused. Without here it reports whether there is anything about requests of this kind that could be.
func refuses(m kmsg.Request, here Here, resp kmsg.Response) bool {
	switch m := m.(type) {
	case *kmsg.JoinGroupRequest, *kmsg.SyncGroupRequest, *kmsg.HeartbeatRequest, *kmsg.LeaveGroupRequest, *kmsg.OffsetCommitRequest, *kmsg.OffsetFetchRequest, *kmsg.OffsetDeleteRequest,
		*kmsg.DescribeGroupsRequest, *kmsg.DeleteGroupsRequest:
		return here == nil || ofGroups(m, here, resp)
	case *kmsg.InitProducerIDRequest, *kmsg.AddPartitionsToTxnRequest, *kmsg.AddOffsetsToTxnRequest, *kmsg.TxnOffsetCommitRequest, *kmsg.EndTxnRequest:
		return here == nil || ofTransactions(m, here, resp)
	case *kmsg.ListOffsetsRequest, *kmsg.DeleteRecordsRequest, *kmsg.DescribeProducersRequest:
		return here == nil || ofLeaders(m, here, resp)
	case *kmsg.CreateTopicsRequest, *kmsg.DeleteTopicsRequest, *kmsg.CreatePartitionsRequest, *kmsg.ElectLeadersRequest, *kmsg.AlterPartitionAssignmentsRequest:
		return here == nil || ofController(m, here, resp)
	case *kmsg.DescribeConfigsRequest, *kmsg.AlterConfigsRequest, *kmsg.IncrementalAlterConfigsRequest:
		return here == nil || ofConfigs(m, here, resp)
	}
	return false
}

// elsewhere says why a request with a topic of another set is refused.
func elsewhere(here Here, topic string) *string {
	words := fmt.Sprintf("topic %s is of %s; ask there, in a request of its own", topic, here.Where(topic))
	return &words
}

// others is what of a request is of another set, the first of it.
func others[T any](all []T, here func(string) bool, name func(*T) string) (first string, some bool) {
	for i := range all {
		if n := name(&all[i]); !here(n) {
			return n, true
		}
	}
	return "", false
}

func itself(s *string) string { return *s }

var (
	notCoordinator = kerr.NotCoordinator.Code
	notLeader      = kerr.NotLeaderForPartition.Code
	violation      = kerr.PolicyViolation.Code
	notAttempted   = kerr.OperationNotAttempted.Code
)
