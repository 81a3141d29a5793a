package topology

import (
	"slices"
	"strings"
)

// namingFields are the fields of a link for the names of its topics on the target.
var namingFields = []string{"naming", "prefix", "rename"}

// The words of naming.
const (
	nameSame   = "same"
	namePrefix = "prefix"
	nameRename = "rename"
)

// naming reads what a link calls topics. The word may be left out where another key says it. from is the link's source, whose name
// and a dot are the prefix that is not given.
func (s scope) naming(from string) (n Naming) {
	word := choice(s, "naming", nameSame, namePrefix, nameRename)
	prefix, rename := s.t.keys["prefix"], s.t.keys["rename"]
	said := s.t.keys["naming"] != nil
	switch {
	case said && word == nameSame && (prefix != nil || rename != nil), said && word == nameRename && prefix != nil,
		said && word == namePrefix && rename != nil, prefix != nil && rename != nil:
		s.d.add(s.namingAt(), "naming, prefix and rename do not go together; write prefix = \"eu.\", or rename = { \"orders\" = \"eu-orders\" }, or none of them")
		return Naming{}
	case said && word == nameRename && rename == nil:
		s.missing("rename", `{ "orders" = "eu-orders" }`)
		return Naming{}
	case rename != nil:
		n.Renames = s.renames()
	case prefix != nil:
		n.Prefix = s.prefix()
	case word == namePrefix:
		n.Prefix = from + "."
	}
	return n
}

// namingAt is the place of the key about names that a live setting wrote, else of the first; the link's where there is none.
func (s scope) namingAt() int {
	at := s.t.pos
	for _, key := range slices.Backward(namingFields) {
		n := s.t.keys[key]
		if n == nil {
			continue
		}
		if _, set := s.d.setting(n.key); set {
			return n.key
		}
		at = n.key
	}
	return at
}

// prefix reads what goes before names.
func (s scope) prefix() string {
	v := s.str("prefix", `"eu."`, true)
	switch {
	case !v.ok:
	case !topicName(v.text + "x"):
		s.d.add(v.pos, "prefix: %s cannot begin the name of a topic; use letters, digits, dot, dash, underscore, and fewer than %d of them", clip(v.text), maxTopicBytes)
	case Internal(v.text + "x"):
		s.d.add(v.pos, "prefix: names that begin with %s are Kafka's own; choose another", clip(v.text))
	default:
		return v.text
	}
	return ""
}

// renames reads a table of names.
func (s scope) renames() (rules []Rename) {
	const example = `{ "orders" = "eu-orders", "logs-*" = "eu-logs-*" }`
	table, ok := s.sub("rename", example)
	if !ok {
		return nil
	}
	if len(table.t.order) == 0 {
		s.d.add(s.t.keys["rename"].key, "rename is empty; write rename = %s, or leave it out", example)
	}
	for _, from := range table.t.order {
		at := table.t.keys[from].key
		to := table.str(from, `"eu-orders"`, true)
		switch {
		case !to.ok:
		case !renameSide(from) || from == "":
			s.d.add(at, "rename: %s is no name of a topic; write a name, or its beginning and a star", clip(from))
		case !renameSide(to.text):
			s.d.add(to.pos, "rename: %s is no name of a topic; write a name, or its beginning and a star", clip(to.text))
		case strings.HasSuffix(to.text, "*") && !strings.HasSuffix(from, "*"):
			s.d.add(to.pos, "rename: %s is one topic and cannot become many; write a name without a star", clip(from))
		case from == to.text:
			s.d.add(at, "rename: %s keeps its name; take it out", clip(from))
		case ownSide(from) || ownSide(to.text):
			s.d.add(at, "rename: topics of Kafka and Isthmus themselves keep their names; take %s out", clip(from))
		default:
			rules = append(rules, Rename{from, to.text})
		}
	}
	sortRenames(rules)
	return rules
}

// renameSide tells whether a text is a name of a topic, or the beginning of one and a star.
func renameSide(text string) bool {
	from, star := head(text)
	return topicName(from) || star && (from == "" || topicName(from+"x"))
}

// ownSide tells whether a side of a rule is a name of Kafka or Isthmus themselves, or the beginning of such names only.
func ownSide(side string) bool {
	from, star := head(side)
	return !star && Internal(from) || star && Internal(from+"x")
}

// fields writes what does not keep the names.
func (n Naming) fields() (out fields) {
	switch {
	case n.Prefix != "":
		return out.add("naming", quote(namePrefix)).add("prefix", quote(n.Prefix))
	case len(n.Renames) > 0:
		var rules fields
		for _, r := range n.Renames {
			rules = rules.add(quote(r.From), quote(r.To))
		}
		return out.add("naming", quote(nameRename)).add("rename", rules.inline())
	}
	return nil
}

// patterns are globs of the names that the rules read and make, beside those of the link.
func (l Link) patterns() Patterns {
	all := slices.Concat(l.Topics, l.Exclude)
	for _, r := range l.Naming.Renames {
		for _, side := range []string{r.From, r.To} {
			if p, err := parseTopicPattern(side); err == nil {
				all = append(all, p)
			}
		}
	}
	return all
}
