package mirror

import (
	"context"
	"slices"

	"github.com/isthmus-project/isthmus/broker"
)

// chunkRuns is when an open map chunk is closed and a new one begun.
const chunkRuns = 512

// checkpointLoop writes progress to the target, off the hot path.
func (l *Link) checkpointLoop(ctx context.Context) error {
	regularly(ctx, l.cfg.CheckpointEvery, l.flush, func(call context.Context) {
		if err := l.checkpoint(call); err != nil && ctx.Err() == nil {
			l.log.Debug("checkpoint", "error", err)
		}
	})
	return nil
}

// progress is what one pump has to make durable.
type progress struct {
	pump   *pump
	safe   Checkpoint
	chunk  int64 // where the open one began
	chunks []mapChunk
}

// checkpoint writes the map chunks and then the checkpoints of all pumps that
// moved: runs before a durable checkpoint are never found again.
func (l *Link) checkpoint(ctx context.Context) error {
	l.mu.Lock()
	opened := l.opened
	l.mu.Unlock()
	if !opened {
		return nil
	}
	var all []progress
	var chunks, checkpoints, clients []broker.Record
	var told []*pump // what of clients was written
	urgent := l.clients.Swap(false)
	var forged []LedgerEntry
	for _, f := range l.flowList() {
		forged = append(forged, f.forgeries()...)
	}
	for _, p := range l.writers() {
		if r, ok := p.clientNews(urgent, l.now()); ok {
			clients, told = append(clients, r), append(told, p)
		}
		g, ok := p.progress()
		if !ok {
			continue
		}
		all = append(all, g)
		for _, c := range g.chunks {
			chunks = append(chunks, broker.Record{Topic: topicMap, Partition: partitionOf(p.id), Key: c.key(), Value: c.encode()})
		}
		checkpoints = append(checkpoints, checkpointRecord(g.safe))
		for _, key := range append(l.store.stale(g.safe, l.now()), l.store.staleClients(p.id, l.now())...) {
			checkpoints = append(checkpoints, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p.id), Key: key})
		}
	}
	err := l.store.append(ctx, chunks)
	if err == nil {
		err = l.store.append(ctx, clients)
	}
	for _, p := range told {
		p.clientsStored(err)
	}
	if err == nil {
		err = l.store.append(ctx, checkpoints)
	}
	for _, g := range all {
		g.pump.stored(g, err)
	}
	l.dropRetired()
	if len(forged) > 0 {
		if err == nil {
			err = l.store.enter(ctx, forged...)
		}
		if err != nil {
			for _, f := range l.flowList() {
				f.reportAgain()
			}
		}
	}
	return err
}

// writers is all pumps that may have something to write: those that are gone first, whose news is older.
func (l *Link) writers() []*pump {
	l.mu.Lock()
	out := slices.Clone(l.retired)
	l.mu.Unlock()
	for _, f := range l.flowList() {
		out = append(out, f.pumpList()...)
	}
	return out
}

// dropRetired lets go the pumps that have nothing left to write.
func (l *Link) dropRetired() {
	l.mu.Lock()
	retired := l.retired
	l.retired = nil
	l.mu.Unlock()
	retired = slices.DeleteFunc(retired, func(p *pump) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !p.dirty && !p.clients.changed
	})
	l.mu.Lock()
	l.retired = append(l.retired, retired...)
	l.mu.Unlock()
}

func (p *pump) progress() (progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dirty {
		return progress{}, false
	}
	p.dirty = false
	if p.unledLocked() { // it has no beginning that anybody may find
		return progress{}, false
	}
	chunks := cutUp(mapChunk{Pump: p.id, Writer: p.link.writer, First: p.chunk, Runs: p.offsets.Since(p.chunk)})
	return progress{pump: p, safe: p.safe.clone(), chunk: p.chunk, chunks: chunks}, true
}

// stored takes the outcome of writing g.
func (p *pump) stored(g progress, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.dirty = true
		return
	}
	n := len(g.chunks)
	if n == 0 || p.chunk != g.chunk { // the pump was moved meanwhile
		return
	}
	p.closed += n - 1
	p.chunk = g.chunks[n-1].First
	if runs := g.chunks[n-1].Runs; len(runs) >= chunkRuns {
		p.chunk = runs[len(runs)-1].sourceEnd()
		p.closed++
	}
}

// cutUp makes of a chunk as many as it takes for none to be large: a pump that was moved far back writes all that it knows from there on. Each
// begins at a source offset of its own, because that is in its key.
func cutUp(c mapChunk) (out []mapChunk) {
	for from, runs := 0, c.Runs; from < len(runs); {
		to := min(from+chunkRuns, len(runs))
		for to < len(runs) && runs[to].Source == runs[to-1].Source {
			to++
		}
		part := mapChunk{Pump: c.Pump, Writer: c.Writer, First: runs[from].Source, Runs: runs[from:to]}
		if from == 0 {
			part.First = c.First
		}
		out, from = append(out, part), to
	}
	return out
}
