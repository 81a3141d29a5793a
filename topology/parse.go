package topology

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	identity = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)
	label    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	hostname = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)
)

// maxNameBytes bounds a name: names become parts of keys, client ids and metric labels.
const maxNameBytes = 64

// maxReplicationFactor is what the protocol's 16 bits hold.
const maxReplicationFactor = 1<<15 - 1

var mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}

// Parse reads the text of a topology file. name is the file's path: it begins every error, and relative paths in the
// text start from its folder. An error is Errors and holds all faults.
func Parse(name string, data []byte) (*Topology, error) {
	if len(data) > MaxFileBytes {
		return nil, Errors{{name, 1, 1, fmt.Sprintf("the file is larger than %d bytes; is it a topology?", MaxFileBytes)}}
	}
	// The byte order mark that some editors write is not a part of the text.
	d := newDiagnostics(name, bytes.TrimPrefix(data, []byte("\ufeff")))
	if !d.readable() {
		return nil, d.err()
	}
	r := reader{
		d: d, base: filepath.Dir(name), root: scope{d: d, t: parseTree(d)},
		clusterAt: make(map[string]int), linkAt: make(map[string]int), nodeAt: make(map[string]int),
		tagAt: make(map[uint64]string), addressAt: make(map[string]string),
	}
	t := r.topology()
	if err := d.err(); err != nil {
		return nil, err
	}
	t.routes = newRoutes(t.Clusters, t.Links)
	t.ids = newIDSpace(t.Fabric, t.Clusters)
	return t, nil
}

// readable refuses what is no text at all, where one fault says more than hundreds.
func (d *diagnostics) readable() bool {
	utf16 := bytes.HasPrefix(d.src, []byte{0xff, 0xfe}) || bytes.HasPrefix(d.src, []byte{0xfe, 0xff})
	nul := bytes.IndexByte(d.src, 0)
	switch {
	case len(bytes.TrimSpace(d.src)) == 0:
		d.add(0, "the file is empty; begin with [fabric] and name = \"...\", then add [[cluster]] and [[link]]")
	case utf16:
		d.add(0, "the file is UTF-16; save it as UTF-8")
	case nul >= 0:
		d.add(nul, "NUL byte; save the file as UTF-8 text")
	case !utf8.Valid(d.src):
		at := 0
		for r, size := utf8.DecodeRune(d.src); r != utf8.RuneError || size != 1; r, size = utf8.DecodeRune(d.src[at:]) {
			at += size
		}
		d.add(at, "byte 0x%02x is not UTF-8; save the file as UTF-8", d.src[at])
	default:
		return true
	}
	return false
}

// reader makes a Topology from the tree and remembers where names were given.
type reader struct {
	d    *diagnostics
	base string
	root scope

	clusterAt, linkAt, nodeAt map[string]int
	tagAt                     map[uint64]string // producer-id tag → cluster
	addressAt                 map[string]string // address or data directory → cluster
	namelessCluster           bool              // so that a link's unknown cluster may be that one
}

func (r *reader) topology() *Topology {
	r.root.only("fabric", "cluster", "link", "node")
	t := &Topology{Fabric: r.fabric()}
	clusters := r.root.list("cluster")
	if len(clusters) == 0 && r.root.t.keys["cluster"] == nil && !r.root.excused("cluster") {
		r.d.add(len(r.d.src), "no [[cluster]]; add one for each Kafka cluster")
	}
	for _, s := range clusters {
		t.Clusters = append(t.Clusters, r.cluster(s))
	}
	for _, s := range r.root.list("link") {
		t.Links = append(t.Links, r.link(s))
	}
	for _, s := range r.root.list("node") {
		t.Nodes = append(t.Nodes, r.node(s))
	}
	return t
}

func (r *reader) fabric() Fabric {
	s, ok := r.root.sub("fabric", `{ name = "..." }, or a [fabric] table`)
	if !ok {
		if r.root.t.keys["fabric"] == nil && !r.root.excused("fabric") {
			r.d.add(0, "no [fabric]; add [fabric] and name = \"...\"")
		}
		return Fabric{}
	}
	s.title = "[fabric]"
	s.only("name")
	name := s.str("name", `"shop"`, true)
	r.checkName("the fabric's name", name, identity)
	return Fabric{Name: name.text}
}

// checkName reports a name that is not well formed.
func (r *reader) checkName(what string, v value, form *regexp.Regexp) bool {
	switch {
	case !v.ok:
		return false
	case len(v.text) > maxNameBytes:
		r.d.add(v.pos, "%s is longer than %d bytes; shorten it", what, maxNameBytes)
	case !form.MatchString(v.text):
		also := ""
		if form == label {
			also = ", dot, underscore"
		}
		r.d.add(v.pos, "%s %s is not well formed; use letters, digits, dash%s, and begin with a letter or digit", what, clip(v.text), also)
	default:
		return true
	}
	return false
}

// unique reports a name that was given before.
func (r *reader) unique(what string, v value, at map[string]int) {
	if before, taken := at[v.text]; taken {
		r.d.add(v.pos, "%s %q is already taken in line %d; choose another", what, v.text, r.d.line(before))
		return
	}
	at[v.text] = v.pos
}

func (r *reader) dc(s scope) string {
	v := s.str("dc", `"frankfurt"`, false)
	if v.ok {
		r.checkName("the data center", v, label)
	}
	return v.text
}

func (r *reader) cluster(s scope) Cluster {
	s.only("name", "dc", "bootstrap", "embedded", "tls", "sasl")
	name := s.str("name", `"eu"`, true)
	if r.checkName("the cluster's name", name, identity) {
		r.unique("the cluster name", name, r.clusterAt)
		r.collide(name)
	} else {
		r.namelessCluster = true
	}
	c := Cluster{Name: name.text, DC: r.dc(s)}
	embedded, bootstrap := s.t.keys["embedded"], s.t.keys["bootstrap"]
	switch {
	case embedded != nil && bootstrap != nil:
		r.d.add(max(embedded.key, bootstrap.key), "bootstrap and embedded exclude each other; keep bootstrap for a real cluster, embedded for one inside isthmus")
	case embedded != nil:
		c.Embedded = r.embedded(s, name.text)
	case bootstrap == nil:
		s.missing("bootstrap", `["host:9092"], or embedded = { dir = "data/eu", listen = "127.0.0.1:19092" }`)
	default:
		c.Bootstrap = r.bootstrap(s, name.text)
	}
	c.TLS, c.SASL = r.tls(s), r.sasl(s)
	if embedded != nil {
		for _, key := range []string{"tls", "sasl"} {
			if n := s.t.keys[key]; n != nil {
				r.d.add(n.key, "an embedded cluster takes no %s, it listens on loopback only; take it out", key)
			}
		}
	}
	return c
}

// collide reports two clusters that look alike in a producer id.
func (r *reader) collide(name value) {
	t := tag(name.text, clusterBits)
	if other, taken := r.tagAt[t]; taken && other != name.text {
		r.d.add(name.pos, "the clusters %q and %q have the same tag in producer ids; rename the one that holds no mirrored data yet", other, name.text)
		return
	}
	r.tagAt[t] = name.text
}

// claim reports an address or directory that two clusters name: they would be one cluster, and mirror into themselves.
func (r *reader) claim(what, resource string, pos int, cluster string) {
	if owner, taken := r.addressAt[resource]; taken && owner != cluster {
		r.d.add(pos, "%s is also that of cluster %q; give each cluster its own", what, owner)
		return
	}
	r.addressAt[resource] = cluster
}

func (r *reader) bootstrap(s scope, cluster string) (addresses []string) {
	list, _ := s.strs("bootstrap", `["host:9092"]`, true)
	for _, v := range list {
		if _, _, ok := r.address(s, "bootstrap", v); !ok {
			continue
		}
		r.claim("the address "+v.text, v.text, v.pos, cluster)
		addresses = append(addresses, v.text)
	}
	return addresses
}

// address reads host:port. The text of a bad one is repeated only where it can hold no password.
func (r *reader) address(s scope, key string, v value) (host string, port uint64, ok bool) {
	if strings.ContainsAny(v.text, "@/") {
		r.d.add(v.pos, "%s takes host:port, not a URL; leave out scheme, user and path (a login goes into sasl)", key)
		return "", 0, false
	}
	host, digits, err := net.SplitHostPort(v.text)
	if err != nil {
		r.d.add(v.pos, "%s: %s is not host:port; write for example \"localhost:9092\" (IPv6 in brackets)", key, clip(v.text))
		return "", 0, false
	}
	port, err = strconv.ParseUint(digits, 10, 16)
	_, notIP := netip.ParseAddr(host)
	switch {
	case err != nil || key == "bootstrap" && port == 0:
		r.d.add(v.pos, "%s: %s has no port between 1 and 65535; write host:port", key, clip(v.text))
	case host == "" && (key == "bootstrap" || key == "listen"):
		r.d.add(v.pos, "%s: %s names no host; write host:port", key, clip(v.text))
	case host != "" && notIP != nil && !hostname.MatchString(host):
		r.d.add(v.pos, "%s: %s is no host; write a name or an IP address", key, clip(host))
	default:
		return host, port, true
	}
	return "", 0, false
}

func (r *reader) embedded(s scope, cluster string) *Embedded {
	e, ok := s.sub("embedded", `{ dir = "data/eu", listen = "127.0.0.1:19092" }`)
	if !ok {
		return nil
	}
	e.only("dir", "listen")
	dir := e.str("dir", `"data/eu"`, true)
	listen := e.str("listen", `"127.0.0.1:19092"`, true)
	out := &Embedded{Dir: dir.text, Listen: listen.text}
	if dir.ok {
		if !filepath.IsAbs(out.Dir) {
			out.Dir = filepath.Join(r.base, out.Dir)
		}
		r.claim("the directory "+clip(dir.text), filepath.Clean(out.Dir), dir.pos, cluster)
	}
	if !listen.ok {
		return out
	}
	host, port, ok := r.address(e, "listen", listen)
	if !ok {
		return out
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		r.d.add(listen.pos, "an embedded cluster listens on loopback only; write listen = \"127.0.0.1:%d\"", port)
	}
	if port != 0 {
		r.claim("the address "+listen.text, listen.text, listen.pos, cluster)
	}
	return out
}

func (r *reader) tls(s scope) *TLS {
	t, ok := s.sub("tls", `{ ca = "file:ca.pem" }`)
	if !ok {
		return nil
	}
	t.only("ca", "cert", "key", "server_name")
	out := &TLS{
		CA: t.secret("ca", r.base, false), Cert: t.secret("cert", r.base, false), Key: t.secret("key", r.base, false),
		ServerName: t.str("server_name", `"kafka.example"`, false).text,
	}
	for _, pair := range [][2]string{{"cert", "key"}, {"key", "cert"}} {
		if have := t.t.keys[pair[0]]; have != nil && t.t.keys[pair[1]] == nil && !t.excused(pair[1]) {
			r.d.add(have.key, "tls has a %s but no %s; add %s = \"file:PATH\", or take out %s", pair[0], pair[1], pair[1], pair[0])
		}
	}
	return out
}

func (r *reader) sasl(s scope) *SASL {
	t, ok := s.sub("sasl", `{ mechanism = "SCRAM-SHA-512", user = "isthmus", password = "env:NAME" }`)
	if !ok {
		return nil
	}
	t.only("mechanism", "user", "password")
	mechanism := t.str("mechanism", `"SCRAM-SHA-512"`, true)
	if mechanism.ok && !slices.Contains(mechanisms, mechanism.text) {
		r.d.add(mechanism.pos, "unknown mechanism %s; write one of %s", clip(mechanism.text), strings.Join(mechanisms, ", "))
	}
	return &SASL{
		Mechanism: mechanism.text, User: t.str("user", `"isthmus"`, true).text, Password: t.secret("password", r.base, true),
	}
}

func (r *reader) link(s scope) Link {
	s.only("name", "from", "to", "topics", "exclude", "groups", "start", "replication_factor")
	from, to := r.end(s, "from", `"eu"`), r.end(s, "to", `"us"`)
	if from.ok && to.ok && from.text == to.text {
		r.d.add(to.pos, "the link goes from %q to itself; name two clusters", to.text)
	}
	name := s.str("name", `"eu-us"`, false)
	switch {
	case s.t.keys["name"] == nil && from.ok && to.ok:
		name = value{text: from.text + "-" + to.text, pos: s.t.pos, ok: true}
		r.unique("the link name FROM-TO,", name, r.linkAt)
	case r.checkName("the link's name", name, identity):
		r.unique("the link name", name, r.linkAt)
	}
	return Link{
		Name: name.text, From: from.text, To: to.text,
		Topics:            s.patterns("topics", `["orders", "payments-*"]`, true, parseTopicPattern),
		Exclude:           s.patterns("exclude", `["*-scratch"]`, false, parseTopicPattern),
		Groups:            s.patterns("groups", `["*"]`, false, ParsePattern),
		Start:             r.start(s),
		ReplicationFactor: s.integer("replication_factor", "3", 1, maxReplicationFactor),
	}
}

// end reads the cluster at one end of a link.
func (r *reader) end(s scope, key, example string) value {
	v := s.str(key, example, true)
	if !v.ok {
		return v
	}
	if _, known := r.clusterAt[v.text]; known {
		return v
	}
	v.ok = false
	if r.namelessCluster || r.root.excused("cluster") || r.d.full() {
		return v
	}
	names := make([]string, 0, len(r.clusterAt))
	for name := range r.clusterAt {
		names = append(names, name)
	}
	slices.Sort(names)
	hint := "add a [[cluster]] of that name"
	if best, ok := nearest(v.text, names); ok {
		hint = "did you mean " + strconv.Quote(best) + "?"
	}
	r.d.add(v.pos, "%s: unknown cluster %s; %s", key, clip(v.text), hint)
	return v
}

func (r *reader) start(s scope) Start {
	const example = `"earliest", "latest" or a time such as 2026-01-31T12:00:00Z`
	n := s.t.keys["start"]
	if n == nil {
		return Start{}
	}
	if n.kind != kindString && n.kind != kindInstant {
		s.mistyped(n, "start", "a place", example)
		return Start{}
	}
	switch n.text {
	case "earliest":
		return Start{Kind: Earliest}
	case "latest":
		return Start{Kind: Latest}
	}
	// TOML allows a blank for the T and small letters; RFC 3339 does too, Go does not.
	text := strings.ToUpper(strings.Replace(n.text, " ", "T", 1))
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.UnixMilli() < 0 {
		s.d.add(n.pos, "start: %s is no place to start; write %s", clip(n.text), example)
		return Start{}
	}
	return Start{Kind: At, At: at}
}

func (r *reader) node(s scope) Node {
	s.only("name", "dc", "http", "grpc")
	name := s.str("name", `"eu-1"`, true)
	if r.checkName("the node's name", name, label) {
		r.unique("the node name", name, r.nodeAt)
	}
	n := Node{Name: name.text, DC: r.dc(s)}
	http, grpc := s.str("http", `"127.0.0.1:7070"`, false), s.str("grpc", `"127.0.0.1:7071"`, false)
	for _, a := range []struct {
		key string
		v   value
	}{{"http", http}, {"grpc", grpc}} {
		if a.v.ok {
			r.address(s, a.key, a.v)
		}
	}
	n.HTTP, n.GRPC = http.text, grpc.text
	if n.HTTP != "" && n.HTTP == n.GRPC && !strings.HasSuffix(n.HTTP, ":0") {
		r.d.add(cmp.Or(grpc.pos, s.t.pos), "http and grpc are the same address; give each its own port")
	}
	return n
}
