package mirror

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// Which rules of the source a target gets: those about the link's topics and groups. One that allows is cut down to what makes sense
// on a mirror, and to the link's topics: the target may have others of such names, which the source's owner has no say in. One that
// forbids is copied as it is. None is copied that is about the mirror itself (sync_self.go).

// aclScope is what rules may concern.
type aclScope struct {
	topics, exclude, groups topology.Patterns
	names                   []string                                    // of the link's topics that are there
	writable                func(topic string) bool                     // clients write to the topic on the target too
	self                    self                                        // whom the target takes the mirror for
	as                      func(topic string) (target string, ok bool) // what the link calls topics, if it gives them other names; nil: it does not
}

// leftACL is a rule, or a part of it, that is not copied.
type leftACL struct {
	broker.ACL
	why  string
	asIs bool // the same rule on the target stays too, if it is there
}

// maxNarrowed is how many rules for single topics one link makes of wider ones. Who has more should give the link patterns that cover
// the rule's.
const maxNarrowed = 5000

// wantedACLs are the rules that the target should have because of the source's.
func (s aclScope) wantedACLs(source []broker.ACL) (want map[broker.ACL]bool, left []leftACL) {
	want = make(map[broker.ACL]bool)
	narrowed := 0
	leave := func(a broker.ACL, format string, args ...any) {
		left = append(left, leftACL{ACL: a, why: fmt.Sprintf(format, args...)})
	}
	for _, a := range source {
		patterns := s.patterns(a)
		if !s.concerns(a) {
			continue
		}
		if why := s.self.ruled(a); why != "" {
			left = append(left, leftACL{a, why, true})
			continue
		}
		renamed := s.as != nil && a.Resource == kmsg.ACLResourceTypeTopic
		if !a.Allow {
			if renamed && a.Name != "*" {
				s.single(a, func(one broker.ACL) { want[one] = true })
			} else {
				want[a] = true
			}
			continue
		}
		reads, writes := sensible(a)
		if !reads && !writes {
			leave(a, "clients of a mirror need no such right")
			continue
		}
		for _, op := range operations(a, reads, writes) {
			one := a
			one.Operation = op
			if !renamed && s.wholly(patterns, one) {
				want[one] = true
				continue
			}
			if a.Resource == kmsg.ACLResourceTypeGroup {
				leave(a, "it covers more than the groups of the link")
				continue
			}
			n := 0
			s.single(one, func(one broker.ACL) {
				if narrowed+n < maxNarrowed {
					n, want[one] = n+1, true
				}
			})
			switch narrowed += n; {
			case op == kmsg.ACLOperationWrite && n == 0:
				leave(a, "clients do not write to a mirror")
			case narrowed >= maxNarrowed:
				leave(a, "it covers more than the topics of the link, and %d rules for single topics are enough", maxNarrowed)
			}
		}
	}
	return want, left
}

// single makes rules for single topics of the target of a rule that is about some of the link's. A topic that is not there yet has a rule
// of its own name only.
func (s aclScope) single(a broker.ACL, each func(broker.ACL)) {
	names := s.names
	if a.Pattern == kmsg.ACLResourcePatternTypeLiteral && a.Name != "*" {
		names = []string{a.Name}
	}
	for _, name := range names {
		if !covers(a, name) || a.Allow && a.Operation == kmsg.ACLOperationWrite && !s.writable(name) {
			continue
		}
		one := a
		one.Pattern, one.Name = kmsg.ACLResourcePatternTypeLiteral, name
		if s.as != nil {
			target, ok := s.as(name)
			if !ok {
				continue
			}
			one.Name = target
		}
		each(one)
	}
}

// patterns are those of what a rule is about: of nothing, where it is about the cluster.
func (s aclScope) patterns(a broker.ACL) topology.Patterns {
	switch a.Resource {
	case kmsg.ACLResourceTypeTopic:
		return s.topics
	case kmsg.ACLResourceTypeGroup:
		return s.groups
	}
	return nil
}

// concerns reports whether a rule may be about something that the link takes.
func (s aclScope) concerns(a broker.ACL) bool {
	known := a.Pattern == kmsg.ACLResourcePatternTypeLiteral || a.Pattern == kmsg.ACLResourcePatternTypePrefixed
	return known && s.touches(s.patterns(a), a)
}

// about reports whether a rule of the target may be about something that the link brings there. Where topics have other names there, only those
// are that the link made.
func (s aclScope) about(a broker.ACL) bool {
	return s.concerns(a) && !(s.as != nil && a.Resource == kmsg.ACLResourceTypeTopic)
}

// sensible reports what of a rule that allows makes sense on a mirror.
func sensible(a broker.ACL) (reads, writes bool) {
	switch a.Operation {
	case kmsg.ACLOperationAll:
		return true, a.Resource == kmsg.ACLResourceTypeTopic
	case kmsg.ACLOperationRead, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs:
		return true, false
	case kmsg.ACLOperationWrite:
		return false, a.Resource == kmsg.ACLResourceTypeTopic
	}
	return false, false
}

// operations are what is left of the rule's.
func operations(a broker.ACL, reads, writes bool) (out []kmsg.ACLOperation) {
	switch {
	case a.Operation == kmsg.ACLOperationAll:
		out = append(out, kmsg.ACLOperationRead)
	case reads:
		out = append(out, a.Operation)
	}
	if writes {
		out = append(out, kmsg.ACLOperationWrite)
	}
	return out
}

// covers reports whether a rule is about a name.
func covers(a broker.ACL, name string) bool {
	if a.Pattern == kmsg.ACLResourcePatternTypePrefixed {
		return strings.HasPrefix(name, a.Name)
	}
	return a.Name == "*" || a.Name == name
}

// touches reports whether a rule may be about something that the link takes, now or later.
func (s aclScope) touches(patterns topology.Patterns, a broker.ACL) bool {
	topics := a.Resource == kmsg.ACLResourceTypeTopic
	switch {
	case len(patterns) == 0, topics && a.Pattern == kmsg.ACLResourcePatternTypePrefixed && topology.Internal(a.Name):
		return false
	case a.Pattern == kmsg.ACLResourcePatternTypePrefixed:
		return slices.ContainsFunc(patterns, func(p topology.Pattern) bool { return meets(p, a.Name) })
	case a.Name == "*":
		return true
	}
	return patterns.Match(a.Name) && !(topics && (s.exclude.Match(a.Name) || topology.Internal(a.Name) && !slices.Contains(s.names, a.Name)))
}

// wholly reports whether all that a rule may be about is the link's. A write has to be for topics that clients write to on both sides.
func (s aclScope) wholly(patterns topology.Patterns, a broker.ACL) bool {
	topics := a.Resource == kmsg.ACLResourceTypeTopic
	writes := a.Operation == kmsg.ACLOperationWrite
	if a.Pattern == kmsg.ACLResourcePatternTypeLiteral && a.Name != "*" {
		return !writes || s.writable(a.Name)
	}
	prefix := a.Name
	if a.Pattern == kmsg.ACLResourcePatternTypeLiteral {
		prefix = ""
	}
	if writes || topics && len(s.exclude) > 0 && slices.ContainsFunc(s.exclude, func(p topology.Pattern) bool { return meets(p, prefix) }) {
		return false
	}
	return slices.ContainsFunc(patterns, func(p topology.Pattern) bool {
		head, tail := split(p.String())
		return tail == "*" && strings.HasPrefix(prefix, head)
	})
}

// split cuts a glob before its first wildcard. A regexp has no head and a tail that is not one star.
func split(pattern string) (head, tail string) {
	if strings.HasPrefix(pattern, "~") {
		return "", pattern
	}
	if at := strings.IndexAny(pattern, "*?"); at >= 0 {
		return pattern[:at], pattern[at:]
	}
	return pattern, ""
}

// meets reports whether a pattern may match a name that begins so.
func meets(p topology.Pattern, prefix string) bool {
	head, tail := split(p.String())
	return strings.HasPrefix(head, prefix) || tail != "" && strings.HasPrefix(prefix, head)
}

// compareACLs puts the wanted rules beside those of the target. A rule is its own subject, with one item without a name. What is
// alike and needs no note is left out: that is nearly everything, nearly always.
func compareACLs(how kept, want map[broker.ACL]bool, target []broker.ACL, noted func(noteKey) bool, subjects []noteKey) (out []sided, rules map[string]broker.ACL) {
	rules = make(map[string]broker.ACL)
	seen := make(map[string]bool)
	emit := func(name string, source, there bool) {
		s := sided{key: noteKey{kind: DriftACL, subject: name}, kept: how}
		if source {
			s.source = map[string]string{"": ""}
		}
		if there {
			s.target = map[string]string{"": ""}
		}
		out, seen[name] = append(out, s), true
	}
	have := make(map[broker.ACL]bool, len(target))
	for _, a := range target {
		have[a] = true
	}
	for a := range want {
		name := a.String()
		seen[name] = true
		if !have[a] || how.returns && !noted(noteKey{kind: DriftACL, subject: name}) {
			rules[name] = a
			emit(name, true, have[a])
		}
	}
	for _, a := range target {
		if want[a] {
			continue
		}
		name := a.String()
		rules[name] = a
		emit(name, false, true)
	}
	for _, key := range subjects {
		if !seen[key.subject] {
			emit(key.subject, false, false)
		}
	}
	return out, rules
}
