package router

import (
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
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
