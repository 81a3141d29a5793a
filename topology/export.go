package topology

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is a key of a table and its value in TOML.
type field struct{ name, literal string }

// fields are those of one table, in the order in which they are written. What has its default is left out.
type fields []field

// add appends a field unless its literal is empty.
func (f fields) add(name, literal string) fields {
	if literal == "" {
		return f
	}
	return append(f, field{name, literal})
}

// get is the literal of a field; empty where it has its default.
func (f fields) get(name string) string {
	if i := slices.IndexFunc(f, func(f field) bool { return f.name == name }); i >= 0 {
		return f[i].literal
	}
	return ""
}

// inline writes the fields as a table in braces; empty for none.
func (f fields) inline() string {
	parts := make([]string, len(f))
	for i, f := range f {
		parts[i] = f.name + " = " + f.literal
	}
	if len(parts) == 0 {
		return ""
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// Export writes the topology as a file that reads as the same topology: in canonical order and form, without comments.
func (t *Topology) Export() string {
	var b strings.Builder
	table := func(header string, f fields) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(header + "\n")
		for _, f := range f {
			b.WriteString(f.name + " = " + f.literal + "\n")
		}
	}
	table("[fabric]", t.Fabric.fields())
	if f := t.Admin.fields(); len(f) > 0 || len(t.Admin.Identities) > 0 {
		table("[admin]", f)
	}
	for _, i := range t.Admin.Identities {
		table("[[admin.identity]]", i.fields())
	}
	t.exportRunning(table)
	for _, n := range t.Nodes {
		table("[[node]]", n.fields())
	}
	for _, r := range t.sortedRouters() {
		table("[[router]]", r.head())
		for _, s := range r.Sets {
			table("[[router.set]]", s.fields())
		}
		for _, q := range r.Quotas {
			table("[[router.quota]]", q.fields())
		}
	}
	return b.String()
}

func (t *Topology) exportRunning(table func(header string, f fields)) {
	for _, c := range sorted(t.Clusters, func(c Cluster) string { return c.Name }) {
		table("[[cluster]]", slices.Concat(fields{{"name", quote(c.Name)}}, c.fields()))
	}
	for _, s := range t.Stays {
		table("[[stay]]", s.fields())
	}
	for _, l := range sorted(t.Links, func(l Link) string { return l.Name }) {
		f := l.fields()
		if l.Name != l.From+"-"+l.To {
			f = slices.Concat(fields{{"name", quote(l.Name)}}, f)
		}
		table("[[link]]", f)
	}
}

// Hash is equal for topologies with the same Export, and as good as never for others.
func (t *Topology) Hash() uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, t.Export()) // a hash never fails
	return h.Sum64()
}

// RunningHash is Hash of what settings can change. What belongs to a node's own file, such as its nodes and who may use the admin
// API, is left out.
func (t *Topology) RunningHash() uint64 {
	h := fnv.New64a()
	write := func(header string, f fields) { _, _ = fmt.Fprintln(h, header, f.inline()) } // a hash never fails
	t.exportRunning(write)
	for _, r := range t.sortedRouters() {
		write("[[router]]", slices.Concat(r.head(), r.fields()))
	}
	return h.Sum64()
}

func (t *Topology) sortedRouters() []Router {
	return sorted(t.Routers, func(r Router) string { return r.instance() })
}

func sorted[T any](list []T, by func(T) string) []T {
	return slices.SortedFunc(slices.Values(list), func(a, b T) int { return cmp.Compare(by(a), by(b)) })
}

func (f Fabric) fields() (out fields) {
	var cidrs []string
	for _, p := range f.GossipCIDRs {
		cidrs = append(cidrs, p.String())
	}
	return out.add("name", quote(f.Name)).add("gossip_key", f.GossipKey.literal()).add("gossip_cidrs", quoteAll(cidrs)).add("control", quoteAll(f.Control))
}

func (a Admin) fields() (out fields) {
	return out.add("tls", a.TLS.literal()).add("insecure", isSet(a.Insecure))
}

func (i Identity) fields() (out fields) {
	return out.add("name", quote(i.Name)).add("token", i.Token.literal()).add("subject", quote(i.Subject)).
		add("role", quote(i.Role.String())).add("topics", quoteAll(i.Topics.Strings()))
}

func (n Node) fields() (out fields) {
	capacity := ""
	if n.Capacity != 1 {
		capacity = strconv.FormatFloat(n.Capacity, 'f', -1, 64)
	}
	return out.add("name", quote(n.Name)).add("dc", quote(n.DC)).add("rack", quote(n.Rack)).add("http", quote(n.HTTP)).
		add("grpc", quote(n.GRPC)).add("gossip", quote(n.Gossip)).add("capacity", capacity)
}

// fields are those of a cluster but its name.
func (c Cluster) fields() (out fields) {
	out = out.add("dc", quote(c.DC)).add("bootstrap", quoteAll(c.Bootstrap))
	if e := c.Embedded; e != nil {
		out = out.add("embedded", fields{{"dir", quote(cmp.Or(e.dir, e.Dir))}, {"listen", quote(e.Listen)}}.inline())
	}
	if t := c.TLS; t != nil {
		var f fields
		f = f.add("ca", t.CA.literal()).add("cert", t.Cert.literal()).add("key", t.Key.literal()).add("server_name", quote(t.ServerName))
		out = out.add("tls", cmp.Or(f.inline(), "{}"))
	}
	if c.SASL != nil {
		out = out.add("sasl", c.SASL.fields().inline())
	}
	return out.add("principal", quote(c.Principal)).add("insecure", isSet(c.Insecure))
}

func (s *SASL) fields() (out fields) {
	return out.add("mechanism", quote(s.Mechanism)).add("user", quote(s.User)).add("password", s.Password.literal()).
		add("token", s.Token.literal()).add("token_url", quote(s.TokenURL)).add("client_id", quote(s.ClientID)).
		add("client_secret", s.ClientSecret.literal()).add("scope", quote(s.Scope)).
		add("access_key", s.AccessKey.literal()).add("secret_key", s.SecretKey.literal()).add("session_token", s.SessionToken.literal()).
		add("realm", quote(s.Realm)).add("service", quote(s.Service)).add("keytab", s.Keytab.literal()).add("krb5_conf", s.Krb5Conf.literal())
}

// fields are those of a link but its name.
func (l Link) fields() (out fields) {
	start, factor, rate := "", "", ""
	switch l.Start.Kind {
	case Latest:
		start = quote("latest")
	case At:
		start = l.Start.At.Format(time.RFC3339Nano)
	}
	if l.ReplicationFactor > 0 {
		factor = strconv.Itoa(l.ReplicationFactor)
	}
	if l.ByteRate > 0 {
		rate = strconv.FormatInt(l.ByteRate, 10)
	}
	out = out.add("from", quote(l.From)).add("to", quote(l.To)).add("topics", quoteAll(l.Topics.Strings())).
		add("exclude", quoteAll(l.Exclude.Strings())).add("groups", quoteAll(l.Groups.Strings())).
		add("groups_exclude", quoteAll(l.GroupsExclude.Strings())).add("start", start).add("replication_factor", factor).add("byte_rate", rate)
	return slices.Concat(out, l.Naming.fields(), l.policyFields())
}

func (s Stay) fields() fields {
	return fields{{"topics", quoteAll(s.Topics.Strings())}, {"dcs", quoteAll(s.DCs)}}
}

// stays writes the rules as one value; empty for none.
func (t *Topology) stays() string {
	var all []string
	for _, s := range t.Stays {
		all = append(all, s.fields().inline())
	}
	if len(all) == 0 {
		return ""
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// instance is what settings call one instance of a router.
func (r Router) instance() string { return r.Name + "@" + r.Node }

// head are the fields of a router but its sets.
func (r Router) head() (out fields) {
	out = out.add("name", quote(r.Name)).add("node", quote(r.Node)).add("listen", quote(r.Listen)).add("advertise", quote(r.Advertise)).
		add("slots", quote(r.Slots.String())).add("sni", quote(r.SNI)).add("home", quote(r.Home))
	if r.Isolated != ContinueIsolated {
		out = out.add("isolated", quote(string(r.Isolated)))
	}
	if r.Tail != DeliverTail {
		out = out.add("tail", quote(string(r.Tail)))
	}
	out = append(out, r.Failover.fields()...)
	if r.Auth != PassThrough {
		out = out.add("auth", quote(r.Auth)).add("credentials", r.Credentials.literal())
	}
	return out.add("tls", r.TLS.literal()).add("insecure", isSet(r.Insecure)).add("limits", r.Limits.literal())
}

// fields are those of an instance but what names it.
func (r Router) fields() fields {
	var sets []string
	for _, s := range r.Sets {
		sets = append(sets, s.fields().inline())
	}
	out := r.head()[2:]
	if len(sets) > 0 {
		out = out.add("set", "["+strings.Join(sets, ", ")+"]")
	}
	var quotas []string
	for _, q := range r.Quotas {
		quotas = append(quotas, q.fields().inline())
	}
	if len(quotas) > 0 {
		out = out.add("quota", "["+strings.Join(quotas, ", ")+"]")
	}
	return out
}

func (f Failover) fields() (out fields) {
	if f.FailoverTo != "" {
		out = out.add("failover_to", quote(f.FailoverTo)).add("failover_after", quote(f.FailoverAfter.String()))
	}
	return out
}

func (s Set) fields() (out fields) {
	out = out.add("name", quote(s.Name)).add("topics", quoteAll(s.Topics.Strings())).add("groups", quoteAll(s.Groups.Strings())).
		add("home", quote(s.Home)).add("isolated", quote(string(s.Isolated))).add("tail", quote(string(s.Tail)))
	return append(out, s.Failover.fields()...).add("slots", quote(s.Slots.String())).add("sni", quote(s.SNI))
}

func (s Secret) literal() string { return quote(s.ref) }

func isSet(on bool) string {
	if on {
		return "true"
	}
	return ""
}

func quoteAll(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = cmp.Or(quote(text), `""`)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// quote writes a string in TOML; nothing for an empty one.
func quote(text string) string {
	if text == "" {
		return ""
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
