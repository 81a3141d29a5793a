package router

import (
	"context"
	"errors"
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

// Speaks says why a cluster cannot be a home of this router now: its brokers do not say what they speak, or not speak all that clients were told, which they go on to use.
func (r *Router) Speaks(ctx context.Context, c *broker.Cluster) error {
	p := r.now.Load()
	if p == nil {
		return fmt.Errorf("router %s: %w", r.cfg.Router.Name, errNoPicture)
	}
	h := newHome(known{cluster: c}, way{})
	var err error
	if h.last, err = h.brokers(ctx); err != nil {
		return err
	}
	silent, err := h.speaks(ctx, p.versions)
	return errors.Join(append(silent, err)...)
}

// speaks asks the brokers of a home what they speak. silent is of those that did not say; the error names what others do not speak of what clients were told. Where nobody says
// anything there is one too.
func (h *home) speaks(ctx context.Context, told apis.Versions) (silent []error, err error) {
	silent = h.spoken.look(ctx, h.cluster, h.last)
	if len(h.spoken.known) == 0 {
		return silent, fmt.Errorf("no broker of cluster %s says what it speaks: %w", h.cluster.Name(), errors.Join(silent...))
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(h.spoken.known)) {
		name := fmt.Sprintf("broker %d of %s", id, h.cluster.Name())
		can, err := apis.Offer([]apis.Broker{{Name: name, Versions: h.spoken.known[id]}})
		if err != nil {
			errs = append(errs, err)
		} else if less := lacking(told, can); less != "" {
			errs = append(errs, fmt.Errorf("%s does not speak what clients were told of (%s), and they go on to use it; upgrade it", name, less))
		}
	}
	return silent, errors.Join(errs...)
}

// lacking is, for people, what of told cannot be done; empty for nothing.
func lacking(told, can apis.Versions) string {
	missing := make(apis.Versions)
	for key, was := range told {
		if is, ok := can[key]; !ok || is.Min > was.Min || is.Max < was.Max {
			missing[key] = was
		}
	}
	return missing.String()
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
