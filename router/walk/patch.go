package walk

import (
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// Place is where in a message the walker is. Topic is a part of the walker's memory: valid until the callback returns; empty where the
// version names topics by ids, or the name is longer than Kafka allows.
type Place struct {
	Topic     []byte
	Partition int32
}

// Field is what an offset says.
type Field uint8

// The fields.
const (
	// Asked is where a Fetch is to begin.
	Asked Field = iota
	// Acked is the first offset of what was produced.
	Acked
	// First is that of a batch.
	First
	// Aborted is where an aborted transaction began.
	Aborted
	// Watermark is the high watermark, the last stable offset, or the end of an epoch or of a snapshot.
	Watermark
	// Start is that of the log.
	Start
)

// Patch says what is written over. The zero value only sees to what clients must never learn, whatever the home is: epochs of
// leaders become -1, and addresses of new leaders (KIP-951) get a tag that nobody reads.
type Patch struct {
	// Node gives the virtual id of a broker; it is asked for ids from 0 on. Nil leaves them.
	Node func(id int32) int32
	// Offset maps an offset of a record in the direction that the message goes; it is asked for offsets from 0 on. Nil leaves them.
	Offset func(at Place, of Field, offset int64) int64
	// Shown reports whether a batch that was fetched is shown, with all that stands behind it for the partition; first says that nothing of the partition was shown before it. What
	// is not shown looks cut short, which a broker's answers may be at their ends. An error ends the walk. Nil shows all.
	Shown func(at Place, h batch.Header, first bool) (bool, error)
	// Throttle is the least that an answer tells its client to wait, in versions that can tell it. The home may say more.
	Throttle time.Duration
	// Named is told of each topic that has a name, as often as the message names it; an error ends the walk. The bytes are valid until it returns. Nil
	// lets all pass.
	Named func(topic []byte) error
	// Stamp gives the stamp of a produced batch, and true if it differs from the one in the header. Nil leaves them.
	Stamp func(at Place, h batch.Header) (batch.Stamp, bool)
}
