package mirror

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

func TestSlowest_ComparesBrokers(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	for _, tc := range []struct {
		name string
		all  []gait
		want []bool
	}{
		{"all fast", []gait{{20 * ms, ms}, {100 * ms, ms}, {}}, []bool{false, false, false}},
		{"one slow", []gait{{20 * ms, ms}, {2 * s, 90 * ms}, {100 * ms, ms}}, []bool{false, true, false}},
		{"one slow, another has nothing to do", []gait{{}, {700 * ms, 90 * ms}, {100 * ms, 0}}, []bool{false, true, false}},
		{"all slow alike", []gait{{16 * s, 900 * ms}, {20 * s, 100 * ms}, {18 * s, 500 * ms}}, []bool{false, false, false}},
		{"all slow, one silent", []gait{{16 * s, 900 * ms}, {20 * s, 4 * s}, {18 * s, 500 * ms}}, []bool{false, true, false}},
		{"all silent", []gait{{6 * s, 6 * s}, {7 * s, 6 * s}}, []bool{true, true}},
		{"one broker, slow", []gait{{30 * s, 900 * ms}}, []bool{false}},
		{"one broker, silent", []gait{{6 * s, 6 * s}}, []bool{true}},
		{"none", nil, []bool{}},
	} {
		if got := slowest(tc.all); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// What a pump of a slow broker gives up is read again from behind what is on the wire, and nothing is left out or twice.
func TestPump_ShedQueueIsReadAgain(t *testing.T) {
	b := newBench(t)
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(4)
	b.pump.flow.put(b.pump)
	b.link.windows[0] = b.pump.window
	b.offer(1, 0, 2, 3, 4)
	first := b.next()
	b.now = b.now.Add(time.Minute)
	b.link.relieve(trackLive, b.now)
	if !b.pump.window.slow.Load() || len(b.pump.out.queue) != 0 || b.pump.fetchAt != 2 {
		t.Fatalf("slow %v, %d queued, reads at %d; want nothing queued, and reading behind what is in flight at 2",
			b.pump.window.slow.Load(), len(b.pump.out.queue), b.pump.fetchAt)
	}
	if got := b.pump.out.bytes; got != int64(len(first.bytes)) {
		t.Errorf("%d bytes are held, %d are in flight", got, len(first.bytes))
	}
	b.offer(1, 2, 3, 4)
	if own := b.pump.window.own.Load(); own != b.pump.out.queued() || own == 0 || b.link.budget.used() != own {
		t.Errorf("%d bytes of copies, %d queued, %d of the budget; want the same", own, b.pump.out.queued(), b.link.budget.used())
	}
	b.ack(first, 0)
	at := int64(2)
	for o := b.next(); o != nil; o = b.next() {
		o.unhold()
		b.ack(o, at)
		at += int64(o.records)
	}
	if b.pump.acked.SourceNext != 9 || b.pump.acked.TargetFrom != 9 {
		t.Errorf("copied up to source offset %d and target offset %d, want 9 and 9", b.pump.acked.SourceNext, b.pump.acked.TargetFrom)
	}
	b.pump.window.caughtUp()
	if b.pump.window.slow.Load() || b.link.budget.used() != 0 || b.pump.window.own.Load() != 0 {
		t.Errorf("still slow: %v; %d bytes of the budget are held, %d as copies", b.pump.window.slow.Load(), b.link.budget.used(), b.pump.window.own.Load())
	}
}

// A broker that leads nothing any more is no measure of how fast the others should be.
func TestLink_ComparesOnlyBrokersThatLeadSomething(t *testing.T) {
	b := newBench(t)
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(4)
	b.pump.flow.put(b.pump)
	b.link.windows[0], b.link.windows[1] = b.pump.window, newWindow(b.link, 1)
	b.offer(1, 0, 2, 3, 4)
	b.next()
	b.pump.window.answered.Store(b.now.Add(time.Second).UnixNano())
	b.link.relieve(trackLive, b.now.Add(time.Second))
	if b.pump.window.slow.Load() || len(b.pump.out.queue) == 0 {
		t.Errorf("the only broker with partitions is called slow: %v; %d batches are queued", b.pump.window.slow.Load(), len(b.pump.out.queue))
	}
}

// A pump that was left out of its fetch session because others had read ahead enough for their slow broker reads on when the broker is back,
// though nothing of its own is queued or in flight, so that no answer speaks for it; also where what the others had was dropped.
func TestPump_CrowdedOutReadsOn(t *testing.T) {
	for name, after := range map[string]func(w *window){
		"connected again":                    (*window).connected,
		"with the next look at the metadata": func(w *window) { w.link.relent() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.link.flows["orders"] = b.pump.flow
			b.pump.flow.grow(4)
			b.pump.flow.put(b.pump)
			w := b.pump.window
			b.link.windows[0] = w
			w.slow.Store(true)
			w.own.Store(b.link.slowBytes())
			b.pump.fetcher.dirty = make(map[*pump]bool)
			if _, wants := b.pump.want(b.pump.fetcher); wants {
				t.Fatal("reads for a slow broker for which enough is held")
			}
			w.own.Store(0) // what was held was dropped with the connection
			after(w)
			if _, wants := b.pump.want(b.pump.fetcher); !wants || !b.pump.fetcher.dirty[b.pump] {
				t.Errorf("wants to read: %v, its fetcher is told: %v", wants, b.pump.fetcher.dirty[b.pump])
			}
		})
	}
}

// The frame of a batch that is on the wire is free for the next fetch; the answer may come late.
func TestWindow_LetsGoOfFramesOnTheWire(t *testing.T) {
	b := newBench(t)
	b.offer(1, 0, 2)
	o := b.next()
	h := &held{budget: b.link.budget, size: 1000, of: &b.pump.window.share}
	h.refs.Store(1)
	if !b.link.budget.try(trackLive, 1000) {
		t.Fatal("no memory")
	}
	o.hold = h
	written([]broker.ProduceBatch{{Token: o}})
	if used := b.link.budget.used(); used != 0 {
		t.Errorf("%d bytes are held for what is on the wire", used)
	}
	b.ack(o, 0)
	if b.pump.acked.SourceNext != 2 || b.link.budget.used() != 0 {
		t.Errorf("at %d, %d bytes held", b.pump.acked.SourceNext, b.link.budget.used())
	}
}
