package embedded

import (
	"encoding/binary"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/broker/shape"
)

// Beyond its shape, the guard reads the records of a Produce request, as a
// broker does. kfake stores them unread and believes them later: a record count
// below one moves the end of a log backwards, and a record that says it is
// longer than its batch kills the process when somebody asks for the offset of
// a time.

// maxUnpackedBytes bounds the records of one batch, unpacked.
const maxUnpackedBytes = 64 << 20

// isSilent reports whether a walked Produce request gets no answer at all:
// one with acks 0, which follow the transactional id.
func isSilent(body []byte, flexible bool) bool {
	w := shape.Walker{Rest: body, Flexible: flexible}
	return w.Text() && len(w.Rest) >= 2 && binary.BigEndian.Uint16(w.Rest) == 0
}

// eachBatch calls fn with the records of each partition of a walked Produce
// request of a version that names its topics.
func eachBatch(body []byte, flexible bool, fn func(raw []byte)) {
	w := shape.Walker{Rest: body, Flexible: flexible}
	w.Text()
	w.Skip(2 + 4) // acks, timeout
	topics, _ := w.Length(4)
	for range topics {
		w.Text()
		partitions, _ := w.Length(4)
		for range partitions {
			w.Skip(4)
			n, _ := w.Length(4)
			n = min(max(n, 0), len(w.Rest))
			fn(w.Rest[:n])
			w.Skip(n)
			if flexible {
				w.Tags()
			}
		}
		if flexible {
			w.Tags()
		}
	}
}

// judgeBatches reads every batch. The codes are in the order of the request;
// bad tells whether any of them is an error.
func (g *guard) judgeBatches(body []byte, flexible bool) (codes []int16, bad bool) {
	g.unpacking <- struct{}{}
	defer func() { <-g.unpacking }()
	eachBatch(body, flexible, func(raw []byte) {
		code := judgeBatch(raw)
		codes = append(codes, code)
		bad = bad || code != 0
	})
	return codes, bad
}

// judgeBatch lets pass what kfake refuses itself.
func judgeBatch(raw []byte) int16 {
	const length, magic = 8, 16
	if len(raw) < batch.HeaderSize || int(binary.BigEndian.Uint32(raw[length:])) != len(raw)-12 || raw[magic] != 2 || !batch.VerifyCRC(raw) {
		return 0
	}
	recs, err := batch.Decode(raw, maxUnpackedBytes)
	switch {
	case errors.Is(err, batch.ErrTooLarge):
		return kerr.MessageTooLarge.Code
	case err != nil || len(recs) == 0:
		return kerr.InvalidRecord.Code
	}
	return 0
}

// refuseBatches answers a Produce request of which some batches are bad; the
// good ones may be sent again.
func refuseBatches(r *kmsg.ProduceRequest, codes []int16) kmsg.Response {
	resp := refuseProduce(r, "another batch of the same request is not valid; nothing was stored").(*kmsg.ProduceResponse)
	for t := range resp.Topics {
		for p := range resp.Topics[t].Partitions {
			if len(codes) > 0 && codes[0] != 0 {
				resp.Topics[t].Partitions[p].ErrorCode = codes[0]
				resp.Topics[t].Partitions[p].ErrorMessage = kmsg.StringPtr("the batch is not what its header says")
			}
			codes = codes[min(1, len(codes)):]
		}
	}
	return resp
}
