// Package gate keeps the order of idempotent producers when the home of a partition changes. All of it is pure.
//
// # Why
//
// A broker takes a batch of a producer id only if its sequence follows. The new home knows no id of a client, and takes any sequence from one that it does not
// know. So a batch that comes before another that was on its way would be taken, the other refused or taken for acknowledged; and one that the left home had
// taken would be taken again.
//
// # What is done
//
// Until the new home knows an id, its batches are held against what the left log had of it when the generation ended ([Decide]):
//
//	follows the last one         forward     so does a producer that the left log did not know, and a new epoch that begins at sequence 0
//	lies at or before it         answer      it was acknowledged; with its offset, if that is remembered
//	leaves something out         close       clients send what is not acknowledged once more, oldest first, if not at once then soon
//
// Behind a batch that was forwarded, the next on the same connection follows it, acknowledged or not; on another connection it does not, because nobody knows what
// became of the first. Once the home has acknowledged one its own check holds, and the gate lets all pass but what the left log had.
//
// The home may know an id although this router does not know that: it was acknowledged through another one. Then a gap is closed that is none. So who closes for
// [Gap] asks the home (DescribeProducers, for the id of this generation) and calls [Gate.Known].
//
// # Ids
//
// Clients have ids of the router. The home sees them with a salt that is a function of the generation ([Salted]), so that a cluster that is home again does not
// hold a batch against what it had of the same producer when it was home before. There are 512 salts: the same comes back after 512 generations, and a cluster must have
// forgotten the ids by then, which it does after producer.id.expiration.ms, a day. More than 512 changes of a set's home in that time must be refused.
//
// # What cannot be known
//
// After an unplanned change the left log's end is not known. What was acknowledged there and not copied is known as far as routers tell of it (put it into
// [Producer].Last); if one of them is gone too, producers are unsure, and a gap that stays is let pass ([LostTail]): who sends a later batch
// first again and again gets it out of order then. So does a producer that the left log did not know at all, if its first batch is overtaken. What was written there, neither copied
// nor acknowledged, is sent again by clients, and comes a second time when the tail does.
package gate
