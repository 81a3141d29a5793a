package drill

import (
	"reflect"
	"testing"
	"time"
)

var zero = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// at is a moment in ms.
func at(ms int64) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// steady are writes every 100 ms, acknowledged 5 ms later and read 20 ms later, of which those in a gap are acknowledged at its end.
func steady(n int, gapFrom, gapTo int64) Log {
	var l Log
	for i := range int64(n) {
		sent := 100 * i
		acked := sent + 5
		if sent >= gapFrom && sent < gapTo {
			acked = gapTo
		}
		l.Writes = append(l.Writes, Write{Seq: i + 1, Sent: at(sent), Acked: at(acked)})
		l.Reads = append(l.Reads, Read{Seq: i + 1, Offset: i, At: at(acked + 15)})
	}
	return l
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name   string
		logs   func() []Log
		want   Figures
		change func(*Log)
	}{
		{name: "all is well", want: Figures{Writes: 10, Acked: 10, Outage: ms(100), OutageAt: at(5), Wait: ms(5), ReadGap: ms(100)}},
		{name: "one write was lost", change: func(l *Log) { l.Reads = append(l.Reads[:3], l.Reads[4:]...) },
			want: Figures{Writes: 10, Acked: 10, Outage: ms(100), OutageAt: at(5), Wait: ms(5), ReadGap: ms(200), Lost: 1, LostFor: ms(100), Losses: []Loss{{Records: 1, First: 4, Last: 4}}}},
		{name: "three were lost", change: func(l *Log) { l.Reads = append(l.Reads[:3], l.Reads[6:]...) },
			want: Figures{Writes: 10, Acked: 10, Outage: ms(100), OutageAt: at(5), Wait: ms(5), ReadGap: ms(400), Lost: 3, LostFor: ms(300), Losses: []Loss{{Records: 3, First: 4, Last: 6}}}},
		{name: "one came twice", change: func(l *Log) { l.Reads = append(l.Reads, Read{Seq: 4, At: l.Reads[9].At}) },
			want: Figures{Writes: 10, Acked: 10, Outage: ms(100), OutageAt: at(5), Wait: ms(5), ReadGap: ms(100), Doubled: 1}},
		{name: "one came late", change: func(l *Log) { l.Reads[8].Seq, l.Reads[9].Seq = 10, 9 },
			want: Figures{Writes: 10, Acked: 10, Outage: ms(100), OutageAt: at(5), Wait: ms(5), ReadGap: ms(100), Late: 1}},
		{name: "one was refused", change: func(l *Log) { l.Writes[9].Acked, l.Writes[9].Err = time.Time{}, "refused"; l.Reads = l.Reads[:9] },
			want: Figures{Writes: 10, Acked: 9, Failed: 1, Outage: ms(145), OutageAt: at(805), Wait: ms(5), ReadGap: ms(130)}},
		{name: "the last was not answered", change: func(l *Log) { l.Writes[9].Acked = time.Time{}; l.Reads = l.Reads[:9] },
			want: Figures{Writes: 10, Acked: 9, Outage: ms(145), OutageAt: at(805), Wait: ms(50), ReadGap: ms(130)}},
	} {
		l := steady(10, 0, 0)
		if tc.change != nil {
			tc.change(&l)
		}
		if got := Judge([]Log{l}, at(0), at(950)); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

// TestJudge_Outage: the worst partition counts, and a pause that goes on at the end does too.
func TestJudge_Outage(t *testing.T) {
	logs := []Log{steady(50, 0, 0), steady(50, 2000, 2900)}
	logs[1].Partition = 1
	f := Judge(logs, at(0), at(4950))
	if f.Outage != ms(2900-1905) || f.OutageAt != at(1905) || f.Wait != ms(900) || f.Lost+f.Doubled+f.Late+f.Failed != 0 || f.ReadGap != ms(995) {
		t.Errorf("got %+v", f)
	}
	if f := Judge(logs, at(0), at(2500)); f.Outage != ms(2500-1905) || f.Wait < ms(500) {
		t.Errorf("while it goes on: %+v", f)
	}
	if f := Judge(logs, at(3000), at(4950)); f.Outage > ms(105) {
		t.Errorf("behind it: %+v", f)
	}
}

// unread are how many records were acknowledged and not read yet.
func unread(logs []Log) (n int64) {
	for _, l := range logs {
		read := make(map[int64]bool, len(l.Reads))
		for _, r := range l.Reads {
			read[r.Seq] = true
		}
		for _, w := range l.Writes {
			if !w.Acked.IsZero() && !read[w.Seq] {
				n++
			}
		}
	}
	return n
}

// FuzzJudge: whatever was written and read, the figures add up.
func FuzzJudge(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, acks, reads []byte) {
		var l Log
		for i, a := range acks {
			w := Write{Seq: int64(i + 1), Sent: at(int64(10 * i))}
			switch {
			case a%5 == 0:
				w.Err = "refused"
			case a%5 > 1:
				w.Acked = w.Sent.Add(time.Duration(a) * time.Millisecond)
			}
			l.Writes = append(l.Writes, w)
		}
		for i, r := range reads {
			l.Reads = append(l.Reads, Read{Seq: int64(r), Offset: int64(i), At: at(int64(10 * i))})
		}
		got := Judge([]Log{l}, at(0), at(10_000))
		if got.Acked+got.Failed > got.Writes || got.Lost+got.Doubled > got.Acked || got.Writes != int64(len(acks)) || got.Outage > ms(10_000) || got.Lost != unread([]Log{l}) {
			t.Errorf("got %+v", got)
		}
	})
}

func TestNumberOf(t *testing.T) {
	for text, want := range map[string]int64{"isthmus-canary d1 7": 7, "isthmus-canary d2 7": 0, "isthmus-canary d1 x": 0, "isthmus-canary d1 -3": 0, "": 0, "isthmus-canary d1": 0} {
		if got, ok := numberOf([]byte(text), "d1"); ok != (want > 0) || ok && got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
}
