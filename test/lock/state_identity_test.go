package lock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/node"
)

// losesEnd makes the broker lose the batches of a partition from an offset on, as a power cut does that comes before its disk has
// them: it is killed, the segment is cut, it starts with what is left.
func (s *site) losesEnd(t testing.TB, topic string, from int64) {
	t.Helper()
	s.Kill(0)
	segments, err := filepath.Glob(filepath.Join(s.DataDir(0), topic+"-0", "*.log"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("find the segment of %s: %v, %v", topic, segments, err)
	}
	raw, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	keep := 0
	for rest := raw; len(rest) > 0; {
		h, one, after, err := batch.Next(rest)
		if err != nil || h.BaseOffset >= from {
			break
		}
		rest, keep = after, keep+len(one)
	}
	if err := os.Truncate(segments[0], int64(keep)); err != nil {
		t.Fatal(err)
	}
	s.Start(0)
	s.ready(t)
	if end := s.end(t, topic, 0); end != from {
		t.Fatalf("%s ends at %d on %s after its end was cut off, want %d", topic, end, s.name, from)
	}
}

// again deletes a topic and creates it in the shadow of held metadata: no mirror sees that it was gone.
func (s *site) again(t testing.TB, topic string, paths ...*path) {
	t.Helper()
	for _, p := range paths {
		p.rule(func(c call) fate {
			if c.key == int16(kmsg.Metadata) {
				return drop
			}
			return pass
		})
	}
	s.deleteTopic(t, topic)
	s.create(t, topic, 1, nil)
	for _, p := range paths {
		p.rule(nil)
		p.reset() // what waits for a dropped answer asks again
	}
}

// TestIdentity_IdlePumpsSeeRecreation: a topic that is deleted and created again, on either side, is another topic. A pump that has nothing to do
// says so too, although the new topic has the old one's name, leader and epoch.
func TestIdentity_IdlePumpsSeeRecreation(t *testing.T) {
	for _, tc := range []struct {
		side  string
		again func(s *stage, o *owner)
	}{
		{"us", func(s *stage, o *owner) { s.us.again(s.t, s.topic, o.to) }},
		{"eu", func(s *stage, o *owner) { s.eu.again(s.t, s.topic, o.from) }},
	} {
		t.Run(tc.side, func(t *testing.T) {
			s := newStage(t, stageOptions{target: map[string]string{}})
			o := s.owner()
			s.eu.write(t, s.topic, numbered("before", 3, 100)...)
			o.caughtUp()
			tc.again(s, o)
			o.state(30*time.Second, mirror.StateHalted, "recreated")
			if p, _ := o.status(0); !strings.Contains(p.Reason, tc.side) {
				t.Errorf("the reason does not name %s: %s", tc.side, p.Reason)
			}
			at := s.us.end(t, s.topic, 0)
			s.eu.write(t, s.topic, rec("after"))
			o.stop()
			heir := s.owner() // whoever comes later knows it from the checkpoint
			heir.state(30*time.Second, mirror.StateHalted, "recreated")
			if end := s.us.end(t, s.topic, 0); end != at {
				t.Errorf("the mirror wrote on: the target ends at %d, not %d: %v", end, at, s.us.readLog(t, s.topic, 0))
			}
		})
	}
}

// TestIdentity_IdlePumpsSeeTruncation: either side loses acknowledged records; others come in their place at once, so that the log is as long as it was.
func TestIdentity_IdlePumpsSeeTruncation(t *testing.T) {
	for _, tc := range []struct{ side, state string }{{"us", "truncated-target"}, {"eu", "truncated-source"}} {
		t.Run(tc.side, func(t *testing.T) {
			s := newStage(t, stageOptions{target: map[string]string{}})
			at := map[string]*site{"us": s.us, "eu": s.eu}[tc.side]
			o := s.owner()
			s.eu.write(t, s.topic, numbered("kept", 3, 100)...)
			o.caughtUp()
			s.eu.write(t, s.topic, numbered("gone", 3, 100)...)
			o.caughtUp()
			node.Until(t, 20*time.Second, "the checkpoint covers everything", func(ctx context.Context) error { return s.checkpointed(ctx, 6) })
			at.losesEnd(t, s.topic, 3)
			at.write(t, s.topic, numbered("other", 4, 100)...)
			o.state(40*time.Second, mirror.StateHalted, tc.state)
			o.stop()
			heir := s.owner()
			heir.state(40*time.Second, mirror.StateHalted, tc.state)
			if log := s.us.readLog(t, s.topic, 0); tc.side == "eu" && holds(log, "other-3") {
				t.Errorf("the target went on as if nothing were missing: %v", log)
			}
		})
	}
}

// checkpointed is an error while no checkpoint of the stage's pump says that source offset next is reached.
func (s *stage) checkpointed(ctx context.Context, next int64) error {
	all, err := s.checkpoints(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.next >= next {
			return nil
		}
	}
	return fmt.Errorf("the checkpoints are %v, want one at %d", all, next)
}

// saved is what a checkpoint on the target says, as far as the tests read it.
type saved struct {
	key  string
	next int64
}

// checkpoints are all that were written for the stage's topic, in the order of their log; the format is in mirror/checkpoint.go.
func (s *stage) checkpoints(ctx context.Context) (out []saved, err error) {
	for p := range int32(4) {
		log, err := s.us.tryLog(ctx, "__isthmus.checkpoints", p)
		if err != nil {
			return nil, err
		}
		for _, r := range records(log) {
			if len(r.Key) < 2 || r.Key[1] != 'c' || !bytes.Contains(r.Key, []byte(s.topic)) || r.Value == nil {
				continue
			}
			next, ok := sourceNext(r.Value)
			if !ok {
				return nil, errors.New("a checkpoint cannot be read")
			}
			out = append(out, saved{string(r.Key), next})
		}
	}
	return out, nil
}
