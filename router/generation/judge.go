package generation

import (
	"errors"
	"fmt"
	"slices"
)

// State is what some of the logs say of one set. It is never wrong about what is decided, but may not know the newest: then Open says that there is
// something.
type State struct {
	// Round is the first of which it is not known what it decides.
	Round int64
	// Generation and Home are those of the last decision; an empty home is the file's.
	Generation int64
	Home       string
	// History are the switches that were decided, that to generation 1 first.
	History []Value
	// Open says that somebody decides something, or has done so: until more is known nobody may write. Highest is the highest ballot of Round that was seen.
	Open    bool
	Highest Ballot
}

// errBroken says that the records cannot be those of an Isthmus: the rules allow no such decision.
var errBroken = errors.New("decisions that do not follow each other; were records deleted or written by hand?")

// majority is how many of the control clusters are more than half.
func majority(of int) int { return of/2 + 1 }

// decision is what a round decides, if the logs show it: where it is written down, or where the accepts of one ballot count in a majority of the
// control clusters, of which there are of.
func decision(logs []*Log, of int, set string, round int64) (Value, bool) {
	count := map[Ballot]int{}
	for _, l := range logs {
		s := l.sets[set]
		if s == nil {
			continue
		}
		if v, ok := s.decided[round]; ok {
			return v, true
		}
		if a := s.rounds[round]; a != nil {
			for b, v := range a.accepts {
				if count[b]++; count[b] >= majority(of) {
					return v, true
				}
			}
		}
	}
	return Value{}, false
}

// Judge says what logs of different control clusters, of which there are of, tell of a set.
func Judge(logs []*Log, of int, set string) (State, error) {
	st := State{Round: 1}
	for {
		v, ok := decision(logs, of, set, st.Round)
		if !ok {
			break
		}
		if !v.follows(st.Generation, st.Home) {
			return st, fmt.Errorf("round %d of set %q decides %s to generation %d at %s after generation %d at %q: %w", st.Round, set, v.Kind, v.Generation, v.Home, st.Generation, st.Home, errBroken)
		}
		st.Generation, st.Home = v.Generation, v.Home
		if v.Kind != Stay {
			st.History = append(st.History, v)
		}
		st.Round++
	}
	for _, l := range logs {
		s := l.sets[set]
		if s == nil {
			continue
		}
		for round, a := range s.rounds {
			if round < st.Round {
				continue
			}
			st.Open = true
			if b, _ := a.highest(); round == st.Round {
				st.Highest = slices.MaxFunc([]Ballot{st.Highest, a.promised, b}, Ballot.Compare)
			}
		}
		for round := range s.decided {
			st.Open = st.Open || round > st.Round
		}
	}
	return st, nil
}

// Standing is how a ballot does that was prepared.
type Standing struct {
	// Counts is in how many logs it stands with none above it; with a majority it may propose, and nobody below it will win.
	Counts int
	// Beaten is the highest ballot above it; zero for none.
	Beaten Ballot
	// Taken is the value that must be proposed, because it may have won already; nil leaves the choice.
	Taken *Value
}

// stand looks how a ballot does. Accepts that count and are below it stand before its prepare in their log, or in one that does not have it.
func stand(logs []*Log, set string, round int64, own Ballot) (out Standing) {
	var from Ballot
	beat := func(b Ballot) {
		if b.Compare(own) > 0 && b.Compare(out.Beaten) > 0 {
			out.Beaten = b
		}
	}
	for _, l := range logs {
		s := l.sets[set]
		if s == nil || s.rounds[round] == nil {
			continue
		}
		a := s.rounds[round]
		beat(a.promised)
		if a.promised == own {
			out.Counts++
		}
		for b, v := range a.accepts {
			if beat(b); b.Compare(own) < 0 && b.Compare(from) > 0 {
				from, out.Taken = b, &v
			}
		}
	}
	return out
}
