package real

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// names: one topic has two names, with writers on both sides, and two topics become one, while the node is killed: each record is once where it
// belongs, in order, and positions are exact.
func names(t *testing.T, from, to *node.Site, as string) {
	one, uno, many := as+"-one", as+"-uno", as+"-many"
	parts := []string{many + "-1", many + "-2"}
	all := append(parts, one, uno, many)
	for _, topic := range all { // by every name at both, so that their ends can be asked for; under the wrong one nothing may come
		from.Create(t, topic, 3)
		to.Create(t, topic, 3)
	}
	link := func(from, to *node.Site, topics, rename string) string {
		return fmt.Sprintf("[[link]]\nfrom = %q\nto = %q\ntopics = [%s]\nrename = { %s }\n", from.Name, to.Name, topics, rename)
	}
	s := node.NewFleet(t, node.Fleet{Name: as, Sites: []*node.Site{from, to}, Nodes: []string{"n1"}, DCs: map[string]string{from.Name: "a", to.Name: "b", "n1": "b"},
		More: link(from, to, fmt.Sprintf("%q, \"%s-*\"", one, many), fmt.Sprintf("%q = %q, \"%s-*\" = %q", one, uno, many, many)) +
			link(to, from, fmt.Sprintf("%q", uno), fmt.Sprintf("%q = %q", uno, one))})
	n := s.Node("n1")
	n.Start()
	log := judge.NewLog()
	mix := func(topic string) node.Mix {
		return node.Mix{Topic: topic, Partitions: 3, Rate: 400, Light: true}
	}
	here := node.Write(t, from.Client(), log, mix(one), mix(parts[0]), mix(parts[1]))
	there := node.Write(t, to.Client(), log, mix(uno))
	for round := range int64(node.Pick(2, 8)) {
		for _, topic := range append(parts, one) {
			node.Until(t, time.Minute, "more of it is mirrored", func(ctx context.Context) error {
				st, err := n.Status(ctx)
				if at := node.Flow(st, from.Name+"-"+to.Name, topic).GetPosition(); err == nil && at < 500*(round+1) {
					err = fmt.Errorf("%s stands at %d", topic, at)
				}
				return err
			})
		}
		n.Kill()
		n.Start()
	}
	here.Stop(t)
	there.Stop(t)
	s.CaughtUp(2*time.Minute, all, n)
	c := s.Case(log, []string{one, uno})
	c.Class = func(cluster string, r checker.Record) string {
		if cluster == from.Name && r.Topic == one || cluster == to.Name && r.Topic == uno {
			return one
		}
		return "none of it"
	}
	c.Carries = func(_, _, topic string) bool { return topic == one }
	s.JudgedAs(c)
	c = s.Case(log, all[:2:2], to.Name)
	c.Topics = append(c.Topics, many)
	c.Class = func(_ string, r checker.Record) string { // which topic it was written to
		_, topic, _ := strings.Cut(r.UID, "/")
		return topic[:strings.LastIndex(topic, "-")]
	}
	c.Carries, c.Ways = func(_, _, topic string) bool { return strings.HasPrefix(topic, many) }, []judge.Way{}
	s.JudgedAs(c)
}
