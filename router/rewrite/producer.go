package rewrite

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Idempotent reads an InitProducerId request and reports whether it is one for a producer without transactions: the router gives those
// ids of its own, because ids of two clusters are equal now and then, and then a broker takes a new batch for an old one.
func Idempotent(version int16, body []byte) (bool, error) {
	m := kmsg.NewPtrInitProducerIDRequest()
	m.SetVersion(version)
	if err := m.ReadFrom(body); err != nil {
		return false, fmt.Errorf("read InitProducerID v%d: %w", version, err)
	}
	return m.TransactionalID == nil, nil
}

// NewProducer answers an InitProducerId request with an id. Its epoch is 0.
func NewProducer(version int16, id int64) *kmsg.InitProducerIDResponse {
	m := kmsg.NewPtrInitProducerIDResponse()
	m.SetVersion(version)
	m.ProducerID, m.ProducerEpoch = id, 0
	return m
}
