package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// troublesDoc tells more of each cause, under its name.
const troublesDoc = "docs/troubles.md"

// remedy is what becomes of a trouble by itself, and what people can do. In a command LINK stands for the link, TOPIC for a topic,
// PART for what has the trouble and ONE for one partition of it.
type remedy struct{ itself, command string }

// remedies by cause. docs/troubles.md has a chapter for each.
var remedies = map[string]remedy{
	"manual":             {"goes on when the pause is over", "isthmus resume LINK PART"},
	"back-pressure":      {"it runs as fast as the target takes records", "isthmus status LINK --watch"},
	"quota":              {"it runs as fast as its rate lets it", "isthmus settings link.LINK"},
	"waiting-for-topic":  {"looks again, and goes on when the topic is as it has to be on both sides", "isthmus drift LINK"},
	"waiting-for-leader": {"asks for the leader, and goes on when there is one", "isthmus retry LINK PART"},
	"not-authorised":     {"tries again, less and less often", "grant the right, then isthmus retry LINK PART"},
	"source-error":       {"tries again, less and less often", "mend the source, then isthmus retry LINK PART"},
	"target-error":       {"tries again, less and less often", "mend the target, then isthmus retry LINK PART"},
	"another-owner":      {"watches, and goes on when the other one stops", "isthmus owners LINK TOPIC"},
	"behind-retention":   {"goes on with what the source still has; the range is in the ledger", "isthmus ledger LINK --topic TOPIC"},
	"truncated-source":   {"nothing is copied until somebody decides", "isthmus set link.LINK.truncated_source keep"},
	"truncated-target":   {"copies again what the source still has; the rest is in the ledger", "isthmus ledger LINK --topic TOPIC"},
	"recreated":          {"nothing is copied until somebody decides", "isthmus anchor LINK ONE --at start --why TEXT --dry-run"},
	"deleted":            {"the target's topic stays, unless the link's deleted = \"follow\"", "isthmus drift LINK"},
	"unanchored":         {"nothing is copied until somebody decides", "isthmus anchor LINK ONE --at start --why TEXT --dry-run"},
	"poison":             {"halts before it, looking again from time to time", "isthmus set link.LINK.poison dead-letter"},
	"too-large":          {"halts before it, looking again from time to time", "raise the target's limit, then isthmus retry LINK PART"},
	"too-late":           {"halts before it, looking again from time to time", "widen the target's limits of time, then isthmus retry LINK PART"},
	"too-early":          {"halts before it, looking again from time to time", "widen the target's limits of time, then isthmus retry LINK PART"},
	"null-key":           {"halts before it, looking again from time to time", "isthmus set link.LINK.poison dead-letter"},
	"order-break":        {"goes on behind it with a new sequence; the range is in the ledger", "isthmus ledger LINK --topic TOPIC"},
	"near-retention":     {"it runs; what the source deletes first is noted in the ledger", "give the source's topic more retention"},
	"audit-mismatch":     {"copying goes on", "isthmus verify LINK ONE"},
	"waiting-for-relay":  {"begins when the link that brought these records until now has said where it stops", "isthmus status"},
	"stuck-transaction":  {"it runs, and copies what is behind the transaction when that ends", "abort the transaction at the source: kafka-transactions.sh"},
}

// harm orders states by how soon somebody should look at them.
var harm = []adminpb.State{adminpb.State_STATE_HALTED, adminpb.State_STATE_ELSEWHERE, adminpb.State_STATE_RETRYING, adminpb.State_STATE_YIELDED,
	adminpb.State_STATE_WAITING, adminpb.State_STATE_RUNNING, adminpb.State_STATE_FINDING, adminpb.State_STATE_DRAINING, adminpb.State_STATE_PAUSED}

// urgent are the causes of what runs that somebody should look at all the same.
var urgent = []string{"audit-mismatch", "near-retention", "stuck-transaction"}

// ill are the partitions of one link that have the same trouble.
type ill struct {
	link          string
	state         adminpb.State
	cause, reason string // the reason is that of the partition which has it longest
	reasons       int    // how many different ones there are
	since, next   time.Time
	attempts      int32
	headroom      float64 // the least; 0: not known
	topics        []string
	partitions    map[string][]int32
}

// ills are the troubles of all partitions, what is worst first.
func (v statusView) ills(st *adminpb.StatusResponse) []*ill {
	type key struct {
		link   string
		state  adminpb.State
		cause  string
		reason string // only without a cause
	}
	groups := make(map[key]*ill)
	reasons := make(map[key]map[string]bool)
	var all []*ill
	for _, l := range st.GetLinks() {
		for _, f := range l.GetFlows() {
			for _, p := range f.GetPartitions() {
				if !v.isIll(p) {
					continue
				}
				k := key{l.GetName(), p.GetState(), p.GetCause(), ""}
				if k.cause == "" {
					k.reason = p.GetReason()
				}
				g := groups[k]
				if g == nil {
					g = &ill{link: k.link, state: k.state, cause: k.cause, partitions: make(map[string][]int32)}
					groups[k], reasons[k] = g, make(map[string]bool)
					all = append(all, g)
				}
				g.add(f.GetTopic(), p)
				reasons[k][p.GetReason()] = true
				g.reasons = len(reasons[k])
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *ill) int { return cmp.Compare(a.rank(), b.rank()) })
	return all
}

// rank is the place among the harms. A state that is not known comes first; what runs and needs somebody comes with what is halted.
func (g *ill) rank() int {
	if g.state == adminpb.State_STATE_RUNNING && slices.Contains(urgent, g.cause) {
		return slices.Index(harm, adminpb.State_STATE_HALTED)
	}
	return slices.Index(harm, g.state)
}

// isIll tells whether people should know of a partition. Of one node, that others copy it is no trouble.
func (v statusView) isIll(p *adminpb.Partition) bool {
	switch p.GetState() {
	case adminpb.State_STATE_RUNNING:
		return p.GetCause() != ""
	case adminpb.State_STATE_ELSEWHERE:
		return p.GetReason() != "" && !v.local
	}
	return p.GetReason() != "" || p.GetCause() != ""
}

func (g *ill) add(topic string, p *adminpb.Partition) {
	if g.partitions[topic] == nil {
		g.topics = append(g.topics, topic)
	}
	g.partitions[topic] = append(g.partitions[topic], p.GetPartition())
	if at := p.GetSince(); g.reason == "" || at != nil && (g.since.IsZero() || at.AsTime().Before(g.since)) {
		g.reason = p.GetReason()
		if at != nil {
			g.since = at.AsTime()
		}
	}
	if at := p.GetNextTry(); at != nil && (g.next.IsZero() || at.AsTime().Before(g.next)) {
		g.next = at.AsTime()
	}
	g.attempts = max(g.attempts, p.GetAttempts())
	if h := headroom(p); h > 0 && (g.headroom == 0 || h < g.headroom) {
		g.headroom = h
	}
}

// headroom is that of a partition in seconds; 0: not known.
func headroom(p *adminpb.Partition) float64 { return max(0, p.GetHeadroomSeconds()) }

// maxNamed bounds the topics that one note names.
const maxNamed = 3

// where names the partitions.
func (g *ill) where() string {
	var parts []string
	for i, topic := range g.topics {
		if i == maxNamed {
			parts = append(parts, fmt.Sprintf("and %d more topics", len(g.topics)-maxNamed))
			break
		}
		parts = append(parts, topic+":"+ranges(g.partitions[topic]))
	}
	return g.link + " " + strings.Join(parts, " ")
}

// note tells what is wrong, since when, and what is tried; and, unless it is to be brief, what becomes of it and what people can do.
func (g *ill) note(now time.Time, brief bool) string {
	text := fmt.Sprintf("%s %s: %s", g.where(), admin.Name(g.state), cmp.Or(g.reason, g.cause))
	var more []string
	if g.cause != "" && g.reason != "" {
		more = append(more, g.cause)
	}
	if !g.since.IsZero() {
		more = append(more, fmt.Sprintf("for %s, since %s", since(g.since, now), g.since.UTC().Format(time.RFC3339)))
	}
	if g.attempts > 0 {
		more = append(more, fmt.Sprintf("attempt %d", g.attempts))
	}
	if !g.next.IsZero() {
		more = append(more, "next in "+since(now, g.next))
	}
	if g.headroom > 0 {
		more = append(more, age(g.headroom)+" until retention deletes what is not copied")
	}
	if g.reasons > 1 {
		more = append(more, fmt.Sprintf("the oldest of %d reasons", g.reasons))
	}
	if len(more) > 0 {
		text += " (" + strings.Join(more, "; ") + ")"
	}
	r, known := remedies[g.cause]
	if brief || !known {
		return text
	}
	return fmt.Sprintf("%s\n    by itself: %s\n    you can: %s   (%s#%s)", text, r.itself, g.fill(r.command), troublesDoc, g.cause)
}

// fill puts names into a command.
func (g *ill) fill(command string) string {
	topic := g.topics[0]
	part := ""
	if len(g.topics) == 1 {
		part = topic + ":" + commas(g.partitions[topic])
		if len(g.partitions[topic]) > maxNumbers {
			part = topic
		}
	}
	text := strings.NewReplacer("LINK", g.link, "TOPIC", topic, "PART", part, "ONE", fmt.Sprintf("%s:%d", topic, g.partitions[topic][0])).Replace(command)
	return strings.TrimSpace(text)
}

// maxNumbers bounds the partitions that a command names one by one.
const maxNumbers = 8

// commas writes numbers as the verbs take them.
func commas(numbers []int32) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(numbers)), ","), "[]")
}
