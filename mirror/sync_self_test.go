package mirror

import (
	"maps"
	"strings"
	"testing"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// TestSelf_Principal: whom a target takes the mirror for, as far as the topology tells.
func TestSelf_Principal(t *testing.T) {
	for _, tc := range []struct{ cluster, want string }{
		{``, "User:ANONYMOUS"},
		{`tls = {}`, "User:ANONYMOUS"},
		{`tls = { cert = "file:c.pem", key = "file:k.pem" }`, ""},
		{`tls = { cert = "file:c.pem", key = "file:k.pem" }` + "\nprincipal = \"User:CN=isthmus\"", "User:CN=isthmus"},
		{`sasl = { mechanism = "SCRAM-SHA-512", user = "isthmus", password = "env:PW" }`, "User:isthmus"},
		{`sasl = { mechanism = "PLAIN", user = "key", password = "env:PW" }` + "\nprincipal = \"User:sa-7\"", "User:sa-7"},
		{`sasl = { mechanism = "OAUTHBEARER", token = "env:TOKEN" }`, ""},
		{`sasl = { mechanism = "GSSAPI", user = "isthmus/host", realm = "R", keytab = "file:k", krb5_conf = "file:c" }`, "User:isthmus"},
	} {
		text := "[fabric]\nname = \"f\"\n[[cluster]]\nname = \"eu\"\nbootstrap = [\"127.0.0.1:1\"]\n" + tc.cluster + "\n"
		topo, err := topology.Parse("t.toml", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", tc.cluster, err)
		}
		if got := principal(topo.Clusters[0]); got != tc.want {
			t.Errorf("%s: the mirror is %q, want %q", tc.cluster, got, tc.want)
		}
	}
}

// TestSelf_Rules: no rule comes to the target that is about the mirror, or may be.
func TestSelf_Rules(t *testing.T) {
	for _, tc := range []struct {
		source  string
		unknown bool // whom the target takes the mirror for
		deletes bool
		left    string // why it is not copied; empty: it is
	}{
		{source: "deny isthmus write topic literal orders-1", left: "about the mirror itself"},
		{source: "deny isthmus read group literal g-1", left: "about the mirror itself"},
		{source: "allow isthmus read topic literal orders-1", left: "about the mirror itself"},
		{source: "deny other write topic literal orders-1"},
		{source: "deny other write topic literal orders-1", unknown: true, left: "not known"},
		{source: "deny other all topic literal *", unknown: true, left: "not known"},
		{source: "deny other delete topic literal orders-1", unknown: true},
		{source: "deny other delete topic literal orders-1", unknown: true, deletes: true, left: "not known"},
		{source: "deny other read group literal g-1", unknown: true},
		{source: "allow other read topic literal orders-1", unknown: true},
		{source: "deny * describe topic literal orders-1", left: "keep the mirror itself out"},
		{source: "deny * delete topic literal orders-1"},
		{source: "deny * delete topic literal orders-1", deletes: true, left: "keep the mirror itself out"},
	} {
		s := aclScope{topics: patterns(t, "orders-*"), groups: patterns(t, "g-*"), names: []string{"orders-1"}, writable: func(string) bool { return true },
			self: self{cluster: "us", principal: "User:isthmus", deletes: tc.deletes}}
		if tc.unknown {
			s.self.principal = ""
		}
		want, left := s.wantedACLs([]broker.ACL{rule(t, tc.source)})
		switch {
		case tc.left == "" && (len(want) != 1 || len(left) != 0):
			t.Errorf("%+v: wanted %v, left %v; want it copied", tc, want, left)
		case tc.left != "" && (len(want) != 0 || len(left) != 1 || !strings.Contains(left[0].why, tc.left) || !left[0].asIs):
			t.Errorf("%+v: wanted %v, left %v; want it left as it is", tc, want, left)
		}
	}
	group := rule(t, "deny admins write topic literal orders-1")
	group.Principal = "Group:admins"
	if (self{principal: "User:isthmus"}).ruled(group) == "" {
		t.Error("a rule for a group, in which the mirror may be, is copied")
	}
}

// TestSelf_Quotas: no quota comes to the target that would slow the mirror down.
func TestSelf_Quotas(t *testing.T) {
	user, client := func(name string) broker.QuotaPart { return broker.QuotaPart{Type: "user", Name: name} }, func(name string) broker.QuotaPart { return broker.QuotaPart{Type: "client-id", Name: name} }
	users, clients := broker.QuotaPart{Type: "user", Default: true}, broker.QuotaPart{Type: "client-id", Default: true}
	of := func(parts ...broker.QuotaPart) []broker.QuotaPart { return parts }
	for name, tc := range map[string]struct {
		entity  []broker.QuotaPart
		own     bool // the target has one for the mirror's user
		unknown bool
		copied  bool
	}{
		"of another user":                        {entity: of(user("a")), copied: true},
		"of another user, which may be us":       {entity: of(user("a")), unknown: true},
		"of our user":                            {entity: of(user("isthmus"))},
		"of our user, which has one":             {entity: of(user("isthmus")), own: true},
		"of our user and program":                {entity: of(client("mirror"), user("isthmus"))},
		"of our user and another program":        {entity: of(client("x"), user("isthmus"))},
		"of all users":                           {entity: of(users)},
		"of all users, and we have our own":      {entity: of(users), own: true, copied: true},
		"of all users, which may be us":          {entity: of(users), unknown: true},
		"of our program":                         {entity: of(client("mirror"))},
		"of our program, and we have our own":    {entity: of(client("mirror")), own: true, copied: true},
		"of all programs":                        {entity: of(clients)},
		"of another program":                     {entity: of(client("x")), unknown: true, copied: true},
		"of all users, with another program":     {entity: of(client("x"), users), copied: true},
		"of all users, with any program":         {entity: of(clients, users)},
		"of another user, with our program":      {entity: of(client("mirror"), user("a")), copied: true},
		"of another user, who may be us, and it": {entity: of(client("mirror"), user("a")), unknown: true},
		"of an address":                          {entity: of(broker.QuotaPart{Type: "ip", Default: true}), unknown: true, copied: true},
	} {
		s := self{cluster: "us", principal: "User:isthmus", client: "mirror"}
		if tc.unknown {
			s.principal = ""
		}
		const key = "producer_byte_rate"
		why := s.quotaed(tc.entity, key, map[string]bool{key: tc.own})
		if (why == "") != tc.copied {
			t.Errorf("%s: left because %q; want it copied: %v", name, why, tc.copied)
		}
	}
	s := self{cluster: "us", principal: "User:isthmus", client: "mirror"}
	q := func(rate float64, entity ...broker.QuotaPart) broker.Quota {
		return broker.Quota{Entity: entity, Values: map[string]float64{"producer_byte_rate": rate}}
	}
	from, to, spared, left := s.without([]broker.Quota{q(1, user("isthmus")), q(2, users), q(3, user("a"))}, []broker.Quota{q(9, user("isthmus")), q(4, user("b"))})
	if len(from) != 2 || len(to) != 1 || !maps.Equal(spared["user isthmus"], map[string]bool{"producer_byte_rate": true}) {
		t.Errorf("compared are %v and %v without %v; want all but the mirror's own", from, to, spared)
	}
	if len(left) != 1 || left[0].Name != "user isthmus: producer_byte_rate" || left[0].Source != "1" || left[0].Target != "9" || left[0].Verdict != LeftByPolicy {
		t.Errorf("the drift is %+v, want the mirror's own quota", left)
	}
}
