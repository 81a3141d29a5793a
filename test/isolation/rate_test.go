package isolation

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/mirror"
)

// A topic with a rate keeps it within a tenth, says so, and holds up nobody else.
func TestRate_OfATopicIsKept(t *testing.T) {
	const partitions, rate, size = 6, 200_000, 10_000
	s := setup{settings: "flow_byte_rate = { \"late\" = 200_000 }", topics: []string{"late", "live"}, partitions: partitions, brokers: 3, mirror: small}
	in(t, s, func(t *testing.T, l *lab) {
		l.begin(0, partitions, "late", "live")
		l.fill("late", upTo(partitions), 150, size)
		l.fill("live", upTo(partitions), 150, size)
		sum := func(topic string) (n int64) {
			for _, p := range l.copied(topic) {
				n += p
			}
			return n
		}
		time.Sleep(5 * time.Second)
		if got := sum("live"); got != partitions*151 {
			t.Errorf("%d records of the topic without a rate are copied, want all %d", got, partitions*151)
		}
		before := sum("late")
		time.Sleep(20 * time.Second)
		got := float64((sum("late")-before)*(size+80)) / 20
		t.Logf("%.0f bytes/s at a rate of %d", got, rate)
		if got < 0.9*rate || got > 1.1*rate {
			t.Errorf("the topic is copied at %.0f bytes/s, want %d within a tenth", got, rate)
		}
		l.until(20*time.Second, "a partition says that its rate holds it up", func() bool {
			for _, p := range l.pumps("late") {
				if p.Cause == mirror.CauseQuota {
					return true
				}
			}
			return false
		})
	})
}
