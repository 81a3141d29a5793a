package topology

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// policyFields are the fields of a link for what follows the source beside the records, and for what happens where a log went wrong.
var policyFields = []string{"truncated_source", "recreated", "deleted", "deleted_after", "groups_deleted", "poison", "headroom", "stuck_after",
	"sync_configs", "sync_configs_exclude", "sync_acls", "sync_quotas", "flow_byte_rate", "cold_byte_rate"}

// The bounds of a policy's times.
const (
	minPolicyTime = time.Second
	maxPolicyTime = 366 * 24 * time.Hour
)

// policy reads what a link does where a log went wrong.
func (s scope) policy() Policy {
	return Policy{
		TruncatedSource: choice(s, "truncated_source", FreezeTruncated, KeepTruncated),
		Recreated:       choice(s, "recreated", HaltRecreated, NewIncarnation),
		Deleted:         choice(s, "deleted", KeepDeleted, FollowDelete),
		DeletedAfter:    s.duration("deleted_after", `"24h"`, DefaultDeletedAfter),
		GroupsDeleted:   choice(s, "groups_deleted", KeepDeleted, FollowDelete),
		Poison:          choice(s, "poison", HaltPoison, DeadLetter, SkipPoison),
		Headroom:        s.duration("headroom", `"1h"`, DefaultHeadroom),
		StuckAfter:      s.duration("stuck_after", `"1m"`, DefaultStuckAfter),
	}
}

// keeps reads what follows the source beside the records.
func (s scope) keeps() Keeps {
	return Keeps{
		Configs:        s.patterns("sync_configs", `["*"]`, false, ParsePattern),
		ConfigsExclude: s.patterns("sync_configs_exclude", `["retention.*"]`, false, ParsePattern),
		ACLs:           s.boolean("sync_acls"),
		Quotas:         s.boolean("sync_quotas"),
	}
}

// rates reads the finer bounds of what a link reads.
func (s scope) rates() Rates {
	const example = `{ "logs-*" = 2_000_000 }`
	r := Rates{Cold: int64(s.integer("cold_byte_rate", "20_000_000", minByteRate, 1<<50))}
	table, ok := s.sub("flow_byte_rate", example)
	if !ok {
		return r
	}
	for _, text := range table.t.order {
		p, err := parseTopicPattern(text)
		if err != nil {
			s.d.add(table.t.keys[text].key, "flow_byte_rate: %v", err)
			continue
		}
		r.Flows = append(r.Flows, FlowRate{Topics: p, Bytes: int64(table.integer(text, "2_000_000", minByteRate, 1<<50))})
	}
	if len(table.t.order) == 0 {
		s.d.add(s.t.keys["flow_byte_rate"].key, "flow_byte_rate is empty; write flow_byte_rate = %s, or leave it out", example)
	}
	slices.SortFunc(r.Flows, func(a, b FlowRate) int { return cmp.Compare(a.Topics.text, b.Topics.text) })
	return r
}

// Flow is the bound of one topic: the least of those whose patterns match; 0 is none.
func (r Rates) Flow(topic string) int64 {
	least := int64(0)
	for _, f := range r.Flows {
		if f.Topics.Match(topic) && (least == 0 || f.Bytes < least) {
			least = f.Bytes
		}
	}
	return least
}

// choice reads one of some words; the first if the key is absent or wrong.
func choice[T ~string](s scope, key string, words ...T) T {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(string(w))
	}
	v := s.str(key, quoted[0], false)
	switch {
	case !v.ok:
	case slices.Contains(words, T(v.text)):
		return T(v.text)
	default:
		s.d.add(v.pos, "%s is %s; write one of %s", key, clip(v.text), strings.Join(quoted, ", "))
	}
	return words[0]
}

// duration reads a time span such as "90m"; the default if it is absent or wrong.
func (s scope) duration(key, example string, usual time.Duration) time.Duration {
	v := s.str(key, example, false)
	if !v.ok {
		return usual
	}
	d, err := time.ParseDuration(v.text)
	switch {
	case err != nil:
		s.d.add(v.pos, "%s: %s is no time span; write for example %s = %s (units: s, m, h)", key, clip(v.text), key, example)
	case d < minPolicyTime || d > maxPolicyTime:
		s.d.add(v.pos, "%s is not between 1s and 8784h (366 days); write for example %s = %s", key, key, example)
	default:
		return d
	}
	return usual
}

// policyFields writes what differs from the defaults.
func (l Link) policyFields() (out fields) {
	p, k := l.Policy, l.Keeps
	word := func(value, usual string) string {
		if value == usual {
			return ""
		}
		return quote(value)
	}
	span := func(d, usual time.Duration) string {
		if d == usual {
			return ""
		}
		return quote(d.String())
	}
	var flows fields
	for _, f := range l.Rates.Flows {
		flows = flows.add(quote(f.Topics.text), strconv.FormatInt(f.Bytes, 10))
	}
	cold := ""
	if l.Rates.Cold > 0 {
		cold = strconv.FormatInt(l.Rates.Cold, 10)
	}
	return out.add("truncated_source", word(string(p.TruncatedSource), string(FreezeTruncated))).
		add("recreated", word(string(p.Recreated), string(HaltRecreated))).
		add("deleted", word(string(p.Deleted), string(KeepDeleted))).add("deleted_after", span(p.DeletedAfter, DefaultDeletedAfter)).
		add("groups_deleted", word(string(p.GroupsDeleted), string(KeepDeleted))).
		add("poison", word(string(p.Poison), string(HaltPoison))).add("headroom", span(p.Headroom, DefaultHeadroom)).
		add("stuck_after", span(p.StuckAfter, DefaultStuckAfter)).
		add("sync_configs", quoteAll(k.Configs.Strings())).add("sync_configs_exclude", quoteAll(k.ConfigsExclude.Strings())).
		add("sync_acls", isSet(k.ACLs)).add("sync_quotas", isSet(k.Quotas)).
		add("flow_byte_rate", flows.inline()).add("cold_byte_rate", cold)
}

// losesBy reports whether a field of a policy, by its new value, has the link drop or delete something from now on.
func losesBy(field, value string) bool {
	return (field == "deleted" || field == "groups_deleted") && value == quote(string(FollowDelete)) || field == "poison" && value == quote(string(SkipPoison))
}
