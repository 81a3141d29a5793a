package isolation

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/fabric"
)

// One of three target brokers goes bad under saturating load. The partitions of the others keep at least 95 % of their rate, from the first
// moment on, although all of them share the link's memory.
func TestBroker_HoldsOnlyItsOwnPartitions(t *testing.T) {
	const partitions, rate = 24, 125_000
	for name, fault := range map[string]func(*fabric.Path){
		"dead":                      (*fabric.Path).Cut,
		"accepts and is silent":     (*fabric.Path).Mute,
		"its window does not move":  func(p *fabric.Path) { p.Slow(0, 0, 1) },
		"takes a tenth of the rate": func(p *fabric.Path) { p.Slow(0, 0, rate/10) },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, setup{topics: []string{"orders"}, partitions: partitions, brokers: 3, mirror: small}, func(t *testing.T, l *lab) {
				l.begin(rate, partitions, "orders")
				l.fill("orders", upTo(partitions), 160, 16<<10)
				time.Sleep(2 * time.Second)
				bad := l.Clusters["us"].LeaderFor("orders", 0)
				progress := func(span time.Duration) float64 {
					before := l.copied("orders")
					time.Sleep(span)
					sum := int64(0)
					for p, n := range l.copied("orders") {
						if l.Clusters["us"].LeaderFor("orders", p) != bad {
							sum += n - before[p]
						}
					}
					return float64(sum) / span.Seconds()
				}
				well := progress(30 * time.Second)
				fault(l.to("us", bad))
				ill := progress(30 * time.Second)
				t.Logf("%.1f records/s of the other brokers' partitions before, %.1f with one broker bad: %.3f", well, ill, ill/well)
				if well == 0 || ill < 0.95*well {
					t.Errorf("the others' partitions have %.3f of their rate, want 0.95 at least", ill/well)
				}
				for _, p := range l.pumps("orders") {
					if p.LagRecords == 0 {
						t.Fatalf("partition %d has nothing left to copy: the load does not saturate", p.Partition)
					}
				}
			})
		})
	}
}
