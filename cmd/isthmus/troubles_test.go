package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
)

// sick is a link with partitions in trouble: topic, first partition and how many, state, cause, reason, seconds since.
func sick(now time.Time) *adminpb.StatusResponse {
	l := &adminpb.Link{Name: "eu-us", From: "eu", To: "us", Up: true}
	add := func(topic string, first, n int32, change func(*adminpb.Partition)) {
		f := &adminpb.Flow{Topic: topic}
		if last := len(l.Flows) - 1; last >= 0 && l.Flows[last].Topic == topic {
			f = l.Flows[last]
		} else {
			l.Flows = append(l.Flows, f)
		}
		for p := first; p < first+n; p++ {
			one := &adminpb.Partition{Partition: p, SourceNext: 5, SourceEnd: 9, TargetLast: 4, Since: timestamppb.New(now.Add(-time.Duration(p+1) * time.Minute)),
				HeadroomSeconds: -1, HeadroomBytes: -1}
			change(one)
			f.Partitions = append(f.Partitions, one)
		}
	}
	in := func(s adminpb.State, cause, reason string) func(*adminpb.Partition) {
		return func(p *adminpb.Partition) { p.State, p.Cause, p.Reason = s, cause, reason }
	}
	halted, running := adminpb.State_STATE_HALTED, adminpb.State_STATE_RUNNING
	add("orders", 0, 1, in(adminpb.State_STATE_PAUSED, "manual", "by anna: repairs"))
	add("orders", 1, 4, func(p *adminpb.Partition) {
		in(adminpb.State_STATE_RETRYING, "target-error", "broker 1 of us: connection refused")(p)
		p.Attempts, p.NextTry, p.HeadroomSeconds, p.HeadroomBytes = 10+p.Partition, timestamppb.New(now.Add(time.Duration(p.Partition)*time.Second)), 7200, 1e9
	})
	add("orders", 5, 1, in(halted, "truncated-source", "the source lost offsets 5-9"))
	add("orders", 7, 1, in(halted, "truncated-source", "the source lost offsets 6-8"))
	add("orders", 8, 1, in(running, "stuck-transaction", "producer 7 of app-1 holds the last stable offset at 5"))
	add("orders", 9, 1, func(p *adminpb.Partition) {
		p.State, p.Cause, p.Reason, p.HeadroomSeconds, p.HeadroomBytes = running, "near-retention", "600 s are left", 600, 5e6
	})
	add("orders", 10, 1, func(p *adminpb.Partition) { p.State, p.HeadroomSeconds, p.HeadroomBytes = running, 86400, 5e9 })
	add("orders", 11, 1, in(adminpb.State_STATE_FINDING, "", ""))
	add("orders", 12, 2, in(adminpb.State_STATE_YIELDED, "", "an older node: node us-1 copies it"))
	for _, topic := range []string{"p1", "p2", "p3", "p4", "p5"} {
		add(topic, 0, 2, in(adminpb.State_STATE_WAITING, "waiting-for-topic", "partition is not there on both clusters"))
	}
	add("q", 0, 1, in(halted, "a-cause-of-tomorrow", "something new"))
	add("q", 1, 1, in(adminpb.State(77), "", "a state of tomorrow"))
	return &adminpb.StatusResponse{Node: &adminpb.Node{Name: "eu-1", Started: timestamppb.New(now.Add(-time.Hour)), Now: timestamppb.New(now)}, Links: []*adminpb.Link{l}}
}

// TestStatusTable_Troubles: each trouble has one note, the worst first, with since when, what is tried, and what people can do.
func TestStatusTable_Troubles(t *testing.T) {
	st := sick(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	golden(t, "status-troubles", statusView{}.table(st, nil)+"----\n"+statusView{link: "eu-us", brief: true}.table(st, nil))
}

func TestStatusTable_EveryCauseHasARemedyAndAChapter(t *testing.T) {
	text, err := os.ReadFile("../../" + troublesDoc)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range mirror.Causes {
		r, ok := remedies[string(c)]
		if !ok || r.itself == "" || r.command == "" {
			t.Errorf("cause %s has no remedy in status", c)
		}
		_, chapter, found := strings.Cut(string(text), "\n### "+string(c)+"\n")
		chapter, _, _ = strings.Cut(chapter, "\n##")
		for _, part := range []string{"**Means**", "**By itself**", "**Ledger**", "**Do**"} {
			if !found || !strings.Contains(chapter, part) {
				t.Errorf("%s has no chapter ### %s with %s", troublesDoc, c, part)
			}
		}
	}
	if len(remedies) != len(mirror.Causes) {
		t.Errorf("there are %d remedies for %d causes", len(remedies), len(mirror.Causes))
	}
}
