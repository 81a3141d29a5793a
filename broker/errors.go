package broker

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

var (
	// ErrProtocol is wrapped by every error about an answer that cannot be what was asked for: garbage, a length or a
	// count beyond its frame, a correlation id out of order. The connection it came over is closed.
	ErrProtocol = errors.New("the broker's answer breaks the protocol")

	// ErrUnsupported is returned for a request that the broker does not know, or not in a version that we speak.
	ErrUnsupported = errors.New("the broker does not support this request")

	// ErrClosed is returned by calls on a connection or cluster after its Close.
	ErrClosed = errors.New("closed")

	// ErrAuthentication is wrapped by errors of SASL: a refused mechanism, a wrong password.
	ErrAuthentication = errors.New("authentication failed")
)

// PartitionError is what a broker said about one partition. Err is of package kerr, or [ErrProtocol].
type PartitionError struct {
	Topic     string
	Partition int32
	Err       error
	Message   string // the broker's own words, often empty
}

// Error names the partition and what the broker said.
func (e *PartitionError) Error() string {
	if e.Message != "" {
		return fmt.Sprintf("%s:%d: %v (%s)", e.Topic, e.Partition, e.Err, e.Message)
	}
	return fmt.Sprintf("%s:%d: %v", e.Topic, e.Partition, e.Err)
}

// Unwrap returns the error without its place.
func (e *PartitionError) Unwrap() error { return e.Err }

// partitionError is nil for code 0.
func partitionError(topic string, partition int32, code int16, message string) error {
	if code == 0 {
		return nil
	}
	return &PartitionError{Topic: topic, Partition: partition, Err: codeError(code), Message: message}
}

// codeError is kerr's error of a code; kerr has one text for all codes that it does not know, so those are named here.
func codeError(code int16) error {
	if code == 0 {
		return nil
	}
	err := kerr.ErrorForCode(code)
	if errors.Is(err, kerr.UnknownServerError) && code != kerr.UnknownServerError.Code {
		return fmt.Errorf("error code %d: %w", code, kerr.UnknownServerError)
	}
	return err
}

// protocolErrorf is an [ErrProtocol] with its reason.
func protocolErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}
