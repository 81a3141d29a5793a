package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// stubNode answers from its fields.
type stubNode struct {
	status  func() *adminpb.StatusResponse
	entries []*adminpb.LedgerEntry
	err     error
	health  Health
	asked   *adminpb.TranslateRequest
	Node    // the calls that a test does not answer
}

func (n *stubNode) Status(context.Context) (*adminpb.StatusResponse, error) {
	if n.err != nil {
		return nil, n.err
	}
	return n.status(), nil
}

func (n *stubNode) Translate(_ context.Context, req *adminpb.TranslateRequest) (*adminpb.TranslateResponse, error) {
	n.asked = req
	if n.err != nil {
		return nil, n.err
	}
	return &adminpb.TranslateResponse{From: "eu", To: "us", Topic: req.Topic, Offset: req.Offset, Result: req.Offset + 7, Exact: true}, nil
}

func (n *stubNode) Ledger(context.Context, string) ([]*adminpb.LedgerEntry, error) {
	return n.entries, n.err
}

func (n *stubNode) Health() Health { return n.health }

func (n *stubNode) Peers() []Peer { return nil }

// pipes is a network of two addresses in memory.
type pipes map[string]*bufconn.Listener

func (p pipes) listen(_, address string) (net.Listener, error) { return p[address], nil }

func (p pipes) dial(ctx context.Context, address string) (net.Conn, error) {
	l, ok := p[address]
	if !ok {
		return nil, errors.New("connection refused")
	}
	return l.DialContext(ctx)
}

const grpcAddr, httpAddr = "127.0.0.1:1", "127.0.0.1:2"

// serve runs a server for node until the test ends.
func serve(t *testing.T, node Node) pipes {
	t.Helper()
	p := pipes{grpcAddr: bufconn.Listen(1 << 20), httpAddr: bufconn.Listen(1 << 20)}
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_test"}, func() float64 { return 4 }))
	s, err := NewServer(Config{GRPC: grpcAddr, HTTP: httpAddr, Metrics: reg, Listen: p.listen}, node, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	runs(t, s)
	return p
}

// runs runs a server until the end of the test, which wants no error of it.
func runs(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func dial(t *testing.T, p pipes, address string) *Client {
	t.Helper()
	c, err := Dial(address, grpc.WithContextDialer(p.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func twoLinks() *adminpb.StatusResponse {
	return &adminpb.StatusResponse{
		Node: &adminpb.Node{Name: "eu-1"},
		Links: []*adminpb.Link{{Name: "eu-us", From: "eu", To: "us", Up: true, Flows: []*adminpb.Flow{{
			Topic: "orders", Partitions: []*adminpb.Partition{
				{State: adminpb.State_STATE_RUNNING, SourceNext: 10, LagRecords: 2, LagBytes: 20, LagSeconds: 0.5},
				{Partition: 1, State: adminpb.State_STATE_HALTED, SourceNext: -1, LagRecords: 5, LagBytes: -1, LagSeconds: 3},
			},
		}}}, {Name: "us-eu", From: "us", To: "eu"}},
	}
}

func TestServer_StatusSumsAndFilters(t *testing.T) {
	c := dial(t, serve(t, &stubNode{status: twoLinks}), grpcAddr)
	all, err := c.Status(t.Context(), "", false)
	if err != nil || len(all.Links) != 2 {
		t.Fatalf("got %v, %v, want both links", all, err)
	}
	f := all.Links[0].Flows[0]
	if f.Partitions != nil {
		t.Error("partitions came unasked")
	}
	if f.PartitionCount != 2 || f.Running != 1 || f.LagRecords != 7 || f.LagBytes != 20 || f.LagSeconds != 3 || f.Position != 10 {
		t.Errorf("sums are %v", f)
	}
	one, err := c.Status(t.Context(), "eu-us", true)
	if err != nil || len(one.Links) != 1 || len(one.Links[0].Flows[0].Partitions) != 2 {
		t.Errorf("got %v, %v, want one link with partitions", one, err)
	}
	if _, err = c.Status(t.Context(), "eu-mars", false); !errors.Is(err, ErrUnknown) || err.Error() != `link "eu-mars": not known to this node` {
		t.Errorf("unknown link: %v", err)
	}
}

func TestServer_Codes(t *testing.T) {
	good := func() *adminpb.TranslateRequest { return &adminpb.TranslateRequest{Link: "eu-us", Topic: "orders"} }
	for _, tc := range []struct {
		name   string
		change func(*adminpb.TranslateRequest)
		err    error
		want   codes.Code
		text   string
	}{
		{"good", func(*adminpb.TranslateRequest) {}, nil, codes.OK, ""},
		{"no link", func(r *adminpb.TranslateRequest) { r.Link = "" }, nil, codes.InvalidArgument, "link: "},
		{"no topic", func(r *adminpb.TranslateRequest) { r.Topic = "" }, nil, codes.InvalidArgument, "topic: "},
		{"partition", func(r *adminpb.TranslateRequest) { r.Partition = -1 }, nil, codes.InvalidArgument, "partition: -1"},
		{"offset", func(r *adminpb.TranslateRequest) { r.Offset = -2 }, nil, codes.InvalidArgument, "offset: -2"},
		{"unknown", func(*adminpb.TranslateRequest) {}, fmt.Errorf("partition 9: %w", ErrUnknown), codes.NotFound, "partition 9: not known"},
		{"not ready", func(*adminpb.TranslateRequest) {}, ErrNotReady, codes.Unavailable, "not ready"},
		{"ours", func(*adminpb.TranslateRequest) {}, errors.New("boom \xff"), codes.Internal, "boom ?"},
		{"slow", func(*adminpb.TranslateRequest) {}, context.DeadlineExceeded, codes.DeadlineExceeded, "deadline"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, serve(t, &stubNode{err: tc.err}), grpcAddr)
			req := good()
			tc.change(req)
			res, err := c.api.Translate(t.Context(), req)
			if st := status.Convert(err); st.Code() != tc.want || !strings.Contains(st.Message(), tc.text) {
				t.Errorf("got %v, %v; want %v with %q", res, err, tc.want, tc.text)
			}
		})
	}
}

func TestServer_LedgerStreams(t *testing.T) {
	node := &stubNode{}
	for i := range 1000 {
		node.entries = append(node.entries, &adminpb.LedgerEntry{Link: "eu-us", First: int64(i)})
	}
	c := dial(t, serve(t, node), grpcAddr)
	var got int64
	err := c.Ledger(t.Context(), "", func(e *adminpb.LedgerEntry) error {
		if e.First != got {
			return fmt.Errorf("entry %d is %v", got, e)
		}
		got++
		return nil
	})
	if err != nil || got != 1000 {
		t.Errorf("got %d entries, %v", got, err)
	}
	enough := errors.New("enough")
	if err := c.Ledger(t.Context(), "", func(*adminpb.LedgerEntry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the reader's own error became %v", err)
	}
}

func TestServer_HealthAndReflection(t *testing.T) {
	c := dial(t, serve(t, &stubNode{}), grpcAddr)
	h, err := healthpb.NewHealthClient(c.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "isthmus.admin.v1.Admin"})
	if err != nil || h.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", h, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(c.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	res, err := stream.Recv()
	if err != nil || !strings.Contains(res.String(), "isthmus.admin.v1.Admin") {
		t.Errorf("services are %v, %v", res, err)
	}
}

func TestServer_HTTP(t *testing.T) {
	bad := errors.New("cluster us does not answer")
	p := serve(t, &stubNode{health: Health{Ready: bad}})
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return p.dial(ctx, address)
	}}}
	t.Cleanup(web.CloseIdleConnections)
	for _, tc := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/livez", 200, "ok\n"},
		{"HEAD", "/livez", 200, ""},
		{"GET", "/startupz", 200, "ok\n"},
		{"GET", "/readyz", 503, bad.Error() + "\n"},
		{"GET", "/metrics", 200, "isthmus_test 4"},
		{"POST", "/livez", 405, ""},
		{"GET", "/", 404, ""},
		{"GET", "/livez/../secret", 404, ""},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+httpAddr+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := web.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != tc.code || !strings.Contains(string(body), tc.body) {
				t.Errorf("got %d %q (%v), want %d %q", res.StatusCode, body, err, tc.code, tc.body)
			}
		})
	}
}

func TestServer_Addresses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, tc := range []struct {
		address  string
		insecure bool
		want     string // part of the error; empty: it listens
	}{
		{"127.0.0.1:0", false, ""},
		{"127.9.9.9:0", false, ""},
		{"localhost:0", false, ""},
		{"0.0.0.0:0", false, "not a loopback address"},
		{":7071", false, "use 127.0.0.1:7071, or --insecure"},
		{"192.0.2.1:7071", false, "not a loopback address"},
		{"[2001:db8::1]:7071", false, "not a loopback address"},
		{"0.0.0.0:0", true, ""},
		{"7071", false, "not host:port"},
		{"127.0.0.1:", true, "not host:port"},
	} {
		t.Run(tc.address, func(t *testing.T) {
			s, err := NewServer(Config{GRPC: "127.0.0.1:0", HTTP: tc.address, Insecure: tc.insecure, Metrics: prometheus.NewRegistry()}, &stubNode{}, log)
			if s != nil {
				defer s.Close()
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestServer_AddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := Config{GRPC: "127.0.0.1:0", HTTP: l.Addr().String(), Metrics: prometheus.NewRegistry()}
	_, err = NewServer(cfg, &stubNode{}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "listen for http on "+l.Addr().String()) || !strings.Contains(err.Error(), "--http") {
		t.Errorf("got %v, want the address and what to do", err)
	}
}

func TestClient_Unreachable(t *testing.T) {
	c := dial(t, pipes{}, grpcAddr)
	_, err := c.Status(t.Context(), "", false)
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), grpcAddr) {
		t.Errorf("got %v, want ErrUnreachable with the address", err)
	}
	if _, err := Dial("7071"); err == nil {
		t.Error("an address without a host was taken")
	}
}
