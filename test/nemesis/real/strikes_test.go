package real

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// strikes are what is done, and how often. Each undoes what it did, and says what it was.
var strikes = []struct {
	weight int
	name   string
	do     func(*stage) string
}{
	{4, "kill a node", (*stage).kill}, {3, "freeze a node", (*stage).freeze}, {3, "kill a broker", (*stage).broker},
	{2, "delete records", (*stage).shorten}, {1, "grow", (*stage).grow}, {2, "cut", (*stage).cut}, {2, "lose a direction", (*stage).half},
	{2, "slow", (*stage).slow}, {2, "reset", (*stage).reset}, {2, "make a topic anew", (*stage).recreate}, {2, "flip a policy", (*stage).policy},
	{1, "pause and resume", (*stage).halt}, {1, "retry", (*stage).retry}, {1, "anchor", (*stage).anchor}, {1, "change a topic", (*stage).configure},
	{1, "fill a disk", (*stage).fill}, {1, "move leaders", (*stage).elect},
}

// strike does one thing.
func (s *stage) strike() string {
	all := 0
	for _, k := range strikes {
		all += k.weight
	}
	at := s.rng.IntN(all)
	for _, k := range strikes {
		if at -= k.weight; at < 0 {
			return k.name + ": " + k.do(s)
		}
	}
	return ""
}

func (s *stage) node() *node.Node { return s.nodes[s.rng.IntN(len(s.nodes))] }
func (s *stage) site() *site      { return s.sites[s.rng.IntN(len(s.sites))] }

func (s *stage) kill() string {
	n := s.node()
	n.Kill()
	s.pause(time.Millisecond, 2*time.Second)
	n.Start()
	return n.Name
}

func (s *stage) freeze() string {
	n := s.node()
	n.Freeze()
	s.pause(500*time.Millisecond, 6*time.Second)
	n.Thaw()
	return n.Name
}

// broker kills one: of three it leads some partitions, which get other leaders.
func (s *stage) broker() string {
	at := s.site()
	i := s.rng.IntN(at.brokers)
	at.Kill(i)
	s.pause(time.Millisecond, time.Second)
	at.Start(i)
	return fmt.Sprintf("%d of %s", i, at.Name)
}

// elect gives every partition the leader it should have: those that were killed have none.
func (s *stage) elect() string {
	at := s.site()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	_, err := at.Admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil)
	return fmt.Sprintf("%s: %v", at.Name, err)
}

// faulty has relays of a site be faulty for a while: one of them, or all.
func (s *stage) faulty(w ways) string {
	at := s.site()
	hit := at.relays
	if i := s.rng.IntN(2 * len(hit)); i < len(hit) {
		hit = hit[i : i+1]
	}
	for _, r := range hit {
		r.become(w)
	}
	s.pause(300*time.Millisecond, 9*time.Second)
	for _, r := range hit {
		r.become(ways{})
	}
	return fmt.Sprintf("%d relays of %s: %+v", len(hit), at.Name, w)
}

func (s *stage) cut() string { return s.faulty(ways{cut: true}) }

func (s *stage) half() string {
	deaf := s.rng.IntN(2) == 0
	return s.faulty(ways{deaf: deaf, mute: !deaf})
}

func (s *stage) slow() string {
	return s.faulty(ways{delay: time.Duration(5+s.rng.IntN(150)) * time.Millisecond, perSecond: 20_000 + s.rng.IntN(500_000)})
}

func (s *stage) reset() string {
	at := s.site()
	for _, r := range at.relays {
		r.reset()
	}
	return at.Name
}

// policy changes one of both links, live and for good.
func (s *stage) policy() string {
	all := [][2]string{{"recreated", "new-incarnation"}, {"recreated", "halt"}, {"truncated_source", "keep"}, {"poison", "skip"}, {"poison", "dead-letter"},
		{"poison", "halt"}, {"byte_rate", "200000"}, {"byte_rate", "100000000"}}
	p := all[s.rng.IntN(len(all))]
	return p[0] + " = " + p[1] + s.set(p[0], p[1])
}

func (s *stage) halt() string {
	what := topic
	if s.rng.IntN(2) == 0 {
		what += ":" + strconv.Itoa(s.rng.IntN(partitions))
	}
	said := s.cli("pause", "eu-us", what, "--why", "nemesis")
	s.pause(500*time.Millisecond, 4*time.Second)
	return what + said + s.cli("resume", "eu-us", what)
}

func (s *stage) retry() string { return s.cli("retry", "eu-us") + s.cli("retry", "us-eu", topic) }

// anchor has a partition go on where its source's log begins or ends.
func (s *stage) anchor() string {
	req := &adminpb.AnchorRequest{Link: []string{"eu-us", "us-eu"}[s.rng.IntN(2)], Topic: topic, Partition: s.rng.Int32N(partitions), Why: "nemesis",
		At: []adminpb.AnchorAt{adminpb.AnchorAt_ANCHOR_AT_START, adminpb.AnchorAt_ANCHOR_AT_END}[s.rng.IntN(2)], DryRun: true}
	ctx, cancel := context.WithTimeout(s.t.Context(), 40*time.Second)
	defer cancel()
	said, err := s.nodes[0].API.Anchor(ctx, req)
	if err == nil {
		req.DryRun, req.Confirm = false, said.GetConfirm()
		_, err = s.nodes[0].API.Anchor(ctx, req)
	}
	return fmt.Sprintf("%s %s:%d at %v: %v", req.Link, topic, req.Partition, req.At, err)
}

// configure changes a setting of a topic, which the mirror brings to the other site.
func (s *stage) configure() string {
	at := s.site()
	all := [][2]string{{"max.message.bytes", "900000"}, {"max.message.bytes", "1048588"}, {"segment.bytes", "1048576"}, {"compression.type", "producer"},
		{"retention.ms", "86400000"}, {"retention.ms", "604800000"}}
	c := all[s.rng.IntN(len(all))]
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	_, err := at.Admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: c[0], Value: &c[1]}}, topic)
	return fmt.Sprintf("%s of %s: %v", c, at.Name, err)
}

// fill takes the last byte of a broker's disk, which ends the broker, and gives it back.
func (s *stage) fill() string {
	for _, at := range s.sites {
		if at.disk == nil {
			continue
		}
		if err := at.disk.fill(); err != nil {
			s.t.Error(err)
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), 15*time.Second)
		defer cancel()
		if err := at.Server.(*kafka.Cluster).Gone(ctx, 0); err != nil {
			at.Kill(0) // which is what it has asked for by then
		}
		at.disk.empty()
		at.Start(0)
		return at.Name
	}
	return "there is none"
}

// unseen says that some partition has no durable beginning yet: what is deleted before there is one was never promised to anybody, and no ledger names it.
func (s *stage) unseen() string {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	for _, n := range s.nodes {
		st, err := n.API.Status(ctx, "", true)
		if s.begun = s.begun || err == nil && len(node.Flow(st, "eu-us", topic).GetPartitions()) >= partitions && len(node.Flow(st, "us-eu", topic).GetPartitions()) >= partitions; s.begun {
			return ""
		}
	}
	return "nobody has begun yet"
}

// shorten deletes the beginning of a partition. An error means that nothing was deleted.
func (s *stage) shorten() string {
	if why := s.unseen(); why != "" {
		return why
	}
	at, part, percent := s.site(), s.rng.Int32N(partitions), 1+s.rng.Int64N(100)
	err := s.kept(at, part, func(ctx context.Context, start, end int64) error {
		to := start + (end-start)*percent/100
		return s.past.Cut(ctx, at.Client(), topic, part, start, to, func() error {
			var offsets kadm.Offsets
			offsets.AddOffset(topic, part, to, -1)
			r, err := at.Admin.DeleteRecords(ctx, offsets)
			return errors.Join(err, r.Error())
		})
	})
	return fmt.Sprintf("%d%% of %s:%d of %s: %v", percent, topic, part, at.Name, err)
}

// kept calls keep with the ends of a partition.
func (s *stage) kept(at *site, part int32, keep func(ctx context.Context, start, end int64) error) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	starts, err := at.Admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	ends, err := at.Admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return err
	}
	start, _ := starts.Lookup(topic, part)
	end, _ := ends.Lookup(topic, part)
	if err := errors.Join(start.Err, end.Err); err != nil {
		return err
	}
	return keep(ctx, start.Offset, end.Offset)
}

// settled waits until no transaction is open on a site: what stands behind one cannot be kept, and may yet be copied before it is deleted.
func (s *stage) settled(at *site) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 90*time.Second)
	defer cancel()
	began := time.Now()
	for {
		ends, err := at.Admin.ListEndOffsets(ctx, topic) // first: a mirror writes on
		if err == nil {
			var stable kadm.ListedOffsets
			if stable, err = at.Admin.ListCommittedOffsets(ctx, topic); err == nil {
				ends.Each(func(end kadm.ListedOffset) {
					if o, ok := stable.Lookup(topic, end.Partition); !ok || o.Err != nil || end.Err != nil || o.Offset < end.Offset {
						err = errors.Join(err, fmt.Errorf("partition %d is stable up to %d of %d (%w)", end.Partition, o.Offset, end.Offset, errors.Join(errUnsettled, o.Err, end.Err)))
					}
				})
			}
		}
		if err == nil {
			s.t.Logf("%s has settled after %v", at.Name, time.Since(began).Round(time.Millisecond))
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		s.pause(200*time.Millisecond, 400*time.Millisecond)
	}
}

var errUnsettled = errors.New("a transaction is open, or the broker has just begun")

// recreate deletes the topic of a site and makes it anew, while nobody writes to it there.
func (s *stage) recreate() string {
	if why := s.unseen(); why != "" {
		return why
	}
	at := s.site()
	at.load.Stop(s.t)
	defer s.write(at)
	details, err := at.Admin.ListTopics(s.t.Context(), topic)
	if err != nil || details[topic].Err != nil {
		return fmt.Sprintf("%s is away: %v, %v", at.Name, err, details[topic].Err)
	}
	if err := s.settled(at); err != nil {
		return fmt.Sprintf("%s does not settle: %v", at.Name, err)
	}
	for part := range int32(len(details[topic].Partitions)) {
		if err := s.kept(at, part, func(ctx context.Context, start, end int64) error {
			return s.past.Keep(ctx, at.Client(), topic, part, start, end, func() error { return nil })
		}); err != nil {
			return fmt.Sprintf("%s is away: %v", at.Name, err)
		}
	}
	was := details[topic].ID
	node.Until(s.t, time.Minute, "the topic is another one", func(ctx context.Context) error {
		now, err := at.Admin.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		switch t, ok := now[topic]; {
		case ok && t.Err == nil && t.ID != was && len(t.Partitions) >= partitions:
			return nil
		case ok && t.Err == nil && t.ID == was:
			_, err = at.Admin.DeleteTopics(ctx, topic)
		default: // a link may have made it
			_, err = at.Admin.CreateTopic(ctx, int32(s.parts), -1, nil, topic)
		}
		return errors.Join(errors.New("not yet"), err)
	})
	s.past.Remade(at.Name, topic, was)
	return at.Name
}

// grow gives the topic another partition at the first site; the mirror brings it to the other. Nobody writes to it.
func (s *stage) grow() string {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	r, err := s.sites[0].Admin.UpdatePartitions(ctx, s.parts+1, topic)
	if err = errors.Join(err, r.Error()); err == nil {
		s.parts++
	}
	return fmt.Sprintf("to %d: %v", s.parts, err)
}
