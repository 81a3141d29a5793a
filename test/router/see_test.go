package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/isthmus-project/isthmus/dashboards"
	"github.com/isthmus-project/isthmus/router"
)

// TestRouter_Status: who is at the door, and how it stands, is told as it is.
func TestRouter_Status(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		one := w.start(0, 2, nil).router
		if s := one.Status(); s.Ready || s.Name != "shop" || s.Node != "eu-0" || s.Home != "eu" || s.Listen != "127.0.0.1:9100" {
			t.Errorf("at first: %+v", s)
		}
		time.Sleep(3 * time.Second)
		w.mu.Lock()
		w.dead["eu-1"] = true
		w.mu.Unlock()
		if err := w.home.RemoveNode(2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		slot, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9102")
		if err != nil {
			t.Fatal(err)
		}
		defer slot.Close()
		ask(t, slot)
		s := one.Status()
		if !s.Ready || s.Cluster != "real-cluster" || len(s.Troubles) != 0 || time.Since(s.Heard) > 2*time.Second || s.Connections != 1 || s.Bootstrap != 0 || s.Opened != 1 || s.IDs < 1000 {
			t.Errorf("%+v", s)
		}
		want := []router.SlotStatus{
			{Index: 0, ID: 0, Broker: 0, There: true, Address: "127.0.0.1:9101", Instance: "eu-0", Live: true},
			{Index: 1, ID: 1, Broker: 1, There: true, Address: "127.0.0.1:9102", Instance: "eu-0", Live: true, Connections: 1},
			{Index: 2, ID: 2, Broker: 2, There: false, Address: "127.0.0.1:9103", Instance: "eu-0", Live: true},
		}
		if !slices.Equal(s.Slots, want) {
			t.Errorf("%+v\nwant %+v", s.Slots, want)
		}
		w.home.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
			w.home.KeepControl()
			return nil, errors.New("away"), true
		})
		time.Sleep(10 * time.Second)
		if s := one.Status(); len(s.Troubles) == 0 || time.Since(s.Heard) < 5*time.Second {
			t.Errorf("the home is gone: %+v", s)
		}
	})
}

// TestRouter_Clients: each connection has the name it logged in with, what it says it is, and what it uses; and never a secret.
func TestRouter_Clients(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		d := w.startAs(0, 1, nil, plain.Auth{User: "admin", Pass: "admin"}.AsMechanism())
		time.Sleep(3 * time.Second)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(router.NewMetrics(func() []*router.Router { return []*router.Router{d.router} }))
		anna := w.client([]int{0}, kgo.ClientID("shop-front"), kgo.SoftwareNameAndVersion("shop", "7"), kgo.SASL(plain.Auth{User: "anna", Pass: "secret-a"}.AsMechanism()))
		defer anna.Close()
		produce(t, anna, 0, 100)
		ben := w.client([]int{0}, kgo.ClientID("audit"), kgo.SASL(scram.Auth{User: "ben", Pass: "secret-b"}.AsSha256Mechanism()), kgo.ConsumeTopics("orders"),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
		defer ben.Close()
		consume(t, ben, 100)
		mallory := w.client([]int{0}, kgo.ClientID("mallory"), kgo.SASL(plain.Auth{User: "anna", Pass: "secret-wrong"}.AsMechanism()))
		defer mallory.Close()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if mallory.Ping(short) == nil {
			t.Error("a wrong password is taken")
		}
		all := d.router.Clients()
		by := make(map[string][]router.ClientInfo)
		for _, c := range all {
			by[c.Who.ClientID+" "+c.Principal.Name+" "+c.Principal.Mechanism] = append(by[c.Who.ClientID+" "+c.Principal.Name+" "+c.Principal.Mechanism], c)
		}
		writes := func(c router.ClientInfo) bool { return slices.Equal(c.Who.Produces, []string{"orders"}) }
		reads := func(c router.ClientInfo) bool { return slices.Equal(c.Who.Fetches, []string{"orders"}) }
		if as := by["shop-front anna PLAIN"]; !slices.ContainsFunc(as, writes) || slices.ContainsFunc(as, reads) || as[0].Who.Software != "shop" || as[0].Who.Version != "7" {
			t.Errorf("anna: %+v", as)
		}
		if bs := by["audit ben SCRAM-SHA-256"]; !slices.ContainsFunc(bs, reads) || slices.ContainsFunc(bs, writes) || bs[0].Who.Software != "kgo" {
			t.Errorf("ben: %+v", bs)
		}
		if len(by["mallory anna PLAIN"]) > 0 {
			t.Error("a name counts whose login was refused")
		}
		for _, c := range all {
			if c.Address == "" || c.In == 0 || c.Out == 0 || c.Requests == 0 || c.Since.IsZero() || c.Since.After(time.Now()) {
				t.Errorf("%+v", c)
			}
		}
		if strings.Contains(fmt.Sprintf("%+v", all)+w.logged(), "secret") {
			t.Error("a secret is told")
		}
		checkMetrics(t, registry)
		checkBoard(t, registry)
	}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "admin", "admin"), kfake.Superuser("PLAIN", "anna", "secret-a"), kfake.Superuser("SCRAM-SHA-256", "ben", "secret-b"))
}

// samples are the metrics of routers as "name label ...", with labels in their names' order and without the router's; they must be sound.
func samples(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "isthmus_router_")
			for _, l := range m.GetLabel() {
				if l.GetName() != "router" {
					name += " " + l.GetValue()
				}
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return got
}

// checkMetrics looks at what cannot be told from outside: that each is there, and as large as it must be.
func checkMetrics(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	got := samples(t, registry)
	for name, least := range map[string]float64{
		"ready": 1, "picture_age_seconds": 0, "pending_answers": 0, "held_bytes": 0, "producer_ids": 1000, "full_seconds_total": 0, "throttled_seconds_total": 0, "refused_connections_total connections": 0,
		"ends_total none": 0, "requests_total Produce": 1, "answers_total Produce": 1, "requests_total SASLAuthenticate": 3, "local_answers_total InitProducerID": 1,
		"dials_total 0": 3, "dial_failures_total 0": 0, "identity_claims_total made": 2, "identity_claims_total failed": 0, "connections 0": 2, "connections bootstrap": 1,
		"opened_connections_total 0": 2, "bytes_total in 0": 100, "bytes_total out 0": 100,
		"generation ": 0, "home eu ": 1, "phase serving ": 1, "phase held ": 0, "held_requests ": 0, "moves_total ": 0, "move_failures_total ": 0, "gated_batches_total follows ": 0, "waited_seconds_total": 0,
	} {
		v, there := got[name]
		if !there || v < least {
			t.Errorf("%s is %v (there: %v), want at least %v", name, v, there, least)
		}
	}
}

// checkBoard holds the dashboard of routers against what they export: each metric in a panel, and nothing in one that is not there.
func checkBoard(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	text, err := os.ReadFile("../../dashboards/grafana/router.json")
	if err != nil {
		t.Fatal(err)
	}
	board, err := dashboards.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exported := make(dashboards.Exported)
	for _, f := range families {
		m := &dashboards.Metric{Type: strings.ToLower(f.GetType().String()), Labels: make(map[string]bool)}
		for _, l := range f.GetMetric()[0].GetLabel() {
			m.Labels[l.GetName()] = true
		}
		exported[f.GetName()] = m
	}
	for _, finding := range dashboards.LintMetrics([]dashboards.Board{board}, exported, nil) {
		t.Error(finding)
	}
}

// TestRouter_MetricsOnlyGrow: what an ended connection took still counts.
func TestRouter_MetricsOnlyGrow(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		d := w.start(0, 1, func(c *router.Config) { c.Limits.Connections = 1 })
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(router.NewMetrics(func() []*router.Router { return []*router.Router{d.router, d.router} })) // one that starts again is there twice for a while
		time.Sleep(3 * time.Second)
		for range 3 {
			c, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9101")
			if err != nil {
				t.Fatal(err)
			}
			ask(t, c)
			other, err := w.net.DialContext(t.Context(), "tcp", "127.0.0.1:9101")
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			_ = other.Close()
			_ = c.Close()
			time.Sleep(time.Second)
		}
		got := samples(t, registry)
		for name, want := range map[string]float64{"bytes_total in 0": 54, "bytes_total in other": 0, "ends_total none": 3, "ends_total client": 0, "refused_connections_total connections": 3,
			"refused_connections_total address": 0, "connections 0": 0, "opened_connections_total 0": 3, "requests_total Metadata": 3, "answers_total Metadata": 3} {
			if v, there := got[name]; !there || v != want {
				t.Errorf("%s is %v (there: %v), want %v", name, v, there, want)
			}
		}
		if out := got["bytes_total out 0"]; out < 100 {
			t.Errorf("%v bytes to clients", out)
		}
	})
}
