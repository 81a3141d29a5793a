package main

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/drill"
	"github.com/isthmus-project/isthmus/cmd/isthmus/demo"
)

const (
	// drillAfter is how long the producers write before a demo's drill, so that there is something to mirror.
	drillAfter = 3 * time.Second
	// drillRTO is the objective of a demo's drill: everything is on one machine.
	drillRTO = 10 * time.Second
	// drillLoss is how many records a demo's failover may lose: what its producers have under way on a busy machine.
	drillLoss = 10_000
)

// demoDrills are those of a demo, each there and back.
var demoDrills = []drill.Mode{drill.Failover}

// practised writes for a moment, and then makes a drill with the door's clients.
func (s *demoStage) practised(ctx context.Context) error {
	if err := s.filled(ctx); err != nil {
		return err
	}
	c, err := admin.Dial(s.nodes.All[0].GRPC)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, mode := range demoDrills {
		d := &drilling{writing: writing{asking: asking{t: s.t, json: s.json}, yes: true, why: "the demo's"}}
		d.cfg = drill.Config{To: "us", Topic: drill.Topic, RTO: drillRTO, Settle: usualSettle, Back: true}
		if mode == drill.Failover {
			d.cfg.AcceptLoss = drillLoss
		}
		if err := d.check(mode, "shop"); err != nil {
			return err
		}
		if err := d.run(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// filled has the producers write for a while; transactions are over then.
func (s *demoStage) filled(ctx context.Context) error {
	clusters, err := s.hosts.Open()
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range clusters {
			c.Close()
		}
	}()
	play := demo.New(clusters, s.load, s.log)
	prepare, cancel := context.WithTimeout(ctx, prepareAtMost)
	defer cancel()
	if err := play.Prepare(prepare); err != nil {
		return err
	}
	s.say("producing at three clusters for %s, then a drill\n", drillAfter)
	writing, stop := context.WithTimeout(ctx, drillAfter)
	defer stop()
	return errors.Join(play.Produce(writing), ctx.Err())
}
