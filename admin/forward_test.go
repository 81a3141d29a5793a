package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

var fabricKey = []byte("0123456789abcdef0123456789abcdef")

// fabric is a city of nodes that share the work by partition and know each other.
func fabric(t *testing.T, change func(name string, c *Config), names ...string) (*city, map[string]*fakeNode) {
	t.Helper()
	town, nodes := newCity(), make(map[string]*fakeNode)
	for i, name := range names {
		n := newFake(name)
		n.owned = func(_ string, p int32) bool { return int(p)%len(names) == i }
		for _, other := range names {
			if other != name {
				n.peers = append(n.peers, Peer{Name: other, Address: other + ":1"})
			}
		}
		nodes[name] = n
	}
	for _, name := range names {
		town.add(t, name, nodes[name], func(c *Config) {
			c.Keys = func() [][]byte { return [][]byte{fabricKey} }
			if change != nil {
				change(name, c)
			}
		})
	}
	return town, nodes
}

func TestForward_AnyNodeAnswersForAll(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b", "c")
	nodes["b"].missing = "us-eu"
	if st, err := town.client(t, "a", Login{}).Status(t.Context(), "us-eu", false); err != nil || len(st.Unanswered) != 0 {
		t.Errorf("of a link that b does not know: %v, %v, want no word about b: it answered", st.GetUnanswered(), err)
	}
	nodes["b"].missing = ""
	for _, name := range []string{"a", "b", "c"} {
		c := town.client(t, name, Login{})
		st, err := c.Status(t.Context(), "eu-us", true)
		if err != nil || len(st.Unanswered) != 0 || len(st.Links) != 1 || len(st.Links[0].Flows) != 2 {
			t.Fatalf("node %s: %v, %v", name, st, err)
		}
		for i, want := range []string{"a", "b", "c"} {
			if p := st.Links[0].Flows[0].Partitions[i]; p.Node != want || p.State != running {
				t.Errorf("node %s says partition %d is %v, want it from %s", name, i, p, want)
			}
			res, err := c.Translate(t.Context(), &adminpb.TranslateRequest{Link: "eu-us", Topic: "orders", Partition: int32(i), Offset: 5})
			if err != nil || res.Result != 12 {
				t.Errorf("node %s translates partition %d: %v, %v", name, i, res, err)
			}
		}
		if st.Links[0].Flows[0].Running != 3 {
			t.Errorf("node %s says that %d run", name, st.Links[0].Flows[0].Running)
		}
		own, err := c.LocalStatus(t.Context(), "eu-us", false)
		if err != nil || own.Links[0].Flows[0].Running != 1 {
			t.Errorf("node %s of itself: %v, %v, want one that runs", name, own, err)
		}
		var writers []string
		if err := c.Ledger(t.Context(), "eu-us", func(e *adminpb.LedgerEntry) error { writers = append(writers, e.Writer); return nil }); err != nil {
			t.Error(err)
		}
		if want := []string{"all", "a", "b", "c"}; !slices.Equal(writers, want) {
			t.Errorf("node %s has the ledger entries of %q, want %q", name, writers, want)
		}
		owners, err := c.Owners(t.Context(), "eu-us", "orders")
		if err != nil || len(owners.Owners) != 3 || !slices.Equal(owners.Owners[1].Copies, []string{"b"}) || owners.Owners[1].State != running {
			t.Errorf("node %s says of owners: %v, %v", name, owners, err)
		}
		if _, err := c.Status(t.Context(), "eu-mars", false); !errors.Is(err, ErrUnknown) {
			t.Errorf("an unknown link: %v", err)
		}
		if _, err := c.Owners(t.Context(), "", "mars"); !errors.Is(err, ErrUnknown) {
			t.Errorf("an unknown topic: %v", err)
		}
		if _, err := c.Translate(t.Context(), &adminpb.TranslateRequest{Link: "eu-us", Topic: "mars"}); !errors.Is(err, ErrUnknown) {
			t.Errorf("an unknown topic: %v", err)
		}
	}
}

func TestForward_NamesWhoDoesNotAnswer(t *testing.T) {
	town, nodes := fabric(t, func(name string, c *Config) {
		if name == "stranger" {
			c.Keys = func() [][]byte { return [][]byte{[]byte("another key of thirty-two bytes.")} }
		}
	}, "a", "b", "stranger")
	nodes["a"].peers = append(nodes["a"].peers, Peer{Name: "gone", Address: "gone:1"}, Peer{Name: "dead", Trouble: "dead since noon"}, Peer{Name: "odd", Address: "odd"})
	c := town.client(t, "a", Login{})
	st, err := c.Status(t.Context(), "", true)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"dead": "dead since noon", "gone": "connection refused", "odd": "not host:port", "stranger": "another gossip key"}
	if len(st.Unanswered) != len(want) {
		t.Errorf("unanswered: %v, want %v", st.Unanswered, want)
	}
	for _, u := range st.Unanswered {
		if want[u.Node] == "" || !strings.Contains(u.Trouble, want[u.Node]) {
			t.Errorf("%s does not answer: %q, want %q", u.Node, u.Trouble, want[u.Node])
		}
	}
	states := []adminpb.State{running, running, elsewhere}
	for i, p := range st.Links[0].Flows[0].Partitions {
		if p.State != states[i] {
			t.Errorf("partition %d is %v, want %v", i, p.State, states[i])
		}
	}
	var last *adminpb.LedgerEntry
	if err := c.Ledger(t.Context(), "", func(e *adminpb.LedgerEntry) error { last = e; return nil }); err != nil || len(last.GetUnanswered()) != len(want) {
		t.Errorf("the ledger ends with %v (%v), want who does not answer", last, err)
	}
	_, err = c.Translate(t.Context(), &adminpb.TranslateRequest{Link: "eu-us", Topic: "orders", Partition: 2})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no node that answers copies it") {
		t.Errorf("translate of what nobody has: %v", err)
	}
	if !strings.Contains(town.log.String(), "outcome=refused") {
		t.Error("the stranger's refusal is not in the audit")
	}
}

// A node that is slow costs its timeout and no more.
func TestForward_DoesNotWaitForTheSlow(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b")
	nodes["slow"] = newFake("slow")
	town.add(t, "slow", slowNode{nodes["slow"]}, func(c *Config) { c.Keys = func() [][]byte { return [][]byte{fabricKey} } })
	nodes["a"].peers = append(nodes["a"].peers, Peer{Name: "slow", Address: "slow:1"})
	begin := time.Now()
	st, err := town.client(t, "a", Login{}).Status(t.Context(), "", true)
	if err != nil || len(st.Unanswered) != 1 || !strings.Contains(st.Unanswered[0].Trouble, "did not answer in time") {
		t.Fatalf("got %v, %v", st.GetUnanswered(), err)
	}
	if took := time.Since(begin); took > 2*peerTimeout {
		t.Errorf("it took %v", took)
	}
}

type slowNode struct{ *fakeNode }

func (n slowNode) Status(ctx context.Context) (*adminpb.StatusResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What a node asks for somebody is not asked again of others, so that nodes that know each other do not ask in circles.
func TestForward_OneHop(t *testing.T) {
	town, nodes := fabric(t, nil, "a", "b")
	nodes["b"].peers = append(nodes["b"].peers, Peer{Name: "gone", Address: "gone:1"})
	s := sealed("a", "b", adminpb.Admin_Status_FullMethodName)
	req := &adminpb.StatusRequest{Fabric: true, Partitions: true}
	s.digest = requestDigest(req)
	st, err := town.client(t, "b", Login{}).api.Status(metadata.NewOutgoingContext(t.Context(), s.sign([][]byte{fabricKey})), req)
	if err != nil || len(st.Unanswered) != 0 || st.Links[0].Flows[0].Partitions[0].State != elsewhere {
		t.Errorf("got %v, %v, want what b knows itself", st, err)
	}
	s.method = adminpb.Admin_Ledger_FullMethodName
	all := &adminpb.LedgerRequest{Fabric: true}
	s.digest = requestDigest(all)
	stream, err := town.client(t, "b", Login{}).api.Ledger(metadata.NewOutgoingContext(t.Context(), s.sign([][]byte{fabricKey})), all)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			break
		}
		if len(e.Unanswered) > 0 || e.Writer == "a" {
			t.Errorf("the ledger has %v, want what b knows itself", e)
		}
	}
}

func sealed(from, to, method string) seal {
	return seal{from: from, to: to, asks: "ana", method: method, at: time.Now().UnixMilli(), digest: requestDigest(&adminpb.StatusRequest{})}
}

func TestPeer_CredentialsAreOfOneCall(t *testing.T) {
	keys := [][]byte{fabricKey}
	town, _ := fabric(t, func(_ string, c *Config) { c.Access = people(t) }, "a", "b")
	b := town.client(t, "b", Login{}).api
	ask := func(md metadata.MD, req *adminpb.StatusRequest) error {
		_, err := b.Status(metadata.NewOutgoingContext(t.Context(), md), req)
		return err
	}
	used := sealed("a", "b", adminpb.Admin_Status_FullMethodName).sign(keys)
	good := func(change func(*seal)) metadata.MD {
		s := sealed("a", "b", adminpb.Admin_Status_FullMethodName)
		change(&s)
		return s.sign(keys)
	}
	if err := ask(used, &adminpb.StatusRequest{}); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	with := func(md metadata.MD, key string, values ...string) metadata.MD { md.Set(key, values...); return md }
	none := func(*seal) {}
	for _, tc := range []struct {
		name string
		md   metadata.MD
		req  *adminpb.StatusRequest
		want string
	}{
		{"again", used, &adminpb.StatusRequest{}, "it was used before"},
		{"of another request", good(none), &adminpb.StatusRequest{Link: "eu-us"}, "of another request"},
		{"for another node", good(func(s *seal) { s.to = "c" }), &adminpb.StatusRequest{}, "another gossip key, or means another node than b"},
		{"of another method", good(func(s *seal) { s.method = adminpb.Admin_Ledger_FullMethodName }), &adminpb.StatusRequest{}, "another gossip key"},
		{"under another name", with(good(none), peerName, "c"), &adminpb.StatusRequest{}, "another gossip key"},
		{"for somebody else", with(good(none), peerFor, "admin"), &adminpb.StatusRequest{}, "another gossip key"},
		{"at another time", with(good(none), peerTime, "1"), &adminpb.StatusRequest{}, "another gossip key"},
		{"with another nonce", with(good(none), peerNonce, strings.Repeat("0", 32)), &adminpb.StatusRequest{}, "another gossip key"},
		{"too old", good(func(s *seal) { s.at -= 31_000 }), &adminpb.StatusRequest{}, "its time is not ours"},
		{"too new", good(func(s *seal) { s.at += 31_000 }), &adminpb.StatusRequest{}, "its time is not ours"},
		{"without a proof", metadata.Pairs(peerName, "a"), &adminpb.StatusRequest{}, "not whole"},
		{"twice", with(good(none), peerMAC, "00", "00"), &adminpb.StatusRequest{}, "not whole"},
		{"with another key", sealed("a", "b", adminpb.Admin_Status_FullMethodName).sign([][]byte{[]byte("other")}), &adminpb.StatusRequest{}, "another gossip key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := ask(tc.md, tc.req); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want Unauthenticated with %q", err, tc.want)
			}
		})
	}
	t.Run("for what nodes do not ask of each other", func(t *testing.T) {
		s := sealed("a", "b", adminpb.Admin_Export_FullMethodName)
		s.digest = requestDigest(&adminpb.ExportRequest{})
		if _, err := b.Export(metadata.NewOutgoingContext(t.Context(), s.sign(keys)), &adminpb.ExportRequest{}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("got %v, want PermissionDenied", err)
		}
	})
	t.Run("for a write", func(t *testing.T) {
		s := sealed("a", "b", adminpb.Admin_Drain_FullMethodName)
		req := &adminpb.DrainRequest{Node: "b"}
		s.digest = requestDigest(req)
		if _, err := b.Drain(metadata.NewOutgoingContext(t.Context(), s.sign(keys)), req); status.Code(err) != codes.PermissionDenied {
			t.Errorf("got %v, want PermissionDenied", err)
		}
	})
	t.Run("for the ledger of another link", func(t *testing.T) {
		s := sealed("a", "b", adminpb.Admin_Ledger_FullMethodName)
		s.digest = requestDigest(&adminpb.LedgerRequest{})
		stream, err := b.Ledger(metadata.NewOutgoingContext(t.Context(), s.sign(keys)), &adminpb.LedgerRequest{Link: "eu-us"})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("got %v, want Unauthenticated", err)
		}
	})
}

func TestPeer_WithoutKeysNodesOfIdentitiesAreRefused(t *testing.T) {
	town, _ := fabric(t, func(_ string, c *Config) { c.Access, c.Keys = people(t), nil }, "a", "b")
	st, err := town.client(t, "a", Login{Token: tokenFor("viewer")}).Status(t.Context(), "", true)
	if err != nil || len(st.Unanswered) != 1 || !strings.Contains(st.Unanswered[0].Trouble, "gossip_key") {
		t.Errorf("got %v, %v, want that b wants a key", st.GetUnanswered(), err)
	}
	open, _ := fabric(t, func(_ string, c *Config) { c.Keys = nil }, "a", "b")
	if st, err := open.client(t, "a", Login{}).Status(t.Context(), "", true); err != nil || len(st.Unanswered) != 0 {
		t.Errorf("without identities: %v, %v, want an answer of b", st.GetUnanswered(), err)
	}
}

// Clocks that are an hour apart, a key that is being rotated, TLS: nodes find each other all the same.
func TestForward_OverClocksKeysAndTLS(t *testing.T) {
	ca := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	next := []byte("fedcba9876543210fedcba9876543210")
	town, _ := fabric(t, func(name string, c *Config) {
		c.Access = people(t)
		_, c.Access.TLS = ca.issue(t, name, hour).server(t)
		switch name {
		case "b":
			c.Now = func() time.Time { return time.Now().Add(50 * time.Minute) }
			c.Keys = func() [][]byte { return [][]byte{next, fabricKey} }
		case "c":
			c.Now = func() time.Time { return time.Now().Add(-50 * time.Minute) }
			c.Keys = func() [][]byte { return [][]byte{fabricKey, next} }
		}
	}, "a", "b", "c")
	for _, name := range []string{"b", "c"} {
		login := ca.issue(t, "ana", hour).login(t, name)
		login.Cert, login.Key, login.Token = "", "", tokenFor("viewer")
		c := town.client(t, name, login)
		for range 2 {
			st, err := c.Status(t.Context(), "", true)
			if err != nil {
				t.Fatal(err)
			}
			// a has the old key alone: it takes what is signed with that.
			refused := fmt.Sprint(st.Unanswered)
			if name == "c" && len(st.Unanswered) != 0 || name == "b" && (len(st.Unanswered) != 1 || st.Unanswered[0].Node != "a") {
				t.Errorf("node %s: unanswered %s", name, refused)
			}
		}
	}
}

func TestPeer_RemembersNoMoreThanItMust(t *testing.T) {
	hand := newHand()
	p := newPeerCheck("b", func() [][]byte { return [][]byte{fabricKey} }, false, hand.now)
	for i := range 3 * maxNonces / 2 {
		if i == maxNonces {
			hand.move(2*peerWindow + time.Second)
		}
		if err := p.once(seal{nonce: fmt.Sprint(i), at: hand.now().UnixMilli()}); err != nil {
			t.Fatalf("credential %d: %v", i, err)
		}
	}
	if len(p.seen) != maxNonces/2 {
		t.Errorf("it remembers %d", len(p.seen))
	}
	for i := range maxNonces {
		if err := p.once(seal{nonce: fmt.Sprint("x", i), at: hand.now().UnixMilli()}); err != nil {
			return // it is full, and says so
		}
	}
	t.Error("it never was full")
}

// Calls that go on at the same time do not take each other's connections away.
func TestForward_ManyAtOnce(t *testing.T) {
	town, _ := fabric(t, nil, "a", "b", "c")
	c := town.client(t, "a", Login{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 25 {
				if st, err := c.Status(t.Context(), "", true); err != nil || len(st.Unanswered) > 0 {
					t.Errorf("status: %v, unanswered %v", err, st.GetUnanswered())
					return
				}
			}
		})
		all.Go(func() {
			for range 25 { // a takes b for the owner of what c copies, and asks both
				if _, err := c.Translate(t.Context(), &adminpb.TranslateRequest{Link: "eu-us", Topic: "orders", Partition: 2}); err != nil {
					t.Errorf("translate: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
}

// Nodes may have another authority than people, if their files hold it; a certificate has to name the node's host.
func TestForward_KnowsNodesByTheirCertificates(t *testing.T) {
	ofPeople, ofNodes := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	town, _ := fabric(t, func(name string, c *Config) {
		c.Access = people(t)
		host := name
		if name == "c" {
			host = "elsewhere"
		}
		i := ofNodes.issue(t, host, hour)
		i.cert += ofNodes.pem
		i.ca = ofPeople.pem
		_, c.Access.TLS = i.server(t)
	}, "a", "b", "c")
	login := Login{ServerName: "a", Token: tokenFor("viewer")}
	login.CA, _ = secretFile(t, "ca.pem", ofNodes.pem)
	st, err := town.client(t, "a", login).Status(t.Context(), "", true)
	if err != nil || len(st.Unanswered) != 1 || st.Unanswered[0].Node != "c" || !strings.Contains(st.Unanswered[0].Trouble, "elsewhere") {
		t.Errorf("got %v, %v, want that c is not who it should be, and b an answer", st.GetUnanswered(), err)
	}
}

// What one call may ask at a time, all calls together may: else a viewer with many of them has the node hold answers without end.
func TestAskAll_BoundsAllCallsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForward("a", nil, nil, time.Now, nil)
		var now, most atomic.Int64
		var peers []Peer
		for i := range 20 {
			peers = append(peers, Peer{Name: fmt.Sprintf("n%02d", i)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var calls sync.WaitGroup
		var late atomic.Int64
		for range 10 {
			calls.Go(func() {
				for _, r := range askAll(ctx, f, peers, func(ctx context.Context, _ Peer) (int, error) {
					if n := now.Add(1); n > most.Load() {
						most.Store(n)
					}
					defer now.Add(-1)
					time.Sleep(time.Second)
					return 1, nil
				}) {
					if r.node == "" {
						t.Error("an answer of nobody")
					}
					if errors.Is(r.err, context.DeadlineExceeded) {
						late.Add(1)
					}
				}
			})
		}
		calls.Wait()
		if most.Load() != peersAtOnce {
			t.Errorf("%d nodes were asked at a time, want %d", most.Load(), peersAtOnce)
		}
		if late.Load() == 0 {
			t.Error("who has no time left still waits for his turn")
		}
	})
}
