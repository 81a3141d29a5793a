package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

// expected is what an operator may expect on an idle machine; most is what is asserted, because this one may not be.
const expected, most = 5 * time.Second, 15 * time.Second

// open opens a site as a person with all rights.
func open(t testing.TB, s *node.Site) Hand {
	t.Helper()
	c, err := broker.Open(broker.Profile{Name: s.Name, Bootstrap: s.Bootstrap()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return Hand{t, c}
}

// mirrored runs a link eu-us with these settings until the test ends.
func mirrored(t *testing.T, sites map[string]*node.Site, settings string) *mirror.Set {
	t.Helper()
	var text strings.Builder
	text.WriteString("[fabric]\nname = \"sync\"\n")
	for _, name := range slices.Sorted(maps.Keys(sites)) {
		fmt.Fprintf(&text, "[[cluster]]\nname = %q\nbootstrap = [%q]\n", name, sites[name].Bootstrap()[0])
	}
	text.WriteString("[[link]]\nfrom = \"eu\"\nto = \"us\"\n" + settings)
	topo, err := topology.Parse("sync.toml", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	set, err := mirror.NewSet(mirror.Config{}, mirror.SetDeps{Topology: topo, Log: log, Writer: "n1/1",
		Open: func(c topology.Cluster) (*broker.Cluster, error) {
			p, err := broker.NewProfile(c)
			if err != nil {
				return nil, err
			}
			return broker.Open(p, log)
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- errors.Join(set.Run(ctx), set.Ended()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return set
}

// visible waits until something is so, and says how long it took.
func visible(t *testing.T, what string, is func() error) {
	t.Helper()
	began := time.Now()
	node.Until(t, most, what, func(context.Context) error { return is() })
	took := time.Since(began)
	t.Logf("%s: %v", what, took.Round(10*time.Millisecond))
	if took > expected {
		t.Logf("%s: longer than the %v that are to be expected on an idle machine", what, expected)
	}
}

// TestSync_VisibleWithinSeconds changes everything that is kept alike at a real source, and takes it away again.
func TestSync_VisibleWithinSeconds(t *testing.T) {
	kafka.Require(t)
	checks := map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS"}
	sites := node.StartSitesWith(t, kafka.Options{Name: "eu", Properties: checks}, kafka.Options{Name: "us", Properties: checks})
	eu, us := open(t, sites["eu"]), open(t, sites["us"])
	us.Allow(Reads("local", "orders"))
	set := mirrored(t, sites, "topics = [\"*\"]\ngroups = [\"g-*\"]\nsync_configs = [\"*\"]\nsync_acls = true\nsync_quotas = true\n")
	log := judge.NewLog()
	fill := func(partitions int32, seed uint64) {
		load := judge.Load{Topic: "orders", Partitions: partitions, Records: 200, Size: 100, Compression: "lz4", Seed: seed}
		if err := judge.Write(t.Context(), sites["eu"].Client(), load, log); err != nil {
			t.Fatal(err)
		}
	}
	grown := func(n int) func() error {
		return func() error {
			m, err := us.Metadata(t.Context(), "orders")
			if got := len(m.Topics["orders"].Partitions); err == nil && got != n {
				err = fmt.Errorf("%d partitions, want %d", got, n)
			}
			return err
		}
	}
	sites["eu"].Create(t, "orders", 2, "retention.ms=86400000")
	visible(t, "a new topic", grown(2))
	fill(2, 1)
	if err := eu.GrowTopic(t.Context(), "orders", 5); err != nil {
		t.Fatal(err)
	}
	fill(5, 2)
	visible(t, "new partitions", grown(5))

	configs := func(want map[string]string) func() error {
		return func() error { return Same(us.Own("orders"), want) }
	}
	visible(t, "the settings of a new topic", configs(map[string]string{"retention.ms": "86400000"}))
	eu.Set("orders", "segment.ms", "7200000")
	visible(t, "a setting that is set", configs(map[string]string{"retention.ms": "86400000", "segment.ms": "7200000"}))
	eu.Set("orders", "segment.ms", "3600000")
	visible(t, "a setting that is changed", configs(map[string]string{"retention.ms": "86400000", "segment.ms": "3600000"}))
	us.Set("orders", "flush.ms", "60000")
	eu.Set("orders", "retention.ms", "")
	visible(t, "a setting that is taken away", configs(map[string]string{"segment.ms": "3600000", "flush.ms": "60000"}))
	us.Set("orders", "segment.ms", "1800000")
	visible(t, "a setting that is changed on the target", configs(map[string]string{"segment.ms": "3600000", "flush.ms": "60000"}))

	prefixed, denied, group, write := Reads("b", "ord"), Reads("c", "orders"), Reads("a", "g-1"), Reads("a", "orders")
	prefixed.Pattern, denied.Allow, group.Resource, write.Operation = kmsg.ACLResourcePatternTypePrefixed, false, kmsg.ACLResourceTypeGroup, kmsg.ACLOperationAll
	rules := func(want ...broker.ACL) func() error {
		want = append(want, Reads("local", "orders"))
		return func() error {
			got := us.Rules()
			if len(got) != len(want) || slices.ContainsFunc(want, func(a broker.ACL) bool { return !slices.Contains(got, a) }) {
				return fmt.Errorf("%v, want %v", got, want)
			}
			return nil
		}
	}
	eu.Allow(write, prefixed, denied, group)
	visible(t, "rules that are made", rules(Reads("a", "orders"), prefixed, denied, group))
	eu.Forget(write, prefixed, denied)
	visible(t, "rules that are taken away", rules(group))

	quotas := func(want map[string]float64) func() error {
		return func() error { return Same(us.QuotaValues(), want) }
	}
	eu.Quota("a", map[string]float64{"producer_byte_rate": 1e6, "consumer_byte_rate": 2e6})
	visible(t, "a quota that is set", quotas(map[string]float64{"user a producer_byte_rate": 1e6, "user a consumer_byte_rate": 2e6}))
	eu.Quota("a", map[string]float64{"producer_byte_rate": 3e6, "consumer_byte_rate": math.NaN()})
	visible(t, "a quota that is changed, and one that is taken away", quotas(map[string]float64{"user a producer_byte_rate": 3e6}))

	drift, err := set.Drift(t.Context(), "eu-us")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, d := range drift {
		if d.Verdict != mirror.LeftByPolicy {
			t.Errorf("drift that is not left by policy: %+v", d)
		}
		left = append(left, d.Kind)
	}
	if slices.Sort(left); !slices.Equal(left, []string{mirror.DriftACL, mirror.DriftConfig}) {
		t.Errorf("the drift is %+v, want the target's own rule and setting", drift)
	}
	c := judge.Case{Clusters: []judge.Client{sites["eu"].Client(), sites["us"].Client()}, Topics: []string{"orders"}, Log: log, Targets: []string{"us"},
		Carries: func(target, origin, _ string) bool { return target != origin }}
	node.Until(t, time.Minute, "all records are on the target, each once and in order", func(ctx context.Context) error {
		v, err := c.Check(ctx)
		if err == nil && (!v.OK() || v.Reports["us"].Pending > 0 || v.Records["us"] != v.Records["eu"]) {
			err = fmt.Errorf("%v", v)
		}
		return err
	})
}
