package nemesis

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/checker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/topology"
)

// Evidence is all that is known of a run.
type Evidence struct {
	Clients  []judge.Client
	Topics   []string
	Topology *topology.Topology
	Past     *Past
	Log      *judge.Log
	Ledger   []mirror.LedgerEntry
	// Ways say where positions in the present logs are at the other end of a link.
	Ways []judge.Way
	// Idle is for how long nothing has been written, with all well; StallAfter how long copying may take then.
	Idle, StallAfter time.Duration
}

// Judge has the checker judge every cluster by all that was ever in their logs and by the ledger, and says what is wrong.
func (e Evidence) Judge(ctx context.Context) (wrong []string, err error) {
	logs := make(map[string][]checker.Record)
	src := checker.NewSources()
	for _, c := range e.Clients {
		if err := e.Past.each(ctx, c, e.Topics, func(r checker.Record) error {
			logs[c.Name] = append(logs[c.Name], r)
			if r.Origin != c.Name {
				return nil
			}
			return src.Add(c.Name, r)
		}); err != nil {
			return nil, err
		}
	}
	if err := e.Log.Tell(src); err != nil {
		return nil, err
	}
	for _, c := range e.Clients {
		for _, topic := range e.Topics {
			src.Remade(c.Name, topic, e.Past.Life(c.Name, topic))
		}
	}
	for _, c := range e.Clients {
		r, err := e.target(ctx, src, c, logs)
		if err != nil {
			return nil, err
		}
		if !r.OK() {
			wrong = append(wrong, fmt.Sprintf("%s: %v\n%v", c.Name, r.Violated(), r))
		}
	}
	if len(wrong) > 0 {
		for _, entry := range e.Ledger {
			wrong = append(wrong, fmt.Sprintf("ledger: %+v", entry))
		}
	}
	return wrong, nil
}

// target judges one cluster.
func (e Evidence) target(ctx context.Context, src *checker.Sources, to judge.Client, logs map[string][]checker.Record) (checker.Report, error) {
	name := to.Name
	t := src.Target(checker.Config{Cluster: name, Idle: e.Idle, StallAfter: e.StallAfter, Reread: true, Carries: func(origin, topic string) bool {
		return len(e.Topology.Route(origin, name, topic)) > 0
	}})
	for _, entry := range e.Ledger {
		if !e.passes(name, entry.Pump.Topic, entry.Pump.From, entry.Pump.To) {
			continue
		}
		if err := e.tell(t, entry); err != nil {
			return checker.Report{}, err
		}
	}
	if err := e.wentAlong(t, name, logs); err != nil {
		return checker.Report{}, err
	}
	asked, err := e.ask(ctx, t, to)
	if err != nil {
		return checker.Report{}, err
	}
	for hop, recs := range logs {
		for _, r := range recs {
			switch {
			case e.over(r.Origin, name, r.Topic, hop, ""):
				t.Hop(hop, r)
			case asked[hop]:
				t.At(hop, r, !e.over(r.Origin, hop, r.Topic, name, ""))
			}
		}
	}
	for _, r := range logs[name] {
		if r.Life < e.Past.Life(name, r.Topic) {
			continue // went with a topic that was made anew
		}
		if err := t.Add(r); err != nil {
			return checker.Report{}, err
		}
	}
	for _, r := range e.Past.seen[name] {
		if r.Life < e.Past.Life(name, r.Topic) {
			continue
		}
		if err := t.Reread(r); err != nil {
			return checker.Report{}, err
		}
	}
	return t.Report(), nil
}

// ask tells a judge where positions are at its target, and returns in which clusters' logs.
func (e Evidence) ask(ctx context.Context, t *checker.Target, to judge.Client) (in map[string]bool, err error) {
	in = make(map[string]bool)
	for _, w := range e.Ways {
		i := slices.IndexFunc(e.Clients, func(c judge.Client) bool { return c.Name == w.From })
		if w.To != to.Name || i < 0 {
			continue
		}
		all, err := w.Positions(ctx, e.Clients[i], to, e.Topics)
		if err != nil {
			return nil, err
		}
		in[w.From] = true
		for _, p := range all {
			p.Life = e.Past.Life(p.Cluster, p.Topic)
			if err := t.Position(p); err != nil {
				return nil, err
			}
		}
	}
	return in, nil
}

// wentAlong excuses what no ledger can tell of: where a target's topic was made anew, all that it had is gone, also of the lives that its sources
// have no longer. The ledger says that it was made anew, and what was copied again; of what both ends had deleted before nobody keeps where it was.
func (e Evidence) wentAlong(t *checker.Target, name string, logs map[string][]checker.Record) error {
	for cluster, recs := range logs {
		for _, r := range recs {
			if cluster == name || r.Origin != cluster || e.Past.Life(name, r.Topic) == 0 {
				continue
			}
			forgotten := e.Past.cut[cluster][cutRecord{r.Topic, r.UID, r.Life}] && e.Past.WasCut(name, r.Topic, r.UID)
			if r.Life == e.Past.Life(cluster, r.Topic) && !forgotten {
				continue
			}
			if err := t.Ledger(checker.Range{Cluster: cluster, Topic: r.Topic, Partition: r.Partition, Life: r.Life, First: r.Offset, Last: r.Offset,
				Kind: checker.Perhaps}); err != nil {
				return err
			}
		}
	}
	return nil
}

// over reports whether records of an origin come to a target over a link of two clusters; to "": over any from there.
func (e Evidence) over(origin, target, topic, from, to string) bool {
	for _, l := range e.Topology.Route(origin, target, topic) {
		if l.From == from && (l.To == to || to == "") {
			return true
		}
	}
	return false
}

// passes reports whether any records come to a target over a link.
func (e Evidence) passes(target, topic, from, to string) bool {
	for _, origin := range e.Clients {
		if e.over(origin.Name, target, topic, from, to) {
			return true
		}
	}
	return false
}

// anew finds whose topic was made anew by an entry of the ledger, and which one it was before.
var anew = regexp.MustCompile(`created again on (\S+): it was topic ([0-9a-f]{32}) and is topic ([0-9a-f]{32});`)

// tell hands an entry of the ledger to the judge of a target behind its link.
func (e Evidence) tell(t *checker.Target, l mirror.LedgerEntry) error {
	from, topic := l.Pump.From, l.Pump.Topic
	r := checker.Range{Cluster: from, Topic: topic, Partition: l.Pump.Partition, First: l.First, Last: l.Last}
	if l.Reason == mirror.ReasonRecreated {
		said := anew.FindStringSubmatch(l.Detail)
		if said == nil {
			return fmt.Errorf("the ledger does not say which topic was made anew: %q", l.Detail)
		}
		if said[1] != from {
			return nil // the target's: what is copied again has entries of its own
		}
		life, ok := e.Past.lifeOf(from, topic, said[2])
		if !ok {
			return fmt.Errorf("the ledger has a topic that nobody made: %q", l.Detail)
		}
		next, ok := e.Past.lifeOf(from, topic, said[3])
		if !ok {
			next = e.Past.Life(from, topic)
		}
		// Of what was made and deleted again in between nobody has seen anything.
		for r.Kind, r.Life = checker.Recreated, life; r.Life < next; r.Life++ {
			if err := t.Ledger(r); err != nil {
				return err
			}
			r.First, r.Last = 0, 0
		}
		return nil
	}
	lives := e.Past.Life(from, topic)
	for _, kind := range judge.Kinds(string(l.Reason), l.Records) {
		// An entry does not say of which life it is. And who anchors a partition may go back behind what an anchor left out before: that is
		// copied after all.
		if kind == checker.Missing && (lives > 0 || l.Reason == mirror.ReasonAnchored) {
			kind = checker.Perhaps
		}
		kinds := []checker.LedgerKind{kind}
		if l.Reason == mirror.ReasonAnchored {
			kinds = append(kinds, checker.Reordered)
		}
		for _, r.Kind = range kinds {
			for r.Life = range lives + 1 {
				if err := t.Ledger(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
