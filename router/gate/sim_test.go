package gate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// run lets a model go on until all is written, with a change of home now and then, sometimes two in a row. It says what went wrong.
func (m *model) run(change func(from int)) error {
	from := 0
	for n := 0; !m.done() && m.err == nil; n++ {
		if n > 60_000 {
			return errors.New("live-locked")
		}
		if m.step(); m.r.IntN(150) > 0 {
			continue
		}
		for again := true; again; again = m.r.IntN(3) == 0 {
			change(from)
			from = len(m.log)
			for range m.r.IntN(8) {
				m.step()
			}
		}
	}
	return m.err
}

// judge looks whether each record is in the log once and in order. What came late, or is there because it did, is counted instead.
func (m *model) judge() (twice int, err error) {
	m.bring()
	next, count := make([]int, len(m.clients)), map[[2]int]int{}
	tail := map[[2]int]bool{}
	for v, b := range m.log {
		for i := range int(b.Records) {
			if tail[[2]int{b.client, b.record + i}] = tail[[2]int{b.client, b.record + i}] || m.late[v]; b.client >= 0 {
				count[[2]int{b.client, b.record + i}]++
			}
		}
	}
	for v, b := range m.log {
		if b.client < 0 || m.late[v] {
			continue
		}
		for next[b.client] < b.record && tail[[2]int{b.client, next[b.client]}] {
			next[b.client]++
		}
		if b.record != next[b.client] {
			return 0, fmt.Errorf("client %d: record %d is at %d, where %d should be", b.client, b.record, v, next[b.client])
		}
		next[b.client] += int(b.Records)
	}
	for _, p := range m.clients {
		for i := range p.total {
			at := [2]int{int(p.id / Salts), i}
			if count[at] == 0 {
				return 0, fmt.Errorf("client %d: record %d is lost", at[0], i)
			}
			if count[at] > 1 && !tail[at] {
				return 0, fmt.Errorf("client %d: record %d is there %d times", at[0], i, count[at])
			}
			if count[at] > 1 && m.sure[at] {
				return 0, fmt.Errorf("client %d: record %d, which was acknowledged, is there %d times", at[0], i, count[at])
			}
			twice += count[at] - 1
		}
	}
	return twice, nil
}

// play runs seeds of planned changes; set breaks something. It gives the first thing that went wrong.
func play(seeds uint64, set func(*model)) (sum [reasons]int, err error) {
	for seed := range seeds {
		m := newModel(seed, 4)
		set(m)
		err := m.run(m.planned)
		if err == nil {
			_, err = m.judge()
		}
		if err != nil {
			return sum, fmt.Errorf("seed %d, generation %d: %w", seed, m.gen, err)
		}
		for i, n := range m.reasons {
			sum[i] += n
		}
	}
	return sum, nil
}

// TestGate_PlannedChanges: no record is doubled, lost or out of order, and no client sees an error.
func TestGate_PlannedChanges(t *testing.T) {
	sum, err := play(400, func(*model) {})
	if err != nil {
		t.Fatal(err)
	}
	for r, n := range sum {
		t.Logf("%s: %d", Reason(r), n)
	}
	for _, r := range []Reason{Unknown, Follows, Begun, Open, NewEpoch, Repeated, Gap} {
		if sum[r] < 50 {
			t.Errorf("%s came %d times only", r, sum[r])
		}
	}
}

// TestGate_EachOutcomeIsNeeded: without one of the gate's outcomes, or the salt, or the memory of the generation before, something goes wrong.
func TestGate_EachOutcomeIsNeeded(t *testing.T) {
	as := func(from, to Outcome) func(*model) {
		return func(m *model) {
			m.decide = func(d Decision) Decision {
				if d.Outcome == from {
					d.Outcome = to
				}
				return d
			}
		}
	}
	for _, c := range []struct {
		name string
		set  func(*model)
		want string
	}{
		{"what was written is forwarded", as(Answer, Forward), ""},
		{"what was written closes", as(Answer, Close), "live-locked"},
		{"what leaves something out is forwarded", as(Close, Forward), ""},
		{"what leaves something out is answered", as(Close, Answer), ""},
		{"what follows closes", as(Forward, Close), "live-locked"},
		{"ids have no salt", func(m *model) { m.saltless = true }, ""},
		{"what was known before the last generation is forgotten", func(m *model) { m.short = true }, ""},
	} {
		if _, err := play(400, c.set); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, and: %v", c.name, err)
		} else {
			t.Logf("%s: %v", c.name, err)
		}
	}
}

// TestGate_UnplannedChanges: when the home is lost with a tail, nothing is lost, nobody waits for ever, what is not of the tail is there once and in order, and only what
// was in the tail may come twice.
func TestGate_UnplannedChanges(t *testing.T) {
	for _, unsure := range []bool{false, true} {
		twice, tails := 0, 0
		for seed := range uint64(300) {
			m := newModel(seed, 4)
			m.unsure = unsure
			err := m.run(func(from int) {
				if m.r.IntN(2) == 0 {
					if !unsure {
						m.bring()
					}
					m.planned(from)
					return
				}
				m.lose(from)
			})
			n := 0
			if err == nil {
				tails += len(m.waits)
				n, err = m.judge()
			}
			if err != nil {
				t.Fatalf("unsure %v, seed %d, generation %d: %v", unsure, seed, m.gen, err)
			}
			twice += n
		}
		t.Logf("unsure %v: %d batches in tails, %d records twice", unsure, tails, twice)
	}
}
