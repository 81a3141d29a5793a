package world

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// switched is a fabric of three clusters, of which eu and us bring each other everything, with a node in each data center; two nodes of frankfurt have a door.
func switched(t *testing.T, run func(t *testing.T, w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := New(t, fabric.Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>eu", "eu>ap"}, Topics: []string{"orders"}, Partitions: 4, Brokers: 2, Seed: 1,
			More: entry("shop", "eu-1", 10100) + entry("shop", "eu-2", 10200)}, 1, "eu-1@frankfurt", "eu-2@frankfurt", "us-1@virginia")
		defer w.Close()
		w.StartAll()
		w.Until("both doors serve", 30*time.Second, func() error { return errors.Join(w.served("shop", 0), w.served("shop", 1)) })
		run(t, w)
	})
}

// goes switches the router by a node's API and returns the last that was told.
func (w *World) goes(n *Node, kind adminpb.SwitchKind, to string) *adminpb.SwitchProgress {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	var last *adminpb.SwitchProgress
	err := n.API.Switch(ctx, &adminpb.SwitchRequest{Router: "shop", To: to, Kind: kind, Why: "a test"}, func(p *adminpb.SwitchProgress) error {
		last = p
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return last
}

// homeIs is an error while an instance is elsewhere.
func (w *World) homeIs(home string, generation int64) error {
	return w.homeOf(w.Nodes[2], home, generation)
}

// homeOf is homeIs by what a node says.
func (w *World) homeOf(n *Node, home string, generation int64) error {
	got, err := n.API.Routers(w.t.Context(), "shop")
	if err != nil {
		return err
	}
	if len(got.GetRouters()) != 2 {
		return fmt.Errorf("%d instances answer", len(got.GetRouters()))
	}
	for _, r := range got.GetRouters() {
		for _, s := range r.GetSets() {
			if s.GetHome() != home || s.GetGeneration() != generation || s.GetTrouble() != "" {
				return fmt.Errorf("%s is at %s in generation %d: %s", r.GetNode(), s.GetHome(), s.GetGeneration(), s.GetTrouble())
			}
		}
	}
	return nil
}

// TestWorld_Switchover: a router goes to another home and back while clients write and read through both of its doors: they notice nothing, and each record is read once.
func TestWorld_Switchover(t *testing.T) {
	switched(t, func(t *testing.T, w *World) {
		const each = 300
		out := w.through(doors, kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		defer out.Close()
		if _, _, err := out.ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
		group := w.through(doors, kgo.ConsumeTopics("orders"), kgo.ConsumerGroup("readers"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
			kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(500*time.Millisecond))
		defer group.Close()
		alone := w.through(doors, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer alone.Close()
		seen := map[*kgo.Client]map[string]int{group: {}, alone: {}}
		take := func(cl *kgo.Client, upTo int) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for len(seen[cl]) < upTo {
				fs := cl.PollFetches(ctx)
				if ctx.Err() != nil {
					t.Fatalf("%d of %d records came", len(seen[cl]), upTo)
				}
				fs.EachError(func(_ string, p int32, err error) { t.Errorf("partition %d: %v", p, err) })
				fs.EachRecord(func(r *kgo.Record) { seen[cl][string(r.Value)]++ })
				if cl == group {
					if err := cl.CommitUncommittedOffsets(ctx); err != nil {
						t.Errorf("commit: %v", err)
					}
				}
				cl.AllowRebalance()
			}
		}
		round := 0
		burst := func() {
			t.Helper()
			write(t, out, round*each, (round+1)*each)
			round++
			take(group, round*each)
			take(alone, round*each)
		}
		burst()
		for i, to := range []string{"us", "eu", "us"} {
			written := make(chan struct{})
			go func() {
				defer close(written)
				write(t, out, round*each, (round+1)*each)
			}()
			p := w.goes(w.Nodes[i], adminpb.SwitchKind_SWITCH_KIND_PLANNED, to)
			if p.GetOutcome() != "committed" {
				t.Fatalf("to %s: %s: %s", to, p.GetOutcome(), p.GetWhy())
			}
			<-written
			round++
			take(group, round*each)
			take(alone, round*each)
			w.Until("all instances are at "+to, 10*time.Second, func() error { return w.homeIs(to, int64(i+1)) })
			burst()
		}
		for cl, all := range seen {
			for i := range round * each {
				if n := all[strconv.Itoa(i)]; n != 1 {
					t.Errorf("client %p read record %d %d times", cl, i, n)
				}
			}
		}
		fresh := w.through(doors[1:], kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer fresh.Close()
		read(t, fresh, round*each)
	})
}

// settledHome is an error while an instance holds, or the instances are not at one home.
func (w *World) settledHome() (home string, err error) {
	for _, n := range w.Nodes[:2] {
		for _, d := range n.Doors() {
			if d.Serves == nil {
				return "", errors.New(d.Trouble)
			}
			s := d.Serves.Standings()[0]
			switch {
			case s.Round != 0 || s.Phase != hold.Serving || !s.Leased || s.Trouble != "":
				return "", fmt.Errorf("%s: %+v", n.Name, s)
			case home != "" && home != s.Home:
				return "", fmt.Errorf("at %s and at %s", home, s.Home)
			}
			home = s.Home
		}
	}
	return home, nil
}

// TestWorld_SwitchCoordinatorDies: the node that runs a switch is killed in one step or another. Another one goes on with it or ends it, soon; clients go on at the one home or the
// other, and each record is read once.
func TestWorld_SwitchCoordinatorDies(t *testing.T) {
	switched(t, func(t *testing.T, w *World) {
		const each = 100
		out := w.through(doors, kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		defer out.Close()
		if _, _, err := out.ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
		write(t, out, 0, each)
		round, homes := 1, map[string]int{}
		for _, step := range []string{"prepare", "cut", "commit", "release"} {
			home, err := w.settledHome()
			if err != nil {
				t.Fatal(err)
			}
			to := map[string]string{"eu": "us", "us": "eu"}[home]
			victim := w.Nodes[2]
			w.Until("it can run a switch", time.Minute, func() error {
				var last *adminpb.SwitchProgress
				err := victim.API.Switch(t.Context(), &adminpb.SwitchRequest{Router: "shop", To: to, Kind: adminpb.SwitchKind_SWITCH_KIND_PLANNED, DryRun: true}, func(p *adminpb.SwitchProgress) error {
					last = p
					return nil
				})
				if err == nil && last.GetOutcome() != "ready" {
					err = errors.New(last.GetWhy())
				}
				return err
			})
			reached := make(chan struct{})
			go func() {
				var once sync.Once
				defer once.Do(func() { close(reached) })
				_ = victim.API.Switch(t.Context(), &adminpb.SwitchRequest{Router: "shop", To: to, Kind: adminpb.SwitchKind_SWITCH_KIND_PLANNED, Why: "a test"}, func(p *adminpb.SwitchProgress) error {
					if p.GetStep() == step || p.GetStep() == "idle" {
						once.Do(func() { close(reached) })
					}
					return nil
				})
			}()
			<-reached
			victim.Kill()
			write(t, out, round*each, (round+1)*each)
			round++
			time.Sleep(3 * time.Second) // until all have read what it wrote at the last
			w.Until("the home is settled behind a kill in step "+step, 30*time.Second, func() error {
				at, err := w.settledHome()
				if err == nil {
					homes[at]++
				}
				return err
			})
			victim.Start()
			w.Until("all nodes agree", time.Minute, w.Agreed)
		}
		if len(homes) < 2 {
			t.Errorf("homes behind the kills: %v, want both", homes)
		}
		fresh := w.through(doors, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer fresh.Close()
		read(t, fresh, round*each)
	})
}
