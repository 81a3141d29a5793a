package real

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

// reroute: a relay gets a direct link while clients write and the node is killed: each record is once everywhere, in order, and positions are exact over
// all three links.
func reroute(t *testing.T, sites map[string]*node.Site) {
	const partitions = 4
	topics := []string{"reroute-orders", "reroute-refunds"}
	at := []*node.Site{sites["eu"], sites["us"], sites["ap"]}
	for _, c := range at {
		for _, topic := range topics {
			c.Create(t, topic, partitions)
		}
	}
	s := node.NewSetup(t, "reroute", at, []string{"eu>us", "us>ap"}, []string{"reroute-*"}, []string{"n1"})
	n := s.Node("n1")
	n.Start()
	log := judge.NewLog()
	var writing []*node.Writing
	for i, c := range at[:2] {
		for j, topic := range topics {
			writing = append(writing, node.Write(t, c.Client(), log, node.Mix{Topic: topic, Partitions: partitions, Rate: 300, Seed: uint64(100*i + 10*j), Light: true}))
		}
	}
	stands := func(link string, most int64) {
		t.Helper()
		for _, topic := range topics {
			node.Until(t, time.Minute, "records pass "+link, func(ctx context.Context) error {
				st, err := n.Status(ctx)
				f := node.Flow(st, link, topic)
				if at := f.GetPosition(); err == nil && at < most {
					err = fmt.Errorf("%s of %s stands at %d: %v", topic, link, at, f.GetPartitions())
				}
				return err
			})
		}
	}
	stands("us-ap", 1000)
	text, err := os.ReadFile(s.File("n1"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "after.toml")
	text = append(text, "\n[[link]]\nfrom = \"eu\"\nto = \"ap\"\ntopics = [\"reroute-*\"]\n"...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if s.Topology, err = topology.Load(file); err != nil {
		t.Fatal(err)
	}
	if out, err := n.CLI(t.Context(), "apply", file, "--yes"); err != nil {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	stands("eu-ap", 1) // it has begun
	for range node.Pick(1, 5) {
		stands("eu-ap", 2000)
		n.Kill()
		n.Start()
	}
	for _, w := range writing {
		w.Stop(t)
	}
	s.CaughtUp(time.Minute, topics, n)
	v := s.Judged(log, topics)
	if r := v.Reports["ap"]; r.Copied == 0 {
		t.Error("nothing came to ap")
	}
}
