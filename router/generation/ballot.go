package generation

import (
	"cmp"
	"strings"
)

// Ballot orders those who want to decide one round: the higher one takes over. The zero value is below all others.
type Ballot struct {
	Counter int64  `json:"n"`
	Node    string `json:"node"`
	Unique  string `json:"id"` // nobody else has it, so no two ballots are equal
}

// Compare is -1 if b is lower, 1 if it is higher.
func (b Ballot) Compare(o Ballot) int {
	return cmp.Or(cmp.Compare(b.Counter, o.Counter), strings.Compare(b.Node, o.Node), strings.Compare(b.Unique, o.Unique))
}

// Above is the next ballot of a node that is higher.
func (b Ballot) Above(node, unique string) Ballot { return Ballot{b.Counter + 1, node, unique} }
