package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// survey is what one cluster said of itself.
type survey struct {
	meta    broker.Metadata
	configs map[string]map[string]broker.Config // of the topics that links read or write here
	denied  error                               // some of the settings could not be read
	err     error                               // it could not be asked
}

// checkLive asks all clusters at once and judges each link by the answers. It needs ctx to have a deadline.
func checkLive(ctx context.Context, topo *topology.Topology) []finding {
	surveys := make([]survey, len(topo.Clusters))
	var g errgroup.Group
	for i, c := range topo.Clusters {
		g.Go(func() error {
			surveys[i] = ask(ctx, topo, c)
			return nil
		})
	}
	_ = g.Wait() // errors are in the surveys
	by := map[string]survey{}
	found := []finding{}
	for i, c := range topo.Clusters {
		by[c.Name] = surveys[i]
		found = append(found, judgeCluster(topo, c, surveys[i])...)
	}
	for _, l := range topo.Links {
		from, to := by[l.From], by[l.To]
		if from.err == nil && to.err == nil {
			found = append(found, judgeLink(topo, l, from, to)...)
		}
	}
	slices.SortStableFunc(found, func(a, b finding) int { return cmp.Compare(a.Severity, b.Severity) }) // problems first
	return found
}

// ask asks one cluster about the topics that concern it.
func ask(ctx context.Context, topo *topology.Topology, c topology.Cluster) survey {
	profile, err := broker.NewProfile(c)
	if err != nil {
		return survey{err: err}
	}
	cluster, err := broker.Open(profile, nil)
	if err != nil {
		return survey{err: err}
	}
	defer cluster.Close()
	s := survey{}
	if s.meta, s.err = cluster.Metadata(ctx); s.err != nil {
		return s
	}
	topics := concerned(topo, c.Name, s.meta)
	if len(topics) == 0 {
		return s
	}
	s.configs, s.denied = cluster.TopicConfigs(ctx, topics...)
	if s.configs == nil {
		s.err = s.denied
	}
	return s
}

// concerned are the topics of a cluster that a link reads or writes there.
func concerned(topo *topology.Topology, cluster string, m broker.Metadata) []string {
	var topics []string
	for _, name := range slices.Sorted(maps.Keys(m.Topics)) {
		if slices.ContainsFunc(topo.Links, func(l topology.Link) bool {
			return l.From == cluster && topo.Takes(l, name) || l.To == cluster && l.Makes(name)
		}) {
			topics = append(topics, name)
		}
	}
	return topics
}

// judgeCluster finds what can lose records at one cluster, a line for all its topics that share it.
func judgeCluster(topo *topology.Topology, c topology.Cluster, s survey) []finding {
	if s.err != nil {
		return []finding{unreachable(c, s.err)}
	}
	var single, insync, unclean []string
	for _, name := range concerned(topo, c.Name, s.meta) {
		t := s.meta.Topics[name]
		if len(t.Partitions) > 0 && slices.ContainsFunc(t.Partitions, func(p broker.Partition) bool { return len(p.Replicas) == 1 }) {
			single = append(single, name)
		}
		if s.configs[name]["min.insync.replicas"].Value == "1" {
			insync = append(insync, name)
		}
		if s.configs[name]["unclean.leader.election.enable"].Value == "true" {
			unclean = append(unclean, name)
		}
	}
	found := judgeRights(topo, c, s)
	add := func(kind string, topics []string, what string) {
		if len(topics) > 0 {
			found = append(found, finding{Severity: warning, Kind: kind, Cluster: c.Name, Topics: topics,
				Message: fmt.Sprintf(what, some(topics))})
		}
	}
	add("replication-factor", single, "replication factor 1 of %s: with one broker's disk its records are gone")
	add("min-insync-replicas", insync, "min.insync.replicas is 1 for %s: a write is acknowledged that only one broker has")
	add("unclean-election", unclean, "unclean.leader.election.enable is on for %s: a leader that lags may be elected and drops what was acknowledged")
	return found
}

// judgeRights finds topics whose settings may not be read: a link waits for them.
func judgeRights(topo *topology.Topology, c topology.Cluster, s survey) []finding {
	if s.denied == nil {
		return nil
	}
	f := finding{Severity: problem, Kind: "settings", Cluster: c.Name}
	for _, name := range concerned(topo, c.Name, s.meta) {
		if _, read := s.configs[name]; !read {
			f.Topics = append(f.Topics, name)
		}
	}
	var access *broker.AccessError
	if errors.As(s.denied, &access) { // the first of them; the others are alike
		f.Kind, f.Message = "rights", fmt.Sprintf("%s; %s (topics: %s)", access.Reason, access.Remedy, some(f.Topics))
		return []finding{f}
	}
	f.Message = fmt.Sprintf("the settings of %s cannot be read: %v", some(f.Topics), s.denied)
	return []finding{f}
}

// unreachable says why in words that name what to look at.
func unreachable(c topology.Cluster, err error) finding {
	f := finding{Severity: problem, Kind: "unreachable", Cluster: c.Name}
	at := strings.Join(c.Bootstrap, ", ")
	if c.Embedded != nil {
		at = c.Embedded.Listen + " (embedded: only there while its node runs)"
	}
	var access *broker.AccessError
	switch {
	case errors.As(err, &access):
		f.Kind, f.Message = "access", fmt.Sprintf("%s: %s; %s (%v)", access.Field, access.Reason, access.Remedy, access.Err)
		return f
	case errors.Is(err, context.DeadlineExceeded):
		f.Message = "does not answer in time"
	default:
		f.Message = "cannot be reached"
	}
	f.Message += fmt.Sprintf(" at %s: %v", at, err)
	return f
}

// judgeLink compares the topics of a link at both ends.
func judgeLink(topo *topology.Topology, l topology.Link, from, to survey) []finding {
	var found []finding
	add := func(severity, kind, topic, format string, args ...any) {
		f := finding{Severity: severity, Kind: kind, Link: l.Name, Cluster: l.To, Message: fmt.Sprintf(format, args...)}
		if topic != "" {
			f.Topics = []string{topic}
		}
		found = append(found, f)
	}
	matched := 0
	for _, name := range slices.Sorted(maps.Keys(from.meta.Topics)) {
		as, takes := topo.TargetTopic(l, name)
		if !takes {
			continue
		}
		matched++
		source := from.meta.Topics[name]
		target, ok := to.meta.Topics[as]
		if !ok {
			continue
		}
		if have, want := len(target.Partitions), len(source.Partitions); have < want {
			add(problem, "fewer-partitions", as, "topic %s has %d partitions and the source %d: give it %d, or a topic of another name", as, have, want, want)
		}
		if to.configs[as]["message.timestamp.type"].Value == "LogAppendTime" {
			add(problem, "timestamp-type", as, "topic %s has message.timestamp.type LogAppendTime, which would restamp every copy: set CreateTime", as)
		}
		sourceConfig, sourceKnown := from.configs[name]["cleanup.policy"]
		targetConfig, targetKnown := to.configs[as]["cleanup.policy"]
		if sourceKnown && targetKnown && policies(sourceConfig.Value) != policies(targetConfig.Value) {
			add(problem, "cleanup-policy", as, "topic %s has cleanup.policy %s and the source %s: make them equal", as, targetConfig.Value, sourceConfig.Value)
		}
	}
	if matched == 0 {
		add(warning, "no-topics", "", "no topic of %s matches %s now (one that the user may not describe is not seen)", l.From, strings.Join(l.Topics.Strings(), ", "))
	}
	if brokers := len(to.meta.Brokers); l.ReplicationFactor > brokers {
		add(warning, "replication-factor", "", "replication_factor is %d and there are %d brokers: topics get %d", l.ReplicationFactor, brokers, brokers)
	}
	return found
}

// policies puts a list such as compact,delete in one order.
func policies(value string) string {
	all := strings.Split(value, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}
