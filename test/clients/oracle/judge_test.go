package oracle

import (
	"strings"
	"testing"
)

// calm is a history in which all is well: two producers, one transactional, a group of two that hands a partition over, a reader that seeks.
func calm() ([]Event, Log) {
	log := Log{
		0: {{0, 0}, {1, 2}, {2, 4}, {5, 10}, {6, 12}},
		1: {{0, 1}, {1, 3}},
	}
	w := func(e Event) Event { e.Run = "writer"; return e }
	x := func(e Event) Event { e.Run = "transactions"; return e }
	a := func(e Event) Event { e.Run, e.Group = "a", "group"; return e }
	b := func(e Event) Event { e.Run, e.Group = "b", "group"; return e }
	s := func(e Event) Event { e.Run = "seeker"; return e }
	return []Event{
		w(Event{Kind: Sending, ID: 0, To: 4}),
		w(Event{Kind: Acked, ID: 0, Partition: 0, Offset: 0}), w(Event{Kind: Acked, ID: 1, Partition: 1, Offset: 0}),
		w(Event{Kind: Acked, ID: 2, Partition: 0, Offset: 1}), w(Event{Kind: Acked, ID: 3, Partition: 1, Offset: 1}), w(Event{Kind: Acked, ID: 4, Offset: -1}),
		x(Event{Kind: Sending, ID: 10, To: 19}),
		x(Event{Kind: Acked, ID: 11, Partition: 0, Offset: 3, Tx: 1}), x(Event{Kind: Abort, Tx: 1}),
		x(Event{Kind: Acked, ID: 10, Partition: 0, Offset: 5, Tx: 2}), x(Event{Kind: Acked, ID: 12, Partition: 0, Offset: 6, Tx: 2}), x(Event{Kind: Commit, Tx: 2}),
		x(Event{Kind: Acked, ID: 14, Partition: 0, Offset: 8, Tx: 3}), // nobody knows
		a(Event{Kind: Assigned, Partitions: []int32{0, 1}}),
		a(Event{Kind: Read, Partition: 0, Offset: 0, ID: 0}), a(Event{Kind: Read, Partition: 1, Offset: 0, ID: 1}),
		a(Event{Kind: Committed, Partition: 0, Offset: 1}), a(Event{Kind: Committed, Partition: 1, Offset: 1}),
		a(Event{Kind: Revoked, Partitions: []int32{0}}), b(Event{Kind: Assigned, Partitions: []int32{0}}),
		b(Event{Kind: Read, Partition: 0, Offset: 1, ID: 2}), b(Event{Kind: Read, Partition: 0, Offset: 2, ID: 4}),
		a(Event{Kind: Read, Partition: 1, Offset: 1, ID: 3}), a(Event{Kind: Committed, Partition: 1, Offset: 2}),
		b(Event{Kind: Read, Partition: 0, Offset: 5, ID: 10}), b(Event{Kind: Read, Partition: 0, Offset: 6, ID: 12}),
		b(Event{Kind: Committed, Partition: 0, Offset: 7}),
		s(Event{Kind: Started, Partition: 0, Offset: 2}), s(Event{Kind: Started, Partition: 1, Offset: 1}),
		s(Event{Kind: Read, Partition: 0, Offset: 2, ID: 4}), s(Event{Kind: Read, Partition: 1, Offset: 1, ID: 3}),
		s(Event{Kind: Read, Partition: 0, Offset: 5, ID: 10}), s(Event{Kind: Read, Partition: 0, Offset: 6, ID: 12}),
	}, log
}

func TestJudge_Calm(t *testing.T) {
	h, log := calm()
	if found := Judge(h, log, Promise{}); len(found) > 0 {
		t.Errorf("%q", found)
	}
}

func TestJudge_FindsWhatIsWrong(t *testing.T) {
	add := func(more ...Event) func([]Event, Log) []Event {
		return func(h []Event, _ Log) []Event { return append(h, more...) }
	}
	drop := func(run, kind string, nth int) func([]Event, Log) []Event {
		return func(h []Event, _ Log) []Event {
			for i, e := range h {
				if e.Run != run || e.Kind != kind {
					continue
				}
				if nth--; nth < 0 {
					return append(h[:i:i], h[i+1:]...)
				}
			}
			panic("no such event")
		}
	}
	store := func(part int32, r Record) func([]Event, Log) []Event {
		return func(h []Event, log Log) []Event { log[part] = append(log[part], r); return h }
	}
	for _, tc := range []struct {
		name   string
		change func([]Event, Log) []Event
		want   string
		allow  Promise // what lets it pass
	}{
		{"lost", add(Event{Run: "writer", Kind: Sending, ID: 6, To: 6}, Event{Run: "writer", Kind: Acked, ID: 6, Offset: -1}), "acknowledged and not stored", Promise{Lossy: true}},
		{"doubled", store(1, Record{2, 1}), "stored twice", Promise{Repeats: true, Unread: true}},
		{"wrong offset", add(Event{Run: "writer", Kind: Acked, ID: 3, Partition: 1, Offset: 7}), "acknowledged elsewhere", Promise{Tail: true}},
		{"aborted", store(0, Record{9, 11}), "aborted and stored", Promise{}},
		{"lost with its transaction", add(Event{Run: "transactions", Kind: Acked, ID: 16, Offset: -1, Tx: 2}), "acknowledged and not stored", Promise{Lossy: true}},
		{"nobody's", store(1, Record{2, 99}), "sent by nobody", Promise{}},
		{"order", func(h []Event, log Log) []Event { log[1][0].ID, log[1][1].ID = 3, 1; return h }, "stored out of order", Promise{}},
		{"log without order", store(1, Record{0, 4}), "the log is not in order", Promise{}},
		{"unread", drop("b", Read, 3), "never read", Promise{Unread: true}},
		{"skipped", drop("b", Read, 1), "skipped while reading", Promise{}},
		{"another record", add(Event{Run: "a", Group: "group", Kind: Read, Partition: 1, Offset: 1, ID: 9}), "not stored there", Promise{}},
		{"no record", add(Event{Run: "a", Group: "group", Kind: Read, Partition: 1, Offset: 77, ID: 9}), "not stored there", Promise{}},
		{"backwards", add(Event{Run: "b", Group: "group", Kind: Read, Partition: 0, Offset: 1, ID: 2}), "read backwards", Promise{}},
		{"twice in one go", add(Event{Run: "b", Group: "group", Kind: Read, Partition: 0, Offset: 6, ID: 12}), "read twice", Promise{}},
		{"twice after a move", add(Event{Run: "b", Group: "group", Kind: Assigned, Partitions: []int32{1}}, Event{Run: "b", Group: "group", Kind: Read, Partition: 1, Offset: 1, ID: 3}), "read again although committed", Promise{}},
		{"not committed", func(h []Event, log Log) []Event {
			h = drop("a", Committed, 2)(h, log)
			return append(h, Event{Run: "b", Group: "group", Kind: Assigned, Partitions: []int32{1}}, Event{Run: "b", Group: "group", Kind: Read, Partition: 1, Offset: 1, ID: 3})
		}, "read twice", Promise{Rereads: true}},
		{"commit backwards", add(Event{Run: "a", Group: "group", Kind: Committed, Partition: 1, Offset: 1}), "committed backwards", Promise{Tail: true}},
		{"error", add(Event{Run: "a", Kind: Error, Text: "oh"}), "reported an error: 1 times, first a: oh", Promise{Errors: true}},
		{"given up", add(Event{Run: "writer", Kind: Failed, ID: 4, Text: "oh"}), "given up", Promise{GivenUp: true}},
		{"ended", add(Event{Run: "writer", Kind: Error, Text: "oh", Fatal: true}), "ended in trouble", Promise{}},
		{"seeker reads again", add(Event{Run: "seeker", Kind: Assigned, Partitions: []int32{1}}, Event{Run: "seeker", Kind: Read, Partition: 1, Offset: 1, ID: 3}), "read twice", Promise{}},
		{"taken away", add(Event{Run: "a", Group: "group", Kind: Lost, Partitions: []int32{1}}), "taken away", Promise{Errors: true}},
		{"seeker skips", drop("seeker", Read, 0), "never read", Promise{Unread: true}},
		{"nothing read at all", add(Event{Run: "late", Kind: Started, Partition: 1, Offset: 1}), "never read", Promise{Unread: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, log := calm()
			h = tc.change(h, log)
			if found := Judge(h, log, Promise{}); !strings.Contains(strings.Join(found, "\n"), tc.want) {
				t.Errorf("found %q, want %q", found, tc.want)
			}
			if tc.name == "seeker reads again" { // who is in no group has no reason to
				if found := Judge(h, log, Promise{Rereads: true}); len(found) == 0 {
					t.Error("a promise to groups excuses a reader in none")
				}
			}
			if tc.allow == (Promise{}) {
				return
			}
			if found := Judge(h, log, tc.allow); len(found) > 0 {
				t.Errorf("with %+v found %q", tc.allow, found)
			}
		})
	}
}

func TestParse(t *testing.T) {
	e, err := Parse([]byte(`{"event":"read","partition":2,"offset":5,"id":7}`))
	if err != nil || e.Kind != Read || e.Partition != 2 || e.Offset != 5 || e.ID != 7 {
		t.Errorf("%+v, %v", e, err)
	}
	for _, line := range []string{`hello`, `{"event":"wrote"}`, `{"event":"read","ofset":5}`, `{}`} {
		if _, err := Parse([]byte(line)); err == nil {
			t.Errorf("%s was read", line)
		}
	}
}
