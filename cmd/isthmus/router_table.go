package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// routersTable draws a line for each instance, and for each router one for each slot.
func routersTable(res *adminpb.RoutersResponse) string {
	var b strings.Builder
	if len(res.GetRouters()) == 0 {
		b.WriteString("no node that answers runs a router\n")
		writeNotes(&b, unanswered(res.GetUnanswered()))
		return b.String()
	}
	notes := unanswered(res.GetUnanswered())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROUTER\tNODE\tLISTEN\tHOME\tSTATE\tHEARD\tCLIENTS\tTAKEN\tREFUSED\tCLUSTER ID")
	for _, r := range res.GetRouters() {
		state, heard := "ready", "-"
		if !r.GetReady() {
			state = "NOT READY"
		}
		if r.GetHeard() != nil {
			heard = since(r.GetHeard().AsTime(), res.GetNode().GetNow().AsTime())
		}
		var why []string
		refused := int64(0)
		for _, f := range r.GetRefused() {
			refused += f.GetCount()
			why = append(why, fmt.Sprintf("%d× %s", f.GetCount(), f.GetReason()))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", r.GetName(), r.GetNode(), r.GetListen(), r.GetHome(), state, heard, r.GetConnections(),
			r.GetOpened(), refused, shown(r.GetCluster()))
		for _, trouble := range r.GetTroubles() {
			notes = append(notes, fmt.Sprintf("%s on %s: %s", r.GetName(), r.GetNode(), trouble))
		}
		for _, s := range r.GetSets() {
			if s.GetTrouble() != "" {
				notes = append(notes, fmt.Sprintf("%s on %s: %s", strings.TrimSuffix(r.GetName()+"/"+s.GetSet(), "/"), r.GetNode(), oneLine(s.GetTrouble())))
			}
		}
		if refused > 0 {
			notes = append(notes, fmt.Sprintf("%s on %s refused connections: %s", r.GetName(), r.GetNode(), strings.Join(why, ", ")))
		}
		if r.GetProducerIds() == 0 {
			notes = append(notes, fmt.Sprintf("%s on %s has no ids for producers: new idempotent ones are hung up on", r.GetName(), r.GetNode()))
		}
	}
	w.Flush() // to a strings.Builder, which never fails
	b.WriteString("\n")
	w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROUTER\tSLOT\tID\tBROKER\tADDRESS\tINSTANCE\tCLIENTS")
	for _, s := range slotsOf(res.GetRouters()) {
		broker, instance := fmt.Sprint(s.slot.GetBroker()), s.slot.GetInstance()
		if !s.slot.GetThere() {
			broker += ", NOT THERE"
		}
		if !s.slot.GetLive() {
			instance += ", DEAD"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\n", s.router, ofSet(s.slot.GetSet(), s.slot.GetIndex()), s.slot.GetId(), broker, s.slot.GetAddress(), instance, s.clients)
	}
	w.Flush()
	writeSets(&b, res.GetRouters())
	writeNotes(&b, notes)
	return b.String()
}

// writeSets has a line for each set of each instance: where it is, and what its clients may do.
func writeSets(b *strings.Builder, routers []*adminpb.Router) {
	if !slices.ContainsFunc(routers, func(r *adminpb.Router) bool { return len(r.GetSets()) > 0 }) {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nROUTER\tNODE\tSET\tHOME\tGENERATION\tPHASE\tROUND\tWRITES\tLEASE")
	for _, r := range routers {
		for _, s := range r.GetSets() {
			phase, round, lease := orDash(s.GetPhase()), "-", "yes"
			if s.GetRound() > 0 {
				round = fmt.Sprint(s.GetRound())
				if s.GetHeld() {
					round += ", held"
				}
			}
			if !s.GetLeased() {
				lease = "NO"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%d\t%s\n", r.GetName(), r.GetNode(), orDash(s.GetSet()), s.GetHome(), s.GetGeneration(), phase, round,
				s.GetWrites(), lease)
		}
	}
	w.Flush()
}

// ofSet names a slot as metrics do.
func ofSet(set string, slot int32) string {
	if set == "" {
		return fmt.Sprint(slot)
	}
	return fmt.Sprintf("%s/%d", set, slot)
}

// slotLine is what the clients of some instances of a router are told of a slot.
type slotLine struct {
	router  string
	slot    *adminpb.RouterSlot
	clients int64
}

// slotsOf are the slots of all routers. Where instances tell clients the same, as those of one data center do, that is one line.
func slotsOf(routers []*adminpb.Router) (lines []slotLine) {
	type key struct {
		router, set, address, instance string
		index, id, broker              int32
		there, live                    bool
	}
	at := make(map[key]int)
	for _, r := range routers {
		for _, s := range r.GetSlots() {
			k := key{r.GetName(), s.GetSet(), s.GetAddress(), s.GetInstance(), s.GetIndex(), s.GetId(), s.GetBroker(), s.GetThere(), s.GetLive()}
			i, known := at[k]
			if !known {
				i = len(lines)
				at[k] = i
				lines = append(lines, slotLine{router: r.GetName(), slot: s})
			}
			lines[i].clients += s.GetConnections()
		}
	}
	slices.SortStableFunc(lines, func(a, b slotLine) int {
		return cmp.Or(strings.Compare(a.router, b.router), strings.Compare(a.slot.GetSet(), b.slot.GetSet()), cmp.Compare(a.slot.GetIndex(), b.slot.GetIndex()), strings.Compare(a.slot.GetAddress(), b.slot.GetAddress()))
	})
	return lines
}

// routerClientsTable draws a line for each connection.
func routerClientsTable(res *adminpb.RouterClientsResponse) string {
	var b strings.Builder
	if len(res.GetClients()) == 0 {
		b.WriteString("no client is connected at the routers of the nodes that answer\n")
		writeNotes(&b, unanswered(res.GetUnanswered()))
		return b.String()
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROUTER\tNODE\tSLOT\tBROKER\tFROM\tCLIENT ID\tSOFTWARE\tPRINCIPAL\tWRITES\tREADS\tIN\tOUT\tREQUESTS\tDUE\tTHROTTLED\tSINCE")
	for _, c := range res.GetClients() {
		slot, broker := ofSet(c.GetSet(), c.GetSlot()), fmt.Sprint(c.GetBroker())
		if c.GetSlot() < 0 {
			slot = "bootstrap"
		}
		if c.GetBroker() < 0 {
			broker = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", c.GetRouter(), c.GetNode(), slot, broker, c.GetAddress(), shown(c.GetClientId()),
			shown(c.GetSoftware()+" "+c.GetSoftwareVersion()), shown(cmp.Or(c.GetPrincipal(), c.GetSubject())), firstOf(c.GetProduces()), firstOf(c.GetFetches()),
			size(c.GetBytesIn()), size(c.GetBytesOut()), c.GetRequests(), c.GetPending(), age(c.GetThrottledSeconds()), since(c.GetSince().AsTime(), res.GetNode().GetNow().AsTime()))
	}
	w.Flush() // to a strings.Builder, which never fails
	var notes []string
	if more := res.GetTotal() - int64(len(res.GetClients())); more > 0 {
		notes = append(notes, fmt.Sprintf("%d more connections, which moved less; --limit shows more", more))
	}
	writeNotes(&b, append(unanswered(res.GetUnanswered()), notes...))
	return b.String()
}

// firstOf is the first of some names, and how many more there are.
func firstOf(names []string) string {
	switch len(names) {
	case 0:
		return "-"
	case 1:
		return shown(names[0])
	}
	return fmt.Sprintf("%s +%d", shown(names[0]), len(names)-1)
}

// shown is a text of strangers as it may stand in a cell: nothing in it moves a cursor.
func shown(text string) string {
	return cell(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text))
}
