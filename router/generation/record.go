package generation

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-project/isthmus/router/journal"
)

// Version is that of the records that are written here. It is above those of claims (router/identity), so that a node which knows no switches stops at
// the first record of one, and does not go on to serve the home of its file. Such a node reads no longer ones than identity.MaxClaimBytes; prepares,
// accepts and decisions are shorter.
const Version = 4

// MaxBytes is the longest record that is read.
const MaxBytes = 900 << 10

// Errors of records that are read.
var (
	// ErrVersion says that a record is of a newer Isthmus, whose rules are not known here: who goes on without it may serve another home.
	ErrVersion = journal.ErrVersion
	// ErrForeign says that a record is none of these, or not the one its key names. It does not count for anybody.
	ErrForeign = errors.New("no record of a router's generations")
)

// The kinds of records.
const (
	kindPrepare = "prepare"
	kindAccept  = "accept"
	kindDecided = "decided"
	kindCut     = "cut"
	kindBound   = "bound"
	kindPlan    = "plan"
)

// Record is one record of one router. It is stored as JSON, so that people can read it. ID is never used again by anybody, so compaction takes
// nothing that counts; of a plan only, each coordinator has one that it writes again.
type Record struct {
	V      int    `json:"v"`
	Router string `json:"router"`
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Set    string `json:"set,omitempty"` // empty for what no set names
	// Round and Ballot are those of a prepare, an accept and a decision; Value is of the latter two.
	Round  int64   `json:"round,omitempty"`
	Ballot *Ballot `json:"ballot,omitempty"`
	Value  *Value  `json:"value,omitempty"`
	Cut    *Chunk  `json:"cut,omitempty"`
	Bound  *Bound  `json:"bound,omitempty"`
	Plan   *Plan   `json:"plan,omitempty"`
}

// Key is the record's.
func (r Record) Key() string { return r.Router + "/" + r.Kind + "/" + r.ID }

// Encode is the record's value.
func (r Record) Encode() ([]byte, error) {
	r.V = Version
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode record %.100q: %w", r.Key(), err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record %.100q: %w", r.Key(), err)
	}
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("encode record %.100q: %d bytes, and at most %d are read; name fewer partitions in one record", r.Key(), len(b), MaxBytes)
	}
	return b, nil
}

// Decode reads a record of a router. Records of other routers, and claims, are passed over: mine is false. A version that is not known is an error whatever
// the kind, one of ErrVersion; what makes no sense is ErrForeign.
func Decode(router string, key, value []byte) (r Record, mine bool, err error) {
	if !strings.HasPrefix(string(key), router+"/") {
		return Record{}, false, nil
	}
	foreign := func(err error) (Record, bool, error) {
		return Record{}, true, fmt.Errorf("key %.100q: %w: %w", key, ErrForeign, err)
	}
	if len(value) > MaxBytes {
		return foreign(fmt.Errorf("%d bytes", len(value)))
	}
	v, err := journal.Version(key, value, Version)
	switch {
	case errors.Is(err, ErrVersion):
		return Record{}, true, err
	case err != nil:
		return foreign(err)
	case v < Version: // a claim
		return Record{}, false, nil
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return foreign(err)
	}
	if r.Key() != string(key) {
		return foreign(errors.New("it is another record than its key says"))
	}
	if err := r.check(); err != nil {
		return foreign(err)
	}
	return r, true, nil
}

// Owns returns what says of a record of a router that it is one of generations that this Isthmus reads. One of a newer version is not, whatever its kind.
func Owns(router string) func(key, value []byte) bool {
	var kinds []string
	for _, kind := range []string{kindPrepare, kindAccept, kindDecided, kindCut, kindBound, kindPlan} {
		kinds = append(kinds, router+"/"+kind+"/")
	}
	return func(key, value []byte) bool {
		if !slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(string(key), k) }) {
			return false
		}
		v, err := journal.Version(key, value, Version)
		return err == nil && v == Version
	}
}

// check finds what a record lacks.
func (r Record) check() error {
	switch {
	case r.Router == "":
		return errors.New("no router")
	case r.ID == "":
		return errors.New("no id")
	}
	switch r.Kind {
	case kindPrepare, kindAccept, kindDecided:
		switch {
		case r.Round < 1:
			return errors.New("no round")
		case r.Kind != kindDecided && (r.Ballot == nil || r.Ballot.Counter < 1 || r.Ballot.Unique == ""):
			return errors.New("no ballot")
		case r.Kind != kindPrepare && r.Value == nil:
			return errors.New("no value")
		case r.Value != nil:
			return r.Value.checkIn(r.Set)
		}
		return nil
	case kindCut:
		return r.Cut.check()
	case kindBound:
		return r.Bound.check()
	case kindPlan:
		return r.Plan.check()
	}
	return fmt.Errorf("kind %q is not known", r.Kind)
}
