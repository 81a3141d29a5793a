package real

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/nemesis"
	"github.com/isthmus-project/isthmus/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	topic      = "orders"
	partitions = 6
	// calm is how long copying may take when all is well again.
	calm = 3 * time.Minute
	// listener is where mirrors connect: its addresses are those of relays.
	listener = "MIRROR"
)

// stage is a run on its way.
type stage struct {
	t     *testing.T
	rng   *rand.Rand
	sites []*site
	nodes []*node.Node
	past  *nemesis.Past
	log   *judge.Log
	parts int
	begun bool // every partition has its durable beginning
}

// site is a cluster, the ways of the mirrors to its brokers, and what writes to it.
type site struct {
	*node.Site
	seed    uint64
	brokers int
	relays  []*relay
	disk    *disk
	load    *node.Writing
	loads   uint64 // so many were started before: no two of them write the same
}

// behind is a site as mirrors see it.
type behind struct {
	node.Server
	addresses []string
}

// Bootstrap is where the relays are.
func (b behind) Bootstrap() []string { return b.addresses }

// length is for how long faults are thrown.
func length(t *testing.T) time.Duration {
	t.Helper()
	if !node.Soak() {
		return 40 * time.Second
	}
	minutes := 30
	if text := os.Getenv("ISTHMUS_NEMESIS_MINUTES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("read ISTHMUS_NEMESIS_MINUTES: %v", err)
		}
		minutes = n
	}
	return time.Duration(minutes) * time.Minute
}

// TestReal_Nemesis: two nodes that know of no other mirror both ways between two clusters, of which the first has three brokers if there is time
// for that.
func TestReal_Nemesis(t *testing.T) {
	kafka.Require(t)
	seed := node.Seed(t)
	s := &stage{t: t, rng: rand.New(rand.NewPCG(seed, 6)), past: nemesis.NewPast(), log: judge.NewLog(), parts: partitions}
	s.start(node.Pick(1, 3), 1)
	var seen []*node.Site
	for _, site := range s.sites {
		site.Create(t, topic, partitions)
		seen = append(seen, site.seen())
	}
	setup := node.NewSetup(t, "nemesis", seen, []string{"eu>us", "us>eu"}, []string{topic}, []string{"n1", "n2"})
	for _, name := range []string{"n1", "n2"} {
		n := setup.Node(name)
		n.Start()
		s.nodes = append(s.nodes, n)
	}
	for _, site := range s.sites {
		s.write(site)
	}
	for end, i := time.Now().Add(length(t)), 1; time.Now().Before(end); i++ {
		began := time.Now()
		what := s.strike()
		t.Logf("%s: %s, %.1fs", began.Format(time.TimeOnly), what, time.Since(began).Seconds())
		if s.pause(200*time.Millisecond, 3*time.Second); i%8 == 0 {
			s.look()
		}
	}
	for _, site := range s.sites {
		site.load.Stop(t)
	}
	rested := time.Now()
	s.heal()
	setup.CaughtUp(calm, []string{topic}, s.nodes[0])
	e := nemesis.Evidence{Topics: []string{topic}, Topology: setup.Topology, Past: s.past, Log: s.log, Ledger: ledger(setup, s.nodes[0]),
		Ways: setup.AgreedWays([]string{topic}, s.nodes[0].API), Idle: max(calm, time.Since(rested)), StallAfter: calm}
	for _, site := range s.sites {
		e.Clients = append(e.Clients, site.Client())
	}
	wrong, err := e.Judge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

// start starts clusters of so many brokers, each behind relays of its own.
func (s *stage) start(brokers ...int) {
	var options []kafka.Options
	for i, name := range []string{"eu", "us"} {
		site := &site{seed: uint64(1 + 50*i), brokers: brokers[i]}
		o := kafka.Options{Name: name, Brokers: brokers[i], HeapMB: 320, Listeners: map[string]string{listener: "PLAINTEXT"},
			Advertised: make(map[string][]string)}
		if brokers[i] == 1 && node.Soak() {
			if site.disk = newDisk(s.t, 1<<30); site.disk != nil {
				o.Dir = site.disk.dir
			}
		}
		for range brokers[i] {
			r := newRelay(s.t)
			site.relays = append(site.relays, r)
			o.Advertised[listener] = append(o.Advertised[listener], r.l.Addr().String())
		}
		s.sites, options = append(s.sites, site), append(options, o)
	}
	started := node.StartSitesWith(s.t, options...)
	for i, site := range s.sites {
		site.Site = started[options[i].Name]
		for b, addr := range site.Server.(*kafka.Cluster).Addresses(listener) {
			site.relays[b].lead(addr)
		}
	}
}

// seen is the site as mirrors see it.
func (s *site) seen() *node.Site {
	var addresses []string
	for _, r := range s.relays {
		addresses = append(addresses, r.l.Addr().String())
	}
	return &node.Site{Server: behind{s.Server, addresses}, Name: s.Name, Admin: s.Admin}
}

// write starts a load on a site, with times up to an hour off.
func (s *stage) write(at *site) {
	life := s.past.Life(at.Name, topic)
	var when time.Time
	if off := s.rng.IntN(4); off < 2 {
		when = time.Now().Add(time.Duration(2*off-1) * 55 * time.Minute)
	}
	at.load = node.Write(s.t, at.Client(), s.log, node.Mix{Topic: topic, Partitions: partitions, Rate: 400, Seed: at.seed + 10_000_000*at.loads, Light: true,
		Life: life, At: when})
	at.loads++
}

// look reads what is there, for M9. Brokers may be on their way back.
func (s *stage) look() {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	for _, site := range s.sites {
		if err := s.past.Look(ctx, site.Client(), []string{topic}); err != nil {
			s.t.Logf("not looked at: %v", err)
		}
	}
}

// heal takes what lasts away, and has what is halted go on.
func (s *stage) heal() {
	for _, site := range s.sites {
		for _, r := range site.relays {
			r.become(ways{})
		}
	}
	s.set("recreated", "new-incarnation")
	s.nodes[1].Stop()
}

// pause waits for a while of the schedule.
func (s *stage) pause(least, most time.Duration) {
	timer := time.NewTimer(least + time.Duration(s.rng.Int64N(int64(most-least))))
	defer timer.Stop()
	select {
	case <-s.t.Context().Done():
	case <-timer.C:
	}
}

// ledger is what a node's says.
func ledger(s *node.Setup, n *node.Node) (out []mirror.LedgerEntry) {
	for _, e := range n.Ledger() {
		link, _ := s.Topology.Link(e.GetLink())
		out = append(out, mirror.LedgerEntry{Link: e.GetLink(), Pump: mirror.PumpID{From: link.From, To: link.To, Topic: e.GetTopic(), Partition: e.GetPartition()},
			First: e.GetFirst(), Last: e.GetLast(), Records: e.GetRecords(), Reason: mirror.Reason(e.GetReason()), Detail: e.GetDetail()})
	}
	return out
}

// set gives both links a setting.
func (s *stage) set(key, value string) string {
	said := ""
	for _, link := range []string{"eu-us", "us-eu"} {
		said += s.cli("set", fmt.Sprintf("link.%s.%s", link, key), value, "--why", "nemesis", "--yes")
	}
	return said
}

// cli asks the first node that answers, and returns what was wrong with that.
func (s *stage) cli(args ...string) string {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	out, err := s.nodes[0].CLI(ctx, args...)
	if err != nil {
		return fmt.Sprintf(" (%v %s)", err, out)
	}
	return ""
}
