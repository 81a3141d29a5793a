package relay

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/quota"
	"github.com/isthmus-project/isthmus/topology"
)

// quotas are those of one rule for the client of these tests.
func quotas(t *testing.T, rule topology.Quota) func(*Config) {
	t.Helper()
	p, err := topology.ParsePattern("test")
	if err != nil {
		t.Fatal(err)
	}
	rule.ClientIDs = topology.Patterns{p}
	return func(c *Config) { c.Quotas = quota.New([]topology.Quota{rule}) }
}

// TestQuota_Produce: who wrote more than its rate is told to wait, at least as long as the broker says, and is not read for so long.
func TestQuota_Produce(t *testing.T) {
	bubble(t, quotas(t, topology.Quota{ProduceRate: 10_000}), func(t *testing.T, l *lab) {
		var broker net.Conn
		told := func(id int32, size int, brokers int32) time.Duration {
			t.Helper()
			b := request(id, 9, produce(1, size))
			post(l.client, b)
			if broker == nil {
				broker = <-l.broker
			}
			asked(t, broker, kmsg.Produce, id)
			m := kmsg.NewPtrProduceResponse()
			m.ThrottleMillis = brokers
			send(t, broker, answer(id, 9, m))
			if err := m.ReadFrom(expect(t, l.client, id)[1:]); err != nil {
				t.Fatal(err)
			}
			return time.Duration(m.ThrottleMillis) * time.Millisecond
		}
		begin := time.Now()
		if wait := told(1, 5_000, 0); wait != 0 {
			t.Errorf("within its rate: %v", wait)
		}
		if wait := told(2, 25_000, 0); wait < 2*time.Second || wait > 2100*time.Millisecond {
			t.Errorf("three times its rate: %v", wait)
		}
		if time.Since(begin) != 0 {
			t.Error("the answer waits")
		}
		if wait := told(3, 10, 7_000); wait != 7*time.Second { // a client that does not obey
			t.Errorf("the broker's word is less than ours: %v", wait)
		}
		if d := time.Since(begin); d < 2*time.Second || d > 2200*time.Millisecond {
			t.Errorf("the client was read after %v", d)
		}
		if d := time.Duration(l.relay.Seen().Throttled.Load()); d < 2*time.Second || d > 2200*time.Millisecond {
			t.Errorf("throttled for %v", d)
		}
		_ = broker.Close()
	})
}

// TestQuota_Fetch: what the broker answers counts, and the client is told in that answer.
func TestQuota_Fetch(t *testing.T) {
	bubble(t, quotas(t, topology.Quota{FetchRate: 10_000}), func(t *testing.T, l *lab) {
		send(t, l.client, request(1, 12, kmsg.NewPtrFetchRequest()))
		broker := <-l.broker
		defer broker.Close()
		asked(t, broker, kmsg.Fetch, 1)
		body := fetchAnswer(1, 30_000)
		frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
		post(broker, append(binary.BigEndian.AppendUint32(frame, 1), body...))
		if wait := binary.BigEndian.Uint32(expect(t, l.client, 1)[1:]); wait < 2000 || wait > 2100 {
			t.Errorf("told to wait for %d ms", wait)
		}
		begin := time.Now()
		post(l.client, request(2, 4, kmsg.NewPtrHeartbeatRequest()))
		asked(t, broker, kmsg.Heartbeat, 2)
		if d := time.Since(begin); d < 2*time.Second || d > 2100*time.Millisecond {
			t.Errorf("the client was read after %v", d)
		}
	})
}

// TestQuota_Requests: they count whatever they are; a version that cannot tell is not read all the same, and old ones pass whole.
func TestQuota_Requests(t *testing.T) {
	bubble(t, quotas(t, topology.Quota{RequestRate: 10}), func(t *testing.T, l *lab) {
		begin := time.Now()
		for i := range int32(31) {
			post(l.client, request(i, 3, kmsg.NewPtrApiVersionsRequest()))
			expect(t, l.client, i)
		}
		if d := time.Since(begin); d < 1900*time.Millisecond || d > 2100*time.Millisecond { // the first ten are a burst
			t.Errorf("31 requests took %v", d)
		}
		if len(l.broker) > 0 {
			t.Error("the broker was asked")
		}
		l.client.Close()
		l.end("", nil)
	})
}

// TestQuota_OfAnother: a client that no rule names, and a connection that says it is another from now on, are what they say.
func TestQuota_OfAnother(t *testing.T) {
	bubble(t, quotas(t, topology.Quota{RequestRate: 1}), func(t *testing.T, l *lab) {
		begin := time.Now()
		ask := func(id int32, client string) {
			t.Helper()
			m := kmsg.NewPtrApiVersionsRequest()
			m.SetVersion(3)
			post(l.client, kmsg.NewRequestFormatter(kmsg.FormatterClientID(client)).AppendRequest(nil, m, id))
			expect(t, l.client, id)
		}
		for i := range int32(100) {
			ask(i, "other")
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("a client that no rule names waited for %v", d)
		}
		for i := range int32(4) {
			ask(200+i, "test")
		}
		if d := time.Since(begin); d < 1900*time.Millisecond || d > 2100*time.Millisecond {
			t.Errorf("four requests, one a second, took %v", d)
		}
	})
}

// TestQuota_Drains: a client that is not read is hung up on in time all the same.
func TestQuota_Drains(t *testing.T) {
	bubble(t, quotas(t, topology.Quota{ProduceRate: 1000}), func(t *testing.T, l *lab) {
		post(l.client, request(1, 9, produce(1, 60_000)))
		broker := <-l.broker
		defer broker.Close()
		asked(t, broker, kmsg.Produce, 1)
		send(t, broker, answer(1, 9, kmsg.NewPtrProduceResponse()))
		expect(t, l.client, 1)
		post(l.client, request(2, 3, kmsg.NewPtrApiVersionsRequest()))
		time.Sleep(time.Second)
		begin := time.Now()
		l.stop()
		expect(t, l.client, 2) // it had been asked
		l.gone(10 * time.Second)
		l.client.Close()
		l.end("", nil)
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}
