package rewrite

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadata has the brokers that slots stand for, at the slots' addresses, and partitions without epochs. A leader without a slot
// cannot be reached by clients: they are told to ask again.
func (v *View) metadata(m *kmsg.MetadataResponse) {
	brokers := m.Brokers[:0]
	for _, b := range m.Brokers {
		if s, ok := v.SlotOf(b.NodeID); ok {
			b.NodeID, b.Host, b.Port = s.ID, s.Host, s.Port
			brokers = append(brokers, b)
		}
	}
	for _, s := range v.others {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = s.ID, s.Host, s.Port
		brokers = append(brokers, b)
	}
	m.Brokers = brokers
	m.ControllerID = v.Virtual(m.ControllerID)
	if m.ClusterID != nil && v.clusterID != "" {
		m.ClusterID = &v.clusterID
	}
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			p := &m.Topics[i].Partitions[j]
			was := p.Leader
			p.Leader = v.Virtual(was)
			if p.Leader < 0 && was >= 0 && p.ErrorCode == 0 {
				p.ErrorCode = kerr.LeaderNotAvailable.Code
			}
			p.LeaderEpoch = -1
			p.Replicas, p.ISR, p.OfflineReplicas = v.each(p.Replicas), v.each(p.ISR), v.each(p.OfflineReplicas)
		}
	}
}

func (v *View) describeCluster(m *kmsg.DescribeClusterResponse) {
	brokers := m.Brokers[:0]
	for _, b := range m.Brokers {
		if s, ok := v.SlotOf(b.NodeID); ok {
			b.NodeID, b.Host, b.Port = s.ID, s.Host, s.Port
			brokers = append(brokers, b)
		}
	}
	for _, s := range v.others {
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Host, b.Port = s.ID, s.Host, s.Port
		brokers = append(brokers, b)
	}
	m.Brokers = brokers
	m.ControllerID = v.Virtual(m.ControllerID)
	if m.ClusterID != "" && v.clusterID != "" {
		m.ClusterID = v.clusterID
	}
}

// findCoordinator has one coordinator in old versions and a list of them from version 4 on.
func (v *View) findCoordinator(m *kmsg.FindCoordinatorResponse) {
	v.coordinator(&m.ErrorCode, &m.NodeID, &m.Host, &m.Port)
	for i := range m.Coordinators {
		c := &m.Coordinators[i]
		v.coordinator(&c.ErrorCode, &c.NodeID, &c.Host, &c.Port)
	}
}

// coordinator rewrites one; all clients ask again for one that is not available.
func (v *View) coordinator(code *int16, node *int32, host *string, port *int32) {
	s, ok := v.SlotOf(*node)
	if !ok {
		s = Slot{ID: -1, Port: -1}
		if *node >= 0 && *code == 0 {
			*code = kerr.CoordinatorNotAvailable.Code
		}
	}
	*node, *host, *port = s.ID, s.Host, s.Port
}
