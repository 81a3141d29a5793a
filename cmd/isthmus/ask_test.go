package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func TestParsePosition(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"orders:3@120000", ""},
		{"my.topic-1_x:0@0", ""},
		{"orders:2147483647@9223372036854775807", ""},
		{"orders", "no : after the topic"},
		{":1@2", "the topic is empty"},
		{"orders:1", "no @ after the partition"},
		{"orders:@1", `partition ""`},
		{"orders:-1@1", `partition "-1"`},
		{"orders:2147483648@1", `partition "2147483648"`},
		{"orders:1@", `offset ""`},
		{"orders:1@-5", `offset "-5"`},
		{"orders:1@x", `offset "x"`},
		{"orders:1@9223372036854775808", "too large"},
	} {
		got, err := parsePosition(tc.text)
		if tc.want == "" && (err != nil || got == nil) || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%q: %v, %v; want %q", tc.text, got, err, tc.want)
		}
	}
}

// statusAt is a node with one good link and one that has every trouble.
func statusAt(now time.Time, position int64) *adminpb.StatusResponse {
	at := func(ago time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-ago)) }
	return &adminpb.StatusResponse{
		Node: &adminpb.Node{Name: "eu-1", Started: at(2 * time.Hour), Now: timestamppb.New(now)},
		Links: []*adminpb.Link{
			{Name: "eu-us", From: "eu", To: "us", Up: true, Guarantee: adminpb.Guarantee_GUARANTEE_AT_LEAST_ONCE,
				GuaranteeWhy: "the target does not keep the producer ids of batches", Flows: []*adminpb.Flow{{
					Topic: "orders", PartitionCount: 1, Running: 1, Position: position, LagRecords: 12, LagBytes: 3456, LagSeconds: 0.25,
					Partitions: []*adminpb.Partition{{State: adminpb.State_STATE_RUNNING, SourceNext: position, SourceEnd: position + 12,
						TargetLast: 999, LagRecords: 12, LagSeconds: 0.25, SeenSecondsAgo: 0.05, Runs: 3}},
				}}},
			{Name: "us-eu", From: "us", To: "eu", Trouble: "us: connection refused", Since: at(90 * time.Second), Flows: []*adminpb.Flow{
				{Topic: "audit", As: "us.audit", Blocked: "cleanup-policy: differs"},
				{Topic: "orders", PartitionCount: 2, Partitions: []*adminpb.Partition{
					{State: adminpb.State_STATE_WAITING, Since: at(time.Minute), SourceNext: -1, SourceEnd: -1, TargetLast: -1, SeenSecondsAgo: -1},
					{Partition: 1, State: adminpb.State_STATE_RETRYING, Reason: "NOT_ENOUGH_REPLICAS", Since: at(5 * time.Second), Attempts: 4,
						NextTry: timestamppb.New(now.Add(2 * time.Second)), SourceNext: 5, SourceEnd: 9, TargetLast: 4, LagRecords: 4, LagSeconds: 5},
				}},
			}},
		},
	}
}

func TestStatusTable(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	before, st := statusAt(now.Add(-2*time.Second), 1000), statusAt(now, 6000)
	golden(t, "status", statusView{}.table(st, nil)+"----\n"+statusView{}.table(st, before)+"----\n"+
		statusView{link: "eu-us"}.table(st, nil)+"----\n"+statusView{link: "eu-us", local: true}.table(st, nil))
}

// TestStatusTable_Elsewhere: of one node it is no trouble that others copy a partition; of the fabric it is, for nobody does.
func TestStatusTable_Elsewhere(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	st := &adminpb.StatusResponse{Node: &adminpb.Node{Name: "eu-1", Now: timestamppb.New(now)}, Links: []*adminpb.Link{{Name: "eu-us", Up: true,
		Flows: []*adminpb.Flow{{Topic: "orders", Partitions: []*adminpb.Partition{
			{Partition: 3, State: adminpb.State_STATE_ELSEWHERE, Reason: "us-1 owns it"},
			{Partition: 4, State: adminpb.State_STATE_PAUSED, Reason: "by anna: repairs", Since: timestamppb.New(now.Add(-time.Minute))}}}}}}}
	const elsewhere, paused = "! eu-us orders:3 elsewhere: us-1 owns it\n", "! eu-us orders:4 paused: by anna: repairs (for 1m0s, since 2026-03-04T05:05:07Z)\n"
	if got := (statusView{}).table(st, nil); !strings.Contains(got, elsewhere) || !strings.Contains(got, paused) {
		t.Errorf("want the partition that nobody copies and the paused one:\n%s", got)
	}
	if got := (statusView{local: true}).table(st, nil); strings.Contains(got, elsewhere) || !strings.Contains(got, paused) {
		t.Errorf("want the paused partition only:\n%s", got)
	}
}

func TestStatusTable_ManyTroubles(t *testing.T) {
	st := statusAt(time.Now(), 1)
	st.Links[1].Flows = nil
	for range 100 {
		st.Links = append(st.Links, st.Links[1])
	}
	if got := (statusView{}).table(st, nil); strings.Count(got, "\n!") != maxNotes+1 || !strings.HasSuffix(got, "! and 82 more\n") {
		t.Errorf("the troubles are not bounded:\n%s", got)
	}
}

func TestSizesAndAges(t *testing.T) {
	for got, want := range map[string]string{
		size(0): "0 B", size(999): "999 B", size(1000): "1.0 kB", size(123456): "123 kB", size(5_400_000_000): "5.4 GB",
		age(-1): "-", age(0): "0s", age(0.0123): "12ms", age(1.25): "1.2s", age(3725): "1h2m5s",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
