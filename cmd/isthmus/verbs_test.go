package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// members are nodes with every trouble.
func members() *adminpb.NodesResponse {
	alive, dead, left := adminpb.MemberStatus_MEMBER_STATUS_ALIVE, adminpb.MemberStatus_MEMBER_STATUS_DEAD, adminpb.MemberStatus_MEMBER_STATUS_LEFT
	fine := []*adminpb.Reach{{Cluster: "eu", Reads: true, Writes: true, RttSeconds: 0.001}, {Cluster: "us", Reads: true, Writes: true, RttSeconds: 0.08}}
	return &adminpb.NodesResponse{Node: theNode(), Sequencer: "eu-1", SkewSeconds: 3600, Members: []*adminpb.Member{
		{Name: "eu-1", Status: alive, Since: ago(2 * time.Hour), Dc: "frankfurt", Version: "v1", Gossip: "10.0.0.1:7946", Grpc: "10.0.0.1:7071",
			Http: "10.0.0.1:7070", Ready: true, Capacity: 1, BytesPerSecond: 1.5e6, Owned: 12, FileHash: "aa", ConfigHash: "0123456789abcdef", Reach: fine},
		{Name: "eu-2", Status: alive, Since: ago(time.Minute), Dc: "frankfurt", Version: "v1", Grpc: "10.0.0.2:7071", Ready: true, Draining: true,
			Capacity: 2.5, ConfigHash: "fedcba9876543210", Divergent: true, Reach: []*adminpb.Reach{
				{Cluster: "eu", Reads: true, Trouble: "produce: timed out"}, {Cluster: "us", Trouble: "connect: refused"}}},
		{Name: "us-1", Status: alive, Since: ago(time.Second), Dc: "virginia", Capacity: 1, Crashes: 2, Reach: []*adminpb.Reach{{Cluster: "us", Writes: true, Trouble: "fetch: timed out"}}},
		{Name: "us-2", Status: dead, Since: ago(4 * time.Second), Dc: "virginia", Capacity: 1, Reach: []*adminpb.Reach{{Cluster: "us", Trouble: "old news"}}},
		{Name: "us-3", Status: left, Since: ago(time.Hour)},
	}}
}

func owners() *adminpb.OwnersResponse {
	running := adminpb.State_STATE_RUNNING
	return &adminpb.OwnersResponse{Node: theNode(), Owners: []*adminpb.Owner{
		{Link: "eu-us", Topic: "orders", Partition: 0, Owner: "us-1", Why: "nearest to us", Copies: []string{"us-1"}, State: running},
		{Link: "eu-us", Topic: "orders", Partition: 1, Owner: "us-2", Why: "pinned by the balancer", Copies: []string{"us-1", "us-2"}, State: running, Pinned: true},
		{Link: "eu-us", Topic: "orders", Partition: 2, Why: "no node reaches both ends", State: adminpb.State_STATE_ELSEWHERE},
	}, Unanswered: []*adminpb.Unanswered{{Node: "eu-2", Trouble: "dead for 4s"}}}
}

func settings() *adminpb.SettingsResponse {
	return &adminpb.SettingsResponse{FileHash: "aa", ConfigHash: "bb", Settings: []*adminpb.Setting{
		{Key: "link/eu-us/topics", Value: `["orders", "payments-*", "` + strings.Repeat("long-", 20) + `"]`, Version: "1772625540000.0@eu-1",
			At: ago(time.Minute), Author: "anna", Reason: "payments\ngo over too"},
		{Key: "link/eu-mars/topics", Value: `["*"]`, Version: "1772625541000.0@us-1", At: ago(time.Second), Author: "ben", Trouble: "there is no link eu-mars"},
	}}
}

func history() *adminpb.HistoryResponse {
	return &adminpb.HistoryResponse{Changes: []*adminpb.PastChange{
		{Number: 1, Version: "1772625542000.0@eu-1", At: ago(time.Second), Author: "anna", Undoes: "1772625541000.0@us-1", Reason: "was wrong",
			Entries: []*adminpb.PastEntry{{Key: "log/level", Unset: true, Counts: true}}},
		{Number: 2, Version: "1772625541000.0@us-1", At: ago(time.Minute), Author: "ben", Conflict: "wrote over 1772625540500.0@eu-1 of anna, and won",
			Entries: []*adminpb.PastEntry{{Key: "log/level", Value: `"debug"`}}},
		{Number: 3, Version: "1772625540000.0@eu-1", At: ago(time.Hour), Author: "anna", Reason: "more topics",
			Entries: []*adminpb.PastEntry{{Key: "link/eu-us/topics", Value: `["a"]`}, {Key: "link/us-eu/topics", Value: `["a"]`}, {Key: "stay", Value: "[]"}}},
	}}
}

func TestAsk_TablesAndJSON(t *testing.T) {
	f := serve(t)
	f.on("Nodes", members(), nil)
	f.on("Owners", owners(), nil)
	f.on("Settings", settings(), nil)
	f.on("History", history(), nil)
	f.on("Export", &adminpb.ExportResponse{File: "[fabric]\nname = \"shop\"\n", ConfigHash: "bb"}, nil)
	f.ledger = []*adminpb.LedgerEntry{
		{Link: "eu-us", Topic: "orders", Partition: 3, First: 10, Last: 19, Records: 10, Reason: "behind-retention", Detail: "deleted at the source", At: ago(time.Minute), Writer: "us-1/0a"},
		{Link: "eu-us", Topic: "payments", Partition: 0, First: 7, Last: 7, Records: 1, Reason: "dead-letter", Detail: "key 'k': 3 MB, the target takes 1 MB",
			At: ago(time.Second), Writer: "us-1/0a", Policy: "dead-letter", Digest: "0123456789abcdef0123456789abcdef"},
		{Link: "us-eu", Topic: "orders", Partition: 1, First: 0, Last: 99, Records: -1, Reason: "behind-retention", Detail: "before the first look", At: ago(0), Writer: "eu-1/0b"},
		{Unanswered: []*adminpb.Unanswered{{Node: "us-2", Trouble: "dead for 4s"}}},
	}
	st := statusAt(noon, 6000)
	st.Links[0].Flows[0].Partitions[0].Node, st.Links[0].Flows[0].Partitions[0].Also = "us-1", []string{"us-2"}
	st.Unanswered = []*adminpb.Unanswered{{Node: "us-2", Trouble: "timed out"}}
	f.on("Status", st, nil)
	f.on("Drift", drifts(), nil)
	f.on("Groups", groupsOf(), nil)
	f.on("TranslateGroup", translatedGroup(), nil)
	f.on("Translate", &adminpb.TranslateResponse{From: "eu", To: "us", Topic: "orders", As: "eu.orders", Partition: 3, Offset: 7, Result: 9}, nil)
	for name, lines := range map[string][]string{
		"nodes":    {"nodes", "nodes --json"},
		"owners":   {"owners", "owners eu-us orders --json"},
		"settings": {"settings", "settings link.eu-us --json"},
		"history":  {"history", "history --limit 3 --json", "history --limit 0"},
		"export":   {"export", "export --json"},
		"ledger": {"ledger", "ledger eu-us --json", "ledger --topic 'pay*'", "ledger --reason behind-retention,skipped --json", "ledger --since 2026-03-04T11:59:30Z",
			"ledger --topic mars", "ledger --topic '~(' --since yesterday"},
		"drift":           {"drift eu-us", "drift eu-us --json", "drift"},
		"fabric":          {"status", "status eu-us", "status --local", "status us-eu --json"},
		"groups":          {"groups", "groups eu-us --group shop --partitions", "groups --json", "groups eu-us us-eu"},
		"translate":       {"translate eu-us orders:3@7", "translate eu-us orders:3@7 --reverse --json"},
		"translate-group": {"translate eu-us --group shop", "translate eu-us --group shop --reverse --json", "translate eu-us orders:3@7 --group shop", "translate eu-us"},
	} {
		t.Run(name, func(t *testing.T) { golden(t, "verb-"+name, f.session(t, lines...)) })
	}
}

func TestAsk_NothingThere(t *testing.T) {
	f := serve(t)
	f.on("Owners", &adminpb.OwnersResponse{}, nil)
	f.on("Settings", &adminpb.SettingsResponse{}, nil)
	f.on("History", &adminpb.HistoryResponse{}, nil)
	f.ledger = []*adminpb.LedgerEntry{{Unanswered: []*adminpb.Unanswered{{Node: "us-2", Trouble: "dead for 4s"}}}}
	f.on("Drift", &adminpb.DriftResponse{Node: "eu-1"}, nil)
	f.on("Groups", &adminpb.GroupsResponse{}, nil)
	f.on("TranslateGroup", &adminpb.TranslateGroupResponse{Link: "eu-us", Group: "shop", From: "eu", To: "us"}, nil)
	f.on("Retry", &adminpb.RetryResponse{Unanswered: []*adminpb.Unanswered{{Node: "us-2", Trouble: "dead for 4s"}}}, nil)
	golden(t, "verb-nothing", f.session(t, "owners", "settings", "history", "ledger", "drift eu-us", "retry eu-us",
		"groups", "translate eu-us --group shop"))
}

// planned answers a write: the plan first, and what was written then.
func planned(confirm string) func(proto.Message) (proto.Message, error) {
	return func(req proto.Message) (proto.Message, error) {
		plan := &adminpb.WriteResponse{Plan: []string{"link eu-us: topics [\"orders\"] -> [\"orders\", \"audit\"]"},
			Touched: []*adminpb.Touched{{Link: "eu-us", Topic: "audit", Partitions: []int32{0, 1, 2, 5, 7, 8}}}}
		fields := req.ProtoReflect()
		if fields.Get(fields.Descriptor().Fields().ByName("dry_run")).Bool() {
			plan.DryRun, plan.Confirm = true, confirm
			return plan, nil
		}
		if c := fields.Descriptor().Fields().ByName("confirm"); c != nil && fields.Get(c).String() != confirm {
			return nil, status.Errorf(codes.FailedPrecondition, "confirm: the plan is another one now; ask for a dry run again")
		}
		plan.Version, plan.Note = "1772625600000.0@eu-1", "written without eu-2, which orders changes"
		return plan, nil
	}
}

func TestChange_PlansRequestsAndJSON(t *testing.T) {
	f := serve(t)
	for _, method := range []string{"Pause", "Resume", "Set", "Unset"} {
		f.answer(method, planned(""))
	}
	for _, method := range []string{"Drain", "Undo", "Apply"} {
		f.answer(method, planned("3f9ac1d2"))
	}
	f.on("Diff", &adminpb.WriteResponse{DryRun: true}, nil)
	f.on("Retry", &adminpb.RetryResponse{Tried: 4}, nil)
	f.answer("Anchor", anchoring)
	for name, lines := range map[string][]string{
		"pause": {"pause eu-us", "pause eu-us orders:3,1,3 --why 'being repaired' --for 90m --json", "pause eu-us '~^a:b$'", "pause eu-us 'audit-*' --dry-run",
			"pause eu-us orders:", "pause eu-us :1", "pause eu-us orders:-1", "pause eu-us ''", "pause eu-us --for -1s"},
		"resume": {"resume eu-us", "resume eu-us orders:3 --json --why done", "resume eu-us orders:x"},
		"set": {"set link.eu-us.topics '[\"orders\", \"audit\"]' --why 'audit too'", "set log.level debug --json", "set log/level --dry-run '\"debug\"'",
			"set link/eu-us/topics '[oops' --base 1772625540000.0@eu-1"},
		"unset": {"unset link.eu-us.topics --why x", "unset log/level --json --dry-run"},
		"retry": {"retry eu-us", "retry eu-us orders:3,1 --why 'it is back' --json", "retry eu-us orders:", "retry"},
		"anchor": {"anchor eu-us orders:3 --at end --why 'not wanted'", "anchor eu-us orders:3 --at 120 --why w --dry-run", "anchor eu-us orders:3 --at start --why w --dry-run --json",
			"anchor eu-us orders:3 --at end --why w --confirm 3f9ac1d2e0@120", "anchor eu-us orders:3 --at end --why w --yes", "anchor eu-us orders:3 --at end --why w --confirm 00@1",
			"anchor '' orders --at -5", "anchor eu-us orders:3,4 --why ' '", "anchor eu-us orders"},
		"drain": {"drain eu-1", "drain eu-1 --dry-run", "drain eu-1 --dry-run --json", "drain eu-1 --dry-run --confirm 3f9ac1d2", "drain eu-1 --confirm 3f9ac1d2 --why 'new disks'", "drain eu-1 --confirm 00000000",
			"drain eu-1 --yes --json", "drain eu-1 --undo --yes"},
		"undo":  {"undo 1 --yes", "undo 1772625541000.0@us-1 -y --why 'no' --json", "undo 0", "undo 99999999999"},
		"apply": {"diff testdata/new.toml", "diff testdata/new.toml --json", "apply testdata/new.toml", "apply testdata/new.toml --json", "apply testdata/new.toml --yes", "apply testdata/gone.toml", "apply -"},
	} {
		t.Run(name, func(t *testing.T) { golden(t, "verb-"+name, f.session(t, lines...)) })
	}
}

// TestPause_OfWhatIsNotThereYet: it counts for what comes, and says so, for the name may be a wrong one.
func TestPause_OfWhatIsNotThereYet(t *testing.T) {
	f := serve(t)
	f.on("Pause", &adminpb.WriteResponse{Plan: []string{"pause eu-us orders/99: {}"}, Version: "1772625600000.0@eu-1"}, nil)
	for _, line := range []string{"pause eu-us orders:99", "pause eu-us 'not-yet-*' --for 2h"} {
		code, out, errs := f.command(t, line)
		if code != exitOK || !strings.Contains(out, "only those to come\ndone;") || errs != "" {
			t.Errorf("%s: exit %d, %q, %q", line, code, out, errs)
		}
	}
	f.on("Pause", &adminpb.WriteResponse{}, nil)
	if code, out, _ := f.command(t, "pause eu-us"); code != exitOK || strings.Contains(out, "to come") {
		t.Errorf("of what is paused already: exit %d, %q", code, out)
	}
}

// TestConfirm_AsksAPerson: only a yes writes; the plan is told once.
func TestConfirm_AsksAPerson(t *testing.T) {
	for _, tc := range []struct {
		typed  string
		writes bool
	}{{"y\n", true}, {"YES\n", true}, {"n\n", false}, {"\n", false}, {"", false}, {"yesterday\n", false}} {
		f := serve(t)
		f.answer("Drain", planned("3f9ac1d2"))
		var out, errs output
		code := run(t.Context(), []string{"drain", "eu-1", "--addr", f.address}, terminal{
			in: strings.NewReader(tc.typed), out: &out, err: &errs, env: func(string) string { return "" }, person: true})
		asked := f.requests()
		switch {
		case !strings.Contains(errs.String(), "[y/N]") || strings.Count(out.String(), "link eu-us: topics") != 1:
			t.Errorf("%q: want one plan and one question; output %q, error stream %q", tc.typed, &out, &errs)
		case tc.writes && (code != exitOK || len(asked) != 2 || !strings.Contains(asked[1], `"confirm":"3f9ac1d2","dry_run":false`) || !strings.Contains(out.String(), "done;")):
			t.Errorf("%q: exit %d, asked %q, output %q; want a write with the token", tc.typed, code, asked, &out)
		case !tc.writes && (code != exitRefused || len(asked) != 1 || !strings.Contains(errs.String(), "nothing was changed")):
			t.Errorf("%q: exit %d, asked %q, %q; want nothing written", tc.typed, code, asked, &errs)
		}
	}
}

func TestChange_ExitCodes(t *testing.T) {
	for _, tc := range []struct {
		code codes.Code
		exit int
	}{
		{codes.NotFound, exitFailed}, {codes.InvalidArgument, exitUsage}, {codes.Unauthenticated, exitRefused}, {codes.PermissionDenied, exitRefused},
		{codes.FailedPrecondition, exitRefused}, {codes.Aborted, exitConflict}, {codes.Unavailable, exitUnreachable}, {codes.Internal, exitFailed},
	} {
		f := serve(t)
		for _, method := range []string{"Nodes", "Owners", "Status", "Settings", "History", "Export", "Diff", "Pause", "Resume", "Drain", "Set", "Unset", "Undo", "Apply", "RotateKey", "Translate", "Retry", "Anchor", "Drift", "Groups", "TranslateGroup"} {
			f.on(method, nil, status.Error(tc.code, "the node's own words"))
		}
		for _, line := range []string{"nodes", "owners", "status", "settings", "history", "export", "diff testdata/new.toml", "pause eu-us", "resume eu-us", "drain eu-1",
			"set log.level debug", "unset log.level", "undo 1", "apply testdata/new.toml", "rotate-key", "translate eu-us a:0@1",
			"retry eu-us", "anchor eu-us a:0 --at end --why w", "drift eu-us", "groups", "translate eu-us --group shop"} {
			code, out, errs := f.command(t, line)
			if code != tc.exit || out != "" || !strings.Contains(errs, "the node's own words") {
				t.Errorf("%s answered with %s: exit %d, want %d; output %q, error stream %q", line, tc.code, code, tc.exit, out, errs)
			}
		}
	}
}

func TestRotate(t *testing.T) {
	f := serve(t)
	f.answer("RotateKey", func(req proto.Message) (proto.Message, error) {
		r := req.(*adminpb.RotateKeyRequest)
		res := &adminpb.RotateKeyResponse{Plan: []string{"a new gossip key for eu-1, us-1"}, DryRun: r.GetDryRun()}
		if r.GetDryRun() {
			res.Confirm = "aa11bb22"
			return res, nil
		}
		res.Nodes = []*adminpb.KeyOutcome{{Node: "eu-1", Installed: true, Used: true, Removed: true}, {Node: "us-1", Installed: true, Used: true, Removed: true}}
		if !r.GetResume() {
			res.Nodes[0].Removed, res.Nodes[1], res.Unfinished = false, &adminpb.KeyOutcome{Node: "us-1", Trouble: "timed out"}, true
		}
		return res, nil
	})
	golden(t, "verb-rotate-key", f.session(t, "rotate-key --why 'somebody left'", "rotate-key --dry-run", "rotate-key --yes", "rotate-key --yes --json", "rotate-key --resume --yes"))
}

func TestWatch(t *testing.T) {
	f := serve(t)
	member, running := adminpb.EventKind_EVENT_KIND_MEMBER, adminpb.State_STATE_RUNNING
	f.events = []*adminpb.Event{
		{Kind: member, At: timestamppb.New(noon), Node: "us-1", Status: adminpb.MemberStatus_MEMBER_STATUS_DEAD, Partition: -1, Text: "it stopped answering"},
		{Kind: adminpb.EventKind_EVENT_KIND_OWNER, At: timestamppb.New(noon), Node: "us-2", Link: "eu-us", Topic: "orders", Partition: 3, Text: "us-1 is dead"},
		{Kind: adminpb.EventKind_EVENT_KIND_SETTING, At: timestamppb.New(noon), Key: "log/level", Value: `"debug"`, Version: "1772625600000.0@eu-1", Partition: -1},
		{Kind: adminpb.EventKind_EVENT_KIND_STATE, At: timestamppb.New(noon), Node: "eu-1", Link: "us-eu", Topic: "orders", Partition: 0, State: running},
		{Kind: adminpb.EventKind_EVENT_KIND_LOST, At: timestamppb.New(noon), Lost: 17, Partition: -1},
	}
	var text strings.Builder
	for _, line := range []string{"watch eu-us --kind member,owner", "watch --json"} {
		ctx, cancel := context.WithCancel(t.Context())
		var out, errs output
		ended := make(chan int, 1)
		go func() {
			ended <- run(ctx, append(words(line), "--addr", f.address), terminal{out: &out, err: &errs, env: func(string) string { return "" }})
		}()
		eventually(t, "five events of "+line, func() bool { return strings.Count(out.String(), "\n") == len(f.events) })
		cancel()
		if code := <-ended; code != exitOK || errs.String() != "" {
			t.Errorf("%s: an interrupt makes it exit %d, %q", line, code, &errs)
		}
		text.WriteString("$ isthmus " + line + "\n" + out.String() + "<- " + strings.Join(f.requests(), "\n<- ") + "\n\n")
	}
	golden(t, "verb-watch", text.String())
	if code, _, errs := f.command(t, "watch --kind weather"); code != exitUsage || !strings.Contains(errs, `"weather"`) {
		t.Errorf("exit %d, %q; want a word on the kind", code, errs)
	}
}

// TestAsk_TriesTheNextNode: of several addresses the first that answers is asked, and no other after it.
func TestAsk_TriesTheNextNode(t *testing.T) {
	f, other := serve(t), serve(t)
	f.on("Nodes", members(), nil)
	code, out, errs := f.command(t, "nodes --addr 127.0.0.1:1")
	if code != exitOK || !strings.HasPrefix(out, "as eu-1 sees it") {
		t.Errorf("exit %d, %q, %q; want the answer of the second node", code, out, errs)
	}
	f.requests()
	if code, _, errs := other.command(t, "nodes --addr "+f.address); code != exitOK || len(other.requests()) != 0 {
		t.Errorf("exit %d, %q; want the answer of the first node, and the second not asked", code, errs)
	}
	// One that knows nobody answers, too: with a refusal.
	f.on("Status", nil, status.Error(codes.Unauthenticated, "who are you?"))
	f.on("Nodes", nil, status.Error(codes.Unauthenticated, "who are you?"))
	if code, _, errs := other.command(t, "nodes --addr "+f.address); code != exitRefused || !strings.Contains(errs, "who are you?") || len(other.requests()) != 0 {
		t.Errorf("exit %d, %q; want the refusal of the first node", code, errs)
	}
	f.requests()
	var stdout, stderr output
	env := map[string]string{"ISTHMUS_ADDR": "127.0.0.1:1," + other.address}
	other.on("Nodes", members(), nil)
	if code := run(t.Context(), []string{"nodes"}, terminal{out: &stdout, err: &stderr, env: func(k string) string { return env[k] }}); code != exitOK {
		t.Errorf("exit %d, %q; want the second node of ISTHMUS_ADDR", code, &stderr)
	}
}

func TestLogin(t *testing.T) {
	f := serve(t)
	f.on("Nodes", members(), nil)
	file := writeFile(t, "token", "hush-hush\n")
	t.Setenv("MY_TOKEN", "hush-env")
	for _, tc := range []struct {
		name, args string
		env        map[string]string
		code       int
		token      string // that the node gets
		want       string // on the error stream
	}{
		{"file", "--token file:" + file, nil, exitOK, "hush-hush", ""},
		{"environment", "--token env:MY_TOKEN", nil, exitOK, "hush-env", ""},
		{"file of the environment", "", map[string]string{"ISTHMUS_TOKEN_FILE": file}, exitOK, "hush-hush", ""},
		{"literal", "--token hush-hush", nil, exitUsage, "", "--token: literal secret"},
		{"no file", "--token file:/nowhere/token", nil, exitUsage, "", "/nowhere/token"},
		{"plain text", "--token env:MY_TOKEN --addr 192.0.2.1:7071", nil, exitUsage, "", "plain text"},
		{"no CA", "--ca /nowhere/ca.pem", nil, exitUsage, "", "/nowhere/ca.pem"},
		{"no CA in the environment", "", map[string]string{"ISTHMUS_CA": "/nowhere/ca.pem"}, exitUsage, "", "/nowhere/ca.pem"},
		{"half a certificate", "--cert /nowhere/c.pem", nil, exitUsage, "", "its key's"},
		{"half a certificate in the environment", "", map[string]string{"ISTHMUS_CERT_KEY": "/nowhere/k.pem"}, exitUsage, "", "its key's"},
		{"no certificate", "--cert /nowhere/c.pem --cert-key /nowhere/k.pem", nil, exitUsage, "", "/nowhere/c.pem"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.mu.Lock()
			f.tokens = nil
			f.mu.Unlock()
			var out, errs output
			args := append([]string{"nodes", "--addr", f.address}, strings.Fields(tc.args)...)
			if strings.Contains(tc.args, "--addr") {
				args = append([]string{"nodes"}, strings.Fields(tc.args)...)
			}
			code := run(t.Context(), args, terminal{out: &out, err: &errs, env: func(k string) string { return tc.env[k] }})
			if code != tc.code || !strings.Contains(errs.String(), tc.want) || strings.Contains(out.String()+errs.String(), "hush") {
				t.Errorf("exit %d, want %d; output %q, error stream %q, want %q and no secret", code, tc.code, &out, &errs, tc.want)
			}
			if tc.token != "" && (len(f.tokens) != 1 || f.tokens[0] != "Bearer "+tc.token) {
				t.Errorf("the node got %q, want the token once", f.tokens)
			}
		})
	}
}

func TestComplete(t *testing.T) {
	f := serve(t)
	f.on("Nodes", members(), nil)
	f.on("Settings", settings(), nil)
	f.on("Status", statusAt(noon, 1), nil)
	f.on("Groups", groupsOf(), nil)
	f.ledger = []*adminpb.LedgerEntry{{Reason: "behind-retention"}, {Reason: "behind-retention"}, {Unanswered: []*adminpb.Unanswered{{Node: "us-2"}}}}
	for _, tc := range []struct{ line, want string }{
		{"status ''", "eu-us us-eu"},
		{"ledger u", "us-eu"},
		{"pause ''", "eu-us us-eu"},
		{"pause us-eu ''", "audit orders"},
		{"owners us-eu o", "orders"},
		{"drain eu", "eu-1 eu-2"},
		{"unset link/eu-u", "link/eu-us/topics"},
		{"drain eu-1 ''", ""},
		{"verify us-eu au", "audit"},
		{"retry us-eu ''", "audit orders"},
		{"drift us", "us-eu"},
		{"groups us", "us-eu"},
		{"groups eu-us --group s", "shop"},
		{"translate eu-us --group ''", "billing lone shop"},
		{"anchor us-eu ''", "orders:0 orders:1"},
		{"anchor us-eu orders:1 --at ''", "start end"},
		{"ledger --reason b", "behind-retention"},
		{"nodes ''", ""},
	} {
		w := words(tc.line)
		var out, errs output
		args := append([]string{"__complete", w[0], "--addr", f.address}, w[1:]...)
		run(t.Context(), args, terminal{out: &out, err: &errs, env: func(string) string { return "" }})
		lines, _, _ := strings.Cut("\n"+out.String(), "\n:") // what follows is for the shell
		if got := strings.Join(strings.Fields(lines), " "); got != tc.want {
			t.Errorf("%s: completed with %q, want %q; error stream %q", tc.line, got, tc.want, &errs)
		}
	}
	var out, errs output
	run(t.Context(), []string{"__complete", "status", "--addr", "127.0.0.1:1", ""}, terminal{out: &out, err: &errs, env: func(string) string { return "" }})
	if !strings.HasPrefix(out.String(), ":") {
		t.Errorf("a node that does not answer completes with %q, want nothing", &out)
	}
}

func TestSettingKeyAndValue(t *testing.T) {
	for key, want := range map[string]string{
		"link/eu-us/topics": "link/eu-us/topics", "link.eu-us.topics": "link/eu-us/topics", "link.eu-us": "link/eu-us", "cluster.eu.tls": "cluster/eu/tls",
		"router.r1.listen": "router/r1/listen", "drain.eu-1.example": "drain/eu-1.example", "log.level": "log/level", "stay": "stay",
		"pause.eu-us.my.topic.*": "pause/eu-us/my.topic/*", "pause.eu-us.*.1,2": "pause/eu-us/*/1,2", "pause.eu-us": "pause.eu-us", "weather.today": "weather.today",
		"pause/eu-us/a.b/*": "pause/eu-us/a.b/*",
	} {
		if got := settingKey(key); got != want {
			t.Errorf("key %q is taken for %q, want %q", key, got, want)
		}
	}
	for value, want := range map[string]string{
		`debug`: `"debug"`, `"debug"`: `"debug"`, `3`: `3`, `true`: `true`, `["a", "b"]`: `["a", "b"]`, `[a`: `[a`, `{ a = 1 }`: `{ a = 1 }`,
		`2026-03-04T12:00:00Z`: `2026-03-04T12:00:00Z`, `earliest`: `"earliest"`, `a b`: `"a b"`, ``: `""`, `a\b`: `"a\\b"`,
	} {
		if got := settingValue("link/eu-us/start", value); got != want {
			t.Errorf("value %q is taken for %q, want %q", value, got, want)
		}
	}
	for key, value := range map[string]string{"log/level": "debug", "link/eu-us": "removed", "link/eu-us/start": "absent", "stay": "x", "drain/eu-1": "present"} {
		if got := settingValue(key, value); got != value {
			t.Errorf("value %q of %s is taken for %q, want it as it is", value, key, got)
		}
	}
}

func TestRanges(t *testing.T) {
	for _, tc := range []struct {
		numbers []int32
		want    string
	}{{nil, ""}, {[]int32{4}, "4"}, {[]int32{0, 1, 2, 5, 7, 8}, "0-2,5,7-8"}} {
		if got := ranges(tc.numbers); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.numbers, got, tc.want)
		}
	}
}
