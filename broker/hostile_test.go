package broker_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

// puppet is a broker that does with each request what a test says.
type puppet struct {
	// play answers the nth request after ApiVersions, from 0; false ends the connection.
	play func(conn net.Conn, n int, r asked) bool
	// versions plays ApiVersions; nil = the newest of all.
	versions func(conn net.Conn, r asked) bool
}

// asked is the head of a request.
type asked struct {
	key, version int16
	correlation  int32
	body         []byte // with the head
}

// dial is for a Profile.
func (p *puppet) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go p.serve(theirs)
	return ours, nil
}

func (p *puppet) serve(conn net.Conn) {
	defer conn.Close()
	for n := 0; ; {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		r := asked{int16(binary.BigEndian.Uint16(body)), int16(binary.BigEndian.Uint16(body[2:])), int32(binary.BigEndian.Uint32(body[4:])), body}
		switch {
		case r.key != int16(kmsg.ApiVersions):
			if !p.play(conn, n, r) {
				return
			}
			n++
		case p.versions != nil:
			if !p.versions(conn, r) {
				return
			}
		default:
			reply(conn, r, newest(r.version))
		}
	}
}

// newest is an ApiVersions answer of a broker that knows all we know.
func newest(version int16) *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = version
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.Produce, kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate} {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = int16(key), 99
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	return resp
}

// reply writes an answer as a broker does.
func reply(conn net.Conn, r asked, resp kmsg.Response) bool {
	head := binary.BigEndian.AppendUint32(nil, uint32(r.correlation))
	if resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions) {
		head = append(head, 0)
	}
	body := resp.AppendTo(head)
	return send(conn, binary.BigEndian.AppendUint32(nil, uint32(len(body))), body)
}

// send writes pieces.
func send(conn net.Conn, pieces ...[]byte) bool {
	for _, b := range pieces {
		if _, err := conn.Write(b); err != nil {
			return false
		}
	}
	return true
}

// frame is the head of an answer of any length that is claimed.
func frame(length, correlation int32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(length)), uint32(correlation))
}

var somewhere = broker.Broker{ID: 1, Host: "127.0.0.1", Port: 9092}

func (p *puppet) open(t *testing.T) *broker.Cluster {
	t.Helper()
	return openProfile(t, broker.Profile{Name: "evil", Bootstrap: []string{"127.0.0.1:9092"}, Dial: p.dial})
}

// hostile are ways to answer any request, and what is said about each.
var hostile = map[string]struct {
	play func(conn net.Conn, r asked) bool
	want error
	text string
	took time.Duration // at most, on the clock of the bubble
}{
	"closes":             {func(net.Conn, asked) bool { return false }, io.EOF, "", 0},
	"says nothing":       {func(net.Conn, asked) bool { return true }, nil, "no progress for 3", time.Minute},
	"speaks HTTP":        {func(c net.Conn, _ asked) bool { return send(c, []byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, broker.ErrProtocol, "limit", 0},
	"negative length":    {func(c net.Conn, r asked) bool { return send(c, frame(-5, r.correlation)) }, broker.ErrProtocol, "limit", 0},
	"length 0":           {func(c net.Conn, r asked) bool { return send(c, frame(0, r.correlation)) }, broker.ErrProtocol, "limit", 0},
	"length of 2 GB":     {func(c net.Conn, r asked) bool { return send(c, frame(1<<31-1, r.correlation)) }, broker.ErrProtocol, "limit", 0},
	"empty":              {func(c net.Conn, r asked) bool { return send(c, frame(4, r.correlation)) }, broker.ErrProtocol, "", 0},
	"wrong correlation":  {func(c net.Conn, r asked) bool { return send(c, frame(40, r.correlation+1)) }, broker.ErrProtocol, "correlation", 0},
	"closes in the head": {func(c net.Conn, r asked) bool { return send(c, frame(40, r.correlation)[:6]) && false }, io.ErrUnexpectedEOF, "", 0},
	"closes mid-frame":   {func(c net.Conn, r asked) bool { return send(c, frame(4000, r.correlation), make([]byte, 100)) && false }, io.ErrUnexpectedEOF, "", 0},
	"stalls mid-frame":   {func(c net.Conn, r asked) bool { return send(c, frame(4000, r.correlation), make([]byte, 100)) }, nil, "no progress for 30s", time.Minute},
	"garbage": {func(c net.Conn, r asked) bool {
		return send(c, frame(4+1000, r.correlation), []byte(strings.Repeat("\x7f", 1000)))
	}, broker.ErrProtocol, "", 0},
}

// check looks at how an operation on a hostile broker ended.
func check(t *testing.T, err, want error, text string, took, limit time.Duration) {
	t.Helper()
	if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "broker 1 of evil") {
		t.Errorf("error %v, want %v with %q and the broker's name", err, want, text)
	}
	if took > limit {
		t.Errorf("took %v", took)
	}
}

func TestHostile_Fetch(t *testing.T) {
	for name, h := range hostile {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &puppet{play: func(conn net.Conn, _ int, r asked) bool { return h.play(conn, r) }}
				s, err := p.open(t).FetchSession(t.Context(), somewhere)
				if err != nil {
					t.Fatal(err)
				}
				s.Set(broker.FetchPartition{Topic: "a", TopicID: broker.TopicID{1}})
				start := time.Now()
				_, err = s.Fetch(t.Context(), broker.FetchOptions{MaxWait: time.Second})
				check(t, err, h.want, h.text, time.Since(start), h.took)
				if _, again := s.Fetch(t.Context(), broker.FetchOptions{}); again == nil || again.Error() != err.Error() {
					t.Errorf("a dead session says %v", again)
				}
			})
		})
	}
}

func TestHostile_Produce(t *testing.T) {
	for name, h := range hostile {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &puppet{play: func(conn net.Conn, _ int, r asked) bool { return h.play(conn, r) }}
				conn, err := p.open(t).ProduceConn(t.Context(), somewhere)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				start := time.Now()
				if err := conn.Send(t.Context(), []broker.ProduceBatch{{Topic: "a", Bytes: encode(t, 3, batch.Stamp{}), Token: "mine"}}); err != nil {
					t.Fatal(err)
				}
				_, err = conn.Recv(t.Context())
				check(t, err, h.want, h.text, time.Since(start), h.took)
				if left := conn.Unanswered(); len(left) != 1 || left[0].Token != "mine" {
					t.Errorf("unanswered: %v", left)
				}
				if err := conn.Send(t.Context(), []broker.ProduceBatch{{}}); err == nil {
					t.Error("a dead connection took a batch")
				}
			})
		})
	}
}

func TestHostile_Negotiation(t *testing.T) {
	for name, h := range hostile {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &puppet{versions: h.play}
				start := time.Now()
				_, err := p.open(t).FetchSession(t.Context(), somewhere)
				switch {
				case name == "garbage": // its first bytes are an error code
					h.want = nil
				case h.took > 0: // connecting is less patient than the requests that follow
					h.text, h.took = "no answer within 10s", 10*time.Second
				}
				check(t, err, h.want, h.text, time.Since(start), h.took)
			})
		})
	}
}

// TestHostile_LongFramesTakeNoMemory: the claim of a length alone takes none, and what a dead connection took is free.
func TestHostile_LongFramesTakeNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &puppet{play: func(conn net.Conn, _ int, r asked) bool {
			return send(conn, frame(broker.MaxFrameBytes-100, r.correlation), make([]byte, 1000))
		}}
		c := p.open(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 20 {
			s, err := c.FetchSession(t.Context(), somewhere)
			if err != nil {
				t.Fatal(err)
			}
			s.Set(broker.FetchPartition{Topic: "a"})
			if _, err := s.Fetch(t.Context(), broker.FetchOptions{}); err == nil {
				t.Fatal("no error")
			}
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 {
			t.Errorf("%d bytes of memory were taken", grown)
		}
	})
}

// TestHostile_DripEnds: an answer that comes byte by byte is given up, although each byte is in time.
func TestHostile_DripEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &puppet{play: func(conn net.Conn, _ int, r asked) bool {
			send(conn, frame(100<<20, r.correlation))
			for send(conn, []byte{0}) {
				time.Sleep(29 * time.Second)
			}
			return false
		}}
		s, err := p.open(t).FetchSession(t.Context(), somewhere)
		if err != nil {
			t.Fatal(err)
		}
		s.Set(broker.FetchPartition{Topic: "a"})
		start := time.Now()
		if _, err := s.Fetch(t.Context(), broker.FetchOptions{}); err == nil || time.Since(start) > time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		time.Sleep(time.Minute) // of the bubble: the puppet ends
	})
}

// TestMetadata_StrangeTopicIsAlone: what a cluster says of one topic spoils no other.
func TestMetadata_StrangeTopicIsAlone(t *testing.T) {
	for name, ids := range map[string][]int32{"far too many": {0, 100_000}, "negative": {0, -1}, "mostly missing": {0, 50_000}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &puppet{versions: modest, play: func(conn net.Conn, _ int, r asked) bool {
					resp := kmsg.NewPtrMetadataResponse()
					resp.Version = r.version
					for topic, ids := range map[string][]int32{"strange": ids, "good": {1, 0}} {
						rt := kmsg.NewMetadataResponseTopic()
						rt.Topic = kmsg.StringPtr(topic)
						for _, id := range ids {
							rp := kmsg.NewMetadataResponseTopicPartition()
							rp.Partition = id
							rt.Partitions = append(rt.Partitions, rp)
						}
						resp.Topics = append(resp.Topics, rt)
					}
					return reply(conn, r, resp)
				}}
				m, err := p.open(t).Metadata(t.Context())
				if err != nil || len(m.Topics["good"].Partitions) != 2 || m.Topics["good"].Err != nil {
					t.Errorf("the good topic is %+v, %v; want two partitions", m.Topics["good"], err)
				}
				if s := m.Topics["strange"]; !errors.Is(s.Err, broker.ErrProtocol) || len(s.Partitions) != 0 {
					t.Errorf("the strange topic has %d partitions and %v, want none and a protocol error", len(s.Partitions), s.Err)
				}
			})
		})
	}
}

// TestFetch_ThrottleIsObeyed: the next request waits as long as the last answer says, but not for ever.
func TestFetch_ThrottleIsObeyed(t *testing.T) {
	for ask, want := range map[int32]time.Duration{0: 0, -5: 0, 700: 700 * time.Millisecond, 1<<31 - 1: 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			p := &puppet{play: func(conn net.Conn, _ int, r asked) bool {
				if r.key == int16(kmsg.Produce) {
					resp := kmsg.NewPtrProduceResponse()
					resp.Version, resp.ThrottleMillis = r.version, ask
					return reply(conn, r, resp)
				}
				resp := kmsg.NewPtrFetchResponse()
				resp.Version, resp.ThrottleMillis = r.version, ask
				return reply(conn, r, resp)
			}}
			c := p.open(t)
			s, err := c.FetchSession(t.Context(), somewhere)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			conn, err := c.ProduceConn(t.Context(), somewhere)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			s.Set(broker.FetchPartition{Topic: "a"})
			for name, step := range map[string]func() error{
				"fetch": func() error {
					f, err := s.Fetch(t.Context(), broker.FetchOptions{})
					if err == nil {
						f.Release()
					}
					return err
				},
				"produce": func() error {
					if err := conn.Send(t.Context(), []broker.ProduceBatch{{Topic: "a"}}); err != nil {
						return err
					}
					results, err := conn.Recv(t.Context())
					if err == nil && !errors.Is(results[0].Err, broker.ErrProtocol) {
						t.Errorf("a batch the answer does not speak of: %v", results[0].Err)
					}
					return err
				},
			} {
				start := time.Now()
				for range 2 {
					if err := step(); err != nil {
						t.Fatal(name, err)
					}
				}
				if took := time.Since(start); took != want {
					t.Errorf("%s asked to wait %d ms: waited %v", name, ask, took)
				}
			}
		})
	}
}

// TestFetch_SessionsOfferedAndRefused: sessions are begun anew when they are lost, and done without where there are none.
func TestFetch_SessionsOfferedAndRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		codes []int16 // of the answers in turn; then 0
		want  error   // of the last fetch
		fulls int     // how many requests were full
	}{
		{"kept", nil, nil, 1},
		{"lost once", []int16{0, kerr.FetchSessionIDNotFound.Code}, nil, 2},
		{"lost in two ways", []int16{0, kerr.InvalidFetchSessionEpoch.Code, kerr.FetchSessionTopicIDError.Code}, nil, 3},
		{"lost for ever", []int16{0, 71, 71, 71, 71, 71}, kerr.InvalidFetchSessionEpoch, 3},
		{"another error", []int16{0, kerr.ClusterAuthorizationFailed.Code}, kerr.ClusterAuthorizationFailed, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sizes := []int{}
				p := &puppet{play: func(conn net.Conn, n int, r asked) bool {
					resp := kmsg.NewPtrFetchResponse()
					resp.Version, resp.SessionID = r.version, 9
					if n < len(tc.codes) {
						resp.ErrorCode = tc.codes[n]
					}
					sizes = append(sizes, n)
					return reply(conn, r, resp)
				}}
				s, err := p.open(t).FetchSession(t.Context(), somewhere)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				s.Set(broker.FetchPartition{Topic: "a"})
				for range 2 {
					f, err := s.Fetch(t.Context(), broker.FetchOptions{})
					if err == nil {
						f.Release()
						continue
					}
					if tc.want == nil || !errors.Is(err, tc.want) {
						t.Errorf("%v, want %v", err, tc.want)
					}
					return
				}
				if tc.want != nil {
					t.Errorf("no error, want %v", tc.want)
				}
				if want := 1 + tc.fulls; len(sizes) != want {
					t.Errorf("%d requests, want %d", len(sizes), want)
				}
			})
		})
	}
}

// TestConn_WaitsEnd: the end of a context and Close wake what waits, in the middle of I/O too.
func TestConn_WaitsEnd(t *testing.T) {
	silent := func(net.Conn, int, asked) bool { return true }
	ends := map[string]func(cancel func(), stop func() error){
		"cancel": func(cancel func(), _ func() error) { cancel() },
		"close":  func(_ func(), stop func() error) { _ = stop() },
	}
	for name, end := range ends {
		want := map[string]error{"cancel": context.Canceled, "close": broker.ErrClosed}[name]
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := (&puppet{play: silent}).open(t)
				dead := &puppet{play: func(net.Conn, int, asked) bool { time.Sleep(time.Hour); return false }} // reads no more
				blocked := dead.open(t)
				for what, start := range map[string]func() (func(context.Context) error, func() error){
					"fetch": func() (func(context.Context) error, func() error) {
						s, err := c.FetchSession(t.Context(), somewhere)
						if err != nil {
							t.Fatal(err)
						}
						s.Set(broker.FetchPartition{Topic: "a"})
						return func(ctx context.Context) error {
							_, err := s.Fetch(ctx, broker.FetchOptions{MaxWait: time.Hour})
							return err
						}, s.Close
					},
					"recv with nothing in flight": func() (func(context.Context) error, func() error) {
						p, err := c.ProduceConn(t.Context(), somewhere)
						if err != nil {
							t.Fatal(err)
						}
						return func(ctx context.Context) error { _, err := p.Recv(ctx); return err }, p.Close
					},
					"recv": func() (func(context.Context) error, func() error) {
						p, err := c.ProduceConn(t.Context(), somewhere)
						if err == nil {
							err = p.Send(t.Context(), []broker.ProduceBatch{{Topic: "a"}})
						}
						if err != nil {
							t.Fatal(err)
						}
						return func(ctx context.Context) error { _, err := p.Recv(ctx); return err }, p.Close
					},
					"send": func() (func(context.Context) error, func() error) {
						p, err := blocked.ProduceConn(t.Context(), somewhere)
						if err == nil {
							err = p.Send(t.Context(), []broker.ProduceBatch{{Topic: "a"}})
						}
						if err != nil {
							t.Fatal(err)
						}
						return func(ctx context.Context) error { return p.Send(ctx, []broker.ProduceBatch{{Topic: "b"}}) }, p.Close
					},
				} {
					run, stop := start()
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan error, 1)
					go func() { done <- run(ctx) }()
					synctest.Wait()
					began := time.Now()
					end(cancel, stop)
					err := <-done
					if !errors.Is(err, want) || time.Since(began) != 0 {
						t.Errorf("%s: %v after %v", what, err, time.Since(began))
					}
					cancel()
					_ = stop()
				}
				time.Sleep(2 * time.Hour) // of the bubble: the puppets end
			})
		})
	}
}
