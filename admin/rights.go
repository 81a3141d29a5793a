package admin

import (
	"fmt"
	"strings"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// right is what a call asks of its caller before it looks at what it is about.
type right struct {
	role  topology.Role // the least
	all   bool          // not for callers that are bound to topics
	write bool          // goes into the audit
	peer  bool          // nodes ask it of each other
}

// rights of the calls of the admin API. A write may ask for more when it is known what it changes.
var rights = map[string]right{
	"Status":    {role: topology.Viewer, peer: true},
	"Translate": {role: topology.Viewer, peer: true},
	"Ledger":    {role: topology.Viewer, peer: true},
	"Drift":     {role: topology.Viewer, peer: true},
	"Groups":    {role: topology.Viewer, peer: true},
	"Verify":    {role: topology.Viewer, peer: true},
	"Routers":   {role: topology.Viewer, peer: true},
	"Nodes":     {role: topology.Viewer},
	"Owners":    {role: topology.Viewer},
	"Settings":  {role: topology.Viewer},
	"History":   {role: topology.Viewer},
	"Watch":     {role: topology.Viewer},
	"Export":    {role: topology.Viewer, all: true},
	"Diff":      {role: topology.Viewer, all: true},
	"Ready":     {role: topology.Viewer, all: true},
	"Drills":    {role: topology.Viewer, all: true},
	"Pause":     {role: topology.Operator, write: true},
	"Resume":    {role: topology.Operator, write: true},
	"Retry":     {role: topology.Operator, write: true, peer: true},
	"Anchor":    {role: topology.Operator, write: true, peer: true},
	"Drain":     {role: topology.Operator, all: true, write: true},
	"Set":       {role: topology.Operator, write: true},
	"Switch":    {role: topology.Operator, all: true, write: true},
	"Rehearse":  {role: topology.Operator, all: true, write: true},
	"NoteDrill": {role: topology.Operator, all: true, write: true},
	"Unset":     {role: topology.Operator, write: true},
	"Undo":      {role: topology.Operator, write: true},
	"Apply":     {role: topology.Administrator, all: true, write: true},
	"RotateKey": {role: topology.Administrator, all: true, write: true},

	"TranslateGroup": {role: topology.Viewer}, // nodes ask for Groups and Translate
	"RouterClients":  {role: topology.Viewer, peer: true},
}

// rightOf is what a gRPC method asks for; open: it asks for nothing. Methods that are not known are an admin's: a new one is not
// open by being forgotten.
func rightOf(method string) (r right, open bool) {
	service, call, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch service {
	case adminpb.Admin_ServiceDesc.ServiceName:
		if r, ok := rights[call]; ok {
			return r, false
		}
	case healthpb.Health_ServiceDesc.ServiceName:
		return right{}, true
	case "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection":
		return right{role: topology.Viewer}, false
	}
	return right{role: topology.Administrator, all: true}, false
}

// may returns why a caller has not got a right, wrapping ErrDenied; verb is for the message.
func (c caller) may(verb string, r right) error {
	switch {
	case c.peer != "" && !r.peer:
		return fmt.Errorf("%w: nodes do not ask %s of each other", ErrDenied, verb)
	case c.peer != "": // it has checked for whom it asks
		return nil
	case c.role < r.role:
		return fmt.Errorf("%w: %s needs the role %s, and %s is %s", ErrDenied, verb, r.role, c.name, c.role)
	case r.all && c.scoped():
		return fmt.Errorf("%w: %s concerns all topics, and %s is bound to %s", ErrDenied, verb, c.name, list(c.topics.Strings()))
	}
	return nil
}

// sees reports whether a caller may know of a topic.
func (c caller) sees(topic string) bool { return !c.scoped() || c.topics.Match(topic) }

// covers reports whether all topics that a pattern fits, now or later, are the caller's.
func (c caller) covers(pattern string) bool {
	if !c.scoped() {
		return true
	}
	for _, p := range c.topics {
		if includes(p, pattern) {
			return true
		}
	}
	return false
}

// includes reports whether a pattern fits everything that the other one does. Where that is not plain, such as for two regular
// expressions, it says no.
func includes(p topology.Pattern, other string) bool {
	switch {
	case p.String() == other || p.String() == "*":
		return true
	case strings.HasPrefix(other, "~"):
		return false
	case !strings.ContainsAny(other, "*?"):
		return p.Match(other)
	case strings.HasPrefix(p.String(), "~"):
		return false
	}
	return globIncludes(p.String(), other)
}

// globIncludes matches one glob against the text of another one: a star takes everything, a question mark anything that stands for
// one character. fits[j] says so of the rest of p and other[j:].
func globIncludes(p, other string) bool {
	fits := make([]bool, len(other)+1)
	fits[len(other)] = true
	for i := len(p) - 1; i >= 0; i-- {
		next := make([]bool, len(other)+1)
		for j := len(other); j >= 0; j-- {
			switch {
			case p[i] == '*':
				next[j] = fits[j] || j < len(other) && next[j+1]
			case j < len(other) && other[j] != '*':
				next[j] = fits[j+1] && (p[i] == '?' || p[i] == other[j])
			}
		}
		fits = next
	}
	return fits[0]
}

// mayWrite returns why a caller may not make a change, wrapping ErrDenied. Every entry must be one of its role and, for a caller
// that is bound to topics, touch those alone.
func (c caller) mayWrite(verb string, entries []gossip.Entry, touches []Touch) error {
	for _, e := range entries {
		if role := keyRole(e.Key); c.role < role {
			return fmt.Errorf("%w: setting %s needs the role %s, and %s is %s", ErrDenied, e.Key, role, c.name, c.role)
		}
		if c.scoped() && !c.ownsEntry(e.Key, touches) {
			return fmt.Errorf("%w: %s of %s touches more than %s, which %s is bound to", ErrDenied, verb, e.Key, list(c.topics.Strings()), c.name)
		}
	}
	return nil
}

// keyRole is the role that a setting needs: what links there are, what they join and where data may go is an admin's.
func keyRole(key string) topology.Role {
	switch parts := strings.Split(key, "/"); {
	case parts[0] == "pause", parts[0] == "drain", key == "log/level":
		return topology.Operator
	case parts[0] == "link" && len(parts) == 3 && parts[2] != "from" && parts[2] != "to":
		return topology.Operator
	}
	return topology.Administrator
}

// ownsEntry reports whether a setting concerns nothing but the caller's topics.
func (c caller) ownsEntry(key string, touches []Touch) bool {
	if p, ok := parsePause(key); ok {
		return c.covers(p.Topics.String())
	}
	link, ok := strings.CutPrefix(key, "link/")
	if !ok {
		return false
	}
	link, _, _ = strings.Cut(link, "/")
	owns := false
	for _, t := range touches {
		if t.Link != link {
			continue
		}
		if len(t.Topics) == 0 {
			return false
		}
		for _, topic := range t.Topics {
			if !c.covers(topic) {
				return false
			}
		}
		owns = true
	}
	return owns
}

// list names some of many.
func list(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
