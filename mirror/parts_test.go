package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

func TestTargetConfigs(t *testing.T) {
	dynamic := func(v string) broker.Config { return broker.Config{Value: v, Dynamic: true} }
	source := map[string]broker.Config{
		"cleanup.policy": dynamic("compact"), "retention.ms": dynamic("1000"), "segment.bytes": {Value: "5"},
		"max.message.bytes": {Value: "99"}, "message.timestamp.before.max.ms": {Value: "7"}, "message.timestamp.after.max.ms": {Value: "8"},
		"message.timestamp.type": dynamic("LogAppendTime"), "compression.type": dynamic("gzip"),
	}
	never := []string{"min.insync.replicas", "unclean.leader.election.enable", "remote.storage.enable", "remote.log.copy.disable",
		"leader.replication.throttled.replicas", "follower.replication.throttled.replicas"}
	for _, key := range never {
		source[key] = dynamic("1")
	}
	want := map[string]string{"cleanup.policy": "compact", "retention.ms": "1000", "max.message.bytes": "99",
		"message.timestamp.before.max.ms": "7", "message.timestamp.after.max.ms": "8", "message.timestamp.type": "CreateTime", "compression.type": "producer"}
	if got := targetConfigs(source, nil); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, key := range timeLimits {
		delete(source, key)
		if got := targetConfigs(source, nil)[key]; got != noTimeLimit {
			t.Errorf("%s is %q where the source has no such limit", key, got)
		}
	}
}

func TestLimitsOf(t *testing.T) {
	c := func(kv ...string) map[string]broker.Config {
		m := make(map[string]broker.Config)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = broker.Config{Value: kv[i+1]}
		}
		return m
	}
	for _, tc := range []struct {
		name           string
		source, target map[string]broker.Config
		from, to       int
		blocked        string
		partitions     int
	}{
		{"equal", c("cleanup.policy", "delete"), c("cleanup.policy", "delete"), 3, 3, "", 3},
		{"more on the target", c(), c(), 3, 5, "", 3},
		{"fewer on the target", c(), c(), 3, 2, "fewer-partitions", 2},
		{"another cleanup policy", c("cleanup.policy", "delete"), c("cleanup.policy", "compact"), 3, 3, "cleanup-policy", 0},
		{"that, and fewer", c("cleanup.policy", "delete"), c("cleanup.policy", "compact"), 3, 2, "cleanup-policy", 0},
		{"restamps", c(), c("message.timestamp.type", "LogAppendTime"), 3, 3, "timestamp-type", 0},
	} {
		if got := limitsOf("orders", tc.source, tc.target, tc.from, tc.to); got.blockedName != tc.blocked || got.partitions != tc.partitions {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
	got := limitsOf("orders", c(), c("cleanup.policy", "compact,delete", "max.message.bytes", "123", "message.timestamp.after.max.ms", "5000"), 1, 1)
	now := time.UnixMilli(10_000)
	if !got.cleaned || got.maxBytes != 123 || got.latest(now) != 15_000 {
		t.Errorf("limits %+v", got)
	}
	year9999 := limitsOf("orders", c(), c("message.timestamp.after.max.ms", "300000000000000"), 1, 1)
	if got := year9999.latest(now); got != 300000000010000 {
		t.Errorf("in 9500 years it is %d", got)
	}
	forever := limitsOf("orders", c(), c("message.timestamp.after.max.ms", "9223372036854775807"), 1, 1)
	if forever.latest(now) < 1<<60 {
		t.Errorf("no limit is %d", forever.latest(now))
	}
	for setting, want := range map[string]packing{"": {}, "producer": {}, "of tomorrow": {}, "uncompressed": {fixed: true}, "none": {},
		"gzip": {true, batch.Gzip}, "snappy": {true, batch.Snappy}, "lz4": {true, batch.LZ4}, "zstd": {true, batch.Zstd}} {
		if got := limitsOf("orders", c(), c("compression.type", setting), 1, 1).packing; got != want {
			t.Errorf("compression.type %q is %+v, want %+v", setting, got, want)
		}
	}
}

func TestBudget_BoundsAndLargeFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newBudget(100, nil)
		a, b := newBudget(80, node), newBudget(80, node)
		short := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		if a.take(short(), trackLate, 60) != nil || b.take(short(), trackLate, 60) == nil {
			t.Error("the node's bound is not kept")
		}
		if b.used() != 0 || node.used() != 60 {
			t.Errorf("what could not be had is kept: %d, %d", b.used(), node.used())
		}
		if a.take(short(), trackLate, 30) == nil {
			t.Error("the link's bound is not kept")
		}
		got := make(chan error, 1)
		go func() { got <- b.take(t.Context(), trackLate, 60) }()
		synctest.Wait()
		a.put(trackLate, 60)
		if err := <-got; err != nil {
			t.Error("not woken when bytes came back")
		}
		b.put(trackLate, 60)
		if err := a.take(short(), trackLate, 500); err != nil {
			t.Error("a frame larger than everything never passes")
		}
		a.put(trackLate, 500)
		if a.used()+b.used()+node.used() != 0 {
			t.Errorf("left: %d %d %d", a.used(), b.used(), node.used())
		}
	})
}

func TestAgenda_ListsOnceAndLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgenda()
		p, q, r := &pump{}, &pump{}, &pump{}
		began := time.Now()
		a.add(r, time.Minute)
		a.add(p, 0)
		a.add(p, 0)
		a.add(q, 0)
		for i, want := range []*pump{p, q, r} {
			got, err := a.take(t.Context())
			if err != nil || got != want {
				t.Errorf("%d: another pump, %v", i, err)
			}
		}
		if time.Since(began) != time.Minute {
			t.Errorf("the late one came after %v", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an empty agenda gives %v", err)
		}
		// Two workers, two pumps at once: none sleeps over the other.
		done := make(chan *pump, 2)
		for range 2 {
			go func() {
				p, _ := a.take(t.Context())
				done <- p
			}()
		}
		synctest.Wait()
		a.add(p, 0)
		a.add(q, 0)
		if x, y := <-done, <-done; x == y {
			t.Error("one pump for two workers")
		}
	})
}

func TestMetrics_NamesAndCap(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg, 2)
	b := newBench(t)
	b.link.metrics = m.link(b.link)
	b.link.flows["orders"] = b.pump.flow
	for i := range int32(3) {
		id := somePump
		id.Partition = i
		b.pump.flow.grow(int(i) + 1)
		b.pump.flow.put(b.link.newPump(b.pump.flow, Checkpoint{Pump: id}))
	}
	b.pump.flow.pumps[0] = b.pump
	b.offer(1, 0, 3)
	b.pump.haltLocked("recreated", "for a test", b.now)
	b.now = b.now.Add(time.Minute)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	lag, states := make(map[string]float64), 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "isthmus_mirror_") {
			t.Errorf("name %s", f.GetName())
		}
		for _, s := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range s.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch f.GetName() {
			case "isthmus_mirror_lag_seconds":
				lag[labels["topic"]+":"+labels["partition"]] = s.GetGauge().GetValue()
			case "isthmus_mirror_partition_state":
				states++
				if labels["partition"] == "3" && s.GetGauge().GetValue() != oneIf(labels["state"] == string(StateHalted)) {
					t.Errorf("state %s is %v", labels["state"], s.GetGauge().GetValue())
				}
			case "isthmus_mirror_folded_partitions":
				if s.GetGauge().GetValue() != 1 {
					t.Errorf("%v folded", s.GetGauge().GetValue())
				}
			case "isthmus_mirror_rpo_seconds":
				if s.GetGauge().GetValue() != 60 {
					t.Errorf("rpo %v", s.GetGauge().GetValue())
				}
			}
		}
	}
	if want := map[string]float64{"orders:3": 60, "orders:1": 0, "_other:": 0}; fmt.Sprint(lag) != fmt.Sprint(want) {
		t.Errorf("lag %v, want %v", lag, want)
	}
	if states != 2*len(States) {
		t.Errorf("%d state series, the cap is two partitions", states)
	}
}

// A partition that another node owns has no series here. One that is paused has its state: the source is not asked for it, so that
// nobody knows how far behind it is, and it says nothing about its link.
func TestMetrics_NoneOfWhatIsElsewhere(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg, 100)
	b := newBench(t)
	b.link.metrics = m.link(b.link)
	b.link.flows["orders"] = b.pump.flow
	b.pump.flow.grow(5)
	for i, p := range b.pump.flow.pumpList() {
		owner := "b"
		if i == 4 {
			owner = ""
			p = b.link.newPump(b.pump.flow, Checkpoint{Pump: p.id})
			b.pump.flow.put(p)
		}
		p.direct(owner, "ops: for a test", b.now)
	}
	b.now = b.now.Add(time.Hour)
	series := func() (lags int, paused, headAge float64) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, s := range f.GetMetric() {
				switch f.GetName() {
				case "isthmus_mirror_lag_seconds", "isthmus_mirror_lag_records", "isthmus_mirror_lag_bytes":
					lags++
				case "isthmus_mirror_partition_state":
					for _, l := range s.GetLabel() {
						if l.GetName() == "state" && l.GetValue() == string(StatePaused) {
							paused += s.GetGauge().GetValue()
						}
					}
				case "isthmus_mirror_source_head_age_seconds", "isthmus_mirror_rpo_seconds":
					headAge = max(headAge, s.GetGauge().GetValue())
				}
			}
		}
		return lags, paused, headAge
	}
	p := b.pump.flow.pumpList()[4]
	p.sight.at, p.sight.highWatermark, p.sight.marks = b.now.Add(-time.Hour), 9, []sightMark{{9, b.now.Add(-time.Hour)}}
	if n, paused, age := series(); n != 0 || paused != 1 || age != 0 {
		t.Errorf("%d series of lags, %v paused, the link is %v s behind or unheard; want the state of the paused one alone", n, paused, age)
	}
	b.pump.flow.pumpList()[4].direct("b", "", b.now)
	if n, paused, age := series(); n != 0 || paused != 0 || age != 0 {
		t.Errorf("%d partitions have series, the source was heard %v s ago; want none of what is elsewhere", n, age)
	}
	m.unlink(b.link)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "isthmus_mirror_") && f.GetName() != "isthmus_mirror_folded_partitions" {
			t.Errorf("%s has series of a link that is gone", f.GetName())
		}
	}
}

// memoryStore is a store that has read the given checkpoints, in offset order.
func memoryStore(cs ...Checkpoint) *store {
	s := newStore(newStateLog(nil, slog.New(slog.DiscardHandler)), "eu", "us")
	for i, c := range cs {
		s.take(topicCheckpoints, batch.Record{Offset: int64(i), Key: c.key(), Value: c.encode()})
	}
	return s
}

func runsIn(s *store) []Run {
	m, _ := s.offsets(somePump)
	return m.list()
}

// Who was elected to begin a partition stays elected while it finds nothing to copy and says so again and again: a later proposal never comes first.
func TestStore_ElectedByTheFirstProposal(t *testing.T) {
	begin := func(writer string, next, from int64) Checkpoint {
		return Checkpoint{Pump: somePump, SourceNext: next, TargetLast: -1, TargetFrom: from, Writer: writer}
	}
	s := memoryStore()
	for offset, c := range []Checkpoint{begin("a", 100, 7), begin("b", 150, 9), begin("a", 120, 7)} {
		s.take(topicCheckpoints, recordOf(int64(offset), c.key(), c.encode()))
	}
	if c, ok := s.best(somePump); !ok || c.Writer != "a" || c.SourceNext != 120 || c.TargetFrom != 7 {
		t.Errorf("%s is elected with source offset %d and target offset %d, want a at 120 and 7", c.Writer, c.SourceNext, c.TargetFrom)
	}
}

func TestStore_ElectsTheFirstBeginning(t *testing.T) {
	at := func(writer string, next int64, lanes ...Lane) Checkpoint {
		return Checkpoint{Pump: somePump, SourceNext: next, TargetLast: -1, Writer: writer, Lanes: lanes}
	}
	on := func(c Checkpoint) Checkpoint { c.Elected = true; return c }
	for _, tc := range []struct {
		name string
		in   []Checkpoint
		want string
	}{
		{"who has found nothing to copy further on", []Checkpoint{at("a", 100), on(at("a", 120)), on(at("b", 150)), on(at("c", 140))}, "b"},
		{"no proposal that came too late", []Checkpoint{at("a", 100), at("c", 200), on(at("b", 150))}, "b"},
		{"the first, though another begins later", []Checkpoint{at("a", 100), at("b", 105)}, "a"},
		{"the first, though another begins earlier", []Checkpoint{at("a", 105), at("b", 100)}, "a"},
		{"who has copied", []Checkpoint{at("a", 100), at("b", 101, Lane{Origin: "eu", Count: 1})}, "b"},
		{"who has copied more", []Checkpoint{at("a", 109, Lane{Origin: "eu", Count: 9}), at("b", 101, Lane{Origin: "eu", Count: 1})}, "a"},
		{"who has read on", []Checkpoint{at("a", 109, Lane{Origin: "eu", Count: 9}), at("b", 120, Lane{Origin: "eu", Count: 9})}, "b"},
	} {
		if got, ok := memoryStore(tc.in...).best(somePump); !ok || got.Writer != tc.want {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
	s := memoryStore(at("a", 100), at("b", 101, Lane{Origin: "eu", Count: 1}))
	// One that is behind is taken away when nobody has written it for a while: its writer may just write one that is ahead.
	begin, ours := time.Unix(1000, 0), at("b", 101, Lane{Origin: "eu", Count: 1})
	stale := func(after time.Duration) int { return len(s.stale(ours, begin.Add(after))) }
	if n := stale(0) + stale(settledAfter-1); n != 0 {
		t.Errorf("%d checkpoints are taken away that were just read", n)
	}
	ahead := at("a", 120, Lane{Origin: "eu", Count: 5})
	s.take(topicCheckpoints, batch.Record{Offset: 9, Key: ahead.key(), Value: ahead.encode()})
	if n := stale(settledAfter); n != 0 {
		t.Errorf("%d checkpoints are taken away of one that is ahead", n)
	}
	ours = at("b", 130, Lane{Origin: "eu", Count: 9})
	if n := stale(settledAfter); n != 0 {
		t.Errorf("%d checkpoints are taken away that were written meanwhile", n)
	}
	if keys := s.stale(ours, begin.Add(2*settledAfter)); len(keys) != 1 || string(keys[0]) != string(at("a", 0).key()) {
		t.Errorf("%d stale keys", len(keys))
	}
	s.take(topicCheckpoints, batch.Record{Offset: 10, Key: at("b", 0).key()})
	if _, ok := s.best(somePump); ok {
		t.Error("a deleted checkpoint is still there")
	}
}

func TestStore_IncarnationIsDecidedOnce(t *testing.T) {
	s := memoryStore()
	for i, writer := range []string{"b", "a"} {
		inc := Incarnation{Pump: somePump, Epoch: 1, Lanes: []Lane{{Origin: "eu", Base: int64(i)}}, Writer: writer}
		s.take(topicCheckpoints, batch.Record{Offset: int64(i), Key: inc.key(), Value: inc.encode()})
	}
	if got, ok := s.incarnation(somePump, 1); !ok || got.Writer != "b" {
		t.Errorf("%+v", got)
	}
	if _, ok := s.incarnation(somePump, 2); ok {
		t.Error("an epoch that nobody decided")
	}
}

// A chunk of the map is written again and again as it grows; reading all its versions
// is no more than reading the last.
func TestStore_ChunksReplaceEachOther(t *testing.T) {
	s := memoryStore()
	var all OffsetMap
	rng := rand.New(rand.NewPCG(1, 1))
	var at Run
	for i := range int64(200) {
		at = Run{Source: at.sourceEnd() + 1, Target: at.targetEnd() + int64(rng.IntN(3)), Records: 2, Origin: "eu"}
		all.Add(at)
		c := mapChunk{Pump: somePump, First: 0, Writer: "a", Runs: all.Since(0)}
		s.take(topicMap, batch.Record{Offset: i, Key: c.key(), Value: c.encode()})
	}
	runs := runsIn(s)
	if len(runs) != all.Len() {
		t.Errorf("%d runs were kept of a map of %d", len(runs), all.Len())
	}
	var m OffsetMap
	for _, r := range runs {
		m.Add(r)
	}
	if fmt.Sprint(m.list()) != fmt.Sprint(all.list()) {
		t.Error("another map")
	}
}

func TestStore_NewerRecordsAreLeftAlone(t *testing.T) {
	c := Checkpoint{Pump: somePump, SourceNext: 5, Writer: "a"}
	s := memoryStore(c)
	c.Writer, c.SourceNext = "b", 50
	s.take(topicCheckpoints, batch.Record{Offset: 7, Key: c.key(), Value: append([]byte{formatVersion + 1}, c.encode()[1:]...)})
	if got, ok := s.best(somePump); !ok || got.SourceNext != 5 {
		t.Errorf("%+v, %v", got, ok)
	}
}
