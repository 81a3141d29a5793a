package topology

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Admin says who may use the admin API of the nodes, and how it is protected. The zero value is for loopback only.
type Admin struct {
	// TLS is nil for plain TCP.
	TLS *ServerTLS
	// Insecure allows addresses that others can reach without TLS or without identities.
	Insecure bool
	// Identities are all who may ask; without any, whoever reaches a loopback address has the role Administrator.
	Identities []Identity
}

// ServerTLS is how something that listens speaks TLS.
type ServerTLS struct {
	// Cert and Key refer to the PEM that the nodes show.
	Cert, Key Secret
	// ClientCA signs the certificates of clients; zero: they show none.
	ClientCA Secret
}

// Role is what an identity may do. A greater one includes the lesser.
type Role int

// The roles. The zero value may do nothing.
const (
	// Viewer reads.
	Viewer Role = iota + 1
	// Operator also pauses, resumes, drains and sets.
	Operator
	// Administrator also does what destroys, rotates keys and profiles.
	Administrator
)

var roleNames = []string{"viewer", "operator", "admin"}

// String gives the role as it is written in a file.
func (r Role) String() string {
	if r < Viewer || r > Administrator {
		return "nobody"
	}
	return roleNames[r-1]
}

// ParseRole reads a role as a file has it.
func ParseRole(text string) (Role, error) {
	if i := slices.Index(roleNames, text); i >= 0 {
		return Role(i + 1), nil
	}
	hint := "write one of " + strings.Join(roleNames, ", ")
	if best, ok := nearest(text, roleNames); ok {
		hint = "did you mean " + strconv.Quote(best) + "?"
	}
	return 0, fmt.Errorf("unknown role %s; %s", clip(text), hint)
}

// Identity is somebody who may use the admin API. Exactly one of Token and Subject is set.
type Identity struct {
	// Name is who it is in the audit; unique.
	Name string
	// Token refers to the bearer token.
	Token Secret
	// Subject is the common name of a client certificate that ClientCA signed.
	Subject string
	Role    Role
	// Topics narrows the role to topics that these match; empty: all, and what belongs to no topic.
	Topics Patterns
}

func (r *reader) admin() Admin {
	s, ok := r.root.sub("admin", `{ insecure = true }, or an [admin] table`)
	if !ok {
		return Admin{}
	}
	s.title = "[admin]"
	s.only("tls", "insecure", "identity")
	a := Admin{TLS: r.serverTLS(s, `{ cert = "file:admin.pem", key = "file:admin.key" }`), Insecure: s.boolean("insecure")}
	var seen identities
	seen.nameAt, seen.tokenAt, seen.subjectAt = make(map[string]int), make(map[string]int), make(map[string]int)
	for _, i := range s.list("identity") {
		i.title = "[[admin.identity]]"
		a.Identities = append(a.Identities, r.identity(i, a.TLS, s, seen))
	}
	return a
}

// identities are where names, tokens and subjects were given.
type identities struct{ nameAt, tokenAt, subjectAt map[string]int }

func (r *reader) identity(s scope, tls *ServerTLS, admin scope, seen identities) Identity {
	s.only("name", "token", "subject", "role", "topics")
	name := s.str("name", `"ana"`, true)
	if r.checkName("the identity's name", name, label) {
		r.unique("the identity", name, seen.nameAt)
	}
	i := Identity{Name: name.text, Topics: s.patterns("topics", `["payments-*"]`, false, parseTopicPattern)}
	if n := s.t.keys["topics"]; n != nil && n.kind == kindArray && len(n.items) == 0 {
		r.d.add(n.pos, `topics is empty, so that the identity may do nothing; write topics = ["payments-*"], or leave it out for all`)
	}
	token, subject := s.t.keys["token"], s.t.keys["subject"]
	switch {
	case token != nil && subject != nil:
		r.d.add(max(token.key, subject.key), "token and subject exclude each other; make it two identities")
	case token != nil:
		i.Token = s.secret("token", r.base, true)
		if !i.Token.IsZero() {
			r.unique("the token", value{text: i.Token.String(), pos: token.pos, ok: true}, seen.tokenAt)
		}
	case subject != nil:
		v := s.str("subject", `"ana"`, true)
		i.Subject = v.text
		if v.ok {
			r.unique("the subject", v, seen.subjectAt)
		}
		if (tls == nil || tls.ClientCA.IsZero()) && !admin.excused("tls") && (tls != nil || admin.t.keys["tls"] == nil) {
			r.d.add(subject.key, `a subject needs client certificates, and [admin] has no tls with a client_ca; add client_ca = "file:clients.pem" to its tls`)
		}
	case !s.excused("token") && !s.excused("subject"):
		r.d.add(s.t.pos, `%s has neither token nor subject; add token = "file:PATH", or subject = "CN" of a client certificate`, s.title)
	}
	if v := s.str("role", `"viewer"`, true); v.ok {
		role, err := ParseRole(v.text)
		if err != nil {
			r.d.add(v.pos, "%v", err)
		}
		i.Role = role
	}
	return i
}
