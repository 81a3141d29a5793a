// Package timeline knows where the records of a routed partition are while its home changes. Clients keep their positions for ever: the offsets they see are
// virtual. All of it is pure.
//
// # The timeline
//
// A generation is the time between two changes of home. A virtual offset belongs to the generation that it was written in, and is real at that generation's
// home by a constant difference; in the first generation the two are equal.
//
//	          generation 0, home eu        generation 1, home us       generation 2, home eu
//	virtual   0 ─────────────▶ 100  hole   150 ────────────▶ 180       180 ────────▶
//	real at   eu 0 ─────▶ 100  (tail)      us 1000 ───────▶ 1030       eu 130 ─────▶
//
// A planned change ends a generation at its home's log end, and the next begins there. An unplanned one ends it at what the new home had by
// then, and the next begins above all that may have been shown: the offsets between look like compacted ones and are never used. What the lost home had
// behind that end, its tail, has no virtual offsets any more. It gets new ones when the mirror brings it to the home of that moment, as all
// that the mirror brings late; who had read it sees it again.
//
// # The map
//
// A [Map] says where the records of all generations are at the home of now: pieces of virtual offsets, each with one difference. What was written here is here as
// it was; the rest is where the mirror put it, by runs of its offset maps. Real places may jump back: a late tail lies at another home behind what was written
// there meanwhile, and at its own before it.
//
// Each real offset is in one piece at most, so nobody reads a record twice in one map. Where two generations have it, it belongs to the later one: it came late
// to that one's home, so whoever is at a position between the two may not have read it. All of the home's log from [Generation.Own] on belongs to the generation
// of now. So no reader, wherever it stands when the home changes, skips a record that it has not read.
//
// # What a caller must see to
//
// Runs are of one difference without holes, from offsets at a generation's home to those at the home of now; hops over several clusters are composed before. All
// that the mirror had copied until the change must be in them. Offsets are of records: 0 or above, below 2^61. Kafka's -1 and such must be kept by the caller.
package timeline
