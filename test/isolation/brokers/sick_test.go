package brokers

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
)

// Topics of one partition that get into trouble of their own, each on another broker of us.
const (
	large = "sick-large" // a record is over the target's limit
	anew  = "sick-anew"  // the source's topic is made anew
	late  = "sick-late"  // the source deletes what is not copied yet
)

var sick = []string{large, anew, late}

func (l *lab) makeSick() {
	for i, topic := range sick {
		l.eu.Create(l.t, topic, 1)
		l.us.CreateOn(l.t, topic, [][]int32{{int32(i + 1)}}, "min.insync.replicas=1", "max.message.bytes=20000")
	}
}

// put writes records of a size to a topic of a site.
func (l *lab) put(at *node.Site, topic string, n, size int) {
	l.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(at.Bootstrap()...), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		l.t.Fatal(err)
	}
	defer cl.Close()
	for range n {
		if err := cl.ProduceSync(l.t.Context(), &kgo.Record{Topic: topic, Value: bytes.Repeat([]byte{'x'}, size)}).FirstErr(); err != nil {
			l.t.Fatal(err)
		}
	}
}

// sicken gets a partition of each broker into trouble, and compares the rates of all others with those of before. Each says what is wrong.
func (l *lab) sicken(well map[string]float64, span time.Duration) {
	l.t.Helper()
	for _, topic := range sick {
		l.put(l.eu, topic, 3, 100)
	}
	l.reach(3, sick...)
	l.pause("eu-us", late, true)
	l.put(l.eu, late, 5, 100)
	first := make(kadm.Offsets)
	first.Add(kadm.Offset{Topic: late, At: 6})
	if _, err := l.eu.Admin.DeleteRecords(l.t.Context(), first); err != nil {
		l.t.Fatal(err)
	}
	shown := l.watch("each says what is wrong with it", shownWithin, func(ctx context.Context, now map[flow]*adminpb.Partition) error {
		metric, err := l.metric(ctx)
		if err != nil {
			return err
		}
		for topic, want := range map[string]mirror.Cause{large: mirror.CauseLarge, anew: mirror.CauseRecreated} {
			f := flow{topic, 0}
			if p := now[f]; p.GetState() != adminpb.State_STATE_HALTED || p.GetCause() != string(want) || metric[f] != string(want) {
				return fmt.Errorf("want it halted by %s: %s; the metric says %q", want, says(f, p), metric[f])
			}
		}
		return nil
	})
	l.put(l.eu, large, 1, 30_000)
	l.remake(anew)
	l.pause("eu-us", late, false)
	ill := l.measure(nobody, span, shown)
	shown.end()
	l.reach(8, late)
	l.compare(well, ill, "three partitions in trouble")
}

// reach waits until the partitions of topics are copied up to an offset.
func (l *lab) reach(offset int64, topics ...string) {
	l.t.Helper()
	node.Until(l.t, time.Minute, fmt.Sprintf("%v are copied up to %d", topics, offset), func(ctx context.Context) error {
		now, err := l.look(ctx)
		for _, topic := range topics {
			if p := now[flow{topic, 0}]; err == nil && p.GetSourceNext() < offset {
				err = fmt.Errorf("not yet: %s", says(flow{topic, 0}, p))
			}
		}
		return err
	})
}

// pause pauses or resumes a topic of a link, and waits until it is so.
func (l *lab) pause(link, topic string, pause bool) {
	l.t.Helper()
	var err error
	if pause {
		_, err = l.node.API.Pause(l.t.Context(), &adminpb.PauseRequest{Link: link, Topic: topic, Why: "a test"})
	} else {
		_, err = l.node.API.Resume(l.t.Context(), &adminpb.ResumeRequest{Link: link, Topic: topic})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	node.Until(l.t, time.Minute, topic+" is paused or resumed", func(ctx context.Context) error {
		now, err := l.look(ctx)
		if p := now[flow{topic, 0}]; err == nil && pause != (p.GetState() == adminpb.State_STATE_PAUSED) {
			err = fmt.Errorf("not yet: %s", says(flow{topic, 0}, p))
		}
		return err
	})
}

// remake makes another topic of that name on eu, with a record.
func (l *lab) remake(topic string) {
	l.t.Helper()
	if _, err := l.eu.Admin.DeleteTopics(l.t.Context(), topic); err != nil {
		l.t.Fatal(err)
	}
	node.Until(l.t, 30*time.Second, topic+" is made anew", func(ctx context.Context) error {
		all, err := l.eu.Admin.ListTopics(ctx)
		if err == nil && !all.Has(topic) {
			_, err = l.eu.Admin.CreateTopic(ctx, 1, 1, nil, topic)
		} else if err == nil {
			err = fmt.Errorf("it is still there")
		}
		return err
	})
	l.put(l.eu, topic, 1, 100)
}

// compare wants that the rates of topics are as they were.
func (l *lab) compare(well, ill map[string]float64, with string) {
	l.t.Helper()
	for _, topic := range []string{full, live, back} {
		ratio := ill[topic] / well[topic]
		l.t.Logf("%s: %.1f records/s of the others before, %.1f with %s: %.3f", topic, well[topic], ill[topic], with, ratio)
		if want := node.Pick(0.7, 0.95); !(ratio >= want) {
			l.t.Errorf("%s: the others have %.3f of their rate with %s, want %.2f at least", topic, ratio, with, want)
		}
	}
}
