package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// windowsFile is where kfake stores, at an orderly stop only, which sequence
// numbers it has seen. After kill -9 it is missing or old: then kfake would
// take a repeated batch for a new one, or refuse the right next one. It is
// rebuilt from the batches, as Apache Kafka does.
const windowsFile = "seq_windows.json"

// window is kfake's memory of one producer in one partition.
type window struct {
	ID        int64          `json:"pid"`
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	Entries   [5]windowEntry `json:"entries"`
	Count     uint8          `json:"count"`
	At        uint8          `json:"at"` // where the next entry goes
	Epoch     int16          `json:"epoch"`
	Seen      bool           `json:"seen"`
	Next      int32          `json:"next_seq"`
}

type windowEntry struct {
	First  int32 `json:"first_seq"`
	Next   int32 `json:"next_seq"`
	Offset int64 `json:"offset"`
}

type windowKey struct {
	id        int64
	topic     string
	partition int32
}

// newest is the offset of the last batch that the window knows.
func (w *window) newest() int64 {
	if w.Count == 0 {
		return -1
	}
	return w.Entries[(int(w.At)+len(w.Entries)-1)%len(w.Entries)].Offset
}

// push enters a batch that was accepted.
func (w *window) push(h batch.Header) {
	// kfake wraps one number earlier than Apache Kafka.
	next := int32((int64(h.BaseSequence) + int64(h.LastOffsetDelta) + 1) % math.MaxInt32)
	entry := windowEntry{h.BaseSequence, next, h.BaseOffset}
	if !w.Seen || w.Epoch != h.ProducerEpoch {
		w.Entries, w.At, w.Count = [5]windowEntry{}, 0, 0
	}
	w.Entries[w.At] = entry
	w.At = (w.At + 1) % uint8(len(w.Entries))
	w.Count = min(w.Count+1, uint8(len(w.Entries)))
	w.Seen, w.Epoch, w.Next = true, h.ProducerEpoch, next
}

// windows are all windows of a data directory.
type windows map[windowKey]*window

type windowsJSON struct {
	Version int       `json:"version"`
	Windows []*window `json:"windows"`
}

func readWindows(name string) (windows, error) {
	all := make(windows)
	raw, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	var stored windowsJSON
	if err := json.Unmarshal(raw, &stored); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	for _, w := range stored.Windows {
		if w.Count > uint8(len(w.Entries)) || w.At >= uint8(len(w.Entries)) {
			return nil, fmt.Errorf("read %s: window of producer %d is out of bounds", name, w.ID)
		}
		all[windowKey{w.ID, w.Topic, w.Partition}] = w
	}
	return all, nil
}

// replay enters the batches of a partition that are newer than what the
// windows know. What the windows know beyond the end of the log was never
// stored, and is forgotten.
func (all windows) replay(p *partition) {
	for key, w := range all {
		if key.topic == p.topic && key.partition == p.id && p.batches > 0 && w.newest() >= p.end {
			delete(all, key)
		}
	}
	p.each(func(h batch.Header) {
		if h.ProducerID < 0 || h.Control() {
			return
		}
		key := windowKey{h.ProducerID, p.topic, p.id}
		w := all[key]
		if w == nil {
			w = &window{ID: key.id, Topic: key.topic, Partition: key.partition}
			all[key] = w
		}
		if h.BaseOffset > w.newest() {
			w.push(h)
		}
	})
}

func (all windows) write(name string) error {
	stored := windowsJSON{Version: entryVersion, Windows: make([]*window, 0, len(all))}
	for _, w := range all {
		stored.Windows = append(stored.Windows, w)
	}
	raw, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	return writeFileSync(name, raw)
}
