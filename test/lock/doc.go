// Package lock attacks the sequence lock (DESIGN.md, "The lock") between two real brokers: for each hole that is known a test that
// fails without the rule that closes it.
//
// All tests share one pair of clusters, eu and us, which the first test starts and TestMain ends; tests do not run in parallel. What
// keeps them apart is the stage: each has topics and a fabric of its own, so that its producer ids are its own too. The clusters
// clean their logs all the time and forget producer ids whose records are older than a day within a second
// (producer.id.expiration.check.interval.ms), so that "old" records are enough to make a broker forget.
//
// A test reads as: newStage makes the fabric and the topic; write puts records into the source, batch by batch as given;
// stage.owner starts a mirror of the link in this process, of which there may be several that do not know each other; owner.stop ends it in order,
// owner.kill as kill -9 does. Between an owner and a cluster lies a path, which can hold, drop or cut single requests and answers
// (path.rule, path.trap). produce plays the intruder: any batch under any producer id. readLog shows batch headers and records of a
// partition, and stage.verdict compares target and source by content.
package lock
