package mirror

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// Rules and quotas are the source's word about its clients, and the mirror is a client of the target: one that is for it too would keep it out,
// or slow down all that it copies. So nothing is ever written about whom the target takes the mirror for, nor taken away. Kafka does not tell a
// client whom it is taken for. Where the topology does not either, whatever may be about the mirror is left.

// self is whom a target takes the mirror for.
type self struct {
	cluster   string
	principal string // User:NAME; empty: not known
	client    string // the client id
	deletes   bool   // the link deletes topics of the target
}

// anonymous is the principal of a client that says nothing about itself.
const anonymous = "User:ANONYMOUS"

func (l *Link) self(t *topology.Topology) self {
	c, _ := t.Cluster(l.spec.To)
	return self{cluster: l.spec.To, principal: principal(c), client: l.to.ClientID(), deletes: l.terms().Policy.Deleted == topology.FollowDelete}
}

// principal is whom a cluster takes the mirror for, where the topology tells. A broker makes it of a certificate or a token by rules of its own.
func principal(c topology.Cluster) string {
	switch {
	case c.Principal != "":
		return c.Principal
	case c.SASL != nil && c.SASL.User != "":
		user, _, _ := strings.Cut(c.SASL.User, "/") // of Kerberos: the host
		return "User:" + user
	case c.SASL == nil && (c.TLS == nil || c.TLS.Cert.IsZero()):
		return anonymous
	}
	return ""
}

// is reports whether a principal is the mirror's.
func (s self) is(principal string) bool { return s.principal != "" && s.principal == principal }

// unknown says what is left because the principal is not known.
func (s self) unknown() string {
	return fmt.Sprintf("it may be about the mirror itself, whose principal on %s is not known: say it as principal = \"User:NAME\" of that cluster", s.cluster)
}

// ruled says why a rule is not copied that is about the mirror, empty if it is not.
func (s self) ruled(a broker.ACL) string {
	switch {
	case s.is(a.Principal):
		return "it is about the mirror itself"
	case a.Allow || a.Resource != kmsg.ACLResourceTypeTopic || a.Operation == kmsg.ACLOperationDelete && !s.deletes:
		return ""
	case a.Principal == "User:*":
		return "it would keep the mirror itself out of the target; forbid it to clients by name"
	case s.principal == "" || !strings.HasPrefix(a.Principal, "User:"): // who is in a group is known to the broker only
		return s.unknown()
	}
	return ""
}

// quotaed says why a value of a quota is not copied that is for the mirror, empty if it is not. own are the values that the target has for
// the mirror's principal: they go before those for everybody.
func (s self) quotaed(entity []broker.QuotaPart, key string, own map[string]bool) string {
	var user, client *broker.QuotaPart
	for i := range entity {
		switch entity[i].Type {
		case "user":
			user = &entity[i]
		case "client-id":
			client = &entity[i]
		}
	}
	switch {
	case user == nil && client == nil:
		return ""
	case user != nil && !user.Default && s.is("User:"+user.Name):
		return "it is about the mirror itself"
	case client != nil && !client.Default && client.Name != s.client: // another program, whoever runs it
		return ""
	case user != nil && !user.Default && s.principal == "":
		return s.unknown()
	case user != nil && !user.Default:
		return ""
	case user == nil && !client.Default && !own[key]:
		return fmt.Sprintf("%s is the client id of the mirror itself", s.client)
	case own[key]:
		return ""
	case s.principal == "":
		return s.unknown()
	}
	return fmt.Sprintf("it would slow down the mirror itself; it is copied once %s gives the user %s a %s of its own", s.cluster, strings.TrimPrefix(s.principal, "User:"), key)
}

// without takes out of the quotas of both sides what is not copied. spared are those values, by entity; left is where the sides differ in them.
func (s self) without(source, target []broker.Quota) (from, to []broker.Quota, spared map[string]map[string]bool, left []Drift) {
	own := make(map[string]bool)
	for _, q := range target {
		if len(q.Entity) == 1 && q.Entity[0].Type == "user" && !q.Entity[0].Default && s.is("User:"+q.Entity[0].Name) {
			for key := range q.Values {
				own[key] = true
			}
		}
	}
	spared, here := make(map[string]map[string]bool), make(map[string]string)
	take := func(all []broker.Quota, see func(name, key, value, why string)) []broker.Quota {
		var out []broker.Quota
		for _, q := range all {
			name, some := q.For(), broker.Quota{Entity: q.Entity, Values: make(map[string]float64)}
			for key, v := range q.Values {
				why := s.quotaed(q.Entity, key, own)
				if why == "" {
					some.Values[key] = v
					continue
				}
				if spared[name] == nil {
					spared[name] = make(map[string]bool)
				}
				spared[name][key] = true
				see(name, key, quotaItem(v), why)
			}
			if len(some.Values) > 0 {
				out = append(out, some)
			}
		}
		return out
	}
	to = take(target, func(name, key, value, _ string) { here[name+": "+key] = value })
	from = take(source, func(name, key, value, why string) {
		if at := here[name+": "+key]; at != value {
			left = append(left, Drift{Kind: DriftQuota, Name: name + ": " + key, Source: value, Target: at, Verdict: LeftByPolicy, Why: why})
		}
	})
	slices.SortFunc(left, func(a, b Drift) int { return strings.Compare(a.Name, b.Name) })
	return from, to, spared, left
}
