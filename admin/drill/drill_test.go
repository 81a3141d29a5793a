package drill

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// fabric is one whose switches go as a test wants; it is a probe that loses what the test wants, too.
type fabric struct {
	outcomes []string // of switches, in their order; committed where there are no more
	refuses  string   // a check of the dry run
	never    bool     // Ready never says yes behind the first look
	loss     int64
	broken   error // of Ready
	deaf     bool  // no write is ever acknowledged
	stands   time.Duration
	loses    int    // of the first writes behind a switch
	during   func() // each switch

	mu    sync.Mutex
	asked []string // switches that were no dry runs
	looks int
	down  time.Time // until then nothing is acknowledged
	lose  int
	log   Log
}

func (f *fabric) Ready(context.Context, *adminpb.ReadyRequest) (*adminpb.ReadyResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	r := &adminpb.ReadyResponse{Verdict: admin.ReadyYes, Loss: &adminpb.ReadyLoss{Records: f.loss, Partitions: 4, Trouble: "eu is away"}}
	if f.never && f.looks > 1 {
		r.Verdict, r.Checks = admin.ReadyNo, []*adminpb.SwitchCheck{{Name: "topics", Text: "isthmus.canary is not there"}}
	}
	return r, f.broken
}

func (f *fabric) Nodes(context.Context) (*adminpb.NodesResponse, error) {
	return &adminpb.NodesResponse{Members: []*adminpb.Member{{Name: "a", Status: adminpb.MemberStatus_MEMBER_STATUS_ALIVE}}}, nil
}

func (f *fabric) Switch(_ context.Context, req *adminpb.SwitchRequest, each func(*adminpb.SwitchProgress) error) error {
	m := &adminpb.SwitchProgress{From: "eu", To: req.GetTo(), Step: idle, Outcome: "ready", Began: timestamppb.Now(), DryRun: req.GetDryRun(), Checks: []*adminpb.SwitchCheck{{Name: "lag", Ok: f.refuses == "", Text: f.refuses}}}
	if m.GetTo() == "" {
		m.To = "us"
	}
	if m.GetTo() == "eu" {
		m.From = "us"
	}
	if req.GetDryRun() {
		return each(m)
	}
	f.mu.Lock()
	n := len(f.asked)
	f.asked = append(f.asked, admin.Name(req.GetKind())+" to "+m.GetTo())
	m.Outcome = "committed"
	if n < len(f.outcomes) {
		m.Outcome = f.outcomes[n]
	}
	if n == 0 && f.stands > 0 {
		f.down = time.Now().Add(f.stands)
	}
	if n == 0 {
		f.lose = f.loses
	}
	f.mu.Unlock()
	if f.during != nil {
		f.during()
	}
	if m.Outcome == "gone" {
		m.Outcome, m.Step = "", "hold"
		return errors.Join(each(m), errors.New("the connection is gone"))
	}
	return each(m)
}

func (f *fabric) Prepare(context.Context) error { return nil }

func (f *fabric) Logs() ([]Log, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []Log{{Writes: slices.Clone(f.log.Writes), Reads: slices.Clone(f.log.Reads)}}, nil
}

func (f *fabric) Run(ctx context.Context) error {
	for sleep(ctx, Every) {
		f.mu.Lock()
		f.log.Writes = append(f.log.Writes, Write{Seq: int64(len(f.log.Writes) + 1), Sent: time.Now()})
		for i := range f.log.Writes {
			w := &f.log.Writes[i]
			if f.deaf || time.Now().Before(f.down) || !w.Acked.IsZero() {
				continue
			}
			if w.Acked = time.Now(); f.lose > 0 {
				f.lose--
				continue
			}
			f.log.Reads = append(f.log.Reads, Read{Seq: w.Seq, At: time.Now()})
		}
		f.mu.Unlock()
	}
	return nil
}

// TestRun: what a drill does and how it is judged, by what the fabric does and the canary sees.
func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name    string
		f       *fabric
		cfg     Config
		verdict Verdict
		asked   string
		fails   string // in the first failure
	}{
		{"goes", &fabric{stands: 300 * time.Millisecond}, Config{Mode: Switchover}, Pass, "planned to us", ""},
		{"goes and comes back", &fabric{}, Config{Mode: Switchover, Back: true}, Pass, "planned to us, back to eu", ""},
		{"a failback", &fabric{}, Config{Mode: Failback, To: ""}, Pass, "back to us", ""},
		{"a failover that loses what may be lost", &fabric{loses: 3}, Config{Mode: Failover, AcceptLoss: 3}, Pass, "unplanned to us", ""},
		{"a failover that loses more", &fabric{loses: 4}, Config{Mode: Failover, AcceptLoss: 3}, Fail, "unplanned to us, back to eu", "4 records were acknowledged and cannot be read"},
		{"a switchover that loses one", &fabric{loses: 1}, Config{Mode: Switchover, AcceptLoss: 99}, Fail, "planned to us, back to eu", "1 records were acknowledged"},
		{"too slow", &fabric{stands: 4 * time.Second}, Config{Mode: Switchover, Back: true}, Fail, "planned to us, back to eu", "no write was acknowledged for 4."},
		{"too slow, and stays", &fabric{stands: 4 * time.Second}, Config{Mode: Switchover, Stay: true, Back: true}, Fail, "planned to us", "no write was acknowledged for 4."},
		{"aborted", &fabric{outcomes: []string{"aborted"}}, Config{Mode: Switchover, Back: true}, Aborted, "planned to us", "aborted"},
		{"beaten", &fabric{outcomes: []string{"beaten"}}, Config{Mode: Switchover}, Aborted, "planned to us", "beaten"},
		{"refused at last", &fabric{outcomes: []string{"refused"}}, Config{Mode: Switchover}, Refused, "planned to us", "refused"},
		{"nobody knows", &fabric{outcomes: []string{"unknown"}}, Config{Mode: Switchover}, Unknown, "planned to us", "unknown"},
		{"the node is gone", &fabric{outcomes: []string{"gone"}}, Config{Mode: Switchover}, Unknown, "planned to us", "the connection is gone"},
		{"the way back is aborted", &fabric{outcomes: []string{"committed", "aborted"}}, Config{Mode: Switchover, Back: true}, Fail, "planned to us, back to eu", "back switch to eu: aborted"},
		{"it cannot be brought back", &fabric{loses: 1, outcomes: []string{"committed", "aborted"}}, Config{Mode: Switchover}, Fail, "planned to us, back to eu", "1 records"},
		{"a check forbids it", &fabric{refuses: "9 GB to go"}, Config{Mode: Switchover}, Refused, "", "lag: 9 GB to go"},
		{"too much would be lost", &fabric{loss: 7}, Config{Mode: Failover, AcceptLoss: 6}, Refused, "", "at most 7 records would be missing"},
		{"it is not known what would be lost", &fabric{loss: -1}, Config{Mode: Failover, AcceptLoss: 1e9}, Refused, "", "eu is away"},
		{"lag that a switchover waits for", &fabric{loss: 7}, Config{Mode: Switchover}, Pass, "planned to us", ""},
		{"the door is shut", &fabric{deaf: true}, Config{Mode: Switchover}, Refused, "", "the canary's writes were not acknowledged"},
		{"the canary's topic does not come", &fabric{never: true}, Config{Mode: Switchover}, Refused, "", "topics: isthmus.canary is not there"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := tc.f
				if tc.cfg.Mode != Failback {
					tc.cfg.To = "us"
				}
				tc.cfg.Router, tc.cfg.ID, tc.cfg.RTO, tc.cfg.Settle = "shop", "d", 3*time.Second, time.Second
				r, err := Run(t.Context(), tc.cfg, Deps{API: f, Probe: f, Now: time.Now})
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(f.asked, ", "); r.Verdict != tc.verdict || got != tc.asked {
					t.Errorf("%s by %q, want %s by %q", r.Verdict, got, tc.verdict, tc.asked)
				}
				if (tc.fails == "") != (len(r.Failures) == 0) || tc.fails != "" && !strings.Contains(strings.Join(r.Failures, "; "), tc.fails) {
					t.Errorf("failures %q, want %q", r.Failures, tc.fails)
				}
				if back := len(r.Legs) > 1 && r.Legs[1].Back; back != (len(f.asked) == 2 && len(r.Failures) > 0 && !strings.Contains(r.Failures[0], "back switch")) {
					t.Errorf("rolled back: %v: %+v", back, r.Legs)
				}
				if text := r.Text(); !strings.Contains(text, strings.ToUpper(string(tc.verdict))) {
					t.Error(text)
				}
			})
		})
	}
}

// TestRun_Interrupted: before a switch nothing is begun; what was begun comes to its end, clients go back, and it is sooner over.
func TestRun_Interrupted(t *testing.T) {
	for name, tc := range map[string]struct {
		at      time.Duration // 0: during the first switch
		verdict Verdict
		asked   int
	}{"before": {500 * time.Millisecond, Refused, 0}, "during": {0, Pass, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				f := &fabric{}
				if tc.at > 0 {
					time.AfterFunc(tc.at, cancel)
				} else {
					f.during = cancel
				}
				began := time.Now()
				r, err := Run(ctx, Config{Mode: Switchover, Router: "shop", To: "us", Back: true, RTO: time.Second, Settle: 10 * time.Second}, Deps{API: f, Probe: f, Now: time.Now})
				if err != nil {
					t.Fatal(err)
				}
				if r.Verdict != tc.verdict || len(f.asked) != tc.asked || time.Since(began) > 15*time.Second {
					t.Errorf("%s by %q after %v: %q", r.Verdict, f.asked, time.Since(began), r.Failures)
				}
			})
		})
	}
}

// TestRun_LateTail: what was missing behind a failover and came when the home was back is in the RPO, and not lost at the end.
func TestRun_LateTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fabric{loses: 5}
		switches := 0
		f.during = func() {
			if switches++; switches == 2 {
				f.late()
			}
		}
		r, err := Run(t.Context(), Config{Mode: Failover, Router: "shop", To: "us", Back: true, AcceptLoss: 5, RTO: time.Second, Settle: time.Second}, Deps{API: f, Probe: f, Now: time.Now})
		if err != nil || r.Verdict != Pass || r.Result.RPORecords != 5 || r.Result.Canary.Lost != 0 || r.Result.Canary.Late != 5 || len(r.Warnings) != 1 {
			t.Errorf("%v, %+v, %q, %q, %v", r.Verdict, r.Result, r.Failures, r.Warnings, err)
		}
	})
}

// late has what was lost come after all.
func (f *fabric) late() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.log.Writes {
		if !w.Acked.IsZero() && !slices.ContainsFunc(f.log.Reads, func(r Read) bool { return r.Seq == w.Seq }) {
			f.log.Reads = append(f.log.Reads, Read{Seq: w.Seq, At: time.Now()})
		}
	}
}

// TestPlan begins nothing.
func TestPlan(t *testing.T) {
	f := &fabric{loss: 5}
	r, err := Plan(t.Context(), Config{Mode: Failover, To: "us", Router: "shop", AcceptLoss: 5, Back: true}, Deps{API: f, Now: time.Now})
	if err != nil || r.Verdict != NotBegun || len(r.Steps) < 6 || len(r.Warnings) != 1 || len(f.asked) > 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	f = &fabric{broken: errors.New("no")}
	if _, err := Plan(t.Context(), Config{Mode: Failover, To: "us", Router: "shop"}, Deps{API: f, Now: time.Now}); err == nil {
		t.Error("a fabric that does not answer is no plan")
	}
}

func TestCheckNodes(t *testing.T) {
	alive, dead, left := adminpb.MemberStatus_MEMBER_STATUS_ALIVE, adminpb.MemberStatus_MEMBER_STATUS_DEAD, adminpb.MemberStatus_MEMBER_STATUS_LEFT
	for want, members := range map[string][]*adminpb.Member{
		"2 of 2 nodes are there, and run the same":                  {{Name: "a", Status: alive}, {Name: "b", Status: alive}, {Name: "c", Status: left}},
		"1 of 2 nodes are there":                                    {{Name: "a", Status: alive}, {Name: "b", Status: dead}},
		"2 of 2 nodes are there; the configuration of b is another": {{Name: "a", Status: alive}, {Name: "b", Status: alive, Divergent: true}},
	} {
		c := checkNodes(&adminpb.NodesResponse{Members: members})
		if c.Text != want || !c.OK || c.Warning == strings.HasSuffix(want, "the same") {
			t.Errorf("got %+v, want %q", c, want)
		}
	}
}
