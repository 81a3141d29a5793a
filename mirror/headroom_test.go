package mirror

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
)

func TestOutlook_Room(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
	for name, tc := range map[string]struct {
		o    outlook
		want headroom
	}{
		"for ever":                {outlook{keeps: retention{-1, -1}, stamp: ago(time.Hour), behind: 10}, headroom{-1, -1}},
		"by time":                 {outlook{keeps: retention{7_200_000, -1}, stamp: ago(time.Hour)}, headroom{time.Hour, -1}},
		"too old already":         {outlook{keeps: retention{60_000, -1}, stamp: ago(time.Hour)}, headroom{0, -1}},
		"time unknown":            {outlook{keeps: retention{60_000, -1}, stamp: -1}, headroom{-1, -1}},
		"by bytes":                {outlook{keeps: retention{-1, 1000}, stamp: -1, behind: 300}, headroom{-1, 700}},
		"by bytes, growing":       {outlook{keeps: retention{-1, 1000}, stamp: -1, behind: 300, growth: 10}, headroom{70 * time.Second, 700}},
		"bytes before time":       {outlook{keeps: retention{7_200_000, 1000}, stamp: ago(time.Hour), behind: 300, growth: 10}, headroom{70 * time.Second, 700}},
		"time before bytes":       {outlook{keeps: retention{3_601_000, 1000}, stamp: ago(time.Hour), behind: 300, growth: 10}, headroom{time.Second, 700}},
		"full":                    {outlook{keeps: retention{-1, 1000}, stamp: -1, behind: 3000, growth: 10}, headroom{0, 0}},
		"thousands of years":      {outlook{keeps: retention{1<<63 - 1, -1}, stamp: ago(time.Hour)}, headroom{-1, -1}},
		"from the future":         {outlook{keeps: retention{3_600_000, -1}, stamp: ago(-time.Hour)}, headroom{2 * time.Hour, -1}},
		"a log that hardly grows": {outlook{keeps: retention{-1, 1 << 60}, stamp: -1, growth: 1e-9}, headroom{time.Duration(1<<31-1) * time.Second, 1 << 60}},
	} {
		if got := tc.o.room(now); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestRetentionOf(t *testing.T) {
	for name, tc := range map[string]struct {
		policy, ms, bytes string
		want              retention
	}{
		"both":      {"delete", "100", "200", retention{100, 200}},
		"for ever":  {"delete", "-1", "-1", retention{-1, -1}},
		"compacted": {"compact", "100", "200", retention{-1, -1}},
		"and both":  {"compact,delete", "100", "-1", retention{100, -1}},
		"unknown":   {"", "", "", retention{-1, -1}},
	} {
		got := retentionOf(map[string]broker.Config{"cleanup.policy": {Value: tc.policy}, "retention.ms": {Value: tc.ms}, "retention.bytes": {Value: tc.bytes}})
		if got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestStillness_OnlyWhileItStandsBelowTheEnd(t *testing.T) {
	begin := time.UnixMilli(1_700_000_000_000)
	type answer struct {
		after        time.Duration
		stable, head int64
	}
	for name, tc := range map[string]struct {
		answers []answer
		want    bool
	}{
		"stands and grows":       {[]answer{{0, 10, 10}, {time.Second, 10, 12}, {30 * time.Second, 10, 20}, {62 * time.Second, 10, 30}}, true},
		"not for long enough":    {[]answer{{0, 10, 10}, {time.Second, 10, 12}, {60 * time.Second, 10, 30}}, false},
		"moves on":               {[]answer{{0, 10, 10}, {time.Second, 10, 12}, {30 * time.Second, 11, 20}, {62 * time.Second, 11, 30}}, false},
		"seen late":              {[]answer{{0, 10, 10}, {time.Second, 10, 12}, {62 * time.Second, 10, 12}}, true},
		"stood when we began":    {[]answer{{0, 10, 30}, {62 * time.Second, 10, 30}}, true},
		"ended":                  {[]answer{{0, 10, 30}, {62 * time.Second, 10, 40}, {63 * time.Second, 41, 41}}, false},
		"caught up, then stands": {[]answer{{0, 10, 10}, {300 * time.Second, 10, 10}, {301 * time.Second, 10, 12}, {302 * time.Second, 10, 13}}, false},
	} {
		var s stillness
		for _, a := range tc.answers {
			s.see(a.stable, a.head, begin.Add(a.after))
		}
		if got := s.stuck(begin.Add(tc.answers[len(tc.answers)-1].after), time.Minute); got != tc.want {
			t.Errorf("%s: stuck is %t, want %t", name, got, tc.want)
		}
	}
}
