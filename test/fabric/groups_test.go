package fabric

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// TestGroups_GoAndComeBack: a group's position follows it to the target, exactly, is rewound with it, goes on there, and comes back; what has members is
// never set, and a restart changes nothing.
func TestGroups_GoAndComeBack(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Partitions: 1, Settings: "groups = [\"shop-*\"]\ngroups_exclude = [\"shop-x*\"]"}, func(t *testing.T, f *Fabric, log *judge.Log) {
		left := []string{"other", "shop-x", "shop-xy"}
		// The first ten records of us are its own: offsets differ by ten.
		write(t, f, log, "us", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: 1})
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Size: 100, Seed: 2})
		n := f.Start("n1")
		defer func() { n.Stop() }()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		commit(t, f, "eu", "shop-a", 40, "by hand")
		for _, group := range left {
			commit(t, f, "eu", group, 40, "")
		}
		stands(t, f, "us", "shop-a", 50, "by hand")
		commit(t, f, "eu", "shop-a", 7, "") // rewound
		stands(t, f, "us", "shop-a", 17, "")
		commit(t, f, "us", "shop-a", 60, "") // it has moved
		stands(t, f, "eu", "shop-a", 50, "")
		n.Stop()
		commit(t, f, "us", "shop-a", 70, "")
		n = f.Start("n2")
		stands(t, f, "eu", "shop-a", 60, "")

		member := joined(t, f, "us", "shop-a")
		commit(t, f, "eu", "shop-a", 90, "")
		time.Sleep(10 * time.Second)
		stands(t, f, "us", "shop-a", 70, "")
		member.Close()
		stands(t, f, "us", "shop-a", 100, "")

		time.Sleep(time.Minute)
		stands(t, f, "eu", "shop-a", 90, "")
		commit(t, f, "us", "shop-lone", 3, "")
		commit(t, f, "eu", "shop-new", 30, "")
		member = joined(t, f, "us", "shop-a")
		commit(t, f, "eu", "shop-a", 95, "")
		stands(t, f, "us", "shop-new", 40, "")
		want := []mirror.GroupStatus{
			{Group: "shop-a", Source: mirror.GroupPlace{Offset: 95, Lag: 5}, Target: mirror.GroupPlace{Offset: 100, Lag: 10, Active: true}, State: mirror.GroupBlocked, Reread: 5},
			{Group: "shop-lone", Source: mirror.GroupPlace{Offset: -1, Lag: -1}, Target: mirror.GroupPlace{Offset: 3, Lag: 107}, State: mirror.GroupLone, Reread: -1},
			{Group: "shop-new", Source: mirror.GroupPlace{Offset: 30, Lag: 70}, Target: mirror.GroupPlace{Offset: 40, Lag: 70}, State: mirror.GroupAlike},
		}
		said, err := n.Set.Groups(t.Context(), "eu-us")
		got := said.Positions
		for i := range got {
			if got[i].Link, got[i].Topic = "", ""; got[i].Group != "shop-lone" && time.Since(got[i].Synced) > 3*time.Minute {
				t.Errorf("group %s was last alike at %v", got[i].Group, got[i].Synced)
			}
			got[i].Synced = time.Time{}
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("groups:\n%+v, %v\nwant:\n%+v", got, err, want)
		}
		member.Close()
		for _, group := range left {
			if at := position(t, f, "us", group); at != nil {
				t.Errorf("group %s, which the link does not keep, was set to %+v", group, at)
			}
		}
	})
}

// TestGroups_Rest: while positions are to be left alone none is set; what moved meanwhile is carried over behind that.
func TestGroups_Rest(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Partitions: 1, Settings: "groups = [\"*\"]"}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Size: 100, Seed: 1})
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		commit(t, f, "eu", "readers", 40, "")
		stands(t, f, "us", "readers", 40, "")
		n.Set.RestGroups(10 * time.Second)
		commit(t, f, "eu", "readers", 70, "")
		commit(t, f, "us", "readers", 50, "") // by who moves it
		time.Sleep(9 * time.Second)
		stands(t, f, "us", "readers", 50, "")
		stands(t, f, "eu", "readers", 70, "")
		commit(t, f, "us", "readers", 80, "")
		commit(t, f, "eu", "readers", 80, "")
		time.Sleep(10 * time.Second)
		commit(t, f, "eu", "readers", 90, "")
		stands(t, f, "us", "readers", 90, "")
	})
}

// TestGroups_NewPartitionsComeBack: a group that has moved, and commits in a partition in which it had no position before, goes on there when it comes
// back; one that is at the target only stays there.
func TestGroups_NewPartitionsComeBack(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders", "later"}, Partitions: 1, Settings: `groups = ["*"]`}, func(t *testing.T, f *Fabric, log *judge.Log) {
		for i, topic := range []string{"orders", "later"} {
			write(t, f, log, "eu", judge.Load{Topic: topic, Partitions: 1, Records: 100, Size: 100, Seed: uint64(i), Transaction: 10})
		}
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		commit(t, f, "eu", "shop", 22, "")
		stands(t, f, "us", "shop", 20, "")
		commitIn(t, f, "us", "later", "shop", 30, "moved")
		standsIn(t, f, "eu", "later", "shop", 33, "moved")
		commitIn(t, f, "us", "later", "lone", 30, "")
		time.Sleep(time.Minute)
		if at := positionIn(t, f, "eu", "later", "lone"); at != nil {
			t.Errorf("a group of the target alone was brought to the source: %+v", at)
		}
	})
}

// TestGroups_WaitForWhatIsNotCopied: a commit ahead of the mirror waits.
func TestGroups_WaitForWhatIsNotCopied(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Partitions: 1, Settings: `groups = ["*"]`}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 200, Size: 100, Seed: 2})
		full := f.Clusters["us"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Err: kerr.NotEnoughReplicas, Count: -1})
		n := f.Start("n1")
		defer n.Stop()
		commit(t, f, "eu", "shop", 200, "")
		time.Sleep(5 * time.Second)
		if at := position(t, f, "us", "shop"); at != nil {
			t.Errorf("the target has position %+v although it does not have the records", at)
		}
		full.Remove()
		stands(t, f, "us", "shop", 200, "")
	})
}

// TestGroups_BothWays: of two links between the same clusters one keeps the positions; a position is set once and then left alone.
func TestGroups_BothWays(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Partitions: 1, Links: []string{"eu>us", "us>eu"}, Settings: `groups = ["*"]`}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "us", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: 1})
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: 2})
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		commit(t, f, "us", "born-at-us", 20, "")
		stands(t, f, "eu", "born-at-us", 20, "")
		// Six of its own: at us the ten of us, which it has not seen, come first.
		commit(t, f, "eu", "shop", 6, "")
		stands(t, f, "us", "shop", 0, "")
		time.Sleep(time.Minute)
		stands(t, f, "eu", "shop", 6, "")
		for link, want := range map[string][2]int64{"eu-us": {6, 0}, "us-eu": {0, 6}} { // also the one that does not keep it knows what was noted
			said, err := n.Set.Groups(t.Context(), link, "shop")
			got := said.Positions
			if err != nil || len(got) != 1 || got[0].State != mirror.GroupAlike || got[0].Synced.IsZero() || [2]int64{got[0].Source.Offset, got[0].Target.Offset} != want {
				t.Errorf("link %s tells %+v, %v of the one group; want it alike at %v", link, got, err, want)
			}
		}
	})
}

// commit sets a group's position in partition 0 of orders.
func commit(t *testing.T, f *Fabric, cluster, group string, at int64, metadata string) {
	t.Helper()
	commitIn(t, f, cluster, "orders", group, at, metadata)
}

// commitIn is commit in another topic.
func commitIn(t *testing.T, f *Fabric, cluster, topic, group string, at int64, metadata string) {
	t.Helper()
	admin(t, f, cluster, func(ctx context.Context, a *kadm.Client) error {
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: topic, At: at, LeaderEpoch: -1, Metadata: metadata})
		res, err := a.CommitOffsets(ctx, group, o)
		if err == nil {
			err = res.Error()
		}
		return err
	})
}

// position is a group's in partition 0 of orders; nil: none.
func position(t *testing.T, f *Fabric, cluster, group string) (at *kadm.Offset) {
	t.Helper()
	return positionIn(t, f, cluster, "orders", group)
}

func positionIn(t *testing.T, f *Fabric, cluster, topic, group string) (at *kadm.Offset) {
	t.Helper()
	admin(t, f, cluster, func(ctx context.Context, a *kadm.Client) error {
		res, err := a.FetchOffsets(ctx, group)
		if o, ok := res.Lookup(topic, 0); ok && o.At >= 0 {
			at = &o.Offset
		}
		if err == kerr.GroupIDNotFound {
			err = nil
		}
		return err
	})
	return at
}

// stands waits until a group stands where it should.
func stands(t *testing.T, f *Fabric, cluster, group string, want int64, metadata string) {
	t.Helper()
	standsIn(t, f, cluster, "orders", group, want, metadata)
}

func standsIn(t *testing.T, f *Fabric, cluster, topic, group string, want int64, metadata string) {
	t.Helper()
	var last error
	for range 40 {
		at := positionIn(t, f, cluster, topic, group)
		if at != nil && at.At == want && at.Metadata == metadata {
			return
		}
		last = fmt.Errorf("group %s of %s stands at %+v, want %d %q", group, cluster, at, want, metadata)
		time.Sleep(250 * time.Millisecond)
	}
	t.Error(last)
}

// joined is a member of a group, which commits nothing.
func joined(t *testing.T, f *Fabric, cluster, group string) *kgo.Client {
	t.Helper()
	c := f.Client(cluster)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.ConsumerGroup(group), kgo.ConsumeTopics("orders"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	cl.PollFetches(t.Context())
	return cl
}

// TestGroups_ShareGroups: they are named and left alone, also where the other end has positions of a group of that name, and the other groups go on.
func TestGroups_ShareGroups(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Partitions: 1, Settings: `groups = ["*"]`}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "us", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: 1})
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: 2})
		for cluster, group := range map[string]string{"eu": "jobs", "us": "both"} {
			c := f.Client(cluster)
			cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial), kgo.ShareGroup(group), kgo.ConsumeTopics("orders"))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			cl.PollFetches(ctx)
			cancel()
		}
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		commit(t, f, "eu", "both", 3, "")
		time.Sleep(10 * time.Second)
		commit(t, f, "eu", "shop", 4, "")
		stands(t, f, "us", "shop", 14, "")
		said, err := n.Set.Groups(t.Context(), "eu-us")
		if err != nil || !slices.Equal(said.Share, []string{"both", "jobs"}) || len(said.Positions) != 2 {
			t.Fatalf("groups: %+v, %v", said, err)
		}
		if both := said.Positions[0]; both.State != mirror.GroupLone || both.Why != "us has a share group of that name, which takes no positions" || both.Source.Offset != 3 {
			t.Errorf("the group that is a share group at us: %+v", both)
		}
		if shop := said.Positions[1]; shop.State != mirror.GroupAlike || shop.Why != "" {
			t.Errorf("the group beside it: %+v", shop)
		}
		if said, err := n.Set.Groups(t.Context(), "eu-us", "shop"); err != nil || len(said.Share) > 0 {
			t.Errorf("share groups of one that is none: %v, %v", said.Share, err)
		}
	})
}

// TestGroups_ActedOnTogether: what many groups commit is asked about, set and noted together, and one that commits alone is not kept waiting.
func TestGroups_ActedOnTogether(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Partitions: 1, Settings: `groups = ["*"]`}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 200, Size: 100, Seed: 2})
		n := f.Start("n1")
		defer n.Stop()
		if err := CaughtUp(time.Minute, n); err != nil {
			t.Fatal(err)
		}
		for _, p := range n.Paths { // a group that is acted on takes six questions
			p.Slow(5*time.Millisecond, 5*time.Millisecond, 1<<30)
		}
		commit(t, f, "eu", "alone", 7, "")
		began := time.Now()
		stands(t, f, "us", "alone", 7, "")
		if took := time.Since(began); took > time.Second {
			t.Errorf("one commit takes %v", took)
		}
		asked := f.Clusters["us"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups}, Observe: true, Count: -1})
		const groups = 400
		for i := range groups {
			commit(t, f, "eu", fmt.Sprintf("g%03d", i), int64(i%200), "")
			time.Sleep(10 * time.Millisecond)
		}
		for i := range groups {
			stands(t, f, "us", fmt.Sprintf("g%03d", i), int64(i%200), "")
		}
		if n := asked.Hits(); n == 0 || n > groups/20 {
			t.Errorf("%d groups that commit within 4 s are asked about %d times", groups, n)
		}
	})
}

// TestGroups_HearsTheFirstCommit: the log of commits, which a cluster has from the first one on, is read soon after that.
func TestGroups_HearsTheFirstCommit(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Partitions: 1, Settings: `groups = ["*"]`}, func(t *testing.T, f *Fabric, log *judge.Log) {
		write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 20, Size: 100, Seed: 2})
		n := f.Start("n1")
		defer n.Stop()
		time.Sleep(time.Minute)
		read := f.Clusters["us"].Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: "__consumer_offsets", Observe: true, Count: -1})
		admin(t, f, "us", func(ctx context.Context, a *kadm.Client) error {
			_, err := a.CreateTopic(ctx, 1, 1, nil, "__consumer_offsets")
			return err
		})
		time.Sleep(10 * time.Second)
		if read.Hits() == 0 {
			t.Error("nobody reads it")
		}
	})
}

// TestGroups_DeletedAtTheSource: what was set of a group that is gone at the source is left alone, or taken away in time, if the link says so: not of
// one that has moved, has members, or has come again.
func TestGroups_DeletedAtTheSource(t *testing.T) {
	for policy, follows := range map[string]bool{"keep": false, "follow": true} {
		settings := fmt.Sprintf("groups = [\"*\"]\ngroups_deleted = %q\ndeleted_after = \"10m\"", policy)
		scenario(t, Options{Topics: []string{"orders"}, On: []string{"eu", "us"}, Partitions: 1, Settings: settings}, func(t *testing.T, f *Fabric, log *judge.Log) {
			write(t, f, log, "us", judge.Load{Topic: "orders", Partitions: 1, Records: 10, Size: 100, Seed: 1})
			write(t, f, log, "eu", judge.Load{Topic: "orders", Partitions: 1, Records: 100, Size: 100, Seed: 2})
			n := f.Start("n1")
			defer n.Stop()
			if err := CaughtUp(time.Minute, n); err != nil {
				t.Fatal(err)
			}
			groups := []string{"gone", "again", "used", "moved"}
			for _, group := range groups {
				commit(t, f, "eu", group, 40, "")
				stands(t, f, "us", group, 50, "")
			}
			commit(t, f, "us", "own", 7, "")
			member := joined(t, f, "us", "used")
			admin(t, f, "eu", func(ctx context.Context, a *kadm.Client) error {
				_, err := a.DeleteGroups(ctx, groups...)
				return err
			})
			commit(t, f, "us", "moved", 60, "")
			time.Sleep(5 * time.Minute)
			stands(t, f, "us", "gone", 50, "")
			commit(t, f, "eu", "again", 45, "")
			time.Sleep(25 * time.Minute)
			if at := position(t, f, "us", "gone"); (at == nil) != follows {
				t.Errorf("%s: the group that is gone stands at %+v", policy, at)
			}
			stands(t, f, "us", "again", 55, "")
			stands(t, f, "us", "used", 50, "")
			stands(t, f, "us", "moved", 60, "")
			stands(t, f, "us", "own", 7, "")
			stands(t, f, "eu", "moved", 50, "")
			if at := position(t, f, "eu", "gone"); at != nil {
				t.Errorf("%s: a group that was deleted came back: %+v", policy, at)
			}
			member.Close()
		})
	}
}
