package batch

import "hash/crc32"

// castagnoli is the table of CRC-32C; the standard library uses the CPU's instruction
// where there is one.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A CRC without its constants is linear over GF(2). For two messages of one length that
// differ only in their first bytes, crc(a+p) ^ crc(b+p) is therefore
// (crc(a) ^ crc(b)) advanced over len(p) zero bytes, whatever p is. Advancing over one
// zero byte is a 32x32 bit matrix; the matrix for 2^k zero bytes is that of 2^(k-1) squared.

// operator is one such matrix, cut into nibbles: operator[i][v] is what the matrix makes
// of the value v in bits 4i to 4i+3. Half a kibibyte each, so that all of them stay in a
// first-level cache.
type operator [8][16]uint32

// apply multiplies the matrix with the vector c.
func (o *operator) apply(c uint32) uint32 {
	return o[0][c&15] ^ o[1][c>>4&15] ^ o[2][c>>8&15] ^ o[3][c>>12&15] ^
		o[4][c>>16&15] ^ o[5][c>>20&15] ^ o[6][c>>24&15] ^ o[7][c>>28]
}

// shiftBits is enough for every length that fits an int32.
const shiftBits = 31

// zeros has at k the operator that advances a CRC over 2^k zero bytes. Never changed.
var zeros = makeZeros()

func makeZeros() *[shiftBits]operator {
	ops := new([shiftBits]operator)
	ops[0] = makeOperator(func(c uint32) uint32 { return castagnoli[c&0xff] ^ c>>8 })
	for k := 1; k < shiftBits; k++ {
		half := &ops[k-1]
		ops[k] = makeOperator(func(c uint32) uint32 { return half.apply(half.apply(c)) })
	}
	return ops
}

// makeOperator tabulates the linear function f.
func makeOperator(f func(uint32) uint32) operator {
	var o operator
	for i := range o {
		for v := range o[i] {
			o[i][v] = f(uint32(v) << (4 * i))
		}
	}
	return o
}

// shift advances the CRC difference c over n zero bytes, n below 2^31.
func shift(c uint32, n int) uint32 {
	for k := 0; n != 0 && k < shiftBits; k++ {
		if n&1 != 0 {
			c = zeros[k].apply(c)
		}
		n >>= 1
	}
	return c
}
