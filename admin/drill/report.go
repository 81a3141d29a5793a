package drill

import "time"

// Version is that of the report's JSON. Fields are added; a change of meaning counts it up.
const Version = 1

// Mode is what a drill does.
type Mode string

// The modes.
const (
	Switchover Mode = "switchover" // planned: nothing may be lost
	Failover   Mode = "failover"   // the home is taken for dead
	Failback   Mode = "failback"   // planned, to the home before
	Rehearse   Mode = "rehearse"   // shadow topics; no client moves
)

// Verdict is how a drill ended.
type Verdict string

// The verdicts.
const (
	Pass     Verdict = "pass"
	Fail     Verdict = "fail"    // it went, and was not good enough; what was moved was brought back if that was possible
	Refused  Verdict = "refused" // a precondition does not hold: nothing was begun
	Aborted  Verdict = "aborted" // a switch was given up before it was decided: the home stays
	Unknown  Verdict = "unknown" // nobody knows how a switch ended
	NotBegun Verdict = "planned" // of a plan: the preconditions hold, and nothing was begun
)

// Check is one precondition.
type Check struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Warning bool   `json:"warning"`
	Text    string `json:"text"`
}

// Subject is what a drill is about.
type Subject struct {
	Mode   Mode   `json:"mode"`
	Router string `json:"router"`
	Set    string `json:"set"`
	From   string `json:"from"`
	To     string `json:"to"`
	Why    string `json:"why"`
}

// Report is all that is known of a drill. Times are of the clock of who ran it; seconds are of real time.
type Report struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Subject
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Objective is what was asked for.
	Objective Objective `json:"objective"`
	Checks    []Check   `json:"checks"`
	// Before is what a loss of the home would have cost before anything was begun.
	Before Exposure `json:"before"`
	// Steps are what it would do, of a plan.
	Steps []string `json:"steps,omitempty"`
	Legs  []Leg    `json:"legs"`
	// Rehearsal is of a rehearsal only.
	Rehearsal *Rehearsal `json:"rehearsal,omitempty"`
	Result    *Result    `json:"result,omitempty"`
	Verdict   Verdict    `json:"verdict"`
	Warnings  []string   `json:"warnings"`
	Failures  []string   `json:"failures"`
}

// Objective is what a drill is judged by.
type Objective struct {
	RTOSeconds float64 `json:"rto_seconds"`
	AcceptLoss int64   `json:"accept_loss"` // records
}

// Exposure is what would be lost if the home were lost at a moment, at most.
type Exposure struct {
	Records    int64   `json:"records"` // -1: not known
	Partitions int32   `json:"partitions"`
	Behind     int32   `json:"behind"`
	Seconds    float64 `json:"seconds"` // age of the oldest record; -1: not known
	Groups     int32   `json:"groups"`
	Reread     int64   `json:"reread"`
	Wait       float64 `json:"wait_seconds"` // for how long clients were expected to wait
	WaitBy     string  `json:"wait_by"`
}

// Leg is one switch of a drill.
type Leg struct {
	Kind    string    `json:"kind"` // planned, unplanned or back
	From    string    `json:"from"`
	To      string    `json:"to"`
	Back    bool      `json:"rollback"` // it brought back what had failed
	Switch  string    `json:"switch"`
	Outcome string    `json:"outcome"`
	Why     string    `json:"why"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Gap     float64   `json:"gap_seconds"` // for which clients could not write, as the fabric says
	Steps   []Step    `json:"steps"`
	Exposed Exposure  `json:"exposed"` // just before it began
	Canary  Canaried  `json:"canary"`
}

// Step is one step of a switch.
type Step struct {
	Name    string  `json:"name"`
	At      float64 `json:"at"` // seconds since the switch began
	Seconds float64 `json:"seconds"`
}

// Canaried is what the canary saw of a switch, or of a whole drill.
type Canaried struct {
	Writes   int64   `json:"writes"`
	Acked    int64   `json:"acked"`
	Failed   int64   `json:"failed"`
	Outage   float64 `json:"outage_seconds"`    // the longest time without an acknowledged write
	OutageAt float64 `json:"outage_at_seconds"` // when it began, since the switch did
	Wait     float64 `json:"wait_seconds"`      // the longest time from a write to its acknowledgement
	ReadGap  float64 `json:"read_gap_seconds"`
	Lost     int64   `json:"lost"`
	LostFor  float64 `json:"lost_seconds"`
	Losses   []Loss  `json:"losses,omitempty"`
	Doubled  int64   `json:"doubled"`
	Late     int64   `json:"late"`
}

// Result is what a drill measured as a whole: the worst of its switches, and all that the canary wrote.
type Result struct {
	RTOSeconds float64  `json:"rto_seconds"`
	RPORecords int64    `json:"rpo_records"`
	RPOSeconds float64  `json:"rpo_seconds"`
	Canary     Canaried `json:"canary"`
}

// Rehearsal is what was tried with shadow topics.
type Rehearsal struct {
	Topic    string  `json:"topic"`
	Records  int64   `json:"records"`
	Seconds  float64 `json:"seconds"` // that the steps took which a switch has too
	Steps    []Step  `json:"steps"`
	Shadowed bool    `json:"shadowed"` // a link carries the shadow topic; else only what needs none was tried
}

// canaried turns figures into what a report has; began is when the switch, or the drill, did.
func (f Figures) canaried(began time.Time) Canaried {
	c := Canaried{Writes: f.Writes, Acked: f.Acked, Failed: f.Failed, Outage: f.Outage.Seconds(), Wait: f.Wait.Seconds(), ReadGap: f.ReadGap.Seconds(),
		Lost: f.Lost, LostFor: f.LostFor.Seconds(), Losses: f.Losses, Doubled: f.Doubled, Late: f.Late}
	if !f.OutageAt.IsZero() {
		c.OutageAt = f.OutageAt.Sub(began).Seconds()
	}
	return c
}
