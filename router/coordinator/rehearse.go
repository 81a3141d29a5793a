package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/router/timeline"
)

const (
	// rehearsePatience is how long a rehearsal may take: a link may need a moment to make a new topic.
	rehearsePatience = 50 * time.Second
	// shadowPartitions and shadowRecords are those of a shadow topic, the latter of each partition and rehearsal.
	shadowPartitions = 3
	shadowRecords    = 100
	// shadowRetention is how long its records are kept.
	shadowRetention = time.Hour
	// mapTries is how often the offset map of a partition is asked for, with a pause of mapPause.
	mapTries, mapPause = 10, 300 * time.Millisecond
	// mirrorPatience is how long the mirror may take: with more, a switch would be given up.
	mirrorPatience = 10 * time.Second
	// shadowGroup is the group whose positions are taken along. It has no members.
	shadowGroup = "isthmus.rehearsal"
)

// Rehearsal is what a switch was found to need, tried with a topic and a group that nobody uses. No client moves, and nothing is decided.
type Rehearsal struct {
	switchover.Order
	Checks []Check
	// Topic is the shadow topic. Shadowed: a link carries it; else only what needs none was tried.
	Topic    string
	Shadowed bool
	Records  int64 // that were written
	Steps    []Rehearsed
	// Failures are what would not have gone well.
	Failures []string
}

// Rehearsed is how long one thing took. Part: a switch has it too, while clients wait.
type Rehearsed struct {
	Name string
	Took time.Duration
	Part bool
}

// rehearsal is one that runs.
type rehearsal struct {
	Rehearsal
	c        *Coordinator
	id       string
	from, to *broker.Cluster
	written  [][]broker.Record // by partition, with their places at the home
}

// Rehearse tries what a planned switch of a set to a cluster does, as far as that touches no client: it asks all instances and the control clusters, writes to a shadow topic at the home,
// waits until it is mirrored, follows each record by the offset map, and takes positions of a shadow group along. The topic stays, for the next rehearsal.
func (c *Coordinator) Rehearse(ctx context.Context, set, to, topic string) (Rehearsal, error) {
	o, err := c.Order(ctx, set, to, generation.Planned, "")
	if err != nil {
		return Rehearsal{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, rehearsePatience)
	defer cancel()
	r := &rehearsal{c: c, Rehearsal: Rehearsal{Order: o, Topic: topic}, id: c.deps.Unique()}
	r.step("checks", false, func() error {
		r.Checks = c.Checks(ctx, o)
		return nil
	})
	r.step("control", true, func() error {
		_, err := c.deps.Store.Read(ctx)
		return err
	})
	r.step("instances", true, func() error {
		if _, missing := c.deps.Instances(ctx, set); len(missing) > 0 {
			return fmt.Errorf("%s do not answer", some(missing))
		}
		return nil
	})
	if r.from, err = c.deps.Cluster(o.From); err == nil {
		r.to, err = c.deps.Cluster(o.To)
	}
	if err != nil {
		return Rehearsal{}, err
	}
	if r.Shadowed = !ours(topic) && c.carries(o.From, o.To, topic); r.Shadowed {
		r.shadow(ctx)
	}
	return r.Rehearsal, nil
}

// step does one thing and notes how long it took; false: it failed, and what follows needs it.
func (r *rehearsal) step(name string, part bool, do func() error) bool {
	began := r.c.deps.Now().Mono
	err := do()
	r.Steps = append(r.Steps, Rehearsed{name, r.c.deps.Now().Mono - began, part})
	if err != nil {
		r.Failures = append(r.Failures, name+": "+err.Error())
	}
	return err == nil
}

// shadow does what needs the shadow topic.
func (r *rehearsal) shadow(ctx context.Context) {
	went := r.step("topic", false, func() error { return r.makeTopic(ctx) }) &&
		r.step("write", false, func() error { return r.writes(ctx) }) &&
		r.step("mirror", true, func() error { return r.mirrors(ctx) }) &&
		r.step("map", false, func() error { return r.follows(ctx) }) &&
		r.step("positions", true, func() error { return r.positions(ctx) })
	if went {
		r.step("clean", false, func() error {
			return errors.Join(r.from.DeleteGroup(ctx, shadowGroup), r.to.DeleteGroup(ctx, shadowGroup))
		})
	}
}

// makeTopic makes the shadow topic at the home if it is not there, and waits until a link has made it at the other cluster.
func (r *rehearsal) makeTopic(ctx context.Context) error {
	m, err := r.from.Metadata(ctx, r.Topic)
	if err != nil {
		return err
	}
	if errors.Is(m.Topics[r.Topic].Err, kerr.UnknownTopicOrPartition) {
		err = r.from.CreateTopic(ctx, r.Topic, shadowPartitions, min(3, max(1, len(m.Brokers))), map[string]string{"retention.ms": strconv.FormatInt(shadowRetention.Milliseconds(), 10)})
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	}
	for {
		var have [2]int
		for i, at := range []*broker.Cluster{r.from, r.to} {
			m, err := at.Metadata(ctx, r.Topic)
			if err != nil {
				return err
			}
			have[i] = len(m.Topics[r.Topic].Partitions)
		}
		if have[0] > 0 && have[0] == have[1] {
			r.written = make([][]broker.Record, have[0])
			return nil
		}
		if !pause(ctx, 10*mirrorEvery) {
			return fmt.Errorf("topic %s has %d partitions at %s and %d at %s: %w", r.Topic, have[0], r.From, have[1], r.To, ctx.Err())
		}
	}
}

// writes puts records into each partition at the home.
func (r *rehearsal) writes(ctx context.Context) error {
	p, err := r.from.Producer(broker.ProducerOptions{ManualPartition: true})
	if err != nil {
		return err
	}
	defer p.Close()
	var all []broker.Record
	for i := range r.written {
		for n := range shadowRecords {
			all = append(all, broker.Record{Topic: r.Topic, Partition: int32(i), Value: fmt.Appendf(nil, "isthmus-rehearsal %s %d %d", r.id, i, n)})
		}
	}
	done, err := p.Produce(ctx, all...)
	for _, one := range done {
		if one.Offset >= 0 {
			r.Records++
			r.written[one.Partition] = append(r.written[one.Partition], one)
		}
	}
	return err
}

// mirrors waits until what was written is durably known to be at the other cluster, as the cut of a switch does.
func (r *rehearsal) mirrors(ctx context.Context) error {
	ends, err := r.from.LogEnds(ctx, r.Topic)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mirrorPatience)
	defer cancel()
	left := fmt.Sprintf("%d records", r.Records)
	for {
		r.c.deps.Instances(ctx, r.Set) // so that nodes make durable what they have copied
		n, where, err := behind(ctx, r.c.deps.Mirror(), r.From, r.To, ends)
		switch {
		case err == nil && n == 0:
			return nil
		case err == nil:
			left = fmt.Sprintf("%d records, of %s among others,", n, where)
		}
		if !pause(ctx, mirrorEvery) {
			return fmt.Errorf("%s are not mirrored within %v: see isthmus status", left, mirrorPatience)
		}
	}
}

// follows looks each record up in the offset map, and reads it where that says it is.
func (r *rehearsal) follows(ctx context.Context) error {
	for p, written := range r.written {
		runs, err := r.runs(ctx, int32(p))
		if err != nil {
			return err
		}
		if err := r.read(ctx, int32(p), written, runs); err != nil {
			return err
		}
	}
	return nil
}

// runs is the offset map of a partition. Topics in which links keep it may be as new as the shadow topic, and brokers not know them for a moment.
func (r *rehearsal) runs(ctx context.Context, partition int32) (runs []timeline.Run, err error) {
	for range mapTries {
		if runs, err = r.c.deps.Mirror().Runs(ctx, r.From, r.To, r.Topic, partition); err == nil || !pause(ctx, mapPause) {
			break
		}
	}
	return runs, err
}

// read compares what was written to a partition with what is where it should be.
func (r *rehearsal) read(ctx context.Context, partition int32, written []broker.Record, runs []timeline.Run) error {
	if len(written) == 0 {
		return nil
	}
	at := make(map[int64][]byte, len(written))
	for _, w := range written {
		to, ok := placeOf(runs, w.Offset)
		if !ok {
			return fmt.Errorf("the offset map does not know where record %d of %s:%d is at %s", w.Offset, r.Topic, partition, r.To)
		}
		at[to] = w.Value
	}
	first, _ := placeOf(runs, written[0].Offset)
	last, _ := placeOf(runs, written[len(written)-1].Offset)
	err := r.to.ReadRange(ctx, r.Topic, partition, min(first, last), max(first, last)+1, true, func(got broker.Record) error {
		if want, ok := at[got.Offset]; ok && !bytes.Equal(got.Value, want) {
			return fmt.Errorf("record %d of %s:%d at %s is %.100q, and the offset map says that it is %.100q", got.Offset, r.Topic, partition, r.To, got.Value, want)
		}
		delete(at, got.Offset)
		return nil
	})
	if err == nil && len(at) > 0 {
		err = fmt.Errorf("%d records of %s:%d are not where the offset map says at %s", len(at), r.Topic, partition, r.To)
	}
	return err
}

// placeOf is where a record is at the other cluster.
func placeOf(runs []timeline.Run, offset int64) (int64, bool) {
	i := slices.IndexFunc(runs, func(run timeline.Run) bool { return run.From <= offset && offset < run.From+run.Count })
	if i < 0 {
		return 0, false
	}
	return runs[i].To + offset - runs[i].From, true
}

// positions has the shadow group stand in the middle of what was written, takes its positions along as a switch does, and looks whether it would go on right there.
func (r *rehearsal) positions(ctx context.Context) error {
	here, there := make([]broker.GroupOffset, 0, len(r.written)), make([]broker.GroupOffset, 0, len(r.written))
	for p, written := range r.written {
		middle := written[len(written)/2].Offset
		runs, err := r.runs(ctx, int32(p))
		if err != nil {
			return err
		}
		tp := broker.TopicPartition{Topic: r.Topic, Partition: int32(p)}
		here = append(here, broker.GroupOffset{TopicPartition: tp, Offset: middle, LeaderEpoch: -1})
		there = append(there, broker.GroupOffset{TopicPartition: tp, Offset: goesOn(runs, middle), LeaderEpoch: -1})
	}
	if err := commitAll(ctx, r.from, map[string][]broker.GroupOffset{shadowGroup: here}); err != nil {
		return err
	}
	if err := setAll(ctx, r.to, map[string][]broker.GroupOffset{shadowGroup: there}); err != nil {
		return err
	}
	for i, at := range there {
		want := r.written[i][len(r.written[i])/2].Value
		err := r.to.ReadRange(ctx, r.Topic, at.Partition, at.Offset, at.Offset+1, true, func(got broker.Record) error {
			if !bytes.Equal(got.Value, want) {
				return fmt.Errorf("a group that goes on at %d of %s:%d at %s finds %.100q, and %.100q is next", at.Offset, r.Topic, at.Partition, r.To, got.Value, want)
			}
			want = nil
			return nil
		})
		if err == nil && want != nil {
			err = fmt.Errorf("a group that goes on at %d of %s:%d at %s finds nothing", at.Offset, r.Topic, at.Partition, r.To)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
