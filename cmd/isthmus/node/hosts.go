package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/topology"
)

// Hosts runs embedded clusters for nodes that are other processes.
type Hosts struct {
	hosts []*host
	build Build
	log   *slog.Logger
}

// NewHosts opens the data directories and addresses of embedded clusters, and serves nothing yet.
func NewHosts(clusters []topology.Cluster, build Build, log *slog.Logger) (*Hosts, error) {
	h := &Hosts{build: build, log: log}
	for _, c := range clusters {
		one, err := newHost(c, log)
		if err != nil {
			h.Close()
			return nil, err
		}
		h.hosts = append(h.hosts, one)
	}
	return h, nil
}

// Run serves the clusters until ctx ends.
func (h *Hosts) Run(ctx context.Context) error {
	defer h.Close()
	return runHosts(ctx, h.hosts)
}

// runHosts serves until ctx ends, also where there is nothing to serve.
func runHosts(ctx context.Context, hosts []*host) error {
	var g errgroup.Group
	for _, one := range hosts {
		g.Go(func() error { return one.Run(ctx) })
	}
	<-ctx.Done()
	return g.Wait()
}

// Close releases what NewHosts took when the hosts never ran.
func (h *Hosts) Close() {
	for _, one := range h.hosts {
		one.close()
	}
}

// Addresses are where the clusters really listen, as host:port by name.
func (h *Hosts) Addresses() map[string]string {
	at := make(map[string]string, len(h.hosts))
	for _, one := range h.hosts {
		at[one.spec.Name] = one.spec.Embedded.Listen
	}
	return at
}

// Open opens a connection to each cluster, in their order.
func (h *Hosts) Open() ([]*broker.Cluster, error) {
	var opened []*broker.Cluster
	for _, one := range h.hosts {
		c, err := openCluster(one.spec, nil, h.log)
		if err != nil {
			for _, c := range opened {
				c.Close()
			}
			return nil, fmt.Errorf("open embedded cluster %s: %w", one.spec.Name, err)
		}
		opened = append(opened, c)
	}
	return opened, nil
}

// openCluster opens a cluster, over another network than the machine's if there is one.
func openCluster(c topology.Cluster, dial func(cluster string) func(ctx context.Context, network, address string) (net.Conn, error), log *slog.Logger) (*broker.Cluster, error) {
	profile, err := broker.NewProfile(c)
	if err != nil {
		return nil, err
	}
	if dial != nil {
		profile.Dial = dial(c.Name)
	}
	return broker.Open(profile, log)
}

// Metrics serves those of the clusters and of this process, for Prometheus.
func (h *Hosts) Metrics() http.Handler {
	r := newRegistry(h.build)
	r.MustRegister(hostMetrics(h.hosts))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}
