package dashboards

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// drillMetric are the metrics of drills that an alert asks for.
var drillMetric = regexp.MustCompile(`isthmus_[a-z_]+`)

// TestAlerts: the rules that are shipped parse, fire when they should and not before, and ask for metrics that nodes export.
func TestAlerts(t *testing.T) {
	dir := filepath.Join("prometheus")
	rules, err := os.ReadFile(filepath.Join(dir, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range drillMetric.FindAllString(string(rules), -1) {
		if _, ok := exempt[name]; !ok {
			t.Errorf("alerts.yml asks for %s, which is no metric that alerts are for", name)
		}
	}
	if !strings.Contains(string(rules), "isthmus_drill_last_passed_timestamp_seconds") {
		t.Error("nothing tells that drills are stale")
	}
	tool := require(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
