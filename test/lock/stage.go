package lock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

// stage is what one test has for itself: a fabric in which eu is mirrored to us, and a topic of one partition.
type stage struct {
	t      testing.TB
	eu, us *site
	topo   *topology.Topology
	topic  string
	id     int64 // the producer id of records first produced at eu, as the link writes them to us
	owners int
}

// stageOptions are what a test may want otherwise; the zero value is a topic with default settings on eu, made on us by the mirror.
type stageOptions struct {
	source     map[string]string // settings of the topic on eu
	target     map[string]string // settings of the topic on us, which is then made before the mirror starts
	partitions int               // default 1
	links      []string          // default "eu>us"; clusters other than eu and us are not there
	settings   string            // lines for every [[link]]
	us         *site             // another target than the shared one
}

var stages atomic.Int64

// newStage makes the fabric and the topic.
func newStage(t testing.TB, o stageOptions) *stage {
	t.Helper()
	eu, us := sites(t)
	if o.us != nil {
		us = o.us
	}
	name := fmt.Sprintf("t%d-%d", stages.Add(1), time.Now().UnixNano())
	s := &stage{t: t, eu: eu, us: us, topic: name}
	if o.partitions == 0 {
		o.partitions = 1
	}
	eu.create(t, name, o.partitions, o.source)
	if o.target != nil {
		us.create(t, name, o.partitions, o.target)
	}
	if o.links == nil {
		o.links = []string{"eu>us"}
	}
	topo, err := topology.Parse("stage.toml", []byte(s.file(o)))
	if err != nil {
		t.Fatal(err)
	}
	s.topo, s.id = topo, topo.MirrorID("eu", "eu")
	return s
}

// file is the topology.
func (s *stage) file(o stageOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[fabric]\nname = %q\n", s.topic)
	clusters := map[string][]string{"eu": s.eu.Bootstrap(), "us": s.us.Bootstrap()}
	seen := make(map[string]bool)
	for _, l := range o.links {
		from, to, _ := strings.Cut(l, ">")
		for _, c := range []string{from, to} {
			if seen[c] {
				continue
			}
			seen[c] = true
			addresses := clusters[c]
			if addresses == nil {
				addresses = []string{"127.0.0.1:1"} // nothing listens there
			}
			fmt.Fprintf(&b, "[[cluster]]\nname = %q\nbootstrap = [\"%s\"]\n", c, strings.Join(addresses, `", "`))
		}
	}
	for _, l := range o.links {
		from, to, _ := strings.Cut(l, ">")
		fmt.Fprintf(&b, "[[link]]\nfrom = %q\nto = %q\ntopics = [%q]\n%s\n", from, to, s.topic, o.settings)
	}
	return b.String()
}

// stamp is the lock's stamp of the stage's own id.
func (s *stage) stamp(epoch int16, sequence int64) batch.Stamp {
	return batch.Stamp{ProducerID: s.id, Epoch: epoch, Sequence: int32(sequence)}
}

// owner is one mirror of the link eu>us in this process.
type owner struct {
	s        *stage
	name     string
	link     *mirror.Link
	from, to *path // the network to eu and to us
	clusters []*broker.Cluster
	log      *testWriter
	cancel   context.CancelFunc
	done     chan struct{}
}

// owner makes a mirror that does not know the others, and starts it unless the test wants to set rules on its paths first:
// see prepare.
func (s *stage) owner() *owner {
	s.t.Helper()
	o := s.prepare()
	o.start()
	return o
}

// prepare makes a mirror that is not started. It ends with the test.
func (s *stage) prepare() *owner {
	s.t.Helper()
	s.owners++
	o := &owner{s: s, name: fmt.Sprintf("n%d", s.owners), from: newPath(), to: newPath(), log: &testWriter{t: s.t}, done: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(o.log, nil)).With("owner", o.name)
	}
	open := func(at *site, p *path) *broker.Cluster {
		c, err := broker.Open(broker.Profile{Name: at.name, Bootstrap: at.Bootstrap(), Dial: p.Dial}, log)
		if err != nil {
			s.t.Fatal(err)
		}
		o.clusters = append(o.clusters, c)
		return c
	}
	var spec topology.Link
	for _, l := range s.topo.Links {
		if l.From == "eu" && l.To == "us" {
			spec = l
		}
	}
	link, err := mirror.NewLink(spec, mirror.Config{RefreshEvery: 500 * time.Millisecond, CheckpointEvery: 300 * time.Millisecond}, mirror.Deps{
		Topology: s.topo, From: open(s.eu, o.from), To: open(s.us, o.to), Log: log, Writer: fmt.Sprintf("%s/%d", o.name, time.Now().UnixNano())})
	if err != nil {
		s.t.Fatal(err)
	}
	o.link = link
	return o
}

// start runs the mirror until stop, kill or the end of the test.
func (o *owner) start() {
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	go func() {
		defer close(o.done)
		if err := o.link.Run(ctx); err != nil {
			o.log.fail(fmt.Errorf("owner %s: %w", o.name, err))
		}
		for _, c := range o.clusters {
			c.Close()
		}
	}()
	o.s.t.Cleanup(func() {
		o.kill()
		o.log.end()
	})
}

// stop ends the mirror in good order: it writes a last checkpoint.
func (o *owner) stop() {
	o.cancel()
	<-o.done
}

// kill ends the mirror as kill -9 does: nothing more of it reaches a cluster, not even what a rule holds. It does not wait until
// the mirror has seen that.
func (o *owner) kill() {
	o.from.cut()
	o.to.cut()
	o.cancel()
}

// status is what the mirror says of a partition; false while it has no pump for it.
func (o *owner) status(partition int32) (mirror.PumpStatus, bool) {
	for _, f := range o.link.Status().Flows {
		for _, p := range f.Pumps {
			if f.Topic == o.s.topic && p.Partition == partition {
				return p, true
			}
		}
	}
	return mirror.PumpStatus{}, false
}

// is waits until the mirror says that partition 0 is as ok wants it.
func (o *owner) is(limit time.Duration, what string, ok func(mirror.PumpStatus) bool) {
	o.s.t.Helper()
	node.Until(o.s.t, limit, "owner "+o.name+" "+what, func(context.Context) error {
		p, there := o.status(0)
		switch {
		case !there:
			return fmt.Errorf("it has no pump; flows: %+v", o.link.Status().Flows)
		case !ok(p):
			return fmt.Errorf("it is %s (%s), at source offset %d of %d, fenced %d", p.State, p.Reason, p.SourceNext, p.SourceEnd, p.Fenced)
		}
		return nil
	})
}

// state waits for a state of partition 0 whose reason holds the words.
func (o *owner) state(limit time.Duration, want mirror.State, words string) {
	o.s.t.Helper()
	o.is(limit, fmt.Sprintf("becomes %s (%s)", want, words), func(p mirror.PumpStatus) bool {
		return p.State == want && strings.Contains(p.Reason, words)
	})
}

// caughtUp waits until the mirror has passed everything that is at the source now.
func (o *owner) caughtUp() {
	o.s.t.Helper()
	end := o.s.eu.end(o.s.t, o.s.topic, 0)
	o.is(40*time.Second, fmt.Sprintf("passes source offset %d", end), func(p mirror.PumpStatus) bool { return p.SourceNext >= end })
}

// ledger is what the mirror says of the stage's topic for any of these reasons; none = for any at all.
func (o *owner) ledger(reasons ...mirror.Reason) (out []mirror.LedgerEntry) {
	for _, e := range o.link.Ledger() {
		if e.Pump.Topic == o.s.topic && (len(reasons) == 0 || slices.Contains(reasons, e.Reason)) {
			out = append(out, e)
		}
	}
	return out
}

// verdict fails the test unless the target holds exactly the source's records, each once and in order, by content. Records
// that others than the link wrote to the target do not count.
func (s *stage) verdict() {
	s.t.Helper()
	log := s.us.readLog(s.t, s.topic, 0)
	if diff := unlike(s.ours(log), records(s.eu.readLog(s.t, s.topic, 0))); diff != "" {
		s.t.Errorf("the target is not the source: %s\ntarget: %v", diff, log)
	}
}

// ours are the records of the log that the link wrote, whatever their origin.
func (s *stage) ours(log []logged) (out []batch.Record) {
	for _, l := range log {
		if s.topo.Provenance(l.ProducerID).Kind == topology.Mirror {
			out = append(out, l.records...)
		}
	}
	return out
}

// arrives waits until the target has a record of that value.
func (s *stage) arrives(value string) {
	s.t.Helper()
	node.Until(s.t, 30*time.Second, value+" is on the target", func(ctx context.Context) error {
		log, err := s.us.tryLog(ctx, s.topic, 0)
		if err == nil && !holds(log, value) {
			err = errors.New("it is not there")
		}
		return err
	})
}

// testWriter is the log of an owner, which may have something to say when its test is over.
type testWriter struct {
	mu   sync.Mutex
	t    testing.TB
	over bool
}

// Write logs one line.
func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

func (w *testWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.t.Error(err)
	}
}

func (w *testWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}
