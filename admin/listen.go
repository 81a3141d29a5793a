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
	if c.Insecure || c.Access.Insecure || c.Access.TLS != nil && len(c.Access.Identities) > 0 {
		return nil
	}
	open, err := local(host)
	if err != nil {
		return err
	}
	if !open {
		return fmt.Errorf("%w: give the topology file's [admin] both tls and an identity, use 127.0.0.1:%s, "+
			"or --insecure where everybody who can reach it is trusted", errNotLoopback, port)
	}
	return nil
}

// loopback reports whether host:port can be reached from this machine only. What cannot be looked up is not.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	is, err := local(host)
	return err == nil && is
}

// local reports whether all addresses of a host are loopback.
func local(host string) (bool, error) {
	var ips []net.IP
	if ip := net.ParseIP(host); ip != nil {
		ips = []net.IP{ip}
	} else if host != "" {
		var err error
		if ips, err = net.LookupIP(host); err != nil {
			return false, fmt.Errorf("look up %s: %w", host, err)
		}
	}
	is := len(ips) > 0
	for _, ip := range ips {
		is = is && ip.IsLoopback()
	}
	return is, nil
}
