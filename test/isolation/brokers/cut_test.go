package brokers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
)

// Topics of one partition on the first two brokers of us. An unclean election takes what is copied to the one, and what was copied from the other.
const (
	shorn = "sick-shorn" // eu>us
	short = "sick-short" // us>eu
)

var cut = []string{shorn, short}

func (l *lab) makeCut() {
	for _, topic := range cut {
		l.eu.Create(l.t, topic, 1)
		l.us.CreateOn(l.t, topic, [][]int32{{1, 2}}, "min.insync.replicas=1")
	}
}

// shear has both topics lose their ends while they are paused, and compares the rates of all others while the two find out with those of before. Of
// what the target lost all is there again, and of the source's loss the partition tells.
func (l *lab) shear(span time.Duration) {
	l.t.Helper()
	l.put(l.eu, shorn, 5, 100)
	l.put(l.us, short, 5, 100)
	l.reach(5, shorn, short)
	l.broker.Kill(1)
	node.Until(l.t, time.Minute, "their leader is alone", func(ctx context.Context) error {
		return l.replicas(ctx, func(p kadm.PartitionDetail) bool { return slices.Equal(p.ISR, []int32{1}) })
	})
	l.put(l.eu, shorn, 3, 100)
	l.put(l.us, short, 3, 100)
	l.reach(8, shorn, short)
	l.pause("eu-us", shorn, true)
	l.pause("us-eu", short, true)
	l.broker.Kill(0)
	l.broker.Start(1)
	node.Until(l.t, time.Minute, "their follower leads", func(ctx context.Context) error {
		var all kadm.TopicsSet
		all.Add(shorn, 0)
		all.Add(short, 0)
		_, err := l.us.Admin.ElectLeaders(ctx, kadm.ElectLiveReplica, all)
		return errors.Join(l.replicas(ctx, func(p kadm.PartitionDetail) bool { return p.Leader == 2 }), err)
	})
	l.broker.Start(0)
	l.put(l.us, short, 1, 200)
	l.all("all others run", 2*time.Minute, func(f flow, p *adminpb.Partition) bool {
		return f.topic != full && f.topic != live && f.topic != back && f.topic != quiet || p.GetState() == adminpb.State_STATE_RUNNING
	})
	well := l.well(nobody, span)
	shown := l.watch("the one says what its source lost", shownWithin, func(ctx context.Context, now map[flow]*adminpb.Partition) error {
		metric, err := l.metric(ctx)
		if p, f := now[flow{short, 0}], (flow{short, 0}); err == nil && (p.GetState() != adminpb.State_STATE_HALTED || metric[f] != string(mirror.CauseSourceLost)) {
			err = fmt.Errorf("not yet: %s; the metric says %q", says(f, p), metric[f])
		}
		return err
	})
	l.pause("eu-us", shorn, false)
	l.pause("us-eu", short, false)
	ill := l.measure(nobody, span, shown)
	shown.end()
	l.put(l.eu, shorn, 1, 100)
	l.reach(9, shorn)
	ends, err := l.us.Ends(l.t.Context(), shorn)
	if err != nil || ends[shorn][0] != 9 {
		l.t.Errorf("the target has %d records of %s, want 9: what it lost is copied again (%v)", ends[shorn][0], shorn, err)
	}
	l.compare(well, ill, "one partition cut at the target and one at the source")
}

// replicas is an error while the partitions of both topics are not so.
func (l *lab) replicas(ctx context.Context, ok func(kadm.PartitionDetail) bool) error {
	all, err := l.us.Admin.ListTopics(ctx, cut...)
	for _, topic := range cut {
		if p := all[topic].Partitions[0]; err == nil && !ok(p) {
			err = fmt.Errorf("leader %d of %s, in sync %v", p.Leader, topic, p.ISR)
		}
	}
	return err
}
