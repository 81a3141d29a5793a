package topology

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	identity = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)
	label    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	// instant is RFC 3339 as it stands there: Go's reader also takes hours of one digit, commas and offsets of days.
	instant  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)
	hostname = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)
)

// maxNameBytes bounds a name: names become parts of keys, client ids and metric labels.
const maxNameBytes = 64

// minByteRate is the least that a link can be kept to: a link that is to stand is paused.
const minByteRate = 1000

// maxReplicationFactor is what the protocol's 16 bits hold.
const maxReplicationFactor = 1<<15 - 1

// Parse reads the text of a topology file. name is the file's path: it begins every error, and relative paths in the
// text start from its folder. An error is Errors and holds all faults.
func Parse(name string, data []byte) (*Topology, error) {
	t, _, err := parse(name, data, nil)
	return t, err
}

// parse is Parse with live settings over the text. ignored are the keys of those that mean nothing over this text.
func parse(name string, data []byte, settings []Setting) (t *Topology, ignored []string, err error) {
	if len(data) > MaxFileBytes {
		msg := fmt.Sprintf("the file is larger than %d bytes; is it a topology?", MaxFileBytes)
		return nil, nil, Errors{{File: name, Line: 1, Column: 1, Msg: msg}}
	}
	// The byte order mark that some editors write is not a part of the text.
	d := newDiagnostics(name, bytes.TrimPrefix(data, []byte("\ufeff")))
	if !d.readable() {
		return nil, nil, d.err()
	}
	root := parseTree(d)
	r := reader{
		d: d, base: filepath.Dir(name), root: scope{d: d, t: root},
		clusterAt: make(map[string]int), linkAt: make(map[string]entry), nodeAt: make(map[string]int),
		tagAt: make(map[uint64]string), addressAt: make(map[string]string), listenAt: make(map[string]string),
		written: make(map[string]string), told: make(map[[2]int]bool),
	}
	r.expand()
	ignored = overlay(d, root, settings)
	t = r.topology()
	if err := d.err(); err != nil {
		return nil, ignored, err
	}
	t.routes = newRoutes(t.Clusters, t.Links)
	t.ids = newIDSpace(t.Fabric, t.Clusters)
	r.checkNames(t)
	if err := d.err(); err != nil {
		return nil, ignored, err
	}
	return t, ignored, nil
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

	clusterAt, nodeAt map[string]int
	linkAt            map[string]entry
	tagAt             map[uint64]string // producer-id tag → cluster
	addressAt         map[string]string // address or data directory → cluster
	listenAt          map[string]string // machine and address → what listens there
	namelessCluster   bool              // so that a link's unknown cluster may be that one

	written  map[string]string // link → where it is written
	told     map[[2]int]bool   // pairs of places that a fault was told of
	expanded int               // links of short forms
}

func (r *reader) topology() *Topology {
	r.root.only("fabric", "cluster", "link", keyMesh, keyHub, "node", "stay", "router", "admin")
	t := &Topology{Fabric: r.fabric()}
	clusters := r.root.list("cluster")
	written := r.root.t.keys["cluster"]
	none := written == nil || len(written.items) == 0 && (written.kind == kindArray || written.kind == kindTableSet)
	if none && !r.root.excused("cluster") {
		r.d.add(len(r.d.src), "no [[cluster]]; add one for each Kafka cluster")
	}
	for _, s := range clusters {
		t.Clusters = append(t.Clusters, r.cluster(s))
	}
	t.Fabric.Control = r.control()
	links, stays := r.root.list("link"), r.root.list("stay")
	for _, s := range links {
		t.Links = append(t.Links, r.link(s))
	}
	r.once(t.Links, links)
	r.ways(t.Links, links)
	t.written = r.written
	for _, s := range stays {
		t.Stays = append(t.Stays, r.stay(s, t.Clusters))
	}
	r.keep(t, stays, links)
	t.Nodes = r.nodes(t.Fabric)
	t.Admin = r.admin()
	routers := r.root.list("router")
	for _, s := range routers {
		t.Routers = append(t.Routers, r.router(s, t))
	}
	r.sameEverywhere(t.Routers, routers)
	r.sameTags(t.Routers, routers)
	r.keepHomes(t, stays, routers)
	return t
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
		r.d.add(v.pos, "%s %q is already taken in %s; choose another", what, v.text, r.d.place(before))
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

// rack is free text that must equal a broker.rack; what could not be one is a mistake.
func (r *reader) rack(s scope) string {
	v := s.str("rack", `"eu-central-1a"`, false)
	switch {
	case !v.ok:
	case v.text == "":
		r.d.add(v.pos, "rack is empty; write the broker.rack of the brokers nearby, or leave it out")
	case len(v.text) > maxNameBytes:
		r.d.add(v.pos, "the rack is longer than %d bytes; shorten it", maxNameBytes)
	case strings.ContainsFunc(v.text, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.d.add(v.pos, "the rack %s holds characters that do not print; take them out", clip(v.text))
	}
	return v.text
}

func (r *reader) cluster(s scope) Cluster {
	s.only("name", "dc", "bootstrap", "embedded", "tls", "sasl", "principal", "insecure")
	name := s.str("name", `"eu"`, true)
	if r.checkName("the cluster's name", name, identity) {
		r.unique("the cluster name", name, r.clusterAt)
		r.collide(name)
	} else {
		r.namelessCluster = true
	}
	c := Cluster{Name: name.text, DC: r.dc(s), Insecure: s.boolean("insecure")}
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
	c.TLS, c.SASL, c.Principal = r.tls(s), r.sasl(s, c.Insecure), r.principal(s)
	if embedded != nil {
		for _, key := range []string{"tls", "sasl", "principal", "insecure"} {
			if n := s.t.keys[key]; n != nil {
				r.d.add(n.key, "an embedded cluster takes no %s, it listens on loopback only; take it out", key)
			}
		}
	} else {
		r.inClear(s, c)
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
	case err != nil || port == 0 && (key == "bootstrap" || key == "gossip"):
		r.d.add(v.pos, "%s: %s has no port between 1 and 65535; write host:port", key, clip(v.text))
	case host == "" && (key == "bootstrap" || key == "listen" || key == "gossip"):
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
	out := &Embedded{Dir: dir.text, Listen: listen.text, dir: dir.text}
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
	if !isLoopback(host) {
		r.d.add(listen.pos, "an embedded cluster listens on loopback only; write listen = \"127.0.0.1:%d\"", port)
	}
	if port != 0 {
		r.claim("the address "+listen.text, listen.text, listen.pos, cluster)
	}
	return out
}

func (r *reader) link(s scope) Link {
	s.only(slices.Concat([]string{"name"}, fieldNames[kindLink])...)
	from, to := r.end(s, "from", `"eu"`), r.end(s, "to", `"us"`)
	if from.ok && to.ok && from.text == to.text {
		r.d.add(to.pos, "the link goes from %q to itself; name two clusters", to.text)
	}
	name := s.str("name", `"eu-us"`, false)
	switch {
	case s.t.keys["name"] == nil && from.ok && to.ok:
		name = value{text: from.text + "-" + to.text, pos: s.t.pos, ok: true}
		r.named(s, "the link name FROM-TO,", name)
	case r.checkName("the link's name", name, identity):
		r.named(s, "the link name", name)
	}
	l := r.content(s, from.text)
	l.Name, l.From, l.To = name.text, from.text, to.text
	return l
}

// content reads what a link has beside its name and its ends, which a short form has once for all its links. from is its source.
func (r *reader) content(s scope, from string) Link {
	return Link{
		Topics:            s.patterns("topics", `["orders", "payments-*"]`, true, parseTopicPattern),
		Exclude:           s.patterns("exclude", `["*-scratch"]`, false, parseTopicPattern),
		Groups:            s.patterns("groups", `["*"]`, false, ParsePattern),
		GroupsExclude:     s.patterns("groups_exclude", `["console-consumer-*"]`, false, ParsePattern),
		Start:             r.start(s),
		ReplicationFactor: s.integer("replication_factor", "3", 1, maxReplicationFactor),
		ByteRate:          int64(s.integer("byte_rate", "50_000_000", minByteRate, 1<<50)),
		Naming:            s.naming(from),
		Policy:            s.policy(),
		Keeps:             s.keeps(),
		Rates:             s.rates(),
	}
}

// end reads the cluster at one end of a link.
func (r *reader) end(s scope, key, example string) value {
	v := s.str(key, example, true)
	if n := s.t.keys[key]; v.ok && n.as != "" {
		key = n.as
	}
	return r.known(key, v)
}

// known is a value of a key that names a cluster; it is not ok where there is none of that name.
func (r *reader) known(key string, v value) value {
	if !v.ok {
		return v
	}
	if _, known := r.clusterAt[v.text]; known {
		return v
	}
	v.ok = false
	if r.namelessCluster || r.root.excused("cluster") || r.d.full() || !r.tell(v.pos, v.pos) {
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
	if err != nil || !instant.MatchString(text) || at.UnixMilli() < 0 {
		s.d.add(n.pos, "start: %s is no place to start; write %s", clip(n.text), example)
		return Start{}
	}
	return Start{Kind: At, At: at}
}
