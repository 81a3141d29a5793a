package clients

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/clients/program"
)

const (
	// steady is how many records each producer of restarts writes, a second and in all.
	steadyRate, steady = 100, 1500
	// restartLimit is how long it may take.
	restartLimit = 4 * time.Minute
)

// restarts is clients that go on while brokers are killed and stopped and come back, and leaders move: nothing acknowledged is lost or doubled, nobody
// skips or goes back. With ISTHMUS_CLIENTS the same programs run directly beside them, and clients are given no more trouble through the router.
func restarts(t *testing.T, l *Lab) {
	var entries []Entry
	for _, e := range Entries {
		if wanted(e) && !e.Frail {
			entries = append(entries, e)
		}
	}
	for some := range slices.Chunk(entries, atOnce-1) {
		t.Run(some[0].Kind, func(t *testing.T) { restart(t, l, some) })
	}
}

// restart is restarts for some clients: all at once are more than a small machine can run.
func restart(t *testing.T, l *Lab, entries []Entry) {
	ctx, cancel := context.WithTimeout(t.Context(), restartLimit)
	defer cancel()
	var all []*steadyClient
	for _, e := range entries {
		path := e.Program(t)
		ways := map[string]string{"routed": l.Routed}
		if clientsWanted() != "" {
			ways["direct"] = l.Direct
		}
		for way, bootstrap := range ways {
			all = append(all, l.steady(ctx, t, e, path, bootstrap, way))
		}
	}
	acked := func(n int) {
		t.Helper()
		for _, s := range all {
			if err := s.history.Wait(ctx, fmt.Sprint(n, " records to be acknowledged"), func(events []oracle.Event) bool { return tally(events, oracle.Acked) >= n }); err != nil {
				t.Fatalf("%s: %v", s.topic, err)
			}
		}
	}
	ready := func() {
		t.Helper()
		if err := l.Cluster.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := l.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil); err != nil {
			t.Fatal(err)
		}
	}
	acked(steady / 10)
	l.Cluster.Kill(0)
	acked(steady * 3 / 10)
	l.Cluster.Start(0)
	ready()
	acked(steady * 5 / 10)
	l.Cluster.Stop(1)
	acked(steady * 7 / 10)
	l.Cluster.Start(1)
	ready()
	var ends sync.WaitGroup
	for _, s := range all {
		ends.Go(func() { s.end(ctx) })
	}
	ends.Wait()
}

// wanted reports whether a client is part of this run.
func wanted(e Entry) bool {
	switch want := clientsWanted(); want {
	case "":
		return e.Small
	case "all":
		return true
	default:
		return slices.Contains(strings.Split(want, ","), e.Kind)
	}
}

// tally is how many events are of a kind.
func tally(events []oracle.Event, kind string) (n int) {
	for _, e := range events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// steadyClient is a producer, a group of two and a reader of one topic.
type steadyClient struct {
	*scene
}

func (l *Lab) steady(ctx context.Context, t *testing.T, e Entry, path, bootstrap, way string) *steadyClient {
	t.Helper()
	topic := strings.ReplaceAll(fmt.Sprint("restart-", e, "-", way), " ", "-")
	s := &steadyClient{&scene{lab: l, t: t, path: path, feature: Eager, bootstrap: bootstrap, topic: topic, history: &program.History{}}}
	if err := l.Create(ctx, topic); err != nil {
		t.Fatal(err)
	}
	s.member("first")
	s.member("second")
	if e.Has(Assign) {
		s.start("reader", "", "consume", "mode=assign", "seek=0")
	}
	s.start("producer", "", "produce", "kind=idempotent", "from=0", fmt.Sprint("records=", steady), fmt.Sprint("rate=", steadyRate))
	return s
}

// end waits until all is read and judges it.
func (s *steadyClient) end(ctx context.Context) {
	s.t.Helper()
	err := s.history.Wait(ctx, "all to be sent", said("producer", oracle.Done))
	for _, who := range []string{s.topic, "reader"} {
		if err == nil && (who == s.topic || len(s.runs) == 4) {
			err = s.history.Wait(ctx, "all to be read by "+who, read(who, steady-tally(s.history.Events(), oracle.Failed)))
		}
	}
	for _, r := range s.runs {
		r.Stop()
	}
	events := s.history.Events()
	if err != nil {
		s.t.Errorf("%s: %v", s.topic, err)
	}
	stored, err := s.lab.Stored(ctx, s.topic)
	if err != nil {
		s.t.Errorf("%s: %v", s.topic, err)
	}
	s.t.Logf("%s: %d acknowledged, %d stored, %d read, %d times given partitions, %d errors reported", s.topic, tally(events, oracle.Acked), count(stored), tally(events, oracle.Read),
		tally(events, oracle.Assigned), tally(events, oracle.Error))
	for _, wrong := range oracle.Judge(events, stored, oracle.Promise{Rereads: true, Errors: true}) {
		s.t.Errorf("%s: %s", s.topic, wrong)
	}
	texts := make(map[string]int)
	for _, e := range events {
		if e.Kind == oracle.Error {
			texts[e.Text]++
		}
	}
	for text, n := range texts {
		s.t.Logf("%s: %d times: %s", s.topic, n, text)
	}
}
