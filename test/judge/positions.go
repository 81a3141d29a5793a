package judge

import (
	"context"
	"errors"
	"fmt"

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
	// that nobody carries on this way.
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

// stretches is how many equal parts the positions that are asked for divide a partition into.
const stretches = 7

// ask tells the checker what the ways to a target say, and what the logs are at their beginning.
func (c Case) ask(ctx context.Context, target Client, t *checker.Target) error {
	here, err := logEnds(ctx, target, c.Topics)
	if err != nil {
		return err
	}
	read := make(map[string]bool)
	for _, p := range c.Positions[target.Name] {
		end, _ := here.Lookup(p.Topic, p.Partition)
		p.End, read[p.Cluster] = end.Offset, true
		if err := t.Position(p); err != nil {
			return err
		}
	}
	for _, w := range c.Ways {
		if w.To != target.Name {
			continue
		}
		for _, from := range c.Clusters {
			if from.Name != w.From {
				continue
			}
			if err := w.ask(ctx, from, c, here, t); err != nil {
				return fmt.Errorf("translate from %s to %s: %w", w.From, w.To, err)
			}
			read[from.Name] = true
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

// ask asks about the partitions of one cluster.
func (w Way) ask(ctx context.Context, from Client, c Case, here kadm.ListedOffsets, t *checker.Target) error {
	ends, err := logEnds(ctx, from, c.Topics)
	if err != nil {
		return err
	}
	for _, end := range ends.Offsets().Sorted() {
		there, ok := here.Lookup(w.as(end.Topic), end.Partition)
		if !ok || there.Err != nil {
			continue
		}
		for i := range int64(stretches + 1) {
			at := end.At * i / stretches
			to, err := w.Translate(ctx, end.Topic, end.Partition, at)
			if errors.Is(err, ErrNoWay) {
				break
			}
			if err != nil {
				return err
			}
			topic := c.of(w.From, checker.Record{Topic: end.Topic}).Topic
			err = t.Position(checker.Position{Group: fmt.Sprintf("at %d of %d", at, end.At), Cluster: w.From, Topic: topic, Partition: end.Partition, Source: at, Target: to, End: there.Offset})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// logEnds lists the high watermarks of the topics that a cluster has.
func logEnds(ctx context.Context, c Client, topics []string) (kadm.ListedOffsets, error) {
	cl, err := kgo.NewClient(c.options()...)
	if err != nil {
		return nil, fmt.Errorf("make a reader for %s: %w", c.Name, err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list the ends of %s: %w", c.Name, err)
	}
	return ends, nil
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
			if err != nil && len(topo.Route(l.From, l.To, source(topic))) != 1 {
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
