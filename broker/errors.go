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

	// ErrInsecure is wrapped by the refusal to log in without TLS at an address that is not loopback. Nothing was sent.
	ErrInsecure = errors.New("refused to log in without TLS")
)

// PartitionError is what a broker said about one partition. Err is of package kerr, or [ErrProtocol].
type PartitionError struct {
	Cluster   string // empty where the caller knows it
	Topic     string
	Partition int32
	Err       error
	Message   string // the broker's own words, often empty
	Right     string // the operation that is not allowed: READ, WRITE and the like; empty unless that is the error
}

// Error names the partition and what the broker said, and which right is missing.
func (e *PartitionError) Error() string {
	at := fmt.Sprintf("%s:%d", e.Topic, e.Partition)
	if e.Cluster != "" {
		at += " of cluster " + e.Cluster
	}
	said := e.Err.Error()
	if e.Message != "" {
		said += " (" + e.Message + ")"
	}
	if e.Right != "" {
		return fmt.Sprintf("%s: no right %s on topic %s; allow it to the user with an ACL, or log in as another (%s)", at, e.Right, e.Topic, said)
	}
	return at + ": " + said
}

// Unwrap returns the error without its place.
func (e *PartitionError) Unwrap() error { return e.Err }

// partitionError is nil for code 0. right is what the request needs.
func partitionError(topic string, partition int32, code int16, message, right string) error {
	if code == 0 {
		return nil
	}
	e := &PartitionError{Topic: topic, Partition: partition, Err: codeError(code), Message: message}
	if forbidden(e.Err) {
		e.Right = right
	}
	return e
}

// forbidden reports the errors of a missing right.
func forbidden(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.GroupAuthorizationFailed) ||
		errors.Is(err, kerr.ClusterAuthorizationFailed) || errors.Is(err, kerr.TransactionalIDAuthorizationFailed)
}

// atCluster says where a partition's error was; err may be nil.
func atCluster(err error, cluster string) {
	if e, ok := err.(*PartitionError); ok {
		e.Cluster = cluster
	}
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

// Forbidden reports whether an error says that a right or a login is missing, or that one side does not trust the other. Another try
// does not help before somebody changed something.
func Forbidden(err error) bool {
	if err == nil || Classify(err) < Pause {
		return false
	}
	_, refused := isAccess(err)
	return refused || forbidden(err) || errors.Is(err, ErrAuthentication) || errors.Is(err, ErrInsecure) ||
		errors.Is(err, kerr.SaslAuthenticationFailed) || errors.Is(err, kerr.UnsupportedSaslMechanism) || tlsRefused(err)
}
