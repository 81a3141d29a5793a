package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

func drifts() *adminpb.DriftResponse {
	return &adminpb.DriftResponse{Node: "eu-1", Drifts: []*adminpb.Drift{
		{Link: "eu-us", Kind: "acl", Name: "User:anna read topic orders", Source: "allow", Verdict: "not authorised", Why: "us: needs ALTER on the cluster"},
		{Link: "eu-us", Kind: "partitions", Topic: "orders", Source: "12", Target: "6", Verdict: "will be set"},
		{Link: "eu-us", Kind: "topic-config", Topic: "orders", Name: "retention.ms", Source: "604800000", Target: "86400000", Verdict: "left by policy",
			Why: "sync_configs_exclude"},
	}}
}

// anchoring answers an anchor: the plan first, and what was done then.
func anchoring(req proto.Message) (proto.Message, error) {
	r := req.(*adminpb.AnchorRequest)
	res := &adminpb.AnchorResponse{Plan: []string{"the target lacks 20 records that the source still has"}, Before: 100, After: 120, Lost: 20, DryRun: r.GetDryRun(), Node: "us-1",
		Entries: []*adminpb.LedgerEntry{{Link: r.GetLink(), Topic: r.GetTopic(), Partition: r.GetPartition(), First: 100, Last: 119, Records: 20, Reason: "anchored",
			Detail: "anna: " + r.GetWhy()}}}
	switch {
	case r.GetAt() == adminpb.AnchorAt_ANCHOR_AT_START:
		res.Before, res.After, res.Lost, res.Doubled, res.Entries = -1, 0, 0, -1, nil
	case !r.GetDryRun() && r.GetConfirm() != "3f9ac1d2e0@120":
		return nil, status.Errorf(codes.FailedPrecondition, "confirm: the plan is another one now; ask for a dry run again")
	}
	if r.GetDryRun() {
		res.Confirm = "3f9ac1d2e0@120"
	}
	return res, nil
}

func TestVerify_ResultsAndExitCodes(t *testing.T) {
	same, differ, not := adminpb.VerifyVerdict_VERIFY_VERDICT_IDENTICAL, adminpb.VerifyVerdict_VERIFY_VERDICT_DIFFERENT, adminpb.VerifyVerdict_VERIFY_VERDICT_NOT_VERIFIED
	progress := &adminpb.VerifyResponse{Progress: &adminpb.VerifyProgress{Partitions: 3, Done: 1, Records: 500, Bytes: 1e6, Fraction: 0.4}}
	result := func(r *adminpb.VerifyResult) *adminpb.VerifyResponse { return &adminpb.VerifyResponse{Result: r} }
	good := result(&adminpb.VerifyResult{Topic: "orders", Partition: 0, Verdict: same, From: 0, To: 1000, TargetFrom: 50, TargetTo: 1050, Records: 990, Digest: "0123456789abcdef", Node: "us-1",
		Notes: []*adminpb.VerifyNote{{From: 500, To: 510, Records: 10, Why: "the ledger has them: behind-retention"}, {From: 900, To: 901, Records: -1, Why: "cleaned"}}})
	bad := result(&adminpb.VerifyResult{Topic: "orders", Partition: 1, Verdict: differ, From: 0, To: 17, TargetFrom: 0, TargetTo: 17, Records: 17, Digest: "abcd", Node: "us-2",
		Difference: &adminpb.Difference{Kind: "missing", SourceOffset: 17, TargetOffset: -1, Detail: "key \"k\": the target has source offset 18 here"}})
	half := result(&adminpb.VerifyResult{Topic: "audit", Partition: 0, Verdict: not, Trouble: "no node that answers copies it"})
	last := &adminpb.VerifyResponse{Unanswered: []*adminpb.Unanswered{{Node: "us-3", Trouble: "dead for 4s"}}}
	f := serve(t)
	var text strings.Builder
	for _, tc := range []struct {
		name  string
		found []*adminpb.VerifyResponse
		ends  error
		lines []string
	}{
		{"all identical", []*adminpb.VerifyResponse{progress, good}, nil, []string{"verify eu-us", "verify eu-us orders:0 --from 10 --to 1000"}},
		{"a difference", []*adminpb.VerifyResponse{progress, good, bad, half, last}, nil, []string{"verify eu-us", "verify eu-us --json"}},
		{"not all read", []*adminpb.VerifyResponse{good, half, last}, nil, []string{"verify eu-us 'a*'"}},
		{"broken off", []*adminpb.VerifyResponse{good}, status.Error(codes.Unavailable, "the node stops"), []string{"verify eu-us"}},
		{"broken off behind a difference", []*adminpb.VerifyResponse{bad}, status.Error(codes.Unavailable, "the node stops"), []string{"verify eu-us"}},
		{"too many", nil, status.Error(codes.ResourceExhausted, "node eu-1 verifies for 2 callers already"), []string{"verify eu-us"}},
		{"nonsense", nil, nil, []string{"verify eu-us orders:x --from -1 --to -1", "verify eu-us --from 5 --to 5", "verify"}},
	} {
		f.found, f.breaks = tc.found, tc.ends
		text.WriteString("# " + tc.name + "\n" + f.session(t, tc.lines...))
	}
	golden(t, "verb-verify", text.String())
}

func TestLedgerFlags(t *testing.T) {
	for _, tc := range []struct {
		since string
		want  time.Time // zero: it is wrong
	}{
		{"24h", noon.Add(-24 * time.Hour)}, {"90s", noon.Add(-90 * time.Second)}, {"2026-03-01T00:00:00+01:00", time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC)},
		{"-1h", time.Time{}}, {"24", time.Time{}}, {"noon", time.Time{}},
	} {
		f, err := ledgerFlags{since: tc.since}.parse(noon)
		if (err == nil) == tc.want.IsZero() || err == nil && !f.since.Equal(tc.want) {
			t.Errorf("--since %s: %v, %v, want %v", tc.since, f.since, err, tc.want)
		}
	}
	f, err := ledgerFlags{since: "60s"}.parse(noon)
	if err != nil || f.fits(&adminpb.LedgerEntry{At: ago(61 * time.Second)}) || !f.fits(&adminpb.LedgerEntry{At: ago(time.Minute)}) || f.all() {
		t.Errorf("it does not leave out what is older than a minute: %v", err)
	}
}

func TestBar(t *testing.T) {
	p := &adminpb.VerifyProgress{Partitions: 10, Done: 4, Records: 12345, Bytes: 9e6, Fraction: 0.5}
	for _, tc := range []struct {
		name      string
		different int
		took      time.Duration
		want      string
	}{
		{"at once", 0, 0, "[===============               ]  50%  4/10 partitions  12345 records"},
		{"later", 0, 90 * time.Second, "[===============               ]  50%  4/10 partitions  12345 records  100 kB/s  1m30s left"},
		{"with a difference", 2, time.Second, "[===============               ]  50%  4/10 partitions  12345 records  9.0 MB/s  1.0s left  2 DIFFERENT"},
	} {
		if got := barText(p, tc.different, tc.took); got != tc.want {
			t.Errorf("%s: got\n%s, want\n%s", tc.name, got, tc.want)
		}
	}
	if got := barText(&adminpb.VerifyProgress{Fraction: 7}, 0, time.Minute); !strings.HasPrefix(got, "["+strings.Repeat("=", barWidth)+"] 100%") {
		t.Errorf("too much: %s", got)
	}
	var out output
	b := bar{out: &out, live: true, now: time.Now, begun: time.Now()}
	b.show(p, 0)
	b.clear()
	if text := out.String(); !strings.HasPrefix(text, "\r[") || !strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("on a terminal: %q", text)
	}
	out = output{}
	quiet := newBar(terminal{err: &out, env: func(string) string { return "" }})
	quiet.show(p, 0)
	quiet.clear()
	if out.String() != "" {
		t.Errorf("off a terminal: %q", out.String())
	}
}
