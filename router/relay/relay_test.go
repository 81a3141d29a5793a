package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/frame"
)

func bubble(t *testing.T, change func(*Config), fn func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, change)
		defer l.client.Close()
		fn(t, l)
	})
}

// TestRelay_AnswersVersionsItself: the broker is not even dialed; and a version that nobody knows is answered in version 0.
func TestRelay_AnswersVersionsItself(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		for i, version := range []int16{0, 3, 4} {
			send(t, l.client, request(int32(i), version, kmsg.NewPtrApiVersionsRequest()))
			var m kmsg.ApiVersionsResponse
			m.SetVersion(version)
			if err := m.ReadFrom(expect(t, l.client, int32(i))); err != nil || len(m.ApiKeys) < 30 {
				t.Errorf("v%d: %d keys, %v", version, len(m.ApiKeys), err)
			}
		}
		b := request(9, 4, kmsg.NewPtrApiVersionsRequest())
		binary.BigEndian.PutUint16(b[6:], 77)
		send(t, l.client, b)
		var m kmsg.ApiVersionsResponse
		if err := m.ReadFrom(expect(t, l.client, 9)); err != nil || m.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("v77: %+v, %v", m, err)
		}
		if len(l.broker) > 0 {
			t.Error("the broker was dialed")
		}
		l.client.Close()
		l.end("", nil)
	})
}

// TestRelay_KeepsTheOrder: answers made here wait for those of the broker, and each end sees its own ids of brokers.
func TestRelay_KeepsTheOrder(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		post(l.client,
			request(1, 9, kmsg.NewPtrMetadataRequest()), request(2, 3, kmsg.NewPtrApiVersionsRequest()), request(3, 4, kmsg.NewPtrInitProducerIDRequest()), request(4, 4, kmsg.NewPtrHeartbeatRequest()))
		broker := <-l.broker
		asked(t, broker, kmsg.Metadata, 1)
		asked(t, broker, kmsg.Heartbeat, 4)
		synctest.Wait()
		m := kmsg.NewPtrMetadataResponse()
		m.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 101, Host: "real", Port: 1}}
		m.ClusterID = kmsg.StringPtr("real")
		send(t, broker, answer(1, 9, m))
		body := expect(t, l.client, 1)
		if err := m.ReadFrom(body[1:]); err != nil || m.Brokers[0].NodeID != 1 || m.Brokers[0].Host != "door.example" || m.Brokers[0].Port != 9093 || *m.ClusterID != "virtual" {
			t.Errorf("%+v, %v", m, err)
		}
		expect(t, l.client, 2)
		var id kmsg.InitProducerIDResponse
		id.SetVersion(4)
		if err := id.ReadFrom(expect(t, l.client, 3)[1:]); err != nil || id.ProducerID != 1<<62 {
			t.Errorf("%+v, %v", id, err)
		}
		send(t, broker, answer(4, 4, kmsg.NewPtrHeartbeatResponse()))
		expect(t, l.client, 4)
		l.client.Close()
		l.end("", nil)
	})
}

func produce(acks int16, size int) *kmsg.ProduceRequest {
	m := kmsg.NewPtrProduceRequest()
	m.Acks = acks
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "orders"
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = make([]byte, size)
	topic.Partitions = append(topic.Partitions, p)
	m.Topics = append(m.Topics, topic)
	return m
}

// TestRelay_StaysInStepWithoutAcks: what has no answer leaves no place for one.
func TestRelay_StaysInStepWithoutAcks(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		post(l.client, request(1, 9, produce(0, 300<<10)), request(2, 9, produce(1, 10)), request(3, 7, produce(0, 10)), request(4, 7, produce(-1, 10)))
		broker := <-l.broker
		for c := range int32(4) {
			asked(t, broker, kmsg.Produce, c+1)
		}
		send(t, broker, answer(2, 9, kmsg.NewPtrProduceResponse()))
		expect(t, l.client, 2)
		send(t, broker, answer(4, 7, kmsg.NewPtrProduceResponse()))
		expect(t, l.client, 4)
		l.client.Close()
		l.end("", nil)
	})
}

// TestRelay_TransactionalProducersAskTheBroker and see its answer.
func TestRelay_TransactionalProducersAskTheBroker(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		m := kmsg.NewPtrInitProducerIDRequest()
		m.TransactionalID = kmsg.StringPtr("tx")
		post(l.client, request(1, 4, m))
		broker := <-l.broker
		asked(t, broker, kmsg.InitProducerID, 1)
		resp := kmsg.NewPtrInitProducerIDResponse()
		resp.ProducerID = 77
		send(t, broker, answer(1, 4, resp))
		if err := resp.ReadFrom(expect(t, l.client, 1)[1:]); err != nil || resp.ProducerID != 77 {
			t.Errorf("%+v, %v", resp, err)
		}
		l.client.Close()
		l.end("", nil)
	})
}

// TestRelay_WrongAnswersEndIt: an answer to nothing, or to another request, would be taken for one that it is not.
func TestRelay_WrongAnswersEndIt(t *testing.T) {
	for name, bad := range map[string][]byte{
		"another correlation id": answer(2, 4, kmsg.NewPtrHeartbeatResponse()),
		"no frame":               {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()))
				broker := <-l.broker
				asked(t, broker, kmsg.Heartbeat, 1)
				send(t, broker, bad)
				l.gone(time.Minute)
				err := <-l.ended
				var e *Error
				var f *frame.Error
				if !errors.As(err, &e) || e.Side != Upstream || !errors.Is(err, ErrMalformed) && !errors.As(err, &f) {
					t.Errorf("%v", err)
				}
			})
		})
	}
	bubble(t, nil, func(t *testing.T, l *lab) {
		post(l.client, request(1, 9, kmsg.NewPtrMetadataRequest()))
		broker := <-l.broker
		asked(t, broker, kmsg.Metadata, 1)
		b := answer(1, 9, kmsg.NewPtrMetadataResponse())
		b[len(b)-1] = 9 // tags that are not there
		send(t, broker, b)
		l.gone(time.Minute)
		l.end(Upstream, ErrMalformed)
	})
}

// TestRelay_WrongRequestsEndIt, and no other: what is hidden, what nobody knows, what is not what it says.
func TestRelay_WrongRequestsEndIt(t *testing.T) {
	cut := request(1, 7, kmsg.NewPtrOffsetCommitRequest())
	cut[len(cut)-1] = 1 // a topic that is not there
	unknown := request(1, 4, kmsg.NewPtrHeartbeatRequest())
	binary.BigEndian.PutUint16(unknown[4:], 4000)
	badProduce := request(1, 7, produce(1, 10))
	binary.BigEndian.PutUint32(badProduce[len(badProduce)-14:], 11)
	for name, tc := range map[string]struct {
		frame []byte
		is    error
	}{
		"hidden key":     {request(1, 4, kmsg.NewPtrOffsetForLeaderEpochRequest()), ErrUnsupported},
		"hidden version": {request(1, 10, kmsg.NewPtrMetadataRequest()), ErrUnsupported},
		"unknown key":    {unknown, ErrUnsupported},
		"bad body":       {cut, ErrMalformed},
		"bad produce":    {badProduce, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				go func() {
					for c := range l.broker {
						_, _ = io.Copy(io.Discard, c)
					}
				}()
				defer close(l.broker)
				post(l.client, tc.frame)
				l.gone(time.Minute)
				l.end(Client, tc.is)
			})
		})
	}
	for name, first := range map[string]string{"tls": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "http": "GET / HTTP/1.1\r\n", "size": "\x7f\xff\xff\xff"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				post(l.client, []byte(first))
				l.gone(time.Second)
				var f *frame.Error
				if err := <-l.ended; !errors.As(err, &f) || string(f.Kind) != name {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// TestRelay_TooLongToCollect: what only passes may be long, what is held in memory may not.
func TestRelay_TooLongToCollect(t *testing.T) {
	bubble(t, func(c *Config) { c.Limits.Collected = 1000 }, func(t *testing.T, l *lab) {
		m := kmsg.NewPtrOffsetCommitRequest()
		m.Group = string(make([]byte, 2000))
		post(l.client, request(1, 8, m))
		broker := <-l.broker
		defer broker.Close()
		l.gone(time.Second)
		l.end(Client, ErrTooLong)
	})
}

// TestRelay_BrokerHangsUp: the client has all answers that came, and then FIN.
func TestRelay_BrokerHangsUp(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()), request(2, 4, kmsg.NewPtrHeartbeatRequest()))
		broker := <-l.broker
		asked(t, broker, kmsg.Heartbeat, 1)
		asked(t, broker, kmsg.Heartbeat, 2)
		send(t, broker, answer(1, 4, kmsg.NewPtrHeartbeatResponse()))
		expect(t, l.client, 1)
		broker.Close()
		l.gone(time.Minute)
		l.end(Upstream, io.EOF)
	})
}

// TestRelay_BrokerHangsUpOnIdle: a client that waits for nothing is told too, at once.
func TestRelay_BrokerHangsUpOnIdle(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()))
		broker := <-l.broker
		asked(t, broker, kmsg.Heartbeat, 1)
		send(t, broker, answer(1, 4, kmsg.NewPtrHeartbeatResponse()))
		expect(t, l.client, 1)
		time.Sleep(time.Minute)
		broker.Close()
		start := time.Now()
		l.gone(6 * time.Second) // a pipe has no FIN: it is closed when lingering ends
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("told after %v", d)
		}
		l.end(Upstream, io.EOF)
	})
}

func TestRelay_NoBroker(t *testing.T) {
	refused := errors.New("refused")
	bubble(t, func(c *Config) {
		c.Dial = func(context.Context, bool) (net.Conn, bool, error) { return nil, false, refused }
	}, func(t *testing.T, l *lab) {
		post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()))
		l.gone(time.Minute)
		l.end(Upstream, refused)
	})
}

// TestRelay_StandIn: another broker answers what is asked of the cluster, and nothing that is meant for the one that is not there.
func TestRelay_StandIn(t *testing.T) {
	var news []bool
	bubble(t, func(c *Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, about bool) (net.Conn, bool, error) {
			news = append(news, about)
			up, _, err := dial(ctx, about)
			return up, true, err
		}
	}, func(t *testing.T, l *lab) {
		post(l.client, request(1, 9, kmsg.NewPtrMetadataRequest()), request(2, 4, kmsg.NewPtrFindCoordinatorRequest()), request(3, 4, kmsg.NewPtrHeartbeatRequest()))
		broker := <-l.broker
		asked(t, broker, kmsg.Metadata, 1)
		send(t, broker, answer(1, 9, kmsg.NewPtrMetadataResponse()))
		expect(t, l.client, 1)
		asked(t, broker, kmsg.FindCoordinator, 2)
		l.gone(time.Minute)
		l.end(Upstream, ErrUnreachable)
		if len(news) != 1 || !news[0] {
			t.Errorf("dialled for news %v", news)
		}
	})
}

// TestRelay_Timeouts: nobody keeps a connection by doing nothing, or nearly nothing.
func TestRelay_Timeouts(t *testing.T) {
	wait := func(t *testing.T, l *lab, least, most time.Duration, side Side) {
		t.Helper()
		start := time.Now()
		l.end(side, os.ErrDeadlineExceeded)
		if d := time.Since(start); d < least || d > most {
			t.Errorf("ended after %v, want %v to %v", d, least, most)
		}
	}
	t.Run("idle", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) { wait(t, l, 10*time.Minute, 10*time.Minute, Client) })
	})
	t.Run("half a header", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			send(t, l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest())[:9])
			wait(t, l, 30*time.Second, 30*time.Second, Client)
		})
	})
	t.Run("half a body", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			b := request(1, 9, produce(1, 100))
			send(t, l.client, b[:len(b)-1])
			wait(t, l, 30*time.Second, 30*time.Second, Client)
		})
	})
	t.Run("a client that does not read", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			send(t, l.client, request(1, 3, kmsg.NewPtrApiVersionsRequest()))
			wait(t, l, 30*time.Second, 30*time.Second, Client)
		})
	})
	t.Run("a broker that does not answer", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()))
			asked(t, <-l.broker, kmsg.Heartbeat, 1)
			wait(t, l, time.Hour, time.Hour+5*time.Second, Upstream) // not idle: it waits
		})
	})
	t.Run("a broker that does not read", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()))
			<-l.broker
			wait(t, l, 30*time.Second, 35*time.Second, Upstream)
		})
	})
}

// TestRelay_Drains: what was asked is answered, no more is taken, and the end is in good order.
func TestRelay_Drains(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()))
		broker := <-l.broker
		asked(t, broker, kmsg.Heartbeat, 1)
		synctest.Wait()
		l.stop()
		synctest.Wait()
		send(t, broker, answer(1, 4, kmsg.NewPtrHeartbeatResponse()))
		expect(t, l.client, 1)
		l.gone(10 * time.Second)
		l.end("", nil)
	})
	for name, sent := range map[string]int{"idle": 0, "in a header": 6} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				send(t, l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest())[:sent])
				synctest.Wait()
				l.stop()
				start := time.Now()
				l.gone(time.Minute)
				if d := time.Since(start); d > 10*time.Second {
					t.Errorf("drained in %v", d)
				}
				<-l.ended
			})
		})
	}
}

// TestRelay_StopsReadingWhenFull: with as many answers due as may be, nothing more is taken until one has passed.
func TestRelay_StopsReadingWhenFull(t *testing.T) {
	bubble(t, func(c *Config) { c.Limits.Pending = 3 }, func(t *testing.T, l *lab) {
		var frames [][]byte
		for i := range int32(8) {
			frames = append(frames, request(i, 4, kmsg.NewPtrHeartbeatRequest()))
		}
		post(l.client, frames...)
		broker := <-l.broker
		for i := range int32(3) {
			asked(t, broker, kmsg.Heartbeat, i)
		}
		synctest.Wait()
		_ = broker.SetReadDeadline(time.Now().Add(time.Hour / 2))
		if _, err := broker.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a fourth request came: %v", err)
		}
		_ = broker.SetReadDeadline(time.Time{})
		for i := range int32(8) {
			send(t, broker, answer(i, 4, kmsg.NewPtrHeartbeatResponse()))
			expect(t, l.client, i)
			if i+3 < 8 {
				asked(t, broker, kmsg.Heartbeat, i+3)
			}
		}
		l.client.Close()
		l.end("", nil)
	})
}

func TestNew_Refuses(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("nothing was taken for a connection")
	}
	a, _ := net.Pipe()
	if _, err := New(Config{Client: a, Dial: func(context.Context, bool) (net.Conn, bool, error) { return nil, false, nil }}); err == nil {
		t.Error("a relay without a view")
	}
}
