package real

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// fault is one blow of a schedule.
type fault struct {
	after   int    // records acknowledged at the source before it falls
	what    string // mirror, disk (the mirror, and its disk is deleted), source, target
	copying bool   // wait until the mirror copies again after the blow before; else it may hit a recovery
}

func (f fault) String() string { return fmt.Sprintf("%s after %d records", f.what, f.after) }

// schedule spreads the blows over the load, by a seed. Each kill of a broker is followed by one of the mirror soon after
// that copies again, while its checkpoint is still from before.
func schedule(seed uint64, records int, counts map[string]int) []fault {
	rng := rand.New(rand.NewPCG(seed, 1))
	mirrors := slices.Concat(slices.Repeat([]string{"mirror"}, counts["mirror"]), slices.Repeat([]string{"disk"}, counts["disk"]))
	rng.Shuffle(len(mirrors), func(i, j int) { mirrors[i], mirrors[j] = mirrors[j], mirrors[i] })
	var out []fault
	for _, what := range []string{"source", "target"} {
		for range counts[what] {
			after := records/20 + rng.IntN(records*17/20)
			out = append(out, fault{after, what, rng.IntN(2) == 0}, fault{after + 1 + rng.IntN(records/100), mirrors[0], true})
			mirrors = mirrors[1:]
		}
	}
	for _, what := range mirrors {
		out = append(out, fault{records/20 + rng.IntN(records*17/20), what, rng.IntN(2) == 0})
	}
	slices.SortFunc(out, func(a, b fault) int { return cmp.Compare(a.after, b.after) })
	return out
}

// faults kills as often as counts says while so many records go from one cluster to the other.
func faults(t *testing.T, eu, us *node.Site, topic string, records int, counts map[string]int) {
	seed := node.Seed(t)
	eu.Create(t, topic, 16)
	topics := []string{topic}
	s := node.NewSetup(t, topic, []*node.Site{eu, us}, []string{eu.Name + ">" + us.Name}, topics, []string{"n1"})
	n := s.Node("n1")
	n.Start()

	log := judge.NewLog()
	w := node.Write(t, eu.Client(), log, node.Mix{Topic: topic, Partitions: 16, Rate: node.Pick(3_000, 20_000), Seed: 1})
	for _, f := range schedule(seed, records, counts) {
		node.Until(t, 3*time.Minute, f.String(), func(ctx context.Context) error {
			if acked := log.Acked(eu.Name); acked < f.after {
				return fmt.Errorf("%d records acknowledged", acked)
			}
			if f.copying {
				return copying(ctx, n)
			}
			return n.Alive()
		})
		t.Logf("%s: %v", time.Now().Format(time.TimeOnly), f)
		f.strike(n, eu, us)
	}
	node.Until(t, 3*time.Minute, "all records are written", func(context.Context) error {
		if acked := log.Acked(eu.Name); acked < records {
			return fmt.Errorf("%d of %d", acked, records)
		}
		return n.Alive()
	})
	w.Stop(t)
	s.CaughtUp(3*time.Minute, topics, n)
	v := s.Judged(log, topics, us.Name)
	if v.Records[us.Name] < records {
		t.Errorf("%s holds %d records, want at least the %d of the load", us.Name, v.Records[us.Name], records)
	}

	t.Run("translate", func(t *testing.T) { s.In(t).TranslatesRight(n, seed, node.Pick(25, 1000), topics...) })
	n.Kill()
	n.Start()
	s.CaughtUp(time.Minute, topics, n)
	t.Run("translate after a restart", func(t *testing.T) { s.In(t).TranslatesRight(n, seed, node.Pick(25, 1000), topics...) })
}

// strike does it, and starts again at once what it killed.
func (f fault) strike(n *node.Node, source, target *node.Site) {
	switch f.what {
	case "mirror":
		n.Kill()
		n.Start()
	case "disk":
		n.Kill()
		n.Wipe()
		n.Start()
	case "source":
		source.Kill(0)
		source.Start(0)
	case "target":
		target.Kill(0)
		target.Start(0)
	}
}

// copying is an error until at least one partition runs and has something to do or has done all.
func copying(ctx context.Context, n *node.Node) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	said := "no link"
	for _, l := range st.GetLinks() {
		said = l.GetTrouble()
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				if p.GetState() == adminpb.State_STATE_RUNNING && p.GetSourceEnd() >= 0 {
					return nil
				}
				said = p.GetReason()
			}
		}
	}
	return fmt.Errorf("nothing is copied: %s", said)
}
