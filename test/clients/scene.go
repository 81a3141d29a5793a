package clients

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/clients/program"
)

const (
	// written is how many records a producer writes, batch how many of them in a transaction.
	written, batch = 1000, 100
	// part is how many records consumers find, and then get each time something has changed.
	part = 300
	// seek is where a consumer begins that is told its partitions.
	seek = 20
)

// scene is one run of a feature, one way.
type scene struct {
	lab              *Lab
	t                testing.TB
	path             string // of the program
	feature          Feature
	bootstrap, topic string
	history          *program.History
	runs             []*program.Run
	facts            []string
}

func (s *scene) fact(format string, args ...any) {
	s.facts = append(s.facts, fmt.Sprintf(format, args...))
}

func (s *scene) output() string { return s.topic + "-output" }

// start starts the program in a role.
func (s *scene) start(name, group, role string, args ...string) *program.Run {
	s.t.Helper()
	args = append(args, "role="+role, "bootstrap="+s.bootstrap, "topic="+s.topic, fmt.Sprint("partitions=", partitions), "group="+s.topic)
	r := program.Start(s.t, s.history, name, group, s.path, args...)
	s.runs = append(s.runs, r)
	return r
}

// stop stops a program and does not come back to it.
func (s *scene) stop(r *program.Run) {
	s.t.Helper()
	r.Stop()
	s.runs = slices.DeleteFunc(s.runs, func(o *program.Run) bool { return o == r })
}

func (s *scene) produce(ctx context.Context) error {
	s.start("producer", "", "produce", "kind="+string(s.feature), "from=0", fmt.Sprint("records=", written), fmt.Sprint("batch=", batch), "rate=0", "txid="+s.topic)
	if err := s.history.Wait(ctx, "all to be sent", said("producer", oracle.Done)); err != nil || s.feature == Idempotent || s.feature == Transactional {
		return err
	}
	// What was not acknowledged by all replicas comes into sight when they have it.
	for {
		stored, err := s.lab.Stored(ctx, s.topic)
		if err != nil || count(stored) >= written {
			return err
		}
	}
}

// member starts one of the group.
func (s *scene) member(name string) *program.Run {
	s.t.Helper()
	return s.start(name, s.topic, "consume", "mode="+string(s.feature), "instance="+name)
}

// group is one consumer, then two, then one again; records come each time.
func (s *scene) group(ctx context.Context) error {
	if err := s.lab.Fill(ctx, s.history, s.topic, 0, part); err != nil {
		return err
	}
	s.member("first")
	if err := s.history.Wait(ctx, "the first to read all", read(s.topic, part)); err != nil {
		return err
	}
	second := s.member("second")
	if err := s.history.Wait(ctx, "the second to get partitions", holds("second", 1)); err != nil {
		return err
	}
	if err := s.stable(ctx); err != nil {
		return err
	}
	if err := s.more(ctx, 1); err != nil {
		return err
	}
	if err := s.kind(ctx); err != nil {
		return err
	}
	s.stop(second)
	if err := s.history.Wait(ctx, "the first to get all partitions", holds("first", partitions)); err != nil {
		return err
	}
	if err := s.stable(ctx); err != nil {
		return err
	}
	if err := s.more(ctx, 2); err != nil {
		return err
	}
	return s.positions(ctx)
}

// stable waits until nobody joins or leaves: what is read and committed meanwhile may be refused, which is no fault of anybody.
func (s *scene) stable(ctx context.Context) error {
	if s.feature == KIP848 {
		return nil
	}
	return until(ctx, func() error {
		d, err := s.lab.admin.DescribeGroups(ctx, s.topic)
		if err == nil && d[s.topic].State != "Stable" {
			err = fmt.Errorf("the group is %s", d[s.topic].State)
		}
		return err
	})
}

// static is two members that have names; one is started again, and the other must not notice.
func (s *scene) static(ctx context.Context) error {
	if err := s.lab.Fill(ctx, s.history, s.topic, 0, part); err != nil {
		return err
	}
	s.member("first")
	if err := s.history.Wait(ctx, "the first to get partitions", holds("first", 1)); err != nil {
		return err
	}
	second := s.member("second")
	if err := s.history.Wait(ctx, "the second to get partitions", holds("second", 1)); err != nil {
		return err
	}
	if err := s.more(ctx, 1); err != nil {
		return err
	}
	s.stop(second)
	before := len(moves(s.history.Events(), "first"))
	s.member("second")
	if err := s.history.Wait(ctx, "the second to get partitions again", holds("second", 1)); err != nil {
		return err
	}
	if err := s.more(ctx, 2); err != nil {
		return err
	}
	s.fact("the first noticed that the second was away: %v", len(moves(s.history.Events(), "first")) > before)
	if err := s.kind(ctx); err != nil {
		return err
	}
	return s.positions(ctx)
}

// moves are the times at which partitions came to a program or went.
func moves(events []oracle.Event, run string) (out []oracle.Event) {
	for _, e := range events {
		if e.Run == run && (e.Kind == oracle.Assigned || e.Kind == oracle.Revoked || e.Kind == oracle.Lost) && len(e.Partitions) > 0 {
			out = append(out, e)
		}
	}
	return out
}

// more writes the next records and waits until the group has read all.
func (s *scene) more(ctx context.Context, times int64) error {
	if err := s.lab.Fill(ctx, s.history, s.topic, times*part, part); err != nil {
		return err
	}
	return s.history.Wait(ctx, fmt.Sprintf("%d records to be read", (times+1)*part), read(s.topic, int(times+1)*part))
}

// kind notes what the cluster says of the group.
func (s *scene) kind(ctx context.Context) error {
	resp, err := kmsg.NewPtrListGroupsRequest().RequestWith(ctx, s.lab.client)
	if err != nil {
		return err
	}
	for _, g := range resp.Groups {
		if g.Group == s.topic {
			s.fact("the group is of type %q", g.GroupType)
		}
	}
	d, err := s.lab.admin.DescribeGroups(ctx, s.topic)
	if err != nil {
		return err
	}
	s.fact("%d members by %q", len(d[s.topic].Members), d[s.topic].Protocol)
	return nil
}

// positions waits until the group's are the ends of the partitions, as the cluster has them.
func (s *scene) positions(ctx context.Context) error {
	ends, err := s.lab.admin.ListEndOffsets(ctx, s.topic)
	if err != nil {
		return err
	}
	return until(ctx, func() error {
		at, err := s.lab.admin.FetchOffsets(ctx, s.topic)
		if err != nil {
			return err
		}
		for p, end := range ends[s.topic] {
			if o, ok := at.Lookup(s.topic, p); !ok || o.At != end.Offset {
				return fmt.Errorf("the position of partition %d is %d, and its end is %d", p, o.At, end.Offset)
			}
		}
		return nil
	})
}

// assign is a consumer in no group that begins where it is told.
func (s *scene) assign(ctx context.Context) error {
	if err := s.lab.Fill(ctx, s.history, s.topic, 0, part); err != nil {
		return err
	}
	s.start("reader", "", "consume", "mode=assign", fmt.Sprint("seek=", seek))
	if err := s.history.Wait(ctx, "what is there to be read", read("reader", part-partitions*seek)); err != nil {
		return err
	}
	if err := s.lab.Fill(ctx, s.history, s.topic, part, part); err != nil {
		return err
	}
	return s.history.Wait(ctx, "what came later to be read", read("reader", 2*part-partitions*seek))
}

// streams counts each key of one topic into another, each once.
func (s *scene) streams(ctx context.Context) error {
	if err := s.lab.Create(ctx, s.output()); err != nil {
		return err
	}
	if err := s.lab.Fill(ctx, &program.History{}, s.topic, 0, part); err != nil {
		return err
	}
	for id := range int64(2 * part) { // the application keeps the order of each partition that it reads, and of no two
		s.history.Add(oracle.Event{Run: fmt.Sprint("partition ", id%partitions), Kind: oracle.Sending, ID: id, To: id})
		s.history.Add(oracle.Event{Run: "streams", Kind: oracle.Acked, ID: id, Offset: -1})
	}
	s.start("streams", "", "streams", "output="+s.output())
	for times := 1; ; {
		stored, err := s.lab.Stored(ctx, s.output())
		if err != nil {
			return err
		}
		switch n := count(stored); {
		case n >= 2*part:
			return nil
		case n >= part && times == 1:
			times++
			if err := s.lab.Fill(ctx, &program.History{}, s.topic, part, part); err != nil {
				return err
			}
		}
		if err := s.history.Wait(ctx, "the application", func([]oracle.Event) bool { return true }); err != nil {
			return err
		}
	}
}

// admin is what people do to a cluster; what the program says of each step is a fact.
func (s *scene) admin(ctx context.Context) error {
	s.start("admin", "", "admin")
	err := s.history.Wait(ctx, "all steps", said("admin", oracle.Done))
	if err == nil && !slices.ContainsFunc(s.history.Events(), func(e oracle.Event) bool { return e.Kind == oracle.Step && !strings.HasPrefix(e.Result, "error") }) {
		return fmt.Errorf("no step succeeded")
	}
	return err
}
