package admin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
)

// secretFile is a file with a secret, and the reference to it.
func secretFile(t *testing.T, name, text string) (string, topology.Secret) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	replace(t, path, text)
	ref, err := topology.ParseSecret("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	return path, ref
}

// replace writes a file the way a rotation should: whole or not at all.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func tokenFor(name string) string { return "token-of-" + name + "-0123456789" }

// people has one identity for each role, bound to no topics and, with -orders behind its name, to orders.
func people(t *testing.T) topology.Admin {
	t.Helper()
	var a topology.Admin
	for _, role := range []topology.Role{topology.Viewer, topology.Operator, topology.Administrator} {
		for _, topics := range []topology.Patterns{nil, patterns(t, "orders", "orders-*")} {
			id := topology.Identity{Name: role.String(), Role: role, Topics: topics}
			if topics != nil {
				id.Name += "-orders"
			}
			_, id.Token = secretFile(t, "token", tokenFor(id.Name)+"\n")
			a.Identities = append(a.Identities, id)
		}
	}
	return a
}

// calls has one good request for each call of the API, and some more.
var calls = map[string]func(context.Context, *Client) error{
	"Status":    func(ctx context.Context, c *Client) error { _, err := c.Status(ctx, "", true); return err },
	"Translate": translateOf("orders"), "Translate payments": translateOf("payments"),
	"Ledger": func(ctx context.Context, c *Client) error {
		return c.Ledger(ctx, "", func(*adminpb.LedgerEntry) error { return nil })
	},
	"Nodes":    func(ctx context.Context, c *Client) error { _, err := c.Nodes(ctx); return err },
	"Owners":   func(ctx context.Context, c *Client) error { _, err := c.Owners(ctx, "", ""); return err },
	"Settings": func(ctx context.Context, c *Client) error { _, err := c.Settings(ctx, ""); return err },
	"History":  func(ctx context.Context, c *Client) error { _, err := c.History(ctx, 0); return err },
	"Export":   func(ctx context.Context, c *Client) error { _, err := c.Export(ctx); return err },
	"Diff":     func(ctx context.Context, c *Client) error { _, err := c.Diff(ctx, "file"); return err },
	"Watch": func(ctx context.Context, c *Client) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.api.Watch(ctx, &adminpb.WatchRequest{})
		if err == nil {
			if header, bad := stream.Header(); bad != nil || header == nil { // it comes when it began, or failed
				_, err = stream.Recv()
			}
		}
		return c.explain(err)
	},
	"Pause": pausing("orders"), "Pause orders-*": pausing("orders-*"), "Pause payments": pausing("payments"), "Pause all": pausing(""),
	"Pause order*": pausing("order*"),
	"Resume":       resuming("orders-*"), "Resume all": resuming(""),
	"Retry": retriesOf("orders"), "Retry payments": retriesOf("payments"), "Retry all": retriesOf(""),
	"Anchor": anchoring("orders"), "Anchor payments": anchoring("payments"),
	"Drift":         func(ctx context.Context, c *Client) error { _, err := c.Drift(ctx, "eu-us"); return err },
	"Groups":        func(ctx context.Context, c *Client) error { _, err := c.Groups(ctx, "", ""); return err },
	"Routers":       func(ctx context.Context, c *Client) error { _, err := c.Routers(ctx, ""); return err },
	"RouterClients": func(ctx context.Context, c *Client) error { _, err := c.RouterClients(ctx, "", 0); return err },
	"TranslateGroup": func(ctx context.Context, c *Client) error {
		_, err := c.TranslateGroup(ctx, &adminpb.TranslateGroupRequest{Link: "eu-us", Group: "shop"})
		return err
	},
	"Verify": verifying("orders"), "Verify payments": verifying("payments"), "Verify all": verifying(""),
	"Switch": func(ctx context.Context, c *Client) error {
		return c.Switch(ctx, &adminpb.SwitchRequest{Router: "shop", To: "us", Kind: adminpb.SwitchKind_SWITCH_KIND_PLANNED, DryRun: true}, func(*adminpb.SwitchProgress) error { return nil })
	},
	"Ready": func(ctx context.Context, c *Client) error {
		_, err := c.Ready(ctx, &adminpb.ReadyRequest{Name: "shop", To: "us"})
		return err
	},
	"Drills": func(ctx context.Context, c *Client) error { _, err := c.Drills(ctx, "shop", 0); return err },
	"Rehearse": func(ctx context.Context, c *Client) error {
		_, err := c.Rehearse(ctx, &adminpb.RehearseRequest{Router: "shop", To: "us", Topic: "isthmus.shadow"})
		return err
	},
	"NoteDrill": func(ctx context.Context, c *Client) error { _, err := c.NoteDrill(ctx, aDrill()); return err },
	"Drain": func(ctx context.Context, c *Client) error {
		_, err := c.Drain(ctx, &adminpb.DrainRequest{Node: "a", DryRun: true})
		return err
	},
	"Set us-eu": setOf("link/us-eu/topics"), "Set eu-us": setOf("link/eu-us/topics"), "Set log": setOf("log/level"), "Set link": setOf("link/us-eu"),
	"Set from": setOf("link/us-eu/from"), "Set stay": setOf("stay"), "Set pause": setOf("pause/us-eu/orders/1"), "Set pause all": setOf("pause/us-eu/*/1"),
	"Unset": func(ctx context.Context, c *Client) error {
		_, err := c.Unset(ctx, &adminpb.UnsetRequest{Key: "pause/eu-us/orders-*/*", DryRun: true})
		return err
	},
	"Undo": func(ctx context.Context, c *Client) error {
		_, err := c.Undo(ctx, &adminpb.UndoRequest{Number: 1, DryRun: true})
		return err
	},
	"Apply": func(ctx context.Context, c *Client) error {
		_, err := c.Apply(ctx, &adminpb.ApplyRequest{File: "file", DryRun: true})
		return err
	},
	"RotateKey": func(ctx context.Context, c *Client) error {
		_, err := c.RotateKey(ctx, &adminpb.RotateKeyRequest{DryRun: true})
		return err
	},
	"health": func(ctx context.Context, c *Client) error {
		_, err := healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	},
	"reflection": func(ctx context.Context, c *Client) error {
		stream, err := reflectionpb.NewServerReflectionClient(c.conn).ServerReflectionInfo(ctx)
		if err != nil {
			return err
		}
		_ = stream.CloseSend()
		if _, err = stream.Recv(); err != nil && status.Code(err) == codes.Unknown {
			err = nil // EOF: it was let in
		}
		return c.explain(err)
	},
}

func translateOf(topic string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		_, err := c.Translate(ctx, &adminpb.TranslateRequest{Link: "eu-us", Topic: topic})
		return err
	}
}

func pausing(topic string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		_, err := c.Pause(ctx, &adminpb.PauseRequest{Link: "eu-us", Topic: topic, DryRun: true})
		return err
	}
}

func retriesOf(topic string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		_, err := c.Retry(ctx, &adminpb.RetryRequest{Link: "eu-us", Topic: topic})
		return err
	}
}

func anchoring(topic string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		_, err := c.Anchor(ctx, &adminpb.AnchorRequest{Link: "eu-us", Topic: topic, At: adminpb.AnchorAt_ANCHOR_AT_END, Why: "lost", DryRun: true})
		return err
	}
}

func verifying(topic string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		return c.Verify(ctx, &adminpb.VerifyRequest{Link: "eu-us", Topic: topic}, func(*adminpb.VerifyResponse) error { return nil })
	}
}

func resuming(topic string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		_, err := c.Resume(ctx, &adminpb.ResumeRequest{Link: "eu-us", Topic: topic, DryRun: true})
		return err
	}
}

func setOf(key string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		_, err := c.Set(ctx, &adminpb.SetRequest{Key: key, Value: "other", DryRun: true})
		return err
	}
}

// allowed says who may: v, o and a are the roles, in capitals if bound to orders.
var allowed = map[string]string{
	"Status": "vVoOaA", "Translate": "vVoOaA", "Translate payments": "voa", "Ledger": "vVoOaA", "Nodes": "vVoOaA", "Owners": "vVoOaA",
	"Settings": "vVoOaA", "History": "vVoOaA", "Watch": "vVoOaA", "Export": "voa", "Diff": "voa", "Ready": "voa", "Drills": "voa", "NoteDrill": "oa", "Rehearse": "oa",
	"Pause": "oOaA", "Pause orders-*": "oOaA", "Pause payments": "oa", "Pause all": "oa", "Pause order*": "oa", "Resume": "oOaA", "Resume all": "oa",
	"Retry": "oOaA", "Retry payments": "oa", "Retry all": "oa", "Anchor": "oOaA", "Anchor payments": "oa",
	"Drift": "vVoOaA", "Groups": "vVoOaA", "TranslateGroup": "vVoOaA", "Verify": "vVoOaA", "Verify payments": "voa", "Verify all": "voa",
	"Drain": "oa", "Switch": "oa", "Set us-eu": "oOaA", "Set eu-us": "oa", "Set log": "oa", "Set link": "aA", "Set from": "aA", "Set stay": "a",
	"Set pause": "oOaA", "Set pause all": "oa", "Unset": "oOaA", "Undo": "oOaA", "Apply": "a", "RotateKey": "a",
	"health": "vVoOaA-", "reflection": "vVoOaA", "Routers": "vVoOaA", "RouterClients": "vVoOaA",
}

func TestRights_OfEveryCall(t *testing.T) {
	who := map[byte]string{'v': "viewer", 'V': "viewer-orders", 'o': "operator", 'O': "operator-orders", 'a': "admin", 'A': "admin-orders", '-': ""}
	town := newCity()
	node := newFake("a")
	town.add(t, "a", node, func(c *Config) {
		c.Access = people(t)
		c.Keys = func() [][]byte { return [][]byte{[]byte("0123456789abcdef0123456789abcdef")} }
	})
	admin := town.client(t, "a", Login{Token: tokenFor("admin")})
	if _, err := admin.Pause(t.Context(), &adminpb.PauseRequest{Link: "eu-us", Topic: "orders-*"}); err != nil {
		t.Fatal(err)
	}
	for code, name := range who {
		login := Login{}
		if name != "" {
			login.Token = tokenFor(name)
		}
		c := town.client(t, "a", login)
		for call, ask := range calls {
			t.Run(call+" by "+name, func(t *testing.T) {
				err := ask(t.Context(), c)
				may := strings.IndexByte(allowed[call], code) >= 0
				switch {
				case may && err != nil:
					t.Errorf("got %v, want an answer", err)
				case !may && name == "" && !errors.Is(err, ErrLogin):
					t.Errorf("got %v, want ErrLogin", err)
				case !may && name != "" && !errors.Is(err, ErrDenied):
					t.Errorf("got %v, want ErrDenied", err)
				case !may && name != "" && !strings.Contains(err.Error(), name):
					t.Errorf("%q does not say who was refused", err)
				}
			})
		}
	}
}

func TestRights_NoCallIsForgotten(t *testing.T) {
	var methods []string
	for _, m := range adminpb.Admin_ServiceDesc.Methods {
		methods = append(methods, m.MethodName)
	}
	for _, m := range adminpb.Admin_ServiceDesc.Streams {
		methods = append(methods, m.StreamName)
	}
	for _, m := range methods {
		if _, ok := rights[m]; !ok {
			t.Errorf("call %s has no right", m)
		}
		tried := false
		for call := range calls {
			tried = tried || strings.HasPrefix(call, m)
		}
		if !tried {
			t.Errorf("call %s is not tried", m)
		}
	}
	if len(rights) != len(methods) {
		t.Errorf("there are rights of %d calls, and %d calls", len(rights), len(methods))
	}
	if r, open := rightOf("/isthmus.admin.v1.Admin/New"); open || r.role != topology.Administrator || !r.all {
		t.Errorf("an unknown call is open to %v", r)
	}
}

func TestRights_NobodySeesOthersTopics(t *testing.T) {
	town := newCity()
	node := otherGroups{newFake("a"), func(of *adminpb.LinkGroups) {
		of.Trouble, of.Share = "topic payments: refused", []string{"payments-jobs"}
	}}
	town.add(t, "a", node, func(c *Config) { c.Access = people(t) })
	all := town.client(t, "a", Login{Token: tokenFor("operator")})
	for _, topic := range []string{"orders", "payments", ""} {
		if _, err := all.Pause(t.Context(), &adminpb.PauseRequest{Link: "eu-us", Topic: topic, Why: "a secret of " + topic}); err != nil {
			t.Fatal(err)
		}
	}
	some := town.client(t, "a", Login{Token: tokenFor("viewer-orders")})
	var seen strings.Builder
	note := func(v any, err error) {
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintln(&seen, v)
	}
	ctx := t.Context()
	st, err := some.Status(ctx, "", true)
	note(st, err)
	set, err := some.Settings(ctx, "")
	note(set, err)
	past, err := some.History(ctx, 0)
	note(past, err)
	owners, err := some.Owners(ctx, "", "")
	note(owners, err)
	drift, err := some.Drift(ctx, "eu-us")
	note(drift, err)
	groups, err := some.Groups(ctx, "", "")
	note(groups, err)
	translated, err := some.TranslateGroup(ctx, &adminpb.TranslateGroupRequest{Link: "eu-us", Group: "shop"})
	note(translated, err)
	note("ledger", some.Ledger(ctx, "", func(e *adminpb.LedgerEntry) error { note(e, nil); return nil }))
	if text := seen.String(); strings.Contains(text, "payments") || !strings.Contains(text, "orders") {
		t.Errorf("who is bound to orders saw\n%s", text)
	}
	if len(groups.Links) != 2 || len(groups.Links[0].Positions) != 2 || groups.Links[0].Trouble == "" || len(translated.Positions) != 2 || translated.Trouble == "" {
		t.Errorf("saw the groups %v, and %v; want two positions, and that there is a trouble", groups, translated)
	}
	if len(set.Settings) != 1 || len(past.Changes) != 1 || past.Changes[0].Number != 3 || len(drift.Drifts) != 1 || len(owners.Owners) != 2*fakePartitions || len(st.Links) != 2 {
		t.Errorf("saw %d settings, changes %v, %d owners, %d links", len(set.Settings), past.Changes, len(owners.Owners), len(st.Links))
	}
}

func TestIncludes(t *testing.T) {
	for _, tc := range []struct {
		scope, pattern string
		want           bool
	}{
		{"*", "~.*", true},
		{"orders", "orders", true},
		{"orders", "orders*", false},
		{"orders-*", "orders-eu", true},
		{"orders-*", "orders-*", true},
		{"orders-*", "orders-eu-*", true},
		{"orders-*", "orders-?", true},
		{"orders-*", "orders?*", false},
		{"orders-*", "*", false},
		{"o*-eu", "orders-*-eu", true},
		{"o*-eu", "orders-*", false},
		{"o?", "o*", false},
		{"o?*", "o??", true},
		{"*a*", "*", false},
		{"**", "*", true},
		{"~^orders-", "orders-eu", true},
		{"~^orders-", "orders-*", false},
		{"~^orders-", "~^orders-", true},
		{"orders-*", "~^orders-", false},
	} {
		p := patterns(t, tc.scope)[0]
		if got := includes(p, tc.pattern); got != tc.want {
			t.Errorf("%s includes %s: %v, want %v", tc.scope, tc.pattern, got, tc.want)
		}
	}
}
