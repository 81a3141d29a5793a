package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
)

// groupsOf is a link with groups in every state but one, and one that nobody could ask.
func groupsOf() *adminpb.GroupsResponse {
	at := func(group string, partition int32, source, target *adminpb.GroupPlace, state string, reread int64, synced *timestamppb.Timestamp) *adminpb.GroupPosition {
		return &adminpb.GroupPosition{Group: group, Topic: "orders", Partition: partition, Source: source, Target: target, State: state, Reread: reread, Synced: synced}
	}
	place := func(offset, lag int64, active bool) *adminpb.GroupPlace {
		return &adminpb.GroupPlace{Offset: offset, Lag: lag, Active: active}
	}
	waits := at("shop", 2, place(500, 0, true), place(80, 20, false), "waits", -1, ago(time.Minute))
	waits.Why = "the map of the way back cannot be read"
	return &adminpb.GroupsResponse{Links: []*adminpb.LinkGroups{
		{Link: "eu-us", From: "eu", To: "us", Node: "eu-1", At: timestamppb.New(noon), Keeps: true, Positions: []*adminpb.GroupPosition{
			at("billing", 0, place(95, 5, true), place(100, 10, true), "blocked", 5, ago(90*time.Second)),
			at("billing", 1, place(40, 0, true), place(47, 0, true), "alike", 0, ago(3*time.Hour)),
			at("lone", 0, place(-1, -1, false), place(3, 107, false), "one-side", -1, nil),
			at("shop", 0, place(10, 90, true), place(17, 90, false), "alike", 0, ago(-time.Second)), // of a clock that is ahead
			at("shop", 1, place(60, 40, true), place(50, 57, false), "moves", 17, ago(time.Second)),
			waits,
		}},
		{Link: "us-ap", Keeps: true, Trouble: "no node can tell where the groups of link us-ap stand now"},
	}}
}

func translatedGroup() *adminpb.TranslateGroupResponse {
	return &adminpb.TranslateGroupResponse{Link: "eu-us", Group: "shop", From: "eu", To: "us", Positions: []*adminpb.TranslatedPosition{
		{Topic: "orders", Partition: 0, Offset: 10, Result: 17, Exact: true},
		{Topic: "orders", Partition: 1, Offset: 60, Result: 66},
		{Topic: "orders", Partition: 2, Offset: 500, Result: -1, Trouble: "no node that answers copies it"},
	}}
}

// TestGroups_SaysWhatItDoesNotKnow: what is not there, or was not learnt, is not taken for all well.
func TestGroups_SaysWhatItDoesNotKnow(t *testing.T) {
	kept := &adminpb.LinkGroups{Link: "eu-us", From: "eu", To: "us", Node: "eu-1", At: timestamppb.New(noon), Keeps: true}
	alike := &adminpb.GroupPosition{Group: "shop", Topic: "orders", Source: &adminpb.GroupPlace{Offset: 1}, Target: &adminpb.GroupPlace{Offset: 1}, State: "alike", Synced: ago(time.Second)}
	newer := &adminpb.GroupPosition{Group: "shop", Topic: "orders", Partition: 1, Source: &adminpb.GroupPlace{Offset: 1, Lag: 3}, Target: &adminpb.GroupPlace{Offset: 1, Lag: -1}, State: "sleeps"}
	sharing := &adminpb.LinkGroups{Link: "eu-us", From: "eu", To: "us", Node: "eu-1", At: timestamppb.New(noon), Keeps: true, Share: []string{"jobs"}}
	with := func(p ...*adminpb.GroupPosition) *adminpb.LinkGroups {
		return &adminpb.LinkGroups{Link: "eu-us", Node: "eu-1", At: timestamppb.New(noon), Keeps: true, Positions: p}
	}
	for _, tc := range []struct {
		name   string
		group  string
		links  []*adminpb.LinkGroups
		want   string
		absent string
	}{
		{"a link that keeps none", "", []*adminpb.LinkGroups{{Link: "eu-us"}}, "eu-us keeps no positions of groups", "no group"},
		{"no positions", "", []*adminpb.LinkGroups{kept}, "no group has positions", "if all"},
		{"no positions of one", "mars", []*adminpb.LinkGroups{kept}, "group mars has no positions", "if all"},
		{"a share group", "jobs", []*adminpb.LinkGroups{sharing, sharing}, "\n! share groups have no committed positions, so nothing of them is kept: jobs (docs/groups.md#what-each-kind-of-group-gets)\n", "has no positions"},
		{"many share groups", "", []*adminpb.LinkGroups{{Link: "eu-us", Keeps: true, Share: []string{"a", "b", "c", "d", "e"}}}, "kept: a, b, c, and 2 more (", "d,"},
		{"nothing learnt", "", []*adminpb.LinkGroups{{Link: "eu-us", Keeps: true, Trouble: "us is away"}}, "! eu-us: not all could be learnt: us is away", "no group"},
		{"nothing to read again", "", []*adminpb.LinkGroups{with(alike)}, "if all moved there now, none of 1 group would read anything again\n", "not known"},
		{"a state of a newer node", "", []*adminpb.LinkGroups{with(alike, newer)}, "shop   2           3         >=0        -        sleeps  0       never", "not known"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := groupsView{group: tc.group}.table(&adminpb.GroupsResponse{Links: tc.links})
			if !strings.Contains(got, tc.want) || strings.Contains(got, tc.absent) {
				t.Errorf("got\n%s\nwant %q in it, and not %q", got, tc.want, tc.absent)
			}
		})
	}
}

// TestGroups_EveryStateHasItsPlace: the table's order has each, and the docs say what it means, under the word that the table uses.
func TestGroups_EveryStateHasItsPlace(t *testing.T) {
	text, err := os.ReadFile("../../" + groupsDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, help, _ := command(t.Context(), "groups", "--help")
	states := []mirror.GroupState{mirror.GroupAlike, mirror.GroupMoves, mirror.GroupWaits, mirror.GroupBlocked, mirror.GroupSplit, mirror.GroupLone, mirror.GroupUnknown}
	for _, s := range states {
		if harmOf(string(s)) < 0 || !strings.Contains(string(text), "\n### "+string(s)+"\n") || !strings.Contains(help, "\n  "+string(s)+" ") {
			t.Errorf("state %s has no place in the order, no chapter in %s, or no line in the help", s, groupsDoc)
		}
	}
	if len(groupHarm) != len(states) {
		t.Errorf("the order has %d states, and there are %d", len(groupHarm), len(states))
	}
}

// TestRun_Groups: a group's position follows, and both verbs tell it, against a node that runs.
func TestRun_Groups(t *testing.T) {
	r := start(t, "-c", writeFile(t, "two.toml", oneWay+"groups = [\"shop*\"]\n"))
	eu, us := r.connect("eu"), r.connect("us")
	produceTo(t, eu, 100)
	eventually(t, "records at us", func() bool { return arrived(t, us, 100) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at := []broker.GroupOffset{{TopicPartition: broker.TopicPartition{Topic: "orders"}, Offset: 40, LeaderEpoch: -1}}
	for _, group := range []string{"shop", "shop-2", "other"} {
		if refused, err := eu.CommitGroup(ctx, group, at); err != nil || len(refused) > 0 {
			t.Fatal(err, refused)
		}
	}
	grpc := r.said(`"node started".* grpc=(\S+)`)
	ask := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := command(t.Context(), append(args, "--addr", grpc)...)
		if code != want {
			t.Fatalf("%s: exit %d, want %d; %q, %q", strings.Join(args, " "), code, want, out, errs)
		}
		return out
	}
	var res struct {
		Links []struct {
			Link, From, To, Node string
			Keeps                bool
			Positions            []struct {
				Group, Topic, State, Synced string
				Source, Target              struct{ Offset, Lag int64 }
				Reread                      int64
			}
		}
	}
	eventually(t, "both groups alike, and how far they are behind", func() bool {
		out := ask(exitOK, "groups", "--json")
		if err := json.Unmarshal([]byte(out), &res); err != nil {
			t.Fatal(err)
		}
		return strings.Count(out, `"state":"alike"`) == 2 && !strings.Contains(out, `"synced":null`) && !strings.Contains(out, `"lag":-1`)
	})
	l := res.Links[0]
	if len(res.Links) != 1 || l.Link != "eu-us" || l.From != "eu" || l.To != "us" || l.Node == "" || !l.Keeps || len(l.Positions) != 2 {
		t.Fatalf("groups tells %+v, want two positions of eu-us", res)
	}
	p := l.Positions[0]
	if p.Group != "shop" || p.Topic != "orders" || p.Source.Offset != 40 || p.Target.Offset != 40 || p.Source.Lag != 60 || p.Target.Lag != 60 || p.Reread != 0 {
		t.Errorf("the position of the first group is told as %+v", p)
	}
	if out := ask(exitOK, "groups", "eu-us", "--group", "shop-2", "--partitions"); !strings.Contains(out, "shop-2  orders:0") || strings.Contains(out, "shop  ") {
		t.Errorf("groups of one group tells\n%s", out)
	}
	if out := ask(exitOK, "translate", "eu-us", "--group", "shop"); !strings.Contains(out, "orders:0   40        40          yes") {
		t.Errorf("translate of a group tells\n%s", out)
	}
	if out := ask(exitOK, "translate", "eu-us", "--group", "other"); !strings.Contains(out, "no position on eu") {
		t.Errorf("translate of a group that the link does not keep tells\n%s", out)
	}
	ask(exitUsage, "translate", "eu-us", "--group", "")
	ask(exitFailed, "translate", "eu-mars", "--group", "shop")
	ask(exitFailed, "groups", "eu-mars")
}
