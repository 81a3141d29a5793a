// Package transactions is what a router does for transactional producers where the home has changed. All of it is pure.
//
// # Ids
//
// A transactional id has its producer id and epoch from the home, which counts both from zero upward. Another home knows nothing of them, or, worse, has given the same to somebody else,
// or to the same transactional id when it was home before: it would take what is new for what it has. So clients are told the home's ids with a tag of the generation ([Shown]), which is
// taken off again on the way to the home ([Real]). In the first generation the tag is zero and nothing is changed.
//
//	 63 62        53 52       44 43                     0
//	+--+------------+-----------+------------------------+
//	| 0| 0110101101 |  tag (9)  |    the home's (44)     |
//	+--+------------+-----------+------------------------+
//
// Bit 62 is zero, so that nobody takes such an id for one of the fabric's (topology/producerid.go). It is never in a log. Brokers count their ids in blocks of a thousand, so 44 bits
// are never used up; an id that does not fit has no tag: the home judges it, and who asks for another one comes as new.
//
// # Who comes from another generation
//
// He is told so where a transaction begins or is to be committed, by UNKNOWN_PRODUCER_ID: libraries abort, get another id, and go on (KIP-360). What comes in the middle is answered with success: the
// transaction was aborted when the home was left and cannot be committed any more. So one switch costs a producer one transaction at the most. Libraries without KIP-360 have to be restarted.
package transactions
