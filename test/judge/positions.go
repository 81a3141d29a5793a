package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/topology"
)

// Way is a way from cluster to cluster on which positions are translated. A case that has ways is judged by rule M10 too: for offsets of every
// partition, its beginning and its end among them.
type Way struct {
	From, To string
	// Translate says where somebody goes on at To who has read everything at From before an offset. It returns ErrNoWay for a topic
	// that nobody carries on this way, and ErrNotKnown where there is no answer.
	Translate func(ctx context.Context, topic string, partition int32, offset int64) (int64, error)
	// As is what a topic of From is called at To; nil = the same.
	As func(topic string) string
}

func (w Way) as(topic string) string {
	if w.As == nil {
		return topic
	}
	return w.As(topic)
}

// ErrNoWay is returned by [Way.Translate] for what has no translation, and need not have any.
var ErrNoWay = errors.New("not carried on this way")

// ErrNotKnown is returned by [Way.Translate] for a position of which nothing is said. The checker says whether that may be.
var ErrNotKnown = errors.New("not known where that is")

// stretches is how many equal parts the positions that are asked for divide a partition into.
const stretches = 7

// ask tells the checker what the ways to a target say, and what the logs are at their beginning.
func (c Case) ask(ctx context.Context, target Client, t *checker.Target) error {
	all := slices.Clone(c.Positions[target.Name])
	if err := within(ctx, target, c.Topics, all, func(topic string) string { return topic }); err != nil {
		return err
	}
	for _, w := range c.Ways {
		i := slices.IndexFunc(c.Clusters, func(from Client) bool { return from.Name == w.From })
		if w.To != target.Name || i < 0 {
			continue
		}
		said, err := w.Positions(ctx, c.Clusters[i], target, c.Topics)
		if err != nil {
			return err
		}
		for _, p := range said {
			p.Topic = c.of(w.From, checker.Record{Topic: p.Topic}).Topic
			all = append(all, p)
		}
	}
	read := make(map[string]bool)
	for _, p := range all {
		read[p.Cluster] = true
		if err := t.Position(p); err != nil {
			return err
		}
	}
	for _, from := range c.Clusters { // after all positions are known
		if !read[from.Name] {
			continue
		}
		err := Read(ctx, from, c.Topics, func(r checker.Record) error {
			t.Hop(from.Name, c.of(from.Name, r))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Positions are what a way says of the partitions that both its ends have.
func (w Way) Positions(ctx context.Context, from, to Client, topics []string) (all []checker.Position, err error) {
	_, ends, err := logBounds(ctx, from, topics)
	if err != nil {
		return nil, err
	}
	_, there, err := logBounds(ctx, to, topics)
	if err != nil {
		return nil, err
	}
	for _, end := range ends.Offsets().Sorted() {
		if has, ok := there.Lookup(w.as(end.Topic), end.Partition); !ok || has.Err != nil {
			continue
		}
		for i := range int64(stretches + 1) {
			at := end.At * i / stretches
			target, err := w.Translate(ctx, end.Topic, end.Partition, at)
			if errors.Is(err, ErrNoWay) {
				break
			}
			if errors.Is(err, ErrNotKnown) {
				target, err = -1, nil
			}
			if err != nil {
				return nil, fmt.Errorf("translate from %s to %s: %w", w.From, w.To, err)
			}
			all = append(all, checker.Position{Group: fmt.Sprintf("at %d of %d", at, end.At), Cluster: w.From, Topic: end.Topic, Partition: end.Partition,
				Source: at, Target: target})
		}
	}
	return all, within(ctx, to, topics, all, w.as)
}

// within tells positions between which offsets the logs at their target lie; as is what their topics are called there.
func within(ctx context.Context, to Client, topics []string, all []checker.Position, as func(string) string) error {
	starts, ends, err := logBounds(ctx, to, topics)
	if err != nil {
		return err
	}
	for i := range all {
		p := &all[i]
		start, _ := starts.Lookup(as(p.Topic), p.Partition)
		end, _ := ends.Lookup(as(p.Topic), p.Partition)
		p.Start, p.End = start.Offset, end.Offset
	}
	return nil
}

// logBounds lists where the logs of the topics that a cluster has begin, and their high watermarks.
func logBounds(ctx context.Context, c Client, topics []string) (starts, ends kadm.ListedOffsets, err error) {
	cl, err := kgo.NewClient(c.options()...)
	if err != nil {
		return nil, nil, fmt.Errorf("make a reader for %s: %w", c.Name, err)
	}
	defer cl.Close()
	if starts, err = kadm.NewClient(cl).ListStartOffsets(ctx, topics...); err != nil {
		return nil, nil, fmt.Errorf("list the starts of %s: %w", c.Name, err)
	}
	if ends, err = kadm.NewClient(cl).ListEndOffsets(ctx, topics...); err != nil {
		return nil, nil, fmt.Errorf("list the ends of %s: %w", c.Name, err)
	}
	return starts, ends, nil
}

// bothWays are those between the ends of a link that carries topics over one hop. ask answers along the link or against it; what is not carried may
// be refused.
func bothWays(topo *topology.Topology, l topology.Link, ask func(ctx context.Context, topic string, partition int32, offset int64, reverse bool) (int64, error)) (ways []Way) {
	for _, reverse := range []bool{false, true} {
		w := Way{From: l.From, To: l.To}
		if reverse {
			w.From, w.To = l.To, l.From
		}
		source := func(topic string) string {
			if reverse {
				topic, _ = l.SourceTopic(topic)
			}
			return topic
		}
		w.As = func(topic string) string {
			if reverse {
				return source(topic)
			}
			topic, _ = topo.TargetTopic(l, topic)
			return topic
		}
		w.Translate = func(ctx context.Context, topic string, partition int32, offset int64) (int64, error) {
			if !topo.Takes(l, source(topic)) {
				return 0, ErrNoWay
			}
			to, err := ask(ctx, source(topic), partition, offset, reverse)
			if err != nil && !errors.Is(err, ErrNotKnown) && len(topo.Route(l.From, l.To, source(topic))) != 1 {
				return 0, ErrNoWay
			}
			return to, err
		}
		ways = append(ways, w)
	}
	return ways
}

// Translator answers as a node's admin API does.
type Translator interface {
	// Translate is that of the admin API.
	Translate(context.Context, *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error)
}

// Ways are both ways of each link, which any of the nodes tells.
func Ways(topo *topology.Topology, nodes ...Translator) (ways []Way) {
	if len(nodes) == 0 {
		return nil
	}
	for _, l := range topo.Links {
		ways = append(ways, bothWays(topo, l, func(ctx context.Context, topic string, partition int32, offset int64, reverse bool) (int64, error) {
			var all error
			for _, n := range nodes {
				res, err := n.Translate(ctx, &adminpb.TranslateRequest{Link: l.Name, Topic: topic, Partition: partition, Offset: offset, Reverse: reverse})
				if err == nil {
					return res.GetResult(), nil
				}
				all = errors.Join(all, err)
			}
			return 0, all
		})...)
	}
	return ways
}
