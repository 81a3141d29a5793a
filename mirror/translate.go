package mirror

import (
	"errors"
	"fmt"

	"github.com/isthmus-project/isthmus/topology"
)

// Errors of translation.
var (
	// ErrUnknownPump: no link of this node copies the topic and partition.
	ErrUnknownPump = errors.New("this node does not mirror that partition")
	// ErrFormerLog: what was not read may include records of a log that is no more, of which nobody knows where else they are.
	ErrFormerLog = errors.New("records there are of a log that is no more")
	// ErrNoLink: the topology has no such link.
	ErrNoLink = errors.New("no such link")
)

// Translation is the answer to: a reader that has consumed everything before
// Offset on From, where does it go on on To? At the highest position that skips
// nothing. So of one link, along it:
//
//   - At a marker, behind one, in a hole or in an aborted batch: at the copy of
//     the next record that was copied.
//   - At or beyond the log end, and wherever nothing follows that was copied:
//     behind the last copy, or, before there is one, at what was the target's
//     end when the copy began; never beyond the target's end.
//   - Below the source's log start: at the copy of that very record, as long as
//     either end keeps any nearby, even below the target's log start: a reader
//     there begins at the log start, and skips nothing. What the map has
//     forgotten because neither end keeps it: at the first copy that it knows.
//   - In an empty partition, offset 0 is 0.
//   - Before records that a third cluster brought to both and has no longer, as its
//     topic was made anew: nowhere, [ErrFormerLog].
//
// Against it, from the target to the source, it is the same, but that behind the
// last copy it goes on behind all that the link has read at the source, markers
// and what is not copied included. A record of the target that is nobody's copy
// is like a hole.
type Translation struct {
	From, To string
	// Topic is what the topic is called on From, and As what it is called on To.
	Topic, As string
	Partition int32
	Offset    int64
	Result    int64
	// Exact: a record lies at Result and is the copy of the one asked for. Not
	// exact: the highest position that skips nothing (a hole at the source, the
	// end, or orders that differ because both clusters take writes).
	Exact bool
}

// way is from where to where a position is taken, and what its topic is called at both ends.
type way struct{ from, to, topic, as string }

// way is the one over a link, or back over it, of a topic of its source.
func (r *routing) way(link topology.Link, topic string, reverse bool) way {
	first := r.pumpID(link, topic, 0)
	if reverse {
		return way{link.To, link.From, first.Target(), topic}
	}
	return way{link.From, link.To, topic, first.Target()}
}

// ErrMerged is wrapped where the answer would depend on topics that a rule makes one, and of which nothing tells the names.
var ErrMerged = errors.New("topics that a rule makes one")

// findMap is where translation finds the offset maps of a partition: that of the
// pump from → to of a topic of from, and how far that pump has read there.
type findMap func(from, to, topic string, partition int32) (m mapView, ok bool)

// mapView is a pump's offset map at one moment.
type mapView interface {
	// lookup is where on the other side the first record lies that is at or after an offset of a side: of an origin; of all, if that is empty.
	lookup(side int, at int64, origin string) (to int64, ok bool)
	end() (target int64) // where the next copy lies at the earliest
	reached() int64      // source offset after everything that was read and acknowledged
	former() int64       // target offset before which copies may lie of logs that the source has no longer
}

// translate finds the highest position on to before which every record that to
// has was consumed on from before offset.
//
// Each origin of the topic bounds the answer with its first record that is not
// among those consumed. Records that reached to over the link from → to are
// bounded by that link's map. Records that reached from over links of its own
// (those that to produced itself, or a third cluster did) are bounded through
// their origin's order: the first of them that from had not received before
// offset, found at to by the map of the link that brought them there.
//
// Where the link makes many topics one, the reader is one of the one topic among
// them that is named: no other bounds the answer.
func translate(topo *topology.Topology, get findMap, w way, partition int32, offset int64) (Translation, error) {
	from, to, topic := w.from, w.to, w.topic
	t := Translation{From: from, To: to, Topic: topic, As: w.as, Partition: partition, Offset: offset}
	there, thereMerges := linkAs(topo, from, to, topic, w.as)
	here, hereMerges := linkAs(topo, to, from, w.as, topic)
	var missing error
	get = spliced(topo, get, &missing, maxSplices)
	var fwd, back mapView
	var hasForward, hasBack bool
	if there {
		fwd, hasForward = get(from, to, topic, partition)
	}
	if here {
		back, hasBack = get(to, from, w.as, partition)
	}
	if !hasForward && !hasBack {
		return t, fmt.Errorf("translate %s:%d from %s to %s: %w", topic, partition, from, to, ErrUnknownPump)
	}
	if offset < 0 {
		return t, fmt.Errorf("translate %s:%d: offset %d is negative; use a record's offset or the log end", topic, partition, offset)
	}
	if here && !hasBack && topo.CarriesBetween(to, from, to, w.as) {
		return t, t.lacks(to, from)
	}
	best, bounded := int64(0), false
	bound := func(at int64) {
		if !bounded || at < best {
			best, bounded = at, true
		}
	}
	exact, behind := int64(-1), int64(0) // behind: of what other links brought all before it was read
	if hasForward {
		behind = fwd.end()
		if at, same, ok := across(fwd, bySource, offset, ""); ok {
			bound(at)
			if same {
				exact = at
			}
		}
	}
	if hasBack {
		at, same, ok := across(back, byTarget, offset, "")
		if !ok {
			at = back.reached()
		}
		if bound(at); same {
			exact = at
		}
	}
	others := topo.Clusters
	if thereMerges || hereMerges {
		others = nil
	}
	for _, c := range others {
		record, err := boundRoutes(topo, get, c.Name, t, bound, func(end int64) { behind = max(behind, end) })
		if err != nil {
			return t, err
		}
		exact = max(exact, record)
	}
	switch {
	case missing != nil:
		return t, fmt.Errorf("translate %s:%d from %s to %s: %w", topic, partition, from, to, missing)
	case bounded:
	case hasForward:
		best = behind
	}
	t.Result, t.Exact = best, best == exact
	return t, nil
}

// boundRoutes bounds the answer by the records of an origin that reach both ends
// without passing a link between them: back along the route to from, then forward
// along the route to to. At its own cluster an origin's route is empty. It
// returns where the record at the asked offset lies, -1 if it is none of these. behind gets the end of an origin's copies at to where
// all of them were read.
//
// A cluster on the way back may have lost the log that they came from: its topic was
// made anew, or the log truncated. Then nothing tells where at to they are, and until
// from has read past them any answer might skip some: [ErrFormerLog].
func boundRoutes(topo *topology.Topology, get findMap, origin string, t Translation, bound, behind func(int64)) (record int64, err error) {
	toFrom, atFrom, someFrom := topo.Hops(origin, t.From, t.Topic)
	toTo, atTo, someTo := topo.Hops(origin, t.To, t.As)
	if !atFrom || !atTo || topo.CarriesBetween(t.To, t.From, origin, t.As) || topo.CarriesBetween(t.From, t.To, origin, t.Topic) {
		return -1, nil // not at both ends, or in the map of the link between them
	}
	if someFrom || someTo {
		return -1, fmt.Errorf("translate %s:%d from %s to %s: %w, produced in %s, come to both; ask along the links over which they come",
			t.Topic, t.Partition, t.From, t.To, ErrMerged, origin)
	}
	if first(toFrom, t.Topic) != first(toTo, t.As) {
		return -1, nil // other topics of the origin
	}
	at, same := t.Offset, true // same: the record at the asked offset was met at every hop
	for i := len(toFrom) - 1; i >= 0; i-- {
		m, err := hopMap(get, toFrom[i], t)
		if err != nil {
			return -1, err
		}
		if at < m.former() {
			return -1, fmt.Errorf("translate %s:%d from %s to %s: before offset %d of %s are records that %s has no longer, so that nobody knows where they are at %s: %w",
				t.Topic, t.Partition, t.From, t.To, m.former(), toFrom[i].Link.To, toFrom[i].Link.From, t.To, ErrFormerLog)
		}
		source, exact, ok := across(m, byTarget, at, origin)
		if !ok {
			source = m.reached()
		}
		at, same = source, same && exact
	}
	for _, hop := range toTo {
		m, err := hopMap(get, hop, t)
		if err != nil {
			return -1, err
		}
		target, exact, ok := across(m, bySource, at, origin)
		if !ok {
			if m, err = hopMap(get, toTo[len(toTo)-1], t); err == nil {
				behind(m.end())
			}
			return -1, err
		}
		at, same = target, same && exact
	}
	bound(at)
	if same && len(toFrom)+len(toTo) > 0 {
		return at, nil
	}
	return -1, nil
}

// across takes a position over one link, from a side to the other: see [carry]. Of the records of one origin, if that is not empty: those of
// others bound nothing that they do not bring.
func across(m mapView, side int, at int64, origin string) (to int64, exact, ok bool) {
	return carry(func(at int64) (int64, bool) { return m.lookup(side, at, origin) },
		func(at int64) (int64, bool) { return m.lookup(1-side, at, origin) }, at)
}

// hopMap returns the map of one hop. Without it the answer might skip records,
// so there is none.
func hopMap(get findMap, hop topology.Hop, t Translation) (mapView, error) {
	m, ok := get(hop.Link.From, hop.Link.To, hop.Topic, t.Partition)
	if !ok {
		return nil, t.lacks(hop.Link.From, hop.Link.To)
	}
	return m, nil
}

// lacks says which map there is none of.
func (t Translation) lacks(from, to string) error {
	return fmt.Errorf("translate %s:%d from %s to %s: it also depends on what comes from %s to %s, which is not copied here now (not begun, or on another node): %w",
		t.Topic, t.Partition, t.From, t.To, from, to, ErrUnknownPump)
}

// linkAs reports whether a link brings a topic from one cluster to another under a name, and whether it makes others the same there.
func linkAs(topo *topology.Topology, from, to, topic, as string) (there, merges bool) {
	for _, l := range topo.Links {
		if l.From != from || l.To != to {
			continue
		}
		if target, ok := topo.TargetTopic(l, topic); ok && target == as {
			return true, l.Merges(topic)
		}
	}
	return false, false
}

// first is what a topic is called where its way begins; here, if it is no way.
func first(hops []topology.Hop, here string) string {
	if len(hops) == 0 {
		return here
	}
	return hops[0].Topic
}
