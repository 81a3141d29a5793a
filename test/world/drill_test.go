package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/admin/drill"
	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// canary is one that writes through the doors, and reaches nothing else.
func (w *World) canary(t *testing.T, topic, id string, doors ...string) *drill.Canary {
	t.Helper()
	c, err := broker.Open(broker.Profile{Name: "doors", Bootstrap: doors, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasPrefix(address, "127.0.0.1:10") {
			t.Errorf("the canary went around the door, to %s", address)
		}
		return w.Dial(ctx, network, address)
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.ends = append(w.ends, c.Close)
	return drill.NewCanary(c, topic, id)
}

// practise runs a drill by a node and wants its verdict.
func (w *World) practise(t *testing.T, n *Node, cfg drill.Config, want drill.Verdict) *drill.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cfg.Router, cfg.Topic, cfg.Settle = "shop", "orders", 2*time.Second
	r, err := drill.Run(ctx, cfg, drill.Deps{API: n.API, Probe: w.canary(t, cfg.Topic, cfg.ID, doors...), Now: time.Now, Tell: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + r.Text())
	if r.Verdict != want {
		t.Fatalf("%s, want %s: %q", r.Verdict, want, r.Failures)
	}
	return r
}

// noted wants the fabric to keep how drills ended, so that any node tells of them, also one that was restarted, and a metric tells when the last was.
func (w *World) noted(t *testing.T, r *drill.Report) {
	t.Helper()
	for _, d := range []*adminpb.Drill{r.Note(), {Id: "older", Router: "shop", Mode: "failover", Verdict: "fail", Began: r.Note().GetBegan(), Ended: r.Note().GetBegan()}} {
		if got, err := w.Nodes[2].API.NoteDrill(t.Context(), d); err != nil || got.GetBy() == "" {
			t.Fatal(got, err)
		}
	}
	w.Nodes[0].Stop()
	w.Nodes[0].Start()
	w.Until("both doors serve", 30*time.Second, func() error { return errors.Join(w.served("shop", 0), w.served("shop", 1)) })
	got, err := w.Nodes[0].API.Drills(t.Context(), "shop", 0)
	if err != nil || len(got.GetDrills()) != 2 || got.GetDrills()[0].GetId() != r.ID || got.GetDrills()[0].GetVerdict() != "pass" || got.GetDrills()[1].GetId() != "older" {
		t.Errorf("got %v, %v", got, err)
	}
	want := fmt.Sprintf(`isthmus_drill_last_passed_timestamp_seconds{router="shop",set=""} %v`, float64(r.Note().GetEnded().AsTime().UnixMilli())/1000)
	w.Until("the metric tells of it", 10*time.Second, func() error {
		page, err := w.page(w.Nodes[0])
		if err == nil && !strings.Contains(page, want) {
			err = fmt.Errorf("there is no %s in %q", want, regexp.MustCompile(`(?m)^isthmus_drill.*$`).FindAllString(page, -1))
		}
		return err
	})
}

// page is what a node's metrics are.
func (w *World) page(n *Node) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: w.Dial}}
	res, err := client.Get("http://" + n.spec.HTTP + "/metrics")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// TestWorld_Drill: a drill takes the router to the other cluster and back; its canary, which knows the doors alone, saw every record it wrote once. What is not good enough is brought
// back, and what may not begin is refused.
func TestWorld_Drill(t *testing.T) {
	switched(t, func(t *testing.T, w *World) {
		w.Until("it may move", time.Minute, func() error {
			_, err := w.Nodes[0].API.Ready(t.Context(), &adminpb.ReadyRequest{Name: "shop", To: "us"})
			return err
		})
		r := w.practise(t, w.Nodes[0], drill.Config{ID: "d1", Mode: drill.Switchover, To: "us", RTO: 10 * time.Second, Back: true}, drill.Pass)
		if len(r.Legs) != 2 || r.Legs[0].To != "us" || r.Legs[1].To != "eu" || r.Legs[1].Kind != "back" || r.Result.Canary.Acked < 100 || r.Result.RPORecords != 0 || r.Result.RTOSeconds < 0.1 || len(r.Legs[0].Steps) < 8 {
			t.Errorf("got %+v", r)
		}
		w.Until("it is back", 10*time.Second, func() error { return w.homeIs("eu", 2) })
		r = w.practise(t, w.Nodes[1], drill.Config{ID: "d2", Mode: drill.Switchover, To: "us", RTO: time.Millisecond}, drill.Fail)
		if len(r.Legs) != 2 || !r.Legs[1].Back || r.Legs[1].To != "eu" || r.Legs[1].Outcome != "committed" {
			t.Errorf("got %+v", r.Legs)
		}
		w.Until("it was brought back", 10*time.Second, func() error { return w.homeIs("eu", 4) })
		r = w.practise(t, w.Nodes[1], drill.Config{ID: "d3", Mode: drill.Switchover, To: "ap", RTO: time.Second}, drill.Refused)
		if len(r.Legs) != 0 || len(r.Failures) == 0 {
			t.Errorf("got %+v", r)
		}
		r = w.practise(t, w.Nodes[1], drill.Config{ID: "d4", Mode: drill.Failback, RTO: 10 * time.Second}, drill.Pass)
		if r.To != "us" || len(r.Legs) != 1 {
			t.Errorf("got %+v", r)
		}
		w.Until("it is there", 10*time.Second, func() error { return w.homeIs("us", 5) })
		w.noted(t, r)
	})
}

// TestWorld_Rehearse: a rehearsal writes to a topic that a link carries, finds each record where the map says, and takes a group's positions along; the router stays. Where no link carries
// the topic, the rest is tried, and that is said. A link that is paused makes it fail.
func TestWorld_Rehearse(t *testing.T) {
	switched(t, func(t *testing.T, w *World) {
		rehearse := func(topic string) *drill.Report {
			t.Helper()
			r, err := drill.RunRehearsal(t.Context(), drill.Config{ID: "r1", Mode: drill.Rehearse, Router: "shop", To: "us", Topic: topic}, w.Nodes[2].API, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			t.Log("\n" + r.Text())
			return r
		}
		out := w.through(doors)
		defer out.Close()
		write(t, out, 0, 100)
		if r := rehearse(drill.Shadow); r.Verdict != drill.Pass || r.Rehearsal.Records != 300 { // it is made, at both
			t.Errorf("%s: %q, %+v", r.Verdict, r.Failures, r.Rehearsal)
		}
		for range 2 { // the second finds what the first has left
			if r := rehearse("orders"); r.Verdict != drill.Pass || !r.Rehearsal.Shadowed || r.Rehearsal.Records != 400 || len(r.Rehearsal.Steps) != 9 {
				t.Errorf("%s: %q, %+v", r.Verdict, r.Failures, r.Rehearsal)
			}
		}
		if r := rehearse("__shadow"); r.Verdict != drill.Pass || r.Rehearsal.Shadowed || len(r.Warnings) == 0 || len(r.Rehearsal.Steps) != 3 {
			t.Errorf("%s: %q, %+v", r.Verdict, r.Warnings, r.Rehearsal)
		}
		if err := w.homeIs("eu", 0); err != nil {
			t.Error(err)
		}
		if _, err := w.Nodes[0].API.Pause(t.Context(), &adminpb.PauseRequest{Link: "eu-us", Topic: "orders", Why: "a test"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if r := rehearse("orders"); r.Verdict != drill.Fail || !strings.Contains(strings.Join(r.Failures, "; "), "mirror: 400 records, of orders:") {
			t.Errorf("%s: %q", r.Verdict, r.Failures)
		}
	})
}

// TestWorld_CanarySeesAnOutage: an outage of the home behind the doors is as long in the figures as it was, and nothing is lost, doubled or late by it.
func TestWorld_CanarySeesAnOutage(t *testing.T) {
	switched(t, func(t *testing.T, w *World) {
		c := w.canary(t, "orders", "c1", doors...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		began, ended := time.Now(), make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		time.Sleep(2 * time.Second)
		const out = 3 * time.Second
		cutAt := time.Now()
		for _, n := range w.Nodes[:2] {
			n.Paths["eu"].Cut()
		}
		time.Sleep(out)
		for _, n := range w.Nodes[:2] {
			n.Paths["eu"].Heal()
		}
		var f drill.Figures
		w.Until("all is read", 40*time.Second, func() error {
			logs, err := c.Logs()
			f = drill.Judge(logs, began, time.Now().Add(-time.Second))
			if err == nil && (f.Lost > 0 || f.Acked < f.Writes || f.Writes < 4*60) {
				err = fmt.Errorf("%+v", f)
			}
			return err
		})
		if f.Outage < out || f.Outage > out+5*time.Second || f.OutageAt.Sub(cutAt).Abs() > 200*time.Millisecond || f.Doubled+f.Late+f.Failed > 0 || f.ReadGap < out {
			t.Errorf("got %+v", f)
		}
		t.Logf("%+v", f)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestWorld_DrillOfASet: a set of a router is practised alone, with a canary topic of its own that is not there before; what no set names stays. A topic that is not of the set is no canary.
func TestWorld_DrillOfASet(t *testing.T) {
	set := func(port int) string {
		return fmt.Sprintf("[[router.set]]\nname = \"fast\"\ntopics = [\"fast-*\"]\ngroups = [\"fast-*\"]\nhome = \"eu\"\nslots = \"%d-%d\"\n", port+10, port+13)
	}
	synctest.Test(t, func(t *testing.T) {
		w := New(t, fabric.Options{Clusters: []string{"eu", "us", "ap"}, Links: []string{"eu>us", "us>eu", "eu>ap"}, Topics: []string{"orders"}, Partitions: 4, Brokers: 2, Seed: 1,
			More: entry("shop", "eu-1", 10100) + set(10100) + entry("shop", "eu-2", 10200) + set(10200)}, 1, "eu-1@frankfurt", "eu-2@frankfurt", "us-1@virginia")
		defer w.Close()
		w.StartAll()
		w.Until("the set is served", 30*time.Second, func() error {
			_, err := w.Nodes[0].API.Ready(t.Context(), &adminpb.ReadyRequest{Name: "shop", Set: "fast", To: "us"})
			return err
		})
		run := func(topic string) *drill.Report {
			t.Helper()
			c := w.canary(t, topic, "s-"+topic, "127.0.0.1:10110", "127.0.0.1:10210")
			r, err := drill.Run(t.Context(), drill.Config{ID: "s-" + topic, Mode: drill.Switchover, Router: "shop", Set: "fast", To: "us", Topic: topic, RTO: 10 * time.Second, Settle: time.Second}, drill.Deps{API: w.Nodes[1].API, Probe: c, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			t.Log("\n" + r.Text())
			return r
		}
		if r := run("orders"); r.Verdict != drill.Refused || !strings.Contains(strings.Join(r.Failures, "; "), "canary: topic orders is not of what moves") {
			t.Errorf("%s: %q", r.Verdict, r.Failures)
		}
		if r := run("fast-canary"); r.Verdict != drill.Pass || r.Result.Canary.Acked < 50 || r.Result.RPORecords != 0 {
			t.Errorf("%s: %q", r.Verdict, r.Failures)
		}
		got, err := w.Nodes[2].API.Routers(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got.GetRouters() {
			for _, s := range r.GetSets() {
				if want := map[string]string{"": "eu", "fast": "us"}[s.GetSet()]; s.GetHome() != want {
					t.Errorf("%s of %s is at %s, want %s", s.GetSet(), r.GetNode(), s.GetHome(), want)
				}
			}
		}
	})
}
