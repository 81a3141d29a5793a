package fabric

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
)

// paused is what all nodes know of pauses.
type paused struct {
	mu  sync.Mutex
	all map[string]func(partition int32) bool // by prefix of a topic
}

func (p *paused) why(_, topic string, partition int32) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for prefix, hit := range p.all {
		if strings.HasPrefix(topic, prefix) && hit(partition) {
			return "ops: for a test", true
		}
	}
	return "", false
}

func (p *paused) set(team *Team, prefix string, hit func(int32) bool) {
	p.mu.Lock()
	p.all[prefix] = hit
	p.mu.Unlock()
	for _, n := range team.Alive() {
		n.Set.SetPauses(p.why)
		n.Set.Reconsider()
	}
}

func (p *paused) lift(team *Team, prefix string) {
	p.mu.Lock()
	delete(p.all, prefix)
	p.mu.Unlock()
	for _, n := range team.Alive() {
		n.Set.Reconsider()
	}
}

func everyPartition(int32) bool { return true }

// stateOf is what the node that has the partition does with it.
func stateOf(team *Team, topic string, partition int32) (st mirror.PumpStatus) {
	for _, n := range team.Alive() {
		for _, p := range pumps(n, topic) {
			if p.Partition == partition && p.State != mirror.StateElsewhere {
				st = p
			}
		}
	}
	return st
}

// One of 64 partitions is paused under load: only that one stops. It stays paused over a kill and a change of owner, and goes
// on at its place.
func TestPause_OneOf64(t *testing.T) {
	const partitions, one = 64, 17
	names := []string{"n1", "n2"}
	sharing(t, 1, partitions, names, func(t *testing.T, f *Fabric, team *Team) {
		time.Sleep(2 * time.Second)
		w := watch(t, f, "us", "orders", partitions)
		time.Sleep(time.Second)
		p := &paused{all: make(map[string]func(int32) bool)}
		p.set(team, "orders", func(n int32) bool { return n == one })
		eventually(t, 2*time.Second, "the partition is paused", func() bool { return stateOf(team, "orders", one).State == mirror.StatePaused })
		if why := stateOf(team, "orders", one).Reason; why != "ops: for a test" {
			t.Errorf("paused because of %q", why)
		}
		w.reset()
		place := stateOf(team, "orders", one).SourceNext
		time.Sleep(5 * time.Second)
		still := 0
		for _, d := range w.reset() {
			if d > time.Second {
				still++
			}
		}
		if still != 1 {
			t.Errorf("%d partitions stood still, want only the paused one", still)
		}
		if got := copies("orders", team.Alive()...); got != partitions-1 {
			t.Errorf("%d partitions run", got)
		}
		was := "n1"
		if stateOf(team, "orders", one) == (mirror.PumpStatus{}) || len(pumps(team.Node("n1"), "orders")) <= one || pumps(team.Node("n1"), "orders")[one].State == mirror.StateElsewhere {
			was = "n2"
		}
		team.Kill(was)
		rest := names[0]
		if was == rest {
			rest = names[1]
		}
		team.Move(Only(rest), 0)
		eventually(t, 15*time.Second, "the other node has it, and it is paused", func() bool {
			ps := pumps(team.Node(rest), "orders")
			return ps[one].State == mirror.StatePaused && copies("orders", team.Node(rest)) == partitions-1
		})
		n := team.Start(was, Only(was))
		n.Set.SetPauses(p.why)
		team.Move(Only(was), 100*time.Millisecond)
		time.Sleep(5 * time.Second)
		if st := stateOf(team, "orders", one); st.State != mirror.StatePaused || st.SourceNext < place {
			t.Errorf("after its owner came back the partition is %s at %d, it was paused at %d", st.State, st.SourceNext, place)
		}
		p.lift(team, "orders")
		eventually(t, 5*time.Second, "the partition goes on", func() bool {
			st := stateOf(team, "orders", one)
			return st.State == mirror.StateRunning && st.SourceNext > place
		})
		w.stop()
	})
}

// A pattern pauses a topic that does not exist yet.
func TestPause_BeforeTheTopicExists(t *testing.T) {
	scenario(t, Options{Topics: []string{"orders"}}, func(t *testing.T, f *Fabric, log *judge.Log) {
		team := f.Share(Only("n1"), "n1")
		defer team.Stop()
		p := &paused{all: make(map[string]func(int32) bool)}
		p.set(team, "late", everyPartition)
		time.Sleep(3 * time.Second)
		createTopic(t, f, "eu", "late-1", 2, nil)
		write(t, f, log, "eu", judge.Load{Topic: "late-1", Partitions: 2, Records: 100, Size: 50, Seed: 1})
		eventually(t, 10*time.Second, "both partitions are there, and paused", func() bool {
			ps := pumps(team.Node("n1"), "late-1")
			return len(ps) == 2 && ps[0].State == mirror.StatePaused && ps[1].State == mirror.StatePaused
		})
		time.Sleep(5 * time.Second)
		if got := holds(t, f, "us", "late-1"); got > 0 {
			t.Errorf("%d records were copied of a paused topic", got)
		}
		p.lift(team, "late")
		arrives(t, f, "late-1", 100, 5*time.Second)
		verdict(t, f, judge.Case{Topics: []string{"late-1"}, Log: log})
	})
}

// Paused and resumed all the time, while the target does not answer now and then: nothing is lost or doubled.
func TestPause_BackAndForth(t *testing.T) {
	sharing(t, 3, 4, []string{"n1", "n2"}, func(t *testing.T, f *Fabric, team *Team) {
		p := &paused{all: make(map[string]func(int32) bool)}
		for i := range 20 {
			if i%4 == 3 {
				team.Node("n1").Paths["us"].Reset()
			}
			p.set(team, "orders", func(n int32) bool { return int(n)%3 == i%3 })
			time.Sleep(time.Duration(f.rng.Int64N(int64(time.Second))))
			p.lift(team, "orders")
			time.Sleep(time.Duration(f.rng.Int64N(int64(time.Second))))
		}
	})
}
