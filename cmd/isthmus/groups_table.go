package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// groupsDoc tells more of each state.
const groupsDoc = "docs/groups.md"

// groupHarm orders the states of positions by how much people should know of them. A state of a newer node comes before all.
var groupHarm = []string{"split", "blocked", "unknown", "waits", "one-side", "moves", "alike"}

// groupsView is how positions of groups are shown.
type groupsView struct {
	group      string // only this one; empty: all
	partitions bool   // a line for each position
}

// groupLine is one line of the table: a group on a link, or one of its positions.
type groupLine struct {
	link, group, what   string
	positions           int
	here, there, reread total
	at                  [2]int64 // the positions, if it is one
	active              [2]bool
	state, why          string
	synced              time.Duration // ago, the longest; -1: never
}

// total adds up numbers of which some may be unknown.
type total struct {
	n              int64
	known, unknown int
}

func (t *total) add(n int64) {
	if n < 0 {
		t.unknown++
		return
	}
	t.n, t.known = t.n+n, t.known+1
}

// String is the sum, the least that it can be where something is not known, or a dash where nothing is.
func (t total) String() string {
	switch {
	case t.known == 0:
		return "-"
	case t.unknown > 0:
		return fmt.Sprint(">=", t.n)
	}
	return fmt.Sprint(t.n)
}

// add takes one position.
func (g *groupLine) add(p *adminpb.GroupPosition, at time.Time) {
	if g.positions++; g.positions == 1 || harmOf(p.GetState()) < harmOf(g.state) {
		g.state, g.why = p.GetState(), p.GetWhy()
	} else if g.state == p.GetState() {
		g.why = cmp.Or(g.why, p.GetWhy())
	}
	g.here.add(p.GetSource().GetLag())
	g.there.add(p.GetTarget().GetLag())
	g.reread.add(p.GetReread())
	g.at = [2]int64{p.GetSource().GetOffset(), p.GetTarget().GetOffset()}
	g.active[0], g.active[1] = g.active[0] || p.GetSource().GetActive(), g.active[1] || p.GetTarget().GetActive()
	switch {
	case p.GetSynced() == nil || g.synced < 0:
		g.synced = -1
	default:
		g.synced = max(g.synced, at.Sub(p.GetSynced().AsTime())) // of another node's clock it may be to come
	}
}

func harmOf(state string) int { return slices.Index(groupHarm, state) }

// members says on which end there are some.
func (g *groupLine) members() string {
	return map[[2]bool]string{{true, false}: "here", {false, true}: "there", {true, true}: "both"}[g.active]
}

// lines are those of the table, and those of whole groups.
func (v groupsView) lines(res *adminpb.GroupsResponse) (shown, groups []*groupLine) {
	for _, l := range res.GetLinks() {
		at := l.GetAt().AsTime()
		var last *groupLine
		for _, p := range l.GetPositions() {
			if last == nil || last.group != p.GetGroup() {
				last = &groupLine{link: l.GetLink(), group: p.GetGroup()}
				groups = append(groups, last)
			}
			last.add(p, at)
			last.what = fmt.Sprint(last.positions)
			one := &groupLine{link: l.GetLink(), group: p.GetGroup(), what: fmt.Sprintf("%s:%d", bothNames(p.GetTopic(), p.GetAs()), p.GetPartition())}
			one.add(p, at)
			shown = append(shown, one)
		}
	}
	if !v.partitions {
		shown = groups
	}
	return shown, groups
}

// table draws the groups for a person: whose ends they are, a line for each group or position, what would happen if they moved, and what people
// should look at.
func (v groupsView) table(res *adminpb.GroupsResponse) string {
	if len(res.GetLinks()) == 0 {
		return "no link keeps positions of groups: groups = [\"*\"] in a [[link]] has them follow\n"
	}
	var b strings.Builder
	var notes []string
	for _, l := range res.GetLinks() {
		switch {
		case !l.GetKeeps():
			fmt.Fprintf(&b, "%s keeps no positions of groups: groups = [\"*\"] in its [[link]] has them follow\n", l.GetLink())
		case l.GetNode() != "":
			fmt.Fprintf(&b, "%s: here is %s, there is %s, asked by node %s\n", l.GetLink(), l.GetFrom(), l.GetTo(), l.GetNode())
		}
		if l.GetTrouble() != "" {
			notes = append(notes, fmt.Sprintf("%s: not all could be learnt: %s", l.GetLink(), l.GetTrouble()))
		}
	}
	share := shareOf(res)
	shown, groups := v.lines(res)
	switch {
	case len(groups) > 0:
		b.WriteString("\n")
		v.rows(&b, shown)
		fmt.Fprintf(&b, "\n%s\n", ifMoved(groups))
	case v.group != "" && len(share) > 0:
		// The notes say why there is nothing to show.
	case v.group != "":
		fmt.Fprintf(&b, "group %s has no positions\n", v.group)
	case slices.ContainsFunc(res.GetLinks(), func(l *adminpb.LinkGroups) bool { return l.GetKeeps() && l.GetTrouble() == "" }):
		b.WriteString("no group has positions\n")
	}
	for _, state := range []string{"split", "blocked"} {
		if n := len(slices.DeleteFunc(slices.Clone(groups), func(g *groupLine) bool { return g.state != state })); n > 0 {
			notes = append(notes, fmt.Sprintf("%d %s (%s#%s)", n, state, groupsDoc, state))
		}
	}
	if n := len(share); n > 0 {
		share = share[:min(n, maxNamed)]
		if n > maxNamed {
			share = append(share, fmt.Sprintf("and %d more", n-maxNamed))
		}
		notes = append(notes, fmt.Sprintf("share groups have no committed positions, so nothing of them is kept: %s (%s#what-each-kind-of-group-gets)", strings.Join(share, ", "), groupsDoc))
	}
	writeNotes(&b, notes)
	return b.String()
}

// shareOf names the share groups of all links, each once.
func shareOf(res *adminpb.GroupsResponse) (names []string) {
	for _, l := range res.GetLinks() {
		for _, id := range l.GetShare() {
			names = append(names, cell(id))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (v groupsView) rows(b *strings.Builder, shown []*groupLine) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	if v.partitions {
		fmt.Fprintln(w, "LINK\tGROUP\tPARTITION\tHERE\tLAG\tTHERE\tLAG\tMEMBERS\tSTATE\tREREAD\tSYNCED\tWHY")
	} else {
		fmt.Fprintln(w, "LINK\tGROUP\tPARTITIONS\tHERE LAG\tTHERE LAG\tMEMBERS\tSTATE\tREREAD\tSYNCED\tWHY")
	}
	for _, g := range shown {
		synced := "never"
		if g.synced >= 0 {
			synced = age(g.synced.Seconds())
		}
		places := fmt.Sprintf("%s\t%s", g.here, g.there)
		if v.partitions {
			places = fmt.Sprintf("%s\t%s\t%s\t%s", offset(g.at[0]), g.here, offset(g.at[1]), g.there)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.link, cell(g.group), g.what, places, orDash(g.members()), g.state, g.reread, synced, cell(g.why))
	}
	w.Flush() // to a strings.Builder, which never fails
}

// ifMoved says in one line what groups would read again if all moved to the other end now.
func ifMoved(groups []*groupLine) string {
	var again []*groupLine
	var sum int64
	unknown := 0
	for _, g := range groups {
		switch {
		case g.reread.unknown > 0:
			unknown++
		case g.reread.n > 0:
			again, sum = append(again, g), sum+g.reread.n
		}
	}
	of := fmt.Sprintf("%d groups", len(groups))
	if len(groups) == 1 {
		of = "1 group"
	}
	text := fmt.Sprintf("if all moved there now, none of %s would read anything again", of)
	if len(again) > 0 {
		slices.SortStableFunc(again, func(a, b *groupLine) int { return cmp.Compare(b.reread.n, a.reread.n) })
		var most []string
		for i, g := range again {
			if i == maxNamed {
				most = append(most, fmt.Sprintf("and %d more", len(again)-maxNamed))
				break
			}
			most = append(most, fmt.Sprintf("%s %s %d", g.link, cell(g.group), g.reread.n))
		}
		text = fmt.Sprintf("if all moved there now, %d of %s would read %d offsets again: %s", len(again), of, sum, strings.Join(most, ", "))
	}
	if unknown > 0 {
		text += fmt.Sprintf("; of %d it is not known", unknown)
	}
	return text
}
