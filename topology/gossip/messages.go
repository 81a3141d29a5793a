package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// A message between pools is
//
//	version  byte     of what follows the kind
//	from     string   the node that says it; of what is passed on, the one that said it first
//	kind     byte
//	body              by kind
//
// where a string is its length (uvarint) and its bytes. Version, from and kind stay as they are in all versions to come, so
// that a node can name the sender of what it does not understand.

// messageVersion is what this node writes, and the newest that it reads.
const messageVersion = 1

// messageKind says what the body is. The numbers are of the wire: they never change their meaning.
type messageKind byte

const (
	kindReport   messageKind = 1  // a Report of the sender
	kindChange   messageKind = 2  // one Change
	kindHolds    messageKind = 3  // versions of changes that the sender holds, too large for a packet
	kindReportAt messageKind = 4  // (started, seq) of the sender's report, too large for a packet
	kindPins     messageKind = 5  // all pins, with a version
	kindLost     messageKind = 6  // what a watcher knows of a node
	kindBye      messageKind = 7  // the sender goes, in good order
	kindSummary  messageKind = 8  // what the sender knows, in short
	kindReliable messageKind = 9  // over a stream, for one node
	kindPinsAt   messageKind = 10 // version of pins that the sender holds, too large for a packet
)

// Limits of what is read: a node holds no more than these, whatever it is sent.
const (
	maxNameBytes   = 128
	maxAddrBytes   = 256
	maxNodes       = 4096
	maxClusters    = 1024
	maxHeavy       = 256
	maxPins        = 10000
	maxTrouble     = 100
	maxKindBytes   = 32
	maxReportBytes = 128 << 10
	maxIDs         = 100000
)

var (
	errShort  = errors.New("message ends early")
	errNoText = errors.New("message has bytes that are no text")
)

// errNewer is of a message of a version that this node does not know yet.
type errNewer struct {
	from    string
	version byte
}

func (e *errNewer) Error() string {
	return fmt.Sprintf("message version %d, this node knows %d", e.version, messageVersion)
}

// packer writes a message.
type packer struct{ b []byte }

func pack(from string, kind messageKind) *packer {
	w := &packer{b: make([]byte, 0, 256)}
	w.byte(messageVersion)
	w.string(from)
	w.byte(byte(kind))
	return w
}

func (w *packer) byte(v byte)       { w.b = append(w.b, v) }
func (w *packer) uint(v uint64)     { w.b = binary.AppendUvarint(w.b, v) }
func (w *packer) int(v int64)       { w.b = binary.AppendVarint(w.b, v) }
func (w *packer) hash(v uint64)     { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *packer) float(v float64)   { w.hash(math.Float64bits(v)) }
func (w *packer) string(v string)   { w.uint(uint64(len(v))); w.b = append(w.b, v...) }
func (w *packer) bytes(v []byte)    { w.uint(uint64(len(v))); w.b = append(w.b, v...) }
func (w *packer) time(t Time)       { w.int(t.Wall); w.uint(uint64(t.Counter)); w.string(t.Node) }
func (w *packer) flags(set ...bool) { w.byte(bits(set...)) }

func bits(set ...bool) (b byte) {
	for i, s := range set {
		if s {
			b |= 1 << i
		}
	}
	return b
}

// unpacker reads a message; the first error stays.
type unpacker struct {
	b   []byte
	err error
}

// unpack reads the head of a message. A newer one's error is an *errNewer.
func unpack(b []byte) (from string, kind messageKind, r *unpacker, err error) {
	r = &unpacker{b: b}
	version := r.byte()
	from = r.string(maxNameBytes)
	kind = messageKind(r.byte())
	switch {
	case r.err != nil:
		return "", 0, nil, r.err
	case version > messageVersion:
		return from, kind, nil, &errNewer{from, version}
	case version == 0:
		return from, kind, nil, errors.New("message version 0 never was")
	}
	return from, kind, r, nil
}

func (r *unpacker) fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

func (r *unpacker) take(n int) []byte {
	if n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *unpacker) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *unpacker) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *unpacker) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *unpacker) hash() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// float refuses what no node measures.
func (r *unpacker) float() float64 {
	v := math.Float64frombits(r.hash())
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		r.fail(errors.New("message has a number that is none"))
		return 0
	}
	return v
}

func (r *unpacker) bytes(limit int) []byte {
	n := r.uint()
	if n > uint64(limit) {
		r.fail(fmt.Errorf("message has a field of %d bytes, the limit is %d", n, limit))
		return nil
	}
	return r.take(int(n))
}

// string is text: what else came would break the API's answers, which tell it.
func (r *unpacker) string(limit int) string {
	v := string(r.bytes(limit))
	if !utf8.ValidString(v) {
		r.fail(errNoText)
		return ""
	}
	return v
}

// count reads how many items follow; each takes at least one byte, so that a lie allocates nothing.
func (r *unpacker) count(limit int) int {
	n := r.uint()
	if n > uint64(limit) {
		r.fail(fmt.Errorf("message has %d items, the limit is %d", n, limit))
		return 0
	}
	if n > uint64(len(r.b)) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

func (r *unpacker) time() Time {
	wall, counter := r.int(), r.uint()
	if counter > math.MaxUint32 {
		r.fail(errors.New("message has a version whose counter is too large"))
	}
	return Time{Wall: wall, Counter: uint32(counter), Node: r.string(maxNameBytes)}
}

// done is the error of the whole message: what follows the last field is one too, within one version.
func (r *unpacker) done() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("message has %d bytes too many", len(r.b))
	}
	return r.err
}

// packReport writes a report as a message.
func packReport(node string, rep Report) []byte {
	w := pack(node, kindReport)
	w.int(rep.Started)
	w.uint(rep.Seq)
	w.string(rep.DC)
	w.string(rep.Version)
	w.string(rep.GRPC)
	w.string(rep.HTTP)
	w.float(rep.Capacity)
	w.flags(rep.Ready, rep.Draining)
	w.hash(rep.FileHash)
	w.hash(rep.ConfigHash)
	w.uint(uint64(len(rep.Reach)))
	for _, name := range sortedKeys(rep.Reach) {
		reach := rep.Reach[name]
		w.string(name)
		w.flags(reach.Reads, reach.Writes)
		w.uint(uint64(max(0, reach.RTT)))
		w.string(reach.Trouble)
	}
	w.float(rep.Bytes)
	w.uint(uint64(len(rep.Heavy)))
	for _, l := range rep.Heavy {
		w.hash(l.Pump)
		w.float(l.Bytes)
		w.flags(l.Lagging)
	}
	return w.b
}

func unpackReport(r *unpacker) (Report, error) {
	rep := Report{Started: r.int(), Seq: r.uint(), DC: r.string(maxNameBytes), Version: r.string(maxNameBytes),
		GRPC: r.string(maxAddrBytes), HTTP: r.string(maxAddrBytes), Capacity: r.float()}
	flags := r.byte()
	rep.Ready, rep.Draining = flags&1 != 0, flags&2 != 0
	rep.FileHash, rep.ConfigHash = r.hash(), r.hash()
	if n := r.count(maxClusters); n > 0 {
		rep.Reach = make(map[string]Reach, n)
		for range n {
			name, flags := r.string(maxNameBytes), r.byte()
			rtt := r.uint()
			if rtt > uint64(time.Hour) {
				r.fail(errors.New("message has a round trip of hours"))
			}
			rep.Reach[name] = Reach{Reads: flags&1 != 0, Writes: flags&2 != 0, RTT: time.Duration(rtt), Trouble: r.string(maxTrouble)}
			if r.err != nil {
				return Report{}, r.err
			}
		}
	}
	rep.Bytes = r.float()
	for range r.count(maxHeavy) {
		l := Load{Pump: r.hash(), Bytes: r.float(), Lagging: r.byte()&1 != 0}
		if r.err != nil {
			return Report{}, r.err
		}
		rep.Heavy = append(rep.Heavy, l)
	}
	return rep, r.done()
}

// checkReport returns what could not be told to the others.
func checkReport(rep Report) error {
	switch {
	case len(rep.DC) > maxNameBytes, len(rep.Version) > maxNameBytes, len(rep.GRPC) > maxAddrBytes, len(rep.HTTP) > maxAddrBytes:
		return errors.New("a report has a data center, version or address that is too long")
	case len(rep.Reach) > maxClusters:
		return fmt.Errorf("a report has %d clusters, the limit is %d", len(rep.Reach), maxClusters)
	case len(rep.Heavy) > maxHeavy:
		return fmt.Errorf("a report has %d heavy pumps, the limit is %d", len(rep.Heavy), maxHeavy)
	}
	return nil
}

func packPins(by string, version Time, pins []Pin) []byte {
	w := pack(by, kindPins)
	w.time(version)
	w.uint(uint64(len(pins)))
	for _, p := range pins {
		w.hash(p.Pump)
		w.string(p.Node)
	}
	return w.b
}

func unpackPins(r *unpacker) (Time, []Pin, error) {
	version := r.time()
	n := r.count(maxPins)
	pins := make([]Pin, 0, n)
	for range n {
		pins = append(pins, Pin{Pump: r.hash(), Node: r.string(maxNameBytes)})
		if r.err != nil {
			return Time{}, nil, r.err
		}
	}
	return version, pins, r.done()
}

func packTimes(w *packer, ids []Time) {
	w.uint(uint64(len(ids)))
	for _, id := range ids {
		w.time(id)
	}
}

func unpackTimes(r *unpacker) []Time {
	n := r.count(maxIDs)
	ids := make([]Time, 0, n)
	for range n {
		ids = append(ids, r.time())
		if r.err != nil {
			return nil
		}
	}
	return ids
}

// packList puts messages into one payload.
func packList(messages [][]byte) []byte {
	w := &packer{}
	w.uint(uint64(len(messages)))
	for _, m := range messages {
		w.bytes(m)
	}
	return w.b
}

func unpackList(b []byte) (messages [][]byte, err error) {
	r := &unpacker{b: b}
	for range r.count(maxIDs) {
		messages = append(messages, r.bytes(maxStreamBytes))
		if r.err != nil {
			return nil, r.err
		}
	}
	return messages, r.done()
}
