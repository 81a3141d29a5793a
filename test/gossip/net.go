package gossip

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Sizes of what a network adds to what is sent.
const (
	packetHead  = 28 // IP and UDP
	segmentHead = 52 // IP and TCP, with an answer for every other segment
	segment     = 1400
	handshake   = 6 * segmentHead // of a stream: to open and to close it
	// resend is how much later a lost segment arrives; a lost first one takes a second, as it does with TCP.
	resend     = 300 * time.Millisecond
	resendOpen = time.Second
)

// Network is what the nodes of one fleet talk over. Its methods may be called at any time.
type Network struct {
	mu    sync.Mutex
	rand  *rand.Rand
	hosts map[string]*Host // by address
	delay map[[2]string]time.Duration
	loss  float64
	cut   func(from, to *Host) bool
}

// NewNetwork returns a network without delay and loss.
func NewNetwork(seed uint64) *Network {
	return &Network{rand: rand.New(rand.NewPCG(seed, 1)), hosts: make(map[string]*Host), delay: make(map[[2]string]time.Duration)}
}

// Delay sets how long what is sent between two data centers takes, one way; both directions.
func (n *Network) Delay(a, b string, oneWay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay[[2]string{a, b}], n.delay[[2]string{b, a}] = oneWay, oneWay
}

// Loss sets how many of all packets are lost, 0 to 1.
func (n *Network) Loss(part float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = part
}

// Cut lets vanish what cut says, until the next call; nil cuts nothing.
func (n *Network) Cut(cut func(from, to *Host) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// Host is one node's end of the network: a memberlist transport.
type Host struct {
	Name, DC string
	network  *Network
	addr     *net.UDPAddr
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	down     atomic.Bool
	sent     atomic.Int64
	got      atomic.Int64
}

var _ memberlist.NodeAwareTransport = (*Host)(nil)

// Host adds a node. A node that was there before with this address is replaced.
func (n *Network) Host(name, dc, addr string) *Host {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		panic(err) // of a test's own text
	}
	h := &Host{Name: name, DC: dc, network: n, addr: a, packets: make(chan *memberlist.Packet, 4096), streams: make(chan net.Conn, 256)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = h
	return h
}

// Sent and Got are all bytes of a host since its start, with the heads of packets and segments.
func (h *Host) Sent() int64 { return h.sent.Load() }

// Got is what arrived: see [Host.Sent].
func (h *Host) Got() int64 { return h.got.Load() }

// Kill takes a host off the network in the middle of whatever it does: nothing of it goes out any more.
func (h *Host) Kill() { h.down.Store(true) }

// path is what happens to something sent now.
func (n *Network) path(from, to *Host) (delay time.Duration, lost, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delay = n.delay[[2]string{from.DC, to.DC}]
	delay += time.Duration(n.rand.Int64N(int64(delay/10 + 100*time.Microsecond)))
	return delay, n.rand.Float64() < n.loss, n.cut != nil && n.cut(from, to)
}

func (n *Network) at(addr string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[addr]
}

// FinalAdvertiseAddr is memberlist's.
func (h *Host) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return h.addr.IP, h.addr.Port, nil
}

// PacketCh is memberlist's.
func (h *Host) PacketCh() <-chan *memberlist.Packet { return h.packets }

// StreamCh is memberlist's.
func (h *Host) StreamCh() <-chan net.Conn { return h.streams }

// Shutdown is memberlist's.
func (h *Host) Shutdown() error {
	h.Kill()
	return nil
}

// WriteTo is memberlist's.
func (h *Host) WriteTo(b []byte, addr string) (time.Time, error) {
	return h.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress is memberlist's.
func (h *Host) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	to := h.network.at(a.Addr)
	if h.down.Load() {
		return now, nil
	}
	h.sent.Add(int64(len(b) + packetHead))
	if to == nil {
		return now, nil
	}
	delay, lost, cut := h.network.path(h, to)
	if lost || cut {
		return now, nil
	}
	b = append([]byte(nil), b...)
	time.AfterFunc(delay, func() {
		if to.down.Load() {
			return
		}
		to.got.Add(int64(len(b) + packetHead))
		select {
		case to.packets <- &memberlist.Packet{Buf: b, From: h.addr, Timestamp: time.Now()}:
		default: // a socket's buffer is full
		}
	})
	return now, nil
}

// DialTimeout is memberlist's.
func (h *Host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return h.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout is memberlist's.
func (h *Host) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", a.Addr, err)}
	}
	to := h.network.at(a.Addr)
	end := time.Now().Add(timeout)
	h.sent.Add(handshake / 2)
	for {
		var there, back time.Duration
		var lost [2]bool
		cut := [2]bool{true, true}
		if to != nil {
			there, lost[0], cut[0] = h.network.path(h, to)
			back, lost[1], cut[1] = h.network.path(to, h)
		}
		if lost == [2]bool{} && cut == [2]bool{} {
			if time.Until(end) < there+back {
				break
			}
			time.Sleep(there + back)
			if h.down.Load() || to.down.Load() {
				return fail(errors.New("connection refused"))
			}
			local := &net.TCPAddr{IP: h.addr.IP, Port: 40000}
			remote := &net.TCPAddr{IP: to.addr.IP, Port: to.addr.Port}
			one, two := pair(h, to, local, remote)
			to.got.Add(handshake / 2)
			select {
			case to.streams <- two:
				return one, nil
			default:
				_ = one.Close()
				return fail(errors.New("connection refused"))
			}
		}
		if time.Until(end) < resendOpen {
			break
		}
		time.Sleep(resendOpen)
	}
	time.Sleep(max(0, time.Until(end)))
	return fail(timeoutError{})
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// Addr is the address of a node by number, in a network of its own.
func Addr(i int) string {
	return net.JoinHostPort(fmt.Sprintf("10.0.%d.%d", i/200, 1+i%200), strconv.Itoa(7946))
}
