package drill

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// stage answers as a test wants.
type stage struct {
	fabric
	res *adminpb.RehearseResponse
	err error
}

func (s *stage) Rehearse(context.Context, *adminpb.RehearseRequest) (*adminpb.RehearseResponse, error) {
	return s.res, s.err
}

func TestRunRehearsal(t *testing.T) {
	good := func() *adminpb.RehearseResponse {
		return &adminpb.RehearseResponse{From: "eu", To: "us", Shadowed: true, Records: 300, Checks: []*adminpb.SwitchCheck{{Name: "lag", Ok: true}},
			Steps: []*adminpb.RehearseStep{{Name: "checks", Seconds: 0.2}, {Name: "control", Seconds: 0.01, Part: true}, {Name: "mirror", Seconds: 0.04, Part: true}}}
	}
	for _, tc := range []struct {
		name    string
		change  func(*adminpb.RehearseResponse)
		verdict Verdict
		says    string
	}{
		{"goes well", func(*adminpb.RehearseResponse) {}, Pass, "300 records of shadow topic isthmus.shadow; checks 0.200 s, control 0.010 s, mirror 0.040 s"},
		{"takes", func(*adminpb.RehearseResponse) {}, Pass, "a switch would have taken at least 0.050 s"},
		{"a check says no", func(r *adminpb.RehearseResponse) { r.Checks[0].Ok, r.Checks[0].Text = false, "9 GB" }, Fail, "lag: 9 GB"},
		{"something failed", func(r *adminpb.RehearseResponse) { r.Failures = []string{"map: 3 records are not where it says"} }, Fail, "map: 3 records"},
		{"no link carries it", func(r *adminpb.RehearseResponse) { r.Shadowed = false }, Pass, "without shadow topic isthmus.shadow, which no link carries"},
	} {
		s := &stage{res: good()}
		tc.change(s.res)
		r, err := RunRehearsal(t.Context(), Config{Mode: Rehearse, Router: "shop", To: "us", Topic: Shadow}, s, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != tc.verdict || !strings.Contains(r.Text(), tc.says) || len(s.asked) > 0 || (len(r.Warnings) > 0) == s.res.GetShadowed() {
			t.Errorf("%s: %s\n%s", tc.name, r.Verdict, r.Text())
		}
	}
	if _, err := RunRehearsal(t.Context(), Config{}, &stage{err: errors.New("no")}, time.Now); err == nil {
		t.Error("a fabric that does not answer has rehearsed")
	}
}
