package generation

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what a round decides.
type Kind string

// The kinds of decisions.
const (
	// Stay ends a round without a switch: generation and home are those before. It is how a switch is aborted.
	Stay Kind = "stay"
	// Planned leaves a home that is well: nothing is lost.
	Planned Kind = "planned"
	// Unplanned leaves one that is presumed dead.
	Unplanned Kind = "unplanned"
	// Back is a planned switch to the home of a generation before.
	Back Kind = "back"
	// Noted is no matter of homes: the next text of a log that the control clusters keep together, see [Store.Note].
	Noted Kind = "note"
)

// Value is what a round decides. Two are the same decision if they are equal.
type Value struct {
	Kind Kind `json:"kind"`
	// Generation and Home are those from now on, From is the home before. Generations begin with 0, the home of the file; all but Stay add one.
	Generation int64  `json:"generation"`
	Home       string `json:"home"`
	From       string `json:"from,omitempty"`
	// Switch names the switch, Asked who wanted it.
	Switch string `json:"switch"`
	Asked  string `json:"asked,omitempty"`
	// Began and Proposed are when the switch was begun, and when this was proposed: ms since 1970, of the coordinator's clock, for people.
	Began    int64 `json:"began,omitempty"`
	Proposed int64 `json:"proposed,omitempty"`
	// Cut says where the new generation begins in each partition; zero for Stay.
	Cut CutRef `json:"cut,omitzero"`
	// Note is the text of Noted, which has nothing else.
	Note string `json:"note,omitempty"`
}

const (
	// maxText bounds names and words in a decision, so that it is always short.
	maxText = 255
	// maxNote bounds a note.
	maxNote = 512 << 10
)

// isNotes reports whether what is said of a set is a log of notes. No set of a router has such a name.
func isNotes(set string) bool { return strings.HasPrefix(set, "@") }

// checkIn is check for a decision of a set, or of a log of notes.
func (v Value) checkIn(set string) error {
	switch {
	case isNotes(set) != (v.Kind == Noted):
		return fmt.Errorf("a decision of kind %s in %q", v.Kind, set)
	case v.Kind != Noted:
		return v.check()
	case v.Note == "" || len(v.Note) > maxNote:
		return fmt.Errorf("a note of %d bytes; there may be 1 to %d", len(v.Note), maxNote)
	case v != Value{Kind: Noted, Note: v.Note, Switch: v.Switch}:
		return errors.New("a note that says something of a home")
	}
	return nil
}

func (v Value) check() error {
	for _, t := range []string{v.Home, v.From, v.Switch, v.Asked, v.Cut.ID, v.Cut.Digest} {
		if len(t) > maxText {
			return fmt.Errorf("a text of %d bytes in a decision, and at most %d are read", len(t), maxText)
		}
	}
	switch {
	case v.Note != "":
		return errors.New("a note in a decision about a home")
	case v.Home == "":
		return errors.New("a decision without a home")
	case v.Kind == Stay && v.Generation < 0:
		return errors.New("a generation below 0")
	case v.Kind == Stay:
		return nil
	case v.Kind != Planned && v.Kind != Unplanned && v.Kind != Back:
		return fmt.Errorf("kind of decision %q is not known", v.Kind)
	case v.Generation < 1:
		return errors.New("a switch to a generation below 1")
	case v.Home == v.From || v.From == "":
		return fmt.Errorf("a switch from %q to %q", v.From, v.Home)
	}
	return nil
}

// follows reports whether a decision may come after generation and home; home is empty where only the file says it.
func (v Value) follows(generation int64, home string) bool {
	if v.Kind == Noted {
		return true
	}
	if v.Kind == Stay {
		return v.Generation == generation && (home == "" || v.Home == home)
	}
	return v.Generation == generation+1 && (home == "" || v.From == home)
}

// Plan is what a running switch is doing: for people, and for who takes over. It decides nothing.
type Plan struct {
	Switch string `json:"switch"`
	Kind   Kind   `json:"kind"`
	From   string `json:"from"`
	To     string `json:"to"`
	Round  int64  `json:"round"`
	// Ballot is the coordinator's; the plan of the highest one counts, of one coordinator the one with the highest Seq.
	Ballot Ballot `json:"ballot"`
	Seq    int64  `json:"seq"`
	Step   string `json:"step"`
	// Began is when the switch was begun, Since when the step was: ms since 1970.
	Began int64 `json:"began"`
	Since int64 `json:"since"`
	// Options are what was asked for, as who runs the switch wrote them.
	Options map[string]string `json:"options,omitempty"`
	// Outcome is empty while it runs; Why is for people.
	Outcome string `json:"outcome,omitempty"`
	Why     string `json:"why,omitempty"`
}

func (p *Plan) check() error {
	switch {
	case p == nil:
		return errors.New("no plan")
	case p.Switch == "" || p.Ballot.Unique == "":
		return errors.New("a plan without a switch or a ballot")
	}
	return nil
}

// id is that of the plan's record.
func (p *Plan) id() string { return p.Switch + "." + p.Ballot.Unique }

// ahead reports whether a plan is newer than another of the same switch.
func (p *Plan) ahead(o *Plan) bool {
	if c := p.Ballot.Compare(o.Ballot); c != 0 {
		return c > 0
	}
	return p.Seq > o.Seq
}
