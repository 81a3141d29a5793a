package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// shown bounds how many wrong translations of one kind and direction are printed.
const shown = 5

// TranslatesRight asks a node for random offsets of every partition of the topics, over every link and both ways, and
// judges the answers by what ordinary consumers read. Nothing may be on its way.
func (s *Setup) TranslatesRight(n *Node, seed uint64, perPartition int, topics ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	logs := make(map[string]map[string]map[int32]*partitionLog)
	for _, c := range s.Sites {
		var err error
		if logs[c.Name], err = readLogs(ctx, c, topics...); err != nil {
			s.t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	for _, l := range s.Topology.Links {
		for _, reverse := range []bool{false, true} {
			a := &asker{node: n, link: l, reverse: reverse, rng: rng, wrong: make(map[error]int), examples: make(map[error][]error)}
			from, to := l.From, l.To
			if reverse {
				from, to = to, from
			}
			for _, topic := range topics {
				if err := a.askAll(ctx, topic, logs[from][topic], logs[to][topic], perPartition); err != nil {
					s.t.Errorf("translate over %s, reverse %v: %v", l.Name, reverse, err)
				}
			}
			if a.asked == 0 {
				s.t.Errorf("translate over %s, reverse %v: nothing was asked", l.Name, reverse)
			}
			for kind, n := range a.wrong {
				s.t.Errorf("translate over %s, reverse %v: %d of %d answers: %v, such as %v", l.Name, reverse, n, a.asked, kind, a.examples[kind])
			}
		}
	}
}

func ways(topo *topology.Topology, nodes []*admin.Client) []judge.Way {
	all := make([]judge.Translator, len(nodes))
	for i, n := range nodes {
		all[i] = n
	}
	return judge.Ways(topo, all...)
}

// agreeWithin is how long nodes may differ about what others of them copy: they know it from what those have made durable, which is a second old.
const agreeWithin = time.Minute // one look asks some thousand times

// AgreedWays are the ways that nodes tell, as soon as all of them say the same of the ends of all partitions; if they do not in time, what they say
// then.
func (s *Setup) AgreedWays(topics []string, nodes ...*admin.Client) []judge.Way {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), agreeWithin)
	defer cancel()
	tick := time.NewTicker(AskEvery)
	defer tick.Stop()
	for differ := errors.New("nobody was asked in time"); ; {
		err := s.agree(ctx, topics, nodes)
		if err == nil {
			return ways(s.Topology, nodes)
		}
		if ctx.Err() != nil {
			s.t.Logf("nodes do not agree on positions: %v; at last %v", differ, err)
			return ways(s.Topology, nodes)
		}
		differ = err
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// agree is an error while two nodes say different things of the end of a partition.
func (s *Setup) agree(ctx context.Context, topics []string, nodes []*admin.Client) error {
	if len(nodes) < 2 {
		return nil
	}
	first := ways(s.Topology, nodes[:1])
	for n := range nodes[1:] {
		for i, w := range ways(s.Topology, nodes[n+1:n+2]) {
			for _, site := range s.Sites {
				if site.Name != w.From {
					continue
				}
				ends, err := site.Ends(ctx, topics...)
				if err != nil {
					return err
				}
				for topic, partitions := range ends {
					for p, end := range partitions {
						a, noA := first[i].Translate(ctx, topic, p, end)
						b, noB := w.Translate(ctx, topic, p, end)
						if a != b || (noA == nil) != (noB == nil) {
							return fmt.Errorf("%s:%d at %d from %s is at %d (%v) and at %d (%v) of %s", topic, p, end, w.From, a, noA, b, noB, w.To)
						}
					}
				}
			}
		}
	}
	return nil
}

// running are the nodes of the setup that run.
func (s *Setup) running() (nodes []*admin.Client) {
	for _, n := range *s.made {
		if n.proc != nil && n.proc.Running() {
			nodes = append(nodes, n.API)
		}
	}
	return nodes
}

// asker asks about one direction of one link.
type asker struct {
	node     *Node
	link     topology.Link
	reverse  bool
	rng      *rand.Rand
	asked    int
	wrong    map[error]int // by kind: errWrongPlace and so on
	examples map[error][]error
}

// askAll asks about random offsets of every partition, its beginning and its end, and once through the command line.
func (a *asker) askAll(ctx context.Context, topic string, from, to map[int32]*partitionLog, n int) error {
	for p := range int32(len(from)) {
		if to[p] == nil {
			return fmt.Errorf("%s:%d is not at both ends", topic, p)
		}
		truth := newTruth(from[p], to[p])
		offsets := []int64{0, from[p].end}
		for range n {
			offsets = append(offsets, a.rng.Int64N(from[p].end+1))
		}
		slices.Sort(offsets)
		for _, o := range offsets {
			res, err := a.node.API.Translate(ctx, &adminpb.TranslateRequest{Link: a.link.Name, Topic: topic, Partition: p, Offset: o, Reverse: a.reverse})
			if err != nil {
				return err
			}
			a.asked++
			if err := truth.check(o, res.GetResult(), res.GetExact()); err != nil {
				kind := errors.Unwrap(err)
				a.wrong[kind]++
				if len(a.examples[kind]) < shown {
					a.examples[kind] = append(a.examples[kind], fmt.Errorf("%s:%d: %w", topic, p, err))
				}
			}
		}
	}
	last := int32(len(from) - 1)
	return a.askCLI(ctx, topic, last, from[last].end/2)
}

// askCLI compares what the command line prints with what the API says.
func (a *asker) askCLI(ctx context.Context, topic string, partition int32, offset int64) error {
	res, err := a.node.API.Translate(ctx, &adminpb.TranslateRequest{Link: a.link.Name, Topic: topic, Partition: partition, Offset: offset, Reverse: a.reverse})
	if err != nil {
		return err
	}
	args := []string{"translate", a.link.Name, fmt.Sprintf("%s:%d@%d", topic, partition, offset), "--json"}
	if a.reverse {
		args = append(args, "--reverse")
	}
	out, err := a.node.CLI(ctx, args...)
	if err != nil {
		return err
	}
	var said struct {
		Result *int64 `json:"result"`
		Exact  *bool  `json:"exact"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return fmt.Errorf("%v printed %q: %w", args, out, err)
	}
	if said.Result == nil || said.Exact == nil || *said.Result != res.GetResult() || *said.Exact != res.GetExact() {
		return fmt.Errorf("%v printed %q, the API said %d, exact %v", args, out, res.GetResult(), res.GetExact())
	}
	return nil
}
