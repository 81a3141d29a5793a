package rewrite

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestNewView_Refuses(t *testing.T) {
	for want, slots := range map[string][]Slot{
		"slot 1 is there twice":   {{1, 101, "a", 1}, {1, 102, "a", 1}},
		"broker 101 has the slot": {{1, 101, "a", 1}, {2, 101, "a", 1}},
		"is no address":           {{1, 101, "", 1}},
		"port 0 is no address":    {{1, 101, "a", 0}},
		"slot -1":                 {{-1, 101, "a", 1}},
		"slot 2147483647":         {{nobody, 101, "a", 1}},
	} {
		if _, err := NewView("", slots); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", slots, err, want)
		}
	}
}

func TestView_Ids(t *testing.T) {
	v := view(t)
	for node, id := range map[int32]int32{101: 1, 103: 3, 199: -1, -1: -1, -2: -2, 1: -1} {
		if got := v.Virtual(node); got != id {
			t.Errorf("broker %d is %d, want %d", node, got, id)
		}
	}
	for id, node := range map[int32]int32{1: 101, 4: nobody, 9: nobody, -1: -1, -2: -2} {
		if got := v.real(id); got != node {
			t.Errorf("slot %d is %d, want %d", id, got, node)
		}
	}
	if _, ok := v.Real(4); ok {
		t.Error("a slot that stands for nobody stands for somebody")
	}
}

// TestMetadata_LeaderWithoutSlot: clients cannot reach it, and are told to ask again; what is wrong anyway stays so.
func TestMetadata_LeaderWithoutSlot(t *testing.T) {
	v := view(t)
	m := kmsg.NewPtrMetadataResponse()
	m.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 199, Host: "real"}, {NodeID: 102, Host: "real"}}
	m.ControllerID = 199
	m.Topics = []kmsg.MetadataResponseTopic{{Partitions: []kmsg.MetadataResponseTopicPartition{
		{Leader: 199, Replicas: []int32{199, 102}, ISR: []int32{102}}, {Leader: 102}, {Leader: -1, ErrorCode: 9}, {Leader: 199, ErrorCode: 9},
	}}}
	v.metadata(m)
	if len(m.Brokers) != 1 || m.Brokers[0].NodeID != 2 || m.Brokers[0].Host != "door.example" || m.Brokers[0].Port != 9094 || m.ControllerID != -1 {
		t.Errorf("%+v, controller %d", m.Brokers, m.ControllerID)
	}
	p := m.Topics[0].Partitions
	for i, want := range []struct {
		leader int32
		code   int16
	}{{-1, kerr.LeaderNotAvailable.Code}, {2, 0}, {-1, 9}, {-1, 9}} {
		if p[i].Leader != want.leader || p[i].ErrorCode != want.code {
			t.Errorf("partition %d: %+v", i, p[i])
		}
	}
	if !slices.Equal(p[0].Replicas, []int32{2}) {
		t.Errorf("replicas %v", p[0].Replicas)
	}
}

func TestFindCoordinator(t *testing.T) {
	v := view(t)
	m := kmsg.NewPtrFindCoordinatorResponse()
	m.NodeID, m.Host, m.Port = 103, "real", 1
	m.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{NodeID: 101, Host: "real", Port: 1}, {NodeID: 199, Host: "real", Port: 1}, {NodeID: -1, ErrorCode: 15}}
	v.findCoordinator(m)
	if m.NodeID != 3 || m.Host != "door.example" || m.Port != 9095 {
		t.Errorf("%+v", m)
	}
	c := m.Coordinators
	if c[0].NodeID != 1 || c[0].Port != 9093 || c[1].NodeID != -1 || c[1].Host != "" || c[1].ErrorCode != kerr.CoordinatorNotAvailable.Code || c[2].NodeID != -1 {
		t.Errorf("%+v", c)
	}
}

func TestIdempotent(t *testing.T) {
	for version := range int16(6) {
		m := kmsg.NewPtrInitProducerIDRequest()
		m.SetVersion(version)
		if is, err := Idempotent(version, m.AppendTo(nil)); err != nil || !is {
			t.Errorf("v%d without a transactional id: %v, %v", version, is, err)
		}
		m.TransactionalID = kmsg.StringPtr("tx")
		if is, err := Idempotent(version, m.AppendTo(nil)); err != nil || is {
			t.Errorf("v%d with a transactional id: %v, %v", version, is, err)
		}
		var read kmsg.InitProducerIDResponse
		read.SetVersion(version)
		if err := read.ReadFrom(NewProducer(version, 1<<62).AppendTo(nil)); err != nil || read.ProducerID != 1<<62 || read.ProducerEpoch != 0 || read.ErrorCode != 0 {
			t.Errorf("v%d: %+v, %v", version, read, err)
		}
	}
	if _, err := Idempotent(4, nil); err == nil {
		t.Error("nothing was read as a request")
	}
}
