package mirror

import (
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/topology"
)

// When a pump that is not running is looked at again. Each waits by itself, longer from try to try; and what everybody can know
// without asking a cluster (a broker is down, nobody leads the partition, the topic is still the other one) is not tried at all, until
// what is known changes: then the pump's time has come at once. So what stands still costs nothing, however much of it there is.

// waits are how long a pump waits between tries, by what is wrong: from first on, doubling up to most.
type waits struct{ first, most time.Duration }

// usualWaits are for what heals by itself: the first try is at once. The longest wait, with its jitter, is short enough for a
// broker that comes back to be written to within ten seconds.
var usualWaits = waits{100 * time.Millisecond, 6 * time.Second}

// otherWaits are for what needs somebody, or takes its time.
var otherWaits = map[Cause]waits{
	CauseRights: {time.Second, 15 * time.Second},
	CauseTopic:  {100 * time.Millisecond, 15 * time.Second},
	CauseOwner:  {100 * time.Millisecond, 15 * time.Second},
}

// haltWaits are for halted pumps: what halted one rarely goes away by itself.
var haltWaits = waits{2 * time.Second, 30 * time.Second}

// after is how long to wait before the try that follows so many of them in vain, without jitter.
func (w waits) after(attempts int) time.Duration {
	return min(w.first<<min(max(0, attempts-1), 16), w.most)
}

// waitsFor is how long a pump waits with this cause.
func waitsFor(c Cause) waits {
	if w, ok := otherWaits[c]; ok {
		return w
	}
	return usualWaits
}

// known is what a pump may know of its way without asking anybody.
type known struct {
	paused  bool // somebody paused it
	led     bool // both partitions have leaders
	source  bool // the source's broker is there, as far as anybody knows
	target  bool // the target's is
	renewed bool // one of the topics is another one than that of the pump's place
	follow  bool // the link's policy goes on with a topic that was made anew
	scout   bool // no other partition of the topic tries for all of them
}

// mayResume reports whether a try can come to anything for a pump that is not running for this cause.
func mayResume(c Cause, k known) bool {
	switch {
	case k.paused || c == CauseManual:
		return false // until somebody resumes it
	case !k.led || !k.source || !k.target:
		return false
	case c == CauseRecreated:
		return !k.renewed || k.follow
	case c == CauseRights:
		return k.scout
	}
	return true
}

// Retry has partitions of a link try now, whatever they wait for: those that are halted, that back off or that watch another owner
// are looked at, and the link asks both clusters for what is there. topic is a topic or a pattern, empty for all; partitions are nil
// for all. What is paused stays so. It returns how many partitions of this node will try, [ErrNoLink] for a link that this node does
// not run, and an error for a pattern that cannot be read. It waits for nothing.
func (s *Set) Retry(link, topic string, partitions []int32) (n int, err error) {
	if topic == "" {
		topic = "*"
	}
	pattern, err := topology.ParsePattern(topic)
	if err != nil {
		return 0, fmt.Errorf("retry: topic: %w", err)
	}
	for _, l := range s.list() {
		if l.name == link {
			return l.retry(pattern, partitions), nil
		}
	}
	return 0, fmt.Errorf("retry: link %q: %w", link, ErrNoLink)
}

func (l *Link) retry(topics topology.Pattern, partitions []int32) (n int) {
	now := l.now()
	for _, f := range l.flowList() {
		if !topics.Match(f.topic) {
			continue
		}
		f.mu.Lock()
		f.judged = time.Time{} // the settings of both topics are read again
		f.mu.Unlock()
		for _, p := range f.pumpList() {
			if (partitions == nil || slices.Contains(partitions, p.id.Partition)) && p.retry(now) {
				n++
			}
		}
	}
	l.poke()
	return n
}

// retry has the pump try now, and reports whether it had something to try.
func (p *pump) retry(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone || p.owner != "" && !p.born:
		return false
	case p.state == StateWaiting: // for what the next pass over the metadata tells
		return true
	case p.state != StateRetrying && p.state != StateHalted && p.state != StateYielded:
		return false
	}
	p.told = true
	for _, hurry := range []func(){p.fetcher.hurryUp, p.window.hurryUp} {
		hurry()
	}
	p.dueLocked(now)
	return true
}

// dueLocked ends the wait of a pump that backs off.
func (p *pump) dueLocked(now time.Time) {
	p.nextTry = now
	p.link.agenda.add(p, 0)
}

// longestWait is more than any pump is told to wait.
const longestWait = 5 * time.Minute

// waitLocked is how long the pump has still to wait. More than it can have been told means that the clock was set back since.
func (p *pump) waitLocked(now time.Time) time.Duration {
	wait := p.nextTry.Sub(now)
	if wait > longestWait {
		return 0
	}
	return max(0, wait)
}

// laterLocked has the pump looked at after a while. A pump has one clock: what rings at another time than nextTry is not for it.
func (p *pump) laterLocked(after time.Duration, now time.Time) {
	p.nextTry = now.Add(after)
	p.link.agenda.add(p, after)
}
