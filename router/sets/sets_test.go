package sets

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/topology"
)

// shop has three sets: fast has payments and their groups, and slow whatever else begins with p.
func shop(t *testing.T) *Map {
	t.Helper()
	p := func(text string) topology.Patterns {
		pattern, err := topology.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		return topology.Patterns{pattern}
	}
	return NewMap(topology.Router{Name: "shop", Advertise: "kafka.example", Slots: topology.Ports{First: 9093, Last: 9095}, Sets: []topology.Set{
		{Name: "fast", Topics: p("payments-*"), Groups: p("payments-*"), Slots: topology.Ports{First: 9103, Last: 9105}},
		{Name: "slow", Topics: p("p*"), SNI: "s{slot}.kafka.example"},
	}})
}

func TestMap(t *testing.T) {
	m := shop(t)
	for name, want := range map[string][2]int{"payments-1": {1, 1}, "patients": {2, 0}, "orders": {0, 0}, "": {0, 0}} {
		if m.OfTopic(name) != want[0] || m.OfGroup(name) != want[1] {
			t.Errorf("%q is of set %d as a topic and of %d as a group, want %v", name, m.OfTopic(name), m.OfGroup(name), want)
		}
	}
	here := m.Of(1)
	if m.Len() != 3 || !here.Topic("payments-1") || here.Topic("orders") || !here.Group("payments-1") || here.Group("orders") {
		t.Error("the set fast has not what is its own")
	}
	for topic, want := range map[string]string{"payments-1": `set "fast", at the slots 9103-9105 of kafka.example`, "patients": "s{slot}.kafka.example", "orders": "9093-9095"} {
		if got := here.Where(topic); !strings.Contains(got, want) {
			t.Errorf("%s is at %q, want %q", topic, got, want)
		}
	}
}

// refusals are requests about a topic or group of this name, with the code that is told where it is of another set.
func refusals(name string) map[string]struct {
	m    kmsg.Request
	code int16
} {
	type entry = struct {
		m    kmsg.Request
		code int16
	}
	topicConfig := kmsg.ConfigResourceTypeTopic
	return map[string]entry{
		"join":          {&kmsg.JoinGroupRequest{Group: name}, notCoordinator},
		"sync":          {&kmsg.SyncGroupRequest{Group: name}, notCoordinator},
		"heartbeat":     {&kmsg.HeartbeatRequest{Group: name}, notCoordinator},
		"leave":         {&kmsg.LeaveGroupRequest{Group: name}, notCoordinator},
		"commit":        {&kmsg.OffsetCommitRequest{Version: 8, Group: name, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}}, notCoordinator},
		"offsets":       {&kmsg.OffsetFetchRequest{Version: 7, Group: name, Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}}, notCoordinator},
		"many offsets":  {&kmsg.OffsetFetchRequest{Version: 8, Groups: []kmsg.OffsetFetchRequestGroup{{Group: name}}}, notCoordinator},
		"forget":        {&kmsg.OffsetDeleteRequest{Group: name}, notCoordinator},
		"describe":      {&kmsg.DescribeGroupsRequest{Groups: []string{name}}, notCoordinator},
		"delete groups": {&kmsg.DeleteGroupsRequest{Groups: []string{name}}, notCoordinator},
		"init":          {&kmsg.InitProducerIDRequest{TransactionalID: &name}, notCoordinator},
		"end":           {&kmsg.EndTxnRequest{TransactionalID: name}, notCoordinator},
		"add offsets":   {&kmsg.AddOffsetsToTxnRequest{TransactionalID: name}, notCoordinator},
		"txn commit":    {&kmsg.TxnOffsetCommitRequest{Group: name, Topics: []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{}}}}}, notCoordinator},
		"ends of logs":  {&kmsg.ListOffsetsRequest{Version: 1, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{}}}}}, notLeader},
		"cut logs":      {&kmsg.DeleteRecordsRequest{Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: name, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{}}}}}, notLeader},
		"producers":     {&kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: name, Partitions: []int32{0}}}}, notLeader},
		"create":        {&kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: name}}}, violation},
		"delete topics": {&kmsg.DeleteTopicsRequest{TopicNames: []string{name}}, violation},
		"grow":          {&kmsg.CreatePartitionsRequest{Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: name}}}, violation},
		"elect":         {&kmsg.ElectLeadersRequest{Version: 1, Topics: []kmsg.ElectLeadersRequestTopic{{Topic: name, Partitions: []int32{0}}}}, violation},
		"move":          {&kmsg.AlterPartitionAssignmentsRequest{Topics: []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: name}}}, violation},
		"configs":       {&kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: topicConfig, ResourceName: name}}}, violation},
		"alter":         {&kmsg.AlterConfigsRequest{Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: topicConfig, ResourceName: name}}}, violation},
		"alter some":    {&kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: topicConfig, ResourceName: name}}}, violation},
	}
}

// TestRefuse: each request passes where it is about the connection's own set, and is answered with its error, in every place that has one, where not.
func TestRefuse(t *testing.T) {
	here := shop(t).Of(0)
	for name, own := range refusals("orders") {
		if !Looks(own.m.Key()) {
			t.Errorf("%s is not looked at", name)
		}
		if r, about := own.m.(*kmsg.AddOffsetsToTxnRequest); about {
			r.Group = "orders"
		}
		if resp := Refuse(own.m, here); resp != nil {
			t.Errorf("%s of its own set is refused: %+v", name, resp)
		}
		other := refusals("payments-1")[name]
		resp := Refuse(other.m, here)
		if resp == nil || resp.GetVersion() != other.m.GetVersion() {
			t.Errorf("%s of another set passes: %+v", name, resp)
			continue
		}
		if codes := codesOf(resp); len(codes) == 0 || slices.ContainsFunc(codes, func(c int16) bool { return c != other.code }) {
			t.Errorf("%s of another set is answered with %v, want %v", name, codes, kerr.ErrorForCode(other.code))
		}
	}
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.CreateACLs, 9999} {
		if Looks(int16(key)) {
			t.Errorf("key %d is looked at", key)
		}
	}
}

// TestRefuse_TransactionOverTwoSets: a typed error for what is of the other set, and none is added.
func TestRefuse_TransactionOverTwoSets(t *testing.T) {
	here := shop(t).Of(0)
	add := &kmsg.AddPartitionsToTxnRequest{TransactionalID: "tx", Topics: []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "orders", Partitions: []int32{0}}, {Topic: "payments-1", Partitions: []int32{1}}}}
	resp, _ := Refuse(add, here).(*kmsg.AddPartitionsToTxnResponse)
	if resp == nil || resp.Topics[0].Partitions[0].ErrorCode != notAttempted || resp.Topics[1].Partitions[0].ErrorCode != violation {
		t.Errorf("%+v", resp)
	}
	add.Topics = add.Topics[:1]
	if resp := Refuse(add, here); resp != nil {
		t.Errorf("a transaction in one set is refused: %+v", resp)
	}
	add.TransactionalID = "payments-tx"
	if resp := Refuse(add, here).(*kmsg.AddPartitionsToTxnResponse); resp.Topics[0].Partitions[0].ErrorCode != notCoordinator {
		t.Errorf("%+v", resp)
	}
	offsets := &kmsg.AddOffsetsToTxnRequest{TransactionalID: "tx", Group: "payments-1"}
	if resp, _ := Refuse(offsets, here).(*kmsg.AddOffsetsToTxnResponse); resp == nil || resp.ErrorCode != violation {
		t.Errorf("%+v", resp)
	}
	if resp := Refuse(&kmsg.InitProducerIDRequest{}, here); resp != nil {
		t.Errorf("an idempotent producer is refused: %+v", resp)
	}
	brokers := &kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "payments-1"}}}
	if resp := Refuse(brokers, here); resp != nil {
		t.Errorf("a broker of a topic's name is refused: %+v", resp)
	}
}

func TestSplitAndJoin(t *testing.T) {
	here := shop(t).Of(0)
	named := func(names ...string) (out []kmsg.MetadataRequestTopic) {
		for _, n := range names {
			out = append(out, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(n)})
		}
		return out
	}
	m := &kmsg.MetadataRequest{Topics: named("payments-1", "orders", "patients")}
	if others, all := Split(m, here); all || !slices.Equal(others, []string{"payments-1", "patients"}) || len(m.Topics) != 1 || *m.Topics[0].Topic != "orders" {
		t.Errorf("%v, %v, left %v", others, all, m.Topics)
	}
	m = &kmsg.MetadataRequest{Topics: named("payments-1")}
	if _, all := Split(m, here); all || m.Topics == nil || len(m.Topics) > 0 {
		t.Errorf("left %v, which would be all topics", m.Topics)
	}
	if others, all := Split(&kmsg.MetadataRequest{}, here); !all || others != nil {
		t.Errorf("%v, %v", others, all)
	}
	topic := func(name string, code int16) kmsg.MetadataResponseTopic {
		return kmsg.MetadataResponseTopic{Topic: kmsg.StringPtr(name), ErrorCode: code}
	}
	got := &kmsg.MetadataResponse{Topics: []kmsg.MetadataResponseTopic{topic("orders", 0), topic("payments-1", 0)}}
	Join(got, here, []kmsg.MetadataResponseTopic{topic("payments-1", 5)})
	if len(got.Topics) != 2 || *got.Topics[0].Topic != "orders" || got.Topics[1].ErrorCode != 5 {
		t.Errorf("the copy of the topic of another set is still told: %+v", got.Topics)
	}
	groups := &kmsg.ListGroupsResponse{Groups: []kmsg.ListGroupsResponseGroup{{Group: "payments-1"}, {Group: "shop"}}}
	if OwnGroups(groups, here); len(groups.Groups) != 1 || groups.Groups[0].Group != "shop" {
		t.Errorf("%+v", groups.Groups)
	}
}
