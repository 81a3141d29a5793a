package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// in is a moment behind noon.
func in(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(noon.Add(d)) }

// switchChecks are one of each result.
func switchChecks() []*adminpb.SwitchCheck {
	return []*adminpb.SwitchCheck{
		{Name: "control", Ok: true, Text: "3 of 3 control clusters answer"},
		{Name: "lag", Ok: true, Text: "12 records are not at us yet"},
		{Name: "rebalance", Ok: true, Warning: true, Text: "group.initial.rebalance.delay.ms is 3000 at us:\ngroups wait for 3 s"},
	}
}

// switchTold is a switch after so many of its steps, of 100 ms each.
func switchTold(req *adminpb.SwitchRequest, steps ...string) *adminpb.SwitchProgress {
	m := &adminpb.SwitchProgress{Router: req.GetRouter(), Set: req.GetSet(), Kind: req.GetKind(), To: req.GetTo(), From: "eu", Node: "eu-1", DryRun: req.GetDryRun(), Began: in(0), At: in(0), Generation: 2}
	if m.GetTo() == "" {
		m.To = "us"
	}
	if !req.GetDryRun() {
		m.Id = "sw-7"
	}
	for i, name := range steps {
		at := time.Duration(i) * 100 * time.Millisecond
		if m.Step, m.At = name, in(at); name != "idle" {
			m.Steps = append(m.Steps, &adminpb.SwitchStep{Name: name, Began: in(at), Seconds: 0.1})
		}
	}
	return m
}

// moving is a node whose routers are named after how their switches end. A dry run of shop is ready.
func moving(req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress)) error {
	say := func(change func(*adminpb.SwitchProgress), steps ...string) {
		m := switchTold(req, steps...)
		change(m)
		tell(m)
	}
	checks := func(m *adminpb.SwitchProgress) { m.Checks = switchChecks() }
	end := func(outcome, why string, gap float64) func(*adminpb.SwitchProgress) {
		return func(m *adminpb.SwitchProgress) {
			checks(m)
			m.Outcome, m.Why, m.GapSeconds = outcome, why, gap
			m.Standings = []*adminpb.SwitchStanding{{Node: "eu-1", Text: "serves us"}, {Node: "eu-2", Text: "serves us"}}
		}
	}
	if req.GetConfirm() == "0000" {
		return status.Error(codes.FailedPrecondition, "a confirm token is needed: \"0000\" is not the token of what would be done now")
	}
	if req.GetRouter() == "mars" {
		return status.Error(codes.InvalidArgument, "router: there is no router \"mars\"\nto: there is no cluster \"moon\"")
	}
	say(func(*adminpb.SwitchProgress) {}, "preflight")
	if req.GetDryRun() {
		say(func(m *adminpb.SwitchProgress) {
			checks(m)
			if m.Outcome, m.Confirm = "ready", "3f9ac1d2e0"; req.GetRouter() == "refused" {
				m.Outcome, m.Confirm, m.Why = "refused", "", "lag: 9 GB are not at us yet"
				m.Checks[1] = &adminpb.SwitchCheck{Name: "lag", Text: "9 GB are not at us yet"}
			}
		}, "preflight", "idle")
		return nil
	}
	switch req.GetRouter() {
	case "refused":
		say(func(m *adminpb.SwitchProgress) {
			end("refused", "lag: 9 GB are not at us yet", 0)(m)
			m.Checks[1], m.Standings = &adminpb.SwitchCheck{Name: "lag", Text: "9 GB are not at us yet"}, nil
		}, "preflight", "idle")
	case "beaten":
		say(end("beaten", "switch sw-8 was decided", 0.2), "preflight", "prepare", "idle")
	case "aborted":
		say(end("aborted", "step mirror took longer than 20s", 20.3), "preflight", "prepare", "hold", "drain", "cut", "mirror", "rollback", "verify", "idle")
	case "unknown":
		say(end("unknown", "it is not known whether the switch is decided", 0.5), "preflight", "prepare", "hold", "commit", "idle")
	case "lost":
		say(checks, "preflight", "prepare", "hold")
		return status.Error(codes.Unavailable, "the connection is gone")
	case "early":
		return status.Error(codes.Unavailable, "the connection is gone")
	default:
		say(func(m *adminpb.SwitchProgress) { m.Doing = "eu-2 has not said that it holds" }, "preflight", "prepare", "hold")
		all := []string{"preflight", "prepare", "hold", "drain", "cut", "mirror", "commit", "release", "verify", "idle"}
		say(func(m *adminpb.SwitchProgress) { m.Doing, m.GapSeconds = "3 records to go", 0.3 }, all[:6]...)
		say(func(m *adminpb.SwitchProgress) {
			end("committed", "", 0.45)(m)
			if m.Generation = 3; req.GetKind() == adminpb.SwitchKind_SWITCH_KIND_UNPLANNED {
				m.Tail = &adminpb.SwitchTail{Records: 9, Silent: []string{"eu-2"},
					Partitions: []*adminpb.SwitchTailPartition{{Topic: "orders", Partition: 3, First: 100, End: 107}, {Topic: "bills", First: 5, End: 7}}}
			}
		}, all...)
	}
	return nil
}

func TestSwitch_OutcomesAndExitCodes(t *testing.T) {
	f := serve(t)
	f.moves = moving
	golden(t, "verb-switch", f.session(t,
		"switchover shop --to us", "switchover shop --to us --dry-run", "switchover shop --to us --yes --why 'new disks'", "switchover shop --set fast --to us --confirm 3f9ac1d2e0",
		"failover shop --to us -y", "failback shop --set fast --yes",
		"switchover refused --to us", "switchover refused --to us --yes", "switchover beaten --to us --yes", "failover aborted --to us --yes", "failover unknown --to us --yes",
		"switchover lost --to us --yes", "switchover early --to us --yes", "switchover shop --to us --confirm 0000", "switchover mars --to moon --dry-run",
		"switchover shop", "switchover '' --yes", "failback shop --to us", "failover"))
}

// TestSwitch_JSON: one document, at the end, and nothing else while it runs.
func TestSwitch_JSON(t *testing.T) {
	f := serve(t)
	f.moves = moving
	lines := []string{"switchover shop --to us --dry-run --json", "switchover shop --to us --json", "switchover shop --to us --yes --json", "failover aborted --to us --yes --json",
		"switchover lost --to us --yes --json", "switchover refused --to us --json"}
	golden(t, "verb-switch-json", f.session(t, lines...))
	for _, line := range lines {
		_, out, errs := f.command(t, line)
		if !json.Valid([]byte(out)) || strings.Count(out, "\n") != 1 || strings.Contains(errs, "+") {
			t.Errorf("%s: %q, %q; want one document and no progress", line, out, errs)
		}
	}
}

// TestSwitch_AsksAPerson: who is asked has seen the checks, and only a yes begins it, with the token.
func TestSwitch_AsksAPerson(t *testing.T) {
	for typed, code := range map[string]int{"y\n": exitOK, "n\n": exitRefused, "": exitRefused} {
		f := serve(t)
		f.moves = moving
		var out, errs output
		got := run(t.Context(), []string{"switchover", "shop", "--to", "us", "--addr", f.address}, terminal{
			in: strings.NewReader(typed), out: &out, err: &errs, env: func(string) string { return "" }, person: true})
		asked := f.requests()
		if got != code || !strings.Contains(errs.String(), "[y/N]") || !strings.Contains(out.String(), "rebalance  WARNING") {
			t.Errorf("%q: exit %d, %q, %q", typed, got, &out, &errs)
		}
		if begun := len(asked) == 2 && strings.Contains(asked[1], `"dry_run":false`) && strings.Contains(asked[1], `"confirm":"3f9ac1d2e0"`); begun != (code == exitOK) {
			t.Errorf("%q: asked %q", typed, asked)
		}
	}
}

// TestSwitch_GoesOnWhenWhoAskedIsInterrupted: who is asked again in the middle is told that nobody knows the end yet.
func TestSwitch_GoesOnWhenWhoAskedIsInterrupted(t *testing.T) {
	f := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.moves = func(req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress)) error {
		tell(switchTold(req, "preflight", "prepare", "hold"))
		<-ctx.Done()
		return nil
	}
	var out, errs output
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"switchover", "shop", "--to", "us", "--yes", "--addr", f.address}, terminal{out: &out, err: &errs, env: func(string) string { return "" }})
	}()
	eventually(t, "its third step", func() bool { return strings.Contains(errs.String(), "hold") })
	cancel()
	if code := <-ended; code != exitUnknown || !strings.Contains(out.String(), "next: isthmus router status") {
		t.Errorf("exit %d, %q, %q", code, &out, &errs)
	}
}

// TestSwitch_ErrorsOfTheNode have the codes that those of other verbs have.
func TestSwitch_ErrorsOfTheNode(t *testing.T) {
	for c, want := range map[codes.Code]int{codes.InvalidArgument: exitUsage, codes.PermissionDenied: exitRefused, codes.Unauthenticated: exitRefused, codes.FailedPrecondition: exitRefused,
		codes.ResourceExhausted: exitFailed, codes.Unavailable: exitUnreachable, codes.Internal: exitFailed} {
		f := serve(t)
		f.moves = func(*adminpb.SwitchRequest, func(*adminpb.SwitchProgress)) error {
			return status.Error(c, "the node's own words")
		}
		for _, line := range []string{"switchover shop --to us", "failover shop --to us --yes", "failback shop --dry-run"} {
			if code, out, errs := f.command(t, line); code != want || out != "" || !strings.Contains(errs, "the node's own words") {
				t.Errorf("%s answered with %s: exit %d, want %d; %q, %q", line, c, code, want, out, errs)
			}
		}
	}
}

// TestStepsShown_OnATerminal: a step that is over has its mark and time, the one under way is written over.
func TestStepsShown_OnATerminal(t *testing.T) {
	for _, tc := range []struct {
		router string
		want   []string
	}{
		{"shop", []string{"… hold        100ms  eu-2 has not said that it holds", "✓ hold        100ms", "✓ verify      100ms"}},
		{"aborted", []string{"✗ mirror      100ms", "✓ rollback    100ms"}},
		{"refused", []string{"✗ preflight   100ms"}},
		{"lost", []string{"… hold        100ms  \x1b[K\n"}},
	} {
		var out output
		s := &stepsShown{out: &out, live: true}
		_ = moving(&adminpb.SwitchRequest{Router: tc.router, To: "us"}, func(m *adminpb.SwitchProgress) { s.show(proto.CloneOf(m)) }) // how it ends is not its matter
		s.clear()
		for _, want := range tc.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q does not show %q", tc.router, &out, want)
			}
		}
		if !strings.HasSuffix(out.String(), "\n") || strings.Count(out.String(), "✓ preflight") > 1 {
			t.Errorf("%s: %q", tc.router, &out)
		}
	}
}

// TestSwitch_Completes: routers, their sets, and clusters.
func TestSwitch_Completes(t *testing.T) {
	f := serve(t)
	f.on("Routers", doors(), nil)
	f.on("Nodes", members(), nil)
	f.on("Status", statusAt(noon, 1), nil)
	for _, tc := range []struct{ line, want string }{
		{"switchover ''", "audit shop"},
		{"failback s", "shop"},
		{"switchover shop --set ''", "fast"},
		{"failover shop --to ''", "eu us"},
		{"switchover shop ''", ""},
	} {
		w := words(tc.line)
		_, out, errs := command(t.Context(), append([]string{"__complete", w[0], "--addr", f.address}, w[1:]...)...)
		lines, _, _ := strings.Cut("\n"+out, "\n:") // what follows is for the shell
		if got := strings.Join(strings.Fields(lines), " "); got != tc.want {
			t.Errorf("%s: completed with %q, want %q; %q", tc.line, got, tc.want, errs)
		}
	}
}
