package topology

import (
	"fmt"
	"net"
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
	if len(t.Fabric.Control) > 0 {
		fmt.Fprintf(&b, "control clusters %s\n", strings.Join(t.Fabric.Control, ", "))
	}
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
		fmt.Fprintf(w, "node %s\t%s\n", n.Name, n.content())
	}
	w.Flush()
	for _, s := range t.Stays {
		fmt.Fprintf(w, "stay %s\tin %s\n", strings.Join(s.Topics.Strings(), ", "), strings.Join(s.DCs, ", "))
	}
	w.Flush()
	t.summarizeRouters(w)
	t.summarizeAccess(&b)
	for _, note := range t.notes() {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	return b.String()
}

func (n Node) content() string {
	where := orNone(n.DC)
	if n.Rack != "" {
		where += " rack " + n.Rack
	}
	where = fmt.Sprintf("%s\thttp %s\tgrpc %s", where, orNone(n.HTTP), orNone(n.GRPC))
	if n.Gossip != "" {
		where += "\tgossip " + n.Gossip
	}
	if n.Capacity != 1 {
		where += fmt.Sprintf("\tcapacity %g", n.Capacity)
	}
	return where
}

func (t *Topology) summarizeRouters(w *tabwriter.Writer) {
	for _, r := range t.Routers {
		fmt.Fprintf(w, "router %s\ton %s\t%s as %s\t%s\thome %s\t%s\n", r.Name, r.Node, r.Listen, r.Advertise, slots(r.Slots, r.SNI), r.Home, r.access())
	}
	w.Flush()
	for _, r := range t.Routers {
		for _, s := range r.Sets {
			what := "topics " + strings.Join(s.Topics.Strings(), ", ")
			if len(s.Groups) > 0 {
				what += "; groups " + strings.Join(s.Groups.Strings(), ", ")
			}
			what += s.text()
			fmt.Fprintf(w, "set %s\tof %s on %s\t%s\thome %s\t%s\n", s.Name, r.Name, r.Node, slots(s.Slots, s.SNI), s.Home, what)
		}
	}
	w.Flush()
	for _, r := range t.Routers {
		for _, q := range r.Quotas {
			who, what := q.summary()
			fmt.Fprintf(w, "quota\tof %s on %s\t%s\t%s\n", r.Name, r.Node, who, what)
		}
	}
	w.Flush()
}

func slots(p Ports, sni string) string {
	if sni != "" {
		return "slots by name " + sni
	}
	return "slots " + p.String()
}

// summarizeAccess tells how gossip and the admin API are protected.
func (t *Topology) summarizeAccess(b *strings.Builder) {
	if !t.Fabric.GossipKey.IsZero() || len(t.Fabric.GossipCIDRs) > 0 {
		b.WriteString("gossip ")
		if t.Fabric.GossipKey.IsZero() {
			b.WriteString("in clear")
		} else {
			b.WriteString("encrypted")
		}
		var from []string
		for _, p := range t.Fabric.GossipCIDRs {
			from = append(from, p.String())
		}
		if len(from) > 0 {
			b.WriteString(", only from " + strings.Join(from, ", "))
		}
		b.WriteString("\n")
	}
	a := t.Admin
	if a.TLS == nil && !a.Insecure && len(a.Identities) == 0 {
		return
	}
	access := "plain"
	if a.TLS != nil {
		if access = "tls"; !a.TLS.ClientCA.IsZero() {
			access = "tls with client certificates"
		}
	}
	if a.Insecure {
		access += ", insecure allowed"
	}
	fmt.Fprintf(b, "admin %s\n", access)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, i := range a.Identities {
		by, topics := "by token", "all topics"
		if i.Subject != "" {
			by = "by certificate of " + i.Subject
		}
		if len(i.Topics) > 0 {
			topics = "topics " + strings.Join(i.Topics.Strings(), ", ")
		}
		fmt.Fprintf(w, "identity %s\t%s\t%s\t%s\n", i.Name, i.Role, by, topics)
	}
	w.Flush() // a strings.Builder never fails
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
	if len(l.Groups) > 0 && len(l.GroupsExclude) > 0 {
		parts = append(parts, "without "+strings.Join(l.GroupsExclude.Strings(), ", "))
	}
	parts = append(parts, "from "+l.Start.String())
	if l.ReplicationFactor > 0 {
		parts = append(parts, fmt.Sprintf("replication factor %d", l.ReplicationFactor))
	}
	if l.ByteRate > 0 {
		parts = append(parts, fmt.Sprintf("at most %d bytes/s", l.ByteRate))
	}
	for _, f := range slices.Concat(l.Naming.fields(), l.policyFields()) {
		parts = append(parts, f.name+" "+f.literal)
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
		notes = append(notes, c.notes()...)
	}
	for _, n := range t.Nodes {
		notes = append(notes, n.notes(t.Admin)...)
	}
	for _, r := range t.Routers {
		notes = append(notes, r.notes()...)
	}
	notes = append(notes, t.isolatedNotes()...)
	if len(notes) > maxNotes {
		notes = append(notes[:maxNotes], "and more")
	}
	return notes
}

// notes tells of addresses that a node does not open without protection.
func (n Node) notes(a Admin) (notes []string) {
	if a.Insecure || a.TLS != nil && len(a.Identities) > 0 {
		return nil
	}
	for _, address := range []string{n.HTTP, n.GRPC} {
		if host, _, err := net.SplitHostPort(address); err == nil && !isLoopback(host) {
			notes = append(notes, fmt.Sprintf("node %s: others can reach %s; to start it needs [admin] with tls and identities, or insecure = true", n.Name, address))
		}
	}
	return notes
}

// notes tells of topics that a link names and yet never copies, and of fields without effect.
func (l Link) notes() (notes []string) {
	for _, p := range l.Topics {
		if p.kind == literal && l.Exclude.Match(p.text) {
			notes = append(notes, fmt.Sprintf("link %s names %s and excludes it: it is not mirrored", l.Name, p))
		}
	}
	if l.Policy.DeletedAfter != DefaultDeletedAfter && l.Policy.Deleted != FollowDelete && l.Policy.GroupsDeleted != FollowDelete {
		notes = append(notes, fmt.Sprintf("link %s: deleted_after means nothing without deleted = \"follow\"", l.Name))
	}
	if len(l.Keeps.ConfigsExclude) > 0 && len(l.Keeps.Configs) == 0 {
		notes = append(notes, fmt.Sprintf("link %s: sync_configs_exclude means nothing without sync_configs", l.Name))
	}
	if len(l.GroupsExclude) > 0 && len(l.Groups) == 0 {
		notes = append(notes, fmt.Sprintf("link %s: groups_exclude means nothing without groups", l.Name))
	}
	return notes
}

// excludes tells whether the link plainly leaves a pattern out: a name that it excludes, or the very same pattern.
func (l Link) excludes(p Pattern) bool {
	return l.Exclude.name(p)
}

// name tells whether the patterns plainly hold all of another: its very text, or a name that they match.
func (ps Patterns) name(p Pattern) bool {
	return slices.ContainsFunc(ps, func(e Pattern) bool {
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
