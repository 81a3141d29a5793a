package mirror

import (
	"errors"
	"fmt"
)

// Messages of the hand-over: a version, a kind, then what it is about. Only what can be is let in; a newer node's
// messages are not understood, and the pump starts at its checkpoint.

const (
	handVersion = 1
	kindAsk     = 1
	kindAnswer  = 2
	kindOffer   = 3

	// handBytes bounds a message: what gossip carries has to stay small.
	handBytes = 48 << 10
	// handItems bounds the pumps of one message.
	handItems = 2000
	// handRuns bounds the runs of the map of one pump: with more the new owner finds them on the target.
	handRuns = 64
	// handName bounds names of clusters, and of topics, of which two may stand together.
	handName = 2*255 + 1
)

// ErrHandOver is wrapped by errors of messages between the mirrors of two nodes that cannot be read.
var ErrHandOver = errors.New("message of a hand-over not understood")

// What an answer says of a pump.
const (
	saysNotMine  = 0
	saysReleased = 1 // the checkpoint is the place
	saysPlace    = 2 // released here
)

// handMessage is a decoded message: one of the lists is used.
type handMessage struct {
	asks    []claim // pump, number, have
	answers []gift
	offers  []PumpID
}

func (e *encoder) pump(p PumpID) {
	e.str(p.From)
	e.str(p.To)
	e.str(p.named())
	e.int(int64(p.Partition))
}

func (d *decoder) name() string {
	s := d.str()
	if d.err == nil && (s == "" || len(s) > handName) {
		d.err = fmt.Errorf("a name of %d bytes", len(s))
	}
	return s
}

func (d *decoder) pump() PumpID {
	p := PumpID{From: d.name(), To: d.name()}
	p.Topic, p.As = parted(d.name())
	if d.err == nil && p.Topic == "" {
		d.err = errors.New("a topic without a name")
	}
	n := d.int()
	if d.err == nil && (n < 0 || n > 1<<24) {
		d.err = fmt.Errorf("partition %d", n)
	}
	p.Partition = int32(n)
	return p
}

// pack makes messages of items, as few as fit.
func pack[T any](kind byte, items []T, encode func(*encoder, T)) (out [][]byte) {
	var body encoder
	n := 0
	flush := func() {
		if n > 0 {
			m := encoder{handVersion, kind}
			m.int(int64(n))
			out = append(out, append(m, body...))
		}
		body, n = body[:0:0], 0
	}
	for _, item := range items {
		var one encoder
		encode(&one, item)
		if n == handItems || len(body)+len(one) > handBytes-16 {
			flush()
		}
		body, n = append(body, one...), n+1
	}
	flush()
	return out
}

func encodeAsks(asks []claim) [][]byte {
	return pack(kindAsk, asks, func(e *encoder, c claim) {
		e.pump(c.pump)
		e.int(int64(c.number))
		e.int(c.have)
	})
}

// encodeAnswers says of each pump that it was released, or that it is not here (a gift without a time).
func encodeAnswers(gifts []gift) [][]byte {
	return pack(kindAnswer, gifts, func(e *encoder, g gift) {
		e.pump(g.pump)
		e.int(int64(g.number))
		switch {
		case g.at.IsZero():
			e.int(saysNotMine)
		case !g.have:
			e.int(saysReleased)
		default:
			e.int(saysPlace)
			old := int64(0)
			if g.old {
				old = 1
			}
			e.int(old)
			e.bytes(g.safe.encode())
			e.bytes(mapChunk{Pump: g.pump, Runs: g.runs}.encodeOld())
		}
	})
}

func encodeOffers(pumps []PumpID) [][]byte { return pack(kindOffer, pumps, (*encoder).pump) }

// decodeHand reads a message.
func decodeHand(b []byte) (m handMessage, err error) {
	switch {
	case len(b) < 3 || len(b) > handBytes:
		return m, fmt.Errorf("%w: it has %d bytes", ErrHandOver, len(b))
	case b[0] != handVersion:
		return m, fmt.Errorf("%w: version %d, this build knows %d", ErrHandOver, b[0], handVersion)
	case b[1] != kindAsk && b[1] != kindAnswer && b[1] != kindOffer:
		return m, fmt.Errorf("%w: kind %d", ErrHandOver, b[1])
	}
	d := &decoder{b: b[2:]}
	n := d.count()
	if d.err != nil || n == 0 || n > handItems {
		return m, fmt.Errorf("%w: %d pumps", ErrHandOver, n)
	}
	for range n {
		switch b[1] {
		case kindAsk:
			m.asks = append(m.asks, claim{pump: d.pump(), number: uint64(d.int()), have: d.int()})
		case kindAnswer:
			m.answers = append(m.answers, d.gift())
		default:
			m.offers = append(m.offers, d.pump())
		}
		if d.err != nil {
			return handMessage{}, fmt.Errorf("%w: %w", ErrHandOver, d.err)
		}
	}
	if len(d.b) > 0 {
		return handMessage{}, fmt.Errorf("%w: %d bytes are left", ErrHandOver, len(d.b))
	}
	return m, nil
}

func (d *decoder) gift() (g gift) {
	g.pump, g.number = d.pump(), uint64(d.int())
	switch says := d.int(); {
	case d.err != nil, says == saysNotMine, says == saysReleased:
		return g
	case says != saysPlace:
		d.err = fmt.Errorf("an answer of kind %d", says)
		return g
	}
	g.have, g.old = true, d.int() != 0
	safe, runs := d.bytes(), d.bytes()
	if d.err != nil {
		return g
	}
	var chunk mapChunk
	if g.safe, d.err = decodeCheckpoint(g.pump, "", safe); d.err != nil {
		return g
	}
	if chunk, d.err = decodeMapChunk(g.pump, "", runs); d.err != nil {
		return g
	}
	g.runs = chunk.Runs
	d.err = g.check()
	return g
}

// check refuses a place that cannot be one.
func (g gift) check() error {
	if len(g.runs) > handRuns {
		return fmt.Errorf("%d runs", len(g.runs))
	}
	c := g.safe
	if c.SourceNext < 0 || c.TargetFrom < 0 || c.TargetLast >= c.TargetFrom {
		return fmt.Errorf("a place at source offset %d and target offset %d", c.SourceNext, c.TargetFrom)
	}
	for _, l := range c.Lanes {
		if l.Epoch < 0 || l.Base < 0 || l.Count < l.Base {
			return fmt.Errorf("a lane of %q in epoch %d with count %d", l.Origin, l.Epoch, l.Count)
		}
	}
	for _, r := range g.runs {
		if r.Records <= 0 || r.Source < 0 || r.Target < 0 || r.sourceEnd() > c.SourceNext || r.targetEnd() > c.TargetFrom || r.sourceEnd() < 0 || r.targetEnd() < 0 {
			return fmt.Errorf("a run of %d records at source offset %d and target offset %d", r.Records, r.Source, r.Target)
		}
	}
	return nil
}
