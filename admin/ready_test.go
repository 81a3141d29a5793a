package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// Ready says that one partition of orders is behind.
func (n *fakeNode) Ready(_ context.Context, req *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error) {
	return &adminpb.ReadyResponse{From: "eu", To: req.GetTo(), Checks: []*adminpb.SwitchCheck{{Name: "lag", Ok: true}},
		Loss: &adminpb.ReadyLoss{Records: 3, Partitions: 6, Behind: 1, Seconds: -1, List: []*adminpb.ReadyPartition{{Topic: "orders", Partition: 1, Records: 3, Seconds: -1}}}}, n.fails()
}

// TestReady_OfARouter: the node that looks says how far the mirror is, those that mirror how old that is and why.
func TestReady_OfARouter(t *testing.T) {
	town := newCity()
	town.add(t, "a", newFake("a"), nil)
	c := town.client(t, "a", Login{})
	res, err := c.Ready(t.Context(), &adminpb.ReadyRequest{Name: "shop", To: "us"})
	if err != nil {
		t.Fatal(err)
	}
	if res.GetName() != "shop" || res.GetLink() || res.GetNode() != "a" || res.GetVerdict() != ReadyYes || res.GetLoss().GetSeconds() != 0 || res.GetLoss().GetList()[0].GetSeconds() != 0 {
		t.Errorf("got %v", res)
	}
	for want, req := range map[string]*adminpb.ReadyRequest{
		"to: eu is the home of router shop already": {Name: "shop", To: "eu"},
		"set: router shop has no set":               {Name: "shop", Set: "slow", To: "us"},
		"to: is empty":                              {Name: "shop"},
		"name: is empty":                            {To: "us"},
		"canary: has 257 bytes":                     {Name: "shop", To: "us", Canary: strings.Repeat("x", 257)},
		"to: link eu-us goes from eu to us":         {Name: "eu-us", To: "eu"},
		"set: eu-us is a link":                      {Name: "eu-us", To: "us", Set: "fast"},
		"canary: eu-us is a link":                   {Name: "eu-us", To: "us", Canary: "orders"},
	} {
		if _, err := c.Ready(t.Context(), req); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", req, err, want)
		}
	}
	if _, err := c.Ready(t.Context(), &adminpb.ReadyRequest{Name: "mars", To: "us"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

// TestDrillsSay: what a canary saw counts before what nodes say of switches; of drills that passed, planned, of the set.
func TestDrillsSay(t *testing.T) {
	drill := func(set, mode, verdict string, rto float64) *adminpb.Drill {
		return &adminpb.Drill{Set: set, Mode: mode, Verdict: verdict, RtoSeconds: rto}
	}
	others := []*adminpb.Drill{drill("fast", "switchover", "pass", 9), drill("", "failover", "pass", 8), drill("", "switchover", "fail", 7), drill("", "rehearse", "pass", 6)}
	said := &adminpb.ReadyTime{Seconds: 0.5, By: "an estimate", Estimate: true}
	res := &adminpb.ReadyResponse{Time: said}
	drillsSay(res, "", others)
	if res.GetTime() != said {
		t.Errorf("got %v", res)
	}
	all := append(others, drill("", "switchover", "pass", 5))
	for _, rto := range []float64{0.1, 0.4, 0.2, 0.1, 0.3} {
		all = append(all, drill("", "failback", "pass", rto))
	}
	drillsSay(res, "", all)
	if res.GetTime().GetSeconds() != 0.4 || res.GetTime().GetEstimate() || !strings.Contains(res.GetTime().GetBy(), "last 5 planned drills") {
		t.Errorf("got %v", res)
	}
}

func TestMirrorsSay(t *testing.T) {
	part := func(p int32, state adminpb.State, seconds float64) *adminpb.Partition {
		return &adminpb.Partition{Partition: p, State: state, LagSeconds: seconds, Reason: "ana: new disks"}
	}
	st := &adminpb.StatusResponse{Links: []*adminpb.Link{
		{From: "us", To: "eu", Flows: []*adminpb.Flow{{Topic: "orders", Partitions: []*adminpb.Partition{part(0, adminpb.State_STATE_HALTED, 99)}}}},
		{From: "eu", To: "us", Flows: []*adminpb.Flow{{Topic: "orders", Partitions: []*adminpb.Partition{part(0, adminpb.State_STATE_RUNNING, 1.5), part(1, adminpb.State_STATE_PAUSED, 70)}}}},
	}, Unanswered: []*adminpb.Unanswered{{Node: "us-1", Trouble: "it did not answer in time"}}}
	res := &adminpb.ReadyResponse{From: "eu", To: "us", Loss: &adminpb.ReadyLoss{Records: 9, Seconds: -1, List: []*adminpb.ReadyPartition{{Topic: "orders", Partition: 0, Records: 4, Seconds: -1}, {Topic: "orders", Partition: 1, Records: 3, Seconds: -1}, {Topic: "bills", Records: 2, Seconds: -1}}}}
	mirrorsSay(res, st)
	list := res.GetLoss().GetList()
	if list[0].GetSeconds() != 1.5 || list[0].GetReason() != "" || list[1].GetReason() != "paused: ana: new disks" || list[2].GetSeconds() != -1 || res.GetLoss().GetSeconds() != 70 {
		t.Errorf("got %v", res)
	}
	if len(res.GetChecks()) != 1 || res.GetChecks()[0].GetOk() || !strings.Contains(res.GetChecks()[0].GetText(), "orders:1 paused") || !strings.Contains(res.GetLoss().GetTrouble(), "us-1") {
		t.Errorf("got %v", res)
	}
	if readyVerdict(res.GetChecks()) != ReadyNo {
		t.Error("a partition that is paused, and behind, does not forbid a switch")
	}
}

func TestLinkReady(t *testing.T) {
	good := func() (*adminpb.Link, *adminpb.StatusResponse, *adminpb.LinkGroups) {
		l := &adminpb.Link{Name: "eu-us", From: "eu", To: "us", Up: true, Guarantee: adminpb.Guarantee_GUARANTEE_EXACTLY_ONCE,
			Flows: []*adminpb.Flow{{Topic: "orders", Partitions: []*adminpb.Partition{{State: adminpb.State_STATE_RUNNING}, {Partition: 1, State: adminpb.State_STATE_RUNNING}}}}}
		st := &adminpb.StatusResponse{Links: []*adminpb.Link{l, {Name: "us-eu", From: "us", To: "eu"}}}
		g := &adminpb.LinkGroups{Keeps: true, Positions: []*adminpb.GroupPosition{{Group: "g", Source: &adminpb.GroupPlace{Offset: 4}, Target: &adminpb.GroupPlace{Offset: 4}}}}
		return l, st, g
	}
	for _, tc := range []struct {
		name    string
		change  func(*adminpb.Link, *adminpb.StatusResponse, *adminpb.LinkGroups)
		verdict string
		check   string // that is not as it was
	}{
		{"all is well", func(*adminpb.Link, *adminpb.StatusResponse, *adminpb.LinkGroups) {}, ReadyYes, ""},
		{"down", func(l *adminpb.Link, _ *adminpb.StatusResponse, _ *adminpb.LinkGroups) {
			l.Up, l.Trouble = false, "us: refused"
		}, ReadyNo, "link"},
		{"behind", func(l *adminpb.Link, _ *adminpb.StatusResponse, _ *adminpb.LinkGroups) {
			l.Flows[0].Partitions[1].LagRecords, l.Flows[0].Partitions[1].LagSeconds = 7, 2
		}, ReadyWarning, "lag"},
		{"paused", func(l *adminpb.Link, _ *adminpb.StatusResponse, _ *adminpb.LinkGroups) {
			l.Flows[0].Partitions[0].State = adminpb.State_STATE_PAUSED
		}, ReadyNo, "partitions"},
		{"a topic is blocked", func(l *adminpb.Link, _ *adminpb.StatusResponse, _ *adminpb.LinkGroups) {
			l.Flows[0].Blocked = "it has fewer partitions there"
		}, ReadyNo, "partitions"},
		{"weak", func(l *adminpb.Link, _ *adminpb.StatusResponse, _ *adminpb.LinkGroups) {
			l.Guarantee = adminpb.Guarantee_GUARANTEE_AT_LEAST_ONCE
		}, ReadyWarning, "guarantee"},
		{"no way back", func(_ *adminpb.Link, st *adminpb.StatusResponse, _ *adminpb.LinkGroups) { st.Links = st.Links[:1] }, ReadyWarning, "way back"},
		{"a node is silent", func(_ *adminpb.Link, st *adminpb.StatusResponse, _ *adminpb.LinkGroups) {
			st.Unanswered = []*adminpb.Unanswered{{Node: "us-1"}}
		}, ReadyNo, "nodes"},
		{"groups are not kept", func(_ *adminpb.Link, _ *adminpb.StatusResponse, g *adminpb.LinkGroups) { g.Keeps = false }, ReadyWarning, "groups"},
		{"a group is behind", func(_ *adminpb.Link, _ *adminpb.StatusResponse, g *adminpb.LinkGroups) { g.Positions[0].Reread = 4 }, ReadyWarning, "groups"},
		{"a group is not there", func(_ *adminpb.Link, _ *adminpb.StatusResponse, g *adminpb.LinkGroups) {
			g.Positions[0].Target.Offset = -1
		}, ReadyWarning, "groups"},
		{"groups cannot be asked for", func(_ *adminpb.Link, _ *adminpb.StatusResponse, g *adminpb.LinkGroups) { g.Trouble = "refused" }, ReadyNo, "groups"},
	} {
		l, st, g := good()
		tc.change(l, st, g)
		res := linkReady(l, st, g)
		if got := readyVerdict(res.GetChecks()); got != tc.verdict {
			t.Errorf("%s: %s, want %s: %v", tc.name, got, tc.verdict, res.GetChecks())
		}
		for _, c := range res.GetChecks() {
			if (!c.GetOk() || c.GetWarning()) != (c.GetName() == tc.check || tc.check == "link" && c.GetName() == "lag" && c.GetWarning()) {
				t.Errorf("%s: %v", tc.name, c)
			}
		}
	}
	l, st, g := good()
	l.Flows[0].Partitions[1].LagRecords, l.Flows[0].Partitions[1].LagSeconds = 7, 2
	g.Positions[0].Reread = 4
	res := linkReady(l, st, g)
	if res.GetLoss().GetRecords() != 7 || res.GetLoss().GetSeconds() != 2 || res.GetLoss().GetBehind() != 1 || res.GetLoss().GetPartitions() != 2 || res.GetGroups().GetReread() != 4 ||
		!slices.EqualFunc(res.GetGroups().GetList(), []string{"g"}, func(g *adminpb.ReadyGroup, name string) bool { return g.GetGroup() == name }) {
		t.Errorf("got %v", res)
	}
}
