package topology

import (
	"fmt"
	"strconv"
	"strings"
)

// Quota is what some clients of a router may take at each of its instances. Each of them has it for itself: who is told apart by client
// id, by principal, or by both, as the rule names them. The first rule of a router that fits a client counts, and no other.
type Quota struct {
	// ClientIDs and Principals say whose quota it is; both must fit. Empty is everybody. A client without a login has no principal.
	ClientIDs, Principals Patterns
	// ProduceRate and FetchRate are bytes a second that are written and read, RequestRate is requests a second; 0 is no bound.
	ProduceRate, FetchRate, RequestRate int64
}

// Fits reports whether it is the quota of a client. A principal of "" is none.
func (q Quota) Fits(clientID, principal string) bool {
	return (len(q.ClientIDs) == 0 || q.ClientIDs.Match(clientID)) && (len(q.Principals) == 0 || principal != "" && q.Principals.Match(principal))
}

// maxRequestRate is beyond what one connection can ask.
const maxRequestRate = 1_000_000

func (r *reader) quota(s scope) Quota {
	s.only("client_id", "principal", "produce_rate", "fetch_rate", "request_rate")
	q := Quota{
		ClientIDs:   s.patterns("client_id", `["batch-*"]`, false, ParsePattern),
		Principals:  s.patterns("principal", `["reports"]`, false, ParsePattern),
		ProduceRate: int64(s.integer("produce_rate", "10_000_000", minByteRate, 1<<50)),
		FetchRate:   int64(s.integer("fetch_rate", "20_000_000", minByteRate, 1<<50)),
		RequestRate: int64(s.integer("request_rate", "500", 1, maxRequestRate)),
	}
	keys := s.t.keys
	if keys["client_id"] == nil && keys["principal"] == nil && !s.excused("client_id") && !s.excused("principal") {
		r.d.add(s.t.pos, `%s says whose it is by neither client_id nor principal; write client_id = ["*"] for every client`, s.title)
	}
	if keys["produce_rate"] == nil && keys["fetch_rate"] == nil && keys["request_rate"] == nil && !s.excused("produce_rate") && !s.excused("fetch_rate") && !s.excused("request_rate") {
		r.d.add(s.t.pos, "%s bounds nothing; write produce_rate or fetch_rate in bytes a second, or request_rate in requests a second", s.title)
	}
	return q
}

func (q Quota) fields() (out fields) {
	rate := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	return out.add("client_id", quoteAll(q.ClientIDs.Strings())).add("principal", quoteAll(q.Principals.Strings())).
		add("produce_rate", rate(q.ProduceRate)).add("fetch_rate", rate(q.FetchRate)).add("request_rate", rate(q.RequestRate))
}

// summary tells whose quota it is, and what it bounds.
func (q Quota) summary() (who, what string) {
	var whose, bounds []string
	if len(q.ClientIDs) > 0 {
		whose = append(whose, "client id "+strings.Join(q.ClientIDs.Strings(), ", "))
	}
	if len(q.Principals) > 0 {
		whose = append(whose, "principal "+strings.Join(q.Principals.Strings(), ", "))
	}
	for _, b := range []struct {
		name string
		rate int64
		unit string
	}{{"writes", q.ProduceRate, "bytes/s"}, {"reads", q.FetchRate, "bytes/s"}, {"asks", q.RequestRate, "requests/s"}} {
		if b.rate > 0 {
			bounds = append(bounds, fmt.Sprintf("%s at most %d %s", b.name, b.rate, b.unit))
		}
	}
	return strings.Join(whose, " with "), strings.Join(bounds, "; ")
}
