package checker

import (
	"fmt"
	"strings"
)

// Rule is something that must not happen.
type Rule uint8

// The rules, with their numbers in the list that the package follows.
const (
	// Lost (M1): a record of the source is not on the target, later ones of its
	// partition are, and the ledger does not say so.
	Lost Rule = iota
	// Dishonest (M2): the ledger says that a record is missing, and it is there; or it does not tell of a record that outlived its
	// source, or tells of one that did not.
	Dishonest
	// Duplicate (M3): a record is on the target more often than at the source. In mode
	// AtLeastOnce it is counted and allowed.
	Duplicate
	// Reorder (M4): a record comes after one that is later at its origin.
	Reorder
	// Phantom (M5): a record was never committed at a source, or does not belong here.
	Phantom
	// Corrupt (M6): a copy has other contents, time, partition or origin.
	Corrupt
	// Misrouted (M7): a record is in another topic.
	Misrouted
	// Torn (M8): some records of a committed transaction are on the target and others are not, although copying is over. Its
	// missing records count here, and not as Lost or Stall.
	Torn
	// Unstable (M9): an offset of the target held two different records.
	Unstable
	// Mistranslated (M10): a position of a consumer group skips records that were not read, lies beyond the end, has records
	// read again that need not be, went back although the group did not, is not there, or replaced that of members who read at the target. It is
	// counted in positions.
	Mistranslated
	// Loop (M11): a record came home, or came twice over different links.
	Loop
	// Stall (M12): the links were healthy and the sources idle for long enough, and the end of a log is not on the target.
	Stall

	rules
)

var ruleNames = [rules]string{"lost", "dishonest-ledger", "duplicate", "reordered", "phantom", "corrupt", "misrouted",
	"torn-transaction", "unstable-offset", "mistranslated", "loop", "stall"}

// String is the name of the rule's violation.
func (r Rule) String() string {
	if r < rules {
		return ruleNames[r]
	}
	return fmt.Sprintf("rule %d", uint8(r))
}

// Example is one record that a rule was violated with.
type Example struct {
	UID    string
	Origin string
	// Topic and Partition are those of the target's log, for records that are not
	// there those of the source.
	Topic     string
	Partition int32
	// SourceOffset and TargetOffset are -1 where there is none.
	SourceOffset, TargetOffset int64
	// Detail says what was found.
	Detail string
}

// String is one line.
func (e Example) String() string {
	return fmt.Sprintf("%s of %s in %s/%d, source offset %d, target offset %d: %s",
		e.UID, e.Origin, e.Topic, e.Partition, e.SourceOffset, e.TargetOffset, e.Detail)
}

// Finding is what was found against one rule.
type Finding struct {
	// Count is the number of records.
	Count int64
	// Examples are the first of them, bounded by Config.Examples.
	Examples []Example
}

// Report is the verdict on one target log.
type Report struct {
	Mode     Mode
	Findings [rules]Finding
	// Expected is the number of different records that the target should hold, Copied
	// the number that it does hold in their place, Own that of records first produced
	// there.
	Expected, Copied, Own int64
	// Pending records were not copied yet, and nothing after them was.
	Pending int64
	// Declared records are missing, and the ledger says so; DeclaredRepeats and
	// DeclaredReorders are copies that the ledger says may be repeated or late.
	Declared, DeclaredRepeats, DeclaredReorders int64
	// Survivors are acknowledged records that the target has and its source has not; DeclaredSurvivors those of them that the
	// source lost by its own fault and the ledger tells of.
	Survivors, DeclaredSurvivors int64
	// Positions is the number of positions that were judged.
	Positions int64
}

// Count is the number of records found against a rule, whether the mode allows it or not.
func (r Report) Count(rule Rule) int64 { return r.Findings[rule].Count }

// Violated returns the rules that were violated under the mode of the report.
func (r Report) Violated() []Rule {
	var out []Rule
	for rule := range rules {
		if r.Findings[rule].Count > 0 && !(rule == Duplicate && r.Mode == AtLeastOnce) {
			out = append(out, rule)
		}
	}
	return out
}

// OK reports whether no rule was violated.
func (r Report) OK() bool { return len(r.Violated()) == 0 }

// String is a summary: one line of counts, then one line for each rule with findings and
// one for each example.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "expected %d, copied %d, pending %d, own %d, declared missing %d, repeated %d, reordered %d, survivors %d and declared %d",
		r.Expected, r.Copied, r.Pending, r.Own, r.Declared, r.DeclaredRepeats, r.DeclaredReorders, r.Survivors, r.DeclaredSurvivors)
	if r.Positions > 0 {
		fmt.Fprintf(&b, ", positions %d", r.Positions)
	}
	b.WriteByte('\n')
	for rule := range rules {
		f := r.Findings[rule]
		if f.Count == 0 {
			continue
		}
		fmt.Fprintf(&b, "%v: %d\n", rule, f.Count)
		for _, e := range f.Examples {
			fmt.Fprintf(&b, "  %v\n", e)
		}
	}
	return b.String()
}

func (r *Report) add(rule Rule, limit int, e Example) {
	f := &r.Findings[rule]
	f.Count++
	if len(f.Examples) < limit {
		f.Examples = append(f.Examples, e)
	}
}

// find notes a violation by a record of the target.
func (t *Target) find(rule Rule, r Record, sourceOffset int64, detail string) {
	t.report.add(rule, t.cfg.Examples, Example{r.UID, r.Origin, r.Topic, r.Partition, sourceOffset, r.Offset, detail})
}
