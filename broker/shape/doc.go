// Package shape checks that bytes have the shape of a Kafka request or answer
// before anybody reads them for good, because kmsg's own readers trust counts: a
// tag count of 2^32-1 in a frame of 20 bytes keeps them busy for a minute, and an
// array count is believed up to one element per byte that is left, which are
// hundreds of bytes of memory each.
//
// kmsg does not publish shapes, so they are learned from it: its structs list
// their fields in wire order, and whether a version has a field shows when the
// field is changed and the message encoded again.
package shape
