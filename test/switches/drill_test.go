package switches

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin/drill"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/kafka"
)

// TestDrill: a rehearsal, and a drill to the other real cluster and back, both with topics that are not there before. All that the canary wrote through the doors is read once, and the
// fabric keeps how they ended.
func TestDrill(t *testing.T) {
	kafka.Require(t)
	l := newLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l.ready()
	api := l.nodes[2].API
	cfg := drill.Config{ID: "rehearsal", Mode: drill.Rehearse, Router: "shop", To: "us", Topic: "run-shadow"}
	r, err := drill.RunRehearsal(ctx, cfg, api, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + r.Text())
	if r.Verdict != drill.Pass || !r.Rehearsal.Shadowed || r.Rehearsal.Records != 300 || r.Rehearsal.Seconds <= 0 {
		t.Errorf("%s: %q, %+v", r.Verdict, r.Failures, r.Rehearsal)
	}
	door, err := broker.Open(broker.Profile{Name: "door", Bootstrap: strings.Split(l.bootstrap, ",")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	cfg = drill.Config{ID: "there-and-back", Mode: drill.Switchover, Router: "shop", To: "us", Topic: "run-canary", RTO: 7 * time.Second, Settle: 2 * time.Second, Back: true}
	r, err = drill.Run(ctx, cfg, drill.Deps{API: api, Probe: drill.NewCanary(door, cfg.Topic, cfg.ID), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + r.Text())
	if r.Verdict != drill.Pass || len(r.Legs) != 2 || r.Result.Canary.Acked < 150 || r.Result.RPORecords != 0 {
		t.Errorf("%s: %q", r.Verdict, r.Failures)
	}
	if _, err := api.NoteDrill(ctx, r.Note()); err != nil {
		t.Error(err)
	}
	if all, err := l.nodes[0].API.Drills(ctx, "shop", 0); err != nil || len(all.GetDrills()) != 1 || all.GetDrills()[0].GetRtoSeconds() <= 0 {
		t.Errorf("the fabric keeps %v, %v", all, err)
	}
}
