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

// Patch says what is written over. The zero value only sees to what clients must never learn, whatever the home is: epochs of
// leaders become -1, and addresses of new leaders (KIP-951) get a tag that nobody reads.
type Patch struct {
	// Node gives the virtual id of a broker; it is asked for ids from 0 on. Nil leaves them.
	Node func(id int32) int32
	// Offset maps an offset of a record in the direction that the message goes; it is asked for offsets from 0 on. Nil leaves them.
	Offset func(at Place, offset int64) int64
	// Throttle is the least that an answer tells its client to wait, in versions that can tell it. The home may say more.
	Throttle time.Duration
	// Named is told of each topic that has a name, as often as the message names it; an error ends the walk. The bytes are valid until it returns. Nil
	// lets all pass.
	Named func(topic []byte) error
	// Stamp gives the stamp of a produced batch, and true if it differs from the one in the header. Nil leaves them.
	Stamp func(at Place, h batch.Header) (batch.Stamp, bool)
}
