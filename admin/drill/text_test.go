package drill

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (-update accepts it):\ngot\n%s\nwant\n%s", file, got, want)
	}
}

// failed is a failover that lost too much, and was brought back.
func failed() *Report {
	return &Report{Version: Version, ID: "20260304T120000Z-7f3a", Subject: Subject{Failover, "shop", "fast", "eu", "us", "the monthly one"}, Began: at(0), Ended: at(31_500), Objective: Objective{30, 100},
		Checks: []Check{{"control", true, false, "3 of 3 answer"}, {"nodes", true, true, "5 of 6 nodes are there"}, {"loss", true, true, "at most 80 records would be missing, and 100 are accepted"}},
		Before: Exposure{80, 240, 3, 1.8, 57, 83, 0.52, "the longest of the last 3 planned switches of it"},
		Legs: []Leg{
			{Kind: "unplanned", From: "eu", To: "us", Switch: "sw-1", Outcome: "committed", Began: at(3000), Seconds: 6.2, Gap: 5.9, Steps: []Step{{"preflight", 0, 0.2}, {"prepare", 0.2, 0.1}, {"hold", 0.3, 5}},
				Exposed: Exposure{412, 240, 12, 1.8, 57, 83, 0, ""}, Canary: Canaried{Writes: 300, Acked: 300, Outage: 6.9, OutageAt: 0.2, Wait: 6.8, ReadGap: 7, Lost: 412, LostFor: 1.8, Losses: []Loss{{1, 412, 31, 442}}}},
			{Kind: "back", From: "us", To: "eu", Back: true, Switch: "sw-2", Outcome: "committed", Began: at(20_000), Seconds: 0.5, Gap: 0.3, Steps: []Step{}, Canary: Canaried{Writes: 99, Acked: 99, Outage: 0.4, Wait: 0.3}},
		},
		Result:  &Result{6.9, 412, 1.8, Canaried{Writes: 900, Acked: 900, Lost: 412, LostFor: 1.8, Late: 7, Losses: []Loss{{1, 412, 31, 442}}}},
		Verdict: Fail, Warnings: []string{"nodes: 5 of 6 nodes are there", "loss: at most 80 records would be missing, and 100 are accepted"},
		Failures: []string{"unplanned switch to us: 412 records were acknowledged and cannot be read, and 100 are accepted"}}
}

// TestReport_Golden: the text for people, and the JSON for programs, which may only grow.
func TestReport_Golden(t *testing.T) {
	r := failed()
	golden(t, "report.txt", r.Text())
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", string(text)+"\n")
}
