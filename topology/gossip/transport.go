package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// Limits of what memberlist is given to read. It has limits of its own, but a stream of 20 MiB, a packet that unpacks to 40 MiB, and
// a header that reserves room for a million nodes are all within them.
const (
	maxStreamBytes    = 1 << 20
	maxStreams        = 128 // at once, from all nodes
	maxStreamsPerHost = 32
	maxPushNodes      = 2 * maxNodes
)

// memberlist's message types, encryption and label, as far as the guard looks at them; they are of the wire and do not change.
const (
	wirePing       = 0
	wirePushPull   = 6
	wireCompound   = 7
	wireUser       = 8
	wireCompressed = 9
	wireEncrypted  = 10
	wireChecksum   = 12
	wireLabel      = 244

	sealVersion  = 1  // AES-GCM without padding; memberlist panics on badly padded text of version 0
	sealOverhead = 29 // version, nonce and tag
	nonceBytes   = 12
)

var errRefused = errors.New("refused")

// guard stands between the network and memberlist. memberlist v0.7.0 can be crashed by whoever has a key (an encrypted
// text of no bytes, or of wrong padding) and made to take much memory or time (compressed in compressed). The guard lets pass what an
// Isthmus node sends, and nothing else.
type guard struct {
	memberlist.NodeAwareTransport
	label   string
	keys    func() [][]byte // empty: without encryption
	allowed func(net.Addr) bool
	refused func(from net.Addr, why string)
	timeout time.Duration // of a whole stream

	packets chan *memberlist.Packet
	streams chan net.Conn
	stop    chan struct{}
	once    sync.Once
	pumps   sync.WaitGroup

	mu    sync.Mutex
	all   int
	hosts map[string]int
}

// start begins to hand on what arrives.
func (g *guard) start() {
	g.packets, g.streams = make(chan *memberlist.Packet), make(chan net.Conn)
	g.stop, g.hosts = make(chan struct{}), make(map[string]int)
	g.pumps.Add(2)
	go g.packetLoop()
	go g.streamLoop()
}

// PacketCh is memberlist's.
func (g *guard) PacketCh() <-chan *memberlist.Packet { return g.packets }

// StreamCh is memberlist's.
func (g *guard) StreamCh() <-chan net.Conn { return g.streams }

// Shutdown is memberlist's. The loops go on until the inner transport is down: it waits for its listeners, and they for a reader.
func (g *guard) Shutdown() error {
	err := g.NodeAwareTransport.Shutdown()
	g.once.Do(func() { close(g.stop) })
	g.pumps.Wait()
	return err
}

func (g *guard) packetLoop() {
	defer g.pumps.Done()
	for {
		select {
		case <-g.stop:
			return
		case p := <-g.NodeAwareTransport.PacketCh():
			if why := g.checkPacket(p.From, p.Buf); why != "" {
				g.refused(p.From, why)
				continue
			}
			select {
			case g.packets <- p:
			case <-g.stop:
				return
			}
		}
	}
}

func (g *guard) streamLoop() {
	defer g.pumps.Done()
	for {
		select {
		case <-g.stop:
			return
		case c := <-g.NodeAwareTransport.StreamCh():
			s, why := g.admit(c)
			if why != "" {
				g.refused(c.RemoteAddr(), why)
				_ = c.Close()
				continue
			}
			select {
			case g.streams <- s:
			case <-g.stop:
				_ = s.Close()
				return
			}
		}
	}
}

// admit counts a stream that a node opened to this one.
func (g *guard) admit(c net.Conn) (net.Conn, string) {
	if !g.allowed(c.RemoteAddr()) {
		return nil, "its network may not take part"
	}
	host := hostOf(c.RemoteAddr())
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= maxStreams || g.hosts[host] >= maxStreamsPerHost {
		return nil, "too many streams at once"
	}
	g.all++
	g.hosts[host]++
	_ = c.SetDeadline(time.Now().Add(g.timeout)) // memberlist sets it again, sooner or later
	return &guarded{Conn: c, guard: g, labelled: true, closed: func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.all--
		if g.hosts[host]--; g.hosts[host] == 0 {
			delete(g.hosts, host)
		}
	}}, ""
}

// DialAddressTimeout is memberlist's. memberlist writes some messages without a deadline.
func (g *guard) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := g.NodeAwareTransport.DialAddressTimeout(a, min(timeout, g.timeout))
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(g.timeout))
	return &guarded{Conn: c, guard: g, closed: func() {}}, nil
}

// checkPacket says why a packet is refused; empty if it is not.
func (g *guard) checkPacket(from net.Addr, b []byte) string {
	if !g.allowed(from) {
		return "its network may not take part"
	}
	b, label, err := memberlist.RemoveLabelHeaderFromPacket(b)
	switch {
	case err != nil:
		return "its label is broken"
	case label != g.label:
		return "it is of another fabric"
	}
	if keys := g.keys(); len(keys) > 0 {
		plain, ok := unseal(keys, b, []byte(label))
		if !ok {
			return "none of the gossip keys opens it"
		}
		b = plain
	}
	if len(b) >= 5 && b[0] == wireChecksum {
		b = b[5:]
	}
	return checkPlain(b, true)
}

// checkPlain looks at a packet that is open. Nodes put messages side by side, but never into each other, and compress nothing.
func checkPlain(b []byte, outermost bool) string {
	switch {
	case len(b) == 0:
		return "it is empty"
	case b[0] == wireCompressed:
		return "it is compressed, which no node does"
	case b[0] != wireCompound:
		return ""
	case !outermost:
		return "it has messages in messages in messages"
	case len(b) < 2 || len(b) < 2+2*int(b[1]):
		return "it ends early"
	}
	sizes, rest := b[2:2+2*int(b[1])], b[2+2*int(b[1]):]
	for ; len(sizes) > 0; sizes = sizes[2:] {
		n := int(binary.BigEndian.Uint16(sizes))
		if n > len(rest) {
			return "it ends early"
		}
		if why := checkPlain(rest[:n], false); why != "" {
			return why
		}
		rest = rest[n:]
	}
	return ""
}

// unseal opens what memberlist sealed; not ok too if there is nothing in it.
func unseal(keys [][]byte, b, with []byte) ([]byte, bool) {
	if len(b) <= sealOverhead || b[0] != sealVersion {
		return nil, false
	}
	for _, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil {
			continue
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			continue
		}
		if plain, err := gcm.Open(nil, b[1:1+nonceBytes], b[1+nonceBytes:], with); err == nil {
			return plain, true
		}
	}
	return nil, false
}

// guarded is a stream whose first message is looked at before memberlist reads it. There is only one in each direction.
type guarded struct {
	net.Conn
	guard    *guard
	labelled bool // the other side opened the stream, so that it begins with a label
	closed   func()
	once     sync.Once

	checked bool
	head    []byte
	left    int64 // bytes that may still follow
	err     error
}

func (c *guarded) Read(b []byte) (int, error) {
	if !c.checked {
		c.checked, c.left = true, maxStreamBytes
		var why string
		why, c.err = c.check()
		if why != "" {
			c.guard.refused(c.Conn.RemoteAddr(), why)
			c.err, c.head = fmt.Errorf("%w: %s", errRefused, why), nil
		}
	}
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.err != nil {
		return 0, c.err
	}
	if c.left <= 0 {
		return 0, fmt.Errorf("%w: the stream is too long", errRefused)
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

// Close is net.Conn's.
func (c *guarded) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

// check reads the head of a message into c.head, for memberlist to read it again.
func (c *guarded) check() (why string, err error) {
	var seen bytes.Buffer
	r := io.TeeReader(io.LimitReader(c.Conn, maxStreamBytes), &seen)
	defer func() { c.head, c.left = seen.Bytes(), c.left-int64(seen.Len()) }()
	kind, err := readByte(r)
	if err != nil {
		return "", err
	}
	if c.labelled {
		label := ""
		if kind == wireLabel {
			if label, kind, err = readLabel(r); err != nil {
				return "", err
			}
		}
		if label != c.guard.label {
			return "it is of another fabric", nil
		}
	}
	keys := c.guard.keys()
	switch {
	case len(keys) == 0 && kind == wireEncrypted:
		return "it is encrypted, and this node has no gossip key", nil
	case len(keys) == 0:
		return checkHead(kind, r)
	case kind != wireEncrypted:
		return "it is not encrypted", nil
	}
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return "", err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxStreamBytes-1024 {
		return "it is too long", nil
	}
	var sealed bytes.Buffer // grows as it arrives: the length is only a claim
	if _, err := io.CopyN(&sealed, r, int64(n)); err != nil {
		return "", err
	}
	plain, ok := unseal(keys, sealed.Bytes(), append(append([]byte{wireEncrypted}, size[:]...), c.guard.label...))
	if !ok {
		return "none of the gossip keys opens it", nil
	}
	return checkHead(plain[0], bytes.NewReader(plain[1:]))
}

// checkHead looks at the lengths that memberlist makes room for before it reads.
func checkHead(kind byte, r io.Reader) (string, error) {
	dec := codec.NewDecoder(io.LimitReader(r, 512), &codec.MsgpackHandle{})
	switch kind {
	case wireCompressed:
		return "it is compressed, which no node does", nil
	case wirePushPull:
		var head struct {
			Nodes, UserStateLen int
			Join                bool
		}
		if err := dec.Decode(&head); err != nil || head.Nodes < 0 || head.Nodes > maxPushNodes || head.UserStateLen < 0 || head.UserStateLen > maxStreamBytes {
			return "its head is broken", nil
		}
	case wireUser:
		var head struct{ UserMsgLen int }
		if err := dec.Decode(&head); err != nil || head.UserMsgLen < 0 || head.UserMsgLen > maxStreamBytes {
			return "its head is broken", nil
		}
	}
	return "", nil
}

func readByte(r io.Reader) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

// readLabel reads the label and the byte behind it.
func readLabel(r io.Reader) (string, byte, error) {
	n, err := readByte(r)
	if err != nil {
		return "", 0, err
	}
	label := make([]byte, int(n))
	if _, err := io.ReadFull(r, label); err != nil {
		return "", 0, err
	}
	kind, err := readByte(r)
	return string(label), kind, err
}

func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
