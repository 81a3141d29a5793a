package admin

import (
	"fmt"
	"net"
)

// listen checks an address and listens on it; what is the listener's name in errors.
func (c Config) listen(what, address string) (net.Listener, error) {
	if err := c.allowed(address); err != nil {
		return nil, fmt.Errorf("listen for %s on %s: %w", what, address, err)
	}
	open := c.Listen
	if open == nil {
		open = net.Listen
	}
	l, err := open("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s on %s: %w; choose another address with --%s", what, address, err, what)
	}
	return l, nil
}

// allowed refuses what others could reach. A name must lead to loopback addresses only.
func (c Config) allowed(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return fmt.Errorf("%q is not host:port", address)
	}
	if c.Insecure {
		return nil
	}
	var ips []net.IP
	if ip := net.ParseIP(host); ip != nil {
		ips = []net.IP{ip}
	} else if host != "" {
		if ips, err = net.LookupIP(host); err != nil {
			return fmt.Errorf("look up %s: %w", host, err)
		}
	}
	open := len(ips) > 0
	for _, ip := range ips {
		open = open && ip.IsLoopback()
	}
	if !open {
		return fmt.Errorf("%w: there is no TLS and no login on it before a later release; use 127.0.0.1:%s, "+
			"or --insecure where everybody who can reach it is trusted", errNotLoopback, port)
	}
	return nil
}
