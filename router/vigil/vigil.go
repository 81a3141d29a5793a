// Package vigil says when a home is dead enough to be left without anybody's asking. All of it is pure.
//
//	reached ──▶ a majority says it is lost ──── for so long, without a break ──▶ due ──▶ unless it was left by itself lately, or too often
//	   ▲                  │
//	   └──────────────────┘ one data center too few says so
//
// No single observer counts: a data center says that a cluster is lost if none of its nodes reaches it, and a majority of all data centers must, whether they say anything or not. So what
// is cut off with the cluster, or dead with it, is no vote for it, and two data centers never suffice if one of them is the dead one.
package vigil

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Observer is what one node that is alive measures of a cluster.
type Observer struct {
	DC   string
	Lost bool // it neither reads nor writes there
}

// Verdict is what the data centers say.
type Verdict struct {
	Dead bool
	// Lost are those none of whose nodes reaches the cluster, Silent those of which nothing is known. In order.
	Lost, Silent []string
	Of           int // how many there are
}

// String is for people.
func (v Verdict) String() string {
	text := fmt.Sprintf("%d of %d data centers do not reach it", len(v.Lost), v.Of)
	if len(v.Lost) > 0 {
		text += " (" + strings.Join(v.Lost, ", ") + ")"
	}
	if len(v.Silent) > 0 {
		text += ", and " + strings.Join(v.Silent, ", ") + " is silent"
	}
	return text
}

// Judge asks the data centers of a fabric. What observers of others say does not count.
func Judge(dcs []string, all []Observer) Verdict {
	reached, heard := make(map[string]bool), make(map[string]bool)
	for _, o := range all {
		heard[o.DC] = true
		reached[o.DC] = reached[o.DC] || !o.Lost
	}
	v := Verdict{Of: len(dcs)}
	for _, dc := range slices.Sorted(slices.Values(dcs)) {
		switch {
		case !heard[dc]:
			v.Silent = append(v.Silent, dc)
		case !reached[dc]:
			v.Lost = append(v.Lost, dc)
		}
	}
	v.Dead = 2*len(v.Lost) > v.Of
	return v
}

// Watch is for how long a home has been dead. The zero value has seen nothing.
type Watch struct {
	home  string
	since time.Duration
}

// Due takes what is said of a home at a moment of a monotonic clock, and reports whether it is dead for so long.
func (w *Watch) Due(home string, dead bool, now, after time.Duration) bool {
	switch {
	case !dead:
		*w = Watch{}
		return false
	case w.home != home:
		*w = Watch{home, now}
	}
	return now-w.since >= after
}

const (
	// Rest is how long a set is not moved by itself again.
	Rest = 10 * time.Minute
	// Budget is how often that is done in a Day.
	Budget = 3
	// Day is any 24 hours.
	Day = 24 * time.Hour
)

// Refused says why a set must not be moved by itself now, by the times at which that was done; empty for no reason.
func Refused(before []time.Time, now time.Time) string {
	n := 0
	for _, at := range before {
		switch ago := now.Sub(at); {
		case ago < Rest:
			return fmt.Sprintf("that was done %v ago, and is done again after %v at the earliest", ago.Round(time.Second), Rest)
		case ago < Day:
			n++
		}
	}
	if n >= Budget {
		return fmt.Sprintf("that was done %d times in %v: something is wrong that another home does not cure", n, Day)
	}
	return ""
}
