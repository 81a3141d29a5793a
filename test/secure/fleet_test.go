package secure

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/admin"
	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/node"
)

// guarded is a fabric whose gossip has a key, and whose API has certificates and tokens, in a folder of its own.
type guarded struct {
	*node.Setup
	t     testing.TB
	dir   string
	ca    *authority
	nodes []*node.Node
}

const guardedNodes = 3

func newGuarded(t testing.TB, sites ...*node.Site) *guarded {
	t.Helper()
	g := &guarded{t: t, dir: t.TempDir(), ca: newAuthority(t, "admin")}
	g.put("ca.pem", g.ca.pem)
	g.certify()
	g.put("gossip.key", []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))+"\n"))
	g.put("ops.token", []byte("the-first-token-of-ops\n"))
	var names []string
	for i := range guardedNodes {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	g.Setup = node.NewFleet(t, node.Fleet{
		Name: "guarded", Sites: sites, Links: []string{"eu>us"}, Topics: []string{"orders"}, Nodes: names, DCs: map[string]string{"n1": "a", "n2": "b", "n3": "c"},
		Fabric: fmt.Sprintf("gossip_key = \"file:%s\"\n", g.path("gossip.key")),
		More: fmt.Sprintf("[admin]\ntls = { cert = \"file:%s\", key = \"file:%s\" }\n[[admin.identity]]\nname = \"ops\"\ntoken = \"file:%s\"\nrole = \"admin\"\n",
			g.path("admin.pem"), g.path("admin.key"), g.path("ops.token")),
	})
	for _, n := range names {
		g.nodes = append(g.nodes, g.Node(n))
	}
	return g
}

func (g *guarded) path(name string) string { return filepath.Join(g.dir, name) }

func (g *guarded) put(name string, text []byte) {
	g.t.Helper()
	whole := g.path("." + name)
	if err := os.WriteFile(whole, text, 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(whole, g.path(name)); err != nil {
		g.t.Fatal(err)
	}
}

// certify gives the nodes another certificate.
func (g *guarded) certify() {
	i := g.ca.issue(g.t, "node", false)
	g.put("admin.pem", i.cert)
	g.put("admin.key", i.key)
}

// client asks a node with a token.
func (g *guarded) client(n *node.Node, token string) *admin.Client {
	g.t.Helper()
	address := g.GRPC(n.Name)
	opts, err := admin.Login{CA: g.path("ca.pem"), Token: token}.Options(address)
	if err != nil {
		g.t.Fatal(err)
	}
	c, err := admin.Dial(address, opts...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

// shown is the serial number of the certificate that a node shows.
func (g *guarded) shown(n *node.Node) (string, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(g.ca.pem)
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}}}
	conn, err := d.DialContext(g.t.Context(), "tcp", g.GRPC(n.Name))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// running is an error until every partition is copied by some node, and all nodes are alive and ready.
func (g *guarded) running(ctx context.Context, c *admin.Client, partitions int) error {
	for _, n := range g.nodes {
		if err := n.Alive(); err != nil {
			return err
		}
	}
	members, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, m := range members.GetMembers() {
		if m.GetStatus() != adminpb.MemberStatus_MEMBER_STATUS_ALIVE || !m.GetReady() {
			return fmt.Errorf("%s is %v, ready %t", m.GetName(), m.GetStatus(), m.GetReady())
		}
	}
	st, err := c.Status(ctx, "", true)
	if err != nil {
		return err
	}
	if got := node.Flow(st, "eu-us", "orders").GetRunning(); len(members.GetMembers()) != guardedNodes || int(got) != partitions || len(st.GetUnanswered()) > 0 {
		return fmt.Errorf("%d nodes, %d partitions run, unanswered %v", len(members.GetMembers()), got, st.GetUnanswered())
	}
	return nil
}

// TestFleet_EverySecretRotatesUnderLoad changes the gossip key, the certificate and the token of a running fabric: no record is late,
// no call fails.
func TestFleet_EverySecretRotatesUnderLoad(t *testing.T) {
	const partitions = 8
	eu, us := node.StartEmbedded(t, "eu"), node.StartEmbedded(t, "us")
	g := newGuarded(t, eu, us)
	eu.Create(t, "orders", partitions)
	for _, n := range g.nodes {
		n.Start()
	}
	ctx := t.Context()
	first := g.client(g.nodes[0], "the-first-token-of-ops")
	node.Until(t, time.Minute, "the fabric runs", func(ctx context.Context) error { return g.running(ctx, first, partitions) })
	seen, log := node.Follow(t, us, "orders", "eu"), judge.NewLog()
	load := node.Write(t, eu.Client(), log, node.Mix{Topic: "orders", Partitions: partitions, Rate: 400, Plain: true})
	node.Until(t, time.Minute, "records flow", func(context.Context) error { return seen.Passed(time.Now().Add(-time.Second), partitions) })
	began := time.Now()
	calls := g.callAll("the-first-token-of-ops")

	// The gossip's key, by one call through any node.
	old, err := os.ReadFile(g.path("gossip.key"))
	if err != nil {
		t.Fatal(err)
	}
	dry, err := first.RotateKey(ctx, &adminpb.RotateKeyRequest{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := first.RotateKey(ctx, &adminpb.RotateKeyRequest{Confirm: dry.GetConfirm(), Reason: "to try it"})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range rotated.GetNodes() {
		if !o.GetRemoved() || o.GetTrouble() != "" {
			t.Errorf("%s came only as far as %v", o.GetNode(), o)
		}
	}
	if now, err := os.ReadFile(g.path("gossip.key")); err != nil || len(rotated.GetNodes()) != guardedNodes || strings.Contains(string(now), strings.TrimSpace(string(old))) {
		t.Errorf("%d nodes rotated; the key file has the old key still: %v", len(rotated.GetNodes()), err)
	}

	// The certificate.
	before, err := g.shown(g.nodes[1])
	if err != nil {
		t.Fatal(err)
	}
	g.certify()
	node.Until(t, time.Minute, "all nodes show the new certificate", func(context.Context) error {
		for _, n := range g.nodes {
			if now, err := g.shown(n); err != nil || now == before {
				return errors.Join(err, fmt.Errorf("%s shows %s", n.Name, now))
			}
		}
		return nil
	})

	// The token: both for a while, then the new one alone.
	g.put("ops.token", []byte("the-second-token-of-ops\nthe-first-token-of-ops\n"))
	second := g.client(g.nodes[2], "the-second-token-of-ops")
	node.Until(t, time.Minute, "the new token is taken", func(ctx context.Context) error { return g.running(ctx, second, partitions) })
	if errs := calls(); errs != nil {
		t.Errorf("calls during the rotations: %v", errs)
	}
	g.put("ops.token", []byte("the-second-token-of-ops\n"))
	node.Until(t, time.Minute, "the old token is not taken any more", func(ctx context.Context) error {
		if _, err := first.Nodes(ctx); err == nil {
			return errors.New("it is")
		}
		return nil
	})
	done := time.Now()
	node.Until(t, time.Minute, "what was written until then is there", func(context.Context) error { return seen.Passed(done, partitions) })
	if still := seen.Between(began, done); still.Longest > standstill || still.Records == 0 {
		t.Errorf("while secrets were rotated %v, want at most %v", still, standstill)
	} else {
		t.Log(still)
	}

	// A node that starts finds all of it in its files.
	g.nodes[1].Stop()
	g.nodes[1].Start()
	node.Until(t, time.Minute, "the node is back", func(ctx context.Context) error { return g.running(ctx, second, partitions) })
	load.Stop(t)
	node.Until(t, time.Minute, "everything is mirrored", func(ctx context.Context) error {
		st, err := second.Status(ctx, "", true)
		if err != nil {
			return err
		}
		f := node.Flow(st, "eu-us", "orders")
		ends, err := eu.Ends(ctx, "orders")
		if err != nil {
			return err
		}
		for _, p := range f.GetPartitions() {
			if p.GetSourceNext() < ends["orders"][p.GetPartition()] {
				return fmt.Errorf("partition %d is at %d of %d", p.GetPartition(), p.GetSourceNext(), ends["orders"][p.GetPartition()])
			}
		}
		return nil
	})
	c := g.Case(log, []string{"orders"}, "us")
	c.Ways = g.AgreedWays(c.Topics, second, g.client(g.nodes[0], "the-second-token-of-ops"), g.client(g.nodes[1], "the-second-token-of-ops"))
	g.JudgedAs(c)
}

// callAll asks all nodes again and again; stop returns what went wrong, once every node has been asked a few times.
func (g *guarded) callAll(token string) (stop func() error) {
	ctx, cancel := context.WithCancel(g.t.Context())
	var all sync.WaitGroup
	asked := make([]atomic.Int64, len(g.nodes))
	wrong := make([]error, len(g.nodes))
	for i, n := range g.nodes {
		c := g.client(n, token)
		all.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				if _, err := c.Status(ctx, "", false); err != nil && ctx.Err() == nil {
					wrong[i] = errors.Join(wrong[i], err)
				}
				asked[i].Add(1)
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	return func() error {
		node.Until(g.t, time.Minute, "every node is asked a few times", func(context.Context) error {
			for i, n := range g.nodes {
				if got := asked[i].Load(); got < 7 {
					return fmt.Errorf("%s was asked %d times", n.Name, got)
				}
			}
			return nil
		})
		cancel()
		all.Wait()
		return errors.Join(wrong...)
	}
}
