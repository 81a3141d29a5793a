package mirror

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Troubles are what keeps a link from a cluster. They are kept apart by what has
// them: a cluster that answers for its topics may still have a broker that takes
// no records, and one answer must not hide the other.

// troubled is what has a trouble.
type troubled struct{ cluster, part string }

// partMetadata is what the refresh loop asks: topics, state, the probe.
const partMetadata = "metadata"

func partFetch(id int32) string   { return fmt.Sprintf("fetch from broker %d", id) }
func partProduce(id int32) string { return fmt.Sprintf("produce to broker %d", id) }

type trouble struct {
	what  string
	since time.Time
	last  time.Time // when it was last met
}

// troubleFor is how long a broker's trouble is told after it was last met, if no pump waits for the broker: longer than
// the longest wait before the next try and that try's dial together. Who has nothing to send does not try.
const troubleFor = 30 * time.Second

// trouble notes that a cluster could not be reached; the log hears of changes only.
func (l *Link) trouble(cluster, part string, err error) {
	key := troubled{cluster, part}
	l.mu.Lock()
	t, known := l.troubles[key]
	if !known {
		t.since = l.now()
	}
	changed := t.what != err.Error()
	t.what, t.last = err.Error(), l.now()
	l.troubles[key] = t
	l.mu.Unlock()
	l.metrics.failed(nil, err)
	if !known {
		l.log.Warn("cluster trouble", "cluster", cluster, "part", part, "error", err)
	} else if changed {
		l.log.Debug("cluster trouble", "cluster", cluster, "part", part, "error", err)
	}
}

// reached notes that it answered.
func (l *Link) reached(cluster, part string) {
	key := troubled{cluster, part}
	l.mu.Lock()
	t, known := l.troubles[key]
	delete(l.troubles, key)
	l.mu.Unlock()
	if known {
		l.log.Info("cluster answers again", "cluster", cluster, "part", part, "after", l.now().Sub(t.since).Round(time.Millisecond).String())
	}
}

// unneeded drops the troubles of brokers that no pump reads from or writes to any
// longer, or has tried to for a while: nobody would hear of their end. While the
// broker is unreachable its pumps look for their places in vain, and the window has
// nothing to try with: then the trouble stays, however long ago it was met.
func (l *Link) unneeded() {
	// true: a pump of the broker is held up, so that its age says nothing
	needed := map[troubled]bool{{l.spec.From, partMetadata}: true, {l.spec.To, partMetadata}: true}
	for _, f := range l.flowList() {
		for _, p := range f.pumpList() {
			p.mu.Lock()
			if p.fetcher != nil {
				key := troubled{l.spec.From, partFetch(p.fetcher.broker)}
				needed[key] = needed[key] || p.heldUpLocked()
			}
			if p.window != nil {
				key := troubled{l.spec.To, partProduce(p.window.broker)}
				needed[key] = needed[key] || p.heldUpLocked()
			}
			p.mu.Unlock()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, t := range l.troubles {
		if heldUp, known := needed[key]; !known || !heldUp && !within(l.now(), t.last, t.last.Add(troubleFor+1)) {
			delete(l.troubles, key)
		}
	}
}

// heldUpLocked reports whether the pump would copy if it could reach what it needs. One that has yielded or halted would
// not: it may stay so for ever, with every broker well.
func (p *pump) heldUpLocked() bool {
	switch p.state {
	case StateRunning, StateYielded, StateHalted, StateElsewhere, StatePaused:
		return false
	}
	return true
}

func (l *Link) health() (up bool, what string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var said []string
	for key, t := range l.troubles {
		said = append(said, key.cluster+": "+t.what)
		if since.IsZero() || t.since.Before(since) {
			since = t.since
		}
	}
	slices.Sort(said)
	return len(said) == 0, strings.Join(slices.Compact(said), "; "), since
}
