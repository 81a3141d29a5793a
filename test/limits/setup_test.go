package limits

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
	"github.com/isthmus-project/isthmus/test/judge"
)

// nodeBytes is what all links of the process may hold together. It is tight, so that a link that keeps more than its share
// would be noticed by the other.
const nodeBytes = 40 << 20

// world is three clusters and one process with two links: eu>us, which has a liar on either side, and eu>ap, which has none
// and must not notice.
type world struct {
	*fabric.Fabric
	t      *testing.T
	victim *mirror.Link
	calm   *mirror.Link
	liars  map[string]*liar
	log    *judge.Log
	stop   func() // ends both links and waits for them
	ended  map[*mirror.Link]chan struct{}
	cancel map[*mirror.Link]context.CancelFunc
	peak   atomic.Uint64 // most heap seen
}

// newWorld starts the clusters and the process. It must be called inside a bubble.
func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, log: judge.NewLog(), liars: make(map[string]*liar),
		ended: make(map[*mirror.Link]chan struct{}), cancel: make(map[*mirror.Link]context.CancelFunc)}
	w.Fabric = fabric.New(t, fabric.Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "eu>ap"},
		Topics: []string{"orders"}, On: []string{"eu"}, Seed: seed})
	memory := mirror.NewMemory(nodeBytes)
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var opened []*broker.Cluster
	open := func(name string, lying bool) *broker.Cluster {
		spec, _ := w.Topology.Cluster(name)
		p, err := broker.NewProfile(spec)
		if err != nil {
			t.Fatal(err)
		}
		p.Dial = w.Client(name).Dial
		if lying {
			w.liars[name] = newLiar(seed, p.Dial)
			p.Dial = w.liars[name].Dial
		}
		c, err := broker.Open(p, log)
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, c)
		return c
	}
	run := func(name string, from, to *broker.Cluster) *mirror.Link {
		for _, spec := range w.Topology.Links {
			if spec.From+">"+spec.To != name {
				continue
			}
			l, err := mirror.NewLink(spec, mirror.Config{}, mirror.Deps{Topology: w.Topology, From: from, To: to, Log: log,
				Writer: "n1/" + name, Rand: rand.New(rand.NewPCG(seed, 4)), Memory: memory})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			w.cancel[l], w.ended[l] = cancel, ended
			go func() {
				defer close(ended)
				if err := l.Run(ctx); err != nil {
					t.Errorf("link %s: %v", name, err)
				}
			}()
			return l
		}
		t.Fatalf("no link %s", name)
		return nil
	}
	w.victim = run("eu>us", open("eu", true), open("us", true))
	w.calm = run("eu>ap", open("eu", false), open("ap", false))
	w.stop = func() {
		for l, cancel := range w.cancel {
			cancel()
			<-w.ended[l]
		}
		for _, c := range opened {
			c.Close()
		}
		for _, l := range w.liars {
			l.truth()
		}
		w.Close()
		time.Sleep(2 * time.Second) // the liars notice
	}
	return w
}

// measure keeps the peak of the heap until the returned function is called.
func (w *world) measure() (stop func() uint64) {
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > before.HeapAlloc {
				w.peak.Store(max(w.peak.Load(), m.HeapAlloc-before.HeapAlloc))
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { // more than once is fine
		cancel()
		<-done
		return w.peak.Load()
	}
}

// says is everything a link's status says against it.
func says(l *mirror.Link) string {
	st := l.Status()
	said := st.Trouble
	for _, f := range st.Flows {
		said += " " + f.Blocked
		for _, p := range f.Pumps {
			if p.State != mirror.StateRunning {
				said += fmt.Sprintf(" %d %s %s", p.Partition, p.State, p.Reason)
			}
		}
	}
	return strings.TrimSpace(said)
}

// ends are those of the source, by partition.
func (w *world) ends() []int64 {
	w.t.Helper()
	c := w.Client("eu")
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap...), kgo.Dialer(c.Dial))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	listed, err := kadm.NewClient(cl).ListCommittedOffsets(context.Background(), "orders")
	if err != nil {
		w.t.Fatal(err)
	}
	ends := make([]int64, len(listed["orders"]))
	for p, o := range listed["orders"] {
		ends[p] = o.Offset
	}
	return ends
}

// behind says what keeps a link from having copied up to the ends; "" = nothing.
func behind(l *mirror.Link, ends []int64) string {
	st := l.Status()
	pumps := 0
	for _, f := range st.Flows {
		for _, p := range f.Pumps {
			pumps++
			if p.State != mirror.StateRunning || p.SourceNext < ends[p.Partition] {
				return fmt.Sprintf("%s %s:%d is %s (%s), at %d of %d", l.Name(), f.Topic, p.Partition, p.State, p.Reason, p.SourceNext, p.SourceEnd)
			}
		}
	}
	if pumps != len(ends) || !st.Up {
		return fmt.Sprintf("%s has %d pumps; %s", l.Name(), pumps, says(l))
	}
	return ""
}

// within waits, in virtual time, until ok has nothing to say.
func within(t *testing.T, most time.Duration, what string, ok func() string) {
	t.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(50 * time.Millisecond) {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %s", most, what, why)
		}
	}
}

// verdict judges what is on the clusters.
func (w *world) verdict() {
	w.t.Helper()
	v, err := judge.Case{Clusters: w.Clients(), Topics: []string{"orders"}, Log: w.log}.Check(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	if !v.OK() {
		w.t.Error(v.String())
	}
	if n := w.log.Acked("eu"); v.Records["us"] != n || v.Records["ap"] != n {
		w.t.Errorf("%d records were acknowledged; %v are there", n, v.Records)
	}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
