package embedded

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
)

// kfake keeps groups and producers in logs of framed JSON entries:
//
//	4 length    of what follows the checksum, little endian, as all here
//	4 checksum  CRC-32C of what follows it
//	2 version
//	  JSON
//
// It stops reading at the first entry that is not whole, but appends behind
// it: what is written after a torn entry is lost at the start after next.
// kill -9 can tear an entry where it crosses a page.
const (
	entryHeader  = 10
	entryVersion = 1 // the only one that this kfake writes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stateLogs are kfake's logs, relative to the data directory.
var stateLogs = []string{groupsLog, pidsLog}

const (
	groupsLog = "groups.log"
	pidsLog   = "pids.log"
)

// cutTornTail truncates a state log after its last whole entry and returns the
// JSON of all entries.
func cutTornTail(name string) (entries [][]byte, cut int, err error) {
	raw, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	entries, whole := parseEntries(raw)
	if cut = len(raw) - whole; cut > 0 {
		err = os.Truncate(name, int64(whole))
	}
	return entries, cut, err
}

func parseEntries(raw []byte) (entries [][]byte, whole int) {
	for rest := raw; len(rest) >= entryHeader; {
		length := int(binary.LittleEndian.Uint32(rest))
		if length < entryHeader-8 || length > len(rest)-8 {
			break
		}
		framed := rest[8 : 8+length]
		if crc32.Checksum(framed, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			break
		}
		entries = append(entries, framed[2:])
		rest = rest[8+length:]
		whole += 8 + length
	}
	return entries, whole
}

// appendEntries writes entries behind a state log that has no torn tail.
func appendEntries[E any](name string, entries []E) error {
	if len(entries) == 0 {
		return nil
	}
	var out []byte
	for _, e := range entries {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		framed := append(binary.LittleEndian.AppendUint16(nil, entryVersion), data...)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(framed)))
		out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(framed, castagnoli))
		out = append(out, framed...)
	}
	return appendFile(name, out)
}

// appendFile appends and waits for the disk.
func appendFile(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// producer is what pids.log says of a producer id, kfake's own form.
type producer struct {
	Type    string `json:"type"` // init, endtx or timeout
	ID      int64  `json:"pid"`
	Epoch   int16  `json:"epoch"`
	TxID    string `json:"txid,omitempty"`
	Timeout int32  `json:"timeout,omitempty"` // ms
	Commit  *bool  `json:"commit,omitempty"`  // how the last transaction ended
}

// producersOf replays pids.log: the latest of each id.
func producersOf(entries [][]byte) (map[int64]producer, error) {
	all := make(map[int64]producer)
	for _, raw := range entries {
		var e producer
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, fmt.Errorf("read %s: %w", pidsLog, err)
		}
		if e.Type == "init" {
			all[e.ID] = e
			continue
		}
		if p, ok := all[e.ID]; ok {
			p.Epoch = e.Epoch
			if e.Commit != nil {
				p.Commit = e.Commit
			}
			all[e.ID] = p
		}
	}
	return all, nil
}
