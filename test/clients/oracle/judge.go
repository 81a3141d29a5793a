package oracle

import (
	"fmt"
	"maps"
	"slices"
)

// Record is one that is stored.
type Record struct{ Offset, ID int64 }

// Log is what readers of committed records find in a topic, by partition, in the order of offsets.
type Log map[int32][]Record

// Promise is what clients were promised. The zero value is the strongest: what was acknowledged is stored once and in order, what was read was
// read once, and nobody was told of any trouble.
type Promise struct {
	// Lossy lets acknowledged records be missing (acks=0, while brokers come and go).
	Lossy bool
	// Repeats lets producers that are not idempotent store a record twice and out of order.
	Repeats bool
	// Rereads lets groups read again what was not committed when a partition moved.
	Rereads bool
	// Errors lets clients report trouble that does not end them, and lose partitions.
	Errors bool
	// GivenUp lets producers give up records.
	GivenUp bool
	// Tail lets records that were acknowledged, or read, at one place be stored at another, once, behind later ones: a home was lost that had them. Groups may go on where they were
	// before, and commit that.
	Tail bool
	// Unread lets records be unread: the readers were not waited for.
	Unread bool
}

// Judge says what is wrong in a history, nothing if it is good. Each kind of wrong is one line with how often it was and one example.
func Judge(history []Event, stored Log, p Promise) []string {
	j := &judge{promise: p, stored: stored, at: make(map[int64][]place), moved: make(map[int64]bool), found: make(map[string]*finding)}
	for _, part := range slices.Sorted(maps.Keys(stored)) {
		for i, r := range stored[part] {
			j.at[r.ID] = append(j.at[r.ID], place{part, r.Offset})
			if i > 0 && r.Offset <= stored[part][i-1].Offset {
				j.say("the log is not in order", "partition %d, offset %d", part, r.Offset)
			}
		}
	}
	j.troubles(history)
	j.writers(history)
	j.readers(history)
	return j.lines()
}

type place struct {
	partition int32
	offset    int64
}

type finding struct {
	times   int
	example string
}

type judge struct {
	promise Promise
	stored  Log
	at      map[int64][]place // where each id is
	moved   map[int64]bool    // those of a tail
	found   map[string]*finding
	order   []string
}

func (j *judge) say(what, example string, args ...any) {
	f := j.found[what]
	if f == nil {
		f = &finding{example: fmt.Sprintf(example, args...)}
		j.found[what] = f
		j.order = append(j.order, what)
	}
	f.times++
}

func (j *judge) lines() (out []string) {
	for _, what := range j.order {
		out = append(out, fmt.Sprintf("%s: %d times, first %s", what, j.found[what].times, j.found[what].example))
	}
	return out
}

// troubles are what libraries told their users.
func (j *judge) troubles(history []Event) {
	for _, e := range history {
		switch {
		case e.Kind == Error && e.Fatal:
			j.say("a client ended in trouble", "%s: %s", e.Run, e.Text)
		case e.Kind == Error && !j.promise.Errors:
			j.say("a client reported an error", "%s: %s", e.Run, e.Text)
		case e.Kind == Failed && !j.promise.GivenUp:
			j.say("a record was given up", "%s: id %d: %s", e.Run, e.ID, e.Text)
		case e.Kind == Lost && !j.promise.Errors:
			j.say("partitions were taken away", "%s: %v", e.Run, e.Partitions)
		}
	}
}

// writers compares what producers were told with what is stored.
func (j *judge) writers(history []Event) {
	type transaction struct {
		run string
		tx  int64
	}
	ended := make(map[transaction]string)
	writer := make(map[int64]string) // of each id
	for _, e := range history {
		switch e.Kind {
		case Commit, Abort:
			ended[transaction{e.Run, e.Tx}] = e.Kind
		case Sending:
			for id := e.ID; id <= e.To; id++ {
				writer[id] = e.Run
			}
		}
	}
	for _, e := range history {
		if e.Kind != Acked {
			continue
		}
		places := j.at[e.ID]
		end := ended[transaction{e.Run, e.Tx}]
		switch {
		case e.Tx > 0 && end == Abort && len(places) > 0:
			j.say("aborted and stored", "%s: id %d at %v", e.Run, e.ID, places)
		case e.Tx > 0 && end != Commit: // aborted, or nobody knows
		case len(places) == 0 && !j.promise.Lossy:
			j.say("acknowledged and not stored", "%s: id %d", e.Run, e.ID)
		case len(places) > 0 && e.Offset >= 0 && !slices.Contains(places, place{e.Partition, e.Offset}):
			if j.promise.Tail {
				j.moved[e.ID] = true
				continue
			}
			j.say("acknowledged elsewhere", "%s: id %d at partition %d, offset %d, stored at %v", e.Run, e.ID, e.Partition, e.Offset, places)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(j.at)) {
		if writer[id] == "" {
			j.say("stored and sent by nobody", "id %d at %v", id, j.at[id])
		}
		if len(j.at[id]) > 1 && !j.promise.Repeats {
			j.say("stored twice", "id %d at %v", id, j.at[id])
		}
	}
	if j.promise.Repeats {
		return
	}
	for _, part := range slices.Sorted(maps.Keys(j.stored)) {
		last := make(map[string]int64) // by writer
		for _, r := range j.stored[part] {
			w := writer[r.ID]
			if j.moved[r.ID] {
				continue
			}
			if before, ok := last[w]; ok && r.ID < before {
				j.say("stored out of order", "%s: id %d after %d in partition %d", w, r.ID, before, part)
			}
			last[w] = r.ID
		}
	}
}
