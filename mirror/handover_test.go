package mirror

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
)

func pumpNo(n int) PumpID {
	return PumpID{From: "eu", To: "us", Topic: "orders", Partition: int32(n)}
}

func orderOf(n int, to string, number uint64) order {
	return order{pump: pumpNo(n), to: to, number: number, have: 3}
}

func TestExchange_AsksUntilAnsweredOrOver(t *testing.T) {
	x, now := newExchange(100), time.UnixMilli(1_700_000_000_000)
	x.want(pumpNo(0), "a", 5, now)
	x.want(pumpNo(0), "a", 5, now.Add(time.Millisecond)) // the next pass says so again
	asked := 0
	for at := now; ; at = at.Add(10 * time.Millisecond) {
		ask, over := x.due(at)
		asked += len(ask)
		for _, c := range ask {
			if c.number != 101 || c.have != 5 {
				t.Errorf("asked %+v", c)
			}
		}
		if len(over) > 0 {
			if at.Sub(now) != askFor {
				t.Errorf("given up after %v, want %v", at.Sub(now), askFor)
			}
			break
		}
		if next := x.wakeAt(at); next.Sub(at) > askEvery {
			t.Fatalf("sleeps for %v", next.Sub(at))
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times", asked)
	}
	x.want(pumpNo(1), "a", 0, now)
	g := gift{order: orderOf(1, "b", 102), at: now}
	late, stranger := g, g
	late.number = 101
	if x.answered(late, "a") || x.answered(stranger, "c") {
		t.Error("the answer to another question, or of another node, was taken")
	}
	if !x.answered(g, "a") || x.answered(g, "a") {
		t.Error("want the answer to be taken once")
	}
	x.want(pumpNo(2), "a", 0, now)
	x.want(pumpNo(2), "b", 0, now) // another view
	if ask, _ := x.due(now); len(ask) != 1 || ask[0].from != "b" {
		t.Errorf("asks %+v, want b alone", ask)
	}
	x.drop(pumpNo(2))
	if ask, over := x.due(now.Add(time.Hour)); len(ask)+len(over) > 0 {
		t.Errorf("still waits for what it does not want: %v %v", ask, over)
	}
}

func TestExchange_Answers(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	gave := func(x *exchange) { x.released(gift{order: orderOf(0, "b", 1), at: now.Add(-time.Second)}) }
	for _, tc := range []struct {
		name   string
		before func(*exchange)
		from   string
		stands standing
		want   verdictOf
		waits  int
	}{
		{"nothing here", nil, "b", standsOff, replyNotMine, 0},
		{"copied here, the asker's", nil, "b", standsAway, replyRelease, 0},
		{"copied here, ours", nil, "b", standsFor, replyNothing, 1},
		{"on its way", nil, "b", standsBack, replyNothing, 0},
		{"released before, the answer was lost", gave, "b", standsOff, replyAgain, 0},
		{"released before, to another", gave, "c", standsOff, replyNotMine, 0},
		{"released, and ours again", gave, "b", standsFor, replyNothing, 1},
		{"released, ours again, and away", gave, "b", standsAway, replyRelease, 0},
		{"ours, then away", func(x *exchange) { x.asked(orderOf(0, "b", 1), standsFor, now) }, "b", standsAway, replyRelease, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := newExchange(0)
			if tc.before != nil {
				tc.before(x)
			}
			if got := x.asked(orderOf(0, tc.from, 9), tc.stands, now); got != tc.want {
				t.Errorf("verdict %d, want %d", got, tc.want)
			}
			if got := x.waiting(now); len(got) != tc.waits {
				t.Errorf("%d questions wait, want %d", len(got), tc.waits)
			}
			if tc.want == replyAgain && x.gifts[pumpNo(0)].number != 9 {
				t.Error("said again under an old number")
			}
			if x.waiting(now.Add(giftsFor)); len(x.orders)+len(x.gifts) > 0 {
				t.Errorf("kept for ever: %v %v", x.orders, x.gifts)
			}
		})
	}
	x := newExchange(0)
	x.asked(orderOf(0, "b", 1), standsFor, now)
	x.asked(orderOf(0, "b", 1), standsFor, now.Add(hesitateFor-1)) // repeated: no longer a wait
	if got := x.waiting(now.Add(hesitateFor)); len(got) > 0 {
		t.Error("a question that is repeated waits for ever")
	}
}

func someGift(n int, runs int) gift {
	g := gift{order: orderOf(n, "b", uint64(n)), at: time.UnixMilli(1), have: true, old: n%2 == 1}
	g.safe = Checkpoint{Pump: g.pump, SourceEpoch: 3, SourceNext: 1000, TargetEpoch: -1, TargetLast: 899, TargetFrom: 900,
		Lanes: []Lane{{Origin: "eu", Epoch: 1, Base: 100, Count: 700}, {Origin: "ap", Count: 4}}, SourcePartitions: 8}
	for i := range runs {
		g.runs = append(g.runs, Run{Source: int64(3 * i), Target: int64(2 * i), Records: 2, Origin: "eu", Epoch: 1, Count: int64(2 * i)})
	}
	return g
}

func TestHandover_MessagesRoundTrip(t *testing.T) {
	var asks []claim
	var gifts []gift
	var offers []PumpID
	for i := range 3000 {
		asks = append(asks, claim{pump: pumpNo(i), number: uint64(i), have: int64(i)})
		offers = append(offers, pumpNo(i))
		g := someGift(i, i%handRuns)
		switch i % 3 {
		case 1:
			g.have, g.runs = false, nil
		case 2:
			g = gift{order: g.order}
		}
		gifts = append(gifts, g)
	}
	var back handMessage
	for _, list := range [][][]byte{encodeAsks(asks), encodeAnswers(gifts), encodeOffers(offers)} {
		if len(list) < 2 {
			t.Errorf("all in %d messages", len(list))
		}
		for _, b := range list {
			m, err := decodeHand(b)
			if err != nil || len(b) > handBytes {
				t.Fatalf("%d bytes: %v", len(b), err)
			}
			back.asks, back.answers, back.offers = append(back.asks, m.asks...), append(back.answers, m.answers...), append(back.offers, m.offers...)
		}
	}
	if fmt.Sprint(back.asks) != fmt.Sprint(asks) || fmt.Sprint(back.offers) != fmt.Sprint(offers) {
		t.Error("questions or offers changed on their way")
	}
	for i, g := range back.answers {
		want := gifts[i]
		if g.pump != want.pump || g.number != want.number || g.have != want.have || g.old != (want.old && want.have) ||
			fmt.Sprint(g.runs) != fmt.Sprint(want.runs) || g.have && fmt.Sprintf("%+v", g.safe) != fmt.Sprintf("%+v", want.safe) {
			t.Fatalf("answer %d: %+v, want %+v", i, g, want)
		}
	}
}

func TestHandover_MessagesRefused(t *testing.T) {
	good := encodeAnswers([]gift{someGift(1, 5)})[0]
	spoil := func(change func(*gift)) []byte {
		g := someGift(1, 5)
		change(&g)
		return encodeAnswers([]gift{g})[0]
	}
	long := pumpNo(0)
	long.Topic = strings.Repeat("x", handName+1)
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"a newer version":     append([]byte{handVersion + 1}, good[1:]...),
		"another kind":        append([]byte{handVersion, 9}, good[2:]...),
		"cut short":           good[:len(good)-3],
		"with more behind":    append(bytes.Clone(good), 1),
		"too large":           append(bytes.Clone(good), make([]byte, handBytes)...),
		"a count beyond it":   {handVersion, kindAsk, 0xfe, 0xff, 0x7f},
		"a name too long":     encodeOffers([]PumpID{long})[0],
		"no name":             encodeOffers([]PumpID{{}})[0],
		"a partition below 0": encodeOffers([]PumpID{pumpNo(-1)})[0],
		"a place below 0":     spoil(func(g *gift) { g.safe.SourceNext = -1; g.runs = nil }),
		"its last after it":   spoil(func(g *gift) { g.safe.TargetLast = 900 }),
		"a lane that shrinks": spoil(func(g *gift) { g.safe.Lanes[0].Count = 1 }),
		"a run beyond it":     spoil(func(g *gift) { g.runs[4].Source = 999 }),
		"too many runs":       spoil(func(g *gift) { g.runs = someGift(1, handRuns+1).runs }),
	} {
		if m, err := decodeHand(b); err == nil {
			t.Errorf("%s: read as %+v", name, m)
		}
	}
}

func FuzzHandMessage(f *testing.F) {
	f.Add(encodeAsks([]claim{{pump: pumpNo(1), number: 7, have: 9}})[0])
	f.Add(encodeAnswers([]gift{someGift(1, 3), {order: orderOf(2, "b", 2)}})[0])
	f.Add(encodeOffers([]PumpID{pumpNo(3)})[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeHand(b)
		if err != nil {
			return
		}
		if len(m.asks)+len(m.answers)+len(m.offers) > handItems {
			t.Errorf("%d pumps in one message", len(m.asks)+len(m.answers)+len(m.offers))
		}
		for _, g := range m.answers {
			if g.have && g.check() != nil {
				t.Errorf("a place that cannot be one: %+v", g)
			}
		}
	})
}

// taken gives the bench's pump to another node, which is returned as who asks for it.
func (b *bench) taken(by string) *taker {
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(int(b.pump.id.Partition) + 1)
	b.pump.flow.put(b.pump)
	h := newHandover(nil, func(PumpID) *pump { return b.pump }, b.link.log, func() time.Time { return b.now }, 1)
	b.pump.direct(by, "", b.now)
	return &taker{h, order{pump: b.pump.id, to: by, number: 4}}
}

func (b *bench) refuse(o *outBatch) {
	b.pump.result(o, broker.ProduceResult{Err: kerr.OutOfOrderSequenceNumber, BaseOffset: -1, LogAppendTime: -1}, b.now)
}

func (b *bench) duplicate(o *outBatch, base int64) {
	b.pump.result(o, broker.ProduceResult{BaseOffset: base, LogAppendTime: 5}, b.now)
}

func TestPump_HandsOverWhatWasAcknowledged(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.offer(1, 1, 2, 2, 2, 2)
	first, second := b.next(), b.next()
	to := b.taken("b")
	b.state(StateRunning) // the view alone stops nobody
	b.pump.release(to, b.now)
	b.state(StateDraining)
	if b.next() != nil {
		t.Fatal("a pump that is to go sends")
	}
	b.ack(first, 1)
	b.ack(second, 3)
	b.state(StateElsewhere)
	if len(to.hand.given) != 1 {
		t.Fatalf("%d pumps handed over", len(to.hand.given))
	}
	g := to.hand.given[0]
	if !g.have || g.number != 4 || g.safe.SourceNext != 5 || g.safe.TargetFrom != 5 || g.safe.lane("eu").Count != 5 || !g.safe.started() {
		t.Errorf("handed over %+v, want source and target offset 5", g)
	}
	if len(g.runs) != 1 || g.runs[0].Records != 5 {
		t.Errorf("its map is %+v", g.runs)
	}
	empty := b.pump.flow.pumpList()[b.pump.id.Partition]
	if empty == b.pump || empty.state != StateElsewhere || empty.reason != "owned by b" || empty.here() {
		t.Errorf("what stands for the partition is %s: %s", empty.state, empty.reason)
	}
	if w := b.link.writers(); len(w) == 0 || w[0] != b.pump || !w[0].dirty {
		t.Error("its last checkpoint will not be written")
	}
	b.pump.led(b.pump.fetcher, b.pump.window, 0, 7, 7, b.now)
	b.state(StateElsewhere)
}

func TestPump_HandsOverNothingItDoesNotKnow(t *testing.T) {
	for name, spoil := range map[string]func(b *bench, first, second *outBatch){
		"the first is refused":      func(b *bench, first, second *outBatch) { b.refuse(first); b.refuse(second) },
		"a duplicate's answer":      func(b *bench, first, second *outBatch) { b.duplicate(first, 1); b.ack(second, 3) },
		"an answer from before":     func(b *bench, first, second *outBatch) { b.ack(first, 0); b.ack(second, 3) },
		"no answer within the time": func(b *bench, _, _ *outBatch) { b.pump.late(b.pump.leaving) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.prove()
			b.offer(1, 1, 2, 2)
			first, second := b.next(), b.next()
			to := b.taken("b")
			b.pump.release(to, b.now)
			spoil(b, first, second)
			b.state(StateElsewhere)
			if g := to.hand.given[0]; g.safe.SourceNext != 1 || g.safe.lane("eu").Count != 1 {
				t.Errorf("handed over %+v, want the place before", g.safe)
			}
			if b.ack(first, 1); b.pump.acked.SourceNext != 1 {
				t.Error("a late answer moved a pump that is gone")
			}
		})
	}
}

func TestPump_GoesWhenTheViewSaysAndItIsIdle(t *testing.T) {
	for _, tc := range []struct {
		state State
		stays bool
	}{{StateWaiting, false}, {StateYielded, false}, {StateHalted, false}, {StatePaused, false}, {StateFinding, true}, {StateRetrying, true}, {StateRunning, true}} {
		b := newBench(t)
		b.pump.state = tc.state
		b.taken("b")
		if got := !b.pump.gone; got != tc.stays {
			t.Errorf("%s: stays %t, want %t", tc.state, got, tc.stays)
		}
	}
}

func TestPump_FencedByItsOwnerGoes(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.taken("b")
	b.pump.mu.Lock()
	b.pump.out.contended = true
	b.pump.drainLocked(CauseOwner, "another owner wrote this batch first", b.now)
	b.pump.mu.Unlock()
	b.find(func(f *found) { f.advanced = true; f.place.setLane(Lane{Origin: "eu", Count: 9}) })
	b.state(StateElsewhere)
}

func TestPump_StartsAtThePlaceItWasGiven(t *testing.T) {
	for name, tc := range map[string]struct {
		gift   func(*gift)
		next   int64
		handed bool
	}{
		"the place":           {func(*gift) {}, 1000, true},
		"nothing":             {func(g *gift) { *g = gift{order: g.order} }, 0, false},
		"the checkpoint":      {func(g *gift) { g.have = false }, 0, false},
		"a place behind ours": {func(g *gift) { g.safe = Checkpoint{SourceNext: 0}; g.runs = nil; g.safe.Lanes = []Lane{{Origin: "eu"}} }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.link.shared.hand = newHandover(nil, func(PumpID) *pump { return b.pump }, b.link.log, func() time.Time { return b.now }, 1)
			w, f := b.pump.window, b.pump.fetcher
			b.pump = b.link.newPump(b.pump.flow, Checkpoint{Pump: somePump, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
			b.pump.held = "a"
			b.pump.led(f, w, 0, 0, 0, b.now)
			b.state(StateWaiting)
			if ask, _ := b.link.shared.hand.x.due(b.now); len(ask) != 1 || ask[0].from != "a" {
				t.Fatalf("asks %+v", ask)
			}
			g := someGift(0, 3)
			tc.gift(&g)
			b.pump.takeOver(g, b.now)
			b.state(StateFinding)
			if b.pump.acked.SourceNext != tc.next || b.pump.fetchAt != tc.next || b.pump.handed != tc.handed {
				t.Errorf("begins at %d (%d), handed %t; want %d, %t", b.pump.acked.SourceNext, b.pump.fetchAt, b.pump.handed, tc.next, tc.handed)
			}
			b.pump.takeOver(someGift(0, 0), b.now) // the same once more
			if b.pump.acked.SourceNext != tc.next {
				t.Error("a second answer counted")
			}
		})
	}
}

// readingAhead is a pump that was handed over and has read two records while its place is being confirmed.
func readingAhead(t *testing.T) (*bench, search) {
	b := newBench(t)
	b.link.shared.hand = newHandover(nil, nil, b.link.log, func() time.Time { return b.now }, 1)
	b.pump.mu.Lock()
	b.pump.handed, b.pump.out.keep = true, true
	b.pump.findLocked("", "taken over from a", 0, b.now)
	b.pump.mu.Unlock()
	s, _ := b.pump.beginSearch(b.now)
	b.offer(1, 0, 2)
	return b, s
}

// What is read while a place is being confirmed is sent when it is, and dropped when it is not.
func TestPump_ReadsAheadWhileConfirming(t *testing.T) {
	for _, confirmed := range []bool{true, false} {
		b, s := readingAhead(t)
		if b.next() != nil {
			t.Fatal("sent before the place was confirmed")
		}
		b.end(s, func(f *found) {
			if !confirmed {
				f.advanced, f.place.SourceNext = true, 2
			}
		}, nil)
		b.state(StateRunning)
		if o := b.next(); (o != nil) != confirmed {
			t.Errorf("confirmed %t: sends %v", confirmed, o != nil)
		}
		if b.pump.fetchAt != 2 {
			t.Errorf("reads at %d", b.pump.fetchAt)
		}
	}
}

// Who reads ahead and is told that another broker leads now reads no more until the place is confirmed: it would ask again at once for ever.
func TestPump_StopsReadingAheadOnAnError(t *testing.T) {
	b, s := readingAhead(t)
	for range 2 {
		b.pump.offer(&broker.Fetched{Err: kerr.NotLeaderForPartition, DivergingEnd: -1, PreferredReplica: -1}, b.pump.fetchAt, nil, b.now)
	}
	if want, ok := b.pump.want(b.pump.fetcher); ok {
		t.Errorf("asks for %+v again", want)
	}
	select {
	case <-b.link.kick:
	default:
		t.Error("nobody asks who leads now")
	}
	b.end(s, nil, nil)
	b.state(StateRunning)
	if b.next() == nil {
		t.Error("what was read before is not sent")
	}
	if want, ok := b.pump.want(b.pump.fetcher); !ok || want.Offset != 2 {
		t.Errorf("goes on at %+v, %t, want offset 2", want, ok)
	}
}

func TestMeter_MeanOfHalfAMinute(t *testing.T) {
	var m meter
	now := time.UnixMilli(1_700_000_000_000)
	if m.rate(now) != 0 {
		t.Error("a load of nothing")
	}
	for range 1200 { // 2 minutes of 1000 bytes/s
		m.add(100, now)
		now = now.Add(100 * time.Millisecond)
	}
	if got := m.rate(now); got < 950 || got > 1050 {
		t.Errorf("1000 bytes/s are measured as %.0f", got)
	}
	var young meter
	for range 30 {
		young.add(100, now)
		now = now.Add(100 * time.Millisecond)
	}
	if got := young.rate(now); got < 900 || got > 1100 {
		t.Errorf("after 3 s 1000 bytes/s are measured as %.0f", got)
	}
	if got := m.rate(now.Add(5 * time.Minute)); got > 1 {
		t.Errorf("long after the last batch it is %.0f", got)
	}
}

func TestLag_GrowsForLong(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	rng := rand.New(rand.NewPCG(1, 1))
	for name, tc := range map[string]struct {
		behind func(i int) time.Duration
		well   bool
		want   bool
	}{
		"caught up":              {func(int) time.Duration { return 0 }, true, false},
		"always a little behind": {func(int) time.Duration { return time.Duration(rng.Int64N(int64(900 * time.Millisecond))) }, true, false},
		"more and more":          {func(i int) time.Duration { return time.Duration(i) * 1500 * time.Millisecond }, true, true},
		"up and down":            {func(i int) time.Duration { return time.Duration(i%4+2) * time.Second }, true, false},
		"a cluster is away":      {func(i int) time.Duration { return time.Duration(i) * 2 * time.Second }, false, false},
	} {
		var g lag
		at := now
		for i := range 10 {
			at = at.Add(2 * time.Second)
			g.look(tc.behind(i), tc.well, at)
		}
		if got := g.lagging(at); got != tc.want {
			t.Errorf("%s: lagging %t", name, got)
		}
	}
}

// A node that stops has all its pumps finish at once: one after the other they would take a round trip each.
func TestLink_QuiescesAllPumpsAtOnce(t *testing.T) {
	b := newBench(t)
	b.prove()
	b.link.flows["orders"] = b.pump.flow
	var flying []*outBatch
	pumps := []*pump{b.pump}
	for i := range 3 {
		id := somePump
		id.Partition += int32(i) + 1
		p := b.link.newPump(b.pump.flow, Checkpoint{Pump: id, SourceEpoch: -1, TargetEpoch: -1, TargetLast: -1})
		p.led(b.pump.fetcher, b.pump.window, 0, 0, 0, b.now)
		pumps = append(pumps, p)
	}
	b.pump.flow.pumps = pumps
	for _, p := range pumps {
		b.pump = p
		if p.state == StateFinding {
			b.find(nil)
		}
		b.offer(1, p.fetchAt, 1)
		flying = append(flying, b.next())
	}
	if !b.link.stopAll() {
		t.Fatal("nothing is in flight")
	}
	for i, p := range pumps {
		if p.state != StateDraining {
			t.Errorf("pump %d is %s while the first one drains, want draining", i, p.state)
		}
		p.result(flying[i], broker.ProduceResult{BaseOffset: p.acked.TargetFrom, LogAppendTime: -1}, b.now)
	}
	if b.link.stopAll() {
		t.Error("still waits for answers")
	}
}

// A node copies on for an owner that cannot copy: one that is halted, backs off or has no leader asks for nothing.
func TestPump_TakesAnOfferOnlyWhenItCanCopy(t *testing.T) {
	for _, tc := range []struct {
		state State
		asks  bool
	}{{StateRunning, true}, {StateYielded, true}, {StateWaiting, false}, {StateFinding, false}, {StateRetrying, false}, {StateHalted, false}, {StatePaused, false}} {
		b := newBench(t)
		h := newHandover(nil, nil, b.link.log, func() time.Time { return b.now }, 1)
		b.link.shared.hand = h
		b.pump.state = tc.state
		b.pump.offered("a", b.now)
		if got := len(h.x.claims) == 1; got != tc.asks {
			t.Errorf("%s: asks %t, want %t", tc.state, got, tc.asks)
		}
		if !tc.asks && (b.pump.state != tc.state || b.pump.held != "") {
			t.Errorf("%s: became %s", tc.state, b.pump.state)
		}
	}
}

// The leader epoch that goes with a fetch is that of the place: with an older one the source calls its own log truncated.
func TestPump_TakesTheEpochOfThePlaceItWasGiven(t *testing.T) {
	b := newBench(t)
	b.link.shared.hand = newHandover(nil, nil, b.link.log, func() time.Time { return b.now }, 1)
	b.pump.state, b.pump.sight.epoch = StateYielded, 1
	b.pump.offered("a", b.now)
	b.pump.takeOver(someGift(0, 0), b.now)
	if want, ok := b.pump.want(b.pump.fetcher); !ok || want.Offset != 1000 || want.LastFetchedEpoch != 3 {
		t.Errorf("asks for offset %d after epoch %d (%t), want 1000 after 3", want.Offset, want.LastFetchedEpoch, ok)
	}
}

// Who takes a pump back has no more to say of when it gave it away.
func TestExchange_ForgetsWhatItGaveWhenItWantsItBack(t *testing.T) {
	x, now := newExchange(0), time.UnixMilli(1_700_000_000_000)
	x.released(gift{order: orderOf(0, "b", 1), at: now})
	x.want(pumpNo(0), "b", 0, now)
	x.drop(pumpNo(0))
	if got := x.asked(orderOf(0, "b", 2), standsOff, now.Add(time.Second)); got != replyNotMine {
		t.Errorf("verdict %d: a place from before is said again, want %d", got, replyNotMine)
	}
}

// A question that waits for a newer view is answered when that comes, not when it is asked again.
func TestSet_ReconsidersWhatItWasAskedFor(t *testing.T) {
	h := newHandover(nil, nil, nil, time.Now, 1)
	s := &Set{shared: &shared{hand: h}}
	s.Reconsider()
	select {
	case <-h.wake:
	default:
		t.Error("the hand-over does not hear of a new view")
	}
}

// Who waits for an answer when its clock is set back does not wait for as long, nor does the answer to somebody's question.
func TestExchange_ClockSetBack(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	x := newExchange(1)
	x.want(somePump, "n2", 0, now)
	if ask, over := x.due(now); len(ask) != 1 || len(over) != 0 {
		t.Fatalf("%d questions, %d that were asked for long enough", len(ask), len(over))
	}
	if _, over := x.due(now.Add(-time.Millisecond)); len(over) != 0 {
		t.Error("a question that was put since the look began is not waited for")
	}
	x.asked(order{pump: somePump, to: "n3", number: 1}, standsFor, now)
	now = now.Add(-time.Hour)
	if _, over := x.due(now); len(over) != 1 {
		t.Error("the owner before is waited for as long as the clock was set back by")
	}
	if left := x.waiting(now); len(left) != 0 {
		t.Errorf("%d questions wait for a newer view for as long as the clock was set back by", len(left))
	}
}
