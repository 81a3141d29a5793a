package mirror

import "time"

// Where pumps share something, those that follow their partition's head go before those that catch up, which get what is left, and a part of it
// at the least. Each of the two tracks has connections of its own to every broker: what one has asked for or written does not stand in line
// before what the other has. So the network and the brokers share between them as between any two clients, whatever is on its way. Memory
// and rates have a part for each; see budget and quota.
type track int8

const (
	trackLive track = iota // follows the head
	trackLate              // catches up
	tracks
)

const (
	// liveLag is how far behind a pump falls before it catches up; it follows again from half of it on.
	liveLag = 5 * time.Second
	// liveAnswers is how many answers of the source a pump that follows needs at the most to read what is there.
	liveAnswers = 4
	// recordGuess is the size of a record while none has been read.
	recordGuess = 1 << 10
)

// backlog is how far behind a pump is.
type backlog struct {
	unread, held int64         // bytes at the source, and between source and target
	lag          time.Duration // age of the oldest record that is not mirrored, since it was seen
	answer       int64         // most bytes of one answer of the source
}

// next is the track of a pump that was on this one. A little is no backlog, however old it is: else what has to wait once would wait for ever.
func (t track) next(b backlog) track {
	little := b.unread+b.held <= b.answer/4
	switch {
	case little:
		return trackLive
	case t == trackLive && (b.unread > min(liveAnswers*b.answer, coldBehind) || b.lag > liveLag):
		return trackLate
	case t == trackLate && b.unread <= b.answer && b.lag <= liveLag/2:
		return trackLive
	}
	return t
}

// retrackLocked moves the pump to the other track if it has fallen behind or caught up. What is on the wire is answered before more is
// written, for nothing keeps two connections in order.
func (p *pump) retrackLocked(now time.Time) {
	if p.state != StateRunning || p.fetcher == nil || p.window == nil {
		return
	}
	b := backlog{held: p.out.bytes, lag: p.behindLocked(now), answer: int64(p.link.cfg.FetchPartitionBytes)}
	end := p.sight.highWatermark
	if p.sight.stable >= 0 { // what is behind it cannot be read
		end = min(end, p.sight.stable)
	}
	if n := end - p.fetchAt; n > 0 {
		b.unread = n * p.sight.record
		if p.sight.record == 0 {
			b.unread = n * recordGuess
		}
	}
	t := p.track.next(b)
	if t == p.track {
		return
	}
	p.track = t
	p.fetcher.drop(p)
	p.fetcher, p.window = p.fetcher.on(t), p.window.on(t)
	p.fetcher.mark(p)
	if len(p.out.queue) > 0 {
		p.window.ready(p)
	}
}

// changesLocked reports whether the pump waits for answers of the track that it was on.
func (p *pump) changesLocked() bool {
	return len(p.out.inflight) > 0 && p.out.inflight[0].via != p.window
}

// on is the fetcher of the same broker for a track.
func (f *fetcher) on(t track) *fetcher { return f.both[t] }

// on is the window of the same broker for a track.
func (w *window) on(t track) *window { return w.both[t] }
