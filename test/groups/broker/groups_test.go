package groups

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestOneBroker is all that needs one broker.
func TestOneBroker(t *testing.T) {
	l := newLab(t, 1)
	if err := l.c.CommitLog(broker.CommitLogOptions{}).Run(l.context(), nil); !errors.Is(err, broker.ErrNoCommitLog) {
		t.Errorf("before the first group: %v", err)
	}
	l.set("first", at(0, 1, ""))
	run := func(name string, test func(*lab)) {
		t.Run(name, func(t *testing.T) {
			own := *l
			own.t = t
			test(&own)
		})
	}
	run("Types", types)
	run("Log", commits)
	run("Transactions", transactions)
	run("Empty", empty)
	run("Rights", rights)
	run("Cleaned", cleaned)
	run("Restart", func(l *lab) {
		brokers(l, func(all func(string)) {
			all("at the start")
			l.Kill(0)
			l.back(0)
			all("after a kill")
		})
	})
}

// TestThreeBrokers has coordinators on all of them, of which one dies and comes back.
func TestThreeBrokers(t *testing.T) {
	l := newLab(t, 3)
	l.set("first", at(0, 1, ""))
	brokers(l, func(all func(string)) {
		all("at the start")
		l.Kill(1)
		all("while one is dead")
		l.back(1)
		all("when it is back")
	})
}

// types: each type of group is listed and described as what it is, and none that is active is written to.
// empty is a group whose members are taken out, with a name of their own and without.
func empty(l *lab) {
	slow := []kgo.Opt{kgo.ConsumerGroup("emptied"), kgo.DisableAutoCommit(), kgo.SessionTimeout(5 * time.Minute), kgo.HeartbeatInterval(time.Minute), kgo.Balancers(kgo.CooperativeStickyBalancer())}
	l.consume(append(slow, kgo.InstanceID("named"))...)
	members, err := l.c.EmptyGroup(l.context(), "emptied")
	if err != nil || len(members) != 1 {
		l.t.Errorf("%v, %v", members, err)
	}
	if g, err := l.c.DescribeGroups(l.context(), "emptied"); err != nil || g["emptied"].Active() {
		l.t.Errorf("it is left as %+v, %v", g["emptied"], err)
	}
}

func types(l *lab) {
	classic := l.consume(kgo.ConsumerGroup("classic"), kgo.DisableAutoCommit())
	kip848 := l.consume(kgo.ConsumerGroup("kip848"), kgo.DisableAutoCommit(), kgo.ServerSideBalancer())
	share := l.client(kgo.ShareGroup("share"), kgo.ConsumeTopics("orders"))
	ctx, cancel := context.WithTimeout(l.context(), time.Second)
	share.PollFetches(ctx)
	cancel()
	l.commit(classic, 3, "classic words")
	l.commit(kip848, 5, "Wörter")
	l.set("simple", at(1, 7, "mine"))

	want := map[string]broker.Group{
		"classic": {ID: "classic", Type: broker.GroupClassic, Protocol: "consumer", State: "Stable", Members: 1},
		"kip848":  {ID: "kip848", Type: broker.GroupConsumer, Protocol: "consumer", State: "Stable", Members: 1},
		"share":   {ID: "share", Type: broker.GroupShare, Protocol: "share", State: "Stable", Members: 1},
		"simple":  {ID: "simple", Type: broker.GroupClassic, State: broker.GroupEmpty},
		"nobody":  {ID: "nobody", State: broker.GroupDead},
	}
	same := func(got map[string]broker.Group, want map[string]broker.Group) error {
		for id, g := range got {
			g.Coordinator = 0
			got[id] = g
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("groups\n%+v, want\n%+v", got, want)
		}
		return nil
	}
	node.Until(l.t, 30*time.Second, "all have joined", func(ctx context.Context) error {
		got, err := l.c.DescribeGroups(ctx, slices.Collect(maps.Keys(want))...)
		return errors.Join(err, same(got, want))
	})
	list, err := l.c.Groups(l.context())
	got := map[string]broker.Group{}
	for _, g := range list {
		got[g.ID] = g
	}
	delete(want, "nobody")
	delete(got, "first")
	for id, g := range want {
		g.Members = -1
		want[id] = g
	}
	if err := errors.Join(err, same(got, want)); err != nil {
		l.t.Errorf("listed: %v", err)
	}

	for id, words := range map[string]string{"classic": "classic words", "kip848": "Wörter"} {
		offset := int64(3)
		if id == "kip848" {
			offset = 5
		}
		all := l.c.GroupOffsets(l.context(), id)[id]
		slices.SortFunc(all.Offsets, func(a, b broker.GroupOffset) int { return int(a.Partition - b.Partition) })
		for p, o := range all.Offsets {
			expect := at(int32(p), offset+int64(p), words)
			if expect.LeaderEpoch = 0; o != expect {
				l.t.Errorf("%s: %+v, want %+v", id, o, expect)
			}
		}
		if len(all.Offsets) != partitions || all.Err != nil {
			l.t.Errorf("%s: %+v", id, all)
		}
		partition := broker.TopicPartition{Topic: "orders"}
		_, commit := l.c.CommitGroup(l.context(), id, []broker.GroupOffset{at(0, 1, "")})
		refused, deleted := l.c.DeleteGroupOffsets(l.context(), id, []broker.TopicPartition{partition})
		for what, err := range map[string]error{"commit": commit, "delete offsets": errors.Join(deleted, refused[partition]), "delete": l.c.DeleteGroup(l.context(), id)} {
			if !errors.Is(err, broker.ErrGroupActive) {
				l.t.Errorf("%s of %s: %v", what, id, err)
			}
		}
	}
	_, err = l.c.CommitGroup(l.context(), "share", []broker.GroupOffset{at(0, 1, "")})
	if err == nil || errors.Is(err, broker.ErrGroupActive) || broker.Classify(err) != broker.Pause {
		l.t.Errorf("commit for a share group: %v", err)
	}
	l.t.Logf("a commit for a share group: %v", err)
	if all := l.c.GroupOffsets(l.context(), "share", "nobody"); all["share"].Err != nil || all["nobody"].Err != nil || len(all["share"].Offsets)+len(all["nobody"].Offsets) > 0 {
		l.t.Errorf("offsets of a share group and of none: %+v", all)
	}

	classic.Close()
	kip848.Close()
	share.Close()
	for _, id := range []string{"classic", "kip848"} {
		l.set(id, at(0, 9, "ours"))
	}
	if refused, err := l.c.CommitGroup(l.context(), "simple", []broker.GroupOffset{at(partitions, 1, ""), at(0, 1, ""), {TopicPartition: broker.TopicPartition{Topic: "none"}}}); err != nil ||
		len(refused) != 2 || !errors.Is(refused[at(partitions, 0, "").TopicPartition], kerr.UnknownTopicOrPartition) {
		l.t.Errorf("%v, %v", refused, err)
	}
}

// commits: the log tells what coordinators do, of all types of groups, also what is deleted.
func commits(l *lab) {
	f := l.follow(l.c, broker.CommitLogOptions{})
	l.agrees(f)
	l.set("gone", at(0, 4, "g"), at(1, 5, ""), at(2, 6, ""))
	kip848 := l.consume(kgo.ConsumerGroup("new848"), kgo.DisableAutoCommit(), kgo.ServerSideBalancer())
	for i := range int64(5) {
		l.commit(kip848, i, fmt.Sprint("words ", i))
		began := time.Now()
		node.Until(l.t, 10*time.Second, "the commit is told", func(context.Context) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if got := f.stands[place{"new848", at(2, 0, "").TopicPartition}]; got != (position{i + 2, fmt.Sprint("words ", i)}) {
				return fmt.Errorf("%+v", got)
			}
			return nil
		})
		l.t.Logf("a commit was told within %v", time.Since(began))
	}
	l.agrees(f)
	if refused, err := l.c.DeleteGroupOffsets(l.context(), "gone", []broker.TopicPartition{{Topic: "orders", Partition: 1}}); err != nil || len(refused) > 0 {
		l.t.Fatal(refused, err)
	}
	l.agrees(f)
	kip848.Close()
	for _, id := range []string{"gone", "new848", "share"} {
		node.Until(l.t, 20*time.Second, "the group is deleted", func(ctx context.Context) error { return l.c.DeleteGroup(ctx, id) })
	}
	l.agrees(f)
	for _, id := range []string{"gone", "new848"} {
		node.Until(l.t, 20*time.Second, "the end of "+id+" is told", func(context.Context) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if k := f.kinds[id]; !k[broker.Uncommitted] || !k[broker.GroupEnded] {
				return fmt.Errorf("%v", k)
			}
			return nil
		})
	}
}

// transactions: what they abort is never told, what they commit is.
func transactions(l *lab) {
	f := l.follow(l.c, broker.CommitLogOptions{FromEnd: true})
	node.Until(l.t, 20*time.Second, "the end is reached", caughtUp(f))
	cl := l.client(kgo.TransactionalID("txn"))
	for i, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := cl.BeginTransaction(); err != nil {
			l.t.Fatal(err)
		}
		if err := cl.ProduceSync(l.context(), &kgo.Record{Topic: "orders", Value: []byte("x")}).FirstErr(); err != nil {
			l.t.Fatal(err)
		}
		l.commitIn(cl, "exact", int64(10*i))
		if err := cl.EndTransaction(l.context(), end); err != nil {
			l.t.Fatal(err)
		}
		l.set("beside", at(0, int64(i), ""))
	}
	var told []int64
	node.Until(l.t, 20*time.Second, "all is told", func(context.Context) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		exact, beside := f.stands[place{"exact", at(0, 0, "").TopicPartition}], f.stands[place{"beside", at(0, 0, "").TopicPartition}]
		if exact.offset != 30 || beside.offset != 3 {
			return fmt.Errorf("%v, %v", exact, beside)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(l.context())
	err := l.c.CommitLog(broker.CommitLogOptions{}).Run(ctx, func(b broker.CommitBatch) error {
		for _, c := range b.Commits {
			if c.Group == "exact" && c.Kind == broker.Committed {
				told = append(told, c.Offset)
			}
		}
		if b.CaughtUp {
			cancel()
		}
		return nil
	})
	if err != nil || !slices.Equal(told, []int64{10, 30}) {
		l.t.Errorf("told %v, %v", told, err)
	}
}

// commitIn adds a commit to the client's transaction.
func (l *lab) commitIn(cl *kgo.Client, group string, offset int64) {
	l.t.Helper()
	id, epoch, err := cl.ProducerID(l.context())
	if err != nil {
		l.t.Fatal(err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = "txn", id, epoch, group
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = "txn", id, epoch, group, -1
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = "orders", append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	node.Until(l.t, 20*time.Second, "the commit is in the transaction", func(ctx context.Context) error {
		added, err := add.RequestWith(ctx, l.cl)
		if err == nil {
			err = kerr.ErrorForCode(added.ErrorCode)
		}
		if err != nil {
			return err
		}
		resp, err := req.RequestWith(ctx, l.cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	})
}

func caughtUp(f *follower) func(context.Context) error {
	return func(context.Context) error {
		if s := f.log.Stats(); !s.CaughtUp {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}
}

// rights: what docs/security.md says that each question needs is what it needs.
func rights(l *lab) {
	l.set("mine", at(0, 1, ""))
	one := []broker.GroupOffset{at(0, 2, "")}
	group := func(op kmsg.ACLOperation) *kadm.ACLBuilder { return kadm.NewACLs().Groups("mine").Operations(op) }
	topic := func(name string, op kmsg.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().Topics(name).Operations(op)
	}
	for _, c := range []struct {
		name  string
		needs []*kadm.ACLBuilder
		ask   func(ctx context.Context, c *broker.Cluster) error // an error where the answer is not what it should be
	}{
		{"list", []*kadm.ACLBuilder{group(kmsg.ACLOperationDescribe)}, func(ctx context.Context, c *broker.Cluster) error {
			list, err := c.Groups(ctx)
			if len(list) != 1 { // it may see one
				return fmt.Errorf("%d groups, %v", len(list), err)
			}
			return err
		}},
		{"describe", []*kadm.ACLBuilder{group(kmsg.ACLOperationDescribe)}, func(ctx context.Context, c *broker.Cluster) error {
			_, err := c.DescribeGroups(ctx, "mine")
			return err
		}},
		{"offsets", []*kadm.ACLBuilder{group(kmsg.ACLOperationDescribe), topic("orders", kmsg.ACLOperationDescribe)}, func(ctx context.Context, c *broker.Cluster) error {
			got := c.GroupOffsets(ctx, "mine")["mine"]
			if len(got.Offsets) != 1 {
				return errors.Join(fmt.Errorf("%d offsets", len(got.Offsets)), got.Err)
			}
			return got.Err
		}},
		{"commit", []*kadm.ACLBuilder{group(kmsg.ACLOperationRead), topic("orders", kmsg.ACLOperationRead)}, func(ctx context.Context, c *broker.Cluster) error {
			refused, err := c.CommitGroup(ctx, "mine", one)
			return errors.Join(err, refused[one[0].TopicPartition])
		}},
		{"delete offsets", []*kadm.ACLBuilder{group(kmsg.ACLOperationDelete), topic("orders", kmsg.ACLOperationRead)}, func(ctx context.Context, c *broker.Cluster) error {
			refused, err := c.DeleteGroupOffsets(ctx, "mine", []broker.TopicPartition{one[0].TopicPartition})
			return errors.Join(err, refused[one[0].TopicPartition])
		}},
		{"log", []*kadm.ACLBuilder{topic(broker.CommitsTopic, kmsg.ACLOperationRead)}, func(ctx context.Context, c *broker.Cluster) error {
			enough := errors.New("enough")
			err := c.CommitLog(broker.CommitLogOptions{}).Run(ctx, func(broker.CommitBatch) error { return enough })
			if err == enough {
				return nil
			}
			return err
		}},
		{"delete", []*kadm.ACLBuilder{group(kmsg.ACLOperationDelete)}, func(ctx context.Context, c *broker.Cluster) error { return c.DeleteGroup(ctx, "mine") }},
	} {
		for i := range c.needs {
			l.grant(slices.Delete(slices.Clone(c.needs), i, i+1))
			err := c.ask(l.context(), l.limited())
			l.t.Logf("%s: %v", c.name, err)
			named := err != nil && strings.Contains(err.Error(), "no right")
			if err == nil || !named && c.name != "list" && !(c.name == "offsets" && i == 1) { // what may not be seen is not there
				l.t.Errorf("%s without its right %d: %v", c.name, i, err)
			}
		}
		l.grant(c.needs)
		limited := l.limited()
		node.Until(l.t, 20*time.Second, c.name+" is allowed", func(ctx context.Context) error { return c.ask(ctx, limited) })
	}
	l.grant(nil)
}

// grant gives the limited user these rights and no others.
func (l *lab) grant(rights []*kadm.ACLBuilder) {
	l.t.Helper()
	all := kadm.NewACLs().AnyResource().Allow("User:isthmus").AllowHosts().Operations().ResourcePatternType(kadm.ACLPatternAny)
	if _, err := l.admin.DeleteACLs(l.context(), all); err != nil {
		l.t.Fatal(err)
	}
	for _, r := range rights {
		if _, err := l.admin.CreateACLs(l.context(), r.Allow("User:isthmus").AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral)); err != nil {
			l.t.Fatal(err)
		}
	}
	want := len(rights)
	for i := range l.Bootstrap() { // each broker hears of it in its own time
		own := l.open(broker.Profile{Bootstrap: l.Bootstrap()[i : i+1]})
		node.Until(l.t, 20*time.Second, "rights are known", func(ctx context.Context) error {
			got, err := own.ACLs(ctx)
			if len(got) != want {
				return fmt.Errorf("%v, %v", got, err)
			}
			return nil
		})
	}
}

// cleaned: what is left of a log that was cleaned says the same.
func cleaned(l *lab) {
	soon := map[string]string{"segment.ms": "500", "min.cleanable.dirty.ratio": "0.01"}
	for name, value := range soon {
		if _, err := l.admin.AlterTopicConfigs(l.context(), []kadm.AlterConfig{{Name: name, Value: &value}}, broker.CommitsTopic); err != nil {
			l.t.Fatal(err)
		}
	}
	f := l.follow(l.c, broker.CommitLogOptions{})
	for i := range int64(200) {
		l.set(fmt.Sprint("busy", i%3), at(0, i, "some words so that it takes room"), at(1, i, ""), at(2, i, ""), at(3, i, ""))
	}
	l.agrees(f)
	before := f.log.Stats().Records
	node.Until(l.t, 30*time.Second, "the log is cleaned", func(ctx context.Context) error {
		for i := range 3 { // what is written last is never cleaned, and only a write ends a segment: in each partition of the log
			l.set(fmt.Sprint("busy", i), at(0, 1000, ""))
		}
		again := l.follow(l.c, broker.CommitLogOptions{})
		node.Until(l.t, 20*time.Second, "it is read", caughtUp(again))
		if n := again.log.Stats().Records; n > before/2 {
			return errors.Join(fmt.Errorf("%d of %d records are left", n, before), again.end())
		}
		l.agrees(again)
		return again.end()
	})
}

// brokers: while they stop, die and come back, commits go on and are told, and coordinators are found.
func brokers(l *lab, play func(all func(when string))) {
	f := l.follow(l.c, broker.CommitLogOptions{})
	n := int64(0)
	all := func(when string) {
		l.t.Helper()
		n++
		for i := range 12 {
			id := fmt.Sprint("group", i)
			node.Until(l.t, 30*time.Second, id+" is committed for "+when, func(ctx context.Context) error {
				refused, err := l.c.CommitGroup(ctx, id, []broker.GroupOffset{at(int32(i%partitions), 100*n+int64(i), when)})
				return errors.Join(err, refused[at(int32(i%partitions), 0, "").TopicPartition])
			})
		}
		began := time.Now()
		node.Until(l.t, 30*time.Second, "what was committed is told "+when, func(context.Context) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			for i := range 12 {
				if got := f.stands[place{fmt.Sprint("group", i), at(int32(i%partitions), 0, "").TopicPartition}]; got != (position{100*n + int64(i), when}) {
					return fmt.Errorf("group%d stands at %v; %+v", i, got, f.log.Stats())
				}
			}
			return nil
		})
		l.t.Logf("told %v after it was committed %s", time.Since(began), when)
	}
	play(all)
	l.agrees(f)
}

// back starts a broker that was stopped or killed.
func (l *lab) back(i int) {
	l.t.Helper()
	l.Start(i)
	if err := l.WaitReady(l.context()); err != nil {
		l.t.Fatal(err)
	}
}
