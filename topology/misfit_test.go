package topology

import (
	"slices"
	"strings"
	"testing"
)

// TestPlan_GoesOnOverSettingsThatDoNotFit: what two halves of a split fabric set need not fit together. What is left out for it
// must not keep anybody from pausing, from changing other things, or from mending it.
func TestPlan_GoesOnOverSettingsThatDoNotFit(t *testing.T) {
	s := tier(t)
	for _, broken := range [][]Setting{
		set("link/eu-us/groups", `["g"]`, "link/eu-us/exclude", "[]"),
		set("link/eu-us/groups", `["g"]`, "cluster/us", Removed),
		set("cluster/ap", Present, "cluster/ap/bootstrap", `["eu.example:9092"]`),
	} {
		running, left, err := s.Running(broken)
		if err == nil || len(left) == 0 {
			t.Fatalf("%v fit: left %v, %v", broken, left, err)
		}
		p, err := s.Set(broken, set("pause/eu-us/orders/*", "{}", "link/eu-us/start", `"latest"`))
		if err != nil || len(p.Entries) != 2 || len(p.Changes) != 2 {
			t.Errorf("%v: a pause and another field: %+v, %v", broken, p, err)
			continue
		}
		if !slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, left[0]) }) {
			t.Errorf("%v: notes %q do not name %s, which does not count", broken, p.Notes, left[0])
		}
		if _, err := s.Set(broken, set("link/eu-us/to", `"mars"`)); err == nil {
			t.Errorf("%v: another setting that does not fit was taken", broken)
		}
		var mend []Setting
		for _, key := range left {
			mend = append(mend, unset(key)...)
		}
		p, err = s.Set(broken, mend)
		if err != nil || len(p.Entries) != len(mend) {
			t.Errorf("%v: what does not fit, unset: %+v, %v", broken, p, err)
			continue
		}
		if _, _, err := s.Overlay(merged(broken, p.Entries)); err != nil {
			t.Errorf("%v: after it is unset: %v", broken, err)
		}
		p, err = s.Apply(broken, "wanted.toml", s.Text)
		if err != nil {
			t.Errorf("%v: the file, applied: %v", broken, err)
			continue
		}
		after := merged(broken, p.Entries)
		got, _, err := s.Overlay(after)
		if err != nil || len(Diff(got, overlaid(t, s, nil))) > 0 {
			t.Errorf("%v: the file, applied over %v, leaves %v, %v", broken, Diff(running, got), after, err)
		}
	}
}
