// Package broker is one Kafka cluster behind one type.
//
// A [Profile] says how a cluster is reached (addresses, TLS, SASL); [Open] makes a [Cluster] of it. What is asked seldom
// (metadata, topics, configurations, offsets, the producers of a partition) goes through franz-go. The two requests that
// carry the records have connections of their own:
//
//   - [FetchSession] reads partitions of one broker with one incremental fetch session (KIP-227). An answer is a [Frame]
//     of pooled, reference-counted memory; the record batches in it are the bytes of the socket, neither copied nor decoded.
//   - [ProduceConn] writes whole record batches to one broker with vectored writes, several requests in flight in order.
//
// # What a caller may rely on
//
// Nothing here blocks for ever: every call ends with its context, and every read and write of a socket has a deadline.
// The length of every answer is checked before memory is taken for it, and every count inside before it is believed; an
// answer that is not what was asked for is an error that wraps [ErrProtocol], and ends the connection. A throttle time
// that a broker asks for is waited out before the next request.
//
// A login never goes over a wire without TLS off loopback unless the profile allows it: that is refused when the address
// is known, before a byte is sent. Certificates and secrets are resolved again for each handshake and login. What keeps us out
// of a cluster is an [AccessError] that names the field of the topology and what to do, and a broker that does not let us in is
// tried about once a second, by all connections together.
//
// An error of a partition is a [PartitionError] that wraps the error of franz-go's kerr package, so errors.Is works with
// those; [Classify] says what to do about any error of this package.
//
// A connection is never repaired: after an error it is closed, and its owner opens another one.
package broker
