package topology

import (
	"fmt"
	"slices"
)

// Isolation is what an instance of a router does with writes while it cannot reach a majority of the control clusters: then nobody tells it
// whether the home has moved.
type Isolation string

// The isolations.
const (
	// ContinueIsolated goes on writing to the home that it knows: availability. What is written at a home that was left is merged later.
	ContinueIsolated Isolation = "continue"
	// HoldIsolated takes no writes: consistency.
	HoldIsolated Isolation = "hold"
)

// Isolation is that of a set; of what no set names if set is empty.
func (r Router) Isolation(set string) Isolation { return r.lossesOf(set).Isolated }

// isolatedNotes tells of routers that take no writes while a single cluster is away: of two control clusters both are needed.
func (t *Topology) isolatedNotes() (notes []string) {
	controls := t.Controls()
	if len(controls) != 2 {
		return nil
	}
	for _, r := range t.Routers {
		holds := r.Isolated == HoldIsolated || slices.ContainsFunc(r.Sets, func(s Set) bool { return s.Isolated == HoldIsolated })
		note := fmt.Sprintf(`router %s: isolated = "hold" stops writes while %s or %s is away, because of two control clusters both are needed; a third one would be a witness`,
			r.Name, controls[0], controls[1])
		if holds && !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	return notes
}
