package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// TestAddNews: what is not told stays, a step begins when it is first told, and what it waits for goes with it.
func TestAddNews(t *testing.T) {
	begin := time.Unix(1000, 0)
	all := &adminpb.SwitchProgress{From: "eu", To: "us", Generation: 2}
	for i, m := range []*adminpb.SwitchProgress{
		{Step: "preflight", Doing: "asks eu", Id: "x"},
		{Step: "preflight", Checks: []*adminpb.SwitchCheck{{Name: "lag", Ok: true}}},
		{Step: "hold"},
		{GapSeconds: 0.5, Tail: &adminpb.SwitchTail{Records: 4}},
		{Step: "idle", Outcome: "committed", Generation: 3, At: timestamppb.New(begin.Add(9 * time.Second))},
	} {
		addNews(all, m, begin.Add(time.Duration(i)*time.Second))
		switch i {
		case 1:
			if all.GetDoing() != "asks eu" || all.GetSteps()[0].GetSeconds() != 1 {
				t.Errorf("in its first step: %v", all)
			}
		case 2:
			if all.GetDoing() != "" {
				t.Errorf("in its second step it still %s", all.GetDoing())
			}
		}
	}
	if all.GetGeneration() != 3 || all.GetId() != "x" || len(all.GetChecks()) != 1 || all.GetGapSeconds() != 0.5 || len(all.GetSteps()) != 2 || all.GetTail().GetRecords() != 4 || all.GetSteps()[0].GetSeconds() != 2 ||
		all.GetSteps()[1].GetSeconds() != 7 || !all.GetBegan().AsTime().Equal(begin) {
		t.Errorf("%v", all)
	}
}

// TestSendable: what is told can be sent, and what forbids the switch is not what is left out.
func TestSendable(t *testing.T) {
	m := &adminpb.SwitchProgress{Why: strings.Repeat("a", 1<<20), Doing: "\xff"}
	for i := range 10_000 {
		m.Checks = append(m.Checks, &adminpb.SwitchCheck{Name: "topic", Ok: i != 9_999, Text: strings.Repeat("\xff", 1<<10)})
		m.Standings = append(m.Standings, &adminpb.SwitchStanding{Node: fmt.Sprint(i)})
	}
	got := sendable(m)
	if _, err := proto.Marshal(got); err != nil || proto.Size(got) > 4<<20 {
		t.Errorf("%d bytes, %v", proto.Size(got), err)
	}
	if n := len(got.GetChecks()); n != maxSwitchChecks+1 || got.GetChecks()[0].GetOk() || !strings.Contains(got.GetChecks()[n-1].GetText(), "9800 more") {
		t.Errorf("%d checks, the first %v, the last %v", n, got.GetChecks()[0].GetOk(), got.GetChecks()[n-1])
	}
	if n := len(got.GetStandings()); n != maxSwitchStandings+1 {
		t.Errorf("%d standings", n)
	}
	if len(m.GetChecks()) != 10_000 || m.GetDoing() != "\xff" {
		t.Error("it changed what it was given")
	}
}

// FuzzTale: whatever is told, in whatever order, there is an end with an outcome, of a size that can be sent.
func FuzzTale(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5}, "hold", "committed", int64(7), false)
	f.Add([]byte{5, 5, 0}, "idle", "", int64(-1), true)
	f.Fuzz(func(t *testing.T, order []byte, step, text string, n int64, dry bool) {
		now := time.Unix(0, 0)
		tale := newTale(&adminpb.SwitchProgress{DryRun: dry}, nil, func() time.Time { now = now.Add(time.Second); return now })
		for _, b := range order {
			m := &adminpb.SwitchProgress{}
			switch b % 6 {
			case 0:
				m.Step = step
			case 1:
				m.Step, m.Doing = fmt.Sprint(b), text
			case 2:
				m.Outcome, m.Why = text, step
			case 3:
				m.Checks = []*adminpb.SwitchCheck{{Name: text, Ok: b&8 == 0}}
			case 4:
				m.Generation, m.GapSeconds, m.At = n, float64(n), &timestamppb.Timestamp{Seconds: n}
			case 5:
				m.Step = "idle"
			}
			if err := tale.tell(m); err != nil {
				t.Fatal(err)
			}
		}
		last, err := tale.end(nil, "token")
		if err != nil || last.GetOutcome() == "" || last.GetStep() != "idle" || len(last.GetSteps()) > maxSwitchSteps || proto.Size(last) > 1<<20 {
			t.Errorf("%v, %v", last, err)
		}
		if (last.GetConfirm() != "") != (dry && last.GetOutcome() == "ready") {
			t.Errorf("%v has the token %q", last.GetOutcome(), last.GetConfirm())
		}
		for _, s := range last.GetSteps() {
			if s.GetSeconds() < 0 {
				t.Errorf("step %v", s)
			}
		}
		if _, err := proto.Marshal(last); err != nil {
			t.Error(err)
		}
	})
}
