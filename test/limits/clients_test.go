package limits

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/embedded"
	"github.com/isthmus-project/isthmus/test/judge"
)

// request is a whole frame.
func request(key, version int16, correlation int32, body []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(10+len(body)))
	out = binary.BigEndian.AppendUint16(out, uint16(key))
	out = binary.BigEndian.AppendUint16(out, uint16(version))
	out = binary.BigEndian.AppendUint32(out, uint32(correlation))
	return append(binary.BigEndian.AppendUint16(out, 0xffff), body...)
}

// attack writes bytes on a connection of its own and reads until the other side ends it or is silent for a moment.
func attack(t *testing.T, addr string, frames ...[]byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, f := range frames {
		if _, err := conn.Write(f); err != nil {
			return // ended already
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	_, _ = io.Copy(io.Discard, conn)
}

// hostileClients are what an embedded cluster is asked by those who do not mean well.
var hostileClients = map[string]func(t *testing.T, addr string){
	"counts of 2^32-1 everywhere in every request": func(t *testing.T, addr string) {
		for key := range int16(100) {
			req := kmsg.RequestForKey(key)
			if req == nil {
				continue
			}
			req.SetVersion(req.MaxVersion())
			body := req.AppendTo([]byte{0})
			for at := range min(len(body), 12) {
				attack(t, addr, request(key, req.MaxVersion(), 1, append(append(bytes.Clone(body[:at]), 0xff, 0xff, 0xff, 0xff, 0x0f), body[at+1:]...)))
			}
		}
	},
	"one correlation id for all": func(t *testing.T, addr string) {
		var all [][]byte
		for range 200 {
			all = append(all, request(int16(kmsg.ApiVersions), 0, 7, nil))
		}
		attack(t, addr, all...)
	},
	"SASL where there is none": func(t *testing.T, addr string) {
		attack(t, addr, request(int16(kmsg.SASLHandshake), 1, 1, []byte{0, 5, 'P', 'L', 'A', 'I', 'N'}))
		bomb := append([]byte{0x7f, 0xff, 0xff, 0xff}, make([]byte, 4<<20)...)
		attack(t, addr, request(int16(kmsg.SASLAuthenticate), 1, 1, bomb))
		attack(t, addr, binary.BigEndian.AppendUint32(nil, 1<<31-1), bomb)
	},
	"three times as many connections as may be": func(t *testing.T, addr string) {
		conns := make([]net.Conn, 0, 3*connections)
		defer func() {
			for _, c := range conns {
				c.Close()
			}
		}()
		for range cap(conns) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			_, _ = c.Write([]byte{0, 0}) // half a size, and silence
		}
		last := conns[len(conns)-1] // ended when all were looked at
		_ = last.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, last); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection above the limit stays open")
		}
	},
	"lengths of 100 MB": func(t *testing.T, addr string) {
		var conns []net.Conn
		for range 100 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = c.Write(append(binary.BigEndian.AppendUint32(nil, 100<<20), request(int16(kmsg.Produce), 9, 1, nil)[4:]...))
			conns = append(conns, c)
		}
		for _, c := range conns { // the cluster ends them when no more comes
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("a connection with half a frame stays open")
			}
		}
	},
}

// connections is the limit of the cluster under attack; 10 000 connections meet it as 600 do.
const connections = 200

// TestClients_OthersAreUnaffected: while hostile clients do all of that, others write and read; none of their records is lost or
// doubled, memory stays bounded, and what was refused is counted.
func TestClients_OthersAreUnaffected(t *testing.T) {
	c := embed(t, embedded.Config{Name: "eu", InMemory: true, MaxConnections: connections, FrameTimeout: time.Second,
		Topics: []embedded.Topic{{Name: "orders", Partitions: 1}}})
	client := judge.Client{Name: "eu", Bootstrap: []string{c.Addr()}}
	log := judge.NewLog()
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() {
		written <- judge.Write(ctx, client, judge.Load{Topic: "orders", Partitions: 1, Rate: 500, Size: 200, Seed: 1}, log)
	}()
	wait(t, 10*time.Second, "the first records are written", func() string {
		if log.Acked("eu") == 0 {
			return "none is"
		}
		return ""
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, attack := range hostileClients {
		acked, counted := log.Acked("eu"), refusals(c)
		attack(t, c.Addr())
		wait(t, 10*time.Second, "writing goes on during "+name, func() string {
			if log.Acked("eu") == acked {
				return "nothing was acknowledged"
			}
			return ""
		})
		if name != "one correlation id for all" && refusals(c) == counted {
			t.Errorf("%s: nothing was counted", name)
		}
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 128<<20 {
			t.Errorf("%s: heap grew by %d MiB", name, grown>>20)
		}
	}
	cancel()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	v, err := judge.Case{Clusters: []judge.Client{client}, Topics: []string{"orders"}, Log: log}.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK() || v.Records["eu"] != log.Acked("eu") {
		t.Errorf("acknowledged %d: %s", log.Acked("eu"), v)
	}
}

// refusals counts what a cluster refused.
func refusals(c *embedded.Cluster) uint64 {
	s := c.Stats()
	n := s.RefusedConnections
	for _, r := range s.Rejected {
		n += r
	}
	return n
}
