// Package arrival makes what a router must know to serve a home that was decided on: where each record that clients know is there, and what the home
// that is left knew of producers. It only reads.
//
// # Timelines
//
// The cut of each switch says, for every partition that there was at the home that was left, where the next generation begins. All cuts together
// are the timelines. Nothing else is kept of a partition, so:
//
//   - A partition that all cuts name begins in generation 0, at the first home, with offset 0. What that home had deleted by then looks
//     like compacted.
//   - One that came later, as a new topic or by more partitions of one, is not in the cuts before. Clients knew it from the beginning by the offsets of
//     the home of that time, the one that the first switch left whose cut names it. So its timeline begins there, in the generation which
//     that switch ended, with offset 0. It has no stretch in the generations before: what another cluster has of it came from there, or by the mirror to
//     there, and has its virtual offset by its place there.
//   - One that a cut does not name was not at the home that was left: it was deleted. Its timeline is over; if it comes again it is a new one.
//   - One that the last cut does not name is known by the home's own offsets, until the next switch.
//
// So a cut must name every partition that there is at the home that is left. Whoever leaves one out takes its positions from its clients.
//
// # Changes
//
// At a planned switch a cut's virtual offset is that of the left log's end (see [Cut]); that is held against the timeline, because a cut of
// something else would give one offset to two records. At an unplanned one it is the bound that was reserved, and the mirror's runs tell what
// of the left log the new home had: those that end below its log end of the cut. Runs above that are of what came late, so that the answer
// is the same whenever and wherever it is asked for.
package arrival
