package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// large are fifteen clusters, each linked with each, and every link has topics of its own.
func large(t *testing.T) *World {
	var clusters, topics []string
	for i := range 15 {
		clusters = append(clusters, fmt.Sprintf("c%02d", i))
	}
	var more strings.Builder
	for _, from := range clusters {
		topics = append(topics, "to-"+from+"-a")
		for _, to := range clusters {
			if from != to {
				fmt.Fprintf(&more, "[[link]]\nfrom = %q\nto = %q\ntopics = [\"to-%s-*\"]\n", from, to, to)
			}
		}
	}
	return New(t, fabric.Options{Clusters: clusters, Topics: topics, Partitions: 1, More: more.String()}, 1, "n1@x", "n2@y")
}

// stands is what a partition was doing, and since when.
func (w *World) stands() map[Pump]string {
	out := make(map[Pump]string)
	for _, n := range w.Running() {
		for _, l := range n.Set().Status() {
			for _, f := range l.Flows {
				for _, p := range f.Pumps {
					out[Pump{l.Name, f.Topic, p.Partition}] += fmt.Sprintf("%s: %s since %v; ", n.Name, p.State, p.Since)
				}
			}
		}
	}
	return out
}

// TestWorld_AppliesAFileOver200Links changes three links of 210: diff says so before, only they change, and undo restores all.
func TestWorld_AppliesAFileOver200Links(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := large(t)
		defer w.Close()
		w.StartAll()
		time.Sleep(15 * time.Second)
		w.Until("all agree", time.Minute, w.Agreed)
		ctx, api := context.Background(), w.Nodes[1].API
		export := func() string {
			got, err := api.Export(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return got.GetFile()
		}
		before := export()
		link := func(from, to, topics string) string {
			return fmt.Sprintf("from = %q\nto = %q\ntopics = [%q]", from, to, topics)
		}
		wanted := before
		for _, change := range [][2]string{
			{link("c05", "c02", "to-c02-*"), link("c05", "c02", "to-c02-x*")},
			{link("c06", "c03", "to-c03-*"), link("c06", "c03", "to-c03-*") + "\nreplication_factor = 1"},
			{"[[link]]\n" + link("c07", "c01", "to-c01-*"), ""},
		} {
			if !strings.Contains(wanted, change[0]) {
				t.Fatalf("the export has no %q", change[0])
			}
			wanted = strings.Replace(wanted, change[0], change[1], 1)
		}
		diff, err := api.Diff(ctx, wanted)
		if err != nil {
			t.Fatal(err)
		}
		named := []string{"c05-c02", "c06-c03", "c07-c01"}
		if len(diff.GetPlan()) != 3 || !slices.ContainsFunc(diff.GetPlan(), func(line string) bool { return strings.Contains(line, "c05-c02") }) {
			t.Errorf("diff says %q, want a line for each of %v", diff.GetPlan(), named)
		}
		for _, touched := range diff.GetTouched() {
			if !slices.Contains(named, touched.GetLink()) {
				t.Errorf("diff says that link %s is touched", touched.GetLink())
			}
		}
		if _, err := api.Apply(ctx, &adminpb.ApplyRequest{File: wanted}); err == nil {
			t.Error("a link was removed without a confirm token")
		}
		dry, err := api.Apply(ctx, &adminpb.ApplyRequest{File: wanted, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		stood := w.stands()
		done, err := api.Apply(ctx, &adminpb.ApplyRequest{File: wanted, Confirm: dry.GetConfirm(), Reason: "to try it"})
		if err != nil {
			t.Fatal(err)
		}
		took := w.Until("both nodes run it", 10*time.Second, func() error { return w.runs(209) })
		t.Logf("applied within %v: %q", took, done.GetPlan())
		time.Sleep(10 * time.Second)
		stands := w.stands()
		for p, was := range stood {
			if now := stands[p]; !slices.Contains(named, p.Link) && now != was {
				t.Errorf("%v was not named: it was %s, and is %s", p, was, now)
			}
		}
		if gone := (Pump{"c05-c02", "to-c02-a", 0}); strings.Contains(stands[gone], "running") {
			t.Errorf("%v is still copied: %s", gone, stands[gone])
		}
		undo, err := api.Undo(ctx, &adminpb.UndoRequest{Version: done.GetVersion(), DryRun: true})
		if err == nil {
			_, err = api.Undo(ctx, &adminpb.UndoRequest{Version: done.GetVersion(), Confirm: undo.GetConfirm()})
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Until("both nodes run what they did before", 10*time.Second, func() error { return w.runs(210) })
		if after := export(); after != before {
			t.Errorf("undo did not restore the configuration:\n%s", after)
		}
		w.Until("all agree", time.Minute, w.Agreed)
	})
}

// runs is an error while a node does not have so many links, or says that its configuration is another one's.
func (w *World) runs(links int) error {
	for _, n := range w.Running() {
		if got := n.Set().Links(); got != links {
			return fmt.Errorf("%s has %d links, want %d", n.Name, got, links)
		}
		got, err := n.API.Nodes(context.Background())
		if err != nil {
			return err
		}
		for _, m := range got.GetMembers() {
			if m.GetDivergent() {
				return fmt.Errorf("%s says that %s runs something else", n.Name, m.GetName())
			}
		}
	}
	return nil
}

// TestWorld_ConflictingApplies has two nodes apply different files at the same moment: one wins whole, the other is told.
func TestWorld_ConflictingApplies(t *testing.T) {
	pair(t, func(t *testing.T, w *World) {
		time.Sleep(10 * time.Second)
		ctx := context.Background()
		got, err := w.Nodes[0].API.Export(ctx)
		if err != nil {
			t.Fatal(err)
		}
		w.Net.Delay("frankfurt", "virginia", 75*time.Millisecond) // so that both are under way before either is known
		results := make(chan error, 2)
		for i, to := range []string{"us", "eu"} { // they do not even change the same link
			line := fmt.Sprintf("to = %q\n", to)
			file := strings.Replace(got.GetFile(), line, line+"replication_factor = 1\n", 1)
			if file == got.GetFile() {
				t.Fatalf("the export has no %q", line)
			}
			api := w.Nodes[3*i].API
			go func() {
				dry, err := api.Apply(ctx, &adminpb.ApplyRequest{File: file, DryRun: true})
				if err == nil {
					_, err = api.Apply(ctx, &adminpb.ApplyRequest{File: file, Confirm: dry.GetConfirm()})
				}
				results <- err
			}()
		}
		first, second := <-results, <-results
		if (first == nil) == (second == nil) {
			t.Fatalf("one has to win: %v; %v", first, second)
		}
		if told := errors.Join(first, second); !strings.Contains(told.Error(), "changed meanwhile") {
			t.Errorf("the other one was told %v", told)
		}
		time.Sleep(5 * time.Second)
		for _, n := range w.Nodes {
			set := 0
			for _, l := range n.Set().Topology().Links {
				set += l.ReplicationFactor
			}
			if set != 1 {
				t.Errorf("%s runs %d of the two changes, want one", n.Name, set)
			}
		}
	})
}

// TestWorld_LogLevelIsSetLive: a level that is set counts on all nodes, and the one of their start when it is taken back.
func TestWorld_LogLevelIsSetLive(t *testing.T) {
	pair(t, func(t *testing.T, w *World) {
		ctx := context.Background()
		level := func(want slog.Level) func() error {
			return func() error {
				for _, n := range w.Nodes {
					if got := n.Level.Level(); got != want {
						return fmt.Errorf("%s logs at %v, want %v", n.Name, got, want)
					}
				}
				return nil
			}
		}
		if _, err := w.Nodes[3].API.Set(ctx, &adminpb.SetRequest{Key: "log/level", Value: "debug"}); err != nil {
			t.Fatal(err)
		}
		took := w.Until("all nodes log at debug", 10*time.Second, level(slog.LevelDebug))
		if _, err := w.Nodes[1].API.Unset(ctx, &adminpb.UnsetRequest{Key: "log/level"}); err != nil {
			t.Fatal(err)
		}
		t.Logf("set within %v, taken back within %v", took, w.Until("all nodes log as at their start", 10*time.Second, level(slog.LevelInfo)))
	})
}
