package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// step tries something and says what came of it. What brokers learn one after the other is tried until it is as wanted, for a while.
func step(a args, name, want string, try func() (any, error)) {
	var said string
	for end := time.Now().Add(10 * time.Second); ; <-time.After(100 * time.Millisecond) {
		result, err := try()
		if said = fmt.Sprint(result); err != nil {
			said = "error: " + err.Error()
		}
		if want == "" || said == want || time.Now().After(end) {
			break
		}
	}
	say("step", fields{"name": name, "result": strings.ReplaceAll(said, a["topic"], "TOPIC")})
}

func done(err error) (any, error) { return "done", err }

// administer does what people do to a cluster; no answer has an address or the topic's name in it.
func administer(_ context.Context, a args) error {
	adm, err := sarama.NewClusterAdmin(a.brokers(), config())
	if err != nil {
		return err
	}
	topic, ms := a["topic"], "3600000"
	detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 3, ConfigEntries: map[string]*string{"retention.ms": &ms}}
	step(a, "create topic", "", func() (any, error) { return done(adm.CreateTopic(topic, detail, false)) })
	step(a, "create it again", "", func() (any, error) { return done(adm.CreateTopic(topic, detail, false)) })
	step(a, "create partitions", "done", func() (any, error) { return done(adm.CreatePartitions(topic, 5, nil, false)) })
	step(a, "describe cluster", "", func() (any, error) {
		b, controller, err := adm.DescribeCluster()
		return fmt.Sprint(len(b), " brokers, controller is one: ", controller > 0), err
	})
	step(a, "describe topic", "5 partitions, 5 led by one", func() (any, error) {
		t, err := adm.DescribeTopics([]string{topic})
		if err != nil {
			return nil, err
		}
		led := 0
		for _, p := range t[0].Partitions {
			for _, r := range p.Replicas {
				if r == p.Leader {
					led++
				}
			}
		}
		return fmt.Sprintf("%d partitions, %d led by one", len(t[0].Partitions), led), nil
	})
	retention := func() (any, error) {
		c, err := adm.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
		if err != nil || len(c) != 1 {
			return len(c), err
		}
		return c[0].Value, nil
	}
	step(a, "describe config", "3600000", retention)
	step(a, "alter config", "done", func() (any, error) {
		ms := "7200000"
		return done(adm.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &ms}}, false))
	})
	step(a, "describe it again", "7200000", retention)
	step(a, "describe log dirs", "", func() (any, error) {
		d, err := adm.DescribeLogDirs([]int32{1, 2, 3})
		return len(d), err
	})
	groups(a, adm, topic)
	acls(a, adm, topic)
	step(a, "delete topic", "done", func() (any, error) { return done(adm.DeleteTopic(topic)) })
	return adm.Close()
}

func groups(a args, adm sarama.ClusterAdmin, topic string) {
	group := a["group"]
	step(a, "commit", "done", func() (any, error) {
		c, err := sarama.NewClient(a.brokers(), config())
		if err != nil {
			return nil, err
		}
		defer c.Close()
		m, err := sarama.NewOffsetManagerFromClient(group, c)
		if err != nil {
			return nil, err
		}
		defer m.Close()
		p, err := m.ManagePartition(topic, 1)
		if err != nil {
			return nil, err
		}
		p.MarkOffset(1, "words")
		m.Commit()
		return "done", p.Close()
	})
	step(a, "list groups", "true", func() (any, error) {
		l, err := adm.ListConsumerGroups()
		_, ok := l[group]
		return ok, err
	})
	step(a, "describe group", "", func() (any, error) {
		d, err := adm.DescribeConsumerGroups([]string{group})
		if err != nil {
			return nil, err
		}
		return d[0].State, nil
	})
	step(a, "fetch offsets", "", func() (any, error) {
		o, err := adm.ListConsumerGroupOffsets(group, map[string][]int32{topic: {1}})
		if err != nil {
			return nil, err
		}
		return o.GetBlock(topic, 1).Offset, nil
	})
	step(a, "delete group", "done", func() (any, error) { return done(adm.DeleteConsumerGroup(group)) })
}

func acls(a args, adm sarama.ClusterAdmin, topic string) {
	who, host := "User:ann", "*"
	rule := sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: topic, ResourcePatternType: sarama.AclPatternLiteral}
	find := sarama.AclFilter{Version: 1, ResourceType: sarama.AclResourceTopic, ResourceName: &topic, ResourcePatternTypeFilter: sarama.AclPatternLiteral, Principal: &who, Host: &host,
		Operation: sarama.AclOperationRead, PermissionType: sarama.AclPermissionAllow}
	step(a, "create ACL", "", func() (any, error) {
		return done(adm.CreateACL(rule, sarama.Acl{Principal: who, Host: host, Operation: sarama.AclOperationRead, PermissionType: sarama.AclPermissionAllow}))
	})
	step(a, "describe ACLs", "1", func() (any, error) {
		r, err := adm.ListAcls(find)
		return len(r), err
	})
	step(a, "delete ACLs", "", func() (any, error) {
		r, err := adm.DeleteACL(find, false)
		return len(r), err
	})
}
