package main

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// readiness is what a node says, by the name that is asked for.
func readiness(m proto.Message) (proto.Message, error) {
	req := m.(*adminpb.ReadyRequest)
	r := &adminpb.ReadyResponse{Name: req.GetName(), Set: req.GetSet(), From: "eu", To: req.GetTo(), Generation: 2, Node: "eu-1", At: in(0), Verdict: admin.ReadyWarning, Checks: switchChecks(),
		LostChecks: []*adminpb.SwitchCheck{{Name: "topics", Ok: true, Text: "3 topics are at us"}, {Name: "tail", Ok: true, Warning: true, Text: "what eu acknowledged and did not get to us is missing until it comes back"}},
		Loss:       &adminpb.ReadyLoss{Partitions: 240}, Groups: &adminpb.ReadyGroups{Groups: 57},
		Time: &adminpb.ReadyTime{Seconds: 0.52, By: "the longest of the last 3 planned switches of it, checks and verification included"}}
	switch req.GetName() {
	case "mars":
		return nil, status.Error(codes.NotFound, "router or link \"mars\": not known to this node")
	case "late":
		r.Verdict = admin.ReadyNo
		r.Checks[1] = &adminpb.SwitchCheck{Name: "lag", Text: "9 GB are not at us yet"}
		r.Loss = &adminpb.ReadyLoss{Records: 412, Partitions: 240, Behind: 12, Seconds: 1.8, Trouble: "node us-1 did not answer: it did not answer in time"}
		r.Groups = &adminpb.ReadyGroups{Groups: 57, Behind: 2, Reread: 83, List: []*adminpb.ReadyGroup{{Group: "billing", Missing: 2}, {Group: "audit", Reread: 83, Skipped: 1}}}
		for p := range int32(12) {
			r.Loss.List = append(r.Loss.List, &adminpb.ReadyPartition{Topic: "orders", Partition: p, Records: int64(60 - p), Seconds: float64(p) - 1})
		}
		r.Loss.List[0].Reason = "paused: ana: new disks"
		r.Time = &adminpb.ReadyTime{Seconds: 0.785, By: "an estimate: 500ms for the steps and 5ms for each of 57 groups; no switch of it is known", Estimate: true}
	case "lost":
		r.Verdict = admin.ReadyNo
		r.Checks = []*adminpb.SwitchCheck{{Name: "topics", Text: "eu: dial tcp: refused"}}
		r.Loss = &adminpb.ReadyLoss{Records: -1, Seconds: -1, Trouble: "eu: dial tcp: refused"}
		r.Groups = &adminpb.ReadyGroups{Trouble: "eu: dial tcp: refused"}
	case "eu-us":
		r.Link, r.Generation, r.LostChecks, r.Time = true, 0, nil, nil
	}
	return r, nil
}

// TestReady_VerdictsAndExitCodes: what is told, and as what the verb ends.
func TestReady_VerdictsAndExitCodes(t *testing.T) {
	f := serve(t)
	f.answer("Ready", readiness)
	golden(t, "verb-ready", f.session(t, "ready shop --to us", "ready late --set fast --to us", "ready lost --to us", "ready eu-us --to us", "ready late --to us --json", "ready mars --to us", "ready"))
}
