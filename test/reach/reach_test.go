package reach

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/settingstore"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// found is how soon a cut is found with two seconds between probes: the rest of two intervals is for moving the work. slack is
// for a machine under load.
const (
	found = 3300 * time.Millisecond
	slack = 400 * time.Millisecond
)

func up(r gossip.Reach) bool   { return r.Reads && r.Writes }
func down(r gossip.Reach) bool { return !r.Reads && !r.Writes }

// watched is a prober that runs until the test ends.
type watched struct {
	*broker.Prober
	changed chan gossip.Reach
}

func watch(t *testing.T, p broker.Profile) *watched {
	t.Helper()
	c, err := broker.Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{changed: make(chan gossip.Reach, 1000)}
	if w.Prober, err = broker.NewProber(c, broker.ProberConfig{}, broker.ProberDeps{Changed: func(r gossip.Reach) { w.changed <- r }}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Close()
	})
	return w
}

// until waits for what the reach should become, and returns how long that took.
func (w *watched) until(t *testing.T, most time.Duration, want func(gossip.Reach) bool) time.Duration {
	t.Helper()
	start := time.Now()
	end := time.After(most)
	for !want(w.Reach()) {
		select {
		case <-w.changed:
		case <-end:
			t.Fatalf("after %v the reach is %+v", most, w.Reach())
		}
	}
	return time.Since(start)
}

// stays wants the reach to be up for a while.
func (w *watched) stays(t *testing.T, d time.Duration) {
	t.Helper()
	end := time.After(d)
	for {
		select {
		case r := <-w.changed:
			if !up(r) {
				t.Fatalf("the cluster was lost: %+v", r)
			}
		case <-end:
			return
		}
	}
}

// loses wants the cluster to be lost in time after it was cut, and reached again after it was healed.
func (w *watched) loses(t *testing.T, what string, cut func(bool)) {
	t.Helper()
	cut(true)
	took := w.until(t, 10*time.Second, down)
	if took > found+slack {
		t.Errorf("%s: found after %v, want %v", what, took, found)
	}
	trouble := w.Reach().Trouble
	cut(false)
	back := w.until(t, 2*time.Minute, up)
	t.Logf("%s: lost after %v (%s), reached again after %v", what, took, trouble, back)
}

// A user without any right reaches the cluster, asks for nothing that is refused, and loses it when one direction is cut.
func TestProber_OnRealKafka(t *testing.T) {
	const login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_nobody=\"pw\";"
	c := kafka.Start(t, kafka.Options{Listeners: map[string]string{"LOGIN": "SASL_PLAINTEXT"}, Properties: map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
		"listener.name.login.sasl.enabled.mechanisms": "PLAIN", "listener.name.login.plain.sasl.jaas.config": login,
		"listener.name.login.connections.max.reauth.ms": "6000",
	}})
	fresh := func() (*watched, *path) { // one that has not lost the cluster before trusts it after ten good seconds
		network := newPath(t)
		w := watch(t, broker.Profile{Name: "eu", Bootstrap: c.Addresses("LOGIN"), Dial: network.Dial, SASL: plain.Auth{User: "nobody", Pass: "pw"}.AsMechanism()})
		if took := w.until(t, 10*time.Second, up); took > 2*time.Second {
			t.Errorf("the cluster was reached after %v", took)
		}
		return w, network
	}
	steady, _ := fresh()
	calm := time.Now()
	w, network := fresh()
	w.loses(t, "requests vanish", network.out.Store)
	w, network = fresh()
	w.loses(t, "answers vanish", network.in.Store)
	steady.stays(t, time.Until(calm.Add(15*time.Second))) // sessions end after six seconds
	if r := steady.Reach(); r.Trouble != "" || r.RTT != 5*time.Millisecond {
		t.Errorf("the reach is %+v, want no trouble and the nearest class", r)
	}
	steady.loses(t, "the broker is paused", func(on bool) {
		if on {
			c.Pause(0)
		} else {
			c.Continue(0)
		}
	})
	w, _ = fresh()
	w.loses(t, "the broker is killed", func(on bool) {
		if on {
			c.Kill(0)
		} else {
			c.Start(0)
		}
	})
	for line := range strings.Lines(c.Log(0)) {
		if strings.Contains(line, "User:nobody is Denied") {
			t.Errorf("the probe asked for what needs a right: %s", line)
		}
	}
}

// Three brokers of which one dies: the cluster is reached all the time, and settings are kept and read.
func TestStore_OnRealKafka(t *testing.T) {
	c := kafka.Start(t, kafka.Options{Brokers: 3})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	profile := broker.Profile{Name: "eu", Bootstrap: c.Bootstrap()}
	w := watch(t, profile)
	w.until(t, 10*time.Second, up)

	cluster, err := broker.Open(profile, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	s := settingstore.New(cluster)
	defer s.Close()
	save := func(from, to int) {
		t.Helper()
		for range 2 { // as two nodes do
			if err := s.Save(ctx, changes(from, to)...); err != nil {
				t.Fatal(err)
			}
		}
	}
	load := func(want int) {
		t.Helper()
		got, err := s.Load(ctx)
		if err != nil || len(got) != want {
			t.Fatalf("%d changes are stored, want %d (%v)", len(got), want, err)
		}
	}
	load(0)
	save(0, 50)
	load(50)
	configs, err := cluster.TopicConfigs(ctx, settingstore.Topic)
	if err != nil {
		t.Fatal(err)
	}
	if at := configs[settingstore.Topic]; at["cleanup.policy"].Value != "compact" || at["min.insync.replicas"].Value != "2" {
		t.Errorf("the topic is made with %+v", at)
	}
	m, err := cluster.Metadata(ctx, settingstore.Topic)
	if err != nil {
		t.Fatal(err)
	}
	leader := m.Topics[settingstore.Topic].Partitions[0].Leader
	c.Kill(int(leader) - 1)
	save(50, 60)
	load(60)
	w.stays(t, 20*time.Second)
	c.Start(int(leader) - 1)
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	w.stays(t, 5*time.Second)
}

func changes(from, to int) (all []gossip.Change) {
	for i := from; i < to; i++ {
		all = append(all, gossip.Change{Version: gossip.Time{Wall: int64(1000 + i), Node: "n1"}, Entries: []gossip.Entry{{Key: "log/level", Value: []byte(`"debug"`)}}})
	}
	return all
}
