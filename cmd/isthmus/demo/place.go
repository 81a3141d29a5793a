package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// nodesPerSite is how many nodes run in each data center.
const nodesPerSite = 2

// apart is how far the ports of two nodes are from each other.
const apart = 10

// Free ports are taken from below those that systems give to connections, so that none of these takes one meanwhile.
const (
	firstFree = 20000
	lastFree  = 32000
	tries     = 1000
)

// Place is one node of the demo, and where it listens, as host:port.
type Place struct {
	Name, DC, Gossip, HTTP, GRPC string
	// Door is where clients of the first site bootstrap; the ports of the slots are behind it. The nodes of the other sites have none.
	Door string
}

// doorSlots is how many brokers a door has room for. The embedded clusters have one.
const doorSlots = 2

// Bases are the addresses of the first node; those of the others follow, ten ports apart. Port 0 is free ports.
type Bases struct{ Gossip, HTTP, GRPC, Door string }

// Places gives the nodes their addresses, and the clusters one for their metrics. All of them were free just now.
func Places(b Bases) (nodes []Place, metrics string, err error) {
	for _, s := range sites {
		for n := range nodesPerSite {
			nodes = append(nodes, Place{Name: fmt.Sprintf("%s-%d", s.cluster, n+1), DC: s.dc})
		}
	}
	p := ports{taken: map[string]bool{}}
	for i := range nodes {
		nodes[i].Gossip = p.take("--gossip", b.Gossip, i, true)
		nodes[i].HTTP = p.take("--http", b.HTTP, i, false)
		nodes[i].GRPC = p.take("--grpc", b.GRPC, i, false)
		if nodes[i].DC == sites[0].dc {
			nodes[i].Door = p.takeRow("--door", b.Door, i, 1+doorSlots)
		}
	}
	metrics = p.take("--http", b.HTTP, len(nodes), false)
	return nodes, metrics, p.err
}

// ports finds ports, until the first error.
type ports struct {
	taken map[string]bool
	err   error
}

// take finds the address of the nth that a flag is for; packets tells that it is for UDP too.
func (p *ports) take(flag, base string, n int, packets bool) string {
	return p.find(flag, base, n, 1, packets)
}

// takeRow finds the first of several addresses whose ports are in a row.
func (p *ports) takeRow(flag, base string, n, row int) string {
	return p.find(flag, base, n, row, false)
}

func (p *ports) find(flag, base string, n, row int, packets bool) string {
	host, text, err := net.SplitHostPort(base)
	port, notNumber := strconv.Atoi(text)
	switch {
	case p.err != nil:
		return ""
	case err != nil || notNumber != nil || port < 0 || port+n*apart+row-1 > 65535:
		p.err = fmt.Errorf("%s: %q is not host:port with room for one port every %d behind it", flag, base, apart)
		return ""
	case port > 0:
		at, err := p.takeAt(host, port+n*apart, row, packets)
		if err != nil {
			p.err = fmt.Errorf("%s: %w; choose another one, or port 0 for free ones", flag, err)
		}
		return at
	}
	for range tries {
		if at, err := p.takeAt(host, firstFree+rand.IntN(lastFree-firstFree-row), row, packets); err == nil {
			return at
		}
	}
	p.err = fmt.Errorf("%s: found no free port at %s", flag, host)
	return ""
}

// takeAt takes a row of ports, all or none.
func (p *ports) takeAt(host string, port, row int, packets bool) (string, error) {
	for i := range row {
		at := net.JoinHostPort(host, strconv.Itoa(port+i))
		err := free(at, packets)
		if p.taken[at] {
			err = errors.New("another flag has it")
		}
		if err != nil {
			return "", fmt.Errorf("%s is not free: %w", at, err)
		}
	}
	for i := range row {
		p.taken[net.JoinHostPort(host, strconv.Itoa(port+i))] = true
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// free is nil if nobody listens at an address.
func free(at string, packets bool) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	defer l.Close()
	if !packets {
		return nil
	}
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	return c.Close()
}
