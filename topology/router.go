package topology

import (
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// How a router deals with the logins of clients.
const (
	// PassThrough hands a client's login on, so that it has its own rights at the cluster.
	PassThrough = "pass-through"
	// Terminate checks the login at the router.
	Terminate = "terminate"
)

// Router is one instance of a router on one node; instances of one name serve one virtual cluster.
type Router struct {
	// Name is that of the virtual cluster.
	Name string
	// Node runs the instance; the node's data center is the door's.
	Node string
	// Listen is where clients bootstrap, as host:port, and Advertise the host that they are told.
	Listen, Advertise string
	// Slots has one port for each broker slot; zero where SNI tells the slots apart.
	Slots Ports
	// SNI is a host name with {slot} in it; empty where Slots is set.
	SNI string
	// Home is the cluster that takes what no set names.
	Home string
	Losses
	// Auth is PassThrough or Terminate.
	Auth string
	// Credentials refers to the file of users of Terminate; zero with PassThrough.
	Credentials Secret
	// TLS is nil for a plain listener. With a ClientCA only clients with a certificate of it are let in.
	TLS *ServerTLS
	// Insecure allows an address that others can reach, without TLS.
	Insecure bool
	// Limits bound what clients can take.
	Limits RouterLimits
	// Sets have homes of their own, each topic and group that of the first set that names it.
	Sets []Set
	// Quotas bound what clients take at this instance; the first that fits a client is his.
	Quotas []Quota
}

// Set is topics and groups of a router that have their own home and switch alone.
type Set struct {
	// Name is unique in its router.
	Name string
	// Topics and Groups say what is in the set.
	Topics, Groups Patterns
	// Home is the cluster that takes the set's writes.
	Home string
	Losses
	// Slots or SNI are those of the set, as a router's.
	Slots Ports
	SNI   string
}

// Ports is a range of ports, both ends in it. The zero value is none.
type Ports struct{ First, Last uint16 }

// String gives the range as it is written in a file.
func (p Ports) String() string {
	if p == (Ports{}) {
		return ""
	}
	return strconv.Itoa(int(p.First)) + "-" + strconv.Itoa(int(p.Last))
}

// maxSlots bounds a range of slots: a slot is a listener, and more brokers than that no cluster has.
const maxSlots = 1000

var portRange = regexp.MustCompile(`^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$`)

func (r *reader) router(s scope, t *Topology) Router {
	s.only(slices.Concat([]string{"name", "node"}, fieldNames[kindRouter])...)
	name := s.str("name", `"shop"`, true)
	r.checkName("the router's name", name, identity)
	out := Router{Name: name.text, Node: r.runsOn(s, t.Nodes), Home: r.end(s, "home", `"eu"`).text}
	listen := s.str("listen", `"127.0.0.1:9092"`, true)
	node, _ := t.Node(out.Node)
	machine := machineOf(node)
	what := "bootstrap of router " + strconv.Quote(name.text)
	host := ""
	if listen.ok {
		out.Listen = listen.text
		if h, port, ok := r.address(s, "listen", listen); ok {
			if host = h; port == 0 {
				r.d.add(listen.pos, "listen: clients must know the port; write one between 1 and 65535")
			}
			r.listens(machine, listen, what, "listen")
		}
	}
	if v := s.str("advertise", `"kafka.example"`, true); v.ok {
		if out.Advertise = v.text; !hostname.MatchString(v.text) && net.ParseIP(v.text) == nil {
			r.d.add(v.pos, "advertise: %s is no host; write a name or an IP address, without a port", clip(v.text))
		}
	}
	door := door{machine: machine, host: host, what: "slots of router " + strconv.Quote(name.text)}
	out.Slots, out.SNI = r.slots(s, door)
	out.Losses = r.losses(s, t, false)
	out.Auth = r.auth(s)
	out.Credentials = r.credentials(s, out.Auth)
	r.front(s, listen, host, &out)
	sets := make(map[string]int)
	for _, set := range s.list("set") {
		set.title = "[[router.set]]"
		out.Sets = append(out.Sets, r.set(set, t, sets, door))
	}
	for _, quota := range s.list("quota") {
		quota.title = "[[router.quota]]"
		out.Quotas = append(out.Quotas, r.quota(quota))
	}
	r.takesLogins(s, out, t.Clusters)
	return out
}

// runsOn reads the node of a router.
func (r *reader) runsOn(s scope, nodes []Node) string {
	v := s.str("node", `"eu-1"`, true)
	if !v.ok || r.root.excused("node") || slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == v.text || n.Name == "" }) {
		return v.text
	}
	hint := "add a [[node]] of that name"
	if best, ok := nearest(v.text, slices.Sorted(maps.Keys(r.nodeAt))); ok {
		hint = "did you mean " + strconv.Quote(best) + "?"
	}
	r.d.add(v.pos, "node: unknown node %s; %s", clip(v.text), hint)
	return v.text
}

func (r *reader) auth(s scope) string {
	modes := []string{PassThrough, Terminate}
	v := s.str("auth", `"pass-through"`, false)
	if v.ok && !slices.Contains(modes, v.text) {
		hint := "write one of " + strings.Join(modes, ", ")
		if best, ok := nearest(v.text, modes); ok {
			hint = "did you mean " + strconv.Quote(best) + "?"
		}
		r.d.add(v.pos, "unknown auth %s; %s", clip(v.text), hint)
	}
	if v.text == "" {
		return PassThrough
	}
	return v.text
}

// credentials reads where the users are written, which only a door that knows users has.
func (r *reader) credentials(s scope, auth string) Secret {
	const example = `"file:users.toml"`
	n := s.t.keys["credentials"]
	switch {
	case n == nil:
		if auth == Terminate {
			s.missing("credentials", example)
		}
		return Secret{}
	case auth == PassThrough:
		r.d.add(n.key, "credentials: clients log in at the home itself with auth = %q; write auth = %q, or take it out", PassThrough, Terminate)
		return Secret{}
	case n.kind != kindString:
		s.mistyped(n, "credentials", "a string", example)
		return Secret{}
	case !strings.HasPrefix(n.text, "file:"):
		r.d.add(n.pos, "credentials is no reference to a file; write credentials = %s", example)
		return Secret{}
	}
	return s.secret("credentials", r.base, true)
}

// takesLogins reports homes where nobody can log in as himself, behind a door where he must.
func (r *reader) takesLogins(s scope, router Router, clusters []Cluster) {
	if router.Auth != Terminate {
		return
	}
	homes := []string{router.Home}
	for _, set := range router.Sets {
		homes = append(homes, set.Home)
	}
	slices.Sort(homes)
	for _, home := range slices.Compact(homes) {
		i := slices.IndexFunc(clusters, func(c Cluster) bool { return c.Name == home && home != "" })
		if i < 0 {
			continue // reported already
		}
		switch c := clusters[i]; {
		case c.SASL == nil && !r.excusedCluster(home, "sasl"):
			r.d.add(s.posOf("auth"), "auth: with %q users log in at the home with logins of their own, and the cluster %q has no sasl; add sasl to its [[cluster]], or write auth = %q",
				Terminate, home, PassThrough)
		case c.SASL != nil && !c.SASL.GivesAway() && c.TLS == nil && !c.Insecure && !r.excusedCluster(home, "tls") && slices.ContainsFunc(c.Bootstrap, offMachine):
			r.d.add(s.posOf("auth"), `auth: logins of users at the cluster %q would go over the wire in clear; add tls = { ca = "file:ca.pem" } to its [[cluster]], or insecure = true if you accept that`, home)
		}
	}
}

// offMachine tells whether others can listen on the way to an address.
func offMachine(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && !isLoopback(host)
}

// excusedCluster tells whether a key of a cluster may be missing because of another fault in it.
func (r *reader) excusedCluster(name, key string) bool {
	for _, s := range r.root.list("cluster") {
		if n := s.t.keys["name"]; n != nil && n.text == name && (s.excused(key) || s.t.keys[key] != nil) {
			return true
		}
	}
	return false
}

// door is where a router listens.
type door struct{ machine, host, what string }

// slots reads what tells the broker slots apart: ports, or host names.
func (r *reader) slots(s scope, at door) (ports Ports, sni string) {
	slots, names := s.t.keys["slots"], s.t.keys["sni"]
	switch {
	case slots != nil && names != nil:
		r.d.add(max(slots.key, names.key), "slots and sni exclude each other; keep slots for a port for each broker slot, sni for host names over TLS")
	case slots != nil:
		return r.ports(s, at), ""
	case names != nil:
		v := s.str("sni", `"b{slot}.kafka.example"`, true)
		if v.ok && (strings.Count(v.text, "{slot}") != 1 || !hostname.MatchString(strings.Replace(v.text, "{slot}", "0", 1))) {
			r.d.add(v.pos, "sni: %s is no host name with {slot} in it once; write for example \"b{slot}.kafka.example\"", clip(v.text))
		}
		return Ports{}, v.text
	case !s.excused("slots") && !s.excused("sni"):
		r.d.add(s.t.pos, `%s has neither slots nor sni; add slots = "9093-9098", a port for each broker slot, or sni = "b{slot}.kafka.example"`, s.title)
	}
	return Ports{}, ""
}

func (r *reader) ports(s scope, at door) Ports {
	const example = `"9093-9098"`
	v := s.str("slots", example, true)
	if !v.ok {
		return Ports{}
	}
	m := portRange.FindStringSubmatch(v.text)
	if m == nil {
		r.d.add(v.pos, "slots: %s is no range of ports; write for example %s", clip(v.text), example)
		return Ports{}
	}
	if m[2] == "" {
		m[2] = m[1]
	}
	first, err := strconv.ParseUint(m[1], 10, 16)
	last, err2 := strconv.ParseUint(m[2], 10, 16)
	switch {
	case err != nil || err2 != nil:
		r.d.add(v.pos, "slots: %s has a port above 65535; write for example %s", clip(v.text), example)
	case last < first:
		r.d.add(v.pos, "slots: %s ends before it begins; write \"%d-%d\"", clip(v.text), last, first)
	case last-first >= maxSlots:
		r.d.add(v.pos, "slots: %s has %d ports, the limit is %d; a slot is for a broker", clip(v.text), last-first+1, maxSlots)
	default:
		for port := first; port <= last && at.host != ""; port++ {
			before := len(r.d.list)
			r.listens(at.machine, value{text: net.JoinHostPort(at.host, strconv.FormatUint(port, 10)), pos: v.pos}, at.what, "slots")
			if len(r.d.list) > before {
				break // one port of the range is enough
			}
		}
		return Ports{uint16(first), uint16(last)}
	}
	return Ports{}
}

func (r *reader) set(s scope, t *Topology, seen map[string]int, at door) Set {
	s.only("name", "topics", "groups", "home", "isolated", "tail", "failover_to", "failover_after", "slots", "sni")
	name := s.str("name", `"fast"`, true)
	if r.checkName("the set's name", name, identity) {
		r.unique("the set", name, seen)
	}
	out := Set{
		Name:   name.text,
		Topics: s.patterns("topics", `["payments-*"]`, true, parseTopicPattern),
		Groups: s.patterns("groups", `["payments-*"]`, false, ParsePattern),
		Home:   r.end(s, "home", `"us"`).text,
	}
	out.Losses = r.losses(s, t, true)
	at.what = "slots of set " + strconv.Quote(name.text)
	out.Slots, out.SNI = r.slots(s, at)
	return out
}

// sameEverywhere reports what makes instances of one name differ as virtual clusters, and two of them on one node.
func (r *reader) sameEverywhere(routers []Router, scopes []scope) {
	first := make(map[string]int)
	on := make(map[[2]string]int)
	for i, router := range routers {
		if router.Name == "" || i >= len(scopes) {
			continue
		}
		s := scopes[i]
		if before, twice := on[[2]string{router.Name, router.Node}]; twice {
			r.d.add(s.posOf("node"), "the router %q is on node %q already in %s; one instance is enough", router.Name, router.Node, r.d.place(scopes[before].t.pos))
		}
		on[[2]string{router.Name, router.Node}] = i
		f, known := first[router.Name]
		if !known {
			first[router.Name] = i
			continue
		}
		other, where := routers[f], func(key string) string { return r.d.place(scopes[f].posOf(key)) }
		if router.Home != other.Home {
			r.d.add(s.posOf("home"), "the router %q has the home %q in %s; write the same for all its instances", router.Name, other.Home, where("home"))
		}
		if router.Isolated != other.Isolated {
			r.d.add(s.posOf("isolated"), "the router %q has isolated = %q in %s; write the same for all its instances", router.Name, other.Isolated, where("isolated"))
		}
		if router.Tail != other.Tail {
			r.d.add(s.posOf("tail"), "the router %q has tail = %q in %s; write the same for all its instances", router.Name, other.Tail, where("tail"))
		}
		if router.Failover != other.Failover {
			r.d.add(s.posOf("failover_to"), "the router %q has failover_to = %q after %v in %s; write the same for all its instances", router.Name, other.FailoverTo, other.FailoverAfter, where("failover_to"))
		}
		if router.Auth != other.Auth {
			r.d.add(s.posOf("auth"), "the router %q has auth = %q in %s; write the same for all its instances", router.Name, other.Auth, where("auth"))
		}
		if !slices.EqualFunc(router.Sets, other.Sets, Set.same) {
			r.d.add(s.t.pos, "the router %q has other sets in %s; write the same names, topics, groups, homes, isolated, tail and failover in the same order for all its instances", router.Name, where("set"))
		}
	}
}

// same tells whether two instances mean the same set.
func (s Set) same(o Set) bool {
	return s.Name == o.Name && s.Home == o.Home && s.Losses == o.Losses && slices.Equal(s.Topics.Strings(), o.Topics.Strings()) && slices.Equal(s.Groups.Strings(), o.Groups.Strings())
}
