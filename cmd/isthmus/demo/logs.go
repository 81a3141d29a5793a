package demo

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
)

// How long mirrors may take after the producers have stopped.
const (
	lookEvery    = 300 * time.Millisecond
	standstill   = 45 * time.Second // without a new record anywhere: they never will. Two refreshes of a mirror may have failed by then
	settleAtMost = 3 * time.Minute
)

// LogEnds is the number of offsets in the logs of each cluster, by name; clusters that do not answer are missing. It counts
// transaction markers too.
func (d *Demo) LogEnds(ctx context.Context) map[string]int64 {
	ends := make([]int64, len(d.clusters))
	var g errgroup.Group
	for i, c := range d.clusters {
		g.Go(func() error {
			for _, topic := range topics {
				for p := range int32(partitions) {
					at, err := c.ListOffsets(ctx, topic, p, broker.Latest, false)
					if err != nil {
						ends[i] = -1
						return nil // it is shown as unknown
					}
					ends[i] += at.Offset
				}
			}
			return nil
		})
	}
	_ = g.Wait() // no errors
	out := map[string]int64{}
	for i, c := range d.clusters {
		if ends[i] >= 0 {
			out[c.Name()] = ends[i]
		}
	}
	return out
}

// read hands every committed record of a cluster to fn, in order within a partition.
func read(ctx context.Context, c *broker.Cluster, fn func(broker.Record) error) error {
	for _, topic := range topics {
		for p := range int32(partitions) {
			if err := c.ReadRange(ctx, topic, p, 0, -1, true, fn); err != nil {
				return fmt.Errorf("read back cluster %s: %w", c.Name(), err)
			}
		}
	}
	return nil
}

// census counts the committed records of one cluster as it grows.
type census struct {
	cluster *broker.Cluster
	next    map[string][]int64 // by topic and partition: the first offset that was not counted
	own     int64              // first produced here
	all     int64
}

// update counts what is new.
func (c *census) update(ctx context.Context) error {
	for _, topic := range topics {
		if c.next[topic] == nil {
			c.next[topic] = make([]int64, partitions)
		}
		for p := range int32(partitions) {
			end, err := c.cluster.ListOffsets(ctx, topic, p, broker.Latest, true)
			if err != nil {
				return fmt.Errorf("count records of %s: %w", c.cluster.Name(), err)
			}
			err = c.cluster.ReadRange(ctx, topic, p, c.next[topic][p], end.Offset, true, func(r broker.Record) error {
				if rec, ok := judged(r); ok {
					c.all++
					if rec.Origin == c.cluster.Name() {
						c.own++
					}
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("count records of %s: %w", c.cluster.Name(), err)
			}
			c.next[topic][p] = end.Offset
		}
	}
	return nil
}

// Settle waits until every cluster has as many records as were first produced anywhere, or until nothing moves any more; the
// judge tells which. Producers must have stopped. It asks nobody but the clusters.
func (d *Demo) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleAtMost)
	defer cancel()
	counts := make([]*census, len(d.clusters))
	for i, c := range d.clusters {
		counts[i] = &census{cluster: c, next: map[string][]int64{}}
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	last, moved := int64(-1), time.Now()
	for {
		var g errgroup.Group
		for _, c := range counts {
			g.Go(func() error { return c.update(ctx) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		var want, sum int64
		for _, c := range counts {
			want += c.own
			sum += c.all
		}
		full := true
		for _, c := range counts {
			full = full && c.all >= want
		}
		switch {
		case sum != last:
			last, moved = sum, time.Now()
		case full: // and it was so at the look before: a second copy has had time to show
			return nil
		case time.Since(moved) > standstill:
			d.log.Warn("clusters do not have all records, and nothing moves", "for", standstill.String())
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the mirrors: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}
