package strange

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
	"github.com/isthmus-project/isthmus/topology"
)

// restless are broker settings that make the log cleaner work all the time.
var restless = map[string]string{"log.cleaner.backoff.ms": "100", "log.initial.task.delay.ms": "500"}

// startSites starts eu and us.
func startSites(t testing.TB) (eu, us *node.Site) {
	t.Helper()
	sites := node.StartSitesWith(t, kafka.Options{Name: "eu", Properties: restless}, kafka.Options{Name: "us", Properties: restless})
	return sites["eu"], sites["us"]
}

// create makes a topic and waits until its partitions have leaders that know of it.
func create(t testing.TB, s *node.Site, topic string, partitions int32, settings ...string) {
	t.Helper()
	s.Create(t, topic, partitions, settings...)
	node.Until(t, time.Minute, "the topic is there", func(ctx context.Context) error {
		_, err := s.Ends(ctx, topic)
		return err
	})
}

// life is one run of the mirror, in this process.
type life struct {
	set    *mirror.Set
	to     *broker.Cluster
	cancel context.CancelFunc
	done   chan error
}

// mirrored is the topology of the suite: every topic whose name begins with s-.
func mirrored(t testing.TB, eu, us *node.Site) *topology.Topology {
	t.Helper()
	text := "[fabric]\nname = \"strange\"\n"
	for _, s := range []*node.Site{eu, us} {
		text += fmt.Sprintf("[[cluster]]\nname = %q\nbootstrap = [%q]\n", s.Name, s.Bootstrap()[0])
	}
	topo, err := topology.Parse("strange.toml", []byte(text+"[[link]]\nname = \"link\"\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"s-*\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

// run starts the mirror. It ends with the test.
func run(t testing.TB, topo *topology.Topology, writer string, cfg mirror.Config) *life {
	t.Helper()
	l := &life{done: make(chan error, 1)}
	var err error
	l.set, err = mirror.NewSet(cfg, mirror.SetDeps{Topology: topo, Log: slog.New(slog.DiscardHandler), Writer: writer,
		Open: func(spec topology.Cluster) (*broker.Cluster, error) {
			p, err := broker.NewProfile(spec)
			if err != nil {
				return nil, err
			}
			c, err := broker.Open(p, nil)
			if spec.Name == "us" {
				l.to = c
			}
			return c, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel = cancel
	go func() { l.done <- l.set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-l.done; err != nil {
			t.Error(err)
		}
		l.done <- nil
	})
	return l
}

// die ends the mirror as kill -9 does: it can tell the target nothing any more.
func (l *life) die() {
	l.to.Close()
	l.cancel()
	err := <-l.done
	l.done <- err
}

// flow is what the mirror says of a topic.
func (l *life) flow(topic string) mirror.FlowStatus {
	for _, link := range l.set.Status() {
		for _, f := range link.Flows {
			if f.Topic == topic {
				return f
			}
		}
	}
	return mirror.FlowStatus{Topic: topic}
}
