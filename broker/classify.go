package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Class says what to do about an error.
type Class int

const (
	// Retry: it passes. Back off, look at the metadata, do the same again.
	Retry Class = iota
	// Refind: what the caller believes of the log or of its own place in it is wrong. Find the place again, then go on.
	Refind
	// Pause: somebody or something has to change first (rights, limits, replicas, a topic). Try again, but seldom.
	Pause
	// Fatal: the connection as it is configured cannot work, or the other side does not speak as it should.
	Fatal
)

// String is the class in lower case.
func (c Class) String() string {
	switch c {
	case Retry:
		return "retry"
	case Refind:
		return "refind"
	case Pause:
		return "pause"
	case Fatal:
		return "fatal"
	}
	return "unknown"
}

// verdict is one row of the table.
type verdict struct {
	err   error
	class Class
	why   string
}

// verdicts is the table of what brokers say. What is not in it is Retry if Kafka calls it retriable, and else Pause.
var verdicts = []verdict{
	// Transient: another leader, or the same one a moment later.
	{kerr.NotLeaderForPartition, Retry, "the leader moved"},
	{kerr.LeaderNotAvailable, Retry, "an election is under way"},
	{kerr.ReplicaNotAvailable, Retry, "metadata is behind"},
	{kerr.NotController, Retry, "the controller moved"},
	{kerr.NotCoordinator, Retry, "the coordinator moved"},
	{kerr.CoordinatorNotAvailable, Retry, "the coordinator is starting"},
	{kerr.CoordinatorLoadInProgress, Retry, "the coordinator is starting"},
	{kerr.BrokerNotAvailable, Retry, "the broker is starting or stopping"},
	{kerr.NetworkException, Retry, "the broker lost its peer"},
	{kerr.RequestTimedOut, Retry, "replicas are slow; what was written is unknown, and the sequence tells on the next try"},
	{kerr.NotEnoughReplicasAfterAppend, Retry, "written by the leader, not yet by its followers; the repeat gets the first one's ack"},
	{kerr.KafkaStorageError, Retry, "the broker lost a disk; another replica takes over"},
	{kerr.FetchSessionIDNotFound, Retry, "a new session is begun"},
	{kerr.InvalidFetchSessionEpoch, Retry, "a new session is begun"},
	{kerr.FetchSessionTopicIDError, Retry, "a new session is begun"},
	{kerr.OffsetNotAvailable, Retry, "a new leader does not know its high watermark yet"},
	{kerr.PreferredLeaderNotAvailable, Retry, "an election is under way"},
	{kerr.ThrottlingQuotaExceeded, Retry, "the quota allows it later"},
	{kerr.ReassignmentInProgress, Retry, "partitions are on the move"},
	{kerr.ConcurrentTransactions, Retry, "the previous transaction is being completed"},
	{kerr.UnknownServerError, Retry, "an accident in the broker"},

	// The place is wrong.
	{kerr.OutOfOrderSequenceNumber, Refind, "another owner wrote, or the target's log is not what we think"},
	{kerr.DuplicateSequenceNumber, Refind, "older than the batches the broker remembers: another owner is ahead"},
	{kerr.InvalidProducerEpoch, Refind, "a newer incarnation wrote"},
	{kerr.ProducerFenced, Refind, "a newer incarnation wrote"},
	{kerr.UnknownProducerID, Refind, "the broker forgot the id"},
	{kerr.OffsetOutOfRange, Refind, "retention overtook us, or the log was truncated"},
	{kerr.FencedLeaderEpoch, Refind, "the leader changed; the log may have been truncated"},
	{kerr.UnknownLeaderEpoch, Refind, "this broker's view is older than ours"},
	{kerr.UnknownTopicID, Refind, "the topic was deleted or recreated"},
	{kerr.InconsistentTopicID, Refind, "the topic was recreated"},

	// Somebody or something has to change.
	{kerr.UnknownTopicOrPartition, Pause, "the topic or partition does not exist (or metadata is behind)"},
	{kerr.TopicAuthorizationFailed, Pause, "no right on the topic"},
	{kerr.GroupAuthorizationFailed, Pause, "no right on the group"},
	{kerr.ClusterAuthorizationFailed, Pause, "no right on the cluster"},
	{kerr.TransactionalIDAuthorizationFailed, Pause, "no right on the transactional id"},
	{kerr.TopicAlreadyExists, Pause, "it is there; whether it is the right one must be looked at"},
	{kerr.NotEnoughReplicas, Pause, "fewer replicas in sync than the topic demands"},
	{kerr.MessageTooLarge, Pause, "over the topic's max.message.bytes"},
	{kerr.RecordListTooLarge, Pause, "over the broker's segment size"},
	{kerr.InvalidTimestamp, Pause, "outside the topic's message.timestamp limits"},
	{kerr.InvalidRecord, Pause, "the broker's validation refuses a record, such as one without a key in a compacted topic"},
	{kerr.CorruptMessage, Pause, "the checksum is wrong: damaged on the way or at rest; a read again tells"},
	{kerr.PolicyViolation, Pause, "the cluster's policy refuses it"},
	{kerr.InvalidConfig, Pause, "a setting the cluster does not take"},
	{kerr.InvalidReplicationFactor, Pause, "more replicas than brokers"},
	{kerr.InvalidPartitions, Pause, "the topic has more partitions than it should"},
	{kerr.InvalidTopicException, Pause, "a name the cluster does not take"},
	{kerr.UnsupportedCompressionType, Pause, "the topic or its readers are too old for the codec"},
	{kerr.UnsupportedForMessageFormat, Pause, "the topic has an old message format"},
	{kerr.InvalidTxnState, Pause, "a transaction is not in the state this needs"},

	// This connection cannot work.
	{kerr.SaslAuthenticationFailed, Fatal, "wrong user or password"},
	{kerr.UnsupportedSaslMechanism, Fatal, "the broker has another mechanism"},
	{kerr.IllegalSaslState, Fatal, "the listener wants SASL, or wants none"},
	{kerr.UnsupportedVersion, Fatal, "the broker is too old or too new"},
	{kerr.InvalidRequest, Fatal, "the broker does not understand us"},
	{kerr.InvalidRequiredAcks, Fatal, "the broker does not understand us"},
	{ErrProtocol, Fatal, "we do not understand the broker"},
	{ErrUnsupported, Fatal, "the broker is too old or too new"},
	{ErrAuthentication, Fatal, "wrong user, password or mechanism"},
	{ErrInsecure, Fatal, "the login would be given away"},
	{ErrClosed, Retry, "the caller closed it, and knows"},
	{context.Canceled, Retry, "the caller ended it, and knows"},
	{context.DeadlineExceeded, Retry, "slow is not broken"},
}

// Classify says what to do about an error of this package, or of kgo. nil is Retry. Errors of the network, and all that are
// not known, are Retry: they pass or are seen again.
func Classify(err error) Class {
	class, _ := explain(err)
	return class
}

// explain is Classify with the reason from the table.
func explain(err error) (Class, string) {
	for _, v := range verdicts {
		if errors.Is(err, v.err) {
			return v.class, v.why
		}
	}
	var e *kerr.Error
	access, refused := isAccess(err)
	switch {
	case refused && access.unsure():
		return Retry, "TLS: the listener is wrong, or the broker stops"
	case refused:
		return Fatal, access.Field
	case errors.As(err, &e) && e.Retriable:
		return Retry, "Kafka calls it retriable"
	case e != nil:
		return Pause, "Kafka does not call it retriable"
	case tlsRefused(err):
		return Fatal, "TLS: a certificate or the listener is wrong"
	}
	return Retry, "the network, or nothing we know"
}

// tlsRefused reports the errors of TLS that a second try does not cure.
func tlsRefused(err error) bool {
	var (
		header    tls.RecordHeaderError
		alert     tls.AlertError
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &header) || errors.As(err, &alert) || errors.As(err, &verify) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}
