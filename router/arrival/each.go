package arrival

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/timeline"
)

const (
	// atOnce is how many partitions are asked about at a time. Of those that other nodes copy the mirror reads what is new of the maps, once for all
	// that wait for it: so the more ask, the less is read.
	atOnce = 1024
	// mostErrors is how many partitions an error names. Then no more are begun.
	mostErrors = 16
)

// spot is a partition, and what a cut says of it.
type spot struct {
	topic               string
	partition           int32
	virtual, real, left int64
	had                 *generation.Had // nil where the new home had all, and nothing besides
}

// place is the partition alone.
func (s spot) place() spot { return spot{topic: s.topic, partition: s.partition} }

// line is the partition's timeline, or a new one of a home that goes on, where there is none.
func (s spot) line(all map[string][]timeline.Timeline, number int64, home string) timeline.Timeline {
	if lines := all[s.topic]; int(s.partition) < len(lines) && lines[s.partition] != nil {
		return lines[s.partition]
	}
	return timeline.Begin(number, home, 0)
}

func (s spot) compare(o spot) int {
	return cmp.Or(cmp.Compare(s.topic, o.topic), cmp.Compare(s.partition, o.partition))
}

// named says of which partition an error is.
func (s spot) named(err error) error {
	return fmt.Errorf("topic %s, partition %d: %w", s.topic, s.partition, err)
}

// each does something for many partitions, some at a time. The error is all that went wrong, up to mostErrors.
func each(ctx context.Context, all []spot, do func(context.Context, spot) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var failed []error
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, s := range all {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := do(ctx, s)
			if err == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if len(failed) < mostErrors {
				failed = append(failed, s.named(err))
			}
			if len(failed) == mostErrors {
				cancel()
			}
			return nil
		})
	}
	_ = group.Wait() // errors are in failed
	if len(failed) == mostErrors {
		failed = append(failed, fmt.Errorf("no more than these %d of %d partitions are told", mostErrors, len(all)))
	}
	if len(failed) == 0 {
		return ctx.Err()
	}
	return errors.Join(failed...)
}
