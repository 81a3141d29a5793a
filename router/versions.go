package router

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/apis"
)

const (
	// askAgain is after which time a broker is asked again what it speaks: it may have been upgraded, or its settings changed.
	askAgain = 5 * time.Minute
	// askSoon is when one is asked again that did not say.
	askSoon = 15 * time.Second
	// askTogether is how many are asked at a time.
	askTogether = 16
)

// spoken is what the brokers of the home speak, as far as they said. One goroutine uses it.
type spoken struct {
	known map[int32]apis.Versions
	ask   map[int32]time.Time // when each is to be asked next
}

// look asks the brokers whose turn it is, and forgets those that are gone. The errors are those of brokers that did not say.
func (s *spoken) look(ctx context.Context, home *broker.Cluster, m broker.Metadata) (errs []error) {
	gone := func(id int32) bool { _, there := m.Brokers[id]; return !there }
	maps.DeleteFunc(s.known, func(id int32, _ apis.Versions) bool { return gone(id) })
	maps.DeleteFunc(s.ask, func(id int32, _ time.Time) bool { return gone(id) })
	now := time.Now()
	var due []int32 // known before the first answer changes the maps
	for id := range m.Brokers {
		if !now.Before(s.ask[id]) {
			due = append(due, id)
		}
	}
	var mu sync.Mutex
	var all errgroup.Group
	all.SetLimit(askTogether)
	for _, id := range due {
		all.Go(func() error {
			got, err := home.Versions(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				s.ask[id] = now.Add(askSoon)
				return nil
			}
			v := make(apis.Versions, len(got))
			for key, r := range got {
				v[key] = apis.Range{Min: r.Min, Max: r.Max}
			}
			s.known[id], s.ask[id] = v, now.Add(askAgain)
			return nil
		})
	}
	_ = all.Wait() // none of them returns one
	return errs
}

// offer is what clients are told where they were told before, nil for nothing yet, of what the brokers of all homes speak. It only ever shrinks.
func offer(homes []*home, before apis.Versions) (apis.Versions, error) {
	var brokers []apis.Broker
	for _, h := range homes {
		for _, id := range slices.Sorted(maps.Keys(h.spoken.known)) {
			brokers = append(brokers, apis.Broker{Name: fmt.Sprintf("broker %d of %s", id, h.cluster.Name()), Versions: h.spoken.known[id]})
		}
	}
	if len(brokers) == 0 {
		return before, nil
	}
	now, err := apis.Offer(brokers)
	if err == nil && len(homes) > 1 { // the first version cannot ask for no topic, which is what is left where all are of other sets
		all := now[int16(kmsg.Metadata)]
		now[int16(kmsg.Metadata)] = apis.Range{Min: max(1, all.Min), Max: all.Max}
	}
	if err != nil || before == nil {
		return now, err
	}
	return narrow(before, now), nil
}

// narrow is before, less what is not in now any more. It is before itself where nothing is missing.
func narrow(before, now apis.Versions) apis.Versions {
	out := make(apis.Versions, len(before))
	for key, was := range before {
		is, ok := now[key]
		if r := (apis.Range{Min: max(was.Min, is.Min), Max: min(was.Max, is.Max)}); ok && r.Min <= r.Max {
			out[key] = r
		}
	}
	if maps.Equal(out, before) {
		return before
	}
	return out
}
