package world

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
)

// TestWorld_PauseOutlivesARestartOfAllWhileClustersAreAway: all nodes die and come back while no cluster answers. What was paused
// is not copied for a moment when the clusters are back, for nobody knew of the pause then but they; all else is.
func TestWorld_PauseOutlivesARestartOfAllWhileClustersAreAway(t *testing.T) {
	for _, away := range [][]string{{"eu", "us"}, {"us"}} {
		t.Run(fmt.Sprint(away), func(t *testing.T) {
			pair(t, func(t *testing.T, w *World) {
				stop := load(t, w)
				ctx := context.Background()
				for _, link := range []string{"eu-us", "us-eu"} {
					if _, err := w.Nodes[0].API.Pause(ctx, &adminpb.PauseRequest{Link: link, Topic: "orders", Why: "a test"}); err != nil {
						t.Fatal(err)
					}
				}
				w.Until("it is paused", 10*time.Second, func() error { return w.wants("orders", mirror.StatePaused) })
				for _, n := range w.Nodes {
					n.Kill()
					for _, c := range away {
						n.Paths[c].Cut()
					}
				}
				time.Sleep(20 * time.Second)
				for _, n := range w.Nodes {
					n.Start()
				}
				time.Sleep(30 * time.Second)
				for _, n := range w.Nodes {
					for _, p := range n.Paths {
						p.Heal()
					}
				}
				healed := time.Now()
				for time.Since(healed) < 45*time.Second {
					for _, n := range w.Nodes {
						for _, l := range n.Set().Status() {
							for _, f := range l.Flows {
								for _, p := range f.Pumps {
									if f.Topic == "orders" && (p.State == mirror.StateRunning || p.State == mirror.StateFinding) {
										t.Fatalf("%s: %s orders:%d is %s %v after the clusters are back", n.Name, l.Name, p.Partition, p.State, time.Since(healed))
									}
								}
							}
						}
					}
					time.Sleep(5 * time.Millisecond)
				}
				w.Until("the other topic is copied", 30*time.Second, func() error { return w.wants("payments", mirror.StateRunning) })
				for _, link := range []string{"eu-us", "us-eu"} {
					if _, err := w.Nodes[3].API.Resume(ctx, &adminpb.ResumeRequest{Link: link, Topic: "orders"}); err != nil {
						t.Fatal(err)
					}
				}
				stop()
			})
		})
	}
}

// wants is an error while a partition of a topic is in the state on no node.
func (w *World) wants(topic string, state mirror.State) error {
	in := make(map[Pump]bool)
	for _, n := range w.Running() {
		for _, l := range n.Set().Status() {
			for _, f := range l.Flows {
				for _, p := range f.Pumps {
					if f.Topic == topic {
						name := Pump{l.Name, topic, p.Partition}
						in[name] = in[name] || p.State == state
					}
				}
			}
		}
	}
	for p, ok := range in {
		if !ok {
			return fmt.Errorf("%v is %s nowhere: %s", p, state, w.about(p))
		}
	}
	if len(in) == 0 {
		return fmt.Errorf("no partition of %s is known", topic)
	}
	return nil
}

// TestWorld_PausesCountWhereTheLinksCannotChange: a setting that no node can follow, such as a file that is missing, must not keep
// others from counting that came after it.
func TestWorld_PausesCountWhereTheLinksCannotChange(t *testing.T) {
	pair(t, func(t *testing.T, w *World) {
		time.Sleep(10 * time.Second)
		ctx, api := context.Background(), w.Nodes[0].API
		bad := &adminpb.SetRequest{Key: "cluster/us/tls", Value: `{ ca = "file:/no/such/file.pem" }`, DryRun: true}
		dry, err := api.Set(ctx, bad)
		if err != nil {
			t.Fatal(err)
		}
		bad.DryRun, bad.Confirm = false, dry.GetConfirm()
		if _, err := api.Set(ctx, bad); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if _, err := api.Pause(ctx, &adminpb.PauseRequest{Link: "eu-us", Topic: "orders"}); err != nil {
			t.Fatal(err)
		}
		took := w.Until("it is paused on all that copy it", 10*time.Second, func() error {
			for p, by := range w.Copies(w.Nodes...) {
				if p.Link == "eu-us" && p.Topic == "orders" && len(by) > 0 {
					return fmt.Errorf("%v is copied by %v", p, by)
				}
			}
			return nil
		})
		if took > 2*time.Second {
			t.Errorf("it took %v, want at most 2s", took)
		}
	})
}

// TestWorld_DrainOutlivesARestartAndAPauseEnds: a node that was told to give its work away takes none when it comes back, until that
// is undone; a pause for a time ends by itself.
func TestWorld_DrainOutlivesARestartAndAPauseEnds(t *testing.T) {
	pair(t, func(t *testing.T, w *World) {
		time.Sleep(10 * time.Second)
		ctx, n := context.Background(), w.Nodes[2]
		dry, err := w.Nodes[0].API.Drain(ctx, &adminpb.DrainRequest{Node: n.Name, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Nodes[0].API.Drain(ctx, &adminpb.DrainRequest{Node: n.Name, Confirm: dry.GetConfirm()}); err != nil {
			t.Fatal(err)
		}
		idle := func() error {
			for p, by := range w.Copies(n) {
				if len(by) > 0 {
					return fmt.Errorf("%v is copied by %v", p, by)
				}
			}
			return w.Agreed()
		}
		w.Until("the node is idle", 20*time.Second, idle)
		n.Stop()
		time.Sleep(time.Second)
		n.Start()
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			for p, by := range w.Copies(n) {
				if len(by) > 0 {
					t.Fatalf("%v is copied by the node that drains, after its restart", p)
				}
			}
		}
		for _, link := range []string{"eu-us", "us-eu"} {
			if _, err := n.API.Pause(ctx, &adminpb.PauseRequest{Link: link, Topic: "orders", ForSeconds: 20}); err != nil {
				t.Fatal(err)
			}
		}
		w.Until("it is paused", 5*time.Second, func() error { return w.wants("orders", mirror.StatePaused) })
		if took := w.Until("the pause ends", 40*time.Second, w.Agreed); took < 15*time.Second || took > 23*time.Second {
			t.Errorf("a pause of 20s ended after %v", took)
		}
	})
}
