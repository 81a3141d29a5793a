package embedded

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// partition is the log of one partition as it lies in the data directory:
// segments named after their first offset, each with record batches as on the
// wire (.dat) and one entry per batch (.idx):
//
//	1 version
//	1 checksum  lowest byte of the CRC-32C of the rest
//	4 leader epoch, little endian, as all here
//	8 largest timestamp before; kfake does not read it
//	1 flags     1: data of a transaction
type partition struct {
	topic   string
	id      int32
	dataDir string // of the whole cluster
	dir     string

	segments []segment
	end      int64 // offset after the last batch; 0 without batches
	batches  int
}

type segment struct {
	base    int64
	headers []batch.Header
	size    int64 // of the whole batches
	torn    int64 // bytes after them
}

const indexEntry = 15

func (s segment) path(dir, ext string) string {
	return filepath.Join(dir, strconv.FormatInt(s.base, 10)+ext)
}

// partitionDir is where kfake keeps a partition.
func partitionDir(dataDir, topic string, id int32) string {
	return filepath.Join(dataDir, "partitions", fmt.Sprintf("%s-%d", url.PathEscape(topic), id))
}

// readPartition reads the headers of all whole batches. It changes nothing.
func readPartition(dataDir, topic string, id int32) (*partition, error) {
	p := &partition{topic: topic, id: id, dataDir: dataDir, dir: partitionDir(dataDir, topic, id)}
	names, err := os.ReadDir(p.dir)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	return p, p.read(names)
}

// list finds the segments without reading them, and whether all are empty.
func (p *partition) list() (empty bool, err error) {
	names, err := os.ReadDir(p.dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	p.segments = segmentsOf(names)
	for _, s := range p.segments {
		if info, err := os.Stat(s.path(p.dir, ".dat")); err != nil || info.Size() > 0 {
			return false, err
		}
	}
	return true, nil
}

func segmentsOf(names []os.DirEntry) []segment {
	var all []segment
	for _, n := range names {
		text, ok := strings.CutSuffix(n.Name(), ".dat")
		if base, err := strconv.ParseInt(text, 10, 64); ok && err == nil {
			all = append(all, segment{base: base})
		}
	}
	slices.SortFunc(all, func(a, b segment) int { return cmp.Compare(a.base, b.base) })
	return all
}

func (p *partition) read(names []os.DirEntry) error {
	p.segments = segmentsOf(names)
	for i := range p.segments {
		if err := p.readSegment(&p.segments[i]); err != nil {
			return err
		}
	}
	return nil
}

// readSegment stops where kfake stops: at the first batch that is not whole or
// whose checksum is wrong.
func (p *partition) readSegment(s *segment) error {
	raw, err := os.ReadFile(s.path(p.dir, ".dat"))
	if err != nil {
		return err
	}
	for rest := raw; len(rest) > 0; {
		h, one, after, err := batch.Next(rest)
		if err != nil || !batch.VerifyCRC(one) {
			break
		}
		s.headers = append(s.headers, h)
		s.size += int64(len(one))
		p.end = h.NextOffset()
		p.batches++
		rest = after
	}
	s.torn = int64(len(raw)) - s.size
	return nil
}

// each calls fn for every batch in order.
func (p *partition) each(fn func(batch.Header)) {
	for _, s := range p.segments {
		for _, h := range s.headers {
			fn(h)
		}
	}
}

// mend cuts torn batches and makes each index fit its segment. An index that
// is short by one, as kill -9 leaves it, would be off by one for ever.
func (p *partition) mend() (cut int64, err error) {
	for _, s := range p.segments {
		if s.torn > 0 {
			cut += s.torn
			if err := os.Truncate(s.path(p.dir, ".dat"), s.size); err != nil {
				return cut, err
			}
		}
		if err := p.mendIndex(s); err != nil {
			return cut, err
		}
	}
	return cut, nil
}

func (p *partition) mendIndex(s segment) error {
	name := s.path(p.dir, ".idx")
	was, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	now := make([]byte, 0, len(s.headers)*indexEntry)
	for i, h := range s.headers {
		if old := was[min(i*indexEntry, len(was)):]; len(old) >= indexEntry && old[1] == indexSum(old[:indexEntry]) {
			now = append(now, old[:indexEntry]...)
			continue
		}
		now = append(now, indexOf(h)...)
	}
	if bytes.Equal(was, now) {
		return nil
	}
	return writeFileSync(name, now)
}

func indexOf(h batch.Header) []byte {
	e := make([]byte, indexEntry)
	e[0] = entryVersion
	binary.LittleEndian.PutUint32(e[2:], uint32(h.LeaderEpoch))
	binary.LittleEndian.PutUint64(e[6:], uint64(h.MaxTimestamp))
	if h.Transactional() && !h.Control() {
		e[14] = 1
	}
	e[1] = indexSum(e)
	return e
}

func indexSum(e []byte) byte { return byte(crc32.Checksum(e[2:], castagnoli)) }

// openTransactions are the producer ids with data after their last marker,
// each with the epoch of that data.
func (p *partition) openTransactions() map[int64]int16 {
	open := make(map[int64]int16)
	p.each(func(h batch.Header) {
		switch {
		case h.Control():
			delete(open, h.ProducerID)
		case h.Transactional():
			open[h.ProducerID] = h.ProducerEpoch
		}
	})
	return open
}

// abort appends a marker that ends a producer's transaction, as a transaction
// coordinator would: without one, readers take the producer's later,
// committed transactions for a part of the aborted one.
func (p *partition) abort(id int64, epoch int16) error {
	i := len(p.segments) - 1
	for len(p.segments[i].headers) == 0 {
		i-- // kfake forgets a segment without batches
	}
	last := &p.segments[i]
	h, raw := abortMarker(p.end, last.headers[len(last.headers)-1].LeaderEpoch, id, epoch)
	if err := appendFile(last.path(p.dir, ".dat"), raw); err != nil {
		return err
	}
	last.headers = append(last.headers, h)
	last.size += int64(len(raw))
	p.end = h.NextOffset()
	p.batches++
	return appendFile(last.path(p.dir, ".idx"), indexOf(h))
}

func abortMarker(offset int64, leaderEpoch int32, id int64, epoch int16) (batch.Header, []byte) {
	key := kmsg.ControlRecordKey{Type: kmsg.ControlRecordKeyTypeAbort}
	value := kmsg.EndTxnMarker{}
	rec := kmsg.Record{Key: key.AppendTo(nil), Value: value.AppendTo(nil)}
	rec.Length = int32(len(rec.AppendTo(nil)) - 1) // without the one byte of itself
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		FirstOffset:          offset,
		PartitionLeaderEpoch: leaderEpoch,
		Magic:                2,
		Attributes:           0b11_0000, // control, transactional
		FirstTimestamp:       now,
		MaxTimestamp:         now,
		ProducerID:           id,
		ProducerEpoch:        epoch,
		FirstSequence:        -1,
		NumRecords:           1,
		Records:              rec.AppendTo(nil),
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], castagnoli))
	h, err := batch.ParseHeader(raw)
	if err != nil {
		panic(fmt.Sprintf("embedded: own marker is not a batch: %v", err)) // cannot be
	}
	return h, raw
}

// keepEnd makes kfake remember where an empty partition ended. It takes the
// end of a log from its batches, so a partition whose records were all deleted
// would count from 0 again, under the feet of every consumer. An empty segment
// and a snapshot that fits it say otherwise.
func (p *partition) keepEnd() error {
	name := filepath.Join(p.dir, "snapshot.json")
	raw, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	snap := make(map[string]any)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&snap); err != nil {
		return nil // kfake ignores it too
	}
	mark, _ := snap["high_watermark"].(json.Number)
	end, err := mark.Int64()
	if err != nil || end <= 0 {
		return nil
	}
	for _, s := range p.segments {
		if err := errors.Join(os.Remove(s.path(p.dir, ".dat")), os.RemoveAll(s.path(p.dir, ".idx"))); err != nil {
			return err
		}
	}
	empty := segment{base: end}
	if err := os.WriteFile(empty.path(p.dir, ".dat"), nil, 0o644); err != nil {
		return err
	}
	snap["log_start_offset"], snap["last_stable_offset"] = mark, mark
	snap["segments"] = []map[string]any{{"base_offset": mark, "size": 0}}
	if raw, err = json.Marshal(snap); err != nil {
		return err
	}
	return writeFileSync(name, raw)
}
