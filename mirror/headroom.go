package mirror

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// How long it takes until the source's retention reaches what is not copied yet, and how many bytes may still be written there.

// retention is how long a source topic keeps its records. -1 is for ever.
type retention struct {
	ms, bytes int64
}

// retentionOf reads a topic's settings.
func retentionOf(source map[string]broker.Config) retention {
	r := retention{-1, -1}
	if policy := source["cleanup.policy"].Value; policy != "" && !strings.Contains(policy, "delete") {
		return r
	}
	for key, v := range map[string]*int64{"retention.ms": &r.ms, "retention.bytes": &r.bytes} {
		if n, err := strconv.ParseInt(source[key].Value, 10, 64); err == nil && n >= 0 {
			*v = n
		}
	}
	return r
}

// outlook is a place in a log that retention comes nearer to.
type outlook struct {
	keeps  retention
	stamp  int64   // time of the record at the place, ms; -1 unknown
	behind int64   // bytes from the place to the end of the log
	growth float64 // bytes a second that the log grows by; 0 unknown
}

// headroom is what is left: time, and bytes that may still be written. -1 is no bound, or unknown. A broker deletes whole segments, by their youngest
// record, so it may be more, never less.
type headroom struct {
	left  time.Duration
	bytes int64
}

// room is pure.
func (o outlook) room(now time.Time) headroom {
	h := headroom{-1, -1}
	if o.keeps.ms >= 0 && o.stamp >= 0 && o.keeps.ms < math.MaxInt64/int64(time.Millisecond) {
		age := now.UnixMilli() - o.stamp
		h.left = max(0, time.Duration(max(o.keeps.ms-age, 0))*time.Millisecond)
	}
	if o.keeps.bytes >= 0 {
		h.bytes = max(0, o.keeps.bytes-o.behind)
		if o.growth > 0 {
			full := time.Duration(min(float64(h.bytes)/o.growth, math.MaxInt32) * float64(time.Second))
			if h.left < 0 || full < h.left {
				h.left = full
			}
		}
	}
	return h
}

// prospect is what a pump knows of its headroom.
type prospect struct {
	headroom
	known bool
	next  timed     // the record that is to be copied next
	asked time.Time // the source, for it
	end   int64     // of the log, as it was asked for while the pump reads nothing
	head  int64     // the end of the log as it reads
	when  time.Time // then
	rate  float64   // records a second that it grows by
	said  bool      // logged
}

// timed is a source record and its time.
type timed struct{ offset, ms int64 }

// stopAskEvery is how often a pump that does not read has the source asked for the time of its next record, while that is not known.
const stopAskEvery = time.Minute

// askedInPass bounds how many pumps ask in one look.
const askedInPass = 64

// watchRoom looks at the headroom of all pumps that are behind. A pump that reads knows the time of its next record; for one that stands
// the source is asked, once for each place.
func (l *Link) watchRoom(ctx context.Context) {
	var ask []*pump
	for _, f := range l.flowList() {
		keeps := f.limits().keeps
		if keeps.ms < 0 && keeps.bytes < 0 {
			continue
		}
		for _, p := range f.pumpList() {
			if p.lookAhead(keeps, l.now()) && len(ask) < askedInPass {
				ask = append(ask, p)
			}
		}
	}
	var calls errgroup.Group
	calls.SetLimit(8)
	for _, p := range ask {
		calls.Go(func() error {
			l.askRoom(ctx, p)
			return nil
		})
	}
	_ = calls.Wait() // none gives an error: who is not answered asks again
}

// askRoom asks the source for the time of the record that is to be copied next, which is that of the youngest in its batch.
func (l *Link) askRoom(ctx context.Context, p *pump) {
	next, ok := p.asksRoom(l.now())
	if !ok {
		return
	}
	end, err := l.from.ListOffsets(ctx, p.id.Topic, p.id.Partition, broker.Latest, false)
	if err != nil || end.Offset <= next {
		return
	}
	frame, err := l.from.FetchOnce(ctx, p.id.Topic, p.id.Partition, next, 1, false)
	if err != nil {
		return
	}
	defer frame.Release()
	if h, err := batch.ParseHeader(frame.Partitions[0].Batches); err == nil {
		p.mu.Lock()
		p.sight.room.next, p.sight.room.end = timed{next, h.MaxTimestamp}, end.Offset
		p.mu.Unlock()
		p.lookAhead(p.flow.limits().keeps, l.now())
	}
}

// asksRoom is the offset to ask for, if it is time to.
func (p *pump) asksRoom(now time.Time) (next int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.sight.room
	if now.Sub(r.asked) < stopAskEvery {
		return 0, false
	}
	r.asked = now
	return p.acked.SourceNext, true
}

// lookAhead computes the headroom, and warns. ask: the time of the next record is not known.
func (p *pump) lookAhead(keeps retention, now time.Time) (ask bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, next, end := &p.sight.room, p.acked.SourceNext, p.sight.highWatermark
	stands := p.state != StateRunning
	if stands {
		end = max(end, r.end)
	}
	if !p.born || p.gone || p.state == StateElsewhere || p.state == StateYielded || !stands && end <= next {
		*r = prospect{}
		return false
	}
	r.grown(end, now)
	if b := p.firstLocked(); b != nil {
		r.next = timed{next, b.maxTime}
	}
	dated := r.next.offset == next && r.next.ms > 0
	if !dated && keeps.ms >= 0 {
		ask = true
	}
	if end <= next {
		r.known = false
		return ask
	}
	o := outlook{keeps: keeps, stamp: -1, behind: p.link.metrics.bytesOf(p.id.Topic, end-next)}
	if dated {
		o.stamp = r.next.ms
	}
	o.growth = r.rate * float64(p.link.metrics.bytesOf(p.id.Topic, 1000)) / 1000
	r.headroom, r.known = o.room(now), true
	p.warnRoomLocked()
	return ask
}

// grown notes how fast the log grows.
func (r *prospect) grown(end int64, now time.Time) {
	if end <= r.head && !r.when.IsZero() {
		return
	}
	if past := now.Sub(r.when).Seconds(); !r.when.IsZero() && past > 0 {
		r.rate = float64(end-r.head) / past
	}
	r.head, r.when = end, now
}

// firstLocked is the oldest batch that was read and is not acknowledged.
func (p *pump) firstLocked() *outBatch {
	for _, list := range [][]*outBatch{p.out.inflight, p.out.queue} {
		if len(list) > 0 {
			return list[0]
		}
	}
	return nil
}

// shortLocked reports whether retention is about to reach what is not copied.
func (p *pump) shortLocked() bool {
	r := p.sight.room
	return r.known && r.left >= 0 && r.left < p.link.terms().Policy.Headroom
}

// warnRoomLocked says once that it does, until there is more room again.
func (p *pump) warnRoomLocked() {
	r := &p.sight.room
	short := p.shortLocked()
	if short && !r.said {
		p.link.log.Warn("retention is near", "pump", p.id.String(), "cause", string(CauseRoom), "detail", r.text(p.acked.SourceNext))
	}
	r.said = short
}

func (r *prospect) text(next int64) string {
	if r.bytes >= 0 {
		return fmt.Sprintf("the source's retention reaches offset %d, the next to be copied, in %s (%d more bytes)", next, r.left.Round(time.Second), r.bytes)
	}
	return fmt.Sprintf("the source's retention reaches offset %d, the next to be copied, in %s", next, r.left.Round(time.Second))
}

// warningLocked is what a pump warns of, for people.
func (p *pump) warningLocked() string {
	var all []string
	if p.stuckLocked() {
		all = append(all, p.sight.still.text(p.sight.highWatermark))
	}
	if p.shortLocked() {
		all = append(all, p.sight.room.text(p.acked.SourceNext))
	}
	if p.unread != nil {
		all = append(all, p.unread.Error())
	}
	return strings.Join(all, "; ")
}
