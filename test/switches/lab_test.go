package switches

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/clients"
	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/clients/program"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

const (
	slots      = 3
	partitions = 3
	rate       = 50         // records a second of each producer
	records    = 10_000_000 // more than it can write
	// readPatience is how long it may take to read a topic.
	readPatience = 40 * time.Second
)

// lab is two real clusters that bring each other everything, a third for its vote, two nodes with a door each, and the clients there.
type lab struct {
	t         testing.TB
	sites     map[string]*node.Site
	nodes     []*node.Node
	setup     *node.Setup
	bootstrap string
	admin     *kadm.Client // through the doors
	clients   []*client
}

func newLab(t *testing.T) *lab { return newLabWith(t, nil, "") }

// newLabWith is newLab with something in the way of clients, nil for nothing, and more lines of the router. With those its second node is in the data center of the third cluster.
func newLabWith(t *testing.T, way *between, router string) *lab {
	t.Helper()
	quick := map[string]string{"group.initial.rebalance.delay.ms": "200"}
	sites := node.StartSitesWith(t, kafka.Options{Name: "eu", Properties: quick}, kafka.Options{Name: "us", Properties: quick})
	sites["ap"] = node.StartEmbedded(t, "ap")
	l := &lab{t: t, sites: sites}
	more, names := "", []string{"eu-1", "eu-2"}
	var doors []string
	for _, n := range names {
		port := node.FreeRow(t, 1+slots)
		doors = append(doors, fmt.Sprintf("127.0.0.1:%d", port))
		listens := "127.0.0.1"
		if way != nil {
			listens = "127.0.0.2"
			for p := port; p <= port+slots; p++ {
				way.listen(fmt.Sprintf("127.0.0.1:%d", p), fmt.Sprintf("%s:%d", listens, p))
			}
		}
		more += fmt.Sprintf("[[router]]\nname = \"shop\"\nnode = %q\nlisten = \"%s:%d\"\nadvertise = \"127.0.0.1\"\nslots = \"%d-%d\"\nhome = \"eu\"\n%s", n, listens, port, port+1, port+slots, router)
	}
	l.bootstrap = strings.Join(doors, ",")
	second := "frankfurt"
	if router != "" {
		second = "singapore"
	}
	fleet := node.NewFleet(t, node.Fleet{Name: "switches", Sites: []*node.Site{sites["eu"], sites["us"], sites["ap"]}, Nodes: append(names, "us-1"), More: more,
		DCs:   map[string]string{"eu": "frankfurt", "us": "virginia", "ap": "singapore", "eu-1": "frankfurt", "eu-2": second, "us-1": "virginia"},
		Links: []string{"eu>us", "us>eu"}, Topics: []string{"run-*"}})
	l.setup = fleet
	for _, n := range append(names, "us-1") {
		l.nodes = append(l.nodes, fleet.Node(n))
	}
	for _, n := range l.nodes {
		n.Start()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(doors...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	l.admin = kadm.NewClient(cl)
	node.Until(t, time.Minute, "the doors serve", func(ctx context.Context) error {
		_, err := l.admin.BrokerMetadata(ctx)
		return errors.Join(err, l.homeIs(ctx, "eu", 0))
	})
	return l
}

// homeIs is an error while an instance is elsewhere.
func (l *lab) homeIs(ctx context.Context, home string, generation int64) error {
	got, err := l.nodes[len(l.nodes)-1].API.Routers(ctx, "shop")
	if err != nil {
		return err
	}
	if len(got.GetRouters()) != 2 {
		return fmt.Errorf("%d instances answer", len(got.GetRouters()))
	}
	for _, r := range got.GetRouters() {
		if len(r.GetSets()) != 1 {
			return fmt.Errorf("%s says nothing of its home", r.GetNode())
		}
		if s := r.GetSets()[0]; s.GetHome() != home || s.GetGeneration() != generation || s.GetTrouble() != "" {
			return fmt.Errorf("%s is at %s in generation %d: %s", r.GetNode(), s.GetHome(), s.GetGeneration(), s.GetTrouble())
		}
	}
	return nil
}

// goes switches the router by a node.
func (l *lab) goes(n *node.Node, kind adminpb.SwitchKind, to string) *adminpb.SwitchProgress {
	l.t.Helper()
	return l.goesWith(n, kind, to, nil)
}

// goesWith is goes; what at has for a step is done when that has begun.
func (l *lab) goesWith(n *node.Node, kind adminpb.SwitchKind, to string, at map[string]func()) *adminpb.SwitchProgress {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*time.Minute)
	defer cancel()
	var last *adminpb.SwitchProgress
	err := n.API.Switch(ctx, &adminpb.SwitchRequest{Router: "shop", To: to, Kind: kind, Why: "a test"}, func(p *adminpb.SwitchProgress) error {
		last = p
		if do := at[p.GetStep()]; do != nil {
			delete(at, p.GetStep())
			do()
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	var steps []string
	for _, s := range last.GetSteps() {
		steps = append(steps, fmt.Sprintf("%s %.0f", s.GetName(), 1000*s.GetSeconds()))
	}
	l.t.Logf("to %s: %s %s, clients stood for %.0f ms; ms of steps: %s", to, last.GetOutcome(), last.GetWhy(), 1000*last.GetGapSeconds(), strings.Join(steps, ", "))
	return last
}

// ready waits until a switch may begin.
func (l *lab) ready() {
	l.t.Helper()
	node.Until(l.t, time.Minute, "a switch may begin", func(ctx context.Context) error {
		var last *adminpb.SwitchProgress
		err := l.nodes[0].API.Switch(ctx, &adminpb.SwitchRequest{Router: "shop", To: "us", Kind: adminpb.SwitchKind_SWITCH_KIND_PLANNED, DryRun: true}, func(p *adminpb.SwitchProgress) error {
			last = p
			return nil
		})
		if err == nil && last.GetOutcome() != "ready" {
			err = errors.New(last.GetWhy())
		}
		return err
	})
}

// client is a producer, a group of two and a reader of one topic, of one library.
type client struct {
	l       *lab
	topic   string
	mode    clients.Feature
	aborts  bool // of transactions, which are judged elsewhere
	promise oracle.Promise
	history *program.History
	runs    []*program.Run // the producer is the last
}

// wanted are the clients of this run: a small set, or by ISTHMUS_CLIENTS those of some kinds, or all.
func wanted() (out []clients.Entry) {
	want := os.Getenv("ISTHMUS_CLIENTS")
	for _, e := range clients.Entries {
		if e.Kind == "kcat" { // its producer writes as fast as it can, and its library is confluent 2.0.2's
			continue
		}
		if want == "all" || want == "" && e.Small || slices.Contains(strings.Split(want, ","), e.Kind) {
			out = append(out, e)
		}
	}
	return out
}

// starts has a library's program write records until the end, and read them.
func (l *lab) starts(t *testing.T, e clients.Entry, mode clients.Feature) *client {
	t.Helper()
	return l.startsAs(t, e, mode, string(mode), "kind=idempotent")
}

// startsAs is starts under a name, with what the producer is to do.
func (l *lab) startsAs(t *testing.T, e clients.Entry, mode clients.Feature, name string, producer ...string) *client {
	t.Helper()
	path := e.Program(t)
	c := &client{l: l, topic: strings.ReplaceAll(fmt.Sprint("run-", e, "-", name), " ", "-"), mode: mode, history: &program.History{}}
	l.sites["eu"].Create(t, c.topic, partitions)
	l.sites["us"].Create(t, c.topic, partitions)
	for _, name := range []string{"first", "second"} {
		c.start(t, path, name, c.topic, "consume", "mode="+string(mode), "instance="+name)
	}
	if e.Has(clients.Assign) {
		c.start(t, path, "reader", "", "consume", "mode=assign", "seek=0")
	}
	c.start(t, path, "producer", "", "produce", append(producer, "from=0", fmt.Sprint("records=", records), fmt.Sprint("rate=", rate), "txid="+c.topic)...)
	l.clients = append(l.clients, c)
	return c
}

// produces has a library's program only write records until the end.
func (l *lab) produces(t *testing.T, e clients.Entry) {
	t.Helper()
	c := &client{l: l, topic: strings.ReplaceAll(fmt.Sprint("run-", e, "-alone"), " ", "-"), history: &program.History{}}
	l.sites["eu"].Create(t, c.topic, partitions)
	l.sites["us"].Create(t, c.topic, partitions)
	c.start(t, e.Program(t), "producer", "", "produce", "kind=idempotent", "from=0", fmt.Sprint("records=", records), fmt.Sprint("rate=", rate))
	l.clients = append(l.clients, c)
}

func (c *client) start(t *testing.T, path, name, group, role string, args ...string) {
	t.Helper()
	args = append(args, "role="+role, "bootstrap="+c.l.bootstrap, "topic="+c.topic, fmt.Sprint("partitions=", partitions), "group="+c.topic)
	c.runs = append(c.runs, program.Start(t, c.history, name, group, path, args...))
}

func (c *client) count(kind string, who ...string) (n int) {
	for _, e := range c.history.Events() {
		if e.Kind == kind && (len(who) == 0 || slices.Contains(who, e.Run)) {
			n++
		}
	}
	return n
}

// written is how many records were acknowledged, of those in transactions only what was committed.
func (c *client) written() (n int) {
	events := c.history.Events()
	committed := map[int64]bool{0: true}
	for _, e := range events {
		if e.Kind == oracle.Commit {
			committed[e.Tx] = true
		}
	}
	for _, e := range events {
		if e.Kind == oracle.Acked && committed[e.Tx] {
			n++
		}
	}
	return n
}

// end stops the producer, waits until all is read, and judges it.
func (c *client) end(ctx context.Context, t *testing.T) {
	t.Helper()
	c.runs[len(c.runs)-1].Stop()
	var err error
	for _, who := range [][]string{{"first", "second"}, {"reader"}} {
		if err == nil && (len(who) == 2 || len(c.runs) == 4) {
			err = c.history.Wait(ctx, fmt.Sprint("all to be read by ", who), func([]oracle.Event) bool { return c.count(oracle.Read, who...) >= c.written() })
		}
	}
	for _, r := range c.runs {
		r.Stop()
	}
	if err != nil {
		t.Errorf("%s: %v", c.topic, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	stored, err := c.l.stored(ctx, c.topic)
	if err != nil {
		t.Errorf("%s: %v", c.topic, err)
	}
	events := c.history.Events()
	for _, who := range []string{"first", "second", "reader"} {
		last := make(map[int32]int64)
		for _, e := range events {
			if e.Kind == oracle.Read && e.Run == who {
				last[e.Partition] = e.Offset
			}
		}
		t.Logf("%s: %s has read %d, up to %v", c.topic, who, c.count(oracle.Read, who), last)
	}
	t.Logf("%s: %d acknowledged, %d read, %d times given partitions, %d errors reported", c.topic, c.count(oracle.Acked), c.count(oracle.Read), c.count(oracle.Assigned), c.count(oracle.Error))
	judged := slices.DeleteFunc(slices.Clone(events), func(e oracle.Event) bool {
		return e.Kind == oracle.Error && (c.mode == clients.Cooperative && midRebalance.MatchString(e.Text) || c.aborts && strings.HasPrefix(e.Text, aborted)) || c.aborts && e.Kind == oracle.Failed
	})
	for _, wrong := range oracle.Judge(judged, stored, c.promise) {
		t.Errorf("%s: %s", c.topic, wrong)
	}
	texts := make(map[string]int)
	for _, e := range events {
		if e.Kind == oracle.Error || e.Kind == oracle.Failed {
			texts[e.Text]++
		}
	}
	for text, n := range texts {
		t.Logf("%s: %d times: %s", c.topic, n, text)
	}
}

// aborted is what programs say of a transaction that they had to abort.
const aborted = "transaction: "

// midRebalance is what consumers hear that commit while their group rebalances cooperatively: those of Java without asking anybody (KIP-429; KafkaConsumer.commitSync), others of
// any coordinator. They keep their partitions and commit a moment later. One rebalance is what a change of home costs a group.
var midRebalance = regexp.MustCompile("^commit: .*(RebalanceInProgressException|REBALANCE_IN_PROGRESS)")

// stored is what a reader finds who begins at the beginning, through the doors.
func (l *lab) stored(ctx context.Context, topic string) (oracle.Log, error) {
	ends, err := l.admin.ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return nil, err
	}
	log, left := make(oracle.Log), make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(l.bootstrap, ",")...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	at := make(map[int32]int64)
	for len(left) > 0 {
		got := cl.PollFetches(ctx)
		if err := got.Err(); err != nil {
			return nil, fmt.Errorf("read %s: by partition, the last offset was %v, and the end of what is not read to its end is %v: %w", topic, at, left, err)
		}
		got.EachRecord(func(r *kgo.Record) {
			at[r.Partition] = r.Offset
			if !r.Attrs.IsControl() { // those are read for the end only, which is behind one of them
				var id int64
				_, _ = fmt.Sscan(string(r.Value), &id)
				log[r.Partition] = append(log[r.Partition], oracle.Record{Offset: r.Offset, ID: id})
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return log, nil
}

// quantile of some durations, which are sorted by it.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return all[min(len(all)-1, int(q*float64(len(all))))]
}
