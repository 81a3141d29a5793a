package admin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

const (
	atOffset = adminpb.AnchorAt_ANCHOR_AT_OFFSET
	atStart  = adminpb.AnchorAt_ANCHOR_AT_START
	atEnd    = adminpb.AnchorAt_ANCHOR_AT_END
)

func TestRetry_EveryNodeTriesWhatItCopies(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b", "c")
	c := town.client(t, "a", Login{})
	for _, tc := range []struct {
		topic      string
		partitions []int32
		want       int32
	}{{"", nil, 6}, {"*", []int32{0, 1}, 4}, {"pay*", []int32{1}, 1}, {"orders", nil, 3}} {
		res, err := c.Retry(t.Context(), &adminpb.RetryRequest{Link: "eu-us", Topic: tc.topic, Partitions: tc.partitions, Why: "it is back"})
		if err != nil || res.Tried != tc.want || len(res.Unanswered) != 0 {
			t.Errorf("%q %v: %v, %v, want %d", tc.topic, tc.partitions, res, err, tc.want)
		}
	}
	if log := town.log.String(); !strings.Contains(log, "verb=retry node=a target=\"eu-us *\" why=\"it is back\"") {
		t.Errorf("the audit of the nodes that do it does not say for whom:\n%s", log)
	}
	nodes["a"].missing = "us-eu"
	if res, err := c.Retry(t.Context(), &adminpb.RetryRequest{Link: "us-eu"}); err != nil || res.Tried != 2 {
		t.Errorf("of a link that only others know: %v, %v, want 2", res, err)
	}
	for _, req := range []*adminpb.RetryRequest{{Link: "eu-mars"}, {Link: "eu-us", Topic: "mars"}, {Link: "eu-us", Topic: "orders", Partitions: []int32{99}}} {
		if _, err := c.Retry(t.Context(), req); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v: got %v, want ErrUnknown", req, err)
		}
	}
	nodes["a"].peers = append(nodes["a"].peers, Peer{Name: "dead", Trouble: "dead since noon"})
	if res, err := c.Retry(t.Context(), &adminpb.RetryRequest{Link: "eu-us"}); err != nil || res.Tried != 6 || len(res.Unanswered) != 1 {
		t.Errorf("with a dead node: %v, %v, want it named", res, err)
	}
}

func TestAnchor_NeedsTheTokenOfWhatItDoes(t *testing.T) {
	node, c, town := one(t)
	ctx := t.Context()
	req := func(at adminpb.AnchorAt, offset int64, confirm string, dry bool) *adminpb.AnchorRequest {
		return &adminpb.AnchorRequest{Link: "eu-us", Topic: "orders", Partition: 2, At: at, Offset: offset, Why: "it was lost", Confirm: confirm, DryRun: dry}
	}
	must := func(r *adminpb.AnchorRequest) *adminpb.AnchorResponse {
		t.Helper()
		res, err := c.Anchor(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	refused := func(what string, r *adminpb.AnchorRequest) {
		t.Helper()
		if _, err := c.Anchor(ctx, r); !errors.Is(err, ErrConfirm) {
			t.Errorf("%s: got %v, want ErrConfirm", what, err)
		}
	}
	dry := must(req(atEnd, 0, "", true))
	if dry.Before != 10 || dry.After != 100 || dry.Lost != 90 || !dry.DryRun || dry.Node != "a" || len(dry.Plan) != 1 || len(dry.Entries) != 1 {
		t.Errorf("the dry run tells %v", dry)
	}
	refused("no token", req(atEnd, 0, "", false))
	refused("another token", req(atEnd, 0, "0123456789", false))
	refused("a token without its place", req(atEnd, 0, strings.Split(dry.Confirm, "@")[0], false))
	refused("the token with another place", req(atEnd, 0, strings.Replace(dry.Confirm, "@100", "@99", 1), false))
	other := req(atEnd, 0, dry.Confirm, false)
	other.Partition = 1
	refused("the token of another partition", other)
	if len(node.anchored) != 0 {
		t.Fatalf("it did %q", node.anchored)
	}

	// What came after the dry run is copied: the place is the one that was told.
	node.mu.Lock()
	node.end = 120
	node.mu.Unlock()
	if res := must(req(atEnd, 0, dry.Confirm, false)); res.After != 100 || res.Lost != 90 || res.DryRun || res.Confirm != "" || res.Node != "a" {
		t.Errorf("it did %v, want what the dry run told", res)
	}
	if want := []string{"eu-us orders:2 at 100 by anyone@bufconn: it was lost"}; !slices.Equal(node.anchored, want) {
		t.Errorf("it did %q, want %q", node.anchored, want)
	}
	// The same again is another thing: it begins elsewhere.
	refused("the token of before", req(atEnd, 0, dry.Confirm, false))
	back := must(req(atOffset, 40, "", true))
	if back.Doubled != 60 || back.Confirm == dry.Confirm {
		t.Errorf("going back tells %v", back)
	}
	must(req(atOffset, 40, back.Confirm, false))
	start := must(req(atStart, 0, "", true))
	must(req(atStart, 0, start.Confirm, false))
	if len(node.anchored) != 3 || !strings.Contains(node.anchored[2], "at 5 ") {
		t.Errorf("it did %q", node.anchored)
	}
	if _, err := c.Anchor(ctx, req(atOffset, 1000, "", true)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "offset: 1000 is behind the end") {
		t.Errorf("behind the end: %v, want a word on the offset", err)
	}
	log := town.log.String()
	for _, want := range []string{"verb=anchor target=\"eu-us orders:2 at end\" why=\"it was lost\" note=\"from 10 to 100, 90 lost, 0 doubled\" outcome=done", "outcome=failed"} {
		if !strings.Contains(log, want) {
			t.Errorf("the audit has no %q:\n%s", want, log)
		}
	}
}

func TestAnchor_IsDoneByWhoCopies(t *testing.T) {
	town, nodes := fabric(t, func(_ string, c *Config) { c.Access = people(t) }, "a", "b")
	nodes["a"].peers = append(nodes["a"].peers, Peer{Name: "dead", Trouble: "dead since noon"})
	c := town.client(t, "a", Login{Token: tokenFor("operator-orders")})
	req := &adminpb.AnchorRequest{Link: "eu-us", Topic: "orders", Partition: 1, At: atOffset, Offset: 50, Why: "as told", DryRun: true}
	dry, err := c.Anchor(t.Context(), req)
	if err != nil || dry.Node != "b" || dry.Confirm == "" {
		t.Fatalf("dry run: %v, %v, want it from b", dry, err)
	}
	req.DryRun = false
	if _, err := c.Anchor(t.Context(), req); !errors.Is(err, ErrConfirm) {
		t.Errorf("without a token: %v, want the refusal of b with its code", err)
	}
	req.Confirm = dry.Confirm
	if res, err := c.Anchor(t.Context(), req); err != nil || res.Node != "b" {
		t.Errorf("got %v, %v", res, err)
	}
	if want := []string{"eu-us orders:1 at 50 by operator-orders: as told"}; !slices.Equal(nodes["b"].anchored, want) || len(nodes["a"].anchored) != 0 {
		t.Errorf("b did %q and a %q, want %q by b", nodes["b"].anchored, nodes["a"].anchored, want)
	}
	req.DryRun, req.Offset = true, 1000
	if _, err := c.Anchor(t.Context(), req); !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), "offset: 1000 is behind the end") {
		t.Errorf("behind the end: %v, want b's own words", err)
	}
	req.Partition = 99
	if _, err := c.Anchor(t.Context(), req); !errors.Is(err, ErrUnknown) {
		t.Errorf("no such partition: %v, want ErrUnknown", err)
	}
	req.Partition = 1
	nodes["b"].owned = func(string, int32) bool { return false }
	if _, err := c.Anchor(t.Context(), req); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no node that answers copies it; node dead: dead since noon") {
		t.Errorf("nobody copies it: %v, want that and who does not answer", err)
	}
}

// TestPeer_MayAskForTheseWrites: nodes ask each other to retry and to anchor, and for no other write.
func TestPeer_MayAskForTheseWrites(t *testing.T) {
	town, nodes := fabric(t, func(_ string, c *Config) { c.Access = people(t) }, "a", "b")
	b := town.client(t, "b", Login{}).api
	req := &adminpb.AnchorRequest{Link: "eu-us", Topic: "orders", Partition: 1, At: atEnd, Why: "w", DryRun: true}
	s := sealed("a", "b", adminpb.Admin_Anchor_FullMethodName)
	s.digest = requestDigest(req)
	if _, err := b.Anchor(metadata.NewOutgoingContext(t.Context(), s.sign([][]byte{fabricKey})), req); err != nil {
		t.Errorf("anchor for another node: %v", err)
	}
	s.digest = requestDigest(req)
	other := &adminpb.AnchorRequest{Link: "eu-us", Topic: "orders", Partition: 1, At: atStart, Why: "w"}
	if _, err := b.Anchor(metadata.NewOutgoingContext(t.Context(), s.sign([][]byte{fabricKey})), other); status.Code(err) != codes.Unauthenticated {
		t.Errorf("anchor with the credential of another request: %v, want Unauthenticated", err)
	}
	// It is asked for this partition's copies only where it has them: nothing goes further.
	req.Partition = 0
	s.digest = requestDigest(req)
	if _, err := b.Anchor(metadata.NewOutgoingContext(t.Context(), s.sign([][]byte{fabricKey})), req); status.Code(err) != codes.Unavailable {
		t.Errorf("anchor of what a copies: %v, want Unavailable", err)
	}
	if len(nodes["a"].anchored)+len(nodes["b"].anchored) > 0 {
		t.Error("something was done")
	}
}

func TestDrift_AnyNodeThatReachesBothAnswers(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b", "c")
	c := town.client(t, "a", Login{})
	res, err := c.Drift(t.Context(), "eu-us")
	if err != nil || res.Node != "a" || len(res.Drifts) != 3 || res.Drifts[0].Kind != "acl" || res.Drifts[1].Topic != "orders" {
		t.Errorf("got %v, %v, want three in order, from a", res, err)
	}
	if _, err := c.Drift(t.Context(), ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("no link: %v, want ErrInvalid", err)
	}
	if _, err := c.Drift(t.Context(), "eu-mars"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown link: %v, want ErrUnknown", err)
	}
	fails := func(name string) {
		nodes[name].mu.Lock()
		defer nodes[name].mu.Unlock()
		nodes[name].broken = fmt.Errorf("cluster us is away: %w", ErrNotReady)
	}
	fails("a")
	fails("b")
	if res, err := c.Drift(t.Context(), "eu-us"); err != nil || res.Node != "c" {
		t.Errorf("got %v, %v, want the answer of c", res, err)
	}
	fails("c")
	if _, err := c.Drift(t.Context(), "eu-us"); !errors.Is(err, ErrUnreachable) || strings.Count(err.Error(), "cluster us is away") != 3 {
		t.Errorf("got %v, want why none of the three can", err)
	}
}

func TestPlaces(t *testing.T) {
	p := make(places, 2)
	for i, want := range []bool{true, true, false} {
		if got := p.take(); got != want {
			t.Errorf("take %d of two places: %v, want %v", i+1, got, want)
		}
	}
	if p.leave(); !p.take() {
		t.Error("a place that was left cannot be taken")
	}
}
