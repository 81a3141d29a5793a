package main

import (
	"fmt"
	"strings"
)

// dot draws the fabric for Graphviz: clusters in the boxes of their data centers, an edge for each link. One that carries nothing
// is dashed.
func (r routing) dot() string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %s {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n", dotQuote(r.Fabric))
	told := make(map[string]bool)
	for _, c := range r.Clusters {
		if c.DC == "" {
			fmt.Fprintf(&b, "  %s;\n", dotQuote(c.Name))
		}
		if c.DC == "" || told[c.DC] {
			continue
		}
		told[c.DC] = true
		fmt.Fprintf(&b, "  subgraph %s {\n    label=%s;\n", dotQuote("cluster_"+c.DC), dotQuote(c.DC))
		for _, in := range r.Clusters {
			if in.DC == c.DC {
				fmt.Fprintf(&b, "    %s;\n", dotQuote(in.Name))
			}
		}
		b.WriteString("  }\n")
	}
	carries := make(map[string][]string)
	for _, p := range r.Plans {
		for _, c := range p.Links {
			if len(c.Origins) > 0 {
				carries[c.Link] = append(carries[c.Link], fmt.Sprintf("%s of %s", strings.Join(p.Topics, ", "), strings.Join(c.Origins, ", ")))
			}
		}
	}
	for _, l := range r.Links {
		style, tip := "", strings.Join(carries[l.Name], "; ")
		if tip == "" {
			style, tip = ", style=dashed", "carries nothing"
		}
		fmt.Fprintf(&b, "  %s -> %s [label=%s, tooltip=%s%s];\n", dotQuote(l.From), dotQuote(l.To), dotQuote(l.Name), dotQuote(tip), style)
	}
	b.WriteString("}\n")
	return b.String()
}

// dotQuote writes a string as Graphviz reads it, where a backslash before most letters is an escape of labels.
func dotQuote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
