package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-project/isthmus/broker/embedded"
	"github.com/isthmus-project/isthmus/topology"
)

// reopenEvery is how often a host tries to open a cluster whose directory or port is not to be had.
const reopenEvery = 2 * time.Second

// curable are errors of an embedded cluster that somebody can cure while the node runs.
var curable = []error{embedded.ErrReadOnly, embedded.ErrNewerFormat, embedded.ErrInUse, embedded.ErrForeign, embedded.ErrListen}

// host keeps one embedded cluster running: a directory or port that is not to be had is tried again, and stops no other
// cluster.
type host struct {
	spec topology.Cluster // with the address it really listens on
	log  *slog.Logger

	mu      sync.Mutex
	cluster *embedded.Cluster // nil while it cannot be opened
}

// newHost opens the cluster if it can. An address with port 0 is known only then, so there every error is final.
func newHost(c topology.Cluster, log *slog.Logger) (*host, error) {
	h := &host{spec: c, log: log}
	cluster, err := h.open()
	if err != nil {
		_, port, _ := net.SplitHostPort(c.Embedded.Listen)
		if port == "0" || !isCurable(err) {
			return nil, err
		}
		h.log.Error("embedded cluster cannot be opened, tried again", "cluster", c.Name, "error", err, "every", reopenEvery.String())
		return h, nil
	}
	h.set(cluster)
	where := *c.Embedded
	where.Listen = cluster.Addr()
	h.spec.Embedded = &where
	return h, nil
}

func (h *host) open() (*embedded.Cluster, error) {
	return embedded.New(embedded.Config{Name: h.spec.Name, Dir: h.spec.Embedded.Dir, Listen: h.spec.Embedded.Listen}, h.log)
}

func isCurable(err error) bool {
	return slices.ContainsFunc(curable, func(c error) bool { return errors.Is(err, c) })
}

// current is the cluster that runs now, or nil.
func (h *host) current() *embedded.Cluster {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cluster
}

func (h *host) set(c *embedded.Cluster) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cluster = c
}

// Run serves the cluster until ctx ends, opening it again whenever it ended by itself.
func (h *host) Run(ctx context.Context) error {
	said := ""
	for ctx.Err() == nil {
		err := h.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("embedded cluster %s ended", h.spec.Name)
		}
		if err.Error() != said { // the same again is no news
			h.log.Error("embedded cluster is down, tried again", "cluster", h.spec.Name, "error", err, "every", reopenEvery.String())
			said = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopenEvery):
		}
	}
	return nil
}

// serve runs the cluster once.
func (h *host) serve(ctx context.Context) error {
	c := h.current()
	if c == nil {
		var err error
		if c, err = h.open(); err != nil {
			return err
		}
		h.set(c)
		h.log.Info("embedded cluster opened", "cluster", h.spec.Name, "listen", c.Addr())
	}
	defer h.set(nil)
	return c.Run(ctx)
}

// close releases a cluster that never ran.
func (h *host) close() {
	if c := h.current(); c != nil {
		c.Close()
	}
}
