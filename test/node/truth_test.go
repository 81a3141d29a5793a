package node

import (
	"strings"
	"testing"
)

// logOf makes a log from one letter per offset; '.' is a hole.
func logOf(text string) *partitionLog {
	l := &partitionLog{end: int64(len(text))}
	for i, r := range text {
		if r != '.' {
			l.spots = append(l.spots, spot{int64(i), string(r)})
		}
	}
	return l
}

func TestTruth_JudgesAnswers(t *testing.T) {
	for _, tc := range []struct {
		name, from, to string
		offset, result int64
		exact          bool
		wrong          string // part of the finding; "" = right
	}{
		{"same place", "abc", "abc", 1, 1, true, ""},
		{"skips one", "abc", "abc", 1, 2, false, "want 1"},
		{"repeats one", "abc", "abc", 1, 0, false, "want 1"},
		{"not called exact", "abc", "abc", 1, 1, false, errExact.Error()},
		{"hole at the source", "a.b", "ab", 1, 1, false, ""},
		{"hole, called exact", "a.b", "ab", 1, 1, true, errNotExact.Error()},
		{"shifted", "abc", "xyabc", 2, 4, true, ""},
		{"local record between", "ab", "axb", 1, 2, true, ""},
		{"local record before is no answer", "ab", "axb", 1, 1, false, "want 2"},
		{"end", "ab", "ab", 2, 2, false, ""},
		{"end, before the last", "ab", "ab", 2, 1, false, "from 2 to 2"},
		{"end, behind a local record or before it", "ab", "abx", 2, 2, false, ""},
		{"end, beyond", "ab", "abx", 2, 4, false, "from 2 to 3"},
		{"orders differ, first not read", "abx", "xab", 1, 0, false, ""},
		{"orders differ, would skip x", "abx", "xab", 1, 2, true, "want 0"},
		{"nothing in common", "ab", "xy", 1, 0, false, ""},
		{"empty target", "ab", "", 1, 0, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := newTruth(logOf(tc.from), logOf(tc.to)).check(tc.offset, tc.result, tc.exact)
			switch {
			case tc.wrong == "" && err != nil:
				t.Errorf("called wrong: %v", err)
			case tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)):
				t.Errorf("found %v, want %q", err, tc.wrong)
			}
		})
	}
}
