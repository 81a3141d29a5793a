package router

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/hold"
)

// member is one of a group, and what happened to it.
type member struct {
	*kgo.Client
	mu   sync.Mutex
	got  []string // "partition/value"
	errs []error
	lost int
}

// join has a member read. It commits when it gives partitions away and at its end only: kgo's regular commits wait under a lock while it joins, which stops the time of a bubble.
func (w *world) join(group string, opts ...kgo.Opt) *member {
	m := new(member)
	m.Client = w.client([]int{0}, append([]kgo.Opt{kgo.ConsumeTopics("orders"), kgo.ConsumerGroup(group), kgo.AutoCommitInterval(time.Hour), kgo.DisableFetchSessions(),
		kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.lost++
		})}, opts...)...)
	go func() {
		for {
			fs := m.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			m.mu.Lock()
			fs.EachError(func(_ string, _ int32, err error) { m.errs = append(m.errs, err) })
			fs.EachRecord(func(r *kgo.Record) { m.got = append(m.got, fmt.Sprintf("%d/%s", r.Partition, r.Value)) })
			m.mu.Unlock()
		}
	}()
	return m
}

// both writes the same records to both homes.
func (w *world) both(from, to int, homes ...string) {
	w.t.Helper()
	for _, home := range homes {
		cl := w.direct(home, kgo.DefaultProduceTopic("orders"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
		for i := from; i < to; i++ {
			for p := range int32(6) {
				cl.Produce(w.t.Context(), &kgo.Record{Partition: p, Value: []byte(fmt.Sprint(i))}, func(_ *kgo.Record, err error) {
					if err != nil {
						w.t.Error(err)
					}
				})
			}
		}
		if err := cl.Flush(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// empty takes all members out of a group at a home, and returns them.
func (w *world) empty(home, group string) (ids []string) {
	w.t.Helper()
	cl := w.direct(home)
	d, err := kadm.NewClient(cl).DescribeGroups(w.t.Context(), group)
	if err != nil || d.Error() != nil {
		w.t.Fatal(err, d.Error())
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	for _, m := range d[group].Members {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID, one.InstanceID = m.MemberID, m.InstanceID
		leave.Members, ids = append(leave.Members, one), append(ids, m.MemberID)
	}
	if _, err := leave.RequestWith(w.t.Context(), cl); err != nil {
		w.t.Fatal(err)
	}
	return ids
}

// positions takes a group's from one home to another, where offsets are the same.
func (w *world) positions(from, to, group string) {
	w.t.Helper()
	at, err := kadm.NewClient(w.direct(from)).FetchOffsets(w.t.Context(), group)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := kadm.NewClient(w.direct(to)).CommitAllOffsets(w.t.Context(), group, at.Offsets()); err != nil {
		w.t.Fatal(err)
	}
}

// TestRouter_MoveGroups: two members of a group go on while their home moves: no record is skipped or read twice, no partition is lost, no error shows.
func TestRouter_MoveGroups(t *testing.T) {
	const eu, us = "127.0.0.1:9001", "127.0.0.1:9011"
	for name, balancer := range map[string]kgo.GroupBalancer{"eager": kgo.RangeBalancer(), "cooperative": kgo.CooperativeStickyBalancer()} {
		t.Run(name, func(t *testing.T) {
			inMovingHomes(t, func(t *testing.T, w *world, d *door, to *broker.Cluster) {
				seed := w.direct(eu, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite())
				for p := range int32(6) { // what the other home has already
					if err := seed.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Partition: p, Value: []byte("seed")}).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
				w.both(0, 50, eu, us)
				members := []*member{w.join("readers", kgo.Balancers(balancer)), w.join("readers", kgo.Balancers(balancer))}
				time.Sleep(20 * time.Second)
				if err := d.router.Hold("", hold.Held); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				known := w.empty(eu, "readers")
				if len(known) != 2 {
					t.Fatalf("the group has members %v", known)
				}
				w.positions(eu, us, "readers")
				time.Sleep(500 * time.Millisecond)
				if err := d.router.Move(t.Context(), "", router.Home{Generation: 1, Cluster: to, Members: map[string][]string{"readers": known}}); err != nil {
					t.Fatal(err)
				}
				w.both(50, 100, us)
				time.Sleep(30 * time.Second)
				there := kadm.NewClient(w.direct(us))
				g, err := there.DescribeGroups(t.Context(), "readers")
				if err != nil || len(g["readers"].Members) != 2 || g["readers"].State != "Stable" {
					t.Errorf("the group at the new home: %+v, %v", g["readers"], err)
				}
				var all []string
				for i, m := range members {
					m.Close()
					m.mu.Lock()
					if m.lost > 0 || len(m.errs) > 0 {
						t.Errorf("member %d lost its partitions %d times, errors %v", i, m.lost, m.errs)
					}
					all = append(all, m.got...)
					m.mu.Unlock()
				}
				slices.Sort(all)
				var want []string
				for p := range 6 {
					want = append(want, fmt.Sprintf("%d/seed", p))
					for i := range 100 {
						want = append(want, fmt.Sprintf("%d/%d", p, i))
					}
				}
				slices.Sort(want)
				if !slices.Equal(all, want) {
					t.Errorf("%d records were read, %d are there; once more or not at all: %v", len(all), len(want), differ(all, want))
				}
			})
		})
	}
}

// differ is what is not in both of two lists in order, some of it.
func differ(a, b []string) (out []string) {
	for i, j := 0, 0; (i < len(a) || j < len(b)) && len(out) < 20; {
		switch {
		case j == len(b) || i < len(a) && a[i] < b[j]:
			out, i = append(out, "+"+a[i]), i+1
		case i == len(a) || b[j] < a[i]:
			out, j = append(out, "-"+b[j]), j+1
		default:
			i, j = i+1, j+1
		}
	}
	return out
}
