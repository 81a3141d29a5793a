package embedded

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/isthmus-project/isthmus/broker/shape"
)

// guard takes connections, bounds them and hands them to the gate.
type guard struct {
	cfg      Config
	log      *slog.Logger
	count    counters
	storage  storage
	budget   *semaphore.Weighted // bytes of large frames, see Config.MaxBufferedBytes
	taken    chan net.Conn       // to whichever gate is open
	versions versions            // set before the first gate opens
	shapes   shape.Shapes

	unpacking chan struct{} // bounds how many requests are unpacked at once
	buffers   sync.Pool     // *[]byte of large frames

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newGuard(cfg Config, log *slog.Logger) *guard {
	g := &guard{
		cfg:    cfg,
		log:    log,
		budget: semaphore.NewWeighted(cfg.MaxBufferedBytes),
		taken:  make(chan net.Conn),
		conns:  make(map[*conn]struct{}),

		unpacking: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	g.storage = storage{minFree: cfg.MinFreeBytes, ask: cfg.FreeBytes, failures: make(chan struct{}, 1)}
	if !cfg.InMemory {
		g.storage.dir = cfg.Dir
	}
	return g
}

// acceptLoop runs until ln is closed or ctx ends.
func (g *guard) acceptLoop(ctx context.Context, ln net.Listener) {
	for ctx.Err() == nil {
		raw, err := ln.Accept()
		if err != nil {
			// Out of files heals by itself; a virtual listener has its
			// own word for closed, so ctx is what ends the loop.
			if errors.Is(err, net.ErrClosed) || !pause(ctx, 50*time.Millisecond) {
				return
			}
			g.log.Warn("embedded cluster cannot accept a connection", "error", err)
			continue
		}
		g.take(ctx, raw)
	}
}

func (g *guard) take(ctx context.Context, raw net.Conn) {
	if g.count.connections.Load() >= int64(g.cfg.MaxConnections) {
		g.count.refused.Add(1)
		raw.Close()
		return
	}
	g.count.accepted.Add(1)
	c := newConn(g, raw)
	select {
	case g.taken <- c:
	case <-ctx.Done():
		c.Close()
	}
}

// closeConns ends every connection.
func (g *guard) closeConns() {
	g.mu.Lock()
	open := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		open = append(open, c)
	}
	g.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

func (g *guard) opened(c *conn) {
	g.count.connections.Add(1)
	g.mu.Lock()
	g.conns[c] = struct{}{}
	g.mu.Unlock()
}

func (g *guard) closed(c *conn) {
	g.count.connections.Add(-1)
	g.mu.Lock()
	delete(g.conns, c)
	g.mu.Unlock()
}

// rejected counts and logs the end of a connection.
func (g *guard) rejected(c *conn, r *rejection) {
	g.count.reject(r.reason)
	g.log.Debug("embedded cluster closes a connection", "client", c.RemoteAddr().String(), "reason", string(r.reason), "error", r.text)
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
