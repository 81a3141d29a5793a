package admin

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// aDrill is one that can be noted.
func aDrill() *adminpb.Drill {
	began := time.Now().Add(-time.Minute)
	return &adminpb.Drill{Id: "7f3a", Router: "shop", Mode: "switchover", From: "eu", To: "us", Verdict: "pass", Began: timestamppb.New(began), Ended: timestamppb.New(began.Add(time.Second)), RtoSeconds: 0.3, By: "somebody else"}
}

// NoteDrill keeps it.
func (n *fakeNode) NoteDrill(_ context.Context, d *adminpb.Drill) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drills = append(n.drills, d)
	return n.broken
}

// Drills are those that were noted.
func (n *fakeNode) Drills(context.Context, string) ([]*adminpb.Drill, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*adminpb.Drill(nil), n.drills...), n.broken
}

// Rehearse says that all went well.
func (n *fakeNode) Rehearse(_ context.Context, req *adminpb.RehearseRequest) (*adminpb.RehearseResponse, error) {
	return &adminpb.RehearseResponse{From: "eu", To: req.GetTo(), Shadowed: true, Records: 300}, n.fails()
}

// TestRehearse: what is asked for is checked as a switch is, and audited.
func TestRehearse(t *testing.T) {
	town := newCity()
	town.add(t, "a", newFake("a"), nil)
	c := town.client(t, "a", Login{})
	if res, err := c.Rehearse(t.Context(), &adminpb.RehearseRequest{Router: "shop", To: "us", Topic: "t", Why: "weekly"}); err != nil || res.GetNode() != "a" || res.GetRecords() != 300 {
		t.Errorf("got %v, %v", res, err)
	}
	for _, want := range []string{"verb=rehearse", `target="shop to us, planned"`, "why=weekly", `note="300 records, 0 failures"`} {
		if !strings.Contains(town.log.String(), want) {
			t.Errorf("the audit has no %s:\n%s", want, town.log)
		}
	}
	for want, req := range map[string]*adminpb.RehearseRequest{"topic: is empty": {Router: "shop", To: "us"}, "to: eu is the home": {Router: "shop", To: "eu", Topic: "t"}, "router: there is no": {Router: "mars", To: "eu", Topic: "t"}} {
		if _, err := c.Rehearse(t.Context(), req); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestDrills: what is noted is told, the newest first, with the name of who noted it; the audit has it.
func TestDrills(t *testing.T) {
	town := newCity()
	town.add(t, "a", newFake("a"), func(c *Config) { c.Access = people(t) })
	c := town.client(t, "a", Login{Token: tokenFor("operator")})
	first, second := aDrill(), aDrill()
	second.Id, second.Verdict, second.Failure, second.Set = "8a", "fail", strings.Repeat("x", 9999), "fast"
	second.Ended.Seconds++
	for _, d := range []*adminpb.Drill{second, first} {
		if got, err := c.NoteDrill(t.Context(), d); err != nil || got.GetBy() != "operator" {
			t.Fatal(got, err)
		}
	}
	res, err := c.Drills(t.Context(), "shop", 0)
	all := res.GetDrills()
	if err != nil || len(all) != 2 || all[0].GetId() != "8a" || all[1].GetId() != "7f3a" || len(all[0].GetFailure()) > 600 {
		t.Errorf("got %v, %v", all, err)
	}
	if res, err = c.Drills(t.Context(), "shop", 1); err != nil || len(res.GetDrills()) != 1 {
		t.Errorf("got %v, %v", res, err)
	}
	if _, err = c.Drills(t.Context(), "mars", 0); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{`verb=notedrill`, `target="switchover 7f3a of shop"`, `who=operator`, `note="pass: "`} {
		if !strings.Contains(town.log.String(), want) {
			t.Errorf("the audit has no %s:\n%s", want, town.log)
		}
	}
}

func TestNoteDrill_RefusesWhatIsNone(t *testing.T) {
	town := newCity()
	node := newFake("a")
	town.add(t, "a", node, nil)
	c := town.client(t, "a", Login{})
	for want, change := range map[string]func(*adminpb.Drill){
		"id: is empty":       func(d *adminpb.Drill) { d.Id = "" },
		"router: is empty":   func(d *adminpb.Drill) { d.Router = "" },
		"set: router":        func(d *adminpb.Drill) { d.Set = "slow" },
		"to: has":            func(d *adminpb.Drill) { d.To = strings.Repeat("x", 300) },
		"mode: \"party\"":    func(d *adminpb.Drill) { d.Mode = "party" },
		"verdict: \"great\"": func(d *adminpb.Drill) { d.Verdict = "great" },
		"began: it needs":    func(d *adminpb.Drill) { d.Began = nil },
		"ended: it must":     func(d *adminpb.Drill) { d.Ended.Seconds -= 100 },
		"ended: it must be":  func(d *adminpb.Drill) { d.Began.Seconds += 1e6; d.Ended.Seconds += 1e6 },
		"rto_seconds: NaN":   func(d *adminpb.Drill) { d.RtoSeconds = math.NaN() },
		"rpo_seconds: -1":    func(d *adminpb.Drill) { d.RpoSeconds = -1 },
		"rpo_records: -1":    func(d *adminpb.Drill) { d.RpoRecords = -1 },
		"why: has":           func(d *adminpb.Drill) { d.Why = strings.Repeat("x", 9999) },
	} {
		d := aDrill()
		change(d)
		if _, err := c.NoteDrill(t.Context(), d); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if len(node.drills) > 0 {
		t.Errorf("it noted %v", node.drills)
	}
}
