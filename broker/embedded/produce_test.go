package embedded

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

func goodBatch(t testing.TB, n int, codec batch.Codec) []byte {
	t.Helper()
	recs := make([]batch.Record, n)
	for i := range recs {
		recs[i] = batch.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("key"), Value: make([]byte, 50)}
	}
	raw, err := batch.Encode(nil, recs, codec, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// seal makes the length and checksum of a batch fit again.
func seal(raw []byte) []byte {
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], castagnoli))
	return raw
}

func produce(topic string, version int16, batches ...[]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	for i, b := range batches {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = int32(i), b
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func TestGuard_RefusesBadBatches(t *testing.T) {
	c, _ := start(t, Config{InMemory: true, Topics: []Topic{{"orders", 2}, {"calm", 1}}})
	works := bystander(t, c.Addr())
	conn := dial(t, c.Addr())
	bomb, err := batch.Encode(nil, []batch.Record{{Value: make([]byte, 80<<20)}}, batch.Gzip, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
	if err != nil {
		t.Fatal(err)
	}
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return seal(b) }
	}
	for name, tc := range map[string]struct {
		raw  []byte
		code int16
	}{
		"good":             {goodBatch(t, 3, batch.LZ4), 0},
		"checksum":         {append(goodBatch(t, 3, batch.None), 1), kerr.CorruptMessage.Code},
		"no records":       {put32(57, 0)(put32(23, 0xffffffff)(goodBatch(t, 3, batch.None))), kerr.InvalidRecord.Code},
		"negative records": {put32(57, 0xfffffffb)(put32(23, 0xfffffffa)(goodBatch(t, 3, batch.None))), kerr.InvalidRecord.Code},
		"many records":     {put32(57, 1<<30)(put32(23, 1<<30-1)(goodBatch(t, 3, batch.None))), kerr.InvalidRecord.Code},
		"record too long":  {func() []byte { b := goodBatch(t, 1, batch.None); b[61] = 0x7e; return seal(b) }(), kerr.InvalidRecord.Code},
		"unpacks to much":  {bomb, kerr.MessageTooLarge.Code},
		"does not unpack":  {func() []byte { b := goodBatch(t, 1, batch.None); b[22] |= 4; return seal(b) }(), kerr.InvalidRecord.Code},
		"empty":            {nil, kerr.CorruptMessage.Code},
	} {
		t.Run(name, func(t *testing.T) {
			for version := int16(3); version <= 12; version++ {
				req := produce("orders", version, tc.raw, goodBatch(t, 1, batch.None))
				resp := answer[*kmsg.ProduceResponse](conn, req)
				for _, p := range resp.Topics[0].Partitions {
					if p.Partition == 0 && p.ErrorCode != tc.code {
						t.Errorf("v%d: code %d, want %d", version, p.ErrorCode, tc.code)
					}
				}
			}
			times := kmsg.NewPtrListOffsetsRequest() // makes kfake read records
			times.Version, times.ReplicaID = 5, -1
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = "orders"
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Timestamp = 1
			rt.Partitions = append(rt.Partitions, rp)
			times.Topics = append(times.Topics, rt)
			answer[*kmsg.ListOffsetsResponse](conn, times)
			works()
		})
	}
}

// TestGuard_CapsProduce: kfake dies of a Produce request that names topics by
// id, two of which it does not know.
func TestGuard_CapsProduce(t *testing.T) {
	c, _ := start(t, Config{InMemory: true})
	conn := dial(t, c.Addr())
	for version := int16(0); version <= 5; version++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, "x", "1"
		resp := answer[*kmsg.ApiVersionsResponse](conn, req)
		for _, k := range resp.ApiKeys {
			if k.ApiKey == 0 && k.MaxVersion != 12 {
				t.Errorf("ApiVersions v%d offers Produce v%d", version, k.MaxVersion)
			}
		}
		if len(resp.ApiKeys) < 40 {
			t.Errorf("ApiVersions v%d offers %d keys", version, len(resp.ApiKeys))
		}
	}
	conn.kmsg(produce("", 13, nil))
	if !conn.ended(5 * time.Second) {
		t.Error("Produce v13 is let through")
	}
}
