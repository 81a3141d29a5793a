package gossip

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// urgentGap is the least time between two reports, so that a storm of news is told as one.
const urgentGap = 200 * time.Millisecond

// reporting is what this node says about itself.
type reporting struct {
	report Report
	told   bool // something was said
	urgent bool // more than a load changed since the last one went out
	dirty  bool
	sent   time.Time
}

// Tell replaces what this node says about itself. The pool fills in Started and Seq. What only tells a load waits for a while;
// everything else goes out at once. A report that is too large is cut.
func (p *Pool) Tell(rep Report) {
	rep.Started = p.cfg.Started
	rep.Reach = maps.Clone(rep.Reach)
	for name, r := range rep.Reach {
		if len(r.Trouble) > maxTrouble {
			r.Trouble = strings.ToValidUTF8(r.Trouble[:maxTrouble], "") // of a character that was cut
			rep.Reach[name] = r
		}
	}
	rep.Heavy = slices.Clone(rep.Heavy[:min(len(rep.Heavy), maxHeavy)])
	if err := checkReport(rep); err != nil {
		p.deps.Log.Error("this node cannot report", "err", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	o := &p.own
	rep.Seq = o.report.Seq
	if !o.told || !sameBut(o.report, rep) {
		o.urgent = true
	}
	o.dirty = o.dirty || o.urgent || !reflect.DeepEqual(o.report, rep)
	o.report, o.told = rep, true
	if now := p.deps.Now(); o.urgent && now.Sub(o.sent) >= urgentGap {
		p.reportLocked(now)
	}
}

// sameBut tells whether two reports are the same but for the loads.
func sameBut(a, b Report) bool {
	a.Bytes, a.Heavy, b.Bytes, b.Heavy = 0, nil, 0, nil
	if len(a.Reach) == 0 && len(b.Reach) == 0 {
		a.Reach, b.Reach = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// reportLocked sends the report.
func (p *Pool) reportLocked(now time.Time) {
	o := &p.own
	o.report.Seq++
	o.urgent, o.dirty, o.sent = false, false, now
	p.members.tell(p.cfg.Name, o.report)
	p.spreadReport(p.cfg.Name, o.report)
	p.publishLocked()
}

// spreadReport passes a report on: itself, or where it is too large, that there is one.
func (p *Pool) spreadReport(node string, rep Report) {
	b := packReport(node, rep)
	if len(b) > maxBroadcast {
		w := pack(p.cfg.Name, kindReportAt)
		w.string(node)
		w.int(rep.Started)
		w.uint(rep.Seq)
		b = w.b
	}
	p.said.put("report/"+node, b)
}

// reportLoop sends what waited, and lets what others said run out.
func (p *Pool) reportLoop(ctx context.Context) error {
	for pause(ctx, urgentGap) {
		p.mu.Lock()
		now, o := p.deps.Now(), &p.own
		every := p.cfg.Timings.Load * time.Duration(50+p.members.joined()) / 50
		if o.urgent || o.dirty && now.Sub(o.sent) >= every {
			p.reportLocked(now)
		}
		if p.members.settleAll() { // by the time alone
			p.publishLocked()
		}
		p.mu.Unlock()
	}
	return nil
}

// takeReport takes another node's report over, and passes it on.
func (p *Pool) takeReport(node string, rep Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.members.tell(node, rep) {
		p.spreadReport(node, rep)
		p.publishLocked()
	}
}
