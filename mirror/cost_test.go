package mirror

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// fiftieth owns every fiftieth pump.
type fiftieth struct{}

func (fiftieth) Self() string { return "n0" }
func (fiftieth) Owner(p PumpID) string {
	return fmt.Sprintf("n%d", (int(p.Partition)+len(p.To)*7)%50)
}
func (fiftieth) Before(PumpID) string { return "" }

func BenchmarkPass_OfManyLinks(b *testing.B) {
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("c%d>t%d", i%20, i/20))
	}
	topo := fabricOf(b, names...)
	now := time.UnixMilli(1_700_000_000_000)
	var links []*Link
	for _, n := range names {
		l := linkOf(b, topo, n, Config{}, func() time.Time { return now })
		l.shared.owners = fiftieth{}
		links = append(links, l)
		l.source.Topics = make(map[string]broker.Topic)
		for i := range 5 {
			l.source.Topics[fmt.Sprintf("topic-%d", i)] = broker.Topic{Partitions: make([]broker.Partition, 10)}
		}
	}
	steps := map[string]func(l *Link){
		"wanted": func(l *Link) { l.wanted(l.routing(), l.source) },
		"own": func(l *Link) {
			for t := range l.source.Topics {
				l.own(t, 10)
			}
		},
		"direct": func(l *Link) {
			for _, f := range l.flowList() {
				f.grow(10)
				l.directAll(f)
			}
		},
		"rest": func(l *Link) {
			for _, f := range l.flowList() {
				l.watchLag(f)
				for _, p := range f.pumpList() {
					p.here()
				}
			}
			l.unneeded()
		},
	}
	for _, name := range []string{"wanted", "own", "direct", "rest"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, l := range links {
					steps[name](l)
				}
			}
		})
	}
}
