package arrival

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/positions"
)

// earlierPatience is how long a home before the one that is left may take to tell of producers: clients wait meanwhile.
const earlierPatience = 2 * time.Second

// states are what clusters remember of producers, by cluster, topic and partition.
type states map[string]map[string]map[int32][]broker.ProducerState

// gates asks the home that is left what it knows of the producers of clients. Brokers tell the last sequence of each, and where no batch was: a
// batch that was written already is answered without its offset.
func gates(ctx context.Context, r Request, f *folded) (*gate.Book, error) {
	if r.Left == nil {
		return gate.NewBook(r.Now, nil, r.Salted)
	}
	if home := f.homes[len(f.homes)-2]; r.Left.Name() != home {
		return nil, fmt.Errorf("producers are asked for at %s, and the home that is left is %s", r.Left.Name(), home)
	}
	partitions := make(map[string][]int32)
	for _, s := range f.last {
		partitions[s.topic] = append(partitions[s.topic], s.partition)
	}
	found := make(states)
	var mu sync.Mutex
	ask := func(ctx context.Context, c *broker.Cluster) error {
		all, err := c.ProducersOf(ctx, partitions)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		found[c.Name()] = all
		return nil
	}
	asked, ctx := errgroup.WithContext(ctx)
	asked.Go(func() error { return ask(ctx, r.Left) })
	for _, c := range r.Earlier {
		if c.Name() == r.Left.Name() || !slices.Contains(f.homes, c.Name()) {
			continue
		}
		asked.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, earlierPatience)
			defer cancel()
			_ = ask(ctx, c) // it is passed over: what it knows of are producers that were silent
			return nil
		})
	}
	if err := asked.Wait(); err != nil {
		return nil, err
	}
	return gate.NewBook(r.Now, known(f.homes[:len(f.homes)-1], found, r.Salted), r.Salted)
}

// gatesOfLost asks the link from the home that was lost what it had brought of the clients' producers. All of them are unsure: the home may have acknowledged more. A batch that was brought is
// answered with its offset when it is sent again.
func gatesOfLost(ctx context.Context, r Request, f *folded, at *positions.Book) (*gate.Book, error) {
	home, lost := f.homes[len(f.homes)-1], f.homes[len(f.homes)-2]
	g := newGathering(f.homes[:len(f.homes)-1], r.Salted)
	var mu sync.Mutex
	err := each(ctx, f.last, func(ctx context.Context, s spot) error {
		all, err := f.runs.Producers(ctx, lost, home, s.topic, s.partition)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, p := range all {
			p.Unsure = true
			p.Batches = slices.Clone(p.Batches)
			for i, b := range p.Batches {
				p.Batches[i].Base = at.Virtual(s.topic, s.partition, b.Base)
			}
			if _, err := gate.New([]gate.Producer{p}); err != nil { // what cannot be must not stand in the way of the switch
				p.Batches = nil
			}
			g.take(lost, s.place(), p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gate.NewBook(r.Now, g.partitions(), r.Salted)
}

// known is what is known of the clients' producers when the last of some generations ended, whose homes these were. An id's salt says in which of the
// cluster's generations it wrote; of each producer the newest counts. One that was silent in the last is unsure: a home since, which was not asked or has
// forgotten it, may have had more of it. salted refuses ids that no router gave: those of other producers, of mirrors, and of transactions, which
// the home gave itself.
func known(homes []string, found states, salted func(id int64) (int64, error)) []gate.Partition {
	g := newGathering(homes, salted)
	for home, topics := range found {
		for topic, partitions := range topics {
			for p, list := range partitions {
				for _, s := range list {
					g.take(home, spot{topic: topic, partition: p}, gate.Producer{ID: s.ID, Epoch: s.Epoch, Last: s.LastSequence, Time: s.LastTimestamp})
				}
			}
		}
	}
	return g.partitions()
}

// gathering is what clusters remember of producers, put together.
type gathering struct {
	newest map[string]map[int64]int // generation by home and salt
	all    map[spot]map[int64]remembered
	last   int // generation
	salted func(id int64) (int64, error)
}

// remembered is a producer, and the generation in which it wrote that.
type remembered struct {
	gate.Producer
	in int
}

func newGathering(homes []string, salted func(int64) (int64, error)) *gathering {
	g := &gathering{newest: make(map[string]map[int64]int), all: make(map[spot]map[int64]remembered), last: len(homes) - 1, salted: salted}
	for i, home := range homes {
		if g.newest[home] == nil {
			g.newest[home] = make(map[int64]int)
		}
		g.newest[home][gate.Salt(int64(i))] = i
	}
	return g
}

// take takes what is known of a producer from a cluster, if it is a client's and newer.
func (g *gathering) take(home string, at spot, p gate.Producer) {
	id, salt := p.ID&^(gate.Salts-1), p.ID&(gate.Salts-1)
	in, wrote := g.newest[home][salt]
	if _, err := g.salted(id); err != nil || !wrote || p.Epoch < 0 || p.Last < -1 {
		return
	}
	if was, ok := g.all[at][id]; ok && was.in >= in {
		return
	}
	if g.all[at] == nil {
		g.all[at] = make(map[int64]remembered)
	}
	p.ID, p.Unsure = id, p.Unsure || in < g.last
	g.all[at][id] = remembered{p, in}
}

// partitions is all of it, in order.
func (g *gathering) partitions() []gate.Partition {
	out := make([]gate.Partition, 0, len(g.all))
	for _, at := range slices.SortedFunc(maps.Keys(g.all), spot.compare) {
		one := gate.Partition{Topic: at.topic, Partition: at.partition}
		for _, id := range slices.Sorted(maps.Keys(g.all[at])) {
			one.Producers = append(one.Producers, g.all[at][id].Producer)
		}
		out = append(out, one)
	}
	return out
}
