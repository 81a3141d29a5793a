package topology

import (
	"regexp"
	"strings"
	"testing"
)

func patterns(t *testing.T, texts ...string) (out Patterns) {
	t.Helper()
	for _, text := range texts {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestLink_Matches(t *testing.T) {
	for _, c := range []struct {
		topics, exclude string
		yes, no         string
	}{
		{"orders", "", "orders", "order orders2 xorders"},
		{"*", "", "orders .hidden a.b.c mm2-x.internal eu.heartbeats", "__consumer_offsets __x heartbeats eu.checkpoints.internal mm2-offset-syncs.eu.internal __isthmus.state"},
		{"~.*", "", "orders", "__consumer_offsets heartbeats eu.checkpoints.internal mm2-offset-syncs.eu.internal"},
		{"__* ~^heartbeats$ ?eartbeats", "", "", "__consumer_offsets heartbeats"},
		{"__consumer_offsets heartbeats eu.checkpoints.internal mm2-offset-syncs.eu.internal", "",
			"__consumer_offsets heartbeats eu.checkpoints.internal mm2-offset-syncs.eu.internal", "us.checkpoints.internal orders"},
		{"__isthmus.state", "", "", "__isthmus.state"},
		{"payments-*", "*-scratch", "payments-1 payments-", "payments payments-scratch payments-1-scratch"},
		{"orders heartbeats", "orders ~heart", "", "orders heartbeats"},
		{"~^audit\\.[a-z]+$", "", "audit.eu", "audit.EU xaudit.eu audit."},
		{"~audit", "", "audit xaudity", "adit"},
		{"a?c", "", "abc a-c", "ac abbc"},
		{"*a*b*", "", "ab xaybz aab aabb", "ba a b"},
		{"", "", "", "orders"},
	} {
		l := Link{Topics: patterns(t, strings.Fields(c.topics)...), Exclude: patterns(t, strings.Fields(c.exclude)...)}
		for _, topic := range strings.Fields(c.yes) {
			if !l.Matches(topic) {
				t.Errorf("%q without %q does not match %s", c.topics, c.exclude, topic)
			}
		}
		for _, topic := range append(strings.Fields(c.no), "") {
			if l.Matches(topic) {
				t.Errorf("%q without %q matches %s", c.topics, c.exclude, topic)
			}
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b           string
		possible, sure bool
	}{
		{"orders", "orders", true, true}, {"orders", "order", false, true}, {"orders", "*", true, true},
		{"heartbeats", "*", false, true}, {"heartbeats", "heartbeats", true, true}, {"orders", "~^ord", true, true},
		{"orders", "~^x", false, true}, {"*", "~^x", true, true}, {"a*", "~^x", true, false}, {"~a", "~b", true, false},
		{"a*", "*b", true, true}, {"a*", "b*", false, true}, {"*a", "*b", false, true}, {"a?", "?b", true, true},
		{"a?", "a", false, true}, {"*-eu-*", "x-*-eu", true, true}, {"a*c", "ab", false, true}, {"a*c*e", "?b?d?", true, true},
		{"**", "?", true, true},
	} {
		ps := patterns(t, c.a, c.b)
		for range 2 {
			if possible, sure := overlap(ps[0], ps[1]); possible != c.possible || sure != c.sure {
				t.Errorf("%s and %s: %v %v", ps[0], ps[1], possible, sure)
			}
			ps[0], ps[1] = ps[1], ps[0]
		}
	}
}

// FuzzGlob compares the matcher with a regexp, and asserts that a name both globs take shows as an overlap.
func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "*", "axbxc")
	f.Add("**?", "?x", "ax")
	f.Fuzz(func(t *testing.T, a, b, name string) {
		clean := func(s string) string {
			return strings.Map(func(r rune) rune {
				if topicRune(r) || r == '*' || r == '?' {
					return r
				}
				return 'x'
			}, s[:min(len(s), 50)])
		}
		a, b, name = clean(a), clean(b), strings.Map(func(r rune) rune {
			if topicRune(r) {
				return r
			}
			return 'a'
		}, name[:min(len(name), 50)])
		asRegexp := func(glob string) *regexp.Regexp {
			return regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".", ".", `\.`).Replace(glob) + "$")
		}
		inA, inB := globMatch(a, name), globMatch(b, name)
		if inA != asRegexp(a).MatchString(name) {
			t.Fatalf("glob %q on %q: %v", a, name, inA)
		}
		if meet := globsMeet(a, b); meet != globsMeet(b, a) || inA && inB && !meet {
			t.Fatalf("%q and %q: meet %v, share %q: %v", a, b, meet, name, inA && inB)
		}
	})
}
