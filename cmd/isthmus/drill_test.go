package main

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/admin/drill"
)

// practised are drills that were noted.
func practised() *adminpb.DrillsResponse {
	return &adminpb.DrillsResponse{Drills: []*adminpb.Drill{
		{Id: "20260304T115000Z-7f3a", Router: "shop", Mode: "failover", From: "eu", To: "us", Verdict: "fail", Began: ago(10 * 60e9), Ended: ago(9 * 60e9), RtoSeconds: 6.9, RpoRecords: 412, RpoSeconds: 1.8, Failure: "no write was acknowledged for 6.9 s", By: "ana", Why: "monthly"},
		{Id: "20260204T115000Z-01ab", Router: "shop", Set: "fast", Mode: "switchover", From: "eu", To: "us", Verdict: "pass", Began: ago(700 * 3600e9), Ended: ago(699 * 3600e9), RtoSeconds: 0.31, By: "bob"},
	}}
}

// unlike are what is another one each time in what is printed.
var unlike = regexp.MustCompile(`id=\S+ at=\S+|after \d+\.\d s|"id":"[^"]+"|"(?:began|ended)":"[^"]+"`)

// TestDrill_PlansAndHistory: what a drill would do, what forbids it, and which were done.
func TestDrill_PlansAndHistory(t *testing.T) {
	f := serve(t)
	f.moves = moving
	f.answer("Ready", readiness)
	f.on("Nodes", members(), nil)
	f.answer("Drills", func(m proto.Message) (proto.Message, error) {
		if m.(*adminpb.DrillsRequest).GetRouter() == "new" {
			return &adminpb.DrillsResponse{}, nil
		}
		return practised(), nil
	})
	text := f.session(t, "drill plan shop --to us --back", "drill plan late --set fast --to us --mode failover --accept-loss 400", "drill plan late --to us --mode failover --accept-loss 412",
		"drill plan lost --to us --mode failover", "drill plan shop --mode failback --stay", "drill plan refused --to us", "drill switchover shop --to us", "drill switchover refused --to us --yes",
		"drill history shop", "drill history new", "drill history shop --json", "drill history shop --limit 0",
		"drill plan shop", "drill plan shop --to us --mode party", "drill failover shop --to us --accept-loss -1 --rto 0s", "drill switchover shop --to us --client /nowhere/door.toml --yes")
	golden(t, "verb-drill", unlike.ReplaceAllString(text, "…"))
}

// TestDrill_Rehearse: what was tried, and what came of it; the fabric keeps it.
func TestDrill_Rehearse(t *testing.T) {
	f := serve(t)
	f.answer("Ready", readiness)
	f.answer("NoteDrill", func(m proto.Message) (proto.Message, error) {
		return &adminpb.NoteDrillResponse{Drill: m.(*adminpb.NoteDrillRequest).GetDrill()}, nil
	})
	f.answer("Rehearse", func(m proto.Message) (proto.Message, error) {
		r := &adminpb.RehearseResponse{From: "eu", To: "us", Checks: switchChecks(), Shadowed: true, Records: 300, Steps: []*adminpb.RehearseStep{{Name: "checks", Seconds: 0.2}, {Name: "mirror", Seconds: 0.04, Part: true}}}
		if m.(*adminpb.RehearseRequest).GetRouter() == "late" {
			r.Shadowed, r.Records, r.Failures = false, 0, []string{"instances: eu-2 does not answer"}
		}
		return r, nil
	})
	text := f.session(t, "drill rehearse shop --to us --why weekly", "drill rehearse late --set fast --to us --shadow ops.shadow", "drill rehearse shop")
	golden(t, "verb-drill-rehearse", unlike.ReplaceAllString(text, "…"))
}

// TestDrill_JSON: one document and nothing else.
func TestDrill_JSON(t *testing.T) {
	f := serve(t)
	f.moves = moving
	f.answer("Ready", readiness)
	f.on("Nodes", members(), nil)
	for _, line := range []string{"drill plan shop --to us --json", "drill switchover refused --to us --yes --json"} {
		_, out, _ := f.command(t, line)
		var r drill.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || strings.Count(out, "\n") != 1 || r.Version != drill.Version || r.From != "eu" || len(r.Checks) < 4 {
			t.Errorf("%s: %v, %s", line, err, out)
		}
	}
	if code, out, _ := f.command(t, "drill switchover shop --to us --json"); code != exitRefused || out != "" {
		t.Errorf("without a yes: exit %d, %s", code, out)
	}
}

// TestDrill_Doors: the canary goes where clients of the set are sent, and not to what is not there.
func TestDrill_Doors(t *testing.T) {
	res := &adminpb.RoutersResponse{Routers: []*adminpb.Router{
		{Slots: []*adminpb.RouterSlot{{Address: "b:1", There: true, Live: true}, {Address: "a:1", There: true, Live: true}, {Address: "c:1", There: true}, {Address: "d:1", Live: true}, {Address: "e:1", There: true, Live: true, Set: "fast"}}},
		{Slots: []*adminpb.RouterSlot{{Address: "a:1", There: true, Live: true}}},
	}}
	for set, want := range map[string]string{"": "a:1 b:1", "fast": "e:1"} {
		if got := strings.Join(doorsOf(res, set), " "); got != want {
			t.Errorf("set %q: got %s, want %s", set, got, want)
		}
	}
}

// TestDrill_Client: a file says how clients come through the door.
func TestDrill_Client(t *testing.T) {
	file := writeFile(t, "door.toml", "[fabric]\nname = \"door\"\n[[cluster]]\nname = \"door\"\nbootstrap = [\"kafka.shop:9092\"]\n")
	if p, err := clientProfile(file); err != nil || len(p.Bootstrap) != 1 || p.Bootstrap[0] != "kafka.shop:9092" {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := clientProfile(writeFile(t, "two.toml", minimal)); err == nil || !strings.Contains(err.Error(), "it needs one") {
		t.Errorf("got %v", err)
	}
}

// TestDrill_Asks: nothing is begun without a yes of somebody who has seen the plan.
func TestDrill_Asks(t *testing.T) {
	f := serve(t)
	f.moves = moving
	f.answer("Ready", readiness)
	f.on("Nodes", members(), nil)
	var out, errs output
	code := run(context.Background(), []string{"drill", "switchover", "shop", "--to", "us", "--addr", f.address}, terminal{in: strings.NewReader("n\n"), out: &out, err: &errs, env: func(string) string { return "" }, person: true})
	if code != exitRefused || !strings.Contains(errs.String(), "[y/N]") || !strings.Contains(out.String(), "switchover from eu to us") {
		t.Errorf("exit %d, %q, %q", code, &out, &errs)
	}
	for _, asked := range f.requests() {
		if strings.Contains(asked, `"dry_run":false`) {
			t.Errorf("it asked %s", asked)
		}
	}
}
