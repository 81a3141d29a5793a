package router

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/arrival"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/topology"
)

// TestConfig_Limits: what a caller says goes over what the file says, and that over the defaults.
func TestConfig_Limits(t *testing.T) {
	home, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	said := topology.RouterLimits{Connections: 5, PerAddress: 4, Memory: 3, Request: 1 << 20, Idle: time.Minute}
	for name, tc := range map[string]struct {
		cfg  Config
		said topology.RouterLimits
		want Config
	}{
		"defaults": {Config{}, topology.RouterLimits{}, Config{Limits: Limits{10_000, 2_000, 256 << 20, 128}}},
		"the file": {Config{}, said, Config{Limits: Limits{5, 4, 3, 128}}},
		"a caller": {Config{Limits: Limits{9, 8, 7, 6}}, said, Config{Limits: Limits{9, 8, 7, 6}}},
	} {
		tc.cfg.Router, tc.cfg.Login = instance("eu-1", 9093, 9095), name == "the file"
		tc.cfg.Router.Limits = tc.said
		if err := tc.cfg.complete(&Deps{Home: home, Unique: func() string { return "" }}); err != nil {
			t.Fatal(err)
		}
		if tc.cfg.Limits != tc.want.Limits {
			t.Errorf("%s: %+v, want %+v", name, tc.cfg.Limits, tc.want.Limits)
		}
		if r := tc.cfg.Relay; r.Request != tc.said.Request || tc.cfg.Timeouts.Idle != tc.said.Idle || (r.BeforeLogin > 0) != tc.cfg.Login {
			t.Errorf("%s: a request of %d bytes, %d before a login, idle %v", name, r.Request, r.BeforeLogin, tc.cfg.Timeouts.Idle)
		}
	}
}

// TestConfig_Generations: who follows generations is given all that it needs for that.
func TestConfig_Generations(t *testing.T) {
	home, err := broker.Open(broker.Profile{Name: "eu", Bootstrap: []string{"127.0.0.1:1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	unique := func() string { return "" }
	store := generation.NewStore(nil, generation.Config{Router: "shop", Unique: unique, Now: generation.Clock()})
	whole := Deps{Home: home, Unique: unique, Generations: store, Open: func(string) (*broker.Cluster, error) { return home, nil }, Salted: func(id, _ int64) (int64, error) { return id, nil },
		Arrive: func(context.Context, arrival.Request, arrival.Runs) (arrival.Arrived, error) {
			return arrival.Arrived{}, nil
		}}
	for name, tc := range map[string]struct {
		change func(*Deps)
		want   string
	}{
		"whole":    {func(*Deps) {}, ""},
		"no runs":  {func(d *Deps) { d.Arrive = nil }, "runs of the mirror"},
		"no way":   {func(d *Deps) { d.Open = nil }, "a way to open clusters"},
		"no salts": {func(d *Deps) { d.Salted = nil }, "salted ids"},
		"no store": {func(d *Deps) { *d = Deps{Home: home, Unique: unique} }, ""},
	} {
		cfg, deps := Config{Router: instance("eu-1", 9093, 9095)}, whole
		tc.change(&deps)
		if err := cfg.complete(&deps); tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if deps.Generations != nil && tc.want == "" && deps.Clock == nil {
			t.Errorf("%s: no clock", name)
		}
	}
}
