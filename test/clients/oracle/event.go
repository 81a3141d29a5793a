package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// What an event tells.
const (
	Ready     = "ready"     // the client was made; Version is the library's
	Sending   = "sending"   // ids ID … To will be written
	Acked     = "acked"     // a record is at Partition and Offset, −1 if the client was not told; in transaction Tx, from 1 on
	Failed    = "failed"    // a record was given up, Text says why
	Commit    = "commit"    // transaction Tx was committed
	Abort     = "abort"     // transaction Tx was aborted
	Assigned  = "assigned"  // Partitions came, or are read from the beginning
	Started   = "started"   // a partition is read from Offset on, because the program said so
	Revoked   = "revoked"   // Partitions are given up in order
	Lost      = "lost"      // Partitions were taken away
	Read      = "read"      // a record came
	Committed = "committed" // the group is to go on at Offset
	Step      = "step"      // Name was tried, Result came of it
	Error     = "error"     // the library reported Text to its user; Fatal if it does nothing more
	Done      = "done"      // the program did all that it was asked to
)

var kinds = map[string]bool{Ready: true, Sending: true, Acked: true, Failed: true, Commit: true, Abort: true, Assigned: true, Started: true, Revoked: true,
	Lost: true, Read: true, Committed: true, Step: true, Error: true, Done: true}

// Event is one line of a program.
type Event struct {
	// Run names the program that wrote it, Group the group it is in (empty for none). Whoever started it sets them.
	Run   string `json:"-"`
	Group string `json:"-"`

	Kind       string  `json:"event"`
	ID         int64   `json:"id"`
	To         int64   `json:"to"`
	Partition  int32   `json:"partition"`
	Offset     int64   `json:"offset"`
	Tx         int64   `json:"tx"`
	Partitions []int32 `json:"partitions"`
	Version    string  `json:"version"`
	Name       string  `json:"name"`
	Result     string  `json:"result"`
	Text       string  `json:"text"`
	Fatal      bool    `json:"fatal"`
}

// Parse reads a line. Its errors are those of programs that keep no protocol.
func Parse(line []byte) (Event, error) {
	var e Event
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, fmt.Errorf("parse %.200q: %w", line, err)
	}
	if !kinds[e.Kind] {
		return e, fmt.Errorf("parse %.200q: unknown event %q", line, e.Kind)
	}
	return e, nil
}
