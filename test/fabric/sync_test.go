package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/sync"
	"github.com/isthmus-project/isthmus/topology"
)

const keepsAll = `sync_configs = ["*"]
sync_acls = true
sync_quotas = true
groups = ["g-*"]`

// cluster opens a cluster as a person with all rights.
func (f *Fabric) cluster(t *testing.T, name string) *broker.Cluster {
	t.Helper()
	c := f.Client(name)
	opened, err := broker.Open(broker.Profile{Name: name, Bootstrap: c.Bootstrap, Dial: c.Dial}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Close)
	return opened
}

// within5s is what an operator may expect.
func within5s(t *testing.T, what string, is func() error) {
	t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(100 * time.Millisecond) {
		if err = is(); err == nil {
			return
		}
	}
	t.Errorf("%s: not within 5 s: %v", what, err)
}

// drifts are the drifts of a link in short.
func drifts(t *testing.T, n *Node, link string) (out []string) {
	t.Helper()
	all, err := n.Set.Drift(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Link != link || d.Why == "" {
			t.Errorf("a drift without a reason, or of another link: %+v", d)
		}
		out = append(out, strings.Join(strings.Fields(fmt.Sprint(d.Kind, " ", d.Topic, " ", d.Name, " ", d.Verdict)), " "))
	}
	slices.Sort(out)
	return out
}

// TestSync_FollowsTheSource: what is set, changed and taken away at the source is on the target within seconds, and what somebody made
// on the target stays; also across a restart of the node, which has no disk.
func TestSync_FollowsTheSource(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Settings: keepsAll}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		eu.Set("orders", "retention.ms", "1000")
		eu.Allow(sync.Reads("a", "orders"), sync.Reads("a", "__elsewhere"))
		us.Allow(sync.Reads("local", "orders"))
		eu.Quota("a", map[string]float64{"producer_byte_rate": 1, "consumer_byte_rate": 2})
		us.Quota("local", map[string]float64{"producer_byte_rate": 9})
		n := f.Start("n1")
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		alike := func(what string, configs map[string]string, rules []broker.ACL, quotas map[string]float64) {
			t.Helper()
			quotas = maps.Clone(quotas)
			quotas["user local producer_byte_rate"] = 9
			within5s(t, what, func() error {
				var err error
				if got := us.Rules(); len(got) != len(rules)+1 || slices.ContainsFunc(append(rules, sync.Reads("local", "orders")), func(a broker.ACL) bool { return !slices.Contains(got, a) }) {
					err = fmt.Errorf("rules %v, want %v", got, rules)
				}
				return errors.Join(err, sync.Same(us.Own("orders"), configs), sync.Same(us.QuotaValues(), quotas))
			})
		}
		alike("at first", map[string]string{"retention.ms": "1000"}, []broker.ACL{sync.Reads("a", "orders")},
			map[string]float64{"user a producer_byte_rate": 1, "user a consumer_byte_rate": 2})

		eu.Set("orders", "retention.ms", "2000")
		eu.Set("orders", "segment.ms", "3000")
		us.Set("orders", "flush.ms", "77")
		eu.Allow(sync.Reads("b", "orders"))
		eu.Quota("a", map[string]float64{"producer_byte_rate": 5})
		alike("changed", map[string]string{"retention.ms": "2000", "segment.ms": "3000", "flush.ms": "77"}, []broker.ACL{sync.Reads("a", "orders"), sync.Reads("b", "orders")},
			map[string]float64{"user a producer_byte_rate": 5, "user a consumer_byte_rate": 2})

		n.Kill()
		n = f.Start("n2")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		eu.Set("orders", "retention.ms", "")
		eu.Forget(sync.Reads("a", "orders"))
		eu.Quota("a", map[string]float64{"consumer_byte_rate": math.NaN()})
		alike("taken away", map[string]string{"segment.ms": "3000", "flush.ms": "77"}, []broker.ACL{sync.Reads("b", "orders")},
			map[string]float64{"user a producer_byte_rate": 5})
		time.Sleep(time.Minute)
		alike("a minute later", map[string]string{"segment.ms": "3000", "flush.ms": "77"}, []broker.ACL{sync.Reads("b", "orders")},
			map[string]float64{"user a producer_byte_rate": 5})
		want := []string{
			"acl allow User:local from * to read topic literal orders left by policy",
			"quota user local: producer_byte_rate left by policy",
			"topic-config orders flush.ms left by policy",
		}
		if got := drifts(t, n, "eu-us"); !slices.Equal(got, want) {
			t.Errorf("the drift is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestSync_NoEndlessFight: what somebody changes back on the target is set again, at once and then ever less often.
func TestSync_NoEndlessFight(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Settings: keepsAll}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		eu.Set("orders", "retention.ms", "1000")
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		us.Set("orders", "retention.ms", "9000")
		within5s(t, "set again", func() error { return sync.Same(us.Own("orders"), map[string]string{"retention.ms": "1000"}) })
		fights := 0
		for began := time.Now(); time.Since(began) < time.Hour; time.Sleep(7 * time.Second) {
			if us.Own("orders")["retention.ms"] != "9000" {
				fights++
				us.Set("orders", "retention.ms", "9000")
			}
		}
		if fights < 5 || fights > 20 {
			t.Errorf("in an hour it was set %d times, want a few", fights)
		}
		if got, want := drifts(t, n, "eu-us"), []string{"topic-config orders retention.ms will be set"}; !slices.Equal(got, want) {
			t.Errorf("the drift is %v, want %v", got, want)
		}
		eu.Set("orders", "retention.ms", "1500") // a new value is not part of the fight
		within5s(t, "a new value", func() error { return sync.Same(us.Own("orders"), map[string]string{"retention.ms": "1500"}) })
	})
}

// TestSync_BothWays: with links both ways the side that changed wins, deletions too, and all comes to rest.
func TestSync_BothWays(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Links: []string{"eu>us", "us>eu"}, Settings: keepsAll}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		write := sync.Reads("a", "orders")
		write.Operation = kmsg.ACLOperationWrite
		eu.Set("orders", "retention.ms", "1000")
		us.Set("orders", "retention.ms", "2000") // nobody knows who is right: the first by name
		eu.Allow(write)
		us.Allow(sync.Reads("b", "orders"))
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		both := func(what string, configs map[string]string, rules ...broker.ACL) {
			t.Helper()
			is := func() error {
				var err error
				for _, h := range []sync.Hand{eu, us} {
					got := h.Rules()
					if len(got) != len(rules) || slices.ContainsFunc(rules, func(a broker.ACL) bool { return !slices.Contains(got, a) }) {
						err = fmt.Errorf("%s has the rules %v, want %v", h.Cluster.Name(), got, rules)
					}
					err = errors.Join(err, sync.Same(h.Own("orders"), configs))
				}
				return err
			}
			within5s(t, what, is)
			time.Sleep(time.Minute)
			within5s(t, what+", and later", is)
		}
		both("at first", map[string]string{"retention.ms": "1000"}, write, sync.Reads("b", "orders"))
		us.Set("orders", "retention.ms", "3000")
		both("changed at us", map[string]string{"retention.ms": "3000"}, write, sync.Reads("b", "orders"))
		eu.Set("orders", "segment.ms", "1")
		us.Set("orders", "flush.ms", "2")
		both("one at each", map[string]string{"retention.ms": "3000", "segment.ms": "1", "flush.ms": "2"}, write, sync.Reads("b", "orders"))
		us.Set("orders", "retention.ms", "")
		us.Forget(sync.Reads("b", "orders"))
		eu.Forget(write)
		both("taken away", map[string]string{"segment.ms": "1", "flush.ms": "2"})
	})
}

// TestSync_KeptTopicsKeepTheirReaders: a topic that is gone from the source and stays on the target can be read there as before.
func TestSync_KeptTopicsKeepTheirReaders(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "other"}, Settings: keepsAll + "\nexclude = [\"none-*\"]"}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		eu.Allow(sync.Reads("a", "*")) // which is more than the link's, so it comes as a rule for each topic
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		both := func() error {
			if got := us.Rules(); !slices.Contains(got, sync.Reads("a", "orders")) || !slices.Contains(got, sync.Reads("a", "other")) {
				return fmt.Errorf("the target has the rules %v", got)
			}
			return nil
		}
		within5s(t, "each topic has its rule", both)
		if err := f.Clusters["eu"].DeleteTopic("orders"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := both(); err != nil {
			t.Errorf("after the source's topic was deleted: %v", err)
		}
		eu.Forget(sync.Reads("a", "*"))
		within5s(t, "the source's rule is gone", func() error {
			if got := us.Rules(); len(got) > 0 {
				return fmt.Errorf("the target has the rules %v", got)
			}
			return nil
		})
	})
}

// TestSync_OffAndLive: a link keeps nothing alike unless told so, and does from the moment on when it is told.
func TestSync_OffAndLive(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		eu.Set("orders", "retention.ms", "1000")
		eu.Set("orders", "segment.ms", "2000")
		eu.Allow(sync.Reads("a", "orders"))
		time.Sleep(time.Minute)
		if got := us.Own("orders"); len(got) > 0 || len(us.Rules()) > 0 {
			t.Errorf("unasked the target got %v and %v", got, us.Rules())
		}
		told := strings.ReplaceAll(string(f.Source.Text), `topics = ["*"]`, "topics = [\"*\"]\nsync_configs = [\"*\"]\nsync_configs_exclude = [\"segment.*\"]\nsync_acls = true")
		topo, err := topology.Parse("told.toml", []byte(told))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Set.Apply(context.Background(), topo); err != nil {
			t.Fatal(err)
		}
		within5s(t, "once told", func() error {
			var err error
			if got := us.Rules(); !slices.Equal(got, []broker.ACL{sync.Reads("a", "orders")}) {
				err = fmt.Errorf("rules %v", got)
			}
			return errors.Join(err, sync.Same(us.Own("orders"), map[string]string{"retention.ms": "1000"}))
		})
	})
}

// TestSync_CleanupPolicyDoesNotStop: a topic whose cleanup.policy changes at the source goes on without a stop.
func TestSync_CleanupPolicyDoesNotStop(t *testing.T) {
	for offset := range 4 { // the topic is judged every thirty seconds
		scenario(t, Options{Topics: []string{"orders"}, Partitions: 1, Settings: keepsAll}, func(t *testing.T, f *Fabric, _ *judge.Log) {
			eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
			n := f.Start("n1")
			defer n.Stop()
			if err := CaughtUp(time.Minute, n); err != nil {
				t.Fatal(err)
			}
			time.Sleep(26*time.Second + time.Duration(offset)*time.Second)
			for i, policy := range []string{"compact", "delete", "compact,delete"} {
				eu.Set("orders", "cleanup.policy", policy)
				for range []int{150, 40, 40}[i] {
					if p := n.Set.Status()[0].Flows[0].Pumps[0]; p.State != mirror.StateRunning {
						t.Fatalf("change %d to %s: the partition is %s: %s", i, policy, p.State, p.Reason)
					}
					time.Sleep(200 * time.Millisecond)
				}
				if got := us.Own("orders")["cleanup.policy"]; got != policy {
					t.Errorf("the target has %q, want %q", got, policy)
				}
			}
		})
	}
}

// TestSync_GrowsFirst: the target has a new partition before its first record comes, and records that were there keep their places.
func TestSync_GrowsFirst(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 2, Settings: keepsAll}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 100, Size: 50, Compression: "none", Seed: 1})
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		setPartitions(t, f, "eu", "orders", 5)
		began := time.Now()
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 5, Records: 100, Size: 50, Compression: "none", Seed: 2})
		within5s(t, "grown", func() error {
			var got int
			admin(t, f, "us", func(ctx context.Context, a *kadm.Client) error {
				all, err := a.ListTopics(ctx, "orders")
				got = len(all["orders"].Partitions)
				return err
			})
			if got != 5 {
				return fmt.Errorf("%d partitions", got)
			}
			return nil
		})
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		t.Logf("caught up after %v", time.Since(began))
		verdict(t, f, judge.Case{Topics: []string{"orders"}, Log: log})
	})
}

// TestSync_WithoutRights: what the target does not let us do is said once and in the drift; records go on, and so does all else. When the
// right is there it is used.
func TestSync_WithoutRights(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "open"}, Settings: keepsAll}, func(t *testing.T, f *Fabric, log *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		var said lines
		n := f.Run("n1", func(d *mirror.SetDeps) { d.Log = slog.New(slog.NewTextHandler(&said, nil)) })
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		var faults []interface{ Remove() }
		for key, fault := range map[kmsg.Key]kfake.Fault{
			kmsg.IncrementalAlterConfigs: {Resource: "orders", Err: kerr.TopicAuthorizationFailed},
			kmsg.CreateACLs:              {Resource: "orders", Err: kerr.ClusterAuthorizationFailed},
			kmsg.AlterClientQuotas:       {Resource: "a", Err: kerr.ClusterAuthorizationFailed},
		} {
			fault.Keys, fault.Count = []kmsg.Key{key}, -1
			faults = append(faults, f.Clusters["us"].Fault(fault))
		}
		for _, topic := range []string{"orders", "open"} {
			eu.Set(topic, "retention.ms", "1000")
			eu.Allow(sync.Reads("a", topic))
		}
		eu.Quota("a", map[string]float64{"producer_byte_rate": 1})
		eu.Quota("b", map[string]float64{"producer_byte_rate": 2})
		within5s(t, "what is allowed", func() error {
			var err error
			if got := us.Rules(); !slices.Equal(got, []broker.ACL{sync.Reads("a", "open")}) {
				err = fmt.Errorf("rules %v", got)
			}
			return errors.Join(err, sync.Same(us.Own("open"), map[string]string{"retention.ms": "1000"}),
				sync.Same(us.QuotaValues(), map[string]float64{"user b producer_byte_rate": 2}))
		})
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 2, Records: 500, Size: 50, Compression: "none", Seed: 1})
		time.Sleep(10 * time.Minute)
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Error(err)
		}
		want := []string{
			"acl allow User:a from * to read topic literal orders not authorised",
			"quota user a: producer_byte_rate not authorised",
			"topic-config orders retention.ms not authorised",
		}
		if got := drifts(t, n, "eu-us"); !slices.Equal(got, want) {
			t.Errorf("the drift is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if got := said.with("the target refuses what would bring it in line"); got != 3 {
			t.Errorf("refusals were told %d times in ten minutes, want once for each kind:\n%s", got, said.String())
		}
		for _, fault := range faults {
			fault.Remove()
		}
		eventually(t, 2*time.Minute, "the rights are used", func() bool { return len(drifts(t, n, "eu-us")) == 0 })
		verdict(t, f, judge.Case{Topics: []string{"orders", "open"}, Log: log})
	})
}

// lines are what was logged.
type lines struct {
	mu  gosync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *lines) with(text string) int { return strings.Count(l.String(), text) }

// TestSync_OneSettingRefused: one that the target does not take keeps no other of its topic out.
func TestSync_OneSettingRefused(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Settings: keepsAll}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		k := f.Clusters["us"]
		k.ControlKey(int16(kmsg.IncrementalAlterConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
			k.KeepControl()
			for _, r := range req.(*kmsg.IncrementalAlterConfigsRequest).Resources {
				for _, c := range r.Configs {
					if c.Name == "retention.ms" {
						resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
						one := kmsg.NewIncrementalAlterConfigsResponseResource()
						one.ResourceType, one.ResourceName, one.ErrorCode = r.ResourceType, r.ResourceName, kerr.PolicyViolation.Code
						resp.Resources = append(resp.Resources, one)
						return resp, nil, true
					}
				}
			}
			return nil, nil, false
		})
		for _, name := range []string{"retention.ms", "segment.ms", "flush.ms"} {
			eu.Set("orders", name, "1000")
		}
		// In the next look already, not when each is tried again.
		eventually(t, 2400*time.Millisecond, "the others are set", func() bool {
			return maps.Equal(us.Own("orders"), map[string]string{"segment.ms": "1000", "flush.ms": "1000"})
		})
		if got, want := drifts(t, n, "eu-us"), []string{"topic-config orders retention.ms refused"}; !slices.Equal(got, want) {
			t.Errorf("the drift is %v, want %v", got, want)
		}
	})
}

// TestSync_ByOneOfManyNodes: of several nodes one keeps a topic's settings alike, and one what belongs to no topic, even if it copies
// nothing; who takes over knows what was there before.
func TestSync_ByOneOfManyNodes(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, Settings: keepsAll}, func(t *testing.T, f *Fabric, _ *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		topics := func(node, rest string) func(mirror.PumpID) string {
			return func(p mirror.PumpID) string {
				if p.Topic == "orders" {
					return node
				}
				return rest
			}
		}
		eu.Set("orders", "retention.ms", "1000")
		eu.Allow(sync.Reads("a", "orders"), sync.Reads("b", "orders"))
		team := f.Share(topics("n1", "n2"), "n1", "n2")
		defer team.Stop()
		alike := func(what string, configs map[string]string, rules ...broker.ACL) {
			t.Helper()
			eventually(t, 15*time.Second, what, func() bool {
				m, err := us.Metadata(t.Context(), "orders")
				return err == nil && m.Topics["orders"].Err == nil && maps.Equal(us.Own("orders"), configs) && slices.Equal(us.Rules(), rules)
			})
		}
		alike("at first", map[string]string{"retention.ms": "1000"}, sync.Reads("a", "orders"), sync.Reads("b", "orders"))
		eu.Set("orders", "segment.ms", "2000")
		alike("set by one", map[string]string{"retention.ms": "1000", "segment.ms": "2000"}, sync.Reads("a", "orders"), sync.Reads("b", "orders"))
		team.Move(topics("n2", "n1"), 0)
		time.Sleep(20 * time.Second)
		eu.Set("orders", "segment.ms", "")
		eu.Forget(sync.Reads("a", "orders"))
		alike("taken away by the other", map[string]string{"retention.ms": "1000"}, sync.Reads("b", "orders"))
		for _, n := range team.Alive() {
			if got := drifts(t, n, "eu-us"); len(got) > 0 {
				t.Errorf("%s sees the drift %v", n.Name, got)
			}
		}
	})
}

// TestSync_LargerRecordsGoSoon: records that a source takes from now on are copied, also those that come before the target is told; none
// is left out for a limit that was about to be raised.
func TestSync_LargerRecordsGoSoon(t *testing.T) {
	for _, policy := range []string{"halt", "skip"} {
		t.Run(policy, func(t *testing.T) { largerGoSoon(t, fmt.Sprintf("%s\npoison = %q", keepsAll, policy)) })
	}
}

func largerGoSoon(t *testing.T, settings string) {
	scenario(t, Options{Topics: []string{"orders"}, Partitions: 1, Settings: settings}, func(t *testing.T, f *Fabric, log *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		for i, size := range []int{2_000_000, 3_000_000} {
			eu.Set("orders", "max.message.bytes", fmt.Sprint(size+1_000_000))
			write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 1, Size: size, BatchBytes: int32(size + 500_000), Compression: "none", Seed: uint64(i)})
			eventually(t, 15*time.Second, "the large record is copied", func() bool { return holds(t, f, "us", "orders") == i+1 })
			time.Sleep(1300 * time.Millisecond) // at another moment between two looks
		}
		if left, err := n.Set.Ledger("eu-us"); err != nil || len(left) > 0 {
			t.Errorf("left out: %v, %v", left, err)
		}
		eu.Set("orders", "max.message.bytes", "1000")
		time.Sleep(time.Minute)
		all, err := us.TopicConfigs(t.Context(), "orders")
		if got := all["orders"]["max.message.bytes"].Value; err != nil || got != "4000000" {
			t.Errorf("the target takes %s bytes, %v; want what its largest records need", got, err)
		}
		if got, want := drifts(t, n, "eu-us"), []string{"topic-config orders max.message.bytes left by policy"}; !slices.Equal(got, want) {
			t.Errorf("the drift is %v, want %v", got, want)
		}
	})
}

// TestSync_UnderOtherNames: settings, rules and the end of a topic go to the one that it is called on the target, and to no other.
func TestSync_UnderOtherNames(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "other"}, On: []string{"eu", "us"}, Settings: keepsAll + "\nprefix = \"eu.\"\ndeleted = \"follow\"\ndeleted_after = \"5m\""}, func(t *testing.T, f *Fabric, log *judge.Log) {
		eu, us := sync.Hand{TB: t, Cluster: f.cluster(t, "eu")}, sync.Hand{TB: t, Cluster: f.cluster(t, "us")}
		eu.Set("orders", "retention.ms", "1000000000")
		us.Set("orders", "retention.ms", "5000000000")
		forbids := sync.Reads("x", "ord")
		forbids.Allow, forbids.Pattern = false, kmsg.ACLResourcePatternTypePrefixed
		eu.Allow(sync.Reads("a", "orders"), sync.Reads("b", "*"), forbids)
		us.Allow(sync.Reads("local", "orders"), sync.Reads("local", "eu.orders"))
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 50, Seed: 1})
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		forbidden := sync.Reads("x", "eu.orders")
		forbidden.Allow = false
		local := []broker.ACL{sync.Reads("local", "orders"), sync.Reads("local", "eu.orders")}
		rules := func(want ...broker.ACL) func() error {
			return func() error {
				got, want := us.Rules(), append(want, local...)
				if len(got) != len(want) || slices.ContainsFunc(want, func(a broker.ACL) bool { return !slices.Contains(got, a) }) {
					return fmt.Errorf("rules %v, want %v", got, want)
				}
				return nil
			}
		}
		within5s(t, "the rules", rules(sync.Reads("a", "eu.orders"), sync.Reads("b", "eu.orders"), sync.Reads("b", "eu.other"), forbidden))
		eu.Set("orders", "segment.ms", "300000")
		within5s(t, "the settings", func() error {
			return errors.Join(sync.Same(us.Own("eu.orders"), map[string]string{"retention.ms": "1000000000", "segment.ms": "300000"}),
				sync.Same(us.Own("orders"), map[string]string{"retention.ms": "5000000000"}))
		})
		eu.Forget(sync.Reads("b", "*"), forbids)
		within5s(t, "the rules that are left", rules(sync.Reads("a", "eu.orders")))
		if err := f.Clusters["eu"].DeleteTopic("orders"); err != nil {
			t.Fatal(err)
		}
		there := func(topic string) (yes bool) {
			admin(t, f, "us", func(ctx context.Context, a *kadm.Client) error {
				all, err := a.ListTopics(ctx)
				yes = all.Has(topic)
				return err
			})
			return yes
		}
		time.Sleep(4 * time.Minute)
		if !there("eu.orders") {
			t.Error("the topic is gone before its time")
		}
		eventually(t, 3*time.Minute, "the topic is gone from the target", func() bool { return !there("eu.orders") })
		if !there("orders") || !there("eu.other") {
			t.Error("another topic is gone, too")
		}
	})
}
