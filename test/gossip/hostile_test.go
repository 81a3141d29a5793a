package gossip

import (
	"bytes"
	"compress/lzw"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
	"github.com/isthmus-project/isthmus/topology/gossip"
)

// real starts a pool on loopback sockets.
func real(t *testing.T, name string, key []byte, seeds ...string) *gossip.Pool {
	t.Helper()
	clock := gossip.NewClock(name, time.Now)
	cfg := gossip.Config{Name: name, DC: "a", Fabric: "shop", Bind: "127.0.0.1:0", Seeds: seeds}
	if key != nil {
		cfg.Keys = [][]byte{key}
	}
	p, err := gossip.NewPool(cfg, gossip.Deps{Settings: gossip.NewSettings(clock), Clock: clock, Now: time.Now, Rand: rand.New(rand.NewPCG(1, 2))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	})
	eventually(t, p, name+" listens", func() bool { return p.Addr() != "" })
	return p
}

// eventually waits for a condition that a change of the pool brings.
func eventually(t *testing.T, p *gossip.Pool, what string, ok func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		changed := p.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond): // it may be another pool's change
		case <-late:
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

func alive(p *gossip.Pool) (n int) {
	for _, m := range p.View().Members {
		if m.Status == gossip.Alive {
			n++
		}
	}
	return n
}

// message encodes one of memberlist's.
func message(kind byte, v any) []byte {
	b := bytes.NewBuffer([]byte{kind})
	if err := codec.NewEncoder(b, &codec.MsgpackHandle{}).Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// bomb is a compressed message that unpacks to many zeros.
func bomb(size int) []byte {
	var b bytes.Buffer
	w := lzw.NewWriter(&b, lzw.LSB, 8)
	_, _ = w.Write(make([]byte, size))
	_ = w.Close()
	return message(9, map[string]any{"Algo": 0, "Buf": b.Bytes()})
}

// seal encrypts as memberlist does.
func seal(key []byte, version byte, plain, with []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := make([]byte, 12)
	for i := range nonce {
		nonce[i] = byte(rand.Uint32())
	}
	return append(append([]byte{version}, nonce...), gcm.Seal(nil, nonce, plain, with)...)
}

// hostile are messages of memberlist that have crashed some version of it, or made it take gigabytes, and the like.
func hostile() map[string][]byte {
	nested := []byte{0}
	for range 100 {
		nested = append([]byte{7, 1, byte(len(nested) >> 8), byte(len(nested))}, nested...)
	}
	many := map[string]any{"Nodes": 1 << 20, "UserStateLen": 0, "Join": true}
	state := append(message(6, map[string]any{"Nodes": 1, "UserStateLen": 20 << 20, "Join": true}),
		message(0, map[string]any{"Name": "x", "Addr": []byte{1}, "Vsn": []byte{1}})[1:]...)
	return map[string][]byte{
		"nothing":                           {},
		"alive with a short version":        message(4, map[string]any{"Node": "x", "Addr": []byte{127, 0, 0, 1}, "Port": 1, "Vsn": []byte{1}}),
		"alive without a name":              message(4, map[string]any{"Node": "", "Addr": []byte{127, 0, 0, 1}, "Port": 1, "Vsn": []byte{1, 5, 2, 0, 0, 0}}),
		"alive with a strange start":        message(4, map[string]any{"Node": "x", "Addr": []byte{1, 2, 3}, "Port": 1, "Vsn": []byte{1, 5, 2, 0, 0, 0}, "Meta": make([]byte, 5000)}),
		"user message of gigabytes":         message(8, map[string]any{"UserMsgLen": 1 << 40}),
		"user message of 20 MB":             message(8, map[string]any{"UserMsgLen": 20 << 20}),
		"user message below zero":           message(8, map[string]any{"UserMsgLen": -1}),
		"a million nodes":                   message(6, many),
		"a state of 20 MB":                  state,
		"compressed nothing":                bomb(0),
		"a bomb":                            bomb(30 << 20),
		"compressed in a list":              append([]byte{7, 1, 0, 200}, bomb(1 << 20)[:200]...),
		"nested lists":                      nested,
		"a list that lies":                  {7, 255, 1},
		"deep msgpack":                      append([]byte{0}, bytes.Repeat([]byte{0x91}, 1200)...),
		"a string of gigabytes":             {0, 0x81, 0xdb, 0xff, 0xff, 0xff, 0xff, 'a'},
		"a map of billions":                 {4, 0xdf, 0xff, 0xff, 0xff, 0xff},
		"an own message of nothing":         {8},
		"an own message of a later version": append([]byte{8, 200, 1, 'x', 1}, make([]byte, 50)...),
		"a suspicion of everybody":          message(3, map[string]any{"Incarnation": 1 << 30, "Node": "b", "From": "x"}),
		"an unknown kind":                   {99, 1, 2, 3},
	}
}

func TestPool_SurvivesHostilePackets(t *testing.T) {
	label, err := memberlist.AddLabelHeaderToPacket(nil, "shop")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		key, has []byte // of the pool, and of who attacks
	}{{"without a key", nil, nil}, {"with a key that the attacker has not", Key(1), nil}, {"from one who has the key", Key(1), Key(1)}, {"with a wrong key", Key(1), Key(2)}} {
		t.Run(tc.name, func(t *testing.T) {
			a := real(t, "a", tc.key)
			b := real(t, "b", tc.key, a.Addr())
			eventually(t, a, "they see each other", func() bool { return alive(a) == 2 && alive(b) == 2 })
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var peak uint64
			for _, m := range hostile() {
				packet, stream := m, m
				if tc.has != nil {
					packet = seal(tc.has, 1, m, []byte("shop"))
					head := binary.BigEndian.AppendUint32([]byte{10}, uint32(len(m)+29))
					stream = append(head, seal(tc.has, 1, m, append(append([]byte{}, head...), "shop"...))...)
				}
				for _, with := range [][]byte{label, nil} {
					send(t, a.Addr(), append(append([]byte{}, with...), packet...), append(append([]byte{}, with...), stream...))
				}
				if tc.has != nil { // padding that is not there
					send(t, a.Addr(), append(append([]byte{}, label...), seal(tc.has, 0, append(make([]byte, 15), 200), []byte("shop"))...), nil)
				}
				runtime.ReadMemStats(&after)
				peak = max(peak, after.HeapAlloc-min(after.HeapAlloc, before.HeapAlloc))
			}
			for range 2000 {
				junk := make([]byte, rand.IntN(300))
				for i := range junk {
					junk[i] = byte(rand.Uint32())
				}
				send(t, a.Addr(), append(append([]byte{}, label...), junk...), nil)
			}
			t.Logf("%d MB more at most", peak>>20)
			if peak > 96<<20 {
				t.Errorf("hostile packets took %d MB, want less than 96", peak>>20)
			}
			// The members may doubt each other after lies of one who has the key, but not for long.
			eventually(t, a, "they see each other", func() bool { return alive(a) == 2 && alive(b) == 2 })
			if err := a.Send(context.Background(), "b", "hello", nil); err != nil {
				t.Errorf("after hostile packets a message fails: %v", err)
			}
		})
	}
}

// send throws a packet and a stream at a node.
func send(t *testing.T, addr string, packet, stream []byte) {
	t.Helper()
	u, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, _ = u.Write(packet[:min(len(packet), 60000)]) // what the socket refuses is not sent
	if stream == nil {
		return
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := c.Write(stream); err == nil {
		_, _ = c.Read(make([]byte, 1000))
	}
}

func TestPool_BoundsTheStreamsOfOneHost(t *testing.T) {
	a := real(t, "a", Key(1))
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range 200 {
		c, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	closed := 0
	for _, c := range open {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			if e, ok := err.(net.Error); !ok || !e.Timeout() {
				closed++
			}
		}
	}
	if closed < 150 {
		t.Errorf("%d of 200 silent streams of one host were closed, want most", closed)
	}
}
