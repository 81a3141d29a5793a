package topology

import (
	"net"
	"strconv"
	"time"
)

// RouterLimits bound what clients can take of a router. Zero fields have the router's defaults.
type RouterLimits struct {
	// Connections is how many there may be in all, PerAddress from one address.
	Connections, PerAddress int
	// Memory is how many bytes of requests and answers may be held to be rewritten, of all connections; Request is the longest request in bytes.
	Memory  int64
	Request int
	// Idle is how long a client may have nothing to ask.
	Idle time.Duration
}

// The least and the most that limits of a router may be. A request is a length of 31 bits; with less memory than a large answer about topics
// has, nobody could be told of them.
const (
	maxRouterConnections = 1 << 20
	minRouterMemory      = 32 << 20
	maxRouterMemory      = 1 << 40
	minRouterRequest     = 64 << 10
	maxRouterRequest     = 1<<31 - 1
)

var routerLimitFields = []string{"connections", "connections_per_address", "memory", "request", "idle"}

// front reads how clients are let in: TLS, and what they may take.
func (r *reader) front(s scope, listen value, host string, out *Router) {
	out.TLS, out.Insecure, out.Limits = r.serverTLS(s, `{ cert = "file:kafka.pem", key = "file:kafka.key" }`), s.boolean("insecure"), s.routerLimits()
	if s.t.keys["tls"] != nil || s.excused("tls") {
		return
	}
	if host != "" && !isLoopback(host) && !out.Insecure && !s.excused("insecure") {
		r.d.add(listen.pos, "listen: others can reach %s, and without tls whoever listens on the wire has what clients send, logins too; "+
			`add tls = { cert = "file:kafka.pem", key = "file:kafka.key" }, or insecure = true if you accept that`, listen.text)
	}
	tables := []*table{s.t}
	if n := s.t.keys["set"]; n != nil {
		for _, item := range n.items {
			tables = append(tables, item.table)
		}
	}
	for _, t := range tables {
		if t == nil {
			continue // reported already
		}
		if n := t.keys["sni"]; n != nil {
			r.d.add(n.key, `sni: clients say the name in their TLS handshake, and the router has no tls; add tls = { cert = "file:kafka.pem", key = "file:kafka.key" }`)
			return // one is enough
		}
	}
}

// serverTLS reads the certificates of something that listens.
func (r *reader) serverTLS(s scope, example string) *ServerTLS {
	t, ok := s.sub("tls", example)
	if !ok {
		return nil
	}
	t.only("cert", "key", "client_ca")
	return &ServerTLS{Cert: t.secret("cert", r.base, true), Key: t.secret("key", r.base, true), ClientCA: t.secret("client_ca", r.base, false)}
}

func (s scope) routerLimits() (l RouterLimits) {
	t, ok := s.sub("limits", `{ connections = 10_000, idle = "10m" }`)
	if !ok {
		return l
	}
	t.only(routerLimitFields...)
	return RouterLimits{
		Connections: t.integer("connections", "10_000", 1, maxRouterConnections),
		PerAddress:  t.integer("connections_per_address", "2_000", 1, maxRouterConnections),
		Memory:      int64(t.integer("memory", "268_435_456", minRouterMemory, maxRouterMemory)),
		Request:     t.integer("request", "104_857_600", minRouterRequest, maxRouterRequest),
		Idle:        t.duration("idle", `"10m"`, 0),
	}
}

// sameTags reports routers whose producer ids could not be told apart.
func (r *reader) sameTags(routers []Router, scopes []scope) {
	by := make(map[uint64]string)
	for i, router := range routers {
		t := tag(router.Name, routerBits)
		if other, taken := by[t]; taken && other != router.Name && router.Name != "" {
			r.d.add(scopes[i].posOf("name"), "the routers %q and %q have the same tag in producer ids; rename one of them", other, router.Name)
			continue
		}
		by[t] = router.Name
	}
}

func (t *ServerTLS) literal() string {
	if t == nil {
		return ""
	}
	var f fields
	return f.add("cert", t.Cert.literal()).add("key", t.Key.literal()).add("client_ca", t.ClientCA.literal()).inline()
}

func (l RouterLimits) literal() string {
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	idle := ""
	if l.Idle > 0 {
		idle = quote(l.Idle.String())
	}
	var f fields
	return f.add("connections", number(int64(l.Connections))).add("connections_per_address", number(int64(l.PerAddress))).
		add("memory", number(l.Memory)).add("request", number(int64(l.Request))).add("idle", idle).inline()
}

// access says in a few words how clients are let in.
func (r Router) access() string {
	text := r.Auth
	if !r.Credentials.IsZero() {
		text += " by " + r.Credentials.String()
	}
	switch {
	case r.TLS == nil:
	case r.TLS.ClientCA.IsZero():
		text += " tls"
	default:
		text += " tls with client certificates"
	}
	text += r.unusual().text()
	if limits := r.Limits.literal(); limits != "" {
		text += "; limits " + limits
	}
	return text
}

// notes tells of a door that gives away what passes.
func (r Router) notes() (notes []string) {
	if host, _, err := net.SplitHostPort(r.Listen); err == nil && r.TLS == nil && !isLoopback(host) {
		notes = append(notes, "router "+r.Name+" on "+r.Node+": without tls whoever listens on the wire has what clients send, logins too")
	}
	return notes
}
