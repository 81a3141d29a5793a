package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
)

// repair makes a data directory that was not stopped in order fit for kfake.
// It may itself be interrupted anywhere: it can be done again.
type repair struct {
	dir *dataDir
	log *slog.Logger

	windows   windows
	producers map[int64]producer
	aborted   map[int64]int16 // producer id -> epoch of its open transaction
}

// topicState is what topics.json says of a topic.
type topicState struct {
	Name       string            `json:"name"`
	Partitions int32             `json:"partitions"`
	Configs    map[string]string `json:"configs"`
}

// compacted reports whether kfake compacts the topic.
func (t topicState) compacted() bool {
	return strings.Contains(t.Configs["cleanup.policy"], "compact")
}

func (d *dataDir) topics() ([]topicState, error) {
	raw, err := os.ReadFile(d.file("topics.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var stored struct {
		Topics []topicState `json:"topics"`
	}
	if err := json.Unmarshal(raw, &stored); err != nil {
		return nil, fmt.Errorf("read topics.json: %w", err)
	}
	return stored.Topics, nil
}

// eachPartition reads every partition, one at a time.
func (d *dataDir) eachPartition(topics []topicState, fn func(topicState, *partition) error) error {
	for _, t := range topics {
		for id := range t.Partitions {
			p, err := readPartition(d.path, t.Name, id)
			if err == nil {
				err = fn(t, p)
			}
			if err != nil {
				return fmt.Errorf("partition %s-%d: %w", t.Name, id, err)
			}
		}
	}
	return nil
}

// prepare makes the directory fit for kfake: whole if the last stop was not an
// orderly one, else only what kfake would forget.
func (d *dataDir) prepare(log *slog.Logger) error {
	topics, err := d.topics()
	if err != nil {
		return err
	}
	if topics == nil {
		// A first start that was interrupted here would leave a cluster
		// that exists but has none of its topics.
		if err := os.Remove(d.file("meta.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return dirError("remove", d.file("meta.json"), err)
		}
		return nil
	}
	err = os.Remove(d.file(cleanFile))
	switch {
	case err == nil:
		return d.keepEnds(topics)
	case !errors.Is(err, os.ErrNotExist):
		return dirError("remove", d.file(cleanFile), err)
	}
	began := time.Now()
	r := repair{dir: d, log: log}
	if err := r.run(topics); err != nil {
		return fmt.Errorf("repair %s: %w", d.path, err)
	}
	log.Info("embedded cluster checked its data after a stop without warning", "took", time.Since(began))
	return nil
}

// keepEnds looks for empty partitions without reading the others.
func (d *dataDir) keepEnds(topics []topicState) error {
	for _, t := range topics {
		for id := range t.Partitions {
			p := &partition{topic: t.Name, id: id, dataDir: d.path, dir: partitionDir(d.path, t.Name, id)}
			empty, err := p.list()
			if err == nil && empty {
				err = p.keepEnd()
			}
			if err != nil {
				return fmt.Errorf("partition %s-%d: %w", t.Name, id, err)
			}
		}
	}
	return nil
}

// run repairs everything.
func (r *repair) run(topics []topicState) error {
	var err error
	if err = r.stateLogs(); err != nil {
		return err
	}
	if r.windows, err = readWindows(r.dir.file(windowsFile)); err != nil {
		return err
	}
	r.aborted = make(map[int64]int16)
	if err := r.dir.eachPartition(topics, r.partition); err != nil {
		return err
	}
	if err := r.windows.write(r.dir.file(windowsFile)); err != nil {
		return err
	}
	return r.writeProducers()
}

func (r *repair) stateLogs() error {
	for _, name := range stateLogs {
		entries, cut, err := cutTornTail(r.dir.file(name))
		if err != nil {
			return fmt.Errorf("repair %s: %w", name, err)
		}
		if cut > 0 {
			r.log.Warn("embedded cluster cut a torn tail", "file", name, "bytes", cut)
		}
		if name == pidsLog {
			if r.producers, err = producersOf(entries); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *repair) partition(_ topicState, p *partition) error {
	if err := p.restore(); err != nil {
		return err
	}
	cut, err := p.mend()
	if err != nil {
		return err
	}
	if cut > 0 {
		r.log.Warn("embedded cluster cut a torn tail", "topic", p.topic, "partition", p.id, "bytes", cut)
	}
	for id, epoch := range p.openTransactions() {
		r.aborted[id] = max(r.aborted[id], epoch)
		if err := p.abort(id, epoch); err != nil {
			return err
		}
		r.log.Warn("embedded cluster aborted an open transaction", "topic", p.topic, "partition", p.id, "producer_id", id)
	}
	r.windows.replay(p)
	if p.batches == 0 {
		return p.keepEnd()
	}
	return nil
}

// writeProducers adds to pids.log what only the batches know: the producers
// that never asked for an id, and newer epochs. Producers of aborted
// transactions are fenced, and no transactional producer is told any more that
// its last transaction was committed, which kfake would say to a commit of a
// transaction that only had offsets and is forgotten now.
func (r *repair) writeProducers() error {
	epochs := make(map[int64]int16)
	for key, w := range r.windows {
		epochs[key.id] = max(epochs[key.id], w.Epoch)
	}
	var entries []producer
	for id, epoch := range epochs {
		p, known := r.producers[id]
		if !known || p.Epoch < epoch {
			p.Type, p.ID, p.Epoch = "init", id, epoch
			entries = append(entries, p)
			r.producers[id] = p
		}
	}
	no := false
	for id, p := range r.producers {
		epoch, open := r.aborted[id]
		if p.TxID == "" || !open && (p.Commit == nil || !*p.Commit) {
			continue
		}
		if open {
			p.Epoch = max(p.Epoch, epoch) + 1
		}
		entries = append(entries, producer{Type: "endtx", ID: id, Epoch: p.Epoch, Commit: &no})
	}
	slices.SortStableFunc(entries, func(a, b producer) int { return int(b.Type[0]) - int(a.Type[0]) }) // init first
	return appendEntries(r.dir.file(pidsLog), entries)
}
