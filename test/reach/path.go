package reach

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// path is a network between a node and a cluster: a proxy for each address that is dialled. What a cut direction should carry vanishes;
// connections stay up, and new ones are still accepted.
type path struct {
	t       testing.TB
	out, in atomic.Bool // is cut: from the node to the cluster, and back

	mu      sync.Mutex
	proxies map[string]string // by address
	conns   []net.Conn
	all     sync.WaitGroup
}

func newPath(t testing.TB) *path {
	p := &path{t: t, proxies: make(map[string]string)}
	t.Cleanup(func() {
		p.mu.Lock()
		conns := p.conns
		p.mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
		p.all.Wait()
	})
	return p
}

// Dial connects through the proxy of an address; it is a broker.Profile's Dial.
func (p *path) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	proxy, ok := p.proxies[address]
	if !ok {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.mu.Unlock()
			return nil, err
		}
		p.t.Cleanup(func() { _ = l.Close() })
		proxy = l.Addr().String()
		p.proxies[address] = proxy
		p.all.Go(func() { p.serve(l, address) })
	}
	p.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, proxy)
}

func (p *path) serve(l net.Listener, address string) {
	for {
		near, err := l.Accept()
		if err != nil {
			return // closed
		}
		far, err := net.Dial("tcp", address)
		if err != nil {
			_ = near.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		p.all.Go(func() { p.carry(near, far, &p.out) })
		p.all.Go(func() { p.carry(far, near, &p.in) })
	}
}

// carry copies one way until either end goes, and drops what comes while the way is cut.
func (p *path) carry(from, to net.Conn, cut *atomic.Bool) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !cut.Load() {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
