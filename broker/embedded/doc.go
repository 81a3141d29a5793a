// Package embedded runs one small Kafka cluster inside this process: franz-go's
// kfake with a data directory, behind a listener of our own.
//
// It is the cluster of a first run, of drills, of tests and of small edge
// sites. It speaks the real protocol (groups, transactions, persistence), but
// kfake was written for tests and trusts its clients and its disk. This package
// does not:
//
//   - Every frame is bounded and its shape checked before kfake sees a byte of
//     it. An unknown request key, an absurd length, a truncated header or a
//     count that its frame cannot hold closes that one connection, is counted
//     in Stats.Rejected, and disturbs nobody else. Values that kfake cannot live
//     with (a topic of a billion partitions, a record longer than its batch) are
//     answered with an error.
//   - A request that must be stored is refused, with an error that clients
//     retry, while the free space of the disk is below a low-water mark. kfake
//     acknowledges such requests whether or not the disk took them.
//   - Should a write fail all the same, no acknowledgement leaves this process
//     any more; once the disk has room the cluster is reopened from what the
//     disk really holds.
//   - After a kill -9 the directory is repaired before kfake opens it: torn
//     tails are cut, the sequence numbers of idempotent producers are rebuilt
//     from the record batches, and open transactions are aborted with a marker.
//
// # What is promised
//
// A record or an offset commit that was acknowledged is there after a kill -9
// of the process and a restart, in its place, once. A crash of the machine is
// another matter: as with Apache Kafka, what the operating system had not yet
// written may be lost, unless Config.SyncWrites is set. kfake ignores the error
// of an fsync, so even then a dying disk can lie.
//
// What a kill -9 can take: the effect of a DeleteRecords (the records are back),
// the end of a partition that was emptied since the last orderly stop (it counts
// from its end at that stop), and the atomicity of a transaction whose EndTxn was
// being answered at that moment: it may be committed in some partitions and
// aborted in others, and its client never got an answer.
//
// What clients see less of than on Apache Kafka: Produce up to version 12, no
// change of broker settings, and DescribeProducers, which is kfake's, knows
// producers of open transactions only.
//
// The cluster has one broker, listens on loopback only and has neither TLS nor
// SASL: whoever can connect may do everything.
//
// # How it is built
//
//	client ── TCP ── guard.accept ── conn ── gate ── kfake ── data directory
//
// kfake listens on a gate (a net.Listener) whose connections are conns: Read
// hands over whole, checked frames only, Write passes responses through. So
// there is no second hop and no copy of a response, and kfake advertises the
// guard's own address, which is what its listener says.
package embedded
