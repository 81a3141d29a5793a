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
)

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
	d := &drilling{writing: writing{asking: asking{t: s.t, json: s.json}, yes: true}}
	d.cfg = drill.Config{To: "us", Topic: drill.Topic, RTO: drillRTO, Settle: usualSettle, Back: true}
	d.why = "the demo's"
	if err := d.check(drill.Switchover, "shop"); err != nil {
		return err
	}
	return d.run(ctx, c)
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
