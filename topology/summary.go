package topology

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// maxNotes bounds the notes of a summary.
const maxNotes = 50

// Summary describes the fabric to a person in a few lines: clusters, links with their patterns, nodes, and notes on what
// may surprise. It names no secret and not even where one is.
func (t *Topology) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "fabric %s: %s, %s, %s\n", t.Fabric.Name,
		count(len(t.Clusters), "cluster"), count(len(t.Links), "link"), count(len(t.Nodes), "node"))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range t.Clusters {
		fmt.Fprintf(w, "cluster %s\t%s\t%s\n", c.Name, orNone(c.DC), c.access())
	}
	w.Flush() // the columns of clusters and links differ; a strings.Builder never fails
	for _, l := range t.Links {
		fmt.Fprintf(w, "link %s\t%s -> %s\t%s\n", l.Name, l.From, l.To, l.content())
	}
	w.Flush()
	for _, n := range t.Nodes {
		fmt.Fprintf(w, "node %s\t%s\thttp %s\tgrpc %s\n", n.Name, orNone(n.DC), orNone(n.HTTP), orNone(n.GRPC))
	}
	w.Flush()
	for _, note := range t.notes() {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (c Cluster) access() string {
	if c.Embedded != nil {
		return fmt.Sprintf("embedded in %s on %s", c.Embedded.Dir, c.Embedded.Listen)
	}
	access := strings.Join(c.Bootstrap, ", ")
	if c.TLS != nil {
		access += " tls"
	}
	if c.SASL != nil {
		access += " " + c.SASL.Mechanism
	}
	return access
}

func (l Link) content() string {
	parts := []string{"topics " + strings.Join(l.Topics.Strings(), ", ")}
	if len(l.Exclude) > 0 {
		parts = append(parts, "without "+strings.Join(l.Exclude.Strings(), ", "))
	}
	if len(l.Groups) > 0 {
		parts = append(parts, "groups "+strings.Join(l.Groups.Strings(), ", "))
	}
	parts = append(parts, "from "+l.Start.String())
	if l.ReplicationFactor > 0 {
		parts = append(parts, fmt.Sprintf("replication factor %d", l.ReplicationFactor))
	}
	return strings.Join(parts, "; ")
}

// notes tells what is allowed and yet may surprise.
func (t *Topology) notes() (notes []string) {
	linked := make(map[string]bool)
	pairs := make(map[[2]string][]Link)
	for _, l := range t.Links {
		linked[l.From], linked[l.To] = true, true
		notes = append(notes, l.notes()...)
		pair := [2]string{l.From, l.To}
		for _, other := range pairs[pair] {
			if len(notes) > maxNotes {
				break
			}
			notes = append(notes, parallel(other, l)...)
		}
		pairs[pair] = append(pairs[pair], l)
	}
	for _, c := range t.Clusters {
		if !linked[c.Name] {
			notes = append(notes, fmt.Sprintf("cluster %s is on no link", c.Name))
		}
		if c.SASL != nil && c.SASL.Mechanism == "PLAIN" && c.TLS == nil {
			notes = append(notes, fmt.Sprintf("cluster %s: PLAIN without tls sends the password in clear", c.Name))
		}
	}
	if len(notes) > maxNotes {
		notes = append(notes[:maxNotes], "and more")
	}
	return notes
}

// notes tells of topics that a link names and yet never copies.
func (l Link) notes() (notes []string) {
	for _, p := range l.Topics {
		if p.kind == literal && l.Exclude.Match(p.text) {
			notes = append(notes, fmt.Sprintf("link %s names %s and excludes it: it is not mirrored", l.Name, p))
		}
	}
	return notes
}

// excludes tells whether the link plainly leaves a pattern out: a name that it excludes, or the very same pattern.
func (l Link) excludes(p Pattern) bool {
	return slices.ContainsFunc(l.Exclude, func(e Pattern) bool {
		return e.text == p.text || p.kind == literal && e.Match(p.text)
	})
}

// parallel tells of the topics that two links of the same pair both match, once per pair of patterns.
func parallel(a, b Link) (notes []string) {
	if b.Name < a.Name {
		a, b = b, a
	}
	for _, p := range a.Topics {
		for _, q := range b.Topics {
			possible, sure := overlap(p, q)
			if !possible || a.excludes(q) || b.excludes(p) || len(notes) > maxNotes {
				continue
			}
			verb := "overlap"
			if !sure {
				verb = "may overlap"
			}
			notes = append(notes, fmt.Sprintf("links %s (%s) and %s (%s) %s: where both match, %s carries the topic", a.Name, p, b.Name, q, verb, a.Name))
		}
	}
	return notes
}
