package admin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// one is a city of one node and its client, without login.
func one(t *testing.T) (*fakeNode, *Client, *city) {
	t.Helper()
	town, node := newCity(), newFake("a")
	town.add(t, "a", node, nil)
	return node, town.client(t, "a", Login{}), town
}

func TestWrite_NeedsTheTokenOfItsDryRun(t *testing.T) {
	node, c, town := one(t)
	ctx := t.Context()
	apply := &adminpb.ApplyRequest{File: "orders", Reason: "new file"}
	if _, err := c.Apply(ctx, apply); !errors.Is(err, ErrConfirm) {
		t.Fatalf("without a token: got %v, want ErrConfirm", err)
	}
	apply.DryRun = true
	dry, err := c.Apply(ctx, apply)
	if err != nil || dry.Confirm == "" || !dry.DryRun || dry.Version != "" || len(dry.Plan) != 2 || len(dry.Touched) != 2 {
		t.Fatalf("dry run: got %v, %v, want a plan, a token and what it touches", dry, err)
	}
	if len(node.settings.All()) != 0 {
		t.Fatal("the dry run wrote")
	}
	// Somebody changes what the plan is about: it is another plan now.
	if _, err := c.Set(ctx, &adminpb.SetRequest{Key: "link/eu-us/topics", Value: "all"}); err != nil {
		t.Fatal(err)
	}
	apply.DryRun, apply.Confirm = false, dry.Confirm
	if _, err := c.Apply(ctx, apply); !errors.Is(err, ErrConfirm) || !strings.Contains(err.Error(), "do the dry run again") {
		t.Fatalf("with an old token: got %v, want ErrConfirm that says what to do", err)
	}
	apply.DryRun = true
	if dry, err = c.Apply(ctx, apply); err != nil {
		t.Fatal(err)
	}
	apply.DryRun, apply.Confirm = false, dry.Confirm
	done, err := c.Apply(ctx, apply)
	if err != nil || done.Version == "" || done.Note != "written by the fake" {
		t.Fatalf("with the token: got %v, %v", done, err)
	}
	past := node.settings.History(1)[0].Change
	if past.Author != "anyone@bufconn" || past.Reason != "new file" || len(past.Entries) != 2 {
		t.Errorf("the history says %+v", past)
	}
	for _, want := range []string{"verb=apply", "outcome=failed", `why="new file"`, "outcome=done", "version=" + done.Version} {
		if !strings.Contains(town.log.String(), want) {
			t.Errorf("the audit has no %s:\n%s", want, town.log)
		}
	}
	apply.Confirm = ""
	if again, err := c.Apply(ctx, apply); err != nil || again.Version != "" || !strings.Contains(again.Note, "nothing changes") {
		t.Errorf("a second time: got %v, %v, want a note that nothing changes", again, err)
	}
}

func TestWrite_WhatStopsWorkNeedsAToken(t *testing.T) {
	node, c, _ := one(t)
	set := &adminpb.SetRequest{Key: "link/eu-us/topics", Value: "x"}
	if res, err := c.Set(t.Context(), set); err != nil || res.Confirm != "" {
		t.Fatalf("got %v, %v, want no token for a change that stops nothing", res, err)
	}
	node.mu.Lock()
	node.stops = "payments stop"
	node.mu.Unlock()
	set.Value = "y"
	if _, err := c.Set(t.Context(), set); !errors.Is(err, ErrConfirm) || !strings.Contains(err.Error(), "payments stop") {
		t.Errorf("got %v, want ErrConfirm and what stops", err)
	}
	node.mu.Lock()
	node.stops = ""
	node.mu.Unlock()
	// A drain stops nothing, and cannot be set behind the back of the verb either.
	if _, err := c.Set(t.Context(), &adminpb.SetRequest{Key: "drain/a", Value: "present"}); !errors.Is(err, ErrConfirm) {
		t.Errorf("got %v, want ErrConfirm", err)
	}
}

func TestWrite_OneOfTwoWinsAndTheOtherIsTold(t *testing.T) {
	node, c, town := one(t)
	const writers = 20
	var dry [writers]*adminpb.WriteResponse
	for i := range dry {
		var err error
		if dry[i], err = c.Apply(t.Context(), &adminpb.ApplyRequest{File: fmt.Sprint(i), DryRun: true}); err != nil {
			t.Fatal(err)
		}
	}
	var errs [writers]error
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			_, errs[i] = c.Apply(t.Context(), &adminpb.ApplyRequest{File: fmt.Sprint(i), Confirm: dry[i].Confirm})
		})
	}
	all.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, gossip.ErrConflict) && !errors.Is(err, ErrConfirm) {
			t.Errorf("got %v, want a conflict or a token that fits no more", err)
		}
	}
	if won != 1 || len(node.settings.History(0)) != 1 {
		t.Errorf("%d won and %d changes were made, want 1", won, len(node.settings.History(0)))
	}
	// A base that is old is a conflict with the one who was faster.
	_, err := c.Set(t.Context(), &adminpb.SetRequest{Key: "link/eu-us/topics", Value: "z", Base: "5.0@a"})
	if !errors.Is(err, gossip.ErrConflict) || !strings.Contains(err.Error(), "anyone@bufconn") {
		t.Errorf("got %v, want a conflict that names who was faster", err)
	}
	if !strings.Contains(town.log.String(), "outcome=failed") {
		t.Error("the audit does not say that writes failed")
	}
}

func TestWrite_TellsAllThatIsWrong(t *testing.T) {
	_, c, town := one(t)
	ctx := t.Context()
	long := strings.Repeat("x", gossip.MaxReasonBytes+1)
	for name, tc := range map[string]struct {
		ask  func() (*adminpb.WriteResponse, error)
		want []string
	}{
		"pause": {func() (*adminpb.WriteResponse, error) {
			return c.Pause(ctx, &adminpb.PauseRequest{Topic: "~(", Partitions: []int32{-1}, Why: long, ForSeconds: -1})
		}, []string{"link: ", "topic: ", "partitions: ", "why: ", "for_seconds: "}},
		"pause for ever": {func() (*adminpb.WriteResponse, error) {
			return c.Pause(ctx, &adminpb.PauseRequest{Link: "eu-us", ForSeconds: 1e300})
		}, []string{"for_seconds: "}},
		"pause slash": {func() (*adminpb.WriteResponse, error) { return c.Pause(ctx, &adminpb.PauseRequest{Link: "eu/us"}) }, []string{"link: "}},
		"resume":      {func() (*adminpb.WriteResponse, error) { return c.Resume(ctx, &adminpb.ResumeRequest{Why: long}) }, []string{"link: ", "why: "}},
		"retry": {func() (*adminpb.WriteResponse, error) {
			_, err := c.Retry(ctx, &adminpb.RetryRequest{Topic: "~(", Partitions: []int32{-1}, Why: long})
			return nil, err
		}, []string{"link: ", "topic: ", "partitions: ", "why: "}},
		"anchor": {func() (*adminpb.WriteResponse, error) {
			_, err := c.Anchor(ctx, &adminpb.AnchorRequest{Partition: -1, Offset: -1, Why: " "})
			return nil, err
		}, []string{"link: ", "topic: ", "partition: ", "at: ", "offset: ", "why: "}},
		"anchor at": {func() (*adminpb.WriteResponse, error) {
			_, err := c.Anchor(ctx, &adminpb.AnchorRequest{Link: "eu-us", Topic: "orders", At: 77, Offset: 3, Why: long})
			return nil, err
		}, []string{"at: 77", "offset: 3 is of no use", "why: "}},
		"drain": {func() (*adminpb.WriteResponse, error) { return c.Drain(ctx, &adminpb.DrainRequest{Reason: long}) }, []string{"node: ", "reason: "}},
		"set": {func() (*adminpb.WriteResponse, error) {
			return c.Set(ctx, &adminpb.SetRequest{Reason: long, Base: "old"})
		}, []string{"key: ", "value: ", "reason: ", "base: "}},
		"unset": {func() (*adminpb.WriteResponse, error) {
			return c.Unset(ctx, &adminpb.UnsetRequest{Key: "a\x00b", Base: "1.2@"})
		}, []string{"key: ", "base: "}},
		"undo": {func() (*adminpb.WriteResponse, error) { return c.Undo(ctx, &adminpb.UndoRequest{Reason: long}) }, []string{"version: ", "reason: "}},
		"undo both": {func() (*adminpb.WriteResponse, error) {
			return c.Undo(ctx, &adminpb.UndoRequest{Version: "1.0@a", Number: 1})
		}, []string{"version: "}},
		"undo 1":    {func() (*adminpb.WriteResponse, error) { return c.Undo(ctx, &adminpb.UndoRequest{Number: 1}) }, []string{"number: 1 is more"}},
		"undo what": {func() (*adminpb.WriteResponse, error) { return c.Undo(ctx, &adminpb.UndoRequest{Version: "one"}) }, []string{"version: "}},
		"apply":     {func() (*adminpb.WriteResponse, error) { return c.Apply(ctx, &adminpb.ApplyRequest{Reason: long}) }, []string{"file: ", "reason: "}},
		"apply bad": {func() (*adminpb.WriteResponse, error) { return c.Apply(ctx, &adminpb.ApplyRequest{File: "bad"}) }, []string{"file: line 1", "file: line 2"}},
		"diff":      {func() (*adminpb.WriteResponse, error) { return c.Diff(ctx, "") }, []string{"file: "}},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := tc.ask()
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v, %v, want ErrInvalid", res, err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %q", err, want)
				}
			}
		})
	}
	if got := strings.Count(town.log.String(), "msg=audit"); got != 16 {
		t.Errorf("the audit has %d lines, want one for each write that was refused", got)
	}
}

func TestPause_AndResume(t *testing.T) {
	node, c, _ := one(t)
	ctx := t.Context()
	pause := func(topic string, partitions ...int32) *adminpb.WriteResponse {
		t.Helper()
		res, err := c.Pause(ctx, &adminpb.PauseRequest{Link: "eu-us", Topic: topic, Partitions: partitions, Why: "look"})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	res := pause("orders", 2, 0, 2)
	if len(res.Touched) != 1 || !slices.Equal(res.Touched[0].Partitions, []int32{0, 2}) {
		t.Errorf("touched %v, want partitions 0 and 2", res.Touched)
	}
	pause("orders")
	pause("pay*")
	pause("")
	keys := func() (keys []string) {
		for _, v := range node.settings.All() {
			if !v.Deleted {
				keys = append(keys, v.Key)
			}
		}
		return keys
	}
	want := []string{"pause/eu-us/*/*", "pause/eu-us/orders/*", "pause/eu-us/orders/0,2", "pause/eu-us/pay*/*"}
	if got := keys(); !slices.Equal(got, want) {
		t.Fatalf("settings are %q, want %q", got, want)
	}
	for _, tc := range []struct {
		topic      string
		partitions []int32
		want       codes.Code
		left       []string
	}{
		{"orders", []int32{1}, codes.InvalidArgument, want}, // only larger pauses are there
		{"orders", []int32{0, 1, 2}, codes.OK, []string{want[0], want[1], want[3]}},
		{"payments", nil, codes.InvalidArgument, []string{want[0], want[1], want[3]}},
		{"p*", nil, codes.OK, []string{want[0], want[1]}},
		{"", nil, codes.OK, nil},
		{"", nil, codes.NotFound, nil},
	} {
		_, err := c.api.Resume(ctx, &adminpb.ResumeRequest{Link: "eu-us", Topic: tc.topic, Partitions: tc.partitions})
		if status.Code(err) != tc.want || !slices.Equal(keys(), tc.left) {
			t.Errorf("resume %q %v: got %v and %q are left; want %v and %q", tc.topic, tc.partitions, err, keys(), tc.want, tc.left)
		}
	}
	if _, err := c.Pause(ctx, &adminpb.PauseRequest{Link: "eu-us", ForSeconds: 60}); err != nil {
		t.Fatal(err)
	}
	if v, _ := node.settings.Get("pause/eu-us/*/*"); !strings.HasPrefix(string(v.Value), `{"until":"20`) {
		t.Errorf("the value is %s, want an end", v.Value)
	}
	// What was paused is undone by its number.
	dry, err := c.Undo(ctx, &adminpb.UndoRequest{Number: 1, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Undo(ctx, &adminpb.UndoRequest{Number: 1, Confirm: dry.Confirm}); err != nil || len(keys()) != 0 {
		t.Errorf("undo: %v, and %q are left", err, keys())
	}
}

func TestRotateKey_TellsHowFarNodesCame(t *testing.T) {
	town, node := newCity(), newFake("a")
	node.peers = []Peer{{Name: "b", Trouble: "dead"}}
	node.rotated = []*adminpb.KeyOutcome{{Node: "b", Installed: true, Trouble: "does not answer"}, {Node: "a", Installed: true, Used: true, Removed: true}}
	town.add(t, "a", node, func(c *Config) { c.Keys = func() [][]byte { return [][]byte{[]byte("a key that nobody may see")} } })
	c := town.client(t, "a", Login{})
	dry, err := c.RotateKey(t.Context(), &adminpb.RotateKeyRequest{DryRun: true})
	if err != nil || dry.Confirm == "" || len(dry.Plan) != 2 || !strings.Contains(dry.Plan[1], "node b is not there") || strings.Contains(fmt.Sprint(dry), "nobody") {
		t.Fatalf("dry run: %v, %v", dry, err)
	}
	if _, err := c.RotateKey(t.Context(), &adminpb.RotateKeyRequest{Confirm: "1234"}); !errors.Is(err, ErrConfirm) {
		t.Errorf("got %v, want ErrConfirm", err)
	}
	res, err := c.RotateKey(t.Context(), &adminpb.RotateKeyRequest{Confirm: dry.Confirm})
	if err != nil || !res.Unfinished || len(res.Nodes) != 2 || res.Nodes[0].Node != "a" {
		t.Errorf("got %v, %v, want both nodes and that it is not finished", res, err)
	}
	if !strings.Contains(town.log.String(), "outcome=unfinished") {
		t.Error("the audit does not say that it is not finished")
	}
	_, alone, _ := one(t)
	if _, err := alone.RotateKey(t.Context(), &adminpb.RotateKeyRequest{DryRun: true}); !errors.Is(err, ErrUnknown) {
		t.Errorf("without a key: got %v, want ErrUnknown", err)
	}
}

func TestDrain_WritesWhatNodesRead(t *testing.T) {
	node, c, _ := one(t)
	drained := func() bool {
		var settings []topology.Setting
		for _, v := range node.settings.All() {
			settings = append(settings, topology.Setting{Key: v.Key, Value: v.Value, Deleted: v.Deleted})
		}
		return topology.Drained(settings)["a"]
	}
	dry, err := c.Drain(t.Context(), &adminpb.DrainRequest{Node: "a", DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Drain(t.Context(), &adminpb.DrainRequest{Node: "a", Confirm: dry.Confirm}); err != nil || !drained() {
		t.Errorf("got %v, want a drained node", err)
	}
	if _, err := c.Drain(t.Context(), &adminpb.DrainRequest{Node: "a", Undo: true}); err != nil || drained() {
		t.Errorf("got %v, want a node that works", err)
	}
}
