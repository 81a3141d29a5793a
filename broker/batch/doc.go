// Package batch reads, re-stamps, rebuilds and compares Kafka record batches of
// format version 2 as they lie on the wire. It is pure: no I/O, no clock, no state
// but pools of codecs.
//
// A mirror copies bytes. So the hot path of this package is [Next], which walks over
// the batches of a Fetch answer by their headers, and [Patch], which gives a batch a
// new producer id, epoch and sequence in place. Neither looks at the records, so the
// cost of both is one per batch and not one per byte. The rest ([Decode], [Encode],
// [Equal]) is for the batches that cannot be forwarded as they are.
//
// A batch is a header of [HeaderSize] bytes, big endian, and the records section,
// which is compressed as a whole:
//
//	 0  base offset            int64
//	 8  length                 int32   bytes that follow this field
//	12  leader epoch           int32
//	16  magic                  int8    2
//	17  crc                    uint32  CRC-32C of everything from 21 to the end
//	21  attributes             int16   see below
//	23  last offset delta      int32
//	27  base timestamp         int64   ms; records store differences to it
//	35  max timestamp          int64   ms
//	43  producer id            int64
//	51  producer epoch         int16
//	53  base sequence          int32
//	57  record count           int32
//	61  records
//
// Attributes, from the lowest bit: 0-2 codec, 3 timestamp type (set: log append time),
// 4 transactional, 5 control, 6 delete horizon (the base timestamp is the horizon of the
// log cleaner; records are stored as differences to it all the same, so the bit can be
// cleared without touching a record).
//
// What the package guarantees: no input makes it panic, no input makes it take more
// memory than a small multiple of the limit it was given, and a batch whose checksum was
// wrong before [Patch] has a wrong one after it.
package batch
