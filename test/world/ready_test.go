package world

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// TestWorld_Ready: any node tells whether a router may move, what would be missing if its home were lost at that moment, which groups would read again, and why. A partition that is
// paused keeps records back: the switch may not begin, and the figures say how many, how old, and whose word it is.
func TestWorld_Ready(t *testing.T) {
	switched(t, func(t *testing.T, w *World) {
		ask := func(to string) *adminpb.ReadyResponse {
			t.Helper()
			r, err := w.Nodes[2].API.Ready(t.Context(), &adminpb.ReadyRequest{Name: "shop", To: to, Canary: "orders"})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		out := w.through(doors, kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		defer out.Close()
		write(t, out, 0, 100)
		w.Until("all is mirrored", 30*time.Second, func() error {
			if r := ask("us"); r.GetVerdict() == admin.ReadyNo || r.GetLoss().GetRecords() != 0 || r.GetLoss().GetPartitions() != 4 {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
		if r := ask("us"); r.GetFrom() != "eu" || !r.GetTime().GetEstimate() || r.GetNode() != "us-1" || slices.ContainsFunc(r.GetLostChecks(), func(c *adminpb.SwitchCheck) bool { return !c.GetOk() }) {
			t.Errorf("got %v", r)
		}
		// A group that stands at eu alone has no position at us; a switch will take it along.
		group := w.through(doors, kgo.ConsumeTopics("orders"), kgo.ConsumerGroup("readers"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
		for n := 0; n < 100; {
			n += group.PollFetches(t.Context()).NumRecords()
		}
		if err := group.CommitUncommittedOffsets(t.Context()); err != nil {
			t.Fatal(err)
		}
		group.Close()
		if g := ask("us").GetGroups(); g.GetGroups() != 1 || g.GetBehind() != 1 || g.GetList()[0].GetGroup() != "readers" || g.GetList()[0].GetMissing() != 4 || g.GetTrouble() != "" {
			t.Errorf("of groups it says %v", g)
		}
		api := w.Nodes[0].API
		if _, err := api.Pause(t.Context(), &adminpb.PauseRequest{Link: "eu-us", Topic: "orders", Partitions: []int32{1}, Why: "a test"}); err != nil {
			t.Fatal(err)
		}
		w.Until("it is paused", 10*time.Second, func() error {
			st, err := api.Status(t.Context(), "eu-us", true)
			if err == nil && st.GetLinks()[0].GetFlows()[0].GetPartitions()[1].GetState() != adminpb.State_STATE_PAUSED {
				err = errors.New("it is not")
			}
			return err
		})
		write(t, out, 100, 200)
		w.Until("what is kept back is known", 30*time.Second, func() error {
			if r := ask("us"); r.GetVerdict() != admin.ReadyNo || r.GetLoss().GetBehind() != 1 || r.GetLoss().GetSeconds() < 2 {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
		r := ask("us")
		if l := r.GetLoss().GetList()[0]; l.GetTopic() != "orders" || l.GetPartition() != 1 || l.GetRecords() < 10 || l.GetRecords() != r.GetLoss().GetRecords() || !strings.Contains(l.GetReason(), "a test") {
			t.Errorf("got %v", r.GetLoss())
		}
		if link, err := api.Ready(t.Context(), &adminpb.ReadyRequest{Name: "eu-us", To: "us"}); err != nil || link.GetVerdict() != admin.ReadyNo || link.GetLoss().GetRecords() != r.GetLoss().GetRecords() {
			t.Errorf("the link says %v, %v", link, err)
		}
		if _, err := api.Resume(t.Context(), &adminpb.ResumeRequest{Link: "eu-us"}); err != nil {
			t.Fatal(err)
		}
		w.Until("it may move", time.Minute, func() error {
			if r := ask("us"); r.GetVerdict() == admin.ReadyNo {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
		if p := w.goes(w.Nodes[0], adminpb.SwitchKind_SWITCH_KIND_PLANNED, "us"); p.GetOutcome() != "committed" {
			t.Fatalf("%s: %s", p.GetOutcome(), p.GetWhy())
		}
		if r := ask("eu"); r.GetTime().GetEstimate() || r.GetTime().GetSeconds() > 30 || r.GetGeneration() != 1 || r.GetFrom() != "us" {
			t.Errorf("behind a switch: %v", r)
		}
		if g := ask("eu").GetGroups(); g.GetGroups() != 1 || g.GetBehind() != 0 { // nothing was read since, so it stands alike at both
			t.Errorf("behind a switch it says of groups %v", g)
		}
	})
}
