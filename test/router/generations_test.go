package router

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/router"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/topology"
)

// TestGenerations_Switch: two instances hold at a round that is open, say so when nothing is under way, and go to the home that is decided with all their clients; and back again.
func TestGenerations_Switch(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		doors := []*door{f.start(0, 2, nil), f.start(1, 2, nil)}
		time.Sleep(3 * time.Second)
		for _, d := range doors {
			d.until(t, 0, "at the home of the file", serving(0, "eu"))
		}
		one, two := f.writes("orders", 0), f.writes("orders", 1)
		group := f.world.join("readers", kgo.ConsumeTopics("payments-1"), kgo.HeartbeatInterval(200*time.Millisecond))
		time.Sleep(10 * time.Second)
		p := f.prepare("")
		for _, d := range doors {
			d.router.Look()
			if took := d.until(t, 0, "held", held(1)); took > 200*time.Millisecond {
				t.Errorf("it took %v to hold", took)
			}
			if s := d.router.Standings()[0]; s.Phase != hold.Held || s.Writes != 0 {
				t.Errorf("%+v", s)
			}
		}
		left := f.records(seeds["eu"], "orders")
		time.Sleep(time.Second)
		if n := f.records(seeds["eu"], "orders"); n != left || n == 0 {
			t.Errorf("the home has %d records, and %d when all was held", n, left)
		}
		f.decide(p, generation.Planned, "eu", "us")
		for _, d := range doors {
			d.router.Look()
			if took := d.until(t, 0, "at the new home", serving(1, "us")); took > 200*time.Millisecond {
				t.Errorf("it took %v to go to the new home", took)
			} else {
				t.Logf("at the new home after %v", took)
			}
			if s := d.router.Status(); s.Home != "us" || len(s.Troubles) > 0 {
				t.Errorf("%+v", s)
			}
		}
		arrived := f.asked()
		if len(arrived) != 2 {
			t.Fatalf("%d arrivals", len(arrived))
		}
		for _, a := range arrived {
			id, err := a.Salted(1)
			topics, wrong := a.Cut(t.Context(), a.Switches[0].Cut)
			if a.Router != "shop" || a.First != "eu" || len(a.Switches) != 1 || a.Left == nil || a.Left.Name() != "eu" || id != 1+salt || err != nil || wrong != nil || len(topics) != 1 {
				t.Errorf("%+v, %v, %v", a, err, wrong)
			}
		}
		if took := f.stable("us", "readers"); took > 2*time.Second { // who does not know its members waits longer for them
			t.Errorf("the group was at the new home after %v", took)
		}
		time.Sleep(5 * time.Second)
		before := f.records(seeds["us"], "orders")
		if before == 0 {
			t.Error("nothing was written at the new home")
		}
		f.decide(f.prepare(""), generation.Back, "us", "eu")
		for _, d := range doors {
			d.until(t, 0, "at the first home again", serving(2, "eu"))
		}
		time.Sleep(5 * time.Second)
		group.Close()
		a, gap := one.end(t)
		b, _ := two.end(t)
		if n := f.records(seeds["eu"], "orders") + f.records(seeds["us"], "orders"); n != int64(a+b) {
			t.Errorf("%d records were acknowledged, the homes have %d", a+b, n)
		}
		t.Logf("the longest time without an acknowledgement was %v, of which a second was held on purpose", gap)
		if len(group.errs) > 0 || group.lost > 0 {
			t.Errorf("the group saw %v, and lost its partitions %d times", group.errs, group.lost)
		}
	})
}

// TestGenerations_Stay: a round that decides to stay lets clients go on where they are, and one that nobody ends lets them go.
func TestGenerations_Stay(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		d := f.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		one := f.writes("orders", 0)
		in := f.client([]int{0}, kgo.ConsumeTopics("payments-1"), kgo.FetchMaxWait(5*time.Second))
		defer in.Close()
		go in.PollFetches(context.Background())
		time.Sleep(time.Second)
		p := f.prepare("")
		d.until(t, 0, "held without being told", held(1))
		n := one.count()
		time.Sleep(time.Second)
		if now := one.count(); now != n {
			t.Errorf("%d records were acknowledged while all was held", now-n)
		}
		if pending(d) == 0 {
			t.Error("nobody waits for the home: the test has not tried what comes now")
		}
		plan := generation.Plan{Switch: "s1", Kind: generation.Unplanned, From: "eu", To: "us", Round: p.Round, Ballot: p.Ballot, Seq: 1, Step: "hold"}
		if err := f.coord.WritePlan(t.Context(), "", plan); err != nil {
			t.Fatal(err)
		}
		d.until(t, 0, "held as if the home were lost", func(s router.Standing) bool { return held(1)(s) && s.Phase == hold.Lost })
		if n := pending(d); n != 0 {
			t.Errorf("%d answers are due from a home that is presumed dead", n)
		}
		f.stay(p, "eu")
		d.until(t, 0, "on", serving(0, "eu"))
		time.Sleep(5 * time.Second)
		if one.count() == n {
			t.Error("nothing goes on")
		}
		one.end(t)
		if len(f.asked()) > 0 {
			t.Error("another home was asked about")
		}
	})
}

// pending is how many answers are due to clients.
func pending(d *door) (n int) {
	for _, c := range d.router.Clients() {
		n += c.Pending
	}
	return n
}

// TestGenerations_Start: an instance that starts after a switch begins at its home, and one that starts in an open round holds until that is decided.
func TestGenerations_Start(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		f.decide(f.prepare(""), generation.Planned, "eu", "us")
		f.breaks(errors.New("no runs yet"))
		d := f.start(0, 1, nil)
		time.Sleep(5 * time.Second)
		if s := d.router.Status(); s.Ready || !strings.Contains(strings.Join(s.Troubles, " "), "no runs yet") || !strings.Contains(d.router.Standings()[0].Trouble, "no runs yet") {
			t.Errorf("what is to be known of the home is not: %+v", s)
		}
		f.breaks(nil)
		d.until(t, 0, "at the home that was decided", func(s router.Standing) bool { return serving(1, "us")(s) && d.router.Status().Ready })
		all := f.asked()
		if a := all[len(all)-1]; a.Left != nil || len(a.Switches) != 1 {
			t.Errorf("%+v", a)
		}
		one := f.writes("orders", 0)
		time.Sleep(time.Second)
		n, _ := one.end(t)
		if got := f.records(seeds["us"], "orders"); int(got) != n || n == 0 {
			t.Errorf("%d records were acknowledged, the home has %d", n, got)
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
		p := f.prepare("")
		d = f.start(0, 1, nil)
		for !d.router.Status().Ready {
			time.Sleep(time.Millisecond)
		}
		if s := d.router.Standings()[0]; s.Phase != hold.Held || s.Round != 2 {
			t.Errorf("ready in an open round: %+v", s)
		}
		d.until(t, 0, "held from the start", held(2))
		cl := f.client([]int{0}, kgo.DefaultProduceTopic("orders"))
		defer cl.Close()
		cl.Produce(t.Context(), kgo.StringRecord("late"), nil)
		time.Sleep(3 * time.Second)
		if got := f.records(seeds["us"], "orders"); int(got) != n {
			t.Errorf("the home has %d records, want %d", got, n)
		}
		f.decide(p, generation.Planned, "us", "ap")
		d.until(t, 0, "at the third home", serving(2, "ap"))
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.records(seeds["ap"], "orders"); got != 1 {
			t.Errorf("the third home has %d records", got)
		}
	})
}

// TestGenerations_Away: an instance that did not hear of switches goes to the last one only, without gates of a home that it did not leave. What it cannot do it says, and tries again.
func TestGenerations_Away(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		d := f.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		f.part("0", true, "eu", "us", "ap")
		time.Sleep(6 * time.Second)
		if s := d.router.Standings()[0]; s.Leased || s.Phase != hold.Serving || !strings.Contains(s.Trouble, "control clusters") {
			t.Errorf("%+v", s)
		}
		f.decide(f.prepare(""), generation.Planned, "eu", "us")
		f.decide(f.prepare(""), generation.Planned, "us", "ap")
		f.breaks(errors.New("no runs yet"))
		f.part("0", false, "eu", "us", "ap")
		d.until(t, 0, "in trouble", func(s router.Standing) bool {
			return strings.Contains(s.Trouble, "no runs yet") && s.Phase == hold.Held
		})
		began := time.Now()
		f.asked()
		time.Sleep(20 * time.Second)
		if n := len(f.asked()); n < 4 || n > 10 {
			t.Errorf("tried %d times in %v", n, time.Since(began))
		}
		if n := strings.Count(f.logged(), "cannot go to the home"); n != 1 {
			t.Errorf("said %d times", n)
		}
		f.breaks(nil)
		d.until(t, 0, "at the last home", serving(2, "ap"))
		all := f.asked()
		if a := all[len(all)-1]; len(a.Switches) != 2 || a.Left != nil || a.Switches[0].Home != "us" {
			t.Errorf("%+v", a)
		}
		if s := d.router.Status(); s.Home != "ap" || len(s.Troubles) > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestGenerations_Isolated: without a majority "continue" serves on, but holds at a round that it sees; "hold" writes until its lease is over and no longer, reads on, and ends the connection
// of a write whose answer comes too late.
func TestGenerations_Isolated(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		on := f.start(0, 1, nil)
		off := f.start(1, 1, func(c *router.Config) { c.Router.Isolated, c.Instances = topology.HoldIsolated, nil })
		time.Sleep(3 * time.Second)
		goes, stops := f.writes("orders", 0), f.writes("payments-1", 1)
		time.Sleep(time.Second)
		in := f.client([]int{1}, kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(1<<10), kgo.FetchMaxWait(100*time.Millisecond))
		f.some(in)
		f.part("0", true, "us", "ap")
		f.part("1", true, "us", "ap")
		time.Sleep(generation.LeaseLength + time.Second)
		a, b, there := goes.count(), stops.count(), f.records(seeds["eu"], "payments-1")
		time.Sleep(4 * time.Second)
		if goes.count() == a {
			t.Error("an isolated instance that is to continue does not")
		}
		if n := stops.count(); n != b || b == 0 {
			t.Errorf("%d records were acknowledged without a lease", n-b)
		}
		if n := f.records(seeds["eu"], "payments-1"); n != there {
			t.Errorf("%d records were sent on without a lease", n-there)
		}
		if s := off.router.Standings()[0]; s.Leased || s.Writes != 0 {
			t.Errorf("%+v", s)
		}
		if f.some(in) == 0 {
			t.Error("nothing can be read without a lease")
		}
		in.Close()
		f.part("1", false, "us", "ap")
		off.until(t, 0, "leased again", serving(0, "eu"))
		time.Sleep(5 * time.Second) // the client was hung up on, and pauses before it tries again
		if stops.count() == b {
			t.Error("with a lease again nothing goes on")
		}
		p := f.prepare("") // it can read one log
		on.until(t, 0, "held at what it sees", held(1))
		off.until(t, 0, "held", held(1))
		f.stay(p, "eu")
		f.part("0", false, "us", "ap")
		on.until(t, 0, "on", serving(0, "eu"))
		off.until(t, 0, "on", serving(0, "eu"))
		n, _ := goes.end(t)
		m, _ := stops.end(t)
		if got := []int64{f.records(seeds["eu"], "orders"), f.records(seeds["eu"], "payments-1")}; int(got[0]) != n || int(got[1]) != m {
			t.Errorf("%d and %d records were acknowledged, the home has %d", n, m, got)
		}
	})
}

// TestGenerations_LateAnswer: a write whose answer comes when the lease is over is not acknowledged; its connection ends.
func TestGenerations_LateAnswer(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		d := f.start(0, 1, func(c *router.Config) { c.Router.Isolated = topology.HoldIsolated })
		time.Sleep(3 * time.Second)
		cl := f.client([]int{0}, kgo.DefaultProduceTopic("orders"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		defer cl.Close()
		if _, _, err := cl.ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord("first")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		f.slow(5 * time.Second)
		f.part("0", true, "us", "ap")
		acked := make(chan error, 1)
		cl.Produce(t.Context(), kgo.StringRecord("second"), func(_ *kgo.Record, err error) { acked <- err })
		time.Sleep(time.Second)
		if s := d.router.Standings()[0]; s.Writes != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(9 * time.Second)
		select {
		case err := <-acked:
			t.Fatalf("a write that was answered without a lease is acknowledged: %v", err)
		default:
		}
		if n := f.records(seeds["eu"], "orders"); n != 2 {
			t.Errorf("the home has %d records: the test has not tried what it is for", n)
		}
		if s := d.router.Standings()[0]; s.Writes != 0 {
			t.Errorf("%+v", s)
		}
		f.part("0", false, "us", "ap")
		if err := <-acked; err != nil {
			t.Error(err)
		}
		if n := f.records(seeds["eu"], "orders"); n != 2 { // it was sent again, and the home knew it
			t.Errorf("the home has %d records", n)
		}
	})
}

// TestGenerations_Lost: at an unplanned round nobody is asked any more who is presumed dead, and who waits for it is hung up on at once.
func TestGenerations_Lost(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		d := f.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		one := f.writes("orders", 0)
		time.Sleep(time.Second)
		f.silent.Store(true)
		time.Sleep(time.Second)
		if s := d.router.Standings()[0]; s.Writes == 0 {
			t.Error("no write waits for the home")
		}
		p := f.prepare("")
		plan := generation.Plan{Switch: "s1", Kind: generation.Unplanned, From: "eu", To: "us", Round: p.Round, Ballot: p.Ballot, Seq: 1, Step: "hold"}
		if err := f.coord.WritePlan(t.Context(), "", plan); err != nil {
			t.Fatal(err)
		}
		if took := d.until(t, 0, "held", held(1)); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		if s := d.router.Standings()[0]; s.Phase != hold.Lost || s.Writes != 0 {
			t.Errorf("%+v", s)
		}
		f.decide(p, generation.Unplanned, "eu", "us")
		d.until(t, 0, "at the new home", serving(1, "us"))
		if a := f.asked(); len(a) != 1 || a[0].Left != nil {
			t.Errorf("%+v", a)
		}
		time.Sleep(5 * time.Second)
		if n := f.records(seeds["us"], "orders"); n == 0 {
			t.Error("nothing is written at the new home")
		}
		one.end(t)
	})
}

// TestGenerations_Sets: sets switch alone, and those that do not go on meanwhile.
func TestGenerations_Sets(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		d := f.start(0, 1, func(c *router.Config) { c.Router.Sets, c.Instances = fastSet("eu"), nil })
		time.Sleep(3 * time.Second)
		rest, fast := f.writes("orders", 0), f.writes("payments-1", 0)
		time.Sleep(time.Second)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(router.NewMetrics(func() []*router.Router { return []*router.Router{d.router} }))
		p := f.prepare("fast")
		d.until(t, 1, "held", held(1))
		if s := d.router.Standings(); s[0].Phase != hold.Serving || s[0].Set != "" || s[1].Set != "fast" {
			t.Errorf("%+v", s)
		}
		n := rest.count()
		time.Sleep(time.Second)
		if rest.count() == n {
			t.Error("another set is held")
		}
		if got := samples(t, registry); got["held_requests fast"] < 1 || got["held_requests "] != 0 || got["phase held fast"] != 1 {
			t.Errorf("%v", got)
		}
		f.decide(p, generation.Planned, "eu", "us")
		d.until(t, 1, "at its new home", serving(1, "us"))
		time.Sleep(2 * time.Second)
		a, _ := rest.end(t)
		b, _ := fast.end(t)
		if got := f.records(seeds["eu"], "orders"); int(got) != a {
			t.Errorf("%d records of what stays were acknowledged, the home has %d", a, got)
		}
		at := []int64{f.records(seeds["eu"], "payments-1"), f.records(seeds["us"], "payments-1")}
		if int(at[0]+at[1]) != b || slices.Contains(at, 0) {
			t.Errorf("%d records of the set were acknowledged, the homes have %v", b, at)
		}
		got := samples(t, registry)
		for name, want := range map[string]float64{"held_requests fast": 0, "generation fast": 1, "generation ": 0, "home us fast": 1, "home eu ": 1, "moves_total fast": 1, "moves_total ": 0, "move_failures_total fast": 0} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		if got["waited_seconds_total"] < 1 {
			t.Errorf("%v", got)
		}
		if a := f.asked(); len(a) != 1 || a[0].Set != "fast" || a[0].First != "eu" {
			t.Errorf("%+v", a)
		}
	})
}

// TestGenerations_StartWithFew: an instance that can read some of the logs only begins after a while where they say; one that can read none does not begin.
func TestGenerations_StartWithFew(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		f.decide(f.prepare(""), generation.Planned, "eu", "us")
		f.part("0", true, "eu", "us", "ap")
		d := f.start(0, 1, nil)
		time.Sleep(20 * time.Second)
		if s := d.router.Status(); s.Ready || len(s.Troubles) == 0 {
			t.Errorf("no log can be read: %+v", s)
		}
		if err := d.end(); err != nil {
			t.Error(err)
		}
		f.part("0", false, "eu", "us", "ap")
		f.part("0", true, "us", "ap")
		d = f.start(0, 1, nil)
		time.Sleep(9 * time.Second)
		if s := d.router.Status(); s.Ready {
			t.Errorf("one log of three is believed at once: %+v", s)
		}
		d.until(t, 0, "at the home that one log names", func(s router.Standing) bool { return s.Generation == 1 && s.Home == "us" })
		time.Sleep(20 * time.Second) // who keeps what clients are told is looked for, too
		if s := d.router.Status(); !s.Ready || s.Home != "us" || s.Sets[0].Leased || s.Sets[0].Trouble == "" {
			t.Errorf("%+v", s)
		}
	})
}

// TestGenerations_NextIsOpen: who comes late to a home behind which a round is open already lets nothing through there.
func TestGenerations_NextIsOpen(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		d := f.start(0, 1, nil)
		time.Sleep(3 * time.Second)
		one := f.writes("orders", 0)
		f.part("0", true, "eu", "us", "ap")
		f.decide(f.prepare(""), generation.Planned, "eu", "us")
		p := f.prepare("")
		time.Sleep(time.Second)
		f.part("0", false, "eu", "us", "ap")
		d.until(t, 0, "held at the second home", func(s router.Standing) bool { return held(2)(s) && s.Generation == 1 && s.Home == "us" })
		f.decide(p, generation.Planned, "us", "ap")
		d.until(t, 0, "at the third home", serving(2, "ap"))
		time.Sleep(time.Second)
		n, _ := one.end(t)
		at := []int64{f.records(seeds["eu"], "orders"), f.records(seeds["us"], "orders"), f.records(seeds["ap"], "orders")}
		if at[1] != 0 || int(at[0]+at[2]) != n {
			t.Errorf("%d records were acknowledged, the homes have %v", n, at)
		}
	})
}

// TestGenerations_LeaseBack: who waits for a lease goes on with it, over the same connection.
func TestGenerations_LeaseBack(t *testing.T) {
	inFabric(t, func(t *testing.T, f *fabric) {
		d := f.start(0, 1, func(c *router.Config) { c.Router.Isolated = topology.HoldIsolated })
		time.Sleep(3 * time.Second)
		one := f.writes("orders", 0)
		time.Sleep(time.Second)
		opened := d.router.Status().Opened
		f.part("0", true, "us", "ap")
		time.Sleep(generation.LeaseLength + time.Second)
		f.part("0", false, "us", "ap")
		d.until(t, 0, "leased again", serving(0, "eu"))
		time.Sleep(time.Second)
		if n := d.router.Status().Opened; n != opened {
			t.Errorf("%d connections were opened, before %d", n, opened)
		}
		if _, gap := one.end(t); gap < time.Second || gap > hold.Patience {
			t.Errorf("nothing was acknowledged for %v", gap)
		}
	})
}
