package groups

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// readByGo848 is a franz-go consumer of the KIP-848 protocol.
func readByGo848(t *testing.T, s *node.Site, topic, group string, n int) []string {
	t.Helper()
	return readWith(t, s, topic, group, n, kgo.ServerSideBalancer())
}

// TestGroups_OfEachKind: beside share groups, which have no positions, those of classic, KIP-848 and streams groups go over and come back, also while a
// group changes its kind; and `isthmus groups` says of share groups why nothing of them is kept.
func TestGroups_OfEachKind(t *testing.T) {
	kafka.Require(t)
	const topic, turns = "orders", "turns"
	sites := node.StartSites(t, "eu", "us")
	eu, us := sites["eu"], sites["us"]
	for _, s := range sites {
		s.Create(t, topic, 3)
		s.Create(t, turns, 1) // in one that the group reads at us first, it would read what us had before
	}
	write(t, us, topic, own, 100)
	write(t, eu, topic, "some", 1000)
	write(t, us, turns, own, 100)
	all := write(t, eu, turns, "turn", 1000)
	setup := node.NewFleet(t, node.Fleet{Name: "kinds", Sites: []*node.Site{eu, us}, Nodes: []string{"n1"}, DCs: map[string]string{"eu": "here", "us": "there", "n1": "here"},
		More: "[[link]]\nname = \"eu-us\"\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"*\"]\ngroups = [\"*\"]\n"})
	n := setup.Node("n1")
	n.Start()
	setup.CaughtUp(time.Minute, []string{topic, turns}, n)
	is := func(s *node.Site, group, kind string) {
		t.Helper()
		if got := kindOf(t, s, group); got != kind {
			t.Errorf("group %s of %s is of type %s, want %s", group, s.Name, got, kind)
		}
	}
	says := func(args []string, want ...string) {
		t.Helper()
		node.Until(t, 20*time.Second, fmt.Sprintf("isthmus groups %v says %q", args, want), func(ctx context.Context) error {
			out, err := n.CLI(ctx, append([]string{"groups"}, args...)...)
			for _, w := range want {
				if err == nil && !strings.Contains(string(out), w) {
					err = fmt.Errorf("%q is not in\n%s", w, out)
				}
			}
			return err
		})
	}
	share(t, eu, topic, "jobs") // and nobody waits for it
	readByGo(t, eu, topic, "classic", 600)
	readByGo848(t, eu, topic, "kip848", 500)
	member := stream(t, eu, topic, "app")
	member.commit(100)
	for group, kind := range map[string]string{"classic": "classic", "kip848": "consumer", "app": "streams"} {
		is(eu, group, kind)
		follows(t, eu, us, topic, group)
		is(us, group, "classic") // until it has members there
	}
	is(eu, "jobs", "share")
	is(us, "jobs", "none")
	says(nil, "\n! share groups have no committed positions, so nothing of them is kept: jobs (", "3 groups")
	says([]string{"--group", "jobs"}, "kept: jobs (")
	says([]string{"--group", "app"}, "here", "alike")

	t.Run("share group at the target", func(t *testing.T) {
		share(t, us, topic, "both")
		readByGo(t, eu, topic, "both", 100)
		says([]string{"--group", "both"}, "one-side", "us has a share group of that name, which takes no positions")
		is(us, "both", "share")
		readByGo(t, eu, topic, "classic", 100) // the others go on
		follows(t, eu, us, topic, "classic")
	})
	t.Run("streams group moves", func(t *testing.T) {
		member.leave()
		there := stream(t, us, topic, "app")
		is(us, "app", "streams")
		follows(t, eu, us, topic, "app")
		there.commit(200)
		follows(t, us, eu, topic, "app")
		is(eu, "app", "streams")
	})
	t.Run("group changes its kind", func(t *testing.T) {
		var got []string
		for _, life := range []struct {
			read reader
			at   *node.Site
			kind string
		}{
			{readByGo, eu, "classic"}, {readByGo848, eu, "consumer"}, {readByGo, us, "classic"}, {readByGo848, eu, "consumer"}, {readByGo848, us, "consumer"}, {readByGo, eu, "classic"},
		} {
			got = append(got, life.read(t, life.at, turns, "changes", 100)...)
			is(life.at, "changes", life.kind)
			follows(t, life.at, map[*node.Site]*node.Site{eu: us, us: eu}[life.at], turns, "changes")
		}
		once(t, append(got, readByGo848(t, us, turns, "changes", len(all)-len(got))...), all)
	})
}

// share has a member in a share group until the test ends.
func share(t *testing.T, s *node.Site, topic, group string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...), kgo.ShareGroup(group), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cl.PollFetches(ctx)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		cl.Close()
	})
	node.Until(t, 30*time.Second, "share group "+group+" is there", func(context.Context) error {
		if kind := kindOf(t, s, group); kind != "share" {
			return fmt.Errorf("it is of type %s", kind)
		}
		return nil
	})
}

// streams is the only member of a streams group (KIP-1071), by the requests that Kafka Streams makes.
type streams struct {
	t     *testing.T
	cl    *kgo.Client
	group string
	topic string
	epoch int32
	tasks int // partitions that it was given
}

// stream joins, and is given all partitions of a topic. It stays for as long as Kafka waits for a heartbeat, 45 seconds, or until it leaves.
func stream(t *testing.T, s *node.Site, topic, group string) *streams {
	t.Helper()
	byName := kversion.Tip()
	byName.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9) // with topic names
	byName.SetMaxKeyVersion(kmsg.StreamsGroupHeartbeat.Int16(), 0)
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap()...), kgo.MaxVersions(byName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	m := &streams{t: t, cl: cl, group: group, topic: topic}
	node.Until(t, 30*time.Second, "streams group "+group+" has its tasks", func(ctx context.Context) error {
		if err := m.beat(ctx); err != nil {
			return err
		}
		if m.tasks < 3 {
			return fmt.Errorf("it has %d of 3", m.tasks)
		}
		return nil
	})
	return m
}

// beat is one heartbeat. The first one joins.
func (m *streams) beat(ctx context.Context) error {
	req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = m.group, "stream", m.epoch
	if m.epoch == 0 {
		part := kmsg.NewStreamsGroupHeartbeatRequestTopologySubtopology()
		part.SubtopologyID, part.SourceTopics = "0", []string{m.topic}
		req.Topology = &kmsg.StreamsGroupHeartbeatRequestTopology{Subtopologies: []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{part}}
		req.RebalanceTimeoutMillis, req.ProcessID = 30_000, kmsg.StringPtr("process")
		req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
	}
	res, err := req.RequestWith(ctx, m.cl.SeedBrokers()[0]) // the only broker; the client itself finds no coordinator for this request
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("heartbeat of %s: %w", m.group, err)
	}
	m.epoch = res.MemberEpoch
	for _, task := range res.ActiveTasks {
		m.tasks = len(task.Partitions)
	}
	return nil
}

// commit commits an offset in every partition.
func (m *streams) commit(offset int64) {
	m.t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = m.group, "stream", m.epoch
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = m.topic
	for p := range int32(m.tasks) {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = p, offset
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	res, err := req.RequestWith(m.t.Context(), m.cl)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, p := range res.Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			m.t.Fatalf("commit of %s in partition %d: %v", m.group, p.Partition, err)
		}
	}
}

// leave leaves the group.
func (m *streams) leave() {
	m.t.Helper()
	m.epoch = -1
	if err := m.beat(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}
