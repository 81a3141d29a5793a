package mirror

import (
	"context"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

// chunkRuns is when an open map chunk is closed and a new one begun.
const chunkRuns = 512

// checkpointLoop writes progress to the target, off the hot path.
func (l *Link) checkpointLoop(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		call, cancel := context.WithTimeout(ctx, refreshTimeout)
		err := l.checkpoint(call)
		cancel()
		if err != nil && ctx.Err() == nil {
			l.log.Debug("checkpoint", "error", err)
		}
	}
}

// progress is what one pump has to make durable.
type progress struct {
	pump  *pump
	safe  Checkpoint
	chunk mapChunk
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
	var chunks, checkpoints []broker.Record
	var forged []LedgerEntry
	for _, f := range l.flowList() {
		forged = append(forged, f.forgeries()...)
		for _, p := range f.pumpList() {
			g, ok := p.progress()
			if !ok {
				continue
			}
			all = append(all, g)
			if len(g.chunk.Runs) > 0 {
				chunks = append(chunks, broker.Record{Topic: topicMap, Partition: partitionOf(p.id), Key: g.chunk.key(), Value: g.chunk.encode()})
			}
			checkpoints = append(checkpoints, checkpointRecord(g.safe))
			for _, key := range l.store.stale(g.safe) {
				checkpoints = append(checkpoints, broker.Record{Topic: topicCheckpoints, Partition: partitionOf(p.id), Key: key})
			}
		}
	}
	err := l.store.append(ctx, chunks)
	if err == nil {
		err = l.store.append(ctx, checkpoints)
	}
	for _, g := range all {
		g.pump.stored(g, err)
	}
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

func (p *pump) progress() (progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dirty {
		return progress{}, false
	}
	p.dirty = false
	runs := p.offsets.Since(p.chunk)
	g := progress{pump: p, safe: p.safe.clone(), chunk: mapChunk{Pump: p.id, Writer: p.link.writer, First: p.chunk, Runs: runs}}
	return g, true
}

// stored takes the outcome of writing g.
func (p *pump) stored(g progress, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.dirty = true
		return
	}
	if n := len(g.chunk.Runs); n >= chunkRuns {
		p.chunk = g.chunk.Runs[n-1].sourceEnd()
	}
}
