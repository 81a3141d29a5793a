package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/clients/program"
)

// Feature is something that people do with a client.
type Feature string

// The features, in the order of the table.
const (
	Idempotent    Feature = "idempotent"
	Acks1         Feature = "acks1"
	Acks0         Feature = "acks0"
	Transactional Feature = "transactional"
	Eager         Feature = "eager"
	Cooperative   Feature = "cooperative"
	KIP848        Feature = "kip848"
	Static        Feature = "static"
	Assign        Feature = "assign"
	Streams       Feature = "streams"
	Admin         Feature = "admin"
)

// Features are all of them.
var Features = []Feature{Idempotent, Acks1, Acks0, Transactional, Eager, Cooperative, KIP848, Static, Assign, Streams, Admin}

// How long a feature may take one way, and how long it is tried where it is known to be hidden or never to
// work: not every client says so.
const (
	cellLimit  = 60 * time.Second
	stuckLimit = 10 * time.Second
)

// Outcome is what came of a feature one way.
type Outcome struct {
	// Wrong is what did not come to its end, and what the oracle says.
	Wrong []string
	// Facts are what must be the same both ways.
	Facts []string
	// Said is the client's own text of what went wrong; empty if nothing did.
	Said string
	// Version is the library's.
	Version string
	// Late says that it did not come to its end in time.
	Late bool
}

// Try runs a feature of a client's program against a bootstrap. Topic is a name that nothing has yet; group and transactional id have it, too.
// It ends after the limit at the latest.
func (l *Lab) Try(t testing.TB, path string, f Feature, bootstrap, topic string, limit time.Duration) Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s := &scene{lab: l, t: t, path: path, feature: f, bootstrap: bootstrap, topic: topic, history: &program.History{}}
	var o Outcome
	err := s.play(ctx)
	var logs []string
	for _, r := range s.runs {
		r.Stop()
		logs = append(logs, r.Log())
	}
	events := s.history.Events()
	if err != nil {
		o.Wrong, o.Late = append(o.Wrong, err.Error()), ctx.Err() != nil
		t.Logf("%s got as far as %s", topic, summary(events))
	} else {
		o.Wrong = s.judge(ctx, events)
	}
	o.Facts = s.facts
	for _, e := range events {
		switch e.Kind {
		case oracle.Error, oracle.Failed:
			if o.Said == "" {
				o.Said = e.Text
			}
		case oracle.Ready:
			o.Version = e.Version
		case oracle.Step:
			o.Facts = append(o.Facts, e.Name+": "+e.Result)
		}
	}
	if o.Said == "" && len(o.Wrong) > 0 {
		o.Said = strings.Join(logs, " ")
	}
	return o
}

// judge is what the oracle says of what is stored.
func (s *scene) judge(ctx context.Context, events []oracle.Event) []string {
	switch s.feature {
	case Admin:
		return oracle.Judge(events, nil, oracle.Promise{})
	case Streams:
		s.topic = s.output()
	}
	if err := s.lab.Quiet(ctx, s.topic); err != nil {
		return []string{err.Error()}
	}
	stored, err := s.lab.Stored(ctx, s.topic)
	if err != nil {
		return []string{err.Error()}
	}
	s.fact("%d records are stored", count(stored))
	return oracle.Judge(events, stored, oracle.Promise{})
}

// play runs the feature; its errors are those of what does not come to its end.
func (s *scene) play(ctx context.Context) error {
	if s.feature == Admin {
		return s.admin(ctx)
	}
	if err := s.lab.Create(ctx, s.topic); err != nil {
		return err
	}
	switch s.feature {
	case Idempotent, Acks1, Acks0, Transactional:
		return s.produce(ctx)
	case Eager, Cooperative, KIP848:
		return s.group(ctx)
	case Static:
		return s.static(ctx)
	case Assign:
		return s.assign(ctx)
	case Streams:
		return s.streams(ctx)
	default:
		return errors.New("no feature " + string(s.feature))
	}
}

// summary is how often each program said what.
func summary(events []oracle.Event) string {
	times := make(map[string]int)
	for _, e := range events {
		times[e.Run+" "+e.Kind]++
	}
	return fmt.Sprint(times)
}

// count is how many records a log has.
func count(l oracle.Log) (n int) {
	for _, records := range l {
		n += len(records)
	}
	return n
}

// said reports whether a program has said something.
func said(run, kind string) func([]oracle.Event) bool {
	return func(events []oracle.Event) bool {
		return slices.ContainsFunc(events, func(e oracle.Event) bool { return e.Run == run && e.Kind == kind })
	}
}

// holds reports whether a program has so many partitions, or more, now.
func holds(run string, n int) func([]oracle.Event) bool {
	return func(events []oracle.Event) bool {
		has := make(map[int32]bool)
		for _, e := range events {
			if e.Run != run {
				continue
			}
			for _, p := range e.Partitions {
				if has[p] = true; e.Kind != oracle.Assigned {
					delete(has, p)
				}
			}
		}
		return len(has) >= n
	}
}

// read reports whether so many different records were read by the programs of a name or a group, less those that it need not read.
func read(who string, n int) func([]oracle.Event) bool {
	return func(events []oracle.Event) bool {
		ids := make(map[int64]bool)
		for _, e := range events {
			if e.Kind == oracle.Read && (e.Run == who || e.Group == who) {
				ids[e.ID] = true
			}
		}
		return len(ids) >= n
	}
}
