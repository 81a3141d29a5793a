package relay

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

// listen serves each connection to the address that it returns.
func listen(t testing.TB, fn func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go fn(c)
		}
	}()
	return l.Addr().String()
}

// overTCP runs a relay over real sockets to a broker that serve plays, and returns the client's end.
func overTCP(t testing.TB, serve func(net.Conn), change ...func(*Config)) (client *net.TCPConn, ended <-chan error) {
	t.Helper()
	return overTCPVia(t, serve, func(ctx context.Context, broker string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", broker)
	}, change...)
}

func overTCPVia(t testing.TB, serve func(net.Conn), dial func(ctx context.Context, broker string) (net.Conn, error), change ...func(*Config)) (client *net.TCPConn, ended <-chan error) {
	t.Helper()
	broker := listen(t, serve)
	v, err := rewrite.NewView("virtual", []rewrite.Slot{{ID: 1, Node: 101, Host: "door.example", Port: 9093}})
	if err != nil {
		t.Fatal(err)
	}
	versions, err := apis.Offer(nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	door := listen(t, func(c net.Conn) {
		cfg := Config{Client: c, Versions: versions, View: func() *rewrite.View { return v }, Dial: func(ctx context.Context, _ bool) (net.Conn, bool, error) {
			up, err := dial(ctx, broker)
			return up, false, err
		}}
		for _, fn := range change {
			fn(&cfg)
		}
		r, err := New(cfg)
		if err != nil {
			panic(err)
		}
		done <- r.Run(context.Background())
	})
	c, err := net.Dial("tcp", door)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn), done
}

// answering plays a broker that answers the requests of one key with body, which begins behind the correlation id, and no others.
func answering(key kmsg.Key, body []byte) func(net.Conn) {
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 8+len(body)), uint32(4+len(body)))
	out = append(append(out, 0, 0, 0, 0), body...)
	return func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReaderSize(c, 256<<10)
		for {
			head, err := in.Peek(12)
			if err != nil {
				return
			}
			copy(out[4:8], head[8:12])
			answered := int16(binary.BigEndian.Uint16(head[4:])) == int16(key)
			if _, err := in.Discard(4 + int(binary.BigEndian.Uint32(head))); err != nil {
				return
			}
			if !answered {
				continue
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

// TestRelay_HalfClose: a client that has asked its last and says so still gets its answers, and then FIN.
func TestRelay_HalfClose(t *testing.T) {
	client, ended := overTCP(t, answering(kmsg.Heartbeat, kmsg.NewPtrHeartbeatResponse().AppendTo([]byte{0})))
	send(t, client, request(1, 4, kmsg.NewPtrHeartbeatRequest()), request(2, 4, kmsg.NewPtrHeartbeatRequest()))
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expect(t, client, 1)
	expect(t, client, 2)
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v behind the last answer", n, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRelay_BrokerIsNotThere: to clients it is as if nobody were there. A FIN in answer to the first request they would take for a login that
// was refused, and some never try again; so they get it only where the broker says so itself.
func TestRelay_BrokerIsNotThere(t *testing.T) {
	var d net.Dialer
	reach := func(ctx context.Context, broker string) (net.Conn, error) { return d.DialContext(ctx, "tcp", broker) }
	for name, tc := range map[string]struct {
		serve func(net.Conn)
		dial  func(context.Context, string) (net.Conn, error)
		is    error // what the client sees
	}{
		"cannot be reached": {nil, func(context.Context, string) (net.Conn, error) { return nil, errors.New("refused") }, syscall.ECONNRESET},
		"is killed": {func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 12))
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}, reach, syscall.ECONNRESET},
		"refuses": {func(c net.Conn) {
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}, reach, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			client, ended := overTCPVia(t, tc.serve, tc.dial)
			send(t, client, request(1, 3, kmsg.NewPtrApiVersionsRequest()))
			expect(t, client, 1)
			send(t, client, request(2, 9, kmsg.NewPtrMetadataRequest()))
			if n, err := client.Read(make([]byte, 1)); n != 0 || !errors.Is(err, tc.is) {
				t.Errorf("%d bytes, %v, want %v", n, err, tc.is)
			}
			_ = client.Close()
			var e *Error
			if err := <-ended; !errors.As(err, &e) || e.Side != Upstream {
				t.Error(err)
			}
		})
	}
}

// fetchAnswer is the body of an answer with batches of a size.
func fetchAnswer(partitions, size int) []byte {
	m := kmsg.NewPtrFetchResponse()
	m.SetVersion(12)
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic = "orders"
	for range partitions {
		p := kmsg.NewFetchResponseTopicPartition()
		p.RecordBatches = make([]byte, size)
		binary.BigEndian.PutUint32(p.RecordBatches[8:], uint32(size-12))
		p.RecordBatches[16] = 2
		topic.Partitions = append(topic.Partitions, p)
	}
	m.Topics = append(m.Topics, topic)
	return m.AppendTo([]byte{0})
}

// TestRelay_StreamsLongFrames: 80 MB there, without acks, and 100 MB back take hardly any memory.
func TestRelay_StreamsLongFrames(t *testing.T) {
	body := fetchAnswer(100, 1<<20)
	client, _ := overTCP(t, answering(kmsg.Fetch, body))
	in := bufio.NewReaderSize(client, 256<<10)
	frames := [][]byte{request(1, 9, produce(0, 80<<20)), request(2, 12, kmsg.NewPtrFetchRequest())}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	post(client, frames...)
	if n, err := io.CopyN(io.Discard, in, int64(8+len(body))); err != nil {
		t.Fatalf("%d bytes: %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// BenchmarkRelay_Fetch is answers over loopback, through the relay and without it; client, relay and broker share one core.
func BenchmarkRelay_Fetch(b *testing.B) {
	for _, tc := range []struct {
		name             string
		partitions, size int
	}{{"1MB of 16kB", 64, 16 << 10}, {"16kB", 1, 16 << 10}, {"100B", 1, 100}} {
		body := fetchAnswer(tc.partitions, tc.size)
		run := func(b *testing.B, client net.Conn) {
			in := bufio.NewReaderSize(client, 256<<10)
			req := request(1, 12, kmsg.NewPtrFetchRequest())
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Write(req); err != nil {
					b.Fatal(err)
				}
				if _, err := in.Discard(8 + len(body)); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.Run(tc.name+"/relay", func(b *testing.B) {
			client, _ := overTCP(b, answering(kmsg.Fetch, body))
			run(b, client)
		})
		b.Run(tc.name+"/direct", func(b *testing.B) {
			client, err := net.Dial("tcp", listen(b, answering(kmsg.Fetch, body)))
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			run(b, client)
		})
	}
}

// BenchmarkRelay_Produce is requests through the relay over loopback.
func BenchmarkRelay_Produce(b *testing.B) {
	for name, size := range map[string]int{"1MB": 1 << 20, "16kB": 16 << 10} {
		b.Run(name, func(b *testing.B) {
			resp := kmsg.NewPtrProduceResponse()
			resp.SetVersion(7)
			client, _ := overTCP(b, answering(kmsg.Produce, resp.AppendTo(nil)))
			frame := request(1, 7, produce(-1, size))
			answered := bufio.NewReader(client)
			n := 8 + len(resp.AppendTo(nil))
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Write(frame); err != nil {
					b.Fatal(err)
				}
				if _, err := answered.Discard(n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestRelay_NoResetOvertakesAnswers: the broker hangs up while the client is in the middle of a long request. The client gets what was
// answered and then FIN; a reset would take the answer with it.
func TestRelay_NoResetOvertakesAnswers(t *testing.T) {
	client, ended := overTCP(t, func(c net.Conn) {
		defer c.Close()
		b := make([]byte, len(request(1, 4, kmsg.NewPtrHeartbeatRequest())))
		_, _ = io.ReadFull(c, b)
		_, _ = c.Write(answer(1, 4, kmsg.NewPtrHeartbeatResponse()))
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(append(request(1, 4, kmsg.NewPtrHeartbeatRequest()), request(2, 9, produce(1, 50<<20))...))
		sent <- err
	}()
	expect(t, client, 1)
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v behind the answer, want its FIN", n, err)
	}
	if err := <-sent; err != nil { // where a reset shows, on Linux
		t.Errorf("the rest of the request: %v", err)
	}
	_ = client.Close()
	var e *Error
	if err := <-ended; !errors.As(err, &e) || e.Side != Upstream {
		t.Error(err)
	}
}
