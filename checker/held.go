package checker

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// held is what each offset of a log held when it was first read.
type held struct {
	logs map[place]*heldLog
	cuts map[place]int64 // offsets from here on were truncated since
}

// heldLog is one partition, in offset order.
type heldLog struct {
	offsets []int64
	sums    []uint64
}

// sum folds uid and contents; 64 bits do, as only two values at one offset are compared.
func sum(r Record, uid key) uint64 {
	h := binary.BigEndian.Uint64(r.Hash[:8])
	return bits.RotateLeft64(uid[0], 17) ^ h
}

func (h *held) keep(r Record, uid key) {
	if h.logs == nil {
		h.logs = map[place]*heldLog{}
	}
	at := place{topic: r.Topic, partition: r.Partition}
	l := h.logs[at]
	if l == nil {
		l = new(heldLog)
		h.logs[at] = l
	}
	l.offsets = append(l.offsets, r.Offset)
	l.sums = append(l.sums, sum(r, uid))
}

// Truncated declares that the target lost its log from an offset on, between Add and
// Reread: other records may be there now.
func (t *Target) Truncated(topic string, partition int32, from int64) {
	if t.held.cuts == nil {
		t.held.cuts = map[place]int64{}
	}
	at := place{topic: topic, partition: partition}
	if old, ok := t.held.cuts[at]; !ok || from < old {
		t.held.cuts[at] = from
	}
}

// Reread takes a record of another read of the target's log, after all of Add and in any
// order, and finds offsets that changed: another record, or one where there was none
// between the first and the last offset that were read. It needs Config.Reread.
func (t *Target) Reread(r Record) error {
	if !t.cfg.Reread {
		return fmt.Errorf("reread record: %s/%d was not kept: %w", r.Topic, r.Partition, ErrLate)
	}
	at := place{topic: r.Topic, partition: r.Partition}
	if cut, ok := t.held.cuts[at]; ok && r.Offset >= cut {
		return nil
	}
	l := t.held.logs[at]
	if l == nil || r.Offset < l.offsets[0] || r.Offset > l.offsets[len(l.offsets)-1] {
		return nil
	}
	i, found := slices.BinarySearch(l.offsets, r.Offset)
	switch {
	case !found:
		t.find(Unstable, r, -1, "there was no record at this offset")
	case l.sums[i] != sum(r, t.src.hash(r.UID)):
		t.find(Unstable, r, -1, "there was another record at this offset")
	}
	return nil
}
