package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// fakeNode answers for a fabric of two links: eu-us with the topics orders and payments, us-eu with orders. Its settings are
// real, its plans are not: link fields touch the topics of the link.
type fakeNode struct {
	name     string
	settings *gossip.Settings
	owned    func(topic string, partition int32) bool
	peers    []Peer
	rotated  []*adminpb.KeyOutcome
	missing  string // a link that it does not know

	mu       sync.Mutex
	stops    string // of every plan
	broken   error  // of every call
	position int64  // of every partition
	end      int64  // of every partition's source
	anchored []string
	planted  map[string]*adminpb.Difference // by topic:partition
	unread   error                          // of Verify of payments
	hurried  []string                       // routers
	flushed  int                            // times
	drills   []*adminpb.Drill               // noted
	hold     chan struct{}                  // Verify says here that it began, and does not end by itself
}

func newFake(name string) *fakeNode {
	return &fakeNode{name: name, position: 10, end: fakeRecords, settings: gossip.NewSettings(gossip.NewClock(name, time.Now)),
		owned: func(string, int32) bool { return true }}
}

func (n *fakeNode) fails() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broken
}

var fakeLinks = map[string][]string{"eu-us": {"orders", "payments"}, "us-eu": {"orders"}}

const fakePartitions = 3

func (n *fakeNode) Status(context.Context) (*adminpb.StatusResponse, error) {
	st := &adminpb.StatusResponse{Node: &adminpb.Node{Name: n.name}}
	for _, name := range []string{"eu-us", "us-eu"} {
		if name == n.missing {
			continue
		}
		l := &adminpb.Link{Name: name, From: name[:2], To: name[3:], Up: true}
		for _, topic := range fakeLinks[name] {
			f := &adminpb.Flow{Topic: topic}
			for p := range int32(fakePartitions) {
				part := &adminpb.Partition{Partition: p, State: adminpb.State_STATE_ELSEWHERE}
				if n.owned(topic, p) {
					part.State, part.SourceNext, part.LagRecords = adminpb.State_STATE_RUNNING, 10, 1
				}
				f.Partitions = append(f.Partitions, part)
			}
			l.Flows = append(l.Flows, f)
		}
		st.Links = append(st.Links, l)
	}
	return st, n.fails()
}

func (n *fakeNode) Translate(_ context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	switch {
	case n.fails() != nil:
		return nil, n.fails()
	case !slices.Contains(fakeLinks[req.Link], req.Topic) || req.Partition >= fakePartitions:
		return nil, fmt.Errorf("topic %q: %w", req.Topic, ErrUnknown)
	case !n.owned(req.Topic, req.Partition):
		return nil, ErrElsewhere
	}
	return &adminpb.TranslateResponse{From: "eu", To: "us", Topic: req.Topic, Partition: req.Partition, Offset: req.Offset, Result: req.Offset + 7}, nil
}

func (n *fakeNode) Ledger(_ context.Context, link string) ([]*adminpb.LedgerEntry, error) {
	if link != "" && fakeLinks[link] == nil {
		return nil, fmt.Errorf("link %q: %w", link, ErrUnknown)
	}
	at := timestamppb.New(time.Unix(1e9, 0))
	return []*adminpb.LedgerEntry{
		{Link: "eu-us", Topic: "orders", First: 1, Last: 2, At: at, Writer: "all"},
		{Link: "eu-us", Topic: "payments", First: 3, Last: 4, At: at, Writer: n.name},
	}, n.fails()
}

func (n *fakeNode) Health() Health { return Health{} }

func (n *fakeNode) Nodes(context.Context) (*adminpb.NodesResponse, error) {
	return &adminpb.NodesResponse{Node: &adminpb.Node{Name: n.name}, Members: []*adminpb.Member{{Name: n.name, Status: adminpb.MemberStatus_MEMBER_STATUS_ALIVE}}}, n.fails()
}

func (n *fakeNode) Owners(context.Context) (out []*adminpb.Owner, err error) {
	for link, topics := range fakeLinks {
		for _, topic := range topics {
			for p := range int32(fakePartitions) {
				o := &adminpb.Owner{Link: link, Topic: topic, Partition: p, Owner: n.name, Why: "by its hash"}
				if !n.owned(topic, p) && len(n.peers) > 0 {
					o.Owner = n.peers[0].Name
				}
				out = append(out, o)
			}
		}
	}
	return out, n.fails()
}

func (n *fakeNode) RotateKey(context.Context, bool) ([]*adminpb.KeyOutcome, error) {
	return n.rotated, n.fails()
}

func (n *fakeNode) Peers() []Peer { return n.peers }

func (n *fakeNode) Settings(context.Context) (*adminpb.SettingsResponse, error) {
	res := &adminpb.SettingsResponse{}
	for _, v := range n.settings.All() {
		if !v.Deleted {
			res.Settings = append(res.Settings, &adminpb.Setting{Key: v.Key, Value: string(v.Value), Version: v.Version.String(), Author: v.Author, Reason: v.Reason})
		}
	}
	return res, n.fails()
}

func (n *fakeNode) History(_ context.Context, limit int) (out []*adminpb.PastChange, err error) {
	for _, p := range n.settings.History(limit) {
		c := &adminpb.PastChange{Version: p.Change.Version.String(), Author: p.Change.Author, Reason: p.Change.Reason}
		for _, e := range p.Change.Entries {
			c.Entries = append(c.Entries, &adminpb.PastEntry{Key: e.Key, Value: string(e.Value), Unset: e.Deleted})
		}
		out = append(out, c)
	}
	return out, n.fails()
}

func (n *fakeNode) Export(context.Context) (*adminpb.ExportResponse, error) {
	return &adminpb.ExportResponse{File: "[fabric]\n"}, n.fails()
}

func (n *fakeNode) Plan(_ context.Context, p Proposal) (*Plan, error) {
	if err := n.fails(); err != nil {
		return nil, err
	}
	plan := &Plan{Stops: n.stops}
	entries := p.Entries
	switch {
	case p.File == "bad":
		return nil, errors.Join(&FieldError{"file", "line 1: no"}, &FieldError{"file", "line 2: no"})
	case p.File != "":
		entries = []gossip.Entry{{Key: "link/eu-us/topics", Value: []byte(p.File)}, {Key: "cluster/mars", Value: []byte("present")}}
	case !p.Undo.IsZero():
		c, err := n.settings.Undo(p.Undo)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		entries = c.Entries
	}
	for _, e := range entries {
		now, _ := n.settings.Get(e.Key)
		switch {
		case !e.Base.IsZero() && e.Base != now.Version:
			return nil, fmt.Errorf("setting %s: %w: %s wrote it", e.Key, gossip.ErrConflict, now.Author)
		case string(now.Value) == string(e.Value) && now.Deleted == e.Deleted:
			continue
		}
		e.Base = now.Version
		plan.Change.Entries = append(plan.Change.Entries, e)
		plan.Lines = append(plan.Lines, fmt.Sprintf("%s becomes %s", e.Key, e.Value))
		if parts := strings.Split(e.Key, "/"); parts[0] == "link" {
			if fakeLinks[parts[1]] == nil {
				return nil, &FieldError{"key", "no such link"}
			}
			plan.Touches = append(plan.Touches, Touch{Link: parts[1], Topics: fakeLinks[parts[1]]})
		}
	}
	return plan, nil
}

func (n *fakeNode) Write(_ context.Context, c gossip.Change) (Written, error) {
	if err := n.fails(); err != nil {
		return Written{}, err
	}
	done, err := n.settings.Propose(c)
	return Written{Version: done.Version, Note: "written by the fake"}, err
}

// logbook keeps what was logged.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// city is a network in memory with servers in it.
type city struct {
	net pipes
	log *logbook
}

func newCity() *city { return &city{net: pipes{}, log: &logbook{}} }

// add runs a server for a node until the test ends; its gRPC address is NAME:1, its HTTP address NAME:2.
func (c *city) add(t *testing.T, name string, node Node, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{Name: name, GRPC: name + ":1", HTTP: name + ":2", Insecure: true, Metrics: prometheus.NewRegistry(), Listen: c.net.listen, DialPeer: c.net.dial}
	c.net[cfg.GRPC], c.net[cfg.HTTP] = bufconn.Listen(1<<20), bufconn.Listen(1<<20)
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(cfg, node, slog.New(slog.NewTextHandler(c.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	runs(t, s)
	return s
}

// client dials a node's gRPC address.
func (c *city) client(t *testing.T, name string, login Login) *Client {
	t.Helper()
	login.Insecure = true
	opts, err := login.Options(name + ":1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := Dial(name+":1", append(opts, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return c.net.dial(ctx, address)
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// patterns are those of a test.
func patterns(t *testing.T, texts ...string) (out topology.Patterns) {
	t.Helper()
	for _, text := range texts {
		p, err := topology.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}
