package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// text tells a person: the links, then each plan with its graph, its routes and what links carry.
func (r routing) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "fabric %s: %s, %s\n\n", r.Fabric, plural(len(r.Clusters), "cluster"), plural(len(r.Links), "link"))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LINK\tFROM\tTO\tTOPICS\tWRITTEN")
	for _, l := range r.Links {
		topics := strings.Join(l.Topics, ", ")
		if len(l.Exclude) > 0 {
			topics += " without " + strings.Join(l.Exclude, ", ")
		}
		if l.Naming != "" {
			topics += " as " + l.Naming
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Name, l.From, l.To, topics, l.Written)
	}
	w.Flush() // to a strings.Builder, which never fails
	for _, p := range r.Plans {
		r.plan(&b, p)
	}
	switch {
	case r.Left > 0:
		fmt.Fprintf(&b, "\nand %s more; --topic shows that of a topic\n", plural(r.Left, "plan"))
	case len(r.Plans) == 0:
		b.WriteString("\nno link takes such a topic\n")
	}
	return b.String()
}

func (r routing) plan(b *strings.Builder, p topicRoutes) {
	most, topics := 0, strings.Join(p.Topics, ", ")
	for _, route := range p.Routes {
		most = max(most, route.Hops)
	}
	if slices.ContainsFunc(p.Routes, func(r routeJSON) bool { return r.As != "" }) && topics != p.Sample {
		topics += ", such as " + p.Sample
	}
	fmt.Fprintf(b, "\ntopics %s: %d of %s, %s of at most %s\n\n", topics, len(p.Links),
		plural(len(r.Links), "link"), plural(len(p.Routes), "route"), plural(most, "hop"))
	for _, line := range r.graph(p) {
		b.WriteString("  " + line + "\n")
	}
	b.WriteString("\n")
	var nowhere []string
	for _, c := range r.Clusters {
		lines := r.tree(p, c.Name)
		if len(lines) == 0 {
			nowhere = append(nowhere, c.Name)
			continue
		}
		fmt.Fprintf(b, "  from %s\n", c.Name)
		for _, line := range lines {
			b.WriteString("  " + line + "\n")
		}
	}
	if len(nowhere) > 0 {
		fmt.Fprintf(b, "  nowhere from %s\n", strings.Join(nowhere, ", "))
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  LINK\tCARRIES WHAT WAS PRODUCED IN")
	for _, c := range p.Links {
		fmt.Fprintf(w, "  %s\t%s\n", c.Link, cmp.Or(strings.Join(c.Origins, ", "), "nothing: other links bring it by fewer hops, or come first by name"))
	}
	w.Flush() // to a strings.Builder, which never fails
	if n := len(p.Cycles); n > 0 {
		fmt.Fprintf(b, "\n  %s of links, such as %s: no record goes round, because its batch tells its origin; so the targets must keep producer ids\n",
			plural(n, "cycle"), strings.Join(p.Cycles[0], " "))
	}
}

// graph draws which clusters are joined, each pair once, by the cluster that most pairs have in common.
func (r routing) graph(p topicRoutes) (lines []string) {
	const there, back = 1, 2
	at := make(map[string]int)
	for i, c := range r.Clusters {
		at[c.Name] = i
	}
	takes := make(map[string]bool)
	for _, c := range p.Links {
		takes[c.Link] = true
	}
	ways := make([]map[int]int, len(r.Clusters)) // cluster → its neighbors → there, back or both
	for i := range ways {
		ways[i] = make(map[int]int)
	}
	for _, l := range r.Links {
		if takes[l.Name] {
			ways[at[l.From]][at[l.To]] |= there
			ways[at[l.To]][at[l.From]] |= back
		}
	}
	type row struct{ name, rest string }
	var rows []row
	width := 0
	for range r.Clusters {
		hub := 0
		for i := range ways {
			if len(ways[i]) > len(ways[hub]) {
				hub = i
			}
		}
		name := r.Clusters[hub].Name
		for _, arrow := range []struct {
			way  int
			sign string
		}{{there | back, "<->"}, {back, "<--"}, {there, "-->"}} {
			var others []string
			for i, c := range r.Clusters {
				if ways[hub][i] == arrow.way {
					others = append(others, c.Name)
				}
			}
			if len(others) > 0 {
				rows = append(rows, row{name, arrow.sign + " " + strings.Join(others, ", ")})
				width = max(width, len(name))
				name = ""
			}
		}
		for i := range ways {
			delete(ways[i], hub)
		}
		clear(ways[hub])
	}
	for _, row := range rows {
		lines = append(lines, fmt.Sprintf("%-*s %s", width, row.name, row.rest))
	}
	return lines
}

// tree draws the routes of one origin: beside each cluster how many links it is away, and the last of them.
func (r routing) tree(p topicRoutes, origin string) []string {
	over := make(map[string]routeJSON)       // by target
	children := make(map[string][]routeJSON) // by the cluster before it
	from := make(map[string]string)
	for _, l := range r.Links {
		from[l.Name] = l.From
	}
	for _, route := range p.Routes {
		if route.Origin == origin {
			over[route.Target] = route
			last := from[route.Links[len(route.Links)-1]]
			children[last] = append(children[last], route)
		}
	}
	var names, rest []string
	var grow func(at, indent string)
	grow = func(at, indent string) {
		for i, child := range children[at] {
			branch, below := "├─ ", "│  "
			if i == len(children[at])-1 {
				branch, below = "└─ ", "   "
			}
			names = append(names, indent+branch+child.Target)
			line := fmt.Sprintf("%-6s  %s", plural(child.Hops, "hop"), child.Links[len(child.Links)-1])
			if child.As != "" {
				line += "  as " + child.As
			}
			rest = append(rest, line)
			grow(child.Target, indent+below)
		}
	}
	grow(origin, "")
	width := 0
	for _, name := range names {
		width = max(width, utf8.RuneCountInString(name))
	}
	lines := slices.Clone(names)
	for i, name := range names {
		lines[i] += strings.Repeat(" ", width-utf8.RuneCountInString(name)+2) + rest[i]
	}
	return lines
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
