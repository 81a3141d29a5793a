package rewrite

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (v *View) createTopics(m *kmsg.CreateTopicsRequest) {
	for i := range m.Topics {
		for j := range m.Topics[i].ReplicaAssignment {
			v.back(m.Topics[i].ReplicaAssignment[j].Replicas)
		}
	}
}

func (v *View) createPartitions(m *kmsg.CreatePartitionsRequest) {
	for i := range m.Topics {
		for j := range m.Topics[i].Assignment {
			v.back(m.Topics[i].Assignment[j].Replicas)
		}
	}
}

func (v *View) alterAssignments(m *kmsg.AlterPartitionAssignmentsRequest) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			v.back(m.Topics[i].Partitions[j].Replicas)
		}
	}
}

func (v *View) reassignments(m *kmsg.ListPartitionReassignmentsResponse) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			p := &m.Topics[i].Partitions[j]
			p.Replicas, p.AddingReplicas, p.RemovingReplicas = v.each(p.Replicas), v.each(p.AddingReplicas), v.each(p.RemovingReplicas)
		}
	}
}

// isBroker reports whether resources of a type have ids of brokers for names.
func isBroker(t kmsg.ConfigResourceType) bool {
	return t == kmsg.ConfigResourceTypeBroker || t == kmsg.ConfigResourceTypeBrokerLogger
}

// name rewrites the name of a resource in an answer. What is no id, as "" for the default of all brokers, stays.
func (v *View) name(t kmsg.ConfigResourceType, name *string) {
	if !isBroker(t) {
		return
	}
	if node, err := strconv.ParseInt(*name, 10, 32); err == nil {
		*name = strconv.Itoa(int(v.Virtual(int32(node))))
	}
}

// nameBack rewrites the name of a resource in a request.
func (v *View) nameBack(t kmsg.ConfigResourceType, name *string) {
	if !isBroker(t) {
		return
	}
	if id, err := strconv.ParseInt(*name, 10, 32); err == nil {
		*name = strconv.Itoa(int(v.real(int32(id))))
	}
}
