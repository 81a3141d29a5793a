package gossip

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// aPool is a pool that does not run.
func aPool(t testing.TB, cfg Config) *Pool {
	t.Helper()
	clock := NewClock(cfg.Name, time.Now)
	if cfg.Fabric == "" {
		cfg.Fabric = "shop"
	}
	if cfg.Bind == "" {
		cfg.Bind = "127.0.0.1:0"
	}
	p, err := NewPool(cfg, Deps{Settings: NewSettings(clock), Clock: clock, Now: time.Now, Rand: rand.New(rand.NewPCG(1, 1))})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewPool_NamesWhatIsWrong(t *testing.T) {
	good := Config{Name: "eu-1", DC: "eu", Fabric: "shop", Bind: "127.0.0.1:7946", Seeds: []string{"localhost:1"}}
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no name", func(c *Config) { c.Name = "" }, "name"},
		{"a name with a slash", func(c *Config) { c.Name = "a/b" }, "name"},
		{"no fabric", func(c *Config) { c.Fabric = "" }, "fabric"},
		{"a long fabric", func(c *Config) { c.Fabric = strings.Repeat("x", 256) }, "fabric"},
		{"a data center that fills every packet", func(c *Config) { c.DC = strings.Repeat("x", 600) }, "dc"},
		{"a key of 5 bytes", func(c *Config) { c.Keys = [][]byte{make([]byte, 32), make([]byte, 5)} }, "key 2 has 5 bytes"},
		{"no network", func(c *Config) { c.CIDRs = []string{"10.0.0.0"} }, "10.0.0.0"},
		{"off loopback without a key", func(c *Config) { c.Bind = "10.0.0.1:7946" }, "set a gossip key"},
		{"a seed off loopback without a key", func(c *Config) { c.Seeds = []string{"eu-2.example:7946"} }, "set a gossip key"},
		{"all addresses without a key", func(c *Config) { c.Bind = "0.0.0.0:7946" }, "set a gossip key"},
		{"no port", func(c *Config) { c.Advertise = "127.0.0.1" }, "host:port"},
	} {
		cfg := good
		tc.change(&cfg)
		clock := NewClock("n", time.Now)
		_, err := NewPool(cfg, Deps{Settings: NewSettings(clock), Clock: clock, Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one about %q", tc.name, err, tc.want)
		}
	}
	aPool(t, good)
	keyed := good
	keyed.Bind, keyed.Keys = "0.0.0.0:7946", [][]byte{make([]byte, 32)}
	aPool(t, keyed)
}

func TestWindow_LetsEachNumberThroughOnce(t *testing.T) {
	w := &window{}
	for _, n := range []uint64{1, 3, 2, 900, 5000, 4999, 3977, 1 << 40} {
		if !w.first(n) {
			t.Errorf("%d counts as come, it did not", n)
		}
		if w.first(n) {
			t.Errorf("%d came twice", n)
		}
	}
	for _, n := range []uint64{0, 1, 5000, 1<<40 - replayRange} {
		if w.first(n) {
			t.Errorf("%d is let through, it is too old to know", n)
		}
	}
}

func TestMailbox_DropsWhatIsRepeatedOrForAnotherLife(t *testing.T) {
	p := aPool(t, Config{Name: "self", Started: 10})
	got := 0
	p.Handle("k", func(string, []byte) { got++ })
	good := letter{FromStarted: 3, To: "self", ToStarted: 10, Seq: 7, Kind: "k"}
	for _, tc := range []struct {
		name   string
		change func(*letter)
		want   int
	}{
		{"new", func(*letter) {}, 1},
		{"again", func(*letter) {}, 0},
		{"the next", func(l *letter) { l.Seq++ }, 1},
		{"of the life before this one", func(l *letter) { l.ToStarted, l.Seq = 9, 20 }, 0},
		{"for another node", func(l *letter) { l.To, l.Seq = "other", 20 }, 0},
		{"of another life of the sender", func(l *letter) { l.FromStarted = 4 }, 1},
		{"of another kind", func(l *letter) { l.Kind, l.Seq = "other", 30 }, 0},
	} {
		l := good
		tc.change(&l)
		got = 0
		p.receive(packLetter("n1", l))
		for len(p.mail.queue) > 0 {
			(<-p.mail.queue)()
		}
		if got != tc.want {
			t.Errorf("a letter that is %s is handled %d times, want %d", tc.name, got, tc.want)
		}
	}
}

func TestPool_SaysOnceAMinuteWhoIsNewer(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	p := aPool(t, Config{Name: "self"})
	p.deps.Log, p.limit = slog.New(slog.NewTextHandler(&out, nil)), newLimiter(func() time.Time { return now })
	b := packReport("n9", aReport())
	b[0] = messageVersion + 1
	for range 100 {
		p.receive(b)
	}
	if got := strings.Count(out.String(), "newer version"); got != 1 || !strings.Contains(out.String(), "node=n9") {
		t.Errorf("100 newer messages give %d lines, want one that names n9:\n%s", got, &out)
	}
	now = now.Add(time.Minute)
	p.receive(b)
	if got := strings.Count(out.String(), "newer version"); got != 2 {
		t.Errorf("a minute later there are %d lines, want 2", got)
	}
}

func TestMembers_ReportsOfAnotherLifeWait(t *testing.T) {
	m := newMembers("self", time.Now)
	m.join("a", "x:1", meta{Started: 5})
	m.tell("a", Report{Started: 5, Seq: 3, DC: "old"})
	if m.tell("a", Report{Started: 6, Seq: 1, DC: "new"}) || m.peers["a"].report.DC != "old" {
		t.Error("a report of a life that membership does not know replaced the known one")
	}
	m.join("a", "x:1", meta{Started: 6})
	if m.peers["a"].report.DC != "new" {
		t.Errorf("the new life has report %+v, want the one that waited", m.peers["a"].report)
	}
	if m.tell("a", Report{Started: 6, Seq: 1}) || m.tell("a", Report{Started: 5, Seq: 9}) {
		t.Error("an older report was taken")
	}
	if _, n, _ := m.crashes("a"); n != 1 {
		t.Errorf("%d crashes, want the one of the first life", n)
	}
}

func TestWatchers_AreOfDifferentDataCentersAndStay(t *testing.T) {
	var all []watcher
	for i := range 30 {
		all = append(all, watcher{string(rune('a'+i%26)) + string(rune('a'+i/26)), string(rune('x' + i%3))})
	}
	dc := make(map[string]string)
	for _, w := range all {
		dc[w.name] = w.dc
	}
	moved := 0
	for _, w := range all {
		names := watchers(w.name, all)
		seen := make(map[string]bool)
		for _, n := range names {
			seen[dc[n]] = true
			if n == w.name {
				t.Errorf("%s watches itself", n)
			}
		}
		if len(names) != watchersOf || len(seen) != 3 {
			t.Errorf("watchers of %s are %v, want three of three data centers", w.name, names)
		}
		if after := watchers(w.name, all[1:]); strings.Join(after, " ") != strings.Join(names, " ") {
			moved++
		}
	}
	if moved > 8 {
		t.Errorf("a node that goes changed the watchers of %d of 30 nodes, want about 3", moved)
	}
}

func TestGuard_LetsThroughWhatNodesSend(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	from := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}
	labelled := func(label string, b ...byte) []byte {
		b, err := memberlist.AddLabelHeaderToPacket(b, label)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	g := &guard{label: "shop", keys: func() [][]byte { return nil }, allowed: func(a net.Addr) bool { return hostOf(a) != "10.9.9.9" }}
	for _, tc := range []struct {
		name string
		b    []byte
		want string
	}{
		{"a ping", labelled("shop", wirePing, 1, 2, 3), ""},
		{"two messages", labelled("shop", wireCompound, 2, 0, 1, 0, 2, wirePing, wireUser, 5), ""},
		{"another label", labelled("sales", wirePing), "another fabric"},
		{"no label", []byte{wirePing}, "another fabric"},
		{"a label of nothing", []byte{wireLabel, 0}, "label is broken"},
		{"nothing", nil, "another fabric"},
		{"compressed", labelled("shop", wireCompressed, 1), "compressed"},
		{"compressed beside a ping", labelled("shop", wireCompound, 2, 0, 1, 0, 2, wirePing, wireCompressed, 5), "compressed"},
		{"messages in messages", labelled("shop", wireCompound, 1, 0, 4, wireCompound, 1, 0, 0), "in messages"},
		{"a length that lies", labelled("shop", wireCompound, 1, 9, 9, wirePing), "early"},
	} {
		if why := g.checkPacket(from, tc.b); !strings.Contains(why, tc.want) || (why == "") != (tc.want == "") {
			t.Errorf("%s: refused because %q, want %q", tc.name, why, tc.want)
		}
	}
	if why := g.checkPacket(&net.UDPAddr{IP: net.IPv4(10, 9, 9, 9)}, labelled("shop", wirePing)); why == "" {
		t.Error("a packet of a network that may not take part is let through")
	}
	g.keys = func() [][]byte { return [][]byte{key} }
	for _, b := range [][]byte{labelled("shop", wirePing), labelled("shop", make([]byte, sealOverhead)...), labelled("shop", append([]byte{0}, make([]byte, 60)...)...)} {
		if why := g.checkPacket(from, b); !strings.Contains(why, "keys") {
			t.Errorf("a packet that no key opens: refused because %q", why)
		}
	}
}
