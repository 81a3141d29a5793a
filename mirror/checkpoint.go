package mirror

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// PumpID names a pump for ever: the two clusters, the topic and the partition.
// The link's own name is not part of it, so a renamed link keeps its place.
type PumpID struct {
	From, To string
	// Topic is the source's; As is what it is called on the target, empty where it has the same name. So a link that gives it another name has
	// other pumps, which begin anew.
	Topic, As string
	Partition int32
}

func (p PumpID) String() string {
	topic := p.Topic
	if p.As != "" {
		topic += " as " + p.As
	}
	return fmt.Sprintf("%s→%s %s:%d", p.From, p.To, topic, p.Partition)
}

// Target is the topic's name on the target.
func (p PumpID) Target() string { return cmp.Or(p.As, p.Topic) }

// on is the topic's name on one of the two clusters.
func (p PumpID) on(cluster string) string {
	if cluster == p.To {
		return p.Target()
	}
	return p.Topic
}

// namesApart separates the two names of a topic in what is written of a pump. No topic has it in its name, so who does not know of it finds a
// pump that it does not have.
const namesApart = ">"

// named is the topic with both of its names.
func (p PumpID) named() string {
	if p.As == "" {
		return p.Topic
	}
	return p.Topic + namesApart + p.As
}

// parted is the reverse of named.
func parted(named string) (topic, as string) {
	topic, as, _ = strings.Cut(named, namesApart)
	return topic, as
}

// Lane is the sequence of one origin's records within a pump: the producer
// epoch (incarnation) in force, the count of records copied before that epoch's
// sequence 0 (Base), and the count of records copied in all (Count).
type Lane struct {
	Origin string
	Epoch  int16
	Base   int64
	Count  int64
}

// sequence is the wire sequence number of the lane's next record. Sequences
// wrap from 2^31-1 to 0.
func (l Lane) sequence() int32 { return int32((l.Count - l.Base) & 0x7fffffff) }

// held reports whether the pump has copied the lane's origin, or begun to.
func (l Lane) held() bool { return l.Count > 0 || l.Epoch > 0 }

// countAt unwraps a wire sequence of the lane's own epoch into a count, taking
// the candidate nearest to the lane's count.
func (l Lane) countAt(sequence int32) int64 {
	diff := (int64(sequence) - int64(l.sequence())) & 0x7fffffff
	if diff > 1<<30 {
		diff -= 1 << 31
	}
	return l.Count + diff
}

// countBehind is the count behind the last sequence that a broker remembers of the lane.
func (l Lane) countBehind(last int32) int64 { return l.countAt((last + 1) & 0x7fffffff) }

// Checkpoint is a durable, proven position of a pump: everything before
// SourceNext that had to be copied is on the target at or before TargetLast.
// It is written at the ends of source batches only and never beyond the
// target's high watermark.
type Checkpoint struct {
	Pump          PumpID
	SourceTopicID [16]byte
	SourceEpoch   int32 // leader epoch of the last source batch read, -1 unknown
	SourceNext    int64
	TargetTopicID [16]byte
	TargetEpoch   int32 // leader epoch of the target when written, -1 unknown
	TargetLast    int64 // target offset of the last own record, -1 none
	TargetFrom    int64 // where to look for own batches: TargetLast+1, or the target's end when the pump began
	Lanes         []Lane
	// SourcePartitions is how many partitions the source's topic had when the
	// target last had them all: a target with fewer than these was never ours to grow.
	SourcePartitions int32
	// Fresh: the target's broker knew none of our producer ids when the pump began, so that whatever it knows of them was written at TargetFrom or
	// later. Kept while nothing was copied.
	Fresh bool
	// Elected: it goes on from the first checkpoint that was elected, and is no proposal of one. Kept while nothing was copied.
	Elected bool
	Writer  string // node and process that wrote it
}

// started reports whether anything was ever copied.
func (c Checkpoint) started() bool {
	return slices.ContainsFunc(c.Lanes, Lane.held)
}

func (c Checkpoint) lane(origin string) Lane {
	for _, l := range c.Lanes {
		if l.Origin == origin {
			return l
		}
	}
	return Lane{Origin: origin}
}

func (c Checkpoint) clone() Checkpoint {
	c.Lanes = slices.Clone(c.Lanes)
	return c
}

// setLane replaces or adds the lane of its origin.
func (c *Checkpoint) setLane(l Lane) {
	for i := range c.Lanes {
		if c.Lanes[i].Origin == l.Origin {
			c.Lanes[i] = l
			return
		}
	}
	c.Lanes = append(c.Lanes, l)
}

// ahead reports whether c is further than o: the greatest (epoch, count), then
// the greater source offset. Counts only grow within an epoch and a new epoch
// starts from a count that was decided, so a zombie's checkpoint never wins.
func (c Checkpoint) ahead(o Checkpoint) bool {
	ce, cc := c.progress()
	oe, oc := o.progress()
	if ce != oe {
		return ce > oe
	}
	if cc != oc {
		return cc > oc
	}
	return c.SourceNext > o.SourceNext
}

func (c Checkpoint) epochs() int64 {
	n, _ := c.progress()
	return n
}

func (c Checkpoint) progress() (epochs, counts int64) {
	for _, l := range c.Lanes {
		epochs += int64(l.Epoch)
		counts += l.Count
	}
	return epochs, counts
}

// checkpointKey is (pump, writer): two owners never compact each other's
// checkpoints away; readers take the one that is ahead.
func (c Checkpoint) key() []byte { return stateKey(kindCheckpoint, c.Pump, c.Writer) }

func (c Checkpoint) encode() []byte {
	e := encoder{formatVersion}
	e.bytes(c.SourceTopicID[:])
	e.int(int64(c.SourceEpoch))
	e.int(c.SourceNext)
	e.bytes(c.TargetTopicID[:])
	e.int(int64(c.TargetEpoch))
	e.int(c.TargetLast)
	e.int(c.TargetFrom)
	e.int(int64(c.SourcePartitions))
	e.int(int64(len(c.Lanes)))
	for _, l := range c.Lanes {
		e.str(l.Origin)
		e.int(int64(l.Epoch))
		e.int(l.Base)
		e.int(l.Count)
	}
	if !c.started() && (c.Fresh || c.Elected) { // a release that does not know them leaves them alone
		e.int(flag(c.Fresh))
		e.int(flag(c.Elected))
	}
	return e
}

func flag(v bool) int64 {
	if v {
		return 1
	}
	return 0
}

func decodeCheckpoint(p PumpID, writer string, b []byte) (Checkpoint, error) {
	d := newDecoder(b)
	c := Checkpoint{Pump: p, Writer: writer}
	c.SourceTopicID = d.id()
	c.SourceEpoch = int32(d.int())
	c.SourceNext = d.int()
	c.TargetTopicID = d.id()
	c.TargetEpoch = int32(d.int())
	c.TargetLast = d.int()
	c.TargetFrom = d.int()
	c.SourcePartitions = int32(d.int())
	for range d.count() {
		c.Lanes = append(c.Lanes, Lane{Origin: d.str(), Epoch: int16(d.int()), Base: d.int(), Count: d.int()})
	}
	if d.err == nil && len(d.b) > 0 {
		c.Fresh = d.int() == 1
	}
	if d.err == nil && len(d.b) > 0 {
		c.Elected = d.int() == 1
	}
	if d.err != nil {
		return Checkpoint{}, fmt.Errorf("decode checkpoint of %s by %s: %w", p, writer, d.err)
	}
	return c, nil
}

// Kinds of state records; the first byte of every key after its version.
const (
	kindCheckpoint  = 'c'
	kindIncarnation = 'i'
	kindMap         = 'm'
	kindLedger      = 'l'
	kindVanished    = 'v'
	kindTrouble     = 't'
	kindDeadLetter  = 'd' // in the dead-letter topic only
)

// stateKey is version, kind, pump, then what tells records of one kind apart.
func stateKey(kind byte, p PumpID, rest ...string) []byte {
	e := encoder{formatVersion, kind}
	e.str(p.From)
	e.str(p.To)
	e.str(p.named())
	e.int(int64(p.Partition))
	for _, r := range rest {
		e.str(r)
	}
	return e
}

func decodeStateKey(b []byte, rest int) (kind byte, p PumpID, tail []string, err error) {
	d := newDecoder(b)
	if d.err == nil && len(d.b) == 0 {
		d.err = errShortState
	}
	if d.err != nil {
		return 0, p, nil, fmt.Errorf("decode state key: %w", d.err)
	}
	kind, d.b = d.b[0], d.b[1:]
	p = PumpID{From: d.str(), To: d.str()}
	p.Topic, p.As = parted(d.str())
	p.Partition = int32(d.int())
	for range rest {
		tail = append(tail, d.str())
	}
	if d.err != nil {
		return 0, p, nil, fmt.Errorf("decode state key %q: %w", strings.ToValidUTF8(string(b), "?"), d.err)
	}
	return kind, p, tail, nil
}

// Incarnation is the decision that a pump goes on in a new epoch: from which
// source offset, and what the count of each lane is there, which is the epoch's
// sequence 0. It is decided once for all lanes: the first in offset order wins.
type Incarnation struct {
	Pump   PumpID
	Epoch  int16
	Source int64
	Lanes  []Lane // Origin and Base count
	Writer string
	Why    string
	anchor *anchorage // nil: the epoch goes on with the same two logs
}

// base is the count of an origin's sequence 0 in this epoch.
func (i Incarnation) base(origin string) int64 {
	for _, l := range i.Lanes {
		if l.Origin == origin {
			return l.Base
		}
	}
	return 0
}

// lane is the origin's lane as the epoch begins.
func (i Incarnation) lane(origin string) Lane {
	base := i.base(origin)
	return Lane{Origin: origin, Epoch: i.Epoch, Base: base, Count: base}
}

func (i Incarnation) key() []byte {
	return stateKey(kindIncarnation, i.Pump, i.Writer, fmt.Sprint(i.Epoch))
}

func (i Incarnation) encode() []byte {
	e := encoder{formatVersion}
	e.int(int64(i.Epoch))
	e.int(i.Source)
	e.int(int64(len(i.Lanes)))
	for _, l := range i.Lanes {
		e.str(l.Origin)
		e.int(l.Base)
	}
	e.str(i.Why)
	if i.anchor != nil { // older nodes leave alone what stands behind what they know
		i.anchor.encode(&e)
	}
	return e
}

func decodeIncarnation(p PumpID, writer string, b []byte) (Incarnation, error) {
	d := newDecoder(b)
	i := Incarnation{Pump: p, Writer: writer, Epoch: int16(d.int()), Source: d.int()}
	for range d.count() {
		i.Lanes = append(i.Lanes, Lane{Origin: d.str(), Base: d.int()})
	}
	i.Why = d.str()
	if d.err == nil && len(d.b) > 0 {
		i.anchor = decodeAnchorage(d)
	}
	if d.err != nil {
		return Incarnation{}, fmt.Errorf("decode incarnation of %s: %w", p, d.err)
	}
	return i, nil
}
