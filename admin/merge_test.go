package admin

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

const (
	elsewhere = adminpb.State_STATE_ELSEWHERE
	running   = adminpb.State_STATE_RUNNING
	draining  = adminpb.State_STATE_DRAINING
	waiting   = adminpb.State_STATE_WAITING
	halted    = adminpb.State_STATE_HALTED
	yielded   = adminpb.State_STATE_YIELDED
	paused    = adminpb.State_STATE_PAUSED
	retrying  = adminpb.State_STATE_RETRYING
)

// view is one partition as a node sees it.
type view struct {
	node  string
	state adminpb.State
	since int64 // seconds
}

func linkOf(v view) said {
	p := &adminpb.Partition{State: v.state, Reason: "says " + v.node}
	if v.since > 0 {
		p.Since = timestamppb.New(time.Unix(v.since, 0))
	}
	return said{v.node, []*adminpb.Link{{Name: "eu-us", Up: true, Flows: []*adminpb.Flow{{Topic: "orders", Partitions: []*adminpb.Partition{p}}}}}}
}

func TestMerge_BelievesWhoCopies(t *testing.T) {
	for _, tc := range []struct {
		name  string
		views []view
		node  string
		also  []string
	}{
		{"one node", []view{{"a", running, 1}}, "a", nil},
		{"the owner", []view{{"a", elsewhere, 1}, {"b", running, 1}, {"c", elsewhere, 9}}, "b", nil},
		{"a hand-over", []view{{"a", draining, 1}, {"b", waiting, 2}}, "a", nil},
		{"two owners", []view{{"a", running, 1}, {"b", running, 2}, {"c", retrying, 3}}, "b", []string{"a", "c"}},
		{"two at one time", []view{{"b", running, 1}, {"a", running, 1}}, "a", []string{"b"}},
		{"who is fenced watches", []view{{"a", yielded, 9}, {"b", retrying, 1}}, "b", nil},
		{"paused", []view{{"a", elsewhere, 1}, {"b", paused, 1}}, "b", nil},
		{"halted", []view{{"a", halted, 1}, {"b", elsewhere, 2}}, "a", nil},
		{"nobody", []view{{"a", elsewhere, 1}, {"b", elsewhere, 2}}, "b", nil},
		{"a new state", []view{{"a", 99, 5}, {"b", waiting, 0}}, "b", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for range 6 {
				var all []said
				for _, v := range tc.views {
					all = append(all, linkOf(v))
				}
				rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				got := merge(all)[0].Flows[0].Partitions
				if len(got) != 1 || got[0].Node != tc.node || got[0].Reason != "says "+tc.node || !slices.Equal(got[0].Also, tc.also) {
					t.Fatalf("got %v, want what %s says, beside %v", got, tc.node, tc.also)
				}
			}
		})
	}
}

func TestMerge_OfLinks(t *testing.T) {
	at := func(s int64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(s, 0)) }
	flow := func(state adminpb.State, blocked string) []*adminpb.Flow {
		return []*adminpb.Flow{{Topic: "orders", Blocked: blocked, Partitions: []*adminpb.Partition{{State: state}}}}
	}
	once, least := adminpb.Guarantee_GUARANTEE_EXACTLY_ONCE, adminpb.Guarantee_GUARANTEE_AT_LEAST_ONCE
	all := []said{
		{"c", []*adminpb.Link{{Name: "b", From: "x", To: "y", Up: true, Guarantee: once, Flows: flow(running, "")}, {Name: "a", Up: true}}},
		{"b", []*adminpb.Link{{Name: "b", From: "x", To: "y", Trouble: "y is away", Since: at(5), Guarantee: least, GuaranteeWhy: "old", Flows: flow(halted, "too large")}}},
		// It owns nothing, so that what it cannot reach does not matter.
		{"a", []*adminpb.Link{{Name: "b", From: "x", To: "y", Trouble: "x is away", Since: at(1), Flows: flow(elsewhere, "not seen")}}},
	}
	got := merge(all)
	want := &adminpb.Link{Name: "b", From: "x", To: "y", Trouble: "node b: y is away", Since: at(5), Guarantee: least, GuaranteeWhy: "old",
		Flows: []*adminpb.Flow{{Topic: "orders", Blocked: "too large", Partitions: []*adminpb.Partition{{State: running, Node: "c"}}}}}
	if len(got) != 2 || got[0].Name != "a" || !got[0].Up || !proto.Equal(got[1], want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
