package mirror

// lookup answers where the first record at or after an offset of one end lies at the other; false: there is none.
type lookup func(at int64) (to int64, ok bool)

// carry takes a position over one link, either way: there is the map's lookup in the direction, and back the one against it. exact: at is a
// record's, and its copy lies at to. Carried on, a position skips nothing of what has come over all the links: to is the least place of any
// record at or after at, so whatever of them went further is at or after it.
func carry(there, back lookup, at int64) (to int64, exact, ok bool) {
	to, ok = there(at)
	if !ok {
		return 0, false, false
	}
	was, same := back(to)
	return to, same && was == at, true
}

// Compose takes an offset of A over the maps of A→B and B→C: c is the highest offset of C known to skip nothing of what went over B and lies at
// or after the offset on A, or came to B behind that. exact: a record lies at the offset on A, and its copy's copy at c. ok is false when
// nothing at or after the offset has come to C yet: then any position up to C's end skips nothing.
func Compose(ab, bc *OffsetMap, at int64) (c int64, exact, ok bool) {
	b, first, ok := carry(ab.Forward, ab.Inverse, at)
	if !ok {
		return 0, false, false
	}
	c, second, ok := carry(bc.Forward, bc.Inverse, b)
	return c, first && second, ok
}
