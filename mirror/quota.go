package mirror

import (
	"context"
	"sync"
	"time"
)

// quota keeps a link to its byte_rate: what was fetched is paid off over time, and the next fetch waits until it is. Pumps that follow wait
// for what such pumps owe, those that catch up for what all do: they get what is left, but a part at the least. Nodes share the rate by the
// partitions that they copy, without talking about it.
type quota struct {
	mu     sync.Mutex
	all    account
	live   account   // of the pumps that follow
	credit float64   // for so many seconds what was not used may be used later
	late   time.Time // until when a part is left to those that catch up
	copies int       // partitions that this node copies
	of     int       // all partitions of the link
}

const (
	// lateShare is the part of a rate that is left to pumps that catch up, if there are such: one in so many.
	lateShare = 16
	// lateFor is how long it is left when they may read and are not heard of.
	lateFor = time.Second
)

// account is what was read and is not paid off.
type account struct {
	owed float64 // bytes
	at   time.Time
}

// after pays off what is due, and adds what was read. It returns how long it takes until nothing is owed at a rate in bytes/s.
func (d *account) after(bytes int64, rate, credit float64, now time.Time) time.Duration {
	if past := now.Sub(d.at).Seconds(); past > 0 {
		d.owed = max(-credit*rate, d.owed-past*rate)
	}
	d.at = now
	d.owed += float64(bytes)
	return max(0, time.Duration(d.owed/rate*float64(time.Second)))
}

// shared notes how many of the link's partitions are copied here.
func (q *quota) shared(copies, of int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.copies, q.of = copies, of
}

// share is this node's part of a rate, in bytes/s; 0 = no limit. A node that copies anything gets one partition's part at least.
func (q *quota) share(rate int64) float64 {
	if rate <= 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.of == 0 {
		return float64(rate)
	}
	return float64(rate) * float64(max(1, q.copies)) / float64(q.of)
}

// pay adds what was fetched for a track; 0 only asks. It returns how long each track has to wait at a rate in bytes/s.
func (q *quota) pay(t track, bytes int64, rate float64, now time.Time) (waits [tracks]time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if rate <= 0 {
		q.all.owed, q.live.owed = 0, 0
		return waits
	}
	waits[trackLate] = q.all.after(bytes, rate, q.credit, now)
	if t == trackLate {
		bytes, q.late = 0, now.Add(lateShare*waits[trackLate]+lateFor)
	}
	if now.Before(q.late) {
		rate -= rate / lateShare
	}
	waits[trackLive] = q.live.after(bytes, rate, q.credit, now)
	return waits
}

// quotaLook is how often a fetch that waits looks whether the rate was changed.
const quotaLook = 500 * time.Millisecond

// keepQuota waits until the link may fetch again for a track, and returns this node's part of the rate; 0 = no limit.
func (l *Link) keepQuota(ctx context.Context, t track) (rate float64, err error) {
	for {
		rate = l.quota.share(l.terms().ByteRate)
		wait := l.quota.pay(t, 0, rate, l.now())[t]
		if wait <= 0 {
			return rate, nil
		}
		wait = min(wait, quotaLook)
		if err := sleep(ctx, wait); err != nil {
			return 0, err
		}
		l.metrics.throttled.Add(wait.Seconds())
	}
}

// shareQuota counts the partitions that are copied here.
func (l *Link) shareQuota() {
	copies, of := 0, 0
	for _, f := range l.flowList() {
		here, all := 0, 0
		for _, p := range f.pumpList() {
			all++
			if works, _ := p.copying(); works {
				here++
			}
		}
		f.tap.shared(here, all)
		copies, of = copies+here, of+all
	}
	l.quota.shared(copies, of)
}
