package transactions

const (
	realBits = 44
	tagBits  = 9
	mark     = 0b0110101101
)

// Tags is how many there are: the tag of a generation comes back after so many. Clients that were idle for all of them are told apart by the home alone.
const Tags = 1 << tagBits

// Shown is the id that clients of a generation know for one of the home's.
func Shown(id, generation int64) int64 {
	tag := generation & (Tags - 1)
	if id < 0 || id>>realBits != 0 || tag == 0 {
		return id
	}
	return mark<<(realBits+tagBits) | tag<<realBits | id
}

// Fits reports whether an id, if it is one, tells of which generation it is.
func Fits(id int64) bool { return id < 0 || id>>realBits == 0 || id>>(realBits+tagBits) == mark }

// Real is the home's id for one that a client has, and whether it is of the generation. An id that no router can have shown is left as it is, and is not stale: no id, and one that
// does not fit.
func Real(id, generation int64) (home int64, current bool) {
	tag := int64(0)
	switch {
	case id < 0:
		return id, true
	case id>>realBits == 0:
	case id>>(realBits+tagBits) == mark:
		tag = id >> realBits & (Tags - 1)
	default:
		return id, true
	}
	return id & (1<<realBits - 1), tag == generation&(Tags-1)
}
