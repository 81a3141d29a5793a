package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
)

const (
	planned   = adminpb.SwitchKind_SWITCH_KIND_PLANNED
	unplanned = adminpb.SwitchKind_SWITCH_KIND_UNPLANNED
	backKind  = adminpb.SwitchKind_SWITCH_KIND_BACK
)

// Homes has the router shop: its home is eu, that of its set fast is us, where it came from eu.
func (n *fakeNode) Homes(_ context.Context, router string) (*Homes, error) {
	h := &Homes{Clusters: []string{"ap", "eu", "us"}}
	if router == "shop" {
		h.Sets = []SetHome{{Home: "eu"}, {Set: "fast", Home: "us", Before: "eu", Generation: 3, Not: map[string]string{"ap": "its topics stay in frankfurt"}}}
	}
	return h, n.fails()
}

// Switch says that all went well.
func (n *fakeNode) Switch(_ context.Context, req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
	if req.GetDryRun() {
		return errors.Join(tell(&adminpb.SwitchProgress{Step: "preflight", Checks: []*adminpb.SwitchCheck{{Name: "lag", Ok: true}}}), n.fails())
	}
	return errors.Join(tell(&adminpb.SwitchProgress{Step: "preflight"}), tell(&adminpb.SwitchProgress{Step: "idle", Outcome: "committed"}), n.fails())
}

// switching is a node whose switches go as a test wants.
type switching struct {
	*fakeNode
	do func(ctx context.Context, req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error
}

func (n switching) Switch(ctx context.Context, req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
	return n.do(ctx, req, tell)
}

// switched runs a switch to its end.
func switched(t *testing.T, c *Client, req *adminpb.SwitchRequest) (*adminpb.SwitchProgress, error) {
	t.Helper()
	var last *adminpb.SwitchProgress
	err := c.Switch(t.Context(), req, func(m *adminpb.SwitchProgress) error {
		if last.GetStep() == "idle" {
			t.Errorf("%v comes behind the end", m)
		}
		last = m
		return nil
	})
	return last, err
}

// TestSwitch_TellsHowFarItIs: each message has all that is known, the last one the outcome; what was done is in the audit.
func TestSwitch_TellsHowFarItIs(t *testing.T) {
	town, clock := newCity(), newHand()
	asker := ""
	var got *adminpb.SwitchRequest
	node := switching{newFake("a"), func(ctx context.Context, req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
		asker, got = Asker(ctx), req
		for _, m := range []*adminpb.SwitchProgress{
			{Step: "preflight", Id: "sw-1", Checks: []*adminpb.SwitchCheck{{Name: "lag", Ok: true, Text: "12 records"}}},
			{Step: "hold", Doing: "b has not answered", Standings: []*adminpb.SwitchStanding{{Node: "b", Text: "serving"}}},
			{Step: "commit", GapSeconds: 0.3},
			{Step: "idle", Outcome: "committed", Generation: 4, Why: "b did not say in time that it serves us"},
		} {
			clock.move(100 * time.Millisecond)
			if err := tell(m); err != nil {
				return err
			}
		}
		return nil
	}}
	town.add(t, "a", node, func(c *Config) { c.Access, c.Now = people(t), clock.now })
	last, err := switched(t, town.client(t, "a", Login{Token: tokenFor("operator")}), &adminpb.SwitchRequest{Router: "shop", Set: "fast", Kind: backKind, Why: "us is slow"})
	if err != nil {
		t.Fatal(err)
	}
	if asker != "operator" || got.GetTo() != "eu" || got.GetKind() != backKind || got.GetConfirm() != "" {
		t.Errorf("the node was asked by %q for %v; want the home before filled in", asker, got)
	}
	if last.GetOutcome() != "committed" || last.GetFrom() != "us" || last.GetTo() != "eu" || last.GetGeneration() != 4 || last.GetNode() != "a" || last.GetId() != "sw-1" || last.GetGapSeconds() != 0.3 ||
		len(last.GetChecks()) != 1 || len(last.GetStandings()) != 1 || last.GetStep() != "idle" || last.GetDoing() != "" || !strings.Contains(last.GetWhy(), "b did not say") {
		t.Errorf("got %v", last)
	}
	var steps []string
	for _, s := range last.GetSteps() {
		steps = append(steps, fmt.Sprintf("%s %.1f", s.GetName(), s.GetSeconds()))
	}
	if want := []string{"preflight 0.1", "hold 0.1", "commit 0.1"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	for _, want := range []string{`target="shop/fast to eu, back"`, `why="us is slow"`, "outcome=begun", "outcome=committed", "who=operator", `note="switch sw-1 from us, generation 4: b did not say`} {
		if !strings.Contains(town.log.String(), want) {
			t.Errorf("the audit has no %s:\n%s", want, town.log)
		}
	}
}

// TestSwitch_HowItEnds: that it went badly is no error of the call, unless nothing was tried; that nobody knows is said.
func TestSwitch_HowItEnds(t *testing.T) {
	for _, tc := range []struct {
		name    string
		tells   []*adminpb.SwitchProgress
		fails   error
		outcome string
		why     string
		is      error
	}{
		{"aborted", []*adminpb.SwitchProgress{{Step: "hold"}, {Step: "rollback"}, {Outcome: "aborted", Why: "too long"}}, nil, "aborted", "too long", nil},
		{"refused", []*adminpb.SwitchProgress{{Step: "preflight"}, {Step: "idle", Outcome: "refused", Why: "lag"}}, nil, "refused", "lag", nil},
		{"refused by its checks", []*adminpb.SwitchProgress{{Step: "preflight", Checks: []*adminpb.SwitchCheck{{Name: "lag", Text: "9 GB"}}}, {Outcome: "refused"}}, nil, "refused", "lag: 9 GB", nil},
		{"says nothing", nil, nil, "unknown", "the node did not say", nil},
		{"fails in the middle", []*adminpb.SwitchProgress{{Step: "preflight"}, {Step: "cut"}}, errors.New("the disk is full"), "unknown", "the disk is full", nil},
		{"fails behind its outcome", []*adminpb.SwitchProgress{{Step: "verify", Outcome: "committed"}}, errors.New("late"), "committed", "", nil},
		{"is not tried", nil, fmt.Errorf("no majority: %w", ErrNotReady), "", "", ErrUnreachable},
		{"fails before it begins", []*adminpb.SwitchProgress{{Step: "preflight"}}, &FieldError{"to", "no"}, "", "", ErrInvalid},
	} {
		town := newCity()
		town.add(t, "a", switching{newFake("a"), func(_ context.Context, _ *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
			for _, m := range tc.tells {
				if err := tell(m); err != nil {
					return err
				}
			}
			return tc.fails
		}}, nil)
		last, err := switched(t, town.client(t, "a", Login{}), &adminpb.SwitchRequest{Router: "shop", To: "us", Kind: unplanned})
		if !errors.Is(err, tc.is) || last.GetOutcome() != tc.outcome || !strings.Contains(last.GetWhy(), tc.why) {
			t.Errorf("%s: %v, %v", tc.name, last, err)
		}
	}
}

// TestSwitch_DryRun: it begins nothing, and its token fits until the home is another one.
func TestSwitch_DryRun(t *testing.T) {
	town := newCity()
	ran := 0
	checks := []*adminpb.SwitchCheck{{Name: "lag", Ok: true, Warning: true, Text: "a bit"}}
	node := switching{newFake("a"), func(_ context.Context, req *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
		if !req.GetDryRun() {
			ran++
			return tell(&adminpb.SwitchProgress{Outcome: "committed"})
		}
		return tell(&adminpb.SwitchProgress{Step: "preflight", Checks: checks})
	}}
	town.add(t, "a", node, nil)
	c := town.client(t, "a", Login{})
	req := func(to string, dry bool, confirm string) *adminpb.SwitchRequest {
		return &adminpb.SwitchRequest{Router: "shop", To: to, Kind: planned, DryRun: dry, Confirm: confirm}
	}
	dry, err := switched(t, c, req("us", true, ""))
	if err != nil || dry.GetOutcome() != "ready" || dry.GetConfirm() == "" || !dry.GetDryRun() || ran != 0 || strings.Contains(town.log.String(), "audit") {
		t.Fatalf("%v, %v, ran %d, log %s", dry, err, ran, town.log)
	}
	if _, err := switched(t, c, req("ap", false, dry.GetConfirm())); !errors.Is(err, ErrConfirm) || ran != 0 {
		t.Errorf("the token of another switch: %v, ran %d", err, ran)
	}
	if last, err := switched(t, c, req("us", false, dry.GetConfirm())); err != nil || last.GetOutcome() != "committed" || last.GetConfirm() != "" || ran != 1 {
		t.Errorf("with its token: %v, %v", last, err)
	}
	if last, err := switched(t, c, req("us", false, "")); err != nil || last.GetOutcome() != "committed" || ran != 2 {
		t.Errorf("without a token: %v, %v", last, err)
	}
	checks = append(checks, &adminpb.SwitchCheck{Name: "control", Text: "two of three are away"})
	if last, err := switched(t, c, req("us", true, "")); err != nil || last.GetOutcome() != "refused" || last.GetWhy() != "control: two of three are away" || last.GetConfirm() != "" {
		t.Errorf("a check fails: %v, %v", last, err)
	}
	at := SetHome{Home: "eu"}
	other := SetHome{Home: "eu", Generation: 2}
	if switchToken(req("us", true, ""), at) == switchToken(req("us", true, ""), other) {
		t.Error("the token fits when the home was another one meanwhile")
	}
}

// TestSwitch_TellsAllThatIsWrong: at once, and the node is not asked to do it.
func TestSwitch_TellsAllThatIsWrong(t *testing.T) {
	town := newCity()
	town.add(t, "a", switching{newFake("a"), func(context.Context, *adminpb.SwitchRequest, func(*adminpb.SwitchProgress) error) error {
		t.Error("it was tried")
		return nil
	}}, nil)
	c := town.client(t, "a", Login{})
	long := strings.Repeat("x", maxName+1)
	for _, tc := range []struct {
		req  *adminpb.SwitchRequest
		want []string
	}{
		{&adminpb.SwitchRequest{Why: strings.Repeat("w", 1<<20)}, []string{"router: is empty", "to: is empty", "kind: 0 is no kind", "why: has"}},
		{&adminpb.SwitchRequest{Router: long, Set: long, To: long, Kind: 17}, []string{"router: has 257", "set: has 257", "to: has 257", "kind: 17"}},
		{&adminpb.SwitchRequest{Router: "mars", To: "moon", Kind: planned}, []string{`router: there is no router "mars"`, `to: there is no cluster "moon"; there are ap, eu, us`}},
		{&adminpb.SwitchRequest{Router: "shop", Set: "slow", To: "moon", Kind: planned}, []string{`set: router shop has no set "slow"; it has fast`, `to: there is no cluster`}},
		{&adminpb.SwitchRequest{Router: "shop", To: "eu", Kind: unplanned}, []string{"to: eu is the home of router shop already"}},
		{&adminpb.SwitchRequest{Router: "shop", Set: "fast", To: "us", Kind: backKind}, []string{"to: us is the home of set fast of router shop already"}},
		{&adminpb.SwitchRequest{Router: "shop", Set: "fast", To: "ap", Kind: planned}, []string{"to: ap must not be the home of set fast of router shop: its topics stay in frankfurt"}},
		{&adminpb.SwitchRequest{Router: "shop", Kind: backKind}, []string{"to: router shop had no home before eu"}},
	} {
		_, err := switched(t, c, tc.req)
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%.80v: %v, want ErrInvalid", tc.req, err)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%.80v: %q does not say %q", tc.req, err, want)
			}
		}
	}
	if !strings.Contains(town.log.String(), "outcome=refused") {
		t.Errorf("no refusal is in the audit:\n%s", town.log)
	}
}

// serveSwitch gives a service a switch to do, whose reader takes left messages and reads until ctx ends.
func serveSwitch(ctx context.Context, s *service, left int) error {
	ctx = withCaller(ctx, caller{name: "ana", role: topology.Operator})
	return s.Switch(&adminpb.SwitchRequest{Router: "shop", To: "us", Kind: planned}, &grpc.GenericServerStream[adminpb.SwitchRequest, adminpb.SwitchProgress]{
		ServerStream: &sink{ctx: ctx, left: left}})
}

// TestSwitch_GoesOnWithoutItsReader: half a switch is worse than either end. Who runs it is told; one that stops reading keeps it from nothing.
func TestSwitch_GoesOnWithoutItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan error, 1)
		s := aService(switching{newFake("a"), func(ctx context.Context, _ *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
			if err := tell(&adminpb.SwitchProgress{Step: "hold"}); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * time.Second)
			told <- tell(&adminpb.SwitchProgress{Step: "commit"})
			if ctx.Err() != nil {
				t.Error("it is told to end")
			}
			return tell(&adminpb.SwitchProgress{Outcome: "committed"})
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = serveSwitch(ctx, s, 100) // nobody hears of it
		if err := <-told; !errors.Is(err, errGone) {
			t.Errorf("who tells is told %v, want that nobody listens", err)
		}
		if !s.switches.take() {
			t.Error("the place is still taken")
		}
	})
}

// TestSwitch_EndsWithItsServer: who runs it is told to end, and what is known by then is told.
func TestSwitch_EndsWithItsServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ending := make(chan struct{})
		began := time.Now()
		s := aService(switching{newFake("a"), func(ctx context.Context, _ *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
			<-ctx.Done()
			return tell(&adminpb.SwitchProgress{Outcome: "aborted"})
		}})
		s.ending = ending
		time.AfterFunc(time.Second, func() { close(ending) })
		if err := serveSwitch(t.Context(), s, 100); err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		s.ending = make(chan struct{})
		began = time.Now()
		if err := serveSwitch(t.Context(), s, 100); err != nil || time.Since(began) != maxSwitch {
			t.Errorf("one that never ends: %v after %v", err, time.Since(began))
		}
	})
}

// TestSwitch_AStepThatTakesLong: who listens sees that it goes on, though the node tells nothing new.
func TestSwitch_AStepThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := aService(switching{newFake("a"), func(_ context.Context, _ *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
			if err := tell(&adminpb.SwitchProgress{Step: "mirror", Doing: "3 records to go"}); err != nil {
				return err
			}
			time.Sleep(5*time.Second + progressEvery/2)
			return tell(&adminpb.SwitchProgress{Step: "idle", Outcome: "committed"})
		}})
		to := &keptSink{sink: sink{ctx: withCaller(t.Context(), caller{name: "ana", role: topology.Operator}), left: 100}}
		if err := s.Switch(&adminpb.SwitchRequest{Router: "shop", To: "us", Kind: planned}, &grpc.GenericServerStream[adminpb.SwitchRequest, adminpb.SwitchProgress]{ServerStream: to}); err != nil {
			t.Fatal(err)
		}
		if len(to.got) != 12 { // the first, ten while it takes long, the last
			t.Errorf("%d messages", len(to.got))
		}
		for i, m := range to.got {
			if seconds := float64(i) / 2; i < 11 && (m.GetSteps()[0].GetSeconds() != seconds || m.GetDoing() != "3 records to go") {
				t.Errorf("message %d: %v", i, m)
			}
		}
	})
}

// keptSink keeps what it is sent.
type keptSink struct {
	sink
	got []*adminpb.SwitchProgress
}

func (s *keptSink) SendMsg(m any) error {
	s.got = append(s.got, m.(*adminpb.SwitchProgress))
	return s.sink.SendMsg(m)
}

// TestSwitch_ASlowReaderHoldsNobodyUp: who does not read keeps neither the switch nor its place.
func TestSwitch_ASlowReaderHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := aService(switching{newFake("a"), func(_ context.Context, _ *adminpb.SwitchRequest, tell func(*adminpb.SwitchProgress) error) error {
			for range 1000 {
				time.Sleep(time.Millisecond)
				if err := tell(&adminpb.SwitchProgress{Step: "mirror"}); err != nil {
					return err
				}
			}
			return tell(&adminpb.SwitchProgress{Outcome: "committed"})
		}})
		to := &slowSink{sink{ctx: withCaller(t.Context(), caller{name: "ana", role: topology.Operator}), left: 100}, make(chan struct{})}
		ended := make(chan error)
		go func() {
			ended <- s.Switch(&adminpb.SwitchRequest{Router: "shop", To: "us", Kind: planned}, &grpc.GenericServerStream[adminpb.SwitchRequest, adminpb.SwitchProgress]{ServerStream: to})
		}()
		time.Sleep(2 * time.Second)
		if !s.switches.take() {
			t.Error("the switch waits for who does not read")
		}
		close(to.reads)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestSwitch_IsBounded: a node runs some at a time.
func TestSwitch_IsBounded(t *testing.T) {
	s := aService(newFake("a"))
	s.switches.take()
	if err := serveSwitch(t.Context(), s, 100); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v, want that it is busy", err)
	}
	s.switches.leave()
	if err := serveSwitch(t.Context(), s, 100); err != nil {
		t.Error(err)
	}
}
