package mirror

import (
	"context"
	"fmt"
)

// witness has the ledger say what nobody saw: partitions begin in a topic that was made anew at the source, while others of its first n still
// stand in the one before. That one may have had these too, and records in them that no pump ever looked at.
func (l *Link) witness(ctx context.Context, beginnings []Checkpoint, n int) error {
	if len(beginnings) == 0 {
		return nil
	}
	previous, ok := l.forerunner(beginnings[0], n)
	if !ok {
		return nil
	}
	said := make(map[string]bool)
	for _, e := range l.store.entries() {
		said[e.Pump.String()+e.Detail] = true
	}
	var fresh []LedgerEntry
	for _, c := range beginnings {
		e := LedgerEntry{Link: l.name, Pump: c.Pump, Records: -1, Reason: ReasonRecreated, At: l.now(), Writer: l.writer, log: leftLog,
			Detail: fmt.Sprintf("topic %s was deleted and created again on %s: it was topic %x and is topic %x; it is not known whether it had partition %d before, and what was there",
				c.Pump.Topic, l.spec.From, previous, c.SourceTopicID, c.Pump.Partition)}
		if !said[e.Pump.String()+e.Detail] {
			fresh = append(fresh, e)
		}
	}
	return l.store.enter(ctx, fresh...)
}

// forerunner is the topic that one of the first n partitions still stands in, when that is not the one in which c begins.
func (l *Link) forerunner(c Checkpoint, n int) (id [16]byte, ok bool) {
	p := c.Pump
	for i := range n {
		p.Partition = int32(i)
		if other, known := l.store.best(p); known && otherTopic(other.SourceTopicID, c.SourceTopicID) {
			return other.SourceTopicID, true
		}
	}
	return id, false
}
