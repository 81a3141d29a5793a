package topology

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// set makes settings of key and value in turn.
func set(pairs ...string) (settings []Setting) {
	for i := 0; i < len(pairs); i += 2 {
		settings = append(settings, Setting{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return settings
}

func unset(keys ...string) (settings []Setting) {
	for _, k := range keys {
		settings = append(settings, Setting{Key: k, Deleted: true})
	}
	return settings
}

func tier(t *testing.T) Source {
	t.Helper()
	return Source{Name: "testdata/tier.toml", Text: read(t, "testdata/tier.toml")}
}

func overlaid(t *testing.T, s Source, settings []Setting) *Topology {
	t.Helper()
	top, ignored, err := s.Overlay(settings)
	if err != nil || len(ignored) > 0 {
		t.Fatalf("%v, ignored %v", err, ignored)
	}
	return top
}

func TestOverlay_ChangesWhatItNames(t *testing.T) {
	s := tier(t)
	plain := overlaid(t, s, nil)
	for _, tc := range []struct {
		name     string
		settings []Setting
		want     []string
	}{
		{"a field", set("link/eu-us/topics", `["orders", "x-*"]`), []string{`link eu-us topics: ["*"] becomes ["orders", "x-*"]`}},
		{"a field that the file has not", set("link/eu-us/start", `2026-01-31T12:00:00Z`), []string{`link eu-us start: 2026-01-31T12:00:00Z`}},
		{"no field", set("link/eu-us/exclude", Absent, "stay", "[]"), []string{
			`link eu-us exclude: no longer ["patients-*"]`, `stay: no longer [{ topics = ["patients-*"], dcs = ["frankfurt"] }]`,
		}},
		{"an end, and the link keeps its name", set("cluster/ap", Present, "cluster/ap/bootstrap", `["ap:9092"]`, "link/eu-us/to", `"ap"`), []string{
			`cluster ap: { bootstrap = ["ap:9092"] }`, `link eu-us to: "us" becomes "ap"`,
		}},
		{"a link more", set("link/back", Present, "link/back/from", `"us"`, "link/back/to", `"eu"`, "link/back/topics", `["orders"]`), []string{
			`link back: { from = "us", to = "eu", topics = ["orders"] }`,
		}},
		{"a link less", set("link/eu-us", Removed, "link/eu-us/start", `"latest"`), []string{
			`link eu-us: no longer { from = "eu", to = "us", topics = ["*"], exclude = ["patients-*"] }`,
		}},
		{"a link that is there", set("link/eu-us", Present), nil},
		{"a home of all instances", set("router/shop/home", `"us"`, "router/shop/set", `[{ name = "kept", topics = ["patients-*"], home = "eu", slots = "9303" }]`), []string{
			`router shop@eu-1 home: "eu" becomes "us"`,
			`router shop@eu-1 set: [{ name = "fast", topics = ["payments-*"], groups = ["payments-*"], home = "us", slots = "9103-9108" }] becomes [{ name = "kept", topics = ["patients-*"], home = "eu", slots = "9303-9303" }]`,
			`router shop@us-1 home: "eu" becomes "us"`,
			`router shop@us-1 set: [{ name = "fast", topics = ["payments-*"], groups = ["payments-*"], home = "us", sni = "b{slot}.fast.example" }] becomes [{ name = "kept", topics = ["patients-*"], home = "eu", slots = "9303-9303" }]`,
		}},
		{"one instance", set("router/shop@eu-1/slots", `"9093-9097"`, "router/edge@eu-1", Removed), []string{
			`router edge@eu-1: no longer { listen = "10.1.0.1:9192", advertise = "10.1.0.1", slots = "9193-9193", home = "us", auth = "terminate", credentials = "file:edge-users.toml", tls = { cert = "file:kafka.pem", key = "env:KAFKA_KEY" }, limits = { connections = 5000, connections_per_address = 50, memory = 67108864, request = 1048576, idle = "5m0s" }, set = [{ name = "here", topics = ["patients-*"], home = "eu", slots = "9194-9196" }] }`,
			`router shop@eu-1 slots: "9093-9098" becomes "9093-9097"`,
		}},
		{"a quota", set("router/edge/quota", `[{ client_id = ["batch-*"], produce_rate = 1_000_000 }]`), []string{
			`router edge@eu-1 quota: [{ client_id = ["batch-*"], produce_rate = 1000000 }]`,
		}},
		{"a login", set("cluster/eu/tls", `{ ca = "file:ca.pem" }`), []string{`cluster eu tls: { ca = "file:eu.pem" } becomes { ca = "file:ca.pem" }`}},
		{"what was taken back", unset("link/eu-us/topics", "link/eu-us"), nil},
		{"what is of no topology", set("pause/eu-us/*/*", "{}", "drain/eu-1", "true", "log/level", "debug"), nil},
	} {
		got := overlaid(t, s, tc.settings)
		var diff []string
		for _, d := range Diff(plain, got) {
			diff = append(diff, d.String())
		}
		if !slices.Equal(diff, tc.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, strings.Join(diff, "\n"), strings.Join(tc.want, "\n"))
		}
		slices.Reverse(tc.settings)
		if again := overlaid(t, s, tc.settings); again.Export() != got.Export() {
			t.Errorf("%s: the order of settings matters", tc.name)
		}
	}
}

func TestOverlay_NamesEveryFault(t *testing.T) {
	s := tier(t)
	_, ignored, err := s.Overlay(set(
		"link/eu-us/exclude", `[]`,
		"link/eu-us/topic", `["a"]`,
		"link/eu-us/groups", `["a"`,
		"link/eu-us/start", "\"latest\"\n[fabric]\nname = \"other\"",
		"link/eu-us/replication_factor", `"three"`,
		"link/eu-us/to", `"mars"`,
		"link/more", Present,
		"link/less", "gone",
		"link/none/topics", `["a"]`,
		"cluster/us/tls", Absent,
		"cluster/us/sasl", `{ mechanism = "PLAIN", user = "u", password = "hunter2" }`,
		"cluster/us/dc", "",
		"router/shop@eu-1/home", `"us"`,
		"router/shop", Present,
		"stay", `[{ topics = ["patients-*", "audit"], dcs = ["frankfurt"] }]`,
	))
	var list Errors
	if !errors.As(err, &list) {
		t.Fatalf("got %v, want Errors", err)
	}
	golden(t, "testdata/overlay.golden", err.Error()+"\nignored: "+strings.Join(ignored, ", ")+"\n")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an error repeats a secret:\n%v", err)
	}
}

func TestOverlay_AStayRuleHoldsForSettings(t *testing.T) {
	s := tier(t)
	for _, tc := range []struct {
		settings []Setting
		want     string
	}{
		{set("link/eu-us/exclude", Absent), `testdata/tier.toml:38:6: the link "eu-us" would carry "patients-*" out of frankfurt, where line 42 keeps it`},
		{set("link/eu-us/exclude", `["x"]`), `setting link/eu-us/exclude: the link "eu-us" would carry "patients-*" out of frankfurt, where line 42 keeps it`},
		{set("stay", `[{ topics = ["orders"], dcs = ["frankfurt"] }]`), `the link "eu-us" would carry "orders" out of frankfurt, where setting stay keeps it`},
		{set("router/shop/home", `"us"`), `setting router/shop/home: the router "shop" would give "patients-*" a home outside frankfurt, where line 42 keeps it: "us" is in virginia`},
		{set("router/edge@eu-1/set", `[{ name = "h", topics = ["pat*"], home = "us", slots = "9194" }]`),
			`setting router/edge@eu-1/set: the set "h" of router "edge" would give "patients-*" a home outside frankfurt`},
	} {
		_, _, err := s.Overlay(tc.settings)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.settings[0].Key, err, tc.want)
		}
	}
}

func TestRunning_LeavesOutWhatDoesNotFit(t *testing.T) {
	s := tier(t)
	for _, tc := range []struct {
		name     string
		settings []Setting
		left     []string
		diff     int
	}{
		{"all fits", set("link/eu-us/groups", `["g"]`), nil, 1},
		{"a fault that names its setting", set("link/eu-us/groups", `["g"]`, "link/eu-us/exclude", "[]", "log/level", "debug"), []string{"link/eu-us/exclude"}, 1},
		{"a link to a cluster that another node removed", set("link/eu-us/groups", `["g"]`, "cluster/us", Removed), []string{"cluster/us"}, 1},
		{"the same, by a fault of the file", set("link/eu-us/groups", `["g"]`, "link/eu-us/start", `"latest"`, "link/eu-us/replication_factor", "2", "cluster/us", Removed),
			[]string{"cluster/us"}, 3},
		{"two that exclude each other", set("cluster/ap", Present, "cluster/ap/bootstrap", `["eu.example:9092"]`), []string{"cluster/ap", "cluster/ap/bootstrap"}, 0},
	} {
		before := overlaid(t, s, nil)
		got, left, err := s.Running(tc.settings)
		if got == nil || (err == nil) != (len(tc.left) == 0) || !slices.Equal(left, tc.left) {
			t.Errorf("%s: left %v, %v, want %v", tc.name, left, err, tc.left)
			continue
		}
		if d := Diff(before, got); len(d) != tc.diff {
			t.Errorf("%s: what runs differs in %v, want %d things", tc.name, d, tc.diff)
		}
	}
	if top, _, err := (Source{Name: "x.toml", Text: []byte("x")}).Running(nil); top != nil || err == nil {
		t.Errorf("a file that is not right runs: %v", err)
	}
}

// FuzzOverlay: no setting makes the overlay panic or changes what it does not name, and what is taken runs.
func FuzzOverlay(f *testing.F) {
	for _, k := range []string{"link/eu-us/topics", "link/x", "cluster/eu/sasl", "stay", "router/shop@eu-1/set", "router/shop/home", "pause/eu-us/a/1"} {
		f.Add(k, `["a"]`)
		f.Add(k, Present)
		f.Add(k, `{ a = [1, { b = 2 }] }`)
	}
	data := Source{Name: "tier.toml", Text: read(f, "testdata/tier.toml")}
	f.Fuzz(func(t *testing.T, key, value string) {
		settings := set(key, value)
		_ = CheckSetting(&Topology{}, key, []byte(value)) // only its panics matter
		top, _, err := data.Overlay(settings)
		if err != nil {
			return
		}
		if top.Fabric.Name != "shop" || len(top.Nodes) != 3 || len(top.Admin.Identities) != 2 {
			t.Fatalf("%q = %q changed what is of the file only", key, value)
		}
		checkTopology(t, top)
		again, err := Parse("tier.toml", []byte(top.Export()))
		if err != nil || again.RunningHash() != top.RunningHash() {
			t.Fatalf("%q = %q runs, and cannot be exported: %v\n%s", key, value, err, top.Export())
		}
	})
}

func TestPause_KeyAndBack(t *testing.T) {
	until := time.Date(2026, 1, 31, 12, 0, 0, 0, time.FixedZone("", 3600))
	for _, tc := range []struct {
		topics     string
		partitions []int32
		until      time.Time
		key        string
	}{
		{"orders", nil, time.Time{}, "pause/eu-us/orders/*"},
		{"pay-*", []int32{7, 0, 7, 12}, until, "pause/eu-us/pay-*/0,7,12"},
		{"~a/b|c", []int32{2147483647}, time.Time{}, "pause/eu-us/~a/b|c/2147483647"},
	} {
		p, err := NewPause("eu-us", tc.topics, tc.partitions, tc.until)
		if err != nil || p.Key() != tc.key {
			t.Errorf("%s: key %q, %v; want %q", tc.topics, p.Key(), err, tc.key)
			continue
		}
		back, err := ParsePause(p.Setting())
		if err != nil || back.Key() != tc.key || !back.Until.Equal(tc.until) || back.Topics.String() != tc.topics {
			t.Errorf("%s reads back as %+v, %v", tc.key, back, err)
		}
	}
}

func TestParsePause_Refuses(t *testing.T) {
	for _, s := range set(
		"pause/eu-us/orders", "{}", "pause/eu us/orders/*", "{}", "pause//orders/*", "{}", "link/eu-us/topics", "{}",
		"pause/eu-us//*", "{}", "pause/eu-us/a b/*", "{}", "pause/eu-us/~(/*", "{}", "pause/eu-us/__isthmus.map/*", "{}",
		"pause/eu-us/a/", "{}", "pause/eu-us/a/-1", "{}", "pause/eu-us/a/1,0", "{}", "pause/eu-us/a/1,1", "{}", "pause/eu-us/a/01", "{}",
		"pause/eu-us/a/2147483648", "{}", "pause/eu-us/a/"+strings.Repeat("1,", maxPausedPartitions)+"1", "{}",
		"pause/eu-us/a/*", "", "pause/eu-us/a/*", `{"until": "soon"}`, "pause/eu-us/a/*", "true",
	) {
		if p, err := ParsePause(s); err == nil {
			t.Errorf("%s = %s reads as %+v", s.Key, s.Value, p)
		} else if s.Key != "link/eu-us/topics" && CheckSetting(&Topology{}, s.Key, s.Value) == nil {
			t.Errorf("%s = %s passes the check", s.Key, s.Value)
		}
	}
}

func TestPauses_Find(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	settings := append(set(
		"pause/eu-us/pay-*/*", `{"until": "2026-01-01T01:00:00Z"}`,
		"pause/eu-us/pay-x/3", `{}`,
		"pause/us-eu/*/*", `{"until": "2026-01-01T00:00:00Z"}`,
		"pause/eu-us/bad/x", `{}`,
		"pause/eu-us/once/0,5", `{}`,
	), unset("pause/eu-us/orders/*")...)
	ps, err := NewPauses(settings)
	var bad Errors
	if !errors.As(err, &bad) || len(bad) != 1 || bad[0].Setting != "pause/eu-us/bad/x" {
		t.Errorf("got %v, want Errors that name the bad one", err)
	}
	for _, tc := range []struct {
		link, topic string
		partition   int32
		after       time.Duration
		want        string
	}{
		{"eu-us", "pay-later", 99, 0, "pause/eu-us/pay-*/*"}, // a topic that nobody has made yet
		{"eu-us", "pay-later", 99, time.Hour, ""},
		{"eu-us", "pay-x", 3, 0, "pause/eu-us/pay-x/3"}, // the one that lasts
		{"eu-us", "pay-x", 3, 2 * time.Hour, "pause/eu-us/pay-x/3"},
		{"eu-us", "pay-x", 4, 0, "pause/eu-us/pay-*/*"},
		{"eu-us", "orders", 0, 0, ""},
		{"eu-us", "once", 5, 0, "pause/eu-us/once/0,5"},
		{"eu-us", "once", 1, 0, ""},
		{"us-eu", "pay-x", 3, 0, ""},
		{"us-eu", "pay-x", 3, -time.Second, "pause/us-eu/*/*"},
	} {
		p, ok := ps.Find(tc.link, tc.topic, tc.partition, now.Add(tc.after))
		if ok != (tc.want != "") || ok && p.Key() != tc.want {
			t.Errorf("%s %s:%d after %v: %v %v, want %q", tc.link, tc.topic, tc.partition, tc.after, ok, p, tc.want)
		}
	}
	if next := ps.Next(now); !next.Equal(now.Add(time.Hour)) {
		t.Errorf("the next end is %v, want in an hour", next)
	}
	if all := ps.All("eu-us", now.Add(time.Hour)); len(all) != 2 {
		t.Errorf("%d pauses last, want 2", len(all))
	}
	if _, ok := (Pauses{}).Find("a", "b", 0, now); ok {
		t.Error("no pauses pause something")
	}
}

func TestDrainedAndLogLevel(t *testing.T) {
	settings := append(set(DrainKey("eu-1"), "true", LogLevelKey, "warn", DrainKey("eu-3"), "no"), unset(DrainKey("eu-2"))...)
	if got := Drained(settings); len(got) != 1 || !got["eu-1"] {
		t.Errorf("drained %v, want eu-1", got)
	}
	if level, ok := LogLevel(settings); !ok || level.String() != "WARN" {
		t.Errorf("level %v %v, want WARN", level, ok)
	}
	if _, ok := LogLevel(unset(LogLevelKey)); ok {
		t.Error("a level that was taken back still counts")
	}
}

func TestCheckSetting(t *testing.T) {
	top := overlaid(t, tier(t), nil)
	for _, tc := range []struct{ key, value, want string }{
		{"link/eu-us/topics", `["a"]`, ""},
		{"link/new", Present, ""},
		{"router/shop/home", `"us"`, ""},
		{"pause/eu-us/a-*/*", "{}", ""},
		{"drain/eu-2", "true", ""},
		{"log/level", "debug", ""},
		{"link/eu-uss/topics", `["a"]`, `unknown link "eu-uss"; did you mean "eu-us"?`},
		{"link/nowhere", Removed, `unknown link "nowhere"; there are eu-us`},
		{"link/eu-us", "gone", "neither present nor removed"},
		{"link/eu-us/name", `"x"`, "has no field"},
		{"link/eu-us/topics", `[`, "not TOML"},
		{"router/shop", Present, "no name of a router"},
		{"router/shop@eu-9/home", `"us"`, `unknown router "shop@eu-9"; did you mean "shop@eu-1"?`},
		{"pause/eu-su/a/*", "{}", `unknown link "eu-su"; did you mean "eu-us"?`},
		{"drain/eu-9", "true", `unknown node "eu-9"; did you mean`},
		{"drain/eu-1", "yes", "write true"},
		{"log/level", "loud", "no level"},
		{"fabric/name", `"x"`, "no such setting"},
		{"", "", "no such setting"},
		{"stay/x", "[]", "no such setting"},
	} {
		err := CheckSetting(top, tc.key, []byte(tc.value))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s = %s: %v, want %q", tc.key, tc.value, err, tc.want)
		}
	}
}
