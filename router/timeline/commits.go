package timeline

// Commit is a group's position, as it was committed through a router. The caller keeps it beside the real one, which is what tools see at the home.
type Commit struct {
	Generation int64 // in which it was committed
	Virtual    int64
	Real       int64 // what was committed at the home of that generation
}

// Commit is what to commit at the home, and to keep beside it, for a position.
func (m *Map) Commit(virtual int64) Commit {
	return Commit{Generation: m.generation, Virtual: virtual, Real: m.Below(virtual)}
}

// Trust says where the virtual position of a group comes from.
type Trust int

// How much a position is worth.
const (
	// Kept is the virtual position that was kept: exact.
	Kept Trust = iota
	// KeptAhead says the same, and that what the home has is older: the mirror had not brought the newest when the generation began.
	KeptAhead
	// Translated is made of the real position, because none was kept. It skips nothing; where real places jump some may be read again.
	Translated
	// Outside says the same, and that one was kept which contradicts: somebody has committed at the home, and not through a router.
	Outside
)

// Committed chooses the position of a group of which the home says that it is at real. kept is what was kept of it, nil if nothing was.
func (m *Map) Committed(real int64, kept *Commit) (virtual int64, t Trust) {
	if kept == nil {
		return m.Least(real), Translated
	}
	want := kept.Real
	if kept.Generation != m.generation {
		want = m.Below(kept.Virtual)
	}
	switch {
	case real == want:
		return kept.Virtual, Kept
	case kept.Generation == m.generation: // nobody else commits here, if not around the router
		return m.Least(real), Outside
	case m.empty(min(real, want), max(real, want)):
		return kept.Virtual, Kept
	case real < want:
		return kept.Virtual, KeptAhead
	}
	return m.Least(real), Outside
}

// empty tells whether no piece has a real offset from, up to and without to.
func (m *Map) empty(from, to int64) bool {
	if m.reach == nil {
		return m.pieces[m.real(from)].Real >= to
	}
	for _, p := range m.pieces {
		if p.Real < to && p.realEnd() > from {
			return false
		}
	}
	return true
}
