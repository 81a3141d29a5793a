package demo

import (
	"context"
	"fmt"
	"strings"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/checker"
)

// Verdict is what the judge found, as the last line of isthmus demo --json.
type Verdict struct {
	OK bool `json:"ok"` // nothing was lost, repeated, reordered, changed, made up or looped
	// Produced are the records that producers know to be written in this run, Aborted those of aborted transactions, InDoubt
	// those whose fate they do not know.
	Produced int64 `json:"produced"`
	Aborted  int64 `json:"aborted"`
	InDoubt  int64 `json:"in_doubt"`
	// Mirrored are the copies that are in their place, at all clusters together. It counts earlier runs in the same data
	// directory too, as do all numbers below.
	Mirrored   int64 `json:"mirrored"`
	Lost       int64 `json:"lost"` // at a target; with records that a source itself has lost
	Duplicates int64 `json:"duplicates"`
	Reordered  int64 `json:"reordered"`
	Corrupt    int64 `json:"corrupt"` // other contents, time, partition or topic
	Looped     int64 `json:"looped"`
	Phantom    int64 `json:"phantom"` // aborted, or never produced
	Foreign    int64 `json:"foreign"` // not written by this demo; not judged
	// Clusters has the counts of each cluster, by name.
	Clusters map[string]ClusterCount `json:"clusters"`
	// Examples are the first findings, in words.
	Examples []string `json:"examples,omitempty"`
}

// ClusterCount is what one cluster holds.
type ClusterCount struct {
	Records  int64 `json:"records"`  // all that an ordinary consumer reads
	Own      int64 `json:"own"`      // of them first produced here
	Mirrored int64 `json:"mirrored"` // of them copies in their place
	Expected int64 `json:"expected"` // copies that should be there
}

// Judge reads every cluster back and judges each as the target of all others. Producers must have stopped.
func (d *Demo) Judge(ctx context.Context) (Verdict, error) {
	counts := d.Counts()
	v := Verdict{
		Produced: counts.Acked, Aborted: counts.Aborted, InDoubt: counts.InDoubt, Clusters: map[string]ClusterCount{},
	}
	src := checker.NewSources()
	for _, c := range d.clusters {
		err := read(ctx, c, func(r broker.Record) error {
			if rec, ok := judged(r); ok {
				return src.Add(c.Name(), rec)
			}
			v.Foreign++
			return nil
		})
		if err != nil {
			return v, err
		}
	}
	if err := d.journal.tell(src); err != nil {
		return v, err
	}
	v.OK = v.Produced > 0
	v.Lost = src.Missing()
	if v.Lost > 0 {
		v.OK = false
		v.Examples = append(v.Examples, fmt.Sprintf("%d acknowledged records are not in the log of the cluster that acknowledged them", v.Lost))
	}
	for _, c := range d.clusters {
		if err := d.judgeTarget(ctx, src, c, &v); err != nil {
			return v, err
		}
	}
	return v, nil
}

// judgeTarget adds the verdict on one cluster.
func (d *Demo) judgeTarget(ctx context.Context, src *checker.Sources, c *broker.Cluster, v *Verdict) error {
	t := src.Target(checker.Config{Cluster: c.Name(), Mode: checker.ExactlyOnce, Complete: true})
	var count ClusterCount
	err := read(ctx, c, func(r broker.Record) error {
		count.Records++
		if rec, ok := judged(r); ok {
			return t.Add(rec)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r := t.Report()
	count.Own, count.Mirrored, count.Expected = r.Own, r.Copied, r.Expected
	v.Clusters[c.Name()] = count
	v.Mirrored += r.Copied
	v.Lost += r.Count(checker.Lost)
	v.Duplicates += r.Count(checker.Duplicate)
	v.Reordered += r.Count(checker.Reorder)
	v.Corrupt += r.Count(checker.Corrupt) + r.Count(checker.Misrouted)
	v.Looped += r.Count(checker.Loop)
	v.Phantom += r.Count(checker.Phantom)
	v.OK = v.OK && r.OK() && r.Copied == r.Expected
	if !r.OK() {
		v.Examples = append(v.Examples, strings.Split(strings.TrimSpace(c.Name()+": "+r.String()), "\n")...)
	}
	return nil
}

// String tells a person.
func (v Verdict) String() string {
	var b strings.Builder
	word := "ok: every record is everywhere exactly once, in order and unchanged"
	if !v.OK {
		word = "NOT OK"
	}
	fmt.Fprintf(&b, "%s\n", word)
	fmt.Fprintf(&b, "  produced %d, aborted %d, in doubt %d, mirrored %d\n", v.Produced, v.Aborted, v.InDoubt, v.Mirrored)
	fmt.Fprintf(&b, "  lost %d, duplicates %d, reordered %d, corrupt %d, looped %d, phantom %d\n",
		v.Lost, v.Duplicates, v.Reordered, v.Corrupt, v.Looped, v.Phantom)
	for _, s := range sites {
		if c, ok := v.Clusters[s.cluster]; ok {
			fmt.Fprintf(&b, "  %s holds %d records: %d of its own, %d of %d mirrored\n", s.cluster, c.Records, c.Own, c.Mirrored, c.Expected)
		}
	}
	for _, e := range v.Examples {
		fmt.Fprintf(&b, "  ! %s\n", e)
	}
	return b.String()
}
