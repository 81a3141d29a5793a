package relay

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestSeen: what a connection took and who its client is are those of the bytes that went over it.
func TestSeen(t *testing.T) {
	var keys Keys
	bubble(t, func(c *Config) { c.Keys = &keys }, func(t *testing.T, l *lab) {
		s := l.relay.Seen()
		intro := kmsg.NewPtrApiVersionsRequest()
		intro.ClientSoftwareName, intro.ClientSoftwareVersion = "librdkafka", "2.11.0"
		first := request(1, 3, intro)
		send(t, l.client, first)
		out := len(expect(t, l.client, 1)) + 8
		fetch := func(topics ...string) *kmsg.FetchRequest {
			m := kmsg.NewPtrFetchRequest()
			for _, name := range topics {
				topic := kmsg.NewFetchRequestTopic()
				topic.Topic = name
				m.Topics = append(m.Topics, topic)
			}
			return m
		}
		second, third := request(2, 12, fetch("b", "a", "b")), request(3, 9, produce(1, 300))
		post(l.client, second, third)
		broker := <-l.broker
		defer broker.Close()
		asked(t, broker, kmsg.Fetch, 2)
		asked(t, broker, kmsg.Produce, 3)
		synctest.Wait()
		if s.Pending.Load() != 2 {
			t.Errorf("%d are pending", s.Pending.Load())
		}
		if want := (Who{"test", "librdkafka", "2.11.0", []string{"orders"}, []string{"b", "a"}, false}); !reflect.DeepEqual(s.Who(), want) {
			t.Errorf("%+v, want %+v", s.Who(), want)
		}
		back := answer(2, 12, kmsg.NewPtrFetchResponse())
		send(t, broker, back)
		expect(t, l.client, 2)
		synctest.Wait()
		if in := len(first) + len(second) + len(third); s.In.Load() != int64(in) || s.Out.Load() != int64(out+len(back)) || s.Requests.Load() != 3 || s.Pending.Load() != 1 {
			t.Errorf("%d bytes in, want %d; %d out, want %d; %d requests, %d pending", s.In.Load(), in, s.Out.Load(), out+len(back), s.Requests.Load(), s.Pending.Load())
		}
		for i, want := range []int64{1, 1, 1} {
			if n := keys.Requests[[]kmsg.Key{kmsg.ApiVersions, kmsg.Fetch, kmsg.Produce}[i]].Load(); n != want {
				t.Errorf("%d requests", n)
			}
		}
		if keys.Answers[kmsg.Fetch].Load() != 1 || keys.Answers[kmsg.Produce].Load() != 0 || keys.Answers[kmsg.ApiVersions].Load() != 1 || keys.Local[kmsg.ApiVersions].Load() != 1 || keys.Local[kmsg.Fetch].Load() != 0 {
			t.Error("answers are counted otherwise")
		}
		var many []string
		for i := range 3 * maxNames {
			many = append(many, fmt.Sprint("t", i))
		}
		other := request(4, 12, fetch(many...))
		post(l.client, other)
		asked(t, broker, kmsg.Fetch, 4)
		synctest.Wait()
		if w := s.Who(); len(w.Fetches) != maxNames || !w.More {
			t.Errorf("%d topics are remembered, more: %v", len(w.Fetches), w.More)
		}
	})
}

// TestSeen_Bounds: what clients say of themselves is cut, and what is no name is not believed.
func TestSeen_Bounds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		for i, name := range []string{"-x", "a b", strings.Repeat("x", maxShown+1), "", "\xff"} {
			intro := kmsg.NewPtrApiVersionsRequest()
			intro.ClientSoftwareName, intro.ClientSoftwareVersion = name, "1"
			send(t, l.client, request(int32(i), 3, intro))
			expect(t, l.client, int32(i))
		}
		garbage := request(20, 3, kmsg.NewPtrApiVersionsRequest())
		garbage = append(garbage[:len(garbage)-3], 0xff, 0xff, 0xff)
		send(t, l.client, garbage)
		expect(t, l.client, 20)
		long := kmsg.NewRequestFormatter(kmsg.FormatterClientID(strings.Repeat("c", 2000))).AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 21)
		send(t, l.client, long)
		expect(t, l.client, 21)
		if w := l.relay.Seen().Who(); w.Software != "" || w.Version != "" || w.ClientID != strings.Repeat("c", maxShown) {
			t.Errorf("%+v", w)
		}
	})
}

// TestSeen_Full: the time for which nothing was read because too much was pending is counted.
func TestSeen_Full(t *testing.T) {
	bubble(t, func(c *Config) { c.Limits.Pending = 1 }, func(t *testing.T, l *lab) {
		post(l.client, request(1, 4, kmsg.NewPtrHeartbeatRequest()), request(2, 4, kmsg.NewPtrHeartbeatRequest()))
		broker := <-l.broker
		defer broker.Close()
		asked(t, broker, kmsg.Heartbeat, 1)
		time.Sleep(7 * time.Second)
		send(t, broker, answer(1, 4, kmsg.NewPtrHeartbeatResponse()))
		expect(t, l.client, 1)
		asked(t, broker, kmsg.Heartbeat, 2)
		if full := time.Duration(l.relay.Seen().Full.Load()); full != 7*time.Second {
			t.Errorf("nothing was read for %v", full)
		}
	})
}

// TestSeen_Held: memory that is held is told, and given back.
func TestSeen_Held(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		m := kmsg.NewPtrListOffsetsRequest()
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic, topic.Partitions = "orders", make([]kmsg.ListOffsetsRequestTopicPartition, 20_000)
		m.Topics = append(m.Topics, topic)
		b := request(1, 7, m)
		if binary.BigEndian.Uint32(b) < 2*chunkSize {
			t.Fatal("too short to take memory")
		}
		send(t, l.client, b[:len(b)-1])
		synctest.Wait()
		if l.relay.Seen().Held.Load() == 0 {
			t.Error("nothing is held")
		}
		post(l.client, b[len(b)-1:])
		broker := <-l.broker
		defer broker.Close()
		asked(t, broker, kmsg.ListOffsets, 1)
		synctest.Wait()
		if n := l.relay.Seen().Held.Load(); n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
	})
}
