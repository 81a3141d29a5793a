package strange

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// kind is one kind of strange data: a topic and what is written to it.
type kind struct {
	name       string
	partitions int32
	source     []string // settings of the topic at eu
	target     []string // of the topic at us, if it is there before the mirror
	compacted  bool
	table      bool // both sides are compacted: only the last record of each key counts
	sick       bool // not copied until before was called
	// write is called once for each round, and waits until all is acknowledged.
	write func(g *ground, round int)
	// before is called when the last mirror has started, and may wait for what it says.
	before func(g *ground, l *life)
	// seen is called when everything is at the target, besides the checker's verdict.
	seen func(g *ground, l *life)
}

// The rounds of writing.
const (
	roundBefore = iota // the mirror does not run yet
	roundLive          // it runs
	roundDead          // it died, and the next one does not run yet
	rounds
)

// ground is where one kind of data lives.
type ground struct {
	testing.TB
	kind
	eu, us *node.Site
	topic  string
	log    *judge.Log
	number int           // of records that were given a uid
	open   []*kgo.Client // with a transaction that was begun
}

// in is the ground for a subtest.
func (g *ground) in(t testing.TB) *ground {
	g.TB = t
	return g
}

// uid is a name for the next record.
func (g *ground) uid() string {
	g.number++
	return fmt.Sprintf("eu/%s/%d", g.topic, g.number)
}

// identify tells records apart by the uid in their value, key or header; a record without any is its content and time. All are eu's own.
func identify(r *kgo.Record) (uid, origin string) {
	for _, h := range r.Headers {
		if h.Key == "uid" {
			return string(h.Value), "eu"
		}
	}
	if id, _, _ := strings.Cut(string(r.Value), " "); strings.HasPrefix(id, "eu/") {
		return id, "eu"
	}
	headers := make([]checker.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = checker.Header{Key: h.Key, Value: h.Value}
	}
	sum := checker.Hash(r.Key, r.Value, headers, r.Timestamp.UnixMilli())
	return hex.EncodeToString(sum[:]), "eu"
}

// client reads and writes as clients of the cluster do, and tells the records of this suite apart.
func client(s *node.Site) judge.Client {
	c := s.Client()
	c.Identify = identify
	return c
}

// put writes records with one producer of its own, in order, and waits for their acknowledgement.
func (g *ground) put(opts []kgo.Opt, records ...*kgo.Record) {
	g.Helper()
	opts = append([]kgo.Opt{kgo.SeedBrokers(g.eu.Bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(10 * time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression())}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		g.Fatal(err)
	}
	defer cl.Close()
	for _, r := range records {
		r.Topic = g.topic
	}
	ctx, cancel := context.WithTimeout(g.Context(), time.Minute)
	defer cancel()
	res := cl.ProduceSync(ctx, records...)
	if err := res.FirstErr(); err != nil {
		g.Fatalf("write to %s: %v", g.topic, err)
	}
	for _, r := range res {
		g.log.Add(client(g.eu), r.Record, checker.Acked)
	}
}

// load writes with the judge's producer.
func (g *ground) load(l judge.Load) {
	g.Helper()
	l.Topic, l.Partitions = g.topic, g.partitions
	if err := judge.Write(g.Context(), client(g.eu), l, g.log); err != nil {
		g.Fatal(err)
	}
}

// caughtUp waits until everything that a read_committed consumer can read at eu is copied.
func (g *ground) caughtUp(l *life) {
	g.Helper()
	node.Until(g, 2*time.Minute, g.topic+" is copied", func(ctx context.Context) error { return g.behind(ctx, l) })
}

// behind is an error that names the first partition that is not copied.
func (g *ground) behind(ctx context.Context, l *life, partitions ...int32) error {
	ends, err := g.eu.Admin.ListCommittedOffsets(ctx, g.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	f := l.flow(g.topic)
	for p := range g.partitions {
		if len(partitions) > 0 && !slices.Contains(partitions, p) {
			continue
		}
		end, _ := ends.Lookup(g.topic, p)
		if int(p) >= len(f.Pumps) {
			return fmt.Errorf("partition %d is not known; blocked: %q", p, f.Blocked)
		}
		if at := f.Pumps[p]; at.SourceNext < end.Offset {
			return fmt.Errorf("partition %d is at %d of %d, %s (%s) %s", p, at.SourceNext, end.Offset, at.State, at.Reason, f.Blocked)
		}
	}
	return nil
}

// judged compares both logs record by record.
func (g *ground) judged() judge.Verdict {
	g.Helper()
	c := judge.Case{Clusters: []judge.Client{client(g.eu), client(g.us)}, Topics: []string{g.topic}, Targets: []string{"us"}, Compacted: g.compacted}
	if g.compacted {
		c.Log = g.log
	}
	v, err := c.Check(g.Context())
	if err != nil {
		g.Fatal(err)
	}
	if !v.OK() {
		g.Errorf("us is not what it should be")
	}
	if v.Records["us"] == 0 {
		g.Errorf("nothing is at us: the kind was not tested")
	}
	g.Log(v)
	return v
}

// shape is what a log is made of, batch by batch.
type shape struct {
	batches, records, holes, empty, control, transactional int
	horizons, appendTime, single, largest                  int
	codecs                                                 map[batch.Codec]int
}

// shapeOf reads the headers of all batches of the topic at a cluster.
func (g *ground) shapeOf(s *node.Site) shape {
	g.Helper()
	c, err := broker.Open(broker.Profile{Name: s.Name, Bootstrap: s.Bootstrap(), ClientID: "shape"}, nil)
	if err != nil {
		g.Fatal(err)
	}
	defer c.Close()
	out := shape{codecs: make(map[batch.Codec]int)}
	for p := range g.partitions {
		end, err := c.ListOffsets(g.Context(), g.topic, p, -1, false)
		if err != nil {
			g.Fatal(err)
		}
		start, err := c.ListOffsets(g.Context(), g.topic, p, -2, false)
		if err != nil {
			g.Fatal(err)
		}
		for at := start.Offset; at < end.Offset; {
			frame, err := c.FetchOnce(g.Context(), g.topic, p, at, 1<<20, false)
			if err != nil {
				g.Fatal(err)
			}
			before := at
			for rest := frame.Partitions[0].Batches; len(rest) > 0; {
				h, _, after, err := batch.Next(rest)
				if err != nil {
					break // cut short
				}
				rest = after
				if h.BaseOffset > at {
					out.holes++
				}
				at = h.NextOffset()
				out.add(h)
			}
			frame.Release()
			if at == before {
				break // the cleaner is at work on the end
			}
		}
	}
	return out
}

func (s *shape) add(h batch.Header) {
	count := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	s.batches++
	s.records += int(h.Records)
	s.codecs[h.Codec()]++
	count(&s.holes, !h.Dense() && h.Records > 0)
	count(&s.empty, h.Records == 0)
	count(&s.control, h.Control())
	count(&s.transactional, h.Transactional())
	count(&s.horizons, h.DeleteHorizon())
	count(&s.appendTime, h.LogAppendTime())
	count(&s.single, h.Records == 1)
	s.largest = max(s.largest, h.Size())
}
