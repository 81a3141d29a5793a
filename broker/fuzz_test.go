package broker

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// byKmsg reads an answer as kmsg does, from after the correlation id on; false = kmsg refuses it, or bytes are left.
func byKmsg(src []byte, version int16, resp kmsg.Response) bool {
	resp.SetVersion(version)
	r := kbin.Reader{Src: src}
	if resp.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	return r.Complete() == nil && resp.ReadFrom(r.Src) == nil
}

// FuzzFetchAnswer: no answer makes the decoder panic or go on after bytes that are no answer, and what it reads is what
// another implementation reads from the same bytes. Only partitions that were asked for come out, each once.
func FuzzFetchAnswer(f *testing.F) {
	for v := ours[keyFetch].min; v <= ours[keyFetch].max; v++ {
		raw := answerBytes(sampleFetch(v))
		f.Add(byte(v), raw)
		f.Add(byte(v), raw[:len(raw)-1])
		f.Add(byte(v), answerBytes(&kmsg.FetchResponse{Version: v, ErrorCode: 70}))
	}
	f.Fuzz(func(t *testing.T, v byte, src []byte) {
		version := ours[keyFetch].min + int16(v)%(ours[keyFetch].max-ours[keyFetch].min+1)
		var a fetchAnswer
		err := a.decode(src, version, asking(version).find)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("%v is not ErrProtocol", err)
			}
			return
		}
		resp := kmsg.NewPtrFetchResponse()
		if !byKmsg(src, version, resp) {
			return // a tag that we do not read
		}
		if a.throttleMillis != resp.ThrottleMillis || a.code != resp.ErrorCode || a.session != resp.SessionID {
			t.Fatalf("read %d %d %d, kmsg %+v", a.throttleMillis, a.code, a.session, resp)
		}
		for _, rt := range resp.Topics {
			for _, rp := range rt.Partitions {
				if len(a.parts) == 0 {
					t.Fatalf("partition %+v of kmsg is missing", rp)
				}
				if said := unlikeKmsg(a.parts[0], rt, rp); said != "" {
					t.Fatal(said)
				}
				a.parts = a.parts[1:]
			}
		}
		if len(a.parts) > 0 {
			t.Fatalf("%d partitions more than kmsg reads", len(a.parts))
		}
	})
}

// unlikeKmsg says in what a partition differs from what kmsg reads.
func unlikeKmsg(p Fetched, rt kmsg.FetchResponseTopic, rp kmsg.FetchResponseTopicPartition) string {
	topic := map[TopicID]string{topicID(1): "topic-0", topicID(2): "topic-1"}[rt.TopicID]
	if rt.Topic != "" {
		topic = rt.Topic
	}
	same := p.Topic == topic && p.Partition == rp.Partition && (p.Err != nil) == (rp.ErrorCode != 0) &&
		p.HighWatermark == rp.HighWatermark && p.LastStableOffset == rp.LastStableOffset && p.LogStart == rp.LogStartOffset &&
		p.DivergingEpoch == rp.DivergingEpoch.Epoch && p.DivergingEnd == rp.DivergingEpoch.EndOffset &&
		p.Leader == rp.CurrentLeader.LeaderID && p.LeaderEpoch == rp.CurrentLeader.LeaderEpoch &&
		p.PreferredReplica == rp.PreferredReadReplica && bytes.Equal(p.Batches, rp.RecordBatches) && len(p.Aborted) == len(rp.AbortedTransactions)
	for i := range p.Aborted {
		same = same && p.Aborted[i] == Aborted{rp.AbortedTransactions[i].ProducerID, rp.AbortedTransactions[i].FirstOffset}
	}
	if same {
		return ""
	}
	return fmt.Sprintf("read %+v, kmsg %s %+v", p, topic, rp)
}

// FuzzProduceAnswer: like FuzzFetchAnswer; each batch that was sent gets what kmsg reads for its partition, and those the
// answer does not speak of stay unanswered.
func FuzzProduceAnswer(f *testing.F) {
	for v := ours[keyProduce].min; v <= ours[keyProduce].max; v++ {
		raw := answerBytes(sampleProduced(v))
		f.Add(byte(v), raw)
		f.Add(byte(v), raw[:len(raw)-1])
	}
	f.Fuzz(func(t *testing.T, v byte, src []byte) {
		version := ours[keyProduce].min + int16(v)%(ours[keyProduce].max-ours[keyProduce].min+1)
		results := awaiting()
		throttle, err := decodeProduce(src, version, results)
		for i, b := range sampleBatches() {
			if results[i].Batch.Partition != b.Partition || results[i].Batch.Topic != b.Topic {
				t.Fatalf("the batch of result %d is %+v", i, results[i].Batch)
			}
		}
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("%v is not ErrProtocol", err)
			}
			return
		}
		resp := kmsg.NewPtrProduceResponse()
		if !byKmsg(src, version, resp) {
			return
		}
		if throttle != resp.ThrottleMillis {
			t.Fatalf("throttle %d, kmsg %d", throttle, resp.ThrottleMillis)
		}
		answered := 0
		for _, rt := range resp.Topics {
			for _, rp := range rt.Partitions {
				answered++
				for _, r := range results {
					if r.Batch.Partition != rp.Partition || version < 13 && r.Batch.Topic != rt.Topic || version >= 13 && r.Batch.TopicID != rt.TopicID {
						continue
					}
					if (r.Err != nil) != (rp.ErrorCode != 0) || r.BaseOffset != rp.BaseOffset || r.LogAppendTime != rp.LogAppendTime ||
						r.LogStart != rp.LogStartOffset || r.Leader != rp.CurrentLeader.LeaderID || r.LeaderEpoch != rp.CurrentLeader.LeaderEpoch {
						t.Fatalf("read %+v, kmsg %+v", r, rp)
					}
				}
			}
		}
		for _, r := range results {
			if r.Err == errNoAnswer {
				answered++
			}
		}
		if answered != len(results) {
			t.Fatalf("%d of %d batches are accounted for", answered, len(results))
		}
	})
}

// FuzzVersions: the first answer of a broker, read as kmsg reads it.
func FuzzVersions(f *testing.F) {
	for v := range int16(4) {
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.Version = v
		for key := range int16(3) {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MinVersion, k.MaxVersion = key, 1, 9+key
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
		f.Add(byte(v), resp.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, v byte, src []byte) {
		version := int16(v % 4)
		code, got, err := decodeVersions(src, version)
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.SetVersion(version)
		if err != nil || resp.ReadFrom(src) != nil {
			return
		}
		if code != resp.ErrorCode {
			t.Fatalf("error code %d, kmsg %d", code, resp.ErrorCode)
		}
		want := versions{}
		for _, k := range resp.ApiKeys {
			want[k.ApiKey] = versionRange{k.MinVersion, k.MaxVersion}
		}
		if got != nil && !maps.Equal(got, want) {
			t.Fatalf("read %v, kmsg %v", got, want)
		}
	})
}
