package broker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/broker"
)

// join has a member of a group consume topic "orders" until the test, or the returned function, ends it.
func join(t *testing.T, v virtual, opts ...kgo.Opt) (leave func()) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(v.net.DialContext), kgo.ConsumeTopics("orders"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // until there are records, or for long enough to be a member
	defer cancel()
	cl.PollFetches(ctx)
	return cl.Close
}

// at is a committed offset.
func at(topic string, partition int32, offset int64, metadata string) broker.GroupOffset {
	return broker.GroupOffset{TopicPartition: broker.TopicPartition{Topic: topic, Partition: partition}, Offset: offset, LeaderEpoch: -1, Metadata: metadata}
}

// commit is CommitGroup of which everything is taken.
func commit(t *testing.T, c *broker.Cluster, group string, offsets ...broker.GroupOffset) {
	t.Helper()
	refused, err := c.CommitGroup(t.Context(), group, offsets)
	if err != nil || len(refused) > 0 {
		t.Fatalf("commit for %s: %v, %v", group, refused, err)
	}
}

// asks counts the requests of some kind.
func asks(v virtual, key kmsg.Key) *atomic.Int32 {
	var n atomic.Int32
	v.fake.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
		v.fake.KeepControl()
		n.Add(1)
		return nil, nil, false
	})
	return &n
}

// Groups of all brokers are listed with their type and state, and described with their members.
func TestGroups_OfAllBrokersAndTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.SeedTopics(2, "orders"))
		c := v.open(t)
		fill(t, c, "orders", 0, 3)
		join(t, v, kgo.ConsumerGroup("classic"), kgo.DisableAutoCommit())
		join(t, v, kgo.ConsumerGroup("kip848"), kgo.DisableAutoCommit(), kgo.ServerSideBalancer())
		join(t, v, kgo.ShareGroup("share"))
		want := map[string]broker.Group{
			"classic": {ID: "classic", Type: broker.GroupClassic, Protocol: "consumer", State: "Stable", Members: 1},
			"kip848":  {ID: "kip848", Type: broker.GroupConsumer, Protocol: "consumer", State: "Stable", Members: 1},
			"share":   {ID: "share", Type: broker.GroupShare, Protocol: "share", State: "Stable", Members: 1},
			"nobody":  {ID: "nobody", State: broker.GroupDead},
		}
		coordinators := map[int32]bool{}
		for i := range 12 {
			id := fmt.Sprint("simple", i)
			commit(t, c, id, at("orders", 0, 1, ""))
			want[id] = broker.Group{ID: id, Type: broker.GroupClassic, State: broker.GroupEmpty}
		}
		for id, g := range want {
			g.Coordinator = v.fake.CoordinatorFor(id)
			coordinators[g.Coordinator] = true
			want[id] = g
		}
		if len(coordinators) != 3 {
			t.Fatalf("the groups are on %d brokers", len(coordinators))
		}
		described, err := c.DescribeGroups(t.Context(), slices.Collect(maps.Keys(want))...)
		if err != nil || !maps.Equal(described, want) {
			t.Errorf("described: %v\n%+v\nwant\n%+v", err, described, want)
		}
		ids, err := c.GroupMembers(t.Context(), "classic", "simple1", "nobody")
		if err != nil || len(ids) != 3 || len(ids["classic"]) != 1 || ids["classic"][0] == "" || len(ids["simple1"])+len(ids["nobody"]) != 0 {
			t.Errorf("members: %v, %v", ids, err)
		}
		list, err := c.Groups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range list {
			w := want[g.ID]
			if w.Members = -1; w.Type == broker.GroupConsumer {
				w.Protocol = g.Protocol // kfake has none
			}
			if g != w || g.Active() != (g.State == "Stable") {
				t.Errorf("listed %+v (active: %v), want %+v", g, g.Active(), w)
			}
		}
		if len(list) != len(want)-1 {
			t.Errorf("%d groups are listed, want %d", len(list), len(want)-1)
		}
	})
}

// A broker that does not answer is named, and hides the groups of no other; so it is with what is asked of coordinators.
func TestGroups_BesideABrokerThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.SeedTopics(1, "orders"))
		w, p := &way{dial: v.net.DialContext}, v.profile()
		p.Dial, p.Bootstrap = w.Dial, []string{"127.0.0.1:9092", "127.0.0.1:9093", "127.0.0.1:9094"}
		c := openProfile(t, p)
		var ids, there []string
		for i := range 12 {
			id := fmt.Sprint("g", i)
			commit(t, c, id, at("orders", 0, int64(i), ""))
			if ids = append(ids, id); v.fake.CoordinatorFor(id) != 1 {
				there = append(there, id)
			}
		}
		w.set(func(w *way) { w.noBack = func(address string) bool { return strings.HasSuffix(address, ":9093") } })
		began := time.Now()
		list, err := c.Groups(t.Context())
		if err == nil || !strings.Contains(err.Error(), "broker 1") || strings.Contains(err.Error(), "broker 2") || len(list) != len(there) {
			t.Errorf("%d of %d groups, %v", len(list), len(there), err)
		}
		for id, g := range c.GroupOffsets(t.Context(), ids...) {
			if slices.Contains(there, id) != (g.Err == nil) || g.Err == nil && len(g.Offsets) != 1 {
				t.Errorf("offsets of %s: %+v", id, g)
			}
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// Many groups are one request for each coordinator; brokers before Kafka 3.0 are asked for one at a time, and tell the same.
func TestGroupOffsets_OneRequestForEachCoordinator(t *testing.T) {
	older := kversion.Stable()
	older.SetMaxKeyVersion(int16(kmsg.OffsetFetch), 7)
	older.SetMaxKeyVersion(int16(kmsg.FindCoordinator), 3)
	older.SetMaxKeyVersion(int16(kmsg.OffsetCommit), 7)
	for name, c := range map[string]struct {
		opts []kfake.Opt
		want int32
	}{"newest": {nil, 2}, "before 3.0": {[]kfake.Opt{kfake.MaxVersions(older)}, 41}} {
		t.Run(name, func(t *testing.T) {
			opts, want := c.opts, c.want
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t, append(opts, kfake.SeedTopics(3, "orders", "bills"))...)
				c := v.open(t)
				ids, expect := []string{"nobody"}, map[string]broker.GroupOffsets{"nobody": {}}
				for i := range int64(40) {
					id := fmt.Sprint("g", i)
					list := []broker.GroupOffset{at("bills", 2, 1000+i, ""), at("orders", 0, i, "meta "+id), at("orders", 1, 2*i, "ü")}
					list[1].LeaderEpoch = 7
					commit(t, c, id, list...)
					ids, expect[id] = append(ids, id), broker.GroupOffsets{Offsets: list}
				}
				n := asks(v, kmsg.OffsetFetch)
				got := c.GroupOffsets(t.Context(), ids...)
				for id, want := range expect {
					slices.SortFunc(got[id].Offsets, func(a, b broker.GroupOffset) int {
						return strings.Compare(fmt.Sprint(a.TopicPartition), fmt.Sprint(b.TopicPartition))
					})
					if got[id].Err != nil || !slices.Equal(got[id].Offsets, want.Offsets) {
						t.Errorf("%s: %+v, want %+v", id, got[id], want)
					}
				}
				if len(got) != len(ids) || n.Load() != want {
					t.Errorf("%d groups by %d requests, want %d by %d", len(got), n.Load(), len(ids), want)
				}
			})
		})
	}
}

// An answer that is longer than what is read is asked for in parts.
func TestGroupOffsets_OfALongAnswerInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.NumBrokers(1), kfake.Ports(9092))
		c := v.open(t)
		var asked []int
		meta := strings.Repeat("m", 9<<20) // four of these are too much
		v.fake.ControlKey(int16(kmsg.OffsetFetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
			v.fake.KeepControl()
			req := r.(*kmsg.OffsetFetchRequest)
			resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
			for _, g := range req.Groups {
				rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				rp.Offset, rp.Metadata = 5, &meta
				resp.Groups = append(resp.Groups, kmsg.OffsetFetchResponseGroup{Group: g.Group,
					Topics: []kmsg.OffsetFetchResponseGroupTopic{{Topic: "orders", Partitions: []kmsg.OffsetFetchResponseGroupTopicPartition{rp}}}})
			}
			asked = append(asked, len(req.Groups))
			return resp, nil, true
		})
		for id, g := range c.GroupOffsets(t.Context(), "a", "b", "c", "d", "e") {
			if g.Err != nil || len(g.Offsets) != 1 || len(g.Offsets[0].Metadata) != len(meta) {
				t.Errorf("%s: %v", id, g.Err)
			}
		}
		if !slices.Equal(asked, []int{5, 2, 3}) {
			t.Errorf("asked for %v groups", asked)
		}
	})
}

// What a coordinator says of one group is of that one. One that has moved is looked up again; one that starts is waited for.
func TestGroupOffsets_FollowCoordinators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094), kfake.SeedTopics(1, "orders"))
		c := v.open(t)
		var ids []string
		for i := range 20 {
			ids = append(ids, fmt.Sprint("g", i))
			commit(t, c, ids[i], at("orders", 0, int64(i), ""))
		}
		v.fake.RehashCoordinators()
		v.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Group: "g3", Err: kerr.CoordinatorLoadInProgress, Count: 2})
		v.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Group: "g5", Err: kerr.GroupAuthorizationFailed, Count: -1})
		for id, g := range c.GroupOffsets(t.Context(), ids...) {
			if id == "g5" {
				if !errors.Is(g.Err, kerr.GroupAuthorizationFailed) || !strings.Contains(g.Err.Error(), "DESCRIBE on group g5") {
					t.Errorf("%s: %v", id, g.Err)
				}
			} else if g.Err != nil || len(g.Offsets) != 1 || fmt.Sprint("g", g.Offsets[0].Offset) != id {
				t.Errorf("%s: %+v", id, g)
			}
		}
	})
}

// The offsets of a group with members are theirs: it is the coordinator that refuses, whatever is believed here.
func TestCommitGroup_NotOfAnActiveGroup(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{"classic": nil, "consumer": {kgo.ServerSideBalancer()}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t, kfake.SeedTopics(2, "orders"))
				c := v.open(t)
				fill(t, c, "orders", 0, 3)
				commit(t, c, "g", at("orders", 0, 1, "mine"))
				leave := join(t, v, append(opts, kgo.ConsumerGroup("g"), kgo.DisableAutoCommit())...)
				for what, err := range map[string]error{
					"commit": second(c.CommitGroup(t.Context(), "g", []broker.GroupOffset{at("orders", 0, 2, ""), at("orders", 1, 2, "")})),
					"delete": c.DeleteGroup(t.Context(), "g"),
				} {
					if !errors.Is(err, broker.ErrGroupActive) || !strings.Contains(err.Error(), "group g of cluster fake") {
						t.Errorf("%s: %v", what, err)
					}
				}
				partition := broker.TopicPartition{Topic: "orders"}
				if refused, err := c.DeleteGroupOffsets(t.Context(), "g", []broker.TopicPartition{partition}); !errors.Is(errors.Join(err, refused[partition]), broker.ErrGroupActive) {
					t.Errorf("delete offsets: %v, %v", refused, err)
				}
				if got := c.GroupOffsets(t.Context(), "g")["g"]; len(got.Offsets) != 1 || got.Offsets[0] != at("orders", 0, 1, "mine") {
					t.Errorf("offsets %+v", got)
				}
				leave()
				commit(t, c, "g", at("orders", 0, 2, ""))
				if refused, err := c.DeleteGroupOffsets(t.Context(), "g", []broker.TopicPartition{partition}); err != nil || len(refused) > 0 {
					t.Errorf("delete offsets: %v, %v", refused, err)
				}
				if got := c.GroupOffsets(t.Context(), "g")["g"]; got.Err != nil || len(got.Offsets) != 0 {
					t.Errorf("offsets %+v", got)
				}
				for range 2 { // the second time it is gone
					if err := c.DeleteGroup(t.Context(), "g"); err != nil {
						t.Error(err)
					}
				}
				if refused, err := c.DeleteGroupOffsets(t.Context(), "g", []broker.TopicPartition{partition}); err != nil || len(refused) > 0 {
					t.Errorf("delete offsets of no group: %v, %v", refused, err)
				}
			})
		})
	}
}

func second[T any](_ T, err error) error { return err }

// What is refused of a partition is told of it, and the others are committed. Many are several requests.
func TestCommitGroup_PartitionByPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.SeedTopics(2500, "orders"))
		c := v.open(t)
		n := asks(v, kmsg.OffsetCommit)
		offsets := []broker.GroupOffset{at("orders", 0, 1, strings.Repeat("m", 300<<10))}
		for p := range int32(2400) {
			offsets = append(offsets, at("orders", p+1, int64(p), ""))
		}
		v.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: "orders", Partitions: []int32{7}, Err: kerr.OffsetMetadataTooLarge, Count: -1})
		refused, err := c.CommitGroup(t.Context(), "g", offsets)
		if err != nil || len(refused) != 1 || !errors.Is(refused[offsets[7].TopicPartition], kerr.OffsetMetadataTooLarge) {
			t.Errorf("%v, %v", refused, err)
		}
		if got := c.GroupOffsets(t.Context(), "g")["g"]; got.Err != nil || len(got.Offsets) != 2400 {
			t.Errorf("%d offsets, %v", len(got.Offsets), got.Err)
		}
		if n.Load() != 4 { // the first alone, for its size
			t.Errorf("%d requests, want 4", n.Load())
		}
	})
}

// Connections that broke since the last question are no answer; a coordinator that refuses connections is given up soon.
func TestCommitGroup_OverANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(1, "orders"))
		w, p := &way{dial: v.net.DialContext}, v.profile()
		p.Dial = w.Dial
		c := openProfile(t, p)
		for i := range int64(4) {
			commit(t, c, "g", at("orders", 0, i, ""))
			time.Sleep(time.Second)
			w.breakAll()
		}
		w.set(func(w *way) {
			w.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody there") }
		})
		began := time.Now()
		if _, err := c.CommitGroup(t.Context(), "g", []broker.GroupOffset{at("orders", 0, 9, "")}); err == nil || broker.Classify(err) != broker.Retry {
			t.Errorf("a broker that is gone took a commit: %v", err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// The right that is missing is named, with the group or the topic.
func TestGroups_TheMissingRightIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		right := func(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
			return kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
		}
		v := startVirtual(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "seen", "hidden"), kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "u", "secret",
			right(kmsg.ACLResourceTypeGroup, "seen", kmsg.ACLOperationDescribe), right(kmsg.ACLResourceTypeGroup, "mine", kmsg.ACLOperationRead),
			right(kmsg.ACLResourceTypeTopic, "seen", kmsg.ACLOperationRead)))
		p := v.profile()
		p.SASL = plain.Auth{User: "u", Pass: "secret"}.AsMechanism()
		c := openProfile(t, p)
		ctx := t.Context()
		one := []broker.GroupOffset{at("hidden", 0, 1, ""), at("seen", 0, 1, "")}
		for want, ask := range map[string]func() error{
			"DESCRIBE on group hidden": func() error { return c.GroupOffsets(ctx, "hidden")["hidden"].Err },
			"DESCRIBE on group other":  func() error { return second(c.DescribeGroups(ctx, "other", "seen")) },
			"READ on group seen":       func() error { return second(c.CommitGroup(ctx, "seen", one)) },
			"READ on topic hidden": func() error {
				refused, err := c.CommitGroup(ctx, "mine", one)
				return errors.Join(err, refused[one[0].TopicPartition], refused[one[1].TopicPartition])
			},
			"DESCRIBE on group more": func() error {
				ids, err := c.GroupMembers(ctx, "more", "seen")
				if _, told := ids["seen"]; !told || len(ids) != 1 {
					t.Errorf("members are told of %v", ids)
				}
				return err
			},
			"DELETE on group mine": func() error { return c.DeleteGroup(ctx, "mine") },
		} {
			if err := ask(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "cluster fake") || broker.Classify(err) != broker.Pause {
				t.Errorf("%v (%v), want %s", err, broker.Classify(err), want)
			}
		}
	})
}
