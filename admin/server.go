package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// errNotLoopback is in the error of NewServer for an address that others could reach.
var errNotLoopback = errors.New("not a loopback address")

// What a client may ask for or hold. They are far above what the command line needs.
const (
	maxRequestBytes = 1 << 20          // of one gRPC request
	maxAnswerBytes  = 64 << 20         // of one gRPC answer: some hundred thousand partitions
	maxStreams      = 64               // calls at a time on one connection
	maxScrapes      = 4                // of /metrics at a time
	headerTimeout   = 5 * time.Second  // from an HTTP request's first byte to the end of its headers
	writeTimeout    = 30 * time.Second // for an HTTP answer
	idleTimeout     = 2 * time.Minute  // of a connection without a request
	drainTimeout    = 3 * time.Second  // for calls in flight when the server stops
	maxHeaderBytes  = 16 << 10
)

// Config is where a [Server] listens and what it exports.
type Config struct {
	// GRPC and HTTP are host:port; port 0 takes a free one.
	GRPC, HTTP string
	// Insecure allows addresses that are not loopback, without TLS or login.
	Insecure bool
	// Metrics is what /metrics exports.
	Metrics prometheus.Gatherer
	// Listen replaces net.Listen: for tests.
	Listen func(network, address string) (net.Listener, error)
}

// Server serves the admin API of one node.
type Server struct {
	log    *slog.Logger
	grpcAt net.Listener
	httpAt net.Listener
	grpc   *grpc.Server
	http   *http.Server
	health *health.Server
}

// NewServer binds both addresses and starts nothing. Its errors name the address and what to do about it.
func NewServer(cfg Config, node Node, log *slog.Logger) (*Server, error) {
	grpcAt, err := cfg.listen("grpc", cfg.GRPC)
	if err != nil {
		return nil, err
	}
	httpAt, err := cfg.listen("http", cfg.HTTP)
	if err != nil {
		return nil, errors.Join(err, grpcAt.Close())
	}
	s := &Server{log: log, grpcAt: grpcAt, httpAt: httpAt, health: health.NewServer()}
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxSendMsgSize(maxAnswerBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(headerTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout}),
	)
	adminpb.RegisterAdminServer(s.grpc, &service{node: node, log: log})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.health.SetServingStatus(adminpb.Admin_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	s.http = &http.Server{
		Handler:           handler(cfg.Metrics, node),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s, nil
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
