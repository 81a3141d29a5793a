package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// target is a cluster under attack and a client beside it that must not notice.
type target struct {
	c    *Cluster
	done chan error
	calm *rawConn
	next int64 // offset of the calm client's next record
	used int   // attacks so far
	said int   // answers to them
}

// calmTopic is a name that no mutation hits.
const calmTopic = "calm-5b1d0c77a9"

func newTarget(t testing.TB) *target {
	t.Helper()
	c, err := New(Config{Name: "eu", InMemory: true, Listen: "127.0.0.1:0", Topics: []Topic{{"orders", 2}, {calmTopic, 1}},
		FrameTimeout: 50 * time.Millisecond}, discard())
	if err != nil {
		t.Fatal(err)
	}
	g := &target{c: c, done: make(chan error, 1)}
	go func() { g.done <- c.Run(context.Background()) }()
	g.calm = &rawConn{t: t}
	if g.calm.Conn, err = net.Dial("tcp", c.Addr()); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *target) stop(t testing.TB) {
	g.calm.Close()
	g.c.Close()
	select {
	case err := <-g.done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Run does not return after an attack")
	}
}

// check writes one record beside the attacks: it must get the next offset, soon.
func (g *target) check(t testing.TB) {
	t.Helper()
	g.calm.t = t
	began := time.Now()
	resp := answer[*kmsg.ProduceResponse](g.calm, produce(calmTopic, 9, goodBatch(t, 1, batch.None)))
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 0 || p.BaseOffset != g.next {
		t.Fatalf("another client's record got offset %d, want %d, error %d", p.BaseOffset, g.next, p.ErrorCode)
	}
	g.next++
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("another client waited %s", took)
	}
}

// attack sends a frame, as it is, and reads what comes for a moment. An answer must be one: whole, to this request, in the
// shape that kmsg reads.
func (g *target) attack(t testing.TB, frame []byte, key, version int16, correlation int32) {
	t.Helper()
	conn, err := net.Dial("tcp", g.c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(frame); err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond)) // some wait for others
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != correlation {
		t.Fatalf("answer to %d, asked was %d", got, correlation)
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(conn, body); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("half an answer to %s v%d: %v", kmsg.NameForKey(key), version, err)
	}
	g.said++
	if resp := kmsg.ResponseForKey(key); resp != nil {
		resp.SetVersion(version)
		if key == keyAPIVersions && !g.c.guard.versions.supports(header{key: key, version: version}) {
			resp.SetVersion(0)
		} else if resp.IsFlexible() && key != keyAPIVersions {
			body = body[1:]
		}
		if err := resp.ReadFrom(body); err != nil {
			t.Fatalf("answer to %s v%d does not read: %v", kmsg.NameForKey(key), version, err)
		}
	}
}

// FuzzListener: any body under any key and version, through the guarded listener to a live kfake. Nothing panics, every answer
// is one, memory stays bounded, and a client beside it gets its acknowledgements, one offset after the other.
func FuzzListener(f *testing.F) {
	r := newRand(13)
	known := served(f)
	for key, rng := range known {
		for version := rng.low; version <= rng.high; version++ {
			f.Add(key, version, false, kmsg.RequestForKey(key).AppendTo(nil))
			f.Add(key, version, kmsgFlexible(key, version), append([]byte{0}, randomRequest(r, key, version).AppendTo(nil)...))
		}
	}
	f.Add(int16(0), int16(9), false, produce("orders", 9, goodBatch(f, 3, batch.Snappy)).AppendTo(nil))
	g := newTarget(f)
	f.Cleanup(func() { g.stop(f) })
	f.Fuzz(func(t *testing.T, key, version int16, tagged bool, body []byte) {
		if g.used++; g.used%3000 == 0 { // topics that attacks made cost memory, as they may
			g.stop(t)
			g = newTarget(t)
		}
		rest := []byte{0xff, 0xff} // no client id
		if !tagged && kmsg.RequestForKey(key) != nil && known.check(header{key: key, version: version}) == nil && known.supports(header{key: key, version: version}) && kmsgFlexible(key, version) {
			rest = append(rest, 0)
		}
		correlation := int32(g.used)
		g.attack(t, appendFrame(key, version, correlation, append(rest, body...)), key, version, correlation)
		g.check(t)
		if g.used%200 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > 1<<30 {
				t.Fatalf("%d MiB of heap", m.HeapAlloc>>20)
			}
		}
	})
}

// TestListener_EveryKeyAndVersion sends every request that is served in every version, filled at random, whole, with one bit
// changed and cut short, while another client writes. It is FuzzListener without luck.
func TestListener_EveryKeyAndVersion(t *testing.T) {
	g := newTarget(t)
	defer func() { g.stop(t) }()
	g.check(t)
	r := newRand(17)
	correlation := int32(0)
	for key, rng := range g.c.guard.versions {
		for version := rng.low; version <= rng.high; version++ {
			rest := []byte{0xff, 0xff}
			if kmsgFlexible(key, version) {
				rest = append(rest, 0)
			}
			for _, mutate := range []func([]byte) []byte{
				func(b []byte) []byte { return b },
				func(b []byte) []byte { b[r.IntN(len(b))] ^= 1 << r.IntN(8); return b },
				func(b []byte) []byte { return b[:r.IntN(len(b))] },
			} {
				body := randomRequest(r, key, version).AppendTo(nil)
				if len(body) == 0 {
					continue
				}
				correlation++
				g.attack(t, appendFrame(key, version, correlation, append(rest[:len(rest):len(rest)], mutate(body)...)), key, version, correlation)
			}
			g.check(t)
		}
	}
	if g.said < int(correlation)/4 {
		t.Errorf("%d answers to %d requests: the attacks do not reach kfake", g.said, correlation)
	}
	got := readAll(t, g.c.Addr(), calmTopic, int(g.next), kgo.FetchMaxWait(50*time.Millisecond))
	if len(got) != int(g.next) {
		t.Errorf("another client wrote %d records, %d are there", g.next, len(got))
	}
}
