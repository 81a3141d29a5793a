package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

// What is kept alike on both sides beside the records: settings of topics, rules about who may do what, quotas of clients. A loop per
// link looks at both sides, compares, and changes the target. One node does it for a topic, and one for rules and quotas; that two do
// for a while costs requests and nothing else, because each change says what is to be and not what to add.

const (
	// syncShare: of so much time one part is what looking and comparing may take of a processor.
	syncShare = 100
	// topicCost and ruleCost are what decoding one topic's settings, of both sides, and one rule or quota takes (BenchmarkSync).
	topicCost = 60 * time.Microsecond
	ruleCost  = 2 * time.Microsecond
	// A change that is not taken, or does not last, is made again after ever longer times.
	retryFirst, retryMost = 5 * time.Second, 10 * time.Minute
	// deniedMost is for a missing right: somebody who gives it waits for what follows.
	deniedMost = time.Minute
	// calmAfter is how long a change has to last before its undoing is news again.
	calmAfter = 30 * time.Minute
	// mostLines is how many subjects one pass names in the log.
	mostLines = 20
)

// syncer is what a link knows of its own changes. The loop and drift use it.
type syncer struct {
	mu    sync.Mutex
	tries map[tryKey]*try
	said  map[string]string // trouble by kind, told once
}

// beginLocked has the map. A worker that raises a limit may come before the loop, which on some nodes has nothing to do.
func (s *syncer) beginLocked() {
	if s.tries == nil {
		s.tries = make(map[tryKey]*try)
	}
}

// tryKey is one item.
type tryKey struct {
	noteKey
	name string
}

// try is what became of the changes of one item.
type try struct {
	value  item // that the target was to have
	n      int  // changes, since it last was calm
	last   time.Time
	next   time.Time // not before
	await  time.Time // since when another link is waited for; zero: it is not
	failed error
}

// keeper is one kind of what is kept alike.
type keeper struct {
	kind string
	wait time.Duration // until it is looked at again, by what looking costs
	// began is when it was last looked at, next when it will be.
	began, next time.Time
	// look reads both sides; own: only what is this node's to change.
	look func(ctx context.Context, own bool) (glance, error)
}

// glance is what was seen of both sides, and how to change the target.
type glance struct {
	sides []sided
	left  []Drift // differences that no item stands for
	cost  time.Duration
	// change does what is due; what the target refused is in the answer. dry: it is only asked whether it would.
	change func(ctx context.Context, dry bool, due []work) (map[tryKey]error, error)
}

// work is the items of one subject about which something is to be done.
type work struct {
	key   noteKey
	items []judged
}

func (l *Link) keepers() []*keeper {
	return []*keeper{{kind: DriftConfig, look: l.lookConfigs}, {kind: DriftACL, look: l.lookACLs}, {kind: DriftQuota, look: l.lookQuotas}}
}

// keeps reports whether the link keeps a kind alike, and whether that is this node's work.
func (l *Link) keeps(kind string) (wanted, own bool) {
	k := l.terms().Keeps
	switch kind {
	case DriftACL:
		wanted = k.ACLs
	case DriftQuota:
		wanted = k.Quotas
	default:
		return len(k.Configs) > 0, true // by topic
	}
	// Whoever owns this pump, which there is not, does what belongs to no topic.
	return wanted, l.shared.owner(PumpID{From: l.spec.From, To: l.spec.To, Topic: topicCheckpoints}) == ""
}

// keepsRules reports whether this node has work of the link that belongs to no topic.
func (l *Link) keepsRules() bool {
	return slices.ContainsFunc([]string{DriftACL, DriftQuota}, func(kind string) bool {
		wanted, own := l.keeps(kind)
		return wanted && own
	})
}

// syncLoop keeps both sides alike until ctx ends.
func (l *Link) syncLoop(ctx context.Context) error {
	all := l.keepers()
	tick := time.NewTicker(l.cfg.RefreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !l.maySync() {
			continue
		}
		for _, k := range all {
			if wanted, own := l.keeps(k.kind); !wanted || !own || within(l.now(), k.began, k.next) {
				continue
			}
			began := l.now()
			call, cancel := context.WithTimeout(ctx, refreshTimeout)
			cost, err := l.syncPass(call, k)
			cancel()
			if ctx.Err() != nil {
				return nil
			}
			l.sayTrouble(k.kind, err)
			l.pace(k, began, cost)
		}
	}
}

// maySync reports whether both clusters are known and answer.
func (l *Link) maySync() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, source := l.troubles[troubled{l.spec.From, partMetadata}]
	_, target := l.troubles[troubled{l.spec.To, partMetadata}]
	return l.opened && !source && !target && !l.stopping.Load()
}

// within reports whether it is still to be waited. A time before the wait began means that the clock was set back.
func within(now, began, end time.Time) bool { return !now.Before(began) && now.Before(end) }

// pace sets when a kind is looked at again.
func (l *Link) pace(k *keeper, began time.Time, cost time.Duration) {
	wait := max(l.cfg.RefreshEvery, cost*syncShare)
	k.began = began
	if k.next = began.Add(wait - l.cfg.RefreshEvery/4); wait > l.cfg.RefreshEvery && (k.wait == 0 || wait > 2*k.wait || k.wait > 2*wait) {
		k.wait = wait
		l.log.Info("there is so much to compare that it is looked at less often", "kind", k.kind, "every", wait.Round(time.Second).String())
	}
}

// syncPass looks once at one kind and does what is due.
func (l *Link) syncPass(ctx context.Context, k *keeper) (cost time.Duration, err error) {
	seen, err := k.look(ctx, true)
	if len(seen.sides) == 0 {
		return seen.cost, err
	}
	begun := l.now()
	all := l.judgeSides(seen.sides)
	cost = seen.cost + l.now().Sub(begun)
	due := l.due(k.kind, all)
	if len(due) > 0 && l.shared.owners != nil { // others may have noted what this node does not know yet
		if err := l.store.refresh(ctx); err != nil {
			return cost, err
		}
		all = l.judgeSides(seen.sides)
		due = l.due(k.kind, all)
	}
	return cost, errors.Join(err, l.act(ctx, k, seen, all, due))
}

// judgeSides decides about all that was seen.
func (l *Link) judgeSides(sides []sided) []work {
	var out []work
	for _, s := range sides {
		notes := l.store.notesOf(s.key)
		if len(s.spared) > 0 {
			notes = maps.Clone(notes)
			maps.DeleteFunc(notes, func(name string, _ noted) bool { return s.spared[name] })
		}
		items := s.kept.mergeAll(s.source, s.target, notes, func(name string) bool { return l.late(tryKey{s.key, name}) })
		items = append(items, s.decided...)
		if len(items) > 0 {
			slices.SortFunc(items, func(a, b judged) int { return strings.Compare(a.name, b.name) })
			out = append(out, work{s.key, items})
		}
	}
	return out
}

// act notes, changes, and notes again.
func (l *Link) act(ctx context.Context, k *keeper, seen glance, all, due []work) error {
	planned := make(map[tryKey]bool)
	for _, w := range due {
		for _, j := range w.items {
			planned[tryKey{w.key, j.name}] = true
		}
	}
	err := l.noteAll(ctx, all, func(key tryKey, j judged) bool { return j.do == doSet && planned[key] })
	if err != nil || len(due) == 0 {
		return err
	}
	refused, err := seen.change(ctx, false, due)
	if refused == nil { // nothing is known of any
		return err
	}
	l.tell(k.kind, due, refused)
	return errors.Join(err, l.noteAll(ctx, due, func(key tryKey, j judged) bool { return j.do == doSet || refused[key] == nil }))
}

// noteAll makes notes of what is alike, and of what is done.
func (l *Link) noteAll(ctx context.Context, all []work, done func(tryKey, judged) bool) error {
	changed := make(map[noteKey]map[string]noted)
	for _, w := range all {
		next, other := renoted(l.store.notesOf(w.key), w.items, func(j judged) bool { return done(tryKey{w.key, j.name}, j) })
		if other {
			changed[w.key] = next
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return l.store.note(ctx, changed)
}

// due are the changes that may be made now.
func (l *Link) due(kind string, all []work) (out []work) {
	s, now := &l.syncer, l.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked()
	maps.DeleteFunc(s.tries, func(_ tryKey, t *try) bool {
		return now.Sub(t.last) > calmAfter && (t.await.IsZero() || now.Sub(t.await) > calmAfter)
	})
	differs := make(map[tryKey]bool)
	for _, w := range all {
		var items []judged
		for _, j := range w.items {
			key := tryKey{w.key, j.name}
			t := s.tries[key]
			differs[key] = j.do != doNothing
			switch {
			case j.do == doAwait && t == nil:
				s.tries[key] = &try{await: now, last: now}
			case j.do == doAwait && t.await.IsZero():
				t.await = now
			case (j.do == doSet || j.do == doRemove) && (t == nil || t.value != j.source || !within(now, t.last, t.next)):
				items = append(items, j)
			}
		}
		if len(items) > 0 {
			out = append(out, work{w.key, items})
		}
	}
	for key, t := range s.tries {
		if key.kind == kind && !differs[key] {
			t.await = time.Time{} // it came
		}
	}
	return out
}

// awaitFor is how long another link may take to bring the target's value to the source.
func (l *Link) awaitFor() time.Duration { return 10 * l.cfg.RefreshEvery }

// late reports whether another link was waited for in vain.
func (l *Link) late(key tryKey) bool {
	s := &l.syncer
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tries[key]
	return t != nil && !t.await.IsZero() && l.now().Sub(t.await) > l.awaitFor()
}

// tell notes and logs what became of changes.
func (l *Link) tell(kind string, due []work, refused map[tryKey]error) {
	l.tellTo(l.log, kind, due, refused)
}

// tellTo is tell with the log that is to hear of what was done; of what was refused the link's own does.
func (l *Link) tellTo(log *slog.Logger, kind string, due []work, refused map[tryKey]error) {
	now := l.now()
	failed, lines, first := 0, 0, error(nil)
	for _, w := range due {
		var done []string
		for _, j := range w.items {
			key := tryKey{w.key, j.name}
			err := refused[key]
			n := l.tried(key, j, err, now)
			switch {
			case err != nil:
				failed++
				if first == nil {
					first = err
				}
			case j.back && n > 1 && lines < mostLines:
				log.Warn("changed back on the target, and set again", "kind", kind, "what", w.key.say(j.name), "times", n)
			default:
				done = append(done, j.say())
			}
		}
		if lines++; len(done) > 0 && lines <= mostLines {
			log.Info("target brought in line", "kind", kind, "what", w.key.say(""), "changes", strings.Join(done, ", "))
		}
		if kind == DriftConfig {
			l.rejudge(w.key.source())
		}
	}
	if lines > mostLines {
		log.Info("target brought in line, more of it", "kind", kind, "changed", lines-mostLines)
	}
	if first != nil && l.syncer.news(kind+" refused", fmt.Sprint(broker.Classify(first), denied(first))) {
		l.log.Warn("the target refuses what would bring it in line", "kind", kind, "changes", failed, "error", first)
	} else if first == nil {
		l.syncer.news(kind+" refused", "")
	}
}

// tried notes one change and says how often it was made.
func (l *Link) tried(key tryKey, j judged, err error, now time.Time) int {
	s := &l.syncer
	wait := l.jitter(retryFirst)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked()
	t := s.tries[key]
	if t == nil || t.value != j.source || t.n > 0 && now.Sub(t.last) > max(calmAfter, 2*t.next.Sub(t.last)) {
		t = &try{value: j.source}
		s.tries[key] = t
	}
	t.n++
	t.failed, t.last, t.await = err, now, time.Time{}
	most := retryMost
	if denied(err) {
		most = deniedMost
	}
	switch t.next = now; {
	case err != nil || t.n > 1:
		t.next = now.Add(min(wait<<min(t.n-1, 10), most))
	}
	return t.n
}

// denied reports errors of a missing right.
func denied(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

// rejudge has the limits of a topic read again: they may have changed.
func (l *Link) rejudge(topic string) {
	l.mu.Lock()
	f := l.flows[topic]
	l.mu.Unlock()
	if f != nil {
		f.rejudge()
	}
}

// news reports whether this is not what was said of it last; empty: there is nothing to say.
func (s *syncer) news(of, what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said == nil {
		s.said = make(map[string]string)
	}
	before := s.said[of]
	s.said[of] = what
	return what != "" && what != before
}

// sayTrouble tells once what keeps a kind from being compared.
func (l *Link) sayTrouble(kind string, err error) {
	what := ""
	if err != nil {
		what = fmt.Sprint(broker.Classify(err), denied(err))
	}
	if l.syncer.news(kind, what) {
		l.log.Warn("both sides cannot be compared", "kind", kind, "error", err)
	}
}

// say names an item.
func (k noteKey) say(name string) string {
	var parts []string
	for _, p := range []string{k.target(), k.subject, name} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " ")
}

// say is what was done about an item.
func (j judged) say() string {
	switch {
	case j.do == doRemove:
		return strings.TrimSpace("removed " + j.name)
	case j.name == "":
		return "added"
	}
	return j.name + " = " + j.source.value
}
