package nemesis

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/test/judge"
)

// Past is what clusters held and hold no longer.
type Past struct {
	gone map[string][]checker.Record   // by cluster, in the order of their logs
	seen map[string][]checker.Record   // by cluster: what was read on the way
	ids  map[string][]string           // of topics that were made anew, by cluster and topic: what each life but the last had
	cut  map[string]map[cutRecord]bool // by cluster: what was deleted from logs that went on
}

// cutRecord is a record of a log, by the number of the log's life.
type cutRecord struct {
	topic, uid string
	life       int32
}

// NewPast is that of clusters that lost nothing yet.
func NewPast() *Past {
	return &Past{gone: make(map[string][]checker.Record), seen: make(map[string][]checker.Record), ids: make(map[string][]string),
		cut: make(map[string]map[cutRecord]bool)}
}

// Keep reads a stretch of a partition, has it deleted, and keeps what was there.
func (p *Past) Keep(ctx context.Context, c judge.Client, topic string, part int32, from, to int64, remove func() error) error {
	if from >= to {
		return nil
	}
	var out []checker.Record
	if err := judge.ReadPartition(ctx, c, topic, part, from, to, func(r checker.Record) error {
		r.Life = p.Life(c.Name, topic)
		out = append(out, r)
		return nil
	}); err != nil {
		return err
	}
	if err := remove(); err != nil {
		return err
	}
	p.gone[c.Name] = append(p.gone[c.Name], out...)
	return nil
}

// Cut is Keep for the beginning of a log that goes on.
func (p *Past) Cut(ctx context.Context, c judge.Client, topic string, part int32, from, to int64, remove func() error) error {
	was := len(p.gone[c.Name])
	if err := p.Keep(ctx, c, topic, part, from, to, remove); err != nil {
		return err
	}
	if p.cut[c.Name] == nil {
		p.cut[c.Name] = make(map[cutRecord]bool)
	}
	for _, r := range p.gone[c.Name][was:] {
		p.cut[c.Name][cutRecord{topic, r.UID, r.Life}] = true
	}
	return nil
}

// WasCut reports whether a record was deleted from a life of its topic on a cluster before the present one.
func (p *Past) WasCut(cluster, topic, uid string) bool {
	for life := range p.Life(cluster, topic) {
		if p.cut[cluster][cutRecord{topic, uid, life}] {
			return true
		}
	}
	return false
}

// Look reads what a cluster has now, for the judge: what an offset has held it holds, or nothing. Nothing may be made anew meanwhile.
func (p *Past) Look(ctx context.Context, c judge.Client, topics []string) error {
	return judge.Read(ctx, c, topics, func(r checker.Record) error {
		r.Life = p.Life(c.Name, r.Topic)
		p.seen[c.Name] = append(p.seen[c.Name], r)
		return nil
	})
}

// Remade says that a topic was made anew, of which all was kept, and which id it had before. It returns the number of its life.
func (p *Past) Remade(cluster, topic string, id [16]byte) (life int32) {
	at := cluster + "/" + topic
	p.ids[at] = append(p.ids[at], hex.EncodeToString(id[:]))
	return p.Life(cluster, topic)
}

// Life is how often a topic was made anew.
func (p *Past) Life(cluster, topic string) int32 { return int32(len(p.ids[cluster+"/"+topic])) }

// lifeOf is the life in which a topic had an id that it has no longer.
func (p *Past) lifeOf(cluster, topic, id string) (life int32, ok bool) {
	i := slices.Index(p.ids[cluster+"/"+topic], id)
	return int32(i), i >= 0
}

// each hands what a cluster ever held to fn. What was deleted may be there again: a broker that is killed forgets for a minute where
// its logs began.
func (p *Past) each(ctx context.Context, c judge.Client, topics []string, fn func(checker.Record) error) error {
	type log struct {
		topic           string
		partition, life int32
	}
	of := func(r checker.Record) log { return log{r.Topic, r.Partition, r.Life} }
	var now []checker.Record
	begins := make(map[log]int64)
	if err := judge.Read(ctx, c, topics, func(r checker.Record) error {
		r.Life = p.Life(c.Name, r.Topic)
		if _, ok := begins[of(r)]; !ok {
			begins[of(r)] = r.Offset
		}
		now = append(now, r)
		return nil
	}); err != nil {
		return err
	}
	last := make(map[log]int64) // fed, of what is gone: deleted twice it may be kept twice
	for _, r := range p.gone[c.Name] {
		begin, ok := begins[of(r)]
		if fed, again := last[of(r)]; ok && r.Offset >= begin || again && r.Offset <= fed {
			continue
		}
		last[of(r)] = r.Offset
		if err := fn(r); err != nil {
			return err
		}
	}
	for _, r := range now {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}
