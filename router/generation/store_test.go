package generation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/router/identity"
	"github.com/isthmus-project/isthmus/router/journal"
)

// controls are kfake clusters in a bubble.
type controls struct {
	network kfake.VirtualNetwork
	fakes   []*kfake.Cluster
	mu      sync.Mutex
	away    map[int]bool
	conns   map[int][]net.Conn
}

func start(t *testing.T, n int) *controls {
	t.Helper()
	c := &controls{away: map[int]bool{}, conns: map[int][]net.Conn{}}
	for i := range n {
		fake, err := kfake.NewCluster(kfake.ListenFn(c.network.Listen), kfake.Ports(9100+i), kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fake.Close)
		c.fakes = append(c.fakes, fake)
	}
	return c
}

func (c *controls) set(i int, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away[i] = away
	for _, conn := range c.conns[i] {
		_ = conn.Close()
	}
	c.conns[i] = nil
}

// dial connects to a cluster; one that is away does not say anything.
func (c *controls) dial(i int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c.mu.Lock()
		gone := c.away[i]
		c.mu.Unlock()
		if gone {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		conn, err := c.network.DialContext(ctx, network, addr)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.conns[i] = append(c.conns[i], conn); err != nil {
			c.conns[i] = c.conns[i][:len(c.conns[i])-1]
		}
		return conn, err
	}
}

func (c *controls) clusters(t *testing.T) (out []*broker.Cluster) {
	t.Helper()
	for i := range c.fakes {
		cl, err := broker.Open(broker.Profile{Name: []string{"eu", "us", "ap"}[i], Bootstrap: []string{fmt.Sprintf("127.0.0.1:%d", 9100+i)}, Dial: c.dial(i)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		out = append(out, cl)
	}
	return out
}

func (c *controls) store(t *testing.T, node string) *Store {
	t.Helper()
	n := 0
	s := NewStore(c.clusters(t), Config{Router: "shop", Node: node, Now: Clock(), Unique: func() string { n++; return fmt.Sprint(node, ".", n) }})
	t.Cleanup(s.Close)
	return s
}

func lease(t *testing.T, s *Store, set string) Lease {
	t.Helper()
	r, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Lease(r, set)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestStore_OneAway: with one of three control clusters away a switch is prepared, taken over, decided and read, each within a second; who comes back is told
// what it missed. Of the other set nothing changes.
func TestStore_OneAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, 3)
		router, first, second := c.store(t, "router"), c.store(t, "first"), c.store(t, "second")
		now := router.cfg.Now
		if l := lease(t, router, ""); !l.Holds(now()) || l.Generation != 0 || l.Home != "" {
			t.Fatalf("at the beginning: %+v", l)
		}
		c.set(2, true)
		began := time.Now()
		p, err := first.Prepare(t.Context(), "")
		if err != nil || p.Round != 1 || p.Taken != nil || p.Generation != 0 {
			t.Fatalf("%+v, %v", p, err)
		}
		if l := lease(t, router, ""); l.Holds(now()) {
			t.Error("a lease while somebody has prepared")
		}
		if l := lease(t, router, "fast"); !l.Holds(now()) {
			t.Error("no lease in another set")
		}
		ref, err := first.WriteCut(t.Context(), "", []CutTopic{{"orders", 0, []int64{5, 6}, []int64{5, 6}, []int64{4, 6}, nil}})
		if err != nil {
			t.Fatal(err)
		}
		p2, err := second.Prepare(t.Context(), "")
		if err != nil || p2.Ballot.Compare(p.Ballot) <= 0 || p2.Taken != nil {
			t.Fatalf("%+v, %v", p2, err)
		}
		v := Value{Kind: Planned, Generation: 1, Home: "us", From: "eu", Switch: "s1", Cut: ref}
		if err := first.Propose(t.Context(), p, v); !errors.Is(err, ErrUnknown) {
			t.Errorf("the first, who was taken over from: %v", err)
		}
		if err := second.Propose(t.Context(), p2, v); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v with one control cluster away", d)
		}
		l := lease(t, router, "")
		if !l.Holds(now()) || l.Generation != 1 || l.Home != "us" {
			t.Errorf("after the switch: %+v", l)
		}
		if got, err := router.Cut(ref); err != nil || !reflect.DeepEqual(got[0].Left, []int64{4, 6}) {
			t.Errorf("%v, %v", got, err)
		}
		time.Sleep(LeaseLength)
		if l.Holds(now()) {
			t.Error("a lease without end")
		}
		// The next round tells who was away of the first.
		time.Sleep(4 * patience)
		c.set(2, false)
		p3, err := first.Prepare(t.Context(), "")
		if err != nil || p3.Round != 2 || p3.Home != "us" {
			t.Fatalf("%+v, %v", p3, err)
		}
		if got, there := first.controls[2].log.sets[""].decided[1]; !there || got != v {
			t.Errorf("who was away has %+v, %v", got, there)
		}
		if v, err := first.Abort(t.Context(), p3, Value{Kind: Stay, Generation: 1, Home: "us", Switch: "s2"}); err != nil || v.Kind != Stay {
			t.Errorf("%+v, %v", v, err)
		}
		c.set(0, true)
		late := c.store(t, "late")
		if l := lease(t, late, ""); !l.Holds(late.cfg.Now()) || l.Generation != 1 {
			t.Errorf("who starts without the first: %+v", l)
		}
		if st, _ := late.State(""); len(st.History) != 1 || st.Round != 3 {
			t.Errorf("%+v", st)
		}
		time.Sleep(4 * patience)
	})
}

// TestStore_TakenOver: a coordinator that was lost when its value stood in one log may have had it decided: who takes over finds it there and must go on with it,
// also who only wants to abort.
func TestStore_TakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, 3)
		first, second := c.store(t, "first"), c.store(t, "second")
		p, err := first.Prepare(t.Context(), "fast")
		if err != nil {
			t.Fatal(err)
		}
		v := Value{Kind: Planned, Generation: 1, Home: "us", From: "eu", Switch: "s1"}
		r := first.record(kindAccept, "fast")
		r.Round, r.Ballot, r.Value = p.Round, &p.Ballot, &v
		if err := first.append(t.Context(), first.controls[0], r); err != nil {
			t.Fatal(err)
		}
		c.set(2, true) // so that it is found
		p2, err := second.Prepare(t.Context(), "fast")
		if err != nil || p2.Taken == nil || *p2.Taken != v {
			t.Fatalf("%+v, %v", p2, err)
		}
		if err := second.Propose(t.Context(), p2, Value{Kind: Planned, Generation: 1, Home: "ap", From: "eu", Switch: "s2"}); !errors.Is(err, ErrBeaten) {
			t.Errorf("another value: %v", err)
		}
		if got, err := second.Abort(t.Context(), p2, Value{Kind: Stay, Home: "eu", Switch: "s2"}); err != nil || got != v {
			t.Errorf("%+v, %v", got, err)
		}
		if st, err := second.State("fast"); err != nil || st.Home != "us" || st.Open {
			t.Errorf("%+v, %v", st, err)
		}
		time.Sleep(4 * patience)
	})
}

// TestStore_AtOnce: of coordinators that begin at once, each with its own switch, one wins a generation, and all read the same.
func TestStore_AtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, 3)
		var all []*Store
		var won []string
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 4 {
			s := c.store(t, fmt.Sprint("node", i))
			all = append(all, s)
			wg.Go(func() {
				for range 10 {
					p, err := s.Prepare(t.Context(), "")
					if err != nil {
						if !errors.Is(err, ErrBeaten) && !errors.Is(err, ErrNoMajority) {
							t.Error(err)
						}
						time.Sleep(time.Duration(i+1) * 100 * time.Millisecond)
						continue
					}
					if p.Generation > 0 {
						_, _ = s.Abort(t.Context(), p, Value{Kind: Stay, Generation: p.Generation, Home: p.Home, Switch: s.cfg.Node})
						return
					}
					if err := s.Propose(t.Context(), p, Value{Kind: Planned, Generation: 1, Home: []string{"us", "ap"}[i%2], From: "eu", Switch: s.cfg.Node}); err == nil {
						mu.Lock()
						won = append(won, s.cfg.Node)
						mu.Unlock()
						return
					}
				}
			})
		}
		wg.Wait()
		var homes []string
		for _, s := range all {
			if _, err := s.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			st, err := s.State("")
			if err != nil || st.Generation != 1 {
				t.Errorf("%+v, %v", st, err)
			}
			homes = append(homes, st.History[0].Switch)
		}
		if len(won) > 1 || len(slices.Compact(homes)) != 1 {
			t.Errorf("%v won, %v is read", won, homes)
		}
	})
}

// TestStore_NoMajority: of two control clusters both are needed, and the error says what to do. A record of a newer version stops whoever reads it.
func TestStore_NoMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, 2)
		s := c.store(t, "eu-1")
		if l := lease(t, s, ""); !l.Holds(s.cfg.Now()) {
			t.Error("no lease with both")
		}
		c.set(1, true)
		if r, err := s.Read(t.Context()); !errors.Is(err, ErrNoMajority) || r.Read != 1 || !strings.Contains(err.Error(), "witness") || !strings.Contains(err.Error(), "cluster us") {
			t.Errorf("%+v, %v", r, err)
		}
		if _, err := s.Prepare(t.Context(), ""); !errors.Is(err, ErrNoMajority) {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := s.Read(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.Sleep(4 * patience)
		c.set(1, false)
		j := journal.New(s.cluster(t, c))
		defer j.Close()
		if err := j.Append(t.Context(), broker.Record{Key: []byte("shop/new/x"), Value: []byte(`{"v":5}`)}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it does not pass by itself
			if _, err := s.Read(t.Context()); !errors.Is(err, ErrVersion) {
				t.Errorf("%v", err)
			}
		}
	})
}

// cluster is the first control cluster.
func (s *Store) cluster(t *testing.T, c *controls) *broker.Cluster { return c.clusters(t)[0] }

// TestStore_Notes: bounds only grow, whoever reserves and restarts, and what they leave in the topic does not; plans are those of the highest ballot; and a node
// that reads claims only stops.
func TestStore_Notes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, 3)
		a, b := c.store(t, "a"), c.store(t, "b")
		for i := range int64(20) {
			for _, s := range []*Store{a, b} {
				if err := s.Reserve(t.Context(), "", Bound{"orders", []int64{i * 10, 7}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := b.Reserve(t.Context(), "", Bound{"orders", []int64{3, 9}}); err != nil {
			t.Fatal(err)
		}
		late := c.store(t, "late")
		if _, err := late.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := late.Bounds("")["orders"]; !slices.Equal(got, []int64{190, 9}) {
			t.Errorf("%v", got)
		}
		if n := len(late.controls[0].log.sets[""].bounds.live); n > 3 {
			t.Errorf("%d bounds are left in the topic", n)
		}
		low, high := Ballot{1, "a", "x"}, Ballot{2, "b", "y"}
		for _, p := range []Plan{{Switch: "s", Ballot: high, Seq: 1, Step: "hold"}, {Switch: "s", Ballot: high, Seq: 2, Step: "cut"}, {Switch: "s", Ballot: low, Seq: 9, Step: "late"}} {
			if err := a.WritePlan(t.Context(), "", p); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := late.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := late.Plans(""); len(got) != 1 || got[0].Step != "cut" || len(late.Plans("fast")) != 0 {
			t.Errorf("%+v", got)
		}
		old := identity.NewStore(a.cluster(t, c), "shop", "old", a.cfg.Unique, nil)
		defer old.Close()
		if err := old.Read(t.Context()); !errors.Is(err, identity.ErrVersion) {
			t.Errorf("a node that knows no switches: %v", err)
		}
		knows := identity.NewStore(a.cluster(t, c), "shop", "new", a.cfg.Unique, Owns("shop"))
		defer knows.Close()
		if err := knows.Read(t.Context()); err != nil {
			t.Errorf("a node that follows switches: %v", err)
		}
	})
}
