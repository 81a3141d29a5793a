package embedded

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func size(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func header10(key, version int16, clientID int16) []byte {
	out := appendFrame(key, version, 1, nil)[sizeBytes:]
	return binary.BigEndian.AppendUint16(out, uint16(clientID))
}

func framed(b []byte) []byte { return append(size(uint32(len(b))), b...) }

// bystander is a well-behaved client: it must not notice the hostile ones.
func bystander(t *testing.T, addr string) func() {
	cl := client(t, addr, kgo.DefaultProduceTopic("calm"))
	n := 0
	return func() {
		t.Helper()
		n++
		if err := cl.ProduceSync(within(t, 10*time.Second), kgo.StringRecord(fmt.Sprint(n))).FirstErr(); err != nil {
			t.Fatalf("another client is disturbed: %v", err)
		}
	}
}

func TestGuard_ClosesHostileConnections(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, Topics: []Topic{{"orders", 1}, {"calm", 1}}, FrameTimeout: 300 * time.Millisecond})
	works := bystander(t, c.Addr())
	works()
	bomb := []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // 2^32-1
	for _, tc := range []struct {
		name   string
		send   []byte
		reason Reason
	}{
		{"size 0", size(0), ReasonSize},
		{"size 1", size(1), ReasonSize},
		{"size of less than a header", size(9), ReasonSize},
		{"size -1", size(0xffffffff), ReasonSize},
		{"largest size", size(0x7fffffff), ReasonSize},
		{"smallest size", size(0x80000000), ReasonSize},
		{"TLS hello", []byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03}, ReasonTLS},
		{"HTTP GET", []byte("GET / HTTP/1.1\r\nHost: kafka\r\n\r\n"), ReasonHTTP},
		{"HTTP POST", []byte("POST / HTTP/1.1\r\n\r\n"), ReasonHTTP},
		{"HTTP 2", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ReasonHTTP},
		{"key 32000", framed(header10(32000, 0, -1)), ReasonUnknownKey},
		{"key -1", framed(header10(-1, 0, -1)), ReasonUnknownKey},
		{"key of a controller", framed(header10(52, 0, -1)), ReasonUnknownKey},
		{"version -5", framed(header10(3, -5, -1)), ReasonVersion},
		{"version 999", framed(header10(3, 999, -1)), ReasonVersion},
		{"client id -2", framed(header10(3, 1, -2)), ReasonHeader},
		{"client id 32767", framed(header10(3, 1, 32767)), ReasonHeader},
		{"header tag bomb", framed(append(header10(3, 12, -1), bomb...)), ReasonHeader},
		{"body tag bomb", framed(append(append(header10(12, 4, -1), 0, 2, 'g', 0, 0, 0, 1, 2, 'm', 0), bomb...)), ReasonBody},
		{"array bomb", framed(append(header10(3, 1, -1), 0x7f, 0xff, 0xff, 0xff)), ReasonBody},
		{"compact array bomb", framed(append(append(header10(3, 12, -1), 0), bomb...)), ReasonBody},
		{"produce topics bomb", framed(append(append(header10(0, 9, -1), 0, 0, 0xff, 0xff, 0, 0, 0, 1), bomb...)), ReasonBody},
		{"bytes after the body", framed(append(header10(18, 0, -1), 1)), ReasonBody},
		{"body cut short", framed(append(header10(3, 1, -1), 0)), ReasonBody},
		{"size then silence", size(100), ReasonTimeout},
		{"header then silence", append(size(100), header10(3, 1, -1)...), ReasonTimeout},
		{"large size then silence", append(size(50<<20), header10(0, 9, -1)...), ReasonTimeout},
		{"large request that is not produce", append(size(50<<20), header10(3, 1, -1)...), ReasonSize},
		{"half a size", []byte{0, 0}, ReasonTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := c.Stats().Rejected[tc.reason]
			conn := dial(t, c.Addr())
			conn.send(tc.send)
			if !conn.ended(5 * time.Second) {
				t.Error("connection stays open")
			}
			if after := c.Stats().Rejected[tc.reason]; after != before+1 {
				t.Errorf("rejected[%s] went from %d to %d; all: %v", tc.reason, before, after, c.Stats().Rejected)
			}
			works()
		})
	}
}

func TestGuard_BoundsTimeOfDribble(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, FrameTimeout: 300 * time.Millisecond})
	conn := dial(t, c.Addr())
	go func() { // a byte now and then never lets a read time out
		for _, b := range append(size(1000), make([]byte, 1000)...) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	if !conn.ended(5 * time.Second) {
		t.Error("connection stays open")
	}
}

func TestGuard_ClosesIdleConnections(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, IdleTimeout: 200 * time.Millisecond})
	if !dial(t, c.Addr()).ended(5 * time.Second) {
		t.Error("connection stays open")
	}
	if s := c.Stats(); len(s.Rejected) != 0 {
		t.Errorf("an idle client counts as hostile: %v", s.Rejected)
	}
}

func TestGuard_AnswersUnknownApiVersions(t *testing.T) {
	c, _ := start(t, Config{InMemory: true})
	conn := dial(t, c.Addr())
	for _, version := range []int16{-5, 6, 999} {
		conn.request(18, version, []byte("what a later version has here"))
		req := kmsg.NewPtrApiVersionsRequest()
		resp := read[*kmsg.ApiVersionsResponse](conn, req)
		if resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) != 1 || resp.ApiKeys[0].ApiKey != 18 || resp.ApiKeys[0].MaxVersion < 3 {
			t.Errorf("v%d is answered with %+v", version, resp)
		}
	}
	req := kmsg.NewPtrApiVersionsRequest()
	if resp := answer[*kmsg.ApiVersionsResponse](conn, req); resp.ErrorCode != 0 || len(resp.ApiKeys) < 40 {
		t.Errorf("v0 after that is answered with %+v", resp)
	}
}

// TestGuard_AnswersInOrder pipelines requests that kfake answers with one that
// the guard answers.
func TestGuard_AnswersInOrder(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, Topics: []Topic{{"orders", 1}, {"calm", 1}}})
	conn := dial(t, c.Addr())
	var out []byte
	for i := range int32(60) {
		version := int16(0)
		if i%3 == 2 {
			version = 999
		}
		out = append(out, appendFrame(18, version, i, []byte{0xff, 0xff})...)
	}
	conn.send(out)
	for i := range int32(60) {
		conn.correlation = i
		conn.response()
	}
}

func TestGuard_BoundsConnections(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, MaxConnections: 20, Topics: []Topic{{"orders", 1}, {"calm", 1}}})
	works := bystander(t, c.Addr())
	works()
	open := int(c.Stats().Connections)
	conns := make([]*rawConn, 0, 100)
	for range cap(conns) {
		conns = append(conns, dial(t, c.Addr()))
	}
	for _, conn := range conns[20-open:] {
		if !conn.ended(5 * time.Second) {
			t.Fatal("a connection above the limit stays open")
		}
	}
	works()
	for _, conn := range conns {
		conn.Close()
	}
	eventually(t, func() bool { return c.Stats().Connections <= int64(open) })
	dial(t, c.Addr()).kmsg(kmsg.NewPtrApiVersionsRequest())
	works()
	if s := c.Stats(); s.RefusedConnections != uint64(100-20+open) {
		t.Errorf("refused %d connections, want %d", s.RefusedConnections, 100-20+open)
	}
}

// TestGuard_LengthsCostNothing announces 100 MiB on many connections and sends
// little of it.
func TestGuard_LengthsCostNothing(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, Topics: []Topic{{"orders", 1}, {"calm", 1}}})
	works := bystander(t, c.Addr())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		dial(t, c.Addr()).send(append(size(100<<20), header10(0, 9, -1)...))
	}
	works()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("heap grew by %d MiB", grown>>20)
	}
}

// TestGuard_BoundsBufferedBytes fills the budget with frames that never end;
// others get their turn when those time out.
func TestGuard_BoundsBufferedBytes(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, MaxFrameBytes: 4 << 20, MaxBufferedBytes: 4 << 20, FrameTimeout: time.Second, Topics: []Topic{{"orders", 1}, {"calm", 1}}})
	works := bystander(t, c.Addr())
	for range 3 {
		conn := dial(t, c.Addr())
		go func() {
			_, _ = conn.Write(append(size(4<<20), header10(0, 9, -1)...))
			_, _ = io.CopyN(conn, zeros{}, 3<<20)
		}()
	}
	works() // a small frame needs no budget
	big := &kgo.Record{Topic: "orders", Value: make([]byte, 500<<10)}
	cl := client(t, c.Addr(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err := cl.ProduceSync(within(t, 20*time.Second), big).FirstErr(); err != nil {
		t.Fatalf("a large frame never gets its turn: %v", err)
	}
	eventually(t, func() bool { return c.guard.budget.TryAcquire(4 << 20) })
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestGuard_SurvivesMutations sends requests of every key and version that are
// nearly right. What passes the guard must not kill kfake.
func TestGuard_SurvivesMutations(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, Topics: []Topic{{"orders", 1}, {"calm", 1}}})
	works := bystander(t, c.Addr())
	works()
	r := newRand(7)
	until := time.Now().Add(mutationTime)
	for time.Now().Before(until) {
		for key, rng := range c.guard.versions {
			version := rng.low + int16(r.IntN(int(rng.high-rng.low)+1))
			body := randomRequest(r, key, version).AppendTo(nil)
			if len(body) > 0 && r.IntN(2) == 0 {
				body[r.IntN(len(body))] ^= byte(1 << r.IntN(8))
			}
			conn, err := net.Dial("tcp", c.Addr())
			if err != nil {
				t.Fatal(err)
			}
			rest := []byte{0xff, 0xff}
			if kmsgFlexible(key, version) {
				rest = append(rest, 0)
			}
			_, _ = conn.Write(appendFrame(key, version, 1, append(rest, body...)))
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // some wait for others
			_, _ = conn.Read(make([]byte, 1))
			conn.Close()
		}
	}
	works()
}

func kmsgFlexible(key, version int16) bool {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	return req.IsFlexible()
}

// mutationTime is how long nearly right requests are sent.
const mutationTime = 3 * time.Second
