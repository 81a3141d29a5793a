package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/topology"
	"github.com/isthmus-project/isthmus/topology/certs"
)

// errNotLoopback is in the error of NewServer for an address that others could reach.
var errNotLoopback = errors.New("not a loopback address")

// What a client may ask for or hold. They are far above what the command line needs.
const (
	maxRequestBytes = topology.MaxFileBytes + 64<<10 // of one gRPC request: a topology file, and why
	maxAnswerBytes  = 64 << 20                       // of one gRPC answer: some hundred thousand partitions
	maxStreams      = 64                             // calls at a time on one connection
	maxScrapes      = 4                              // of /metrics at a time
	driftsAtOnce    = 4                              // comparisons of links: each asks both clusters for much
	groupsAtOnce    = 4                              // questions about groups: each asks both clusters for as much
	verifiesAtOnce  = 2                              // runs of Verify: each reads both clusters
	switchesAtOnce  = 16                             // switches, with dry runs
	headerTimeout   = 5 * time.Second                // from an HTTP request's first byte to the end of its headers
	writeTimeout    = 30 * time.Second               // for an HTTP answer
	idleTimeout     = 2 * time.Minute                // of a connection without a request
	serveTimeout    = 30 * time.Second               // for a gRPC answer, other than of streams that go on and of patient calls
	patientTimeout  = time.Minute                    // of a key rotation, each of whose steps waits for every node, of an anchor, and of all groups
	drainTimeout    = 3 * time.Second                // for calls in flight when the server stops
	maxHeaderBytes  = 16 << 10
)

// Config is where a [Server] listens and what it exports.
type Config struct {
	// GRPC and HTTP are host:port; port 0 takes a free one.
	GRPC, HTTP string
	// Insecure allows addresses that are not loopback, without TLS or login, as Access.Insecure does.
	Insecure bool
	// Name of this node in the fabric.
	Name string
	// Access is who may ask, and the TLS of both addresses: the file's [admin].
	Access topology.Admin
	// Keys are those of the gossip, by which nodes know each other, the one in use first; nil or none: nodes do not prove
	// who they are.
	Keys func() [][]byte
	// Events is what Watch tells of; nil: nothing happens.
	Events *Events
	// Metrics is what /metrics exports.
	Metrics prometheus.Gatherer
	// Listen and DialPeer replace the network, and Now the time: for tests.
	Listen   func(network, address string) (net.Listener, error)
	DialPeer func(ctx context.Context, address string) (net.Conn, error)
	Now      func() time.Time
}

// Server serves the admin API of one node.
type Server struct {
	log     *slog.Logger
	grpcAt  net.Listener
	httpAt  net.Listener
	grpc    *grpc.Server
	http    *http.Server
	health  *health.Server
	peers   *forward
	service *service
	ending  chan struct{} // closed when it stops
}

// NewServer reads the secrets, binds both addresses and starts nothing. Its errors name the address or the field, and what to do
// about it.
func NewServer(cfg Config, node Node, log *slog.Logger) (*Server, error) {
	cfg = cfg.filled()
	var chain *nodeCerts
	if cfg.Access.TLS != nil {
		read, err := certs.New(*cfg.Access.TLS, "admin.tls", cfg.Now, log)
		if err != nil {
			return nil, err
		}
		chain = &nodeCerts{read, cfg.Now}
	}
	guard, err := newGuard(cfg.Access, chain, cfg.Now, log)
	if err != nil {
		return nil, err
	}
	grpcAt, err := cfg.listen("grpc", cfg.GRPC)
	if err != nil {
		return nil, err
	}
	httpAt, err := cfg.listen("http", cfg.HTTP)
	if err != nil {
		return nil, errors.Join(err, grpcAt.Close())
	}
	s := &Server{log: log, grpcAt: grpcAt, httpAt: httpAt, health: health.NewServer(), ending: make(chan struct{}),
		peers: newForward(cfg.Name, cfg.Keys, chain, cfg.Now, cfg.DialPeer)}
	s.serveGRPC(cfg, node, guard)
	web := &web{guard: guard, node: node, metrics: cfg.Metrics, audit: &audit{log: log, now: cfg.Now}}
	s.http = &http.Server{
		Handler:           web.handler(),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if chain != nil {
		s.httpAt = tls.NewListener(httpAt, chain.server("http/1.1"))
	}
	return s, nil
}

// serveGRPC makes the gRPC side.
func (s *Server) serveGRPC(cfg Config, node Node, guard *guard) {
	trail := &audit{log: s.log, now: cfg.Now}
	gate := &gate{guard: guard, audit: trail, peers: newPeerCheck(cfg.Name, cfg.Keys, guard.open, cfg.Now)}
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxSendMsgSize(maxAnswerBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(headerTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: idleTimeout / 4, Timeout: headerTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: headerTimeout}),
		grpc.UnaryInterceptor(gate.unary),
		grpc.StreamInterceptor(gate.stream),
	}
	if guard.certs != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(guard.certs.server("h2"))))
	}
	s.grpc = grpc.NewServer(opts...)
	s.service = &service{self: cfg.Name, node: node, forward: s.peers, events: cfg.Events, audit: trail,
		keys: cfg.Keys, drifts: make(places, driftsAtOnce), groups: make(places, groupsAtOnce), checks: make(places, verifiesAtOnce),
		switches: make(places, switchesAtOnce), log: s.log, ending: s.ending, now: cfg.Now}
	adminpb.RegisterAdminServer(s.grpc, s.service)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.health.SetServingStatus(adminpb.Admin_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
}

// filled has a value in every field.
func (c Config) filled() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Keys == nil {
		c.Keys = func() [][]byte { return nil }
	}
	if c.Events == nil {
		c.Events = &Events{}
	}
	return c
}

// GRPCAddr is the host:port of the admin API.
func (s *Server) GRPCAddr() string { return s.grpcAt.Addr().String() }

// HTTPAddr is the host:port of metrics and health.
func (s *Server) HTTPAddr() string { return s.httpAt.Addr().String() }

// Close releases the addresses of a server that was never run.
func (s *Server) Close() error { return errors.Join(s.grpcAt.Close(), s.httpAt.Close()) }

// Run serves until ctx ends, lets calls in flight finish for a moment, and returns nil then. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.grpc.Serve(s.grpcAt); err != nil && ctx.Err() == nil {
			return fmt.Errorf("serve grpc: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := s.http.Serve(s.httpAt); err != nil && !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		s.stop(context.WithoutCancel(ctx))
		return nil
	})
	return g.Wait()
}

// stop ends both servers; what is still in flight after drainTimeout is cut off.
func (s *Server) stop(ctx context.Context) {
	s.health.Shutdown()
	close(s.ending)
	defer s.peers.close()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	if err := s.http.Shutdown(ctx); err != nil {
		s.log.Debug("http requests cut off", "error", err)
		s.http.Close() //nolint:errcheck // nothing is left to be done with it
	}
	select {
	case <-drained:
	case <-ctx.Done():
		s.grpc.Stop()
		<-drained
	}
}
