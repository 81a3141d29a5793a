package embedded

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// maxPartitions bounds a topic. kfake makes as many as it is asked for,
	// even if that takes all memory.
	maxPartitions = 10_000
	// maxTopicName is Apache Kafka's.
	maxTopicName = 249
)

// objection is why a well-formed request must not reach kfake.
type objection struct {
	code int16
	text string
}

// objectTo looks at the values that kfake would take without question although
// it cannot live with them. Nil is no objection.
func objectTo(req kmsg.Request) *objection {
	switch r := req.(type) {
	case *kmsg.CreateTopicsRequest:
		for _, t := range r.Topics {
			if !validTopic(t.Topic) {
				return &objection{kerr.InvalidTopicException.Code, fmt.Sprintf("topic name %.60q is not legal", t.Topic)}
			}
			if t.NumPartitions > maxPartitions || len(t.ReplicaAssignment) > maxPartitions {
				return &objection{kerr.InvalidPartitions.Code, fmt.Sprintf("an embedded cluster takes at most %d partitions per topic", maxPartitions)}
			}
		}
	case *kmsg.CreatePartitionsRequest:
		for _, t := range r.Topics {
			if t.Count > maxPartitions {
				return &objection{kerr.InvalidPartitions.Code, fmt.Sprintf("an embedded cluster takes at most %d partitions per topic", maxPartitions)}
			}
		}
	case *kmsg.AlterConfigsRequest:
		for _, a := range r.Resources {
			if a.ResourceType == kmsg.ConfigResourceTypeBroker {
				return brokerConfigs
			}
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for _, a := range r.Resources {
			if a.ResourceType == kmsg.ConfigResourceTypeBroker {
				return brokerConfigs
			}
		}
	}
	return nil
}

// brokerConfigs: some values of some of them kill kfake, and one would start
// its own compaction.
var brokerConfigs = &objection{kerr.PolicyViolation.Code, "broker settings of an embedded cluster come from its configuration"}

// examined reports whether requests of this key have values to look at.
func examined(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.CreateTopics, kmsg.CreatePartitions, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs:
		return true
	}
	return false
}

func validTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > maxTopicName {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
