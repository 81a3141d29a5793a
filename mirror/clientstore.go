package mirror

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// What pumps have copied of routers' clients has a key of its own, and is not in the checkpoint: that is written every second, and would be two hundred times as long
// where many clients write. Each writer has a record for a pump, and what is known is in all of them, so that who takes a pump over need not read what the one before had copied.

// kindClients is a record of what a writer has copied of a pump's routers' clients.
const kindClients = 'r'

// clientsRate is how many bytes of that in a second a pump writes by itself. A producer takes 40, so that what ten write is durable with each checkpoint, and
// what 500 write every 40 seconds: all of them are written each time.
const clientsRate = 512

// clientRecord is such a record. It is read when somebody asks for it: what is wrong with it is said then.
type clientRecord struct {
	at    int64 // when it was written, by the writer's clock, in milliseconds since 1970; 0: it cannot be read
	value []byte
}

// encodeClients writes them: the epochs of the checkpoint, the time, and each producer.
func encodeClients(epochs int64, now time.Time, all []clientState) []byte {
	e := encoder{formatVersion}
	e.int(now.UnixMilli())
	e.int(epochs)
	e.int(int64(len(all)))
	id, ms := int64(0), now.UnixMilli()
	for _, c := range all {
		e.int(c.ID - id)
		e.int(int64(c.Epoch))
		e.int(int64(c.Last))
		e.int(ms - c.Time)
		e.int(c.next)
		e.int(ms - c.seen)
		e.int(int64(len(c.Batches)))
		last, target, at := c.Last, c.next, c.Time
		for _, b := range slices.Backward(c.Batches) {
			e.int(int64(c.Epoch - b.Epoch))
			e.int(sequenceAhead(last, b.Last))
			e.int(sequenceAhead(b.Last, b.First))
			e.int(target - b.Target)
			e.int(at - b.Time)
			last, target, at = b.First, b.Target, b.Time
		}
		id = c.ID
	}
	return e
}

func decodeClients(p PumpID, writer string, raw []byte) (epochs int64, all []clientState, err error) {
	d := newDecoder(raw)
	ms := d.int()
	epochs = d.int()
	id := int64(0)
	for range d.count() {
		id += d.int()
		c := clientState{ClientProducer: ClientProducer{ID: id, Epoch: int16(d.int()), Last: int32(d.int()), Time: ms - d.int()}}
		c.next, c.seen = d.int(), ms-d.int()
		last, target, at := c.Last, c.next, c.Time
		for range d.count() {
			b := ClientBatch{Epoch: c.Epoch - int16(d.int())}
			b.Last = sequenceAfter(last, -d.int())
			b.First = sequenceAfter(b.Last, -d.int())
			b.Target, b.Time = target-d.int(), at-d.int()
			last, target, at = b.First, b.Target, b.Time
			c.Batches = append(c.Batches, b)
		}
		slices.Reverse(c.Batches)
		if d.err == nil && (c.ID < 0 || c.Epoch < 0 || c.Last < 0 || len(c.Batches) > clientBatches) {
			d.err = fmt.Errorf("producer %d, epoch %d, last sequence %d, %d batches", c.ID, c.Epoch, c.Last, len(c.Batches))
		}
		if d.err != nil {
			return 0, nil, fmt.Errorf("decode what was copied of the clients of %s by %s: %w", p, writer, d.err)
		}
		all = append(all, c)
	}
	if d.err != nil {
		return 0, nil, fmt.Errorf("decode what was copied of the clients of %s by %s: %w", p, writer, d.err)
	}
	return epochs, all, nil
}

// clientNews is what has to be written of a pump's clients now.
func (p *pump) clientNews(urgent bool, now time.Time) (broker.Record, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := &p.clients
	k.expire(now)
	if !k.changed || !urgent && !p.gone && now.Before(k.due) || p.unledLocked() {
		return broker.Record{}, false
	}
	k.changed = false
	r := broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p.id), Key: stateKey(kindClients, p.id, p.link.writer)}
	if len(k.by) > 0 {
		r.Value = encodeClients(p.acked.epochs(), now, k.list())
	} else if !k.written {
		return broker.Record{}, false
	}
	k.due = now.Add(time.Duration(len(r.Value)) * time.Second / clientsRate)
	return r, true
}

// clientsStored takes the outcome of writing them.
func (p *pump) clientsStored(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.clients.changed, p.clients.due = true, time.Time{}
		return
	}
	p.clients.written = len(p.clients.by) > 0
}

// takeClients keeps a record.
func (st *pumpState) takeClients(writer string, value []byte) {
	if st.clients == nil {
		st.clients = make(map[string]clientRecord)
	}
	st.clients[writer] = clientRecord{at: newDecoder(value).int(), value: slices.Clone(value)}
}

// staleClients returns the keys of records in which everything is too old to matter.
func (s *store) staleClients(p PumpID, now time.Time) (keys [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pumps[p]
	if st == nil {
		return nil
	}
	for writer, r := range st.clients {
		if r.at > 0 && !freshClient(r.at+clientsFor.Milliseconds()/2, now) {
			keys = append(keys, stateKey(kindClients, p, writer))
			delete(st.clients, writer)
		}
	}
	return keys
}

// clientsOf is what the writers of a pump, but for one, say of its clients, in each what it copied itself. What was written in epochs before is left out: the logs may be others since.
func (s *store) clientsOf(p PumpID, but string) (all [][]clientState, err error) {
	best, _ := s.best(p)
	s.mu.Lock()
	var records map[string]clientRecord
	if st := s.pumps[p]; st != nil {
		records = maps.Clone(st.clients)
	}
	s.mu.Unlock()
	delete(records, but)
	for _, writer := range slices.Sorted(maps.Keys(records)) {
		epochs, one, err := decodeClients(p, writer, records[writer].value)
		if err != nil {
			return nil, err
		}
		if epochs >= best.epochs() {
			all = append(all, one)
		}
	}
	return all, nil
}

// mergedClients puts together what several owners have copied, in the order of ids. The one that got furthest says what is newest; of the others are the batches before its own.
func mergedClients(all [][]clientState, now time.Time) []ClientProducer {
	states := slices.Concat(all...)
	slices.SortStableFunc(states, func(a, b clientState) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(b.next, a.next)) })
	var out []ClientProducer
	for _, c := range states {
		if !freshClient(c.seen, now) {
			continue
		}
		if n := len(out); n == 0 || out[n-1].ID != c.ID {
			out = append(out, c.ClientProducer)
			continue
		}
		out[len(out)-1].precede(c.Batches)
	}
	return out
}

// precede puts batches in front that are older than all that are there.
func (c *ClientProducer) precede(batches []ClientBatch) {
	for _, b := range slices.Backward(batches) {
		oldest, at := sequenceAfter(c.Last, 1), c.Epoch
		if len(c.Batches) > 0 {
			oldest, at = c.Batches[0].First, c.Batches[0].Epoch
		}
		if len(c.Batches) < clientBatches && (b.Epoch < at || b.Epoch == at && sequenceAhead(b.Last, oldest) < 0) {
			c.Batches = slices.Insert(c.Batches, 0, b)
		}
	}
}

// Producers is what the link from → to has copied of the producers of routers' clients that wrote in the last ten minutes, at most 512 of a partition, in the order of their ids. Only
// what the target has acknowledged counts. It is known where this node copies the partition; of other nodes, and of owners before, it is what they have made durable: what is
// missing then are batches of the last second, of an owner that was killed; of the last 40 seconds where very many write. Batches that other links brought to from are not among them. Its errors are those
// of [Look.Reached], and [ErrNewerFormat].
func (k *Look) Producers(ctx context.Context, from, to, topic string, partition int32) ([]ClientProducer, error) {
	src, err := k.taking(way{from, to, topic, topic}, partition)
	if err == nil {
		err = k.refresh(ctx, src.store)
	}
	var all [][]clientState
	if err == nil {
		all, err = src.clients()
	}
	if err != nil {
		return nil, fmt.Errorf("find which producers of %s:%d of %s are at %s: %w", topic, partition, from, to, err)
	}
	return mergedClients(all, k.set.deps.Now()), nil
}

// clients is what all owners know, each of what it copied. What this node has written of itself is older than what it knows.
func (c copies) clients() ([][]clientState, error) {
	var here [][]clientState
	writer := ""
	if c.pump != nil {
		c.pump.mu.Lock()
		if c.pump.born && !c.pump.gone {
			here, writer = [][]clientState{c.pump.clients.list()}, c.pump.link.writer
		}
		c.pump.mu.Unlock()
	}
	durable, err := c.store.clientsOf(c.id, writer)
	return append(here, durable...), err
}
