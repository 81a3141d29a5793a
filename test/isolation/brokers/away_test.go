package brokers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// How soon things happen.
const (
	shownWithin = 15 * time.Second // a trouble, as state and metric
	backWithin  = 10 * time.Second // after the broker answers again
	idleWithin  = 5 * time.Second  // an idle neighbour's record, from before the trouble to the target
)

// busy is what a machine that is busy with something else may add, where the full numbers are not asked for.
func busy() time.Duration { return node.Pick(10*time.Second, 0) }

// TestBrokers gets partitions into trouble, and takes one broker after the other away. Partitions without replicas stay on the dead broker: they say so, and go on when it is
// back. Those of the others keep their rate, under a load that saturates the target, and idle ones of them still take what comes.
func TestBrokers(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	span := node.Pick(8*time.Second, time.Minute)
	stop := l.pour()
	l.begin()
	words := l.word(nobody)
	l.all("idle partitions have had a record", time.Minute, func(f flow, p *adminpb.Partition) bool { return words[f] == 0 || p.GetSourceNext() >= words[f] })
	began := time.Now()
	t.Run("partitions in trouble", func(t *testing.T) {
		l := l.in(t)
		l.sicken(l.well(nobody, span/2), span/2)
	})
	if node.Soak() {
		l.calm(began)
		t.Run("an unclean election", func(t *testing.T) { l.in(t).shear(span / 2) })
		began = time.Now() // a partition that was cut tells that, and soon after that all is there again
	}
	blows := []blow{
		{"killed", func(l *lab, i int) { l.broker.Kill(i) }, func(l *lab, i int) { l.broker.Start(i) }},
		{"frozen", func(l *lab, i int) { l.broker.Pause(i) }, func(l *lab, i int) { l.broker.Continue(i) }},
	}
	if l.disk != "" {
		blows = append(blows, blow{"its disk is full", (*lab).fill, (*lab).empty})
	}
	for i, b := range blows {
		if !t.Run(b.name, func(t *testing.T) {
			l := l.in(t)
			well := l.well(i, 5*span/8)
			l.away(i, span, well, func() { b.take(l, i) })
			l.returns(i, func() { b.back(l, i) })
		}) {
			t.FailNow() // nobody knows what runs now
		}
	}
	l.calm(began)
	l.limit(0)
	stop()
	for _, w := range l.loads {
		w.Stop(t)
	}
	l.CaughtUp(2*time.Minute, []string{full, live, quiet, back}, l.node)
	l.Judged(l.log, []string{full, live, quiet}, "us")
	l.Judged(l.log, []string{back}, "eu")
}

// blow is how a broker goes away, and comes back.
type blow struct {
	name       string
	take, back func(*lab, int)
}

// fill takes all space from the one broker that has a disk of its own, which ends by itself then.
func (l *lab) fill(broker int) {
	l.t.Helper()
	fillDisk(l.t, l.disk)
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	if err := l.broker.Gone(ctx, broker); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) empty(broker int) {
	l.t.Helper()
	emptyDisk(l.t, l.disk)
	l.broker.Start(broker)
}

// well measures while all is well. What was held back before may still be on its way: a steady load counts for what is produced of it at most.
func (l *lab) well(but int, span time.Duration) map[string]float64 {
	l.t.Helper()
	l.all("the steady loads are up to date", 2*time.Minute, func(f flow, p *adminpb.Partition) bool {
		return f.topic != live && f.topic != back || p.GetSourceEnd()-p.GetSourceNext() < 3*steady
	})
	rates, others := l.measure(but, span), partitions
	if but != nobody {
		others -= partitions / 3
	}
	for _, topic := range []string{live, back} {
		rates[topic] = min(rates[topic], float64(steady*others))
	}
	return rates
}

// in is the lab for a subtest.
func (l *lab) in(t *testing.T) *lab {
	c := *l
	c.t, c.Setup = t, l.Setup.In(t)
	return &c
}

// measure returns how many records of each topic are copied in a second, of those partitions that are not on one broker, and
// has what is waited for looked at meanwhile.
func (l *lab) measure(but int, span time.Duration, watches ...*watch) map[string]float64 {
	l.t.Helper()
	first, err := l.look(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	began := time.Now()
	last, at := first, began
	node.Stays(l.t, span, "the node", func(ctx context.Context) error {
		now, err := l.look(ctx)
		if err != nil {
			return err
		}
		last, at = now, time.Now()
		for _, w := range watches {
			_ = w.see(ctx, now) // it may show later
		}
		return nil
	})
	rates, sated := make(map[string]float64), 0
	for f, p := range last {
		if !f.on(but) {
			if f.topic == full && p.GetLagRecords() == 0 {
				sated++
			}
			rates[f.topic] += float64(p.GetSourceNext()-first[f].GetSourceNext()) / at.Sub(began).Seconds()
		}
	}
	if sated > 0 {
		l.t.Logf("%d partitions have nothing left to copy: the load does not saturate", sated)
	}
	return rates
}

// away takes a broker away and compares the others' rates with those of before.
func (l *lab) away(broker int, span time.Duration, well map[string]float64, take func()) {
	l.t.Helper()
	shown := l.watch("the broker's partitions say what is wrong", shownWithin, func(ctx context.Context, now map[flow]*adminpb.Partition) error {
		if what := l.unshown(broker, now); what != "" {
			return errors.New(what)
		}
		return l.metrics(ctx, broker, now)
	})
	var words map[flow]int64
	idle := l.watch("idle partitions of the other brokers take what came", idleWithin, func(_ context.Context, now map[flow]*adminpb.Partition) error {
		for f, end := range words {
			if now[f].GetSourceNext() < end {
				return fmt.Errorf("not %s", says(f, now[f]))
			}
		}
		return nil
	})
	take()
	words = l.word(broker)
	ill := l.measure(broker, span, shown, idle)
	shown.end()
	idle.end()
	l.compare(well, ill, "one broker away")
}

// unshown names a partition of a broker that does not say that something is wrong; empty: all do.
func (l *lab) unshown(broker int, now map[flow]*adminpb.Partition) string {
	var not []string
	for f, p := range now {
		wrong := []mirror.Cause{mirror.CauseLeader, mirror.CauseTarget}
		if f.topic == back {
			wrong = []mirror.Cause{mirror.CauseLeader, mirror.CauseSource}
		}
		if f.on(broker) && (p.GetState() == adminpb.State_STATE_RUNNING || !slices.Contains(wrong, mirror.Cause(p.GetCause()))) {
			not = append(not, says(f, p))
		}
	}
	slices.Sort(not)
	return strings.Join(not, "; ")
}

// metrics is an error unless the metrics say of each partition of a broker what its status says.
func (l *lab) metrics(ctx context.Context, broker int, now map[flow]*adminpb.Partition) error {
	causes, err := l.metric(ctx)
	for f, p := range now {
		if got := causes[f]; err == nil && f.on(broker) && got == "" {
			err = fmt.Errorf("the metric says nothing of %s", says(f, p))
		}
	}
	return err
}

// returns brings a broker back, and all its partitions go on soon after it answers.
func (l *lab) returns(broker int, back func()) {
	l.t.Helper()
	back()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	if err := l.us.WaitReady(ctx); err != nil {
		l.t.Fatal(err)
	}
	answers := time.Now()
	stood, err := l.look(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	l.all("all partitions of the broker go on", backWithin+busy(), func(f flow, p *adminpb.Partition) bool {
		return !f.on(broker) || p.GetState() == adminpb.State_STATE_RUNNING && (f.topic == quiet || p.GetSourceNext() > stood[f].GetSourceNext())
	})
	l.t.Logf("all go on %v after the broker answers", time.Since(answers).Round(10*time.Millisecond))
}

// calm fails the test when the log has two lines of a partition within a minute.
func (l *lab) calm(since time.Time) {
	l.t.Helper()
	type line struct {
		at   time.Time
		text string
	}
	lines, last := 0, make(map[string]line)
	for text := range strings.Lines(l.node.Log()) {
		at, err := time.Parse(time.RFC3339Nano, field(text, "time"))
		if err != nil || at.Before(since) {
			continue
		}
		lines++
		pump := field(text, "pump")
		if pump == "" {
			continue
		}
		if before, ok := last[pump]; ok && at.Sub(before.at) < time.Minute {
			l.t.Errorf("two lines of a partition within a minute:\n%s%s", before.text, text)
		}
		last[pump] = line{at, text}
	}
	l.t.Logf("%d lines in the log, of %d partitions", lines, len(last))
	if most := 4*partitions + 60*(1+int(time.Since(since).Minutes())); lines > most {
		l.t.Errorf("%d lines in the log since the first broker went away, want %d at most", lines, most)
	}
}

// field is a field of a line of the log; empty if it is not there.
func field(line, name string) string {
	_, rest, ok := strings.Cut(" "+line, " "+name+"=")
	if !ok {
		return ""
	}
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		value, _, _ := strings.Cut(quoted, `"`)
		return value
	}
	value, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(value)
}
