package mirror

import (
	"sync/atomic"
	"time"
)

// tap keeps some pumps to a rate: what was read for them is paid off over time, and until it is they are out of their fetch sessions, so that
// others are read meanwhile.
type tap struct {
	quota
	until [tracks]atomic.Int64 // Unix nanoseconds; 0: it is open
	armed atomic.Bool          // a timer runs
}

// tapCredit is in seconds: who may read again is asked for with the next request, which may be half a second away.
const tapCredit = 1

// shut reports whether nothing may be read now for a track.
func (t *tap) shut(of track, now time.Time) bool { return t.until[of].Load() > now.UnixNano() }

// charge takes what was read for a track; rate says what may be read in bytes/s, 0 = no limit, and is asked again while the tap is shut, for
// it may be changed. open is called when more may be read.
func (t *tap) charge(of track, bytes int64, rate func() float64, now func() time.Time, open func()) {
	_, wait := t.settle(of, bytes, rate(), now())
	if wait <= 0 || t.armed.Swap(true) {
		return
	}
	time.AfterFunc(min(wait, quotaLook), func() {
		t.armed.Store(false)
		opened, _ := t.settle(trackLive, 0, rate(), now())
		t.charge(trackLive, 0, rate, now, open)
		if opened {
			open()
		}
	})
}

// settle shuts and opens the tap for each track. It returns whether it was opened for one, and when it may be for the next; 0 = it is open.
func (t *tap) settle(of track, bytes int64, rate float64, now time.Time) (opened bool, next time.Duration) {
	for of, wait := range t.pay(of, bytes, rate, now) {
		if wait <= 0 {
			opened = t.until[of].Swap(0) != 0 || opened
			continue
		}
		t.until[of].Store(now.Add(wait).UnixNano())
		if next == 0 || wait < next {
			next = wait
		}
	}
	return opened, next
}

// rate is what may be read of the flow on this node, in bytes/s; 0 = no limit.
func (f *flow) rate() float64 {
	for _, r := range f.link.terms().Rates.Flows {
		if r.Topics.Match(f.topic) {
			return f.tap.share(r.Bytes)
		}
	}
	return 0
}

// coldBehind is from which lag on a pump reads what is not in its broker's page cache any more.
const coldBehind = 64 << 20

// coldLocked reports whether the pump is far behind.
func (p *pump) coldLocked() bool {
	n := p.sight.highWatermark - p.fetchAt
	return n > 0 && p.link.metrics.bytesOf(p.id.Topic, n) > coldBehind
}

// coldRate is what may be read of one source broker by pumps that are far behind.
func (l *Link) coldRate() float64 { return l.quota.share(l.terms().Rates.Cold) }

// limitedLocked reports whether a rate keeps the pump from reading.
func (p *pump) limitedLocked(now time.Time) bool {
	return p.flow.tap.shut(p.track, now) || p.fetcher != nil && p.fetcher.cold.shut(trackLate, now) && p.coldLocked()
}

// paid charges what was read for a pump to the rates that bound it.
func (f *fetcher) paid(p *pump, bytes int64) {
	rates := f.link.terms().Rates
	if bytes == 0 || len(rates.Flows) == 0 && rates.Cold == 0 {
		return
	}
	p.flow.tap.charge(f.track, bytes, p.flow.rate, f.link.now, func() {
		for _, p := range p.flow.pumpList() {
			p.mu.Lock()
			p.fetcher.mark(p)
			p.mu.Unlock()
		}
	})
	p.mu.Lock()
	cold := p.coldLocked()
	p.mu.Unlock()
	if cold {
		f.cold.charge(trackLate, bytes, f.link.coldRate, f.link.now, func() {
			f.link.eachPump(func(p *pump) {
				if p.fetcher == f {
					f.mark(p)
				}
			})
		})
	}
}
