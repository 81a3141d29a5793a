package nemesis

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/test/judge"
)

// writers write to every topic of every cluster, in bursts of all sorts, until they are ended.
type writers struct {
	log    *judge.Log
	cancel context.CancelFunc
	all    sync.WaitGroup
	// turns are held while a topic is written to, by cluster and topic: whoever makes it anew takes them. A mutex would stop virtual time.
	turns map[string]chan struct{}

	mu    sync.Mutex
	parts map[string]int32 // partitions, by cluster and topic
	lives map[string]int32 // how often a topic was made anew
}

// write starts them. clients are those that write.
func write(seed uint64, clients []judge.Client, partitions int32) *writers {
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{log: judge.NewLog(), cancel: cancel, turns: make(map[string]chan struct{}), parts: make(map[string]int32), lives: make(map[string]int32)}
	for _, c := range clients {
		for _, topic := range topics {
			w.turns[c.Name+"/"+topic], w.parts[c.Name+"/"+topic] = make(chan struct{}, 1), partitions
		}
	}
	for i, c := range clients {
		for j, topic := range topics {
			rng := rand.New(rand.NewPCG(seed, uint64(100+10*i+j)))
			w.all.Go(func() { w.run(ctx, rng, c, topic) })
		}
	}
	return w
}

// run writes bursts. What goes wrong is in the log, as what each producer knows of its records.
func (w *writers) run(ctx context.Context, rng *rand.Rand, c judge.Client, topic string) {
	turn := w.turns[c.Name+"/"+topic]
	for n := uint64(1); ctx.Err() == nil; n++ {
		l := burst(rng, topic, n)
		rest := time.Duration(rng.IntN(3000)) * time.Millisecond
		turn <- struct{}{}
		w.mu.Lock()
		l.Partitions, l.Life = w.parts[c.Name+"/"+topic], w.lives[c.Name+"/"+topic]
		w.mu.Unlock()
		_ = judge.Write(ctx, c, l, w.log)
		<-turn
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
	}
}

// burst is some records, with times that may be an hour off.
func burst(rng *rand.Rand, topic string, n uint64) judge.Load {
	l := judge.Load{Topic: topic, Records: 5 + rng.IntN(120), Rate: 20 + rng.IntN(150), Size: 40 + rng.IntN(200), Keys: 20, Seed: n,
		Compression: []string{"none", "snappy"}[rng.IntN(2)], Headers: rng.IntN(3) == 0}
	if topic == "transfers" {
		l.Transaction, l.TransactionalID = 2+rng.IntN(30), "transfers"
	}
	if off := rng.IntN(6); off < 3 {
		l.Timestamp = time.Now().Add(time.Duration(off-1) * 59 * time.Minute)
	}
	return l
}

// end ends all and waits until the outcomes are known.
func (w *writers) end() {
	w.cancel()
	w.all.Wait()
}
