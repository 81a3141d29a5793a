package checker

import (
	"fmt"
	"math"
	"time"
)

// Mode is what a mirror promises.
type Mode uint8

const (
	// ExactlyOnce forbids repeated records.
	ExactlyOnce Mode = iota
	// AtLeastOnce only counts them.
	AtLeastOnce
)

// Config says what a target has to hold and to what standard.
type Config struct {
	// Cluster is the name of the target; its own records are those of this origin.
	Cluster string
	Mode    Mode
	// Complete says that copying is over: what is not there is lost, also at the end.
	Complete bool
	// Idle is for how long nothing had been written to the sources, with every link healthy, when the target was read; StallAfter
	// is how long copying may take then. Of a target that had the time what is missing at the end is a Stall, and a
	// transaction has to be whole.
	Idle, StallAfter time.Duration
	// Carries says whether the mirror brings a topic of an origin here. A record of
	// one that it does not bring is made up. Nil is yes.
	Carries func(origin, topic string) bool
	// Compacted says that log compaction works at the sources: a record that its
	// producer knows as acknowledged and that the source no longer has may be here or
	// not, but only as it was produced and in its place of the order.
	Compacted bool
	// Rename is the name that a topic of an origin has here. Nil is its own name.
	Rename func(origin, topic string) string
	// ClientsRepeat says that clients here may write a record twice themselves, so
	// that its second occurrence is no loop as long as no link brought it.
	ClientsRepeat bool
	// Reread keeps what each offset held, 16 bytes a record, for Target.Reread.
	Reread bool
	// Rereads is how many records that a group has read may come again behind a position of it, beside those that cannot be told
	// apart by any one position.
	Rereads int64
	// Examples bounds how many examples of each rule are kept; 0 is 10.
	Examples int
}

// Target judges one target log against the truth. Not safe for concurrent use.
type Target struct {
	cfg    Config
	src    *Sources
	seen   chunks[sight]
	places []placeHere
	own    map[key]uint32    // own records that the truth does not have: how often seen
	read   map[place]int64   // last offset fed
	vias   map[string]uint16 // numbers of the links' far ends, from 1
	hubs   map[string]hubs   // their bits
	ledger ledger
	held   held
	positions
	report Report
	begun  bool
}

// sight is what was seen of an entry of the truth on the target.
type sight struct {
	count    uint16 // in its place
	astray   uint16 // in another topic or partition
	via      uint16 // of the first
	missing  hubs   // whose ledger says of a copy there that it is missing
	perhaps  hubs   // that it may be
	kept     hubs   // that have a copy of which their ledger says neither
	repeated bool   // a hub's ledger says it may be repeated
	late     bool   // a hub's ledger says it may be behind later ones
}

// hubs are clusters on the way, as bits.
type hubs uint16

// furtherHubs is for all those that have no bit of their own: what they keep is not looked at.
const furtherHubs hubs = 1 << 15

// placeHere is a place of the truth as the target has it.
type placeHere struct {
	topic    string // its name here
	expected bool
	high     int64 // greatest source offset that was seen, -1 none
	// latest is the last life that was seen of the partition, shared by all of them.
	latest *int32
}

// Target starts judging a target; the truth cannot be added to any more. Several targets
// can share one truth.
func (s *Sources) Target(cfg Config) *Target {
	s.sealed = true
	if cfg.Examples == 0 {
		cfg.Examples = 10
	}
	t := &Target{
		cfg: cfg, src: s,
		own:  map[key]uint32{},
		read: map[place]int64{},
		vias: map[string]uint16{},
		hubs: map[string]hubs{},
	}
	t.report.Mode = cfg.Mode
	latest := map[place]*int32{}
	for _, p := range s.places {
		if latest[p.any()] == nil {
			latest[p.any()] = new(int32)
		}
		here := placeHere{topic: p.topic, high: -1, latest: latest[p.any()]}
		here.expected = p.origin != cfg.Cluster && (cfg.Carries == nil || cfg.Carries(p.origin, p.topic))
		if cfg.Rename != nil {
			here.topic = cfg.Rename(p.origin, p.topic)
		}
		t.places = append(t.places, here)
	}
	for range s.entries.len() {
		t.seen.add(sight{})
	}
	return t
}

// Ledger takes a range of the mirror's ledger: that of every link on the way to the
// target. It returns ErrLate after the first Hop or Add.
func (t *Target) Ledger(r Range) error {
	if t.begun {
		return fmt.Errorf("add ledger range of %s/%d: %w", r.Topic, r.Partition, ErrLate)
	}
	return t.ledger.add(r)
}

// Hop takes a record of the log of a cluster that records passed on their way here. It is
// needed only if there are ledger ranges or positions in that cluster's offsets: it says which records
// these are. Records of that cluster's own origin need no Hop for a ledger. Where the hub has a record more than once, and its ledger says
// of some copies only that they are missing, the others must have come, and come in their own places.
func (t *Target) Hop(cluster string, r Record) {
	t.begun = true
	at := place{cluster, r.Topic, r.Partition, r.Life}
	if len(t.positions.order) > 0 {
		t.positions.hop(at, t.src.hash(r.UID), r.Offset)
	}
	missing, perhaps := t.ledger.covers(at, Missing, r.Offset), t.ledger.covers(at, Perhaps, r.Offset)
	repeated, late := t.ledger.covers(at, Repeated, r.Offset), t.ledger.covers(at, Reordered, r.Offset)
	if !repeated && !late && !t.ledger.has(at, Missing) && !t.ledger.has(at, Perhaps) {
		return
	}
	hub, ok := t.hubs[cluster]
	if !ok {
		hub = hubs(1) << min(len(t.hubs), 15)
		t.hubs[cluster] = hub
	}
	head, _, ok := t.src.find(r.UID, r.Origin)
	if !ok {
		return
	}
	for i := head; i != none; i = t.src.entries.at(i).next {
		s := t.seen.at(i)
		switch {
		case missing:
			s.missing |= hub
		case perhaps:
			s.perhaps |= hub
		case hub != furtherHubs:
			late = late || (s.missing|s.perhaps)&hub != 0
			s.kept |= hub
		}
		s.repeated, s.late = s.repeated || repeated, s.late || late
	}
}

// Add takes the next record of the target's log, in offset order within a partition. It
// returns ErrNoUID or ErrOrder.
func (t *Target) Add(r Record) error {
	t.begun = true
	if r.UID == "" {
		return fmt.Errorf("add record of target: %w", ErrNoUID)
	}
	at := place{origin: t.cfg.Cluster, topic: r.Topic, partition: r.Partition}
	if last, ok := t.read[at]; ok && r.Offset <= last {
		return fmt.Errorf("add record of target: %s/%d offset %d after %d: %w", r.Topic, r.Partition, r.Offset, last, ErrOrder)
	}
	t.read[at] = r.Offset
	if len(t.positions.order) > 0 {
		t.positions.add(r, t.src.hash(r.UID))
	}
	if t.cfg.Reread {
		t.held.keep(r, t.src.hash(r.UID))
	}
	head, origin, known := t.src.find(r.UID, r.Origin)
	switch {
	case t.isOwn(r, origin):
		t.ownRecord(r)
	case !known:
		t.stranger(r)
	default:
		t.copied(r, head, origin)
	}
	return nil
}

// isOwn reports whether a record counts as produced at the target. One that says so is
// believed, unless the truth has the target's own records, and this one at another origin.
func (t *Target) isOwn(r Record, origin string) bool {
	if r.Origin != t.cfg.Cluster {
		return r.Origin == "" && origin == t.cfg.Cluster
	}
	_, fed := t.src.mixes[t.cfg.Cluster]
	return origin == "" || origin == t.cfg.Cluster || !fed
}

// ownRecord judges a record that was first produced at the target itself.
func (t *Target) ownRecord(r Record) {
	t.report.Own++
	k := t.src.hash(r.UID)
	t.own[k]++
	switch {
	case r.Via != "":
		t.find(Loop, r, -1, "came home from "+r.Via)
	case t.own[k] > 1 && !t.cfg.ClientsRepeat:
		t.find(Loop, r, -1, "own record a second time")
	}
}

// stranger judges a record that the truth does not have.
func (t *Target) stranger(r Record) {
	switch t.src.outcome(r.UID, r.Origin) {
	case Acked:
		// The source had it, or it could not have been acknowledged.
		t.report.Survivors++
	case Aborted:
		t.find(Phantom, r, -1, "aborted by its producer")
	case InDoubt:
		if t.src.shorter[place{origin: r.Origin, topic: r.Topic, partition: r.Partition}] {
			t.report.Survivors++
			return
		}
		t.find(Phantom, r, -1, "in doubt at its producer, not in the source log")
	default:
		t.find(Phantom, r, -1, "never produced")
	}
}

// copied judges a record that the truth has.
func (t *Target) copied(r Record, head uint32, origin string) {
	i, ok := t.inPlace(r, head)
	e, s := t.src.entries.at(i), t.seen.at(i)
	from := t.src.places[e.place]
	here := &t.places[e.place]
	switch {
	case !here.expected:
		t.find(Phantom, r, e.offset, fmt.Sprintf("%s of %s is not mirrored here", from.topic, origin))
		return
	case !ok && here.topic != r.Topic:
		s.astray++
		t.find(Misrouted, r, e.offset, "belongs to "+here.topic)
		return
	case !ok:
		s.astray++
		t.find(Corrupt, r, e.offset, fmt.Sprintf("belongs to partition %d", from.partition))
		return
	}
	if why := t.changed(r, e, origin); why != "" {
		t.find(Corrupt, r, e.offset, why)
	}
	if s.count < math.MaxUint16 {
		s.count++
	}
	via := t.via(r.Via)
	if s.count == 1 {
		s.via = via
		t.first(r, e, s, here)
		return
	}
	if s.count <= e.count {
		return
	}
	switch {
	case via != 0 && s.via != 0 && via != s.via:
		t.find(Loop, r, e.offset, "came a second time, over another link: from "+r.Via)
	case s.repeated || t.ledger.covers(from, Repeated, e.offset):
		t.report.DeclaredRepeats++
	default:
		t.find(Duplicate, r, e.offset, fmt.Sprintf("%d times, %d at the source", s.count, e.count))
	}
}

// inPlace returns the entry that r is a copy of and whether it is where it belongs; if it
// is not, an entry of the right topic is preferred.
func (t *Target) inPlace(r Record, head uint32) (i uint32, ok bool) {
	best := head
	for i := head; i != none; i = t.src.entries.at(i).next {
		p := t.src.entries.at(i).place
		if t.places[p].topic != r.Topic {
			continue
		}
		if t.src.places[p].partition == r.Partition {
			return i, true
		}
		best = i
	}
	return best, false
}

// first judges the order of a record's first occurrence.
func (t *Target) first(r Record, e *entry, s *sight, here *placeHere) {
	t.report.Copied++
	late := s.late || t.ledger.covers(t.src.places[e.place], Reordered, e.offset)
	life := t.src.places[e.place].life
	if e.offset >= here.high && life >= *here.latest {
		here.high, *here.latest = e.offset, life
		return
	}
	if late {
		t.report.DeclaredReorders++
		return
	}
	if life < *here.latest {
		t.find(Reorder, r, e.offset, fmt.Sprintf("of life %d of the source's log, behind records of life %d", life, *here.latest))
		return
	}
	t.find(Reorder, r, e.offset, fmt.Sprintf("behind source offset %d", here.high))
}

// changed says what a copy did not keep, or "".
func (t *Target) changed(r Record, e *entry, origin string) string {
	switch {
	case r.Origin != "" && r.Origin != origin:
		return fmt.Sprintf("origin %s became %s", origin, r.Origin)
	case e.unread && !t.cfg.Compacted:
		return ""
	case r.Timestamp != e.timestamp:
		return fmt.Sprintf("timestamp %d became %d", e.timestamp, r.Timestamp)
	case r.TimestampType != e.timeType && r.TimestampType != 0:
		// The other way round is right: a mirror keeps the broker's time of the
		// source by writing it as the producer's.
		return fmt.Sprintf("timestamp type %d became %d", e.timeType, r.TimestampType)
	case r.Hash != e.hash:
		return "contents changed"
	}
	return ""
}

// via numbers the far end of a link, 0 for unknown.
func (t *Target) via(name string) uint16 {
	if name == "" {
		return 0
	}
	n, ok := t.vias[name]
	if !ok {
		n = uint16(len(t.vias) + 1)
		t.vias[name] = n
	}
	return n
}
