package sets

import "github.com/twmb/franz-go/pkg/kmsg"

// ofLeaders sends who asks a broker about partitions that others lead to look for their leaders again.
func ofLeaders(m kmsg.Request, here Here, resp kmsg.Response) (some bool) {
	switch m := m.(type) {
	case *kmsg.ListOffsetsRequest:
		r := resp.(*kmsg.ListOffsetsResponse)
		for _, t := range m.Topics {
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewListOffsetsResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, notLeader
				rt.Partitions = append(rt.Partitions, rp)
			}
			r.Topics = append(r.Topics, rt)
		}
		_, some = others(m.Topics, here.Topic, func(t *kmsg.ListOffsetsRequestTopic) string { return t.Topic })
	case *kmsg.DeleteRecordsRequest:
		r := resp.(*kmsg.DeleteRecordsResponse)
		for _, t := range m.Topics {
			rt := kmsg.NewDeleteRecordsResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDeleteRecordsResponseTopicPartition()
				rp.Partition, rp.LowWatermark, rp.ErrorCode = p.Partition, -1, notLeader
				rt.Partitions = append(rt.Partitions, rp)
			}
			r.Topics = append(r.Topics, rt)
		}
		_, some = others(m.Topics, here.Topic, func(t *kmsg.DeleteRecordsRequestTopic) string { return t.Topic })
	case *kmsg.DescribeProducersRequest:
		r := resp.(*kmsg.DescribeProducersResponse)
		for _, t := range m.Topics {
			rt := kmsg.NewDescribeProducersResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDescribeProducersResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, notLeader
				rt.Partitions = append(rt.Partitions, rp)
			}
			r.Topics = append(r.Topics, rt)
		}
		_, some = others(m.Topics, here.Topic, func(t *kmsg.DescribeProducersRequestTopic) string { return t.Topic })
	}
	return some
}

// ofController refuses what has to be asked of another home's controller.
func ofController(m kmsg.Request, here Here, resp kmsg.Response) (some bool) {
	first := ""
	switch m := m.(type) {
	case *kmsg.CreateTopicsRequest:
		if first, some = others(m.Topics, here.Topic, func(t *kmsg.CreateTopicsRequestTopic) string { return t.Topic }); some {
			r := resp.(*kmsg.CreateTopicsResponse)
			for _, t := range m.Topics {
				rt := kmsg.NewCreateTopicsResponseTopic()
				rt.Topic, rt.ErrorCode, rt.ErrorMessage = t.Topic, violation, elsewhere(here, first)
				r.Topics = append(r.Topics, rt)
			}
		}
	case *kmsg.DeleteTopicsRequest:
		if first, some = others(m.TopicNames, here.Topic, itself); some {
			r := resp.(*kmsg.DeleteTopicsResponse)
			for _, t := range m.TopicNames {
				rt := kmsg.NewDeleteTopicsResponseTopic()
				rt.Topic, rt.ErrorCode, rt.ErrorMessage = kmsg.StringPtr(t), violation, elsewhere(here, first)
				r.Topics = append(r.Topics, rt)
			}
		}
	case *kmsg.CreatePartitionsRequest:
		if first, some = others(m.Topics, here.Topic, func(t *kmsg.CreatePartitionsRequestTopic) string { return t.Topic }); some {
			r := resp.(*kmsg.CreatePartitionsResponse)
			for _, t := range m.Topics {
				rt := kmsg.NewCreatePartitionsResponseTopic()
				rt.Topic, rt.ErrorCode, rt.ErrorMessage = t.Topic, violation, elsewhere(here, first)
				r.Topics = append(r.Topics, rt)
			}
		}
	case *kmsg.ElectLeadersRequest:
		if first, some = others(m.Topics, here.Topic, func(t *kmsg.ElectLeadersRequestTopic) string { return t.Topic }); some {
			r := resp.(*kmsg.ElectLeadersResponse)
			for _, t := range m.Topics {
				rt := kmsg.NewElectLeadersResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewElectLeadersResponseTopicPartition()
					rp.Partition, rp.ErrorCode, rp.ErrorMessage = p, violation, elsewhere(here, first)
					rt.Partitions = append(rt.Partitions, rp)
				}
				r.Topics = append(r.Topics, rt)
			}
		}
	case *kmsg.AlterPartitionAssignmentsRequest:
		if first, some = others(m.Topics, here.Topic, func(t *kmsg.AlterPartitionAssignmentsRequestTopic) string { return t.Topic }); some {
			r := resp.(*kmsg.AlterPartitionAssignmentsResponse)
			r.ErrorCode, r.ErrorMessage = violation, elsewhere(here, first)
		}
	}
	return some
}

// ofConfigs refuses settings of topics of another set.
func ofConfigs(m kmsg.Request, here Here, resp kmsg.Response) (some bool) {
	first := ""
	own := func(topic string) bool { return topic == "" || here.Topic(topic) }
	topic := func(kind kmsg.ConfigResourceType, name string) string {
		if kind == kmsg.ConfigResourceTypeTopic {
			return name
		}
		return ""
	}
	switch m := m.(type) {
	case *kmsg.DescribeConfigsRequest:
		if first, some = others(m.Resources, own, func(c *kmsg.DescribeConfigsRequestResource) string { return topic(c.ResourceType, c.ResourceName) }); some {
			r := resp.(*kmsg.DescribeConfigsResponse)
			for _, c := range m.Resources {
				rc := kmsg.NewDescribeConfigsResponseResource()
				rc.ResourceType, rc.ResourceName, rc.ErrorCode, rc.ErrorMessage = c.ResourceType, c.ResourceName, violation, elsewhere(here, first)
				r.Resources = append(r.Resources, rc)
			}
		}
	case *kmsg.AlterConfigsRequest:
		if first, some = others(m.Resources, own, func(c *kmsg.AlterConfigsRequestResource) string { return topic(c.ResourceType, c.ResourceName) }); some {
			r := resp.(*kmsg.AlterConfigsResponse)
			for _, c := range m.Resources {
				rc := kmsg.NewAlterConfigsResponseResource()
				rc.ResourceType, rc.ResourceName, rc.ErrorCode, rc.ErrorMessage = c.ResourceType, c.ResourceName, violation, elsewhere(here, first)
				r.Resources = append(r.Resources, rc)
			}
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		if first, some = others(m.Resources, own, func(c *kmsg.IncrementalAlterConfigsRequestResource) string {
			return topic(c.ResourceType, c.ResourceName)
		}); some {
			r := resp.(*kmsg.IncrementalAlterConfigsResponse)
			for _, c := range m.Resources {
				rc := kmsg.NewIncrementalAlterConfigsResponseResource()
				rc.ResourceType, rc.ResourceName, rc.ErrorCode, rc.ErrorMessage = c.ResourceType, c.ResourceName, violation, elsewhere(here, first)
				r.Resources = append(r.Resources, rc)
			}
		}
	}
	return some
}

// Split takes out of a Metadata request what is of other sets, so that the home does not make topics that are not its own. All means that every topic was
// asked for; else others are the names of those that were taken out.
func Split(m *kmsg.MetadataRequest, here Here) (others []string, all bool) {
	if m.Topics == nil {
		return nil, true
	}
	own := make([]kmsg.MetadataRequestTopic, 0, len(m.Topics)) // not null, which means all
	for _, t := range m.Topics {
		switch {
		case t.Topic == nil || here.Topic(*t.Topic):
			own = append(own, t)
		default:
			others = append(others, *t.Topic)
		}
	}
	m.Topics = own
	return others, false
}

// Join puts topics of other sets into an answer, in place of the copies that this home may have of them.
func Join(m *kmsg.MetadataResponse, here Here, topics []kmsg.MetadataResponseTopic) {
	own := m.Topics[:0]
	for _, t := range m.Topics {
		if t.Topic == nil || here.Topic(*t.Topic) {
			own = append(own, t)
		}
	}
	m.Topics = append(own, topics...)
}
