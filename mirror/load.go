package mirror

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// PumpLoad is what one pump costs.
type PumpLoad struct {
	Pump  PumpID
	Bytes float64 // per second, the mean of about the last half minute
	// Lagging: it has fallen behind more and more for ten seconds, although both clusters answer.
	Lagging bool
}

const (
	// meterSpan is over how long the load of a pump is a mean.
	meterSpan = 30 * time.Second
	// lagsAfter is how long a pump has to fall behind before it counts as lagging.
	lagsAfter = 10 * time.Second
	// lagEvery is how far apart two looks are, so that a ripple is not taken for the tide.
	lagEvery = 1500 * time.Millisecond
	// lagLeast is a lag that is of no interest.
	lagLeast = time.Second
)

// meter measures bytes per second: what was counted fades away within a few spans.
type meter struct {
	sum   float64   // of bytes, as faded at at
	at    time.Time // of the last that was counted
	since time.Time // of the first
	lag
}

// lag is whether a pump falls behind.
type lag struct {
	was   time.Duration // at the last look
	seen  time.Time     // when that was
	grows time.Time     // since when it only grew; zero: it does not
}

func (m *meter) add(bytes int64, now time.Time) {
	if m.since.IsZero() {
		m.since = now
	}
	m.sum, m.at = m.faded(now)+float64(bytes), now
}

// rate is the bytes per second now. A pump that has just begun is not taken for a light one.
func (m *meter) rate(now time.Time) float64 {
	if m.sum == 0 {
		return 0
	}
	age := max(time.Second, now.Sub(m.since)).Seconds() / meterSpan.Seconds()
	return m.faded(now) / (meterSpan.Seconds() * (1 - math.Exp(-age)))
}

func (m *meter) faded(now time.Time) float64 {
	if m.sum == 0 {
		return 0
	}
	return m.sum * math.Exp(-max(0, now.Sub(m.at)).Seconds()/meterSpan.Seconds())
}

// look takes how far the pump is behind now; well says that both of its clusters answer.
func (g *lag) look(behind time.Duration, well bool, now time.Time) {
	if now.Sub(g.seen) < lagEvery {
		return
	}
	switch {
	case !well || behind < lagLeast || behind <= g.was:
		g.grows = time.Time{}
	case g.grows.IsZero():
		g.grows = now
	}
	g.was, g.seen = behind, now
}

func (g *lag) lagging(now time.Time) bool { return !g.grows.IsZero() && now.Sub(g.grows) > lagsAfter }

// watchLag looks at the pumps of a flow, once in a pass.
func (l *Link) watchLag(f *flow) {
	now := l.now()
	well, _, _ := l.health()
	for _, p := range f.pumpList() {
		p.mu.Lock()
		p.meter.look(p.behindLocked(now), well && p.state == StateRunning, now)
		p.mu.Unlock()
	}
}

// Loads returns the bytes per second that the node copies, and its n heaviest pumps, the heaviest first; those that lag are
// among them before others.
func (s *Set) Loads(n int) (bytes float64, heaviest []PumpLoad) {
	now := s.deps.Now()
	for _, l := range s.list() {
		for _, f := range l.flowList() {
			for _, p := range f.pumpList() {
				if load, ok := p.load(now); ok {
					bytes += load.Bytes
					heaviest = append(heaviest, load)
				}
			}
		}
	}
	slices.SortFunc(heaviest, func(a, b PumpLoad) int {
		if a.Lagging != b.Lagging {
			if a.Lagging {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Bytes, a.Bytes)
	})
	heaviest = heaviest[:min(max(0, n), len(heaviest))]
	slices.SortStableFunc(heaviest, func(a, b PumpLoad) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return bytes, heaviest
}

func (p *pump) load(now time.Time) (PumpLoad, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := PumpLoad{Pump: p.id, Bytes: p.meter.rate(now), Lagging: p.meter.lagging(now)}
	return out, p.born && !p.gone && (out.Lagging || out.Bytes >= 1)
}
