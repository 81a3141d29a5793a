// Package strange brings whatever people keep in Kafka through a link between real clusters: aborted and open transactions,
// compacted logs with holes and empty batches, the broker's own times, null keys and values, tombstones, headers that repeat, times
// before 1970 and after 9999, batches of one record and records of many megabytes, every compression on either side.
//
// All kinds share one pair of clusters and one link. Each kind is a topic, written in three rounds: before the mirror runs, while it
// runs, and after it died without a word; it never wrote a checkpoint but the first, so that the second mirror has to find every place
// by reading all that the first one copied. Then the checker compares record by record: key, value, headers, time and order. The ledger
// must be empty: strange data is no trouble.
package strange
