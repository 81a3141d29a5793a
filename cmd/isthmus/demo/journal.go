package demo

import (
	"fmt"
	"sync"

	"github.com/isthmus-project/isthmus/checker"
)

// Journal is what producers know of the records they sent. Any goroutine may use it.
type Journal struct {
	run string // makes the uids of this run differ from those of earlier ones in the same logs

	mu      sync.Mutex
	streams map[stream]*[]entry
	counts  Counts
}

// Counts are totals of a journal.
type Counts struct {
	Acked   int64 // acknowledged, in committed transactions where there are any
	Aborted int64
	InDoubt int64 // the producer does not know
}

// stream is the records that one cluster's producers send to one topic.
type stream struct{ cluster, topic string }

// entry is one record; its number in the stream is its index. 16 bytes, because a demo may run for hours.
type entry struct {
	offset    int64
	partition int32
	outcome   checker.Outcome // 0 = nothing was heard yet
}

// newJournal returns an empty journal. run has to differ from run to run.
func newJournal(run string) *Journal {
	return &Journal{run: run, streams: map[stream]*[]entry{}}
}

// uid names a record for ever: its origin, topic, run and number.
func (j *Journal) uid(s stream, number int) string {
	return fmt.Sprintf("%s/%s/%s-%d", s.cluster, s.topic, j.run, number)
}

// next reserves the number of the next record of a stream.
func (j *Journal) next(s stream) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.streams[s]
	if e == nil {
		e = &[]entry{}
		j.streams[s] = e
	}
	*e = append(*e, entry{offset: -1, partition: -1})
	return len(*e) - 1
}

// placed notes where a record was written, without a word on its outcome.
func (j *Journal) placed(s stream, number int, partition int32, offset int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := &(*j.streams[s])[number]
	e.partition, e.offset = partition, offset
}

// ended notes what became of records; each is told once.
func (j *Journal) ended(s stream, o checker.Outcome, numbers ...int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range numbers {
		(*j.streams[s])[n].outcome = o
	}
	switch o {
	case checker.Acked:
		j.counts.Acked += int64(len(numbers))
	case checker.Aborted:
		j.counts.Aborted += int64(len(numbers))
	case checker.InDoubt:
		j.counts.InDoubt += int64(len(numbers))
	}
}

// Counts returns the totals so far.
func (j *Journal) Counts() Counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counts
}

// tell hands all that producers know to the judge. Records that nothing was heard of are in doubt.
func (j *Journal) tell(src *checker.Sources) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for s, entries := range j.streams {
		for i, e := range *entries {
			o := e.outcome
			if o == 0 {
				o = checker.InDoubt
			}
			rec := checker.Record{Topic: s.topic, Partition: e.partition, Offset: e.offset, UID: j.uid(s, i)}
			if err := src.Produced(s.cluster, rec, o); err != nil {
				return fmt.Errorf("tell what was produced: %w", err)
			}
		}
	}
	return nil
}
