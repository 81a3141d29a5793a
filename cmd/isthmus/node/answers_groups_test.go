package node

import (
	"fmt"
	"strings"
	"testing"
)

// TestSomeLines: five thousand groups that are refused for the same reason are not five thousand lines.
func TestSomeLines(t *testing.T) {
	var many []string
	for i := range 9 {
		many = append(many, fmt.Sprint("group ", i, ": refused"))
	}
	for _, tc := range []struct{ text, want string }{
		{"refused", "refused"},
		{"refused\nrefused\naway", "refused; away"},
		{strings.Join(many, "\n"), strings.Join(many[:maxTroubles], "; ") + "; and 4 more"},
		{"not \xff text", "not \uFFFD text"},
	} {
		if got := someLines(tc.text); got != tc.want {
			t.Errorf("%q became %q, want %q", tc.text, got, tc.want)
		}
	}
}
