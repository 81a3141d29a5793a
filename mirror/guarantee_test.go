package mirror

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-project/isthmus/broker"
)

func TestObservation_Judge(t *testing.T) {
	refused := reply{err: errors.New("refused"), base: -1}
	at := func(base int64) reply { return reply{base: base} }
	kafka := observation{anyFirst: true, first: at(10), repeat: reply{base: 10, duplicate: true}, gap: refused, bump: at(11), zombie: refused,
		log: []probed{{0, probeFirst}, {1, 0}}}
	for _, tc := range []struct {
		name   string
		change func(*observation)
		want   Guarantee
		why    string // part of it
		marked bool
	}{
		{"Apache Kafka", func(*observation) {}, GuaranteeExactlyOnce, "", true},
		{"begins ids at 0 only", func(o *observation) { o.anyFirst, o.log = false, []probed{{0, 0}, {1, 0}} }, GuaranteeExactlyOnce, "", true},
		{"says that it is a duplicate", func(o *observation) { o.repeat = refused }, GuaranteeExactlyOnce, "", true},
		{"no marker", func(o *observation) { o.repeat.duplicate = false }, GuaranteeExactlyOnce, "", false},
		{"every answer looks like a mark", func(o *observation) { o.first.duplicate = true }, GuaranteeExactlyOnce, "", false},
		{"refuses ids", func(o *observation) {
			*o = observation{first: refused, repeat: refused, gap: refused, bump: refused, zombie: refused}
		},
			GuaranteeAtLeastOnce, "refuses producer ids", false},
		{"drops ids", func(o *observation) {
			*o = observation{anyFirst: true, first: at(10), repeat: at(11), gap: at(12), bump: at(13), zombie: at(14)}
		}, GuaranteeAtLeastOnce, "does not keep the producer ids", false},
		{"stores repeats and lies about it", func(o *observation) { o.log = append(o.log, probed{0, probeFirst}) }, GuaranteeAtLeastOnce, "stores a repeated batch", false},
		{"stores repeats", func(o *observation) { o.repeat = at(11) }, GuaranteeAtLeastOnce, "stores a repeated batch", false},
		{"takes gaps", func(o *observation) { o.gap = at(12) }, GuaranteeAtLeastOnce, "leaves sequence numbers out", true},
		{"refuses gaps and stores them", func(o *observation) { o.log = append(o.log, probed{0, probeFirst + probeGap}) }, GuaranteeAtLeastOnce, "leaves sequence numbers out", true},
		{"takes zombies", func(o *observation) { o.zombie = at(12) }, GuaranteeAtLeastOnce, "older producer epoch", true},
		{"has no epochs", func(o *observation) { o.bump, o.log = refused, o.log[:1] }, GuaranteeAtLeastOnce, "older producer epoch", true},
	} {
		o := kafka
		o.log = append([]probed(nil), kafka.log...)
		tc.change(&o)
		c := o.judge()
		g, why := c.guarantee()
		if g != tc.want || !strings.Contains(why, tc.why) || (tc.why == "") != (why == "") || c.marked != tc.marked {
			t.Errorf("%s: %s (%s), marked %v; want %s (…%s…), marked %v", tc.name, g, why, c.marked, tc.want, tc.why, tc.marked)
		}
	}
}

// Where a repeated batch's acknowledgement looks like any other, the first one
// after a look at the place may be another owner's: it counts once it was read
// back, and then the pump goes on as usual.
func TestPump_WithoutMarkerTheFirstBatchIsReadBack(t *testing.T) {
	b := newBench(t)
	b.link.unmarked.Store(true)
	b.offer(1, 0, 2, 2, 2)
	first := b.next()
	b.ack(first, 0)
	if b.state(StateFinding); b.pump.acked.SourceNext != 0 {
		t.Fatalf("counted up to source offset %d before it was read back", b.pump.acked.SourceNext)
	}
	b.find(func(f *found) {
		f.advanced, f.place.SourceNext, f.place.TargetFrom, f.place.TargetLast = true, 2, 2, 1
		f.place.setLane(Lane{Origin: "eu", Count: 2})
	})
	b.state(StateRunning)
	b.offer(1, 2, 2, 2)
	for range 2 {
		if b.next() == nil {
			t.Fatal("still one batch at a time, although the first was found to be ours")
		}
	}
}

// TestPump_EveryAnswerLooksLikeARepeat: a target whose answers all carry the mark says nothing by it; the first batch is read back, as without a mark.
func TestPump_EveryAnswerLooksLikeARepeat(t *testing.T) {
	b := newBench(t)
	b.link.vow(GuaranteeExactlyOnce, "", capabilities{foreign: true, keepsIDs: true, blind: true})
	b.offer(1, 0, 2, 2)
	repeat := broker.ProduceResult{LogAppendTime: -1, LogStart: -1}
	b.pump.result(b.next(), repeat, b.now)
	if b.state(StateFinding); !b.pump.out.verify || b.pump.out.contended {
		t.Errorf("verify %v, contended %v: want to read back what may well be ours", b.pump.out.verify, b.pump.out.contended)
	}
	b.find(func(f *found) {
		f.advanced, f.place.SourceNext, f.place.TargetFrom, f.place.TargetLast = true, 2, 2, 1
		f.place.setLane(Lane{Origin: "eu", Count: 2})
	})
	b.state(StateRunning)
	b.offer(1, 2, 2)
	repeat.BaseOffset = 2
	if b.pump.result(b.next(), repeat, b.now); b.pump.acked.SourceNext != 4 {
		t.Errorf("copied up to %d, want 4: the second answer is worth as much as the first", b.pump.acked.SourceNext)
	}
}

// What was read back and is not there is sent again, alone.
func TestPump_WithoutMarkerAForeignFirstBatchIsSentAgain(t *testing.T) {
	b := newBench(t)
	b.link.unmarked.Store(true)
	b.offer(1, 0, 2, 2)
	b.ack(b.next(), 0)
	b.find(nil) // nothing of ours
	b.offer(1, 0, 2, 2)
	if o := b.next(); o == nil || o.spans[0].first != 0 || b.next() != nil {
		t.Fatalf("want the first batch again, alone; got %+v", o)
	}
}

func TestLink_OldIsHalfOfTheTargetsExpiration(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	l := linkOf(t, fabricOf(t, "eu>us"), "eu>us", Config{}, func() time.Time { return now })
	for _, tc := range []struct {
		expiry, age time.Duration
		old         bool
	}{
		{expiryDefault, 11 * time.Hour, false}, {expiryDefault, 13 * time.Hour, true},
		{time.Minute, 29 * time.Second, false}, {time.Minute, 31 * time.Second, true},
	} {
		l.expiry.Store(int64(tc.expiry))
		if got := l.mayBeForgotten(now.Add(-tc.age).UnixMilli(), now); got != tc.old {
			t.Errorf("a record of %v ago with an expiration of %v: old %v, want %v", tc.age, tc.expiry, got, tc.old)
		}
	}
}

// A broker that does not answer may have forgotten our ids as early as was last
// heard: the time gets longer only when all brokers tell it.
func TestLink_ExpirationOfAFailingBrokerNeverGetsLonger(t *testing.T) {
	began := time.UnixMilli(1_700_000_000_000)
	tell := func(ms ...string) map[int32]map[string]string {
		all := make(map[int32]map[string]string)
		for i, v := range ms {
			all[int32(i)] = map[string]string{"producer.id.expiration.ms": v}
		}
		return all
	}
	down := errors.New("broker 1 is down")
	for _, tc := range []struct {
		name string
		last time.Duration // 0 = nothing was read before
		all  map[int32]map[string]string
		err  error
		want time.Duration
	}{
		{"the shortest counts", 0, tell("600000", "60000", "3600000"), nil, time.Minute},
		{"longer when all tell it", time.Minute, tell("600000", "600000"), nil, 10 * time.Minute},
		{"nobody answers", time.Minute, nil, down, time.Minute},
		{"one does not answer, the others are longer", time.Minute, tell("600000"), down, time.Minute},
		{"one does not answer, the others are shorter", time.Hour, tell("600000"), down, 10 * time.Minute},
		{"nobody ever answered", 0, nil, down, expiryDefault},
		{"one never answered, the others are shorter", 0, tell("60000"), down, time.Minute},
		{"one never answered, the others are longer", 0, tell("604800000"), down, expiryDefault},
		{"hidden by all", time.Minute, tell("", ""), nil, time.Minute},
		{"absurd", 0, tell("-5", "9223372036854775807"), nil, expiryMost},
	} {
		l := linkOf(t, fabricOf(t, "eu>us"), "eu>us", Config{}, func() time.Time { return began })
		if tc.last != 0 {
			l.expiry.Store(int64(tc.last))
		}
		l.lock.expiryAt = began
		if l.learnExpiry(tc.all, tc.err, began); time.Duration(l.expiry.Load()) != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, time.Duration(l.expiry.Load()), tc.want)
		}
		if again := l.lock.expiryAt.Add(expiryEvery).Sub(began); tc.err != nil && again != expirySoon || tc.err == nil && again != expiryEvery {
			t.Errorf("%s: asked for again in %v", tc.name, again)
		}
	}
}

// A pass over the metadata in between does not put off the next look.
func TestLink_ExpirationIsReadAgain(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	l := linkOf(t, fabricOf(t, "eu>us"), "eu>us", Config{}, func() time.Time { return now })
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody is there to answer
	asked := 0
	for range 12 {
		before := l.lock.expiryAt
		if l.readExpiry(ctx, nil); !l.lock.expiryAt.Equal(before) {
			asked++
		}
		now = now.Add(time.Minute)
	}
	if asked != 2 {
		t.Errorf("asked for %d times in 12 minutes, want at once and after 10", asked)
	}
}

func TestMetrics_Guarantee(t *testing.T) {
	topo := fabricOf(t, "eu>us")
	reg := prometheus.NewRegistry()
	l := linkOf(t, topo, "eu>us", Config{}, time.Now)
	l.metrics = NewMetrics(reg, 10).link(l)
	l.vow(GuaranteeAtLeastOnce, "the target takes gaps", capabilities{foreign: true})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	said := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != "isthmus_mirror_guarantee" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "guarantee" {
					said[label.GetValue()] = m.GetGauge().GetValue()
				}
			}
		}
	}
	if len(said) != len(Guarantees) || said[string(GuaranteeAtLeastOnce)] != 1 || said[string(GuaranteeExactlyOnce)] != 0 {
		t.Errorf("the metric says %v, want 1 for %s and 0 for the rest", said, GuaranteeAtLeastOnce)
	}
}
