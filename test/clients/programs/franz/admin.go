package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// step tries something and says what came of it.
func step(name string, try func() (any, error)) { settled(name, "", try) }

// settled is step for what brokers learn one after the other: it is tried until it is as wanted, for a while.
func settled(name, want string, try func() (any, error)) {
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
	say("step", fields{"name": name, "result": said})
}

// administer does what people do to a cluster; no answer has an address or the topic's name in it.
func administer(ctx context.Context, a args) error {
	cl, err := open(a)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm, topic := kadm.NewClient(cl), a["topic"]
	adm.SetTimeoutMillis(15000)
	step("create topic", func() (any, error) {
		ms := "3600000"
		r, err := adm.CreateTopic(ctx, 3, 3, map[string]*string{"retention.ms": &ms}, topic)
		return fmt.Sprint(r.NumPartitions, " partitions, ", r.ReplicationFactor, " replicas"), err
	})
	step("create it again", func() (any, error) {
		_, err := adm.CreateTopic(ctx, 3, 3, nil, topic)
		return nil, errors.New(strings.ReplaceAll(fmt.Sprint(err), topic, "TOPIC"))
	})
	settled("create partitions", "done", func() (any, error) {
		r, err := adm.CreatePartitions(ctx, 2, topic)
		return "done", errors.Join(err, r.Error())
	})
	topics(ctx, adm, topic)
	groups(ctx, adm, topic, a["group"])
	acls(ctx, adm, topic)
	settled("delete topic", "done", func() (any, error) {
		r, err := adm.DeleteTopic(ctx, topic)
		return "done", errors.Join(err, r.Err)
	})
	return nil
}

// fiveOfThree is what is to be told of a topic of five partitions on three brokers.
const fiveOfThree = "0 of [1 2 3], led by one: true; 1 of [1 2 3], led by one: true; 2 of [1 2 3], led by one: true; 3 of [1 2 3], led by one: true; 4 of [1 2 3], led by one: true; "

func topics(ctx context.Context, adm *kadm.Client, topic string) {
	step("describe cluster", func() (any, error) {
		m, err := adm.BrokerMetadata(ctx)
		return fmt.Sprint(m.Cluster, " ", m.Brokers.NodeIDs()), err
	})
	settled("describe topic", fiveOfThree, func() (any, error) {
		d, err := adm.ListTopics(ctx, topic)
		var b strings.Builder
		for _, p := range d[topic].Partitions.Sorted() {
			slices.Sort(p.Replicas)
			fmt.Fprintf(&b, "%d of %v, led by one: %v; ", p.Partition, p.Replicas, slices.Contains(p.Replicas, p.Leader))
		}
		return b.String(), err
	})
	value := func() (any, error) {
		d, err := adm.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, c := range d[0].Configs {
			if c.Key == "retention.ms" {
				return c.MaybeValue() + " " + c.Source.String(), d[0].Err
			}
		}
		return "no retention.ms", d[0].Err
	}
	settled("describe config", "3600000 DYNAMIC_TOPIC_CONFIG", value)
	settled("alter config", "done", func() (any, error) {
		ms := "7200000"
		r, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &ms}}, topic)
		return "done", errors.Join(err, r[0].Err)
	})
	settled("describe it again", "7200000 DYNAMIC_TOPIC_CONFIG", value)
	step("describe broker config", func() (any, error) {
		d, err := adm.DescribeBrokerConfigs(ctx, 2)
		if err != nil {
			return nil, err
		}
		for _, c := range d[0].Configs {
			if c.Key == "node.id" {
				return d[0].Name + ": " + c.MaybeValue(), d[0].Err
			}
		}
		return "no node.id", d[0].Err
	})
	settled("list offsets", "5 0", func() (any, error) {
		o, err := adm.ListEndOffsets(ctx, topic)
		return fmt.Sprint(len(o[topic]), " ", o[topic][4].Offset), errors.Join(err, o.Error())
	})
	step("describe log dirs", func() (any, error) {
		d, err := adm.DescribeAllLogDirs(ctx, nil)
		return fmt.Sprint(len(d), " brokers"), err
	})
}

func groups(ctx context.Context, adm *kadm.Client, topic, group string) {
	step("commit offsets", func() (any, error) {
		r, err := adm.CommitOffsets(ctx, group, kadm.OffsetsFromRecords())
		return len(r), err
	})
	settled("alter offsets", "done", func() (any, error) {
		var o kadm.Offsets = make(kadm.Offsets)
		o.AddOffset(topic, 1, 0, -1)
		r, err := adm.CommitOffsets(ctx, group, o)
		return "done", errors.Join(err, r.Error())
	})
	step("list groups", func() (any, error) {
		l, err := adm.ListGroups(ctx)
		g, ok := l[group]
		return fmt.Sprint(ok, " ", g.State), err
	})
	step("describe group", func() (any, error) {
		d, err := adm.DescribeGroups(ctx, group)
		return fmt.Sprint(d[group].State, " ", len(d[group].Members), " members, by ", d[group].Coordinator.NodeID > 0), errors.Join(err, d[group].Err)
	})
	step("fetch offsets", func() (any, error) {
		o, err := adm.FetchOffsets(ctx, group)
		return fmt.Sprint(len(o[topic]), " ", o[topic][1].At), err
	})
	step("delete group", func() (any, error) {
		r, err := adm.DeleteGroup(ctx, group)
		return "done", errors.Join(err, r.Err)
	})
	step("list transactions", func() (any, error) {
		_, err := adm.ListTransactions(ctx, nil, nil)
		return "done", err
	})
}

func acls(ctx context.Context, adm *kadm.Client, topic string) {
	rule := kadm.NewACLs().Topics(topic).Allow("User:ann").AllowHosts("*").Operations(kmsg.ACLOperationRead)
	step("create ACL", func() (any, error) {
		r, err := adm.CreateACLs(ctx, rule)
		if err != nil || len(r) != 1 {
			return len(r), err
		}
		return "done", r[0].Err
	})
	find := kadm.NewACLs().Topics(topic).Allow("User:ann").AllowHosts().Operations(kmsg.ACLOperationRead).ResourcePatternType(kmsg.ACLResourcePatternTypeLiteral)
	settled("describe ACLs", "1 found", func() (any, error) {
		r, err := adm.DescribeACLs(ctx, find)
		if err != nil || len(r) != 1 {
			return len(r), err
		}
		return fmt.Sprint(len(r[0].Described), " found"), r[0].Err
	})
	step("delete ACLs", func() (any, error) {
		r, err := adm.DeleteACLs(ctx, find)
		if err != nil || len(r) != 1 {
			return len(r), err
		}
		return fmt.Sprint(len(r[0].Deleted), " deleted"), r[0].Err
	})
}
