package broker

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// speaking is a wire without a socket to a broker that speaks up to the given versions.
func speaking(fetch, produce int16) *wire {
	return &wire{clientID: "me", name: "nobody", done: make(chan struct{}), versions: versions{
		keyFetch: {0, fetch}, keyProduce: {0, produce},
	}}
}

func idle(fetch int16) *FetchSession {
	return &FetchSession{
		c: &Cluster{}, w: speaking(fetch, 0),
		parts: map[partitionKey]*sessionPart{}, topics: map[topicKey]*sessionTopic{}, byID: map[TopicID]*sessionTopic{},
	}
}

// readRequest parses the bytes of a request as a broker would.
func readRequest(t *testing.T, raw []byte, req kmsg.Request) {
	t.Helper()
	r := kbin.Reader{Src: raw}
	if n := int(r.Int32()); n != len(raw)-4 {
		t.Fatalf("length %d of %d bytes", n, len(raw)-4)
	}
	if key := r.Int16(); key != req.Key() {
		t.Fatalf("key %d", key)
	}
	req.SetVersion(r.Int16())
	r.Int32()
	if id := r.NullableString(); id == nil || *id != "me" {
		t.Fatalf("client id %v", id)
	}
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := req.ReadFrom(r.Src); err != nil {
		t.Fatal(err)
	}
	if again := req.AppendTo(nil); !bytes.Equal(again, r.Src) {
		t.Fatalf("kmsg reads version %d as\n%x, we wrote\n%x", req.GetVersion(), again, r.Src)
	}
}

func topicID(n byte) TopicID { return TopicID{n, 1, 2, 3} }

func TestFetchRequest_EveryVersionAsKmsgReadsIt(t *testing.T) {
	for version := ours[keyFetch].min; version <= ours[keyFetch].max; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			s := idle(version)
			want := map[partitionKey]FetchPartition{}
			for i := range int32(6) {
				name := fmt.Sprintf("topic-%d", i%2)
				p := FetchPartition{
					Topic: name, TopicID: topicID(byte(i%2) + 1), Partition: i, Offset: 1<<40 + int64(i),
					LeaderEpoch: 7, LastFetchedEpoch: 6, LogStart: -1, MaxBytes: 1000 + i,
				}
				s.Set(p)
				want[partitionKey{name, i}] = p
			}
			full, err := s.encode(FetchOptions{MaxWait: 500e6, MinBytes: 3, MaxBytes: 4, ReadCommitted: true, Rack: "r"})
			if err != nil || !full {
				t.Fatal(full, err)
			}
			req := kmsg.NewPtrFetchRequest()
			readRequest(t, s.out.b, req)
			if req.Version != version || req.MaxWaitMillis != 500 || req.MinBytes != 3 || req.MaxBytes != 4 || req.IsolationLevel != 1 {
				t.Errorf("%+v", req)
			}
			checkAsked(t, req, want)
			if version < 7 {
				return
			}
			s.session.id, s.session.epoch = 77, 5
			s.Forget("topic-0", topicID(1), 0)
			s.Forget("topic-0", topicID(9), 2) // under another id: no effect
			delete(want, partitionKey{"topic-0", 0})
			moved := want[partitionKey{"topic-1", 3}]
			s.Set(moved) // as it was: nothing to tell
			moved.Offset++
			s.Set(moved)
			gone := want[partitionKey{"topic-1", 5}]
			gone.Offset++
			s.Set(gone)
			s.Forget("topic-1", topicID(2), 5) // dirty and forgotten at once
			if full, err = s.encode(FetchOptions{}); err != nil || full {
				t.Fatal(full, err)
			}
			req = kmsg.NewPtrFetchRequest()
			readRequest(t, s.out.b, req)
			checkAsked(t, req, map[partitionKey]FetchPartition{{"topic-1", 3}: moved})
			if req.SessionID != 77 || req.SessionEpoch != 5 || len(req.ForgottenTopics) != 2 ||
				!slices.Equal(req.ForgottenTopics[0].Partitions, []int32{0}) || !slices.Equal(req.ForgottenTopics[1].Partitions, []int32{5}) {
				t.Errorf("%+v", req)
			}
		})
	}
}

// checkAsked compares the partitions of a request with those wanted, each in the terms of the request's version.
func checkAsked(t *testing.T, req *kmsg.FetchRequest, want map[partitionKey]FetchPartition) {
	t.Helper()
	n := 0
	for _, rt := range req.Topics {
		for _, rp := range rt.Partitions {
			n++
			name := rt.Topic
			if req.Version >= 13 {
				name = fmt.Sprintf("topic-%d", rt.TopicID[0]-1)
			}
			p, ok := want[partitionKey{name, rp.Partition}]
			if !ok || rp.FetchOffset != p.Offset || rp.PartitionMaxBytes != p.MaxBytes ||
				req.Version >= 9 && rp.CurrentLeaderEpoch != p.LeaderEpoch || req.Version >= 12 && rp.LastFetchedEpoch != p.LastFetchedEpoch {
				t.Errorf("%s %+v, want %+v", name, rp, p)
			}
		}
	}
	if n != len(want) {
		t.Errorf("%d partitions, want %d", n, len(want))
	}
}

func TestFetchRequest_TopicsWithoutIDGoByName(t *testing.T) {
	s := idle(18)
	s.Set(FetchPartition{Topic: "a", TopicID: topicID(1)})
	for _, step := range []struct {
		do      func()
		version int16
		full    bool
	}{
		{func() {}, 18, true},
		{func() { s.Set(FetchPartition{Topic: "b"}) }, 12, true},
		{func() {}, 12, false},
		{func() { s.Forget("b", TopicID{}, 0) }, 18, true},
		{func() { s.Set(FetchPartition{Topic: "a", TopicID: topicID(2)}) }, 18, false}, // recreated
	} {
		step.do()
		full, err := s.encode(FetchOptions{})
		if err != nil || full != step.full || s.session.version != step.version {
			t.Errorf("version %d, full %v (%v), want %+v", s.session.version, full, err, step)
		}
		if err := s.advance(full, 5); err != nil {
			t.Error(err)
		}
	}
	req := kmsg.NewPtrFetchRequest()
	readRequest(t, s.out.b, req)
	if len(req.ForgottenTopics) != 1 || req.ForgottenTopics[0].TopicID != topicID(1) || req.Topics[0].TopicID != topicID(2) {
		t.Errorf("%+v", req)
	}
}

// sampleFetch is an answer with everything in it.
func sampleFetch(version int16) *kmsg.FetchResponse {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version, resp.ThrottleMillis, resp.SessionID = version, 12, 34
	for i := range byte(2) {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = fmt.Sprintf("topic-%d", i), topicID(i+1)
		for p := range int32(2) {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = p, 10, 9, 8
			rp.RecordBatches = bytes.Repeat([]byte{i}, 100)
			rp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 5, FirstOffset: int64(p)}, {ProducerID: 6, FirstOffset: 7}}
			rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = 3, 4
			rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = 1, 2
			rt.Partitions = append(rt.Partitions, rp)
		}
		rt.Partitions[1].ErrorCode = kerr.NotLeaderForPartition.Code
		resp.Topics = append(resp.Topics, rt)
	}
	host := kmsg.NewFetchResponseBroker()
	host.Host = "elsewhere"
	resp.Brokers = append(resp.Brokers, host)
	return resp
}

// answerBytes is an answer from after the correlation id on.
func answerBytes(resp kmsg.Response) []byte {
	var b []byte
	if resp.IsFlexible() {
		b = append(b, 0)
	}
	return resp.AppendTo(b)
}

// asking is a session that asked for the partitions of sampleFetch.
func asking(version int16) *FetchSession {
	s := idle(version)
	s.session.version = version
	s.session.answers = 1
	for i := range byte(2) {
		for p := range int32(2) {
			s.Set(FetchPartition{Topic: fmt.Sprintf("topic-%d", i), TopicID: topicID(i + 1), Partition: p})
		}
	}
	return s
}

func TestFetchAnswer_EveryVersionAsKmsgWritesIt(t *testing.T) {
	for version := ours[keyFetch].min; version <= ours[keyFetch].max; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			raw := answerBytes(sampleFetch(version))
			var a fetchAnswer
			if err := a.decode(raw, version, asking(version).find); err != nil {
				t.Fatal(err)
			}
			if a.throttleMillis != 12 || version >= 7 && a.session != 34 || len(a.parts) != 4 {
				t.Fatalf("%+v", a)
			}
			for i, p := range a.parts {
				topic, part := i/2, i%2
				if p.Topic != fmt.Sprintf("topic-%d", topic) || int(p.Partition) != part || p.HighWatermark != 10 || p.LastStableOffset != 9 {
					t.Errorf("%+v", p)
				}
				if len(p.Aborted) != 2 || p.Aborted[0] != (Aborted{5, int64(part)}) || p.Aborted[1] != (Aborted{6, 7}) {
					t.Errorf("aborted %v", p.Aborted)
				}
				if !bytes.Equal(p.Batches, bytes.Repeat([]byte{byte(topic)}, 100)) {
					t.Errorf("batches %x", p.Batches)
				}
				if version >= 12 && (p.DivergingEpoch != 3 || p.DivergingEnd != 4 || p.Leader != 1 || p.LeaderEpoch != 2) {
					t.Errorf("%+v", p)
				}
				if version < 12 && (p.DivergingEpoch != -1 || p.DivergingEnd != -1 || p.Leader != -1) {
					t.Errorf("%+v", p)
				}
				if part == 1 != errors.Is(p.Err, kerr.NotLeaderForPartition) {
					t.Errorf("error %v", p.Err)
				}
			}
			for n := range raw { // cut short anywhere it is an error, never less than what was sent
				var cut fetchAnswer
				if err := cut.decode(raw[:n], version, asking(version).find); !errors.Is(err, ErrProtocol) {
					t.Fatalf("an answer cut at %d: %v", n, err)
				}
			}
		})
	}
}

func TestFetchAnswer_OnlyWhatWasAskedFor(t *testing.T) {
	for name, change := range map[string]func(*kmsg.FetchResponse){
		"another topic":     func(r *kmsg.FetchResponse) { r.Topics[0].Topic, r.Topics[0].TopicID = "x", topicID(9) },
		"another partition": func(r *kmsg.FetchResponse) { r.Topics[1].Partitions[0].Partition = 7 },
		"one twice":         func(r *kmsg.FetchResponse) { r.Topics[1].Partitions[0].Partition = 1 },
	} {
		for _, version := range []int16{4, 12, 18} {
			resp := sampleFetch(version)
			change(resp)
			var a fetchAnswer
			if err := a.decode(answerBytes(resp), version, asking(version).find); !errors.Is(err, ErrProtocol) {
				t.Errorf("%s, version %d: %v", name, version, err)
			}
		}
	}
}

func sampleBatches() []ProduceBatch {
	var all []ProduceBatch
	for p := range int32(3) {
		for i := range byte(2) {
			all = append(all, ProduceBatch{
				Topic: fmt.Sprintf("topic-%d", i), TopicID: topicID(i + 1), Partition: p, Bytes: bytes.Repeat([]byte{i, byte(p)}, 100),
			})
		}
	}
	return all
}

func TestProduceRequest_EveryVersionAsKmsgReadsIt(t *testing.T) {
	for version := ours[keyProduce].min; version <= ours[keyProduce].max; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			p := &ProduceConn{w: speaking(0, version)}
			batches := sampleBatches()
			for range 2 { // twice: the second uses the first one's memory
				got, err := p.encode(batches)
				if err != nil || got != version {
					t.Fatal(got, err)
				}
			}
			req := kmsg.NewPtrProduceRequest()
			readRequest(t, bytes.Join(p.pieces, nil), req)
			if req.Acks != -1 || req.TransactionID != nil || req.TimeoutMillis <= 0 || len(req.Topics) != 2 {
				t.Fatalf("%+v", req)
			}
			for i, rt := range req.Topics {
				if version >= 13 && rt.TopicID != topicID(byte(i+1)) || version < 13 && rt.Topic != fmt.Sprintf("topic-%d", i) || len(rt.Partitions) != 3 {
					t.Errorf("%+v", rt)
				}
				for part, rp := range rt.Partitions {
					if int(rp.Partition) != part || !bytes.Equal(rp.Records, bytes.Repeat([]byte{byte(i), byte(part)}, 100)) {
						t.Errorf("%d %+v", i, rp)
					}
				}
			}
			if batches[0].TopicID = (TopicID{}); version == 13 {
				if got, err := p.encode(batches); got != 12 || err != nil {
					t.Errorf("version %d (%v) for a topic without an id", got, err)
				}
			}
		})
	}
}

// sampleProduced answers sampleBatches, in another order.
func sampleProduced(version int16) *kmsg.ProduceResponse {
	resp := kmsg.NewPtrProduceResponse()
	resp.Version, resp.ThrottleMillis = version, 12
	for i := byte(2); i > 0; i-- {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = fmt.Sprintf("topic-%d", i-1), topicID(i)
		for _, p := range []int32{1, 0, 2} {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.BaseOffset, rp.LogAppendTime, rp.LogStartOffset = p, int64(i)*100+int64(p), -1, 3
			if p == 2 {
				rp.ErrorCode, rp.ErrorMessage = kerr.OutOfOrderSequenceNumber.Code, kmsg.StringPtr("out of order")
				rp.ErrorRecords = []kmsg.ProduceResponseTopicPartitionErrorRecord{{RelativeOffset: 1, ErrorMessage: kmsg.StringPtr("x")}}
				rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = 8, 9
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func awaiting() []ProduceResult {
	var all []ProduceResult
	for _, b := range sampleBatches() {
		all = append(all, ProduceResult{Batch: b, Err: errNoAnswer})
	}
	return all
}

func TestProduceAnswer_EveryVersionAsKmsgWritesIt(t *testing.T) {
	for version := ours[keyProduce].min; version <= ours[keyProduce].max; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			raw := answerBytes(sampleProduced(version))
			results := awaiting()
			throttle, err := decodeProduce(raw, version, results)
			if err != nil || throttle != 12 {
				t.Fatal(throttle, err)
			}
			for i, r := range results {
				topic, part := i%2, int32(i/2)
				if r.Batch.Partition != part || r.BaseOffset != int64(topic+1)*100+int64(part) || r.LogAppendTime != -1 || version >= 5 && r.LogStart != 3 {
					t.Errorf("%+v", r)
				}
				if part != 2 {
					if r.Err != nil {
						t.Error(r.Err)
					}
					continue
				}
				var e *PartitionError
				if !errors.As(r.Err, &e) || !errors.Is(r.Err, kerr.OutOfOrderSequenceNumber) || version >= 8 && e.Message != "out of order" {
					t.Errorf("%v", r.Err)
				}
				if version >= 10 && (r.Leader != 8 || r.LeaderEpoch != 9) {
					t.Errorf("%+v", r)
				}
			}
			for n := range raw {
				if _, err := decodeProduce(raw[:n], version, awaiting()); !errors.Is(err, ErrProtocol) {
					t.Fatalf("an answer cut at %d: %v", n, err)
				}
			}
			results = awaiting()[:5] // one was not sent
			if _, err := decodeProduce(raw, version, results); !errors.Is(err, ErrProtocol) {
				t.Error(err)
			}
		})
	}
}
