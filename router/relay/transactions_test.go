package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/router/transactions"
)

// newTransacted is a lab in generation 3, with what change makes of it.
func newTransacted(t *testing.T, change func(*Config)) *lab {
	t.Helper()
	return newLab(t, func(c *Config) {
		c.Stage = func() Stage { return Stage{Generation: 3, Phase: hold.Serving, Over: make(chan struct{})} }
		if change != nil {
			change(c)
		}
	})
}

// inTransaction is a Produce of a transactional id, with a batch of a producer.
func inTransaction(t *testing.T, id int64) *kmsg.ProduceRequest {
	t.Helper()
	m := kmsg.NewPtrProduceRequest()
	m.TransactionID, m.Acks = kmsg.StringPtr("t"), -1
	topic, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	topic.Topic, p.Partition = "orders", 2
	raw, err := batch.Encode(nil, []batch.Record{{Value: []byte("x")}}, batch.None, batch.Stamp{ProducerID: id, Epoch: 4, Sequence: 7})
	if err != nil {
		t.Fatal(err)
	}
	raw[22] |= 1 << 4 // transactional
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	p.Records = raw
	topic.Partitions = append(topic.Partitions, p)
	m.Topics = append(m.Topics, topic)
	return m
}

// TestTransactions_Produce: batches of a transaction reach the home under its ids, whole, one behind the other; those of another generation do not reach it, and their client is told.
func TestTransactions_Produce(t *testing.T) {
	for _, version := range []int16{3, 8, 9} {
		synctest.Test(t, func(t *testing.T) {
			l := newTransacted(t, nil)
			current, stale := transactions.Shown(1000, 3), transactions.Shown(1000, 2)
			post(l.client, request(1, version, inTransaction(t, current)), request(2, version, inTransaction(t, current)), request(3, version, inTransaction(t, stale)))
			for id := int32(1); id <= 2; id++ { // both are under way at once
				var m kmsg.ProduceRequest
				if got := l.asks(l.home(), &m, version); got != id {
					t.Fatalf("request %d, want %d", got, id)
				}
				raw := m.Topics[0].Partitions[0].Records
				h, err := batch.ParseHeader(raw)
				if err != nil || !batch.VerifyCRC(raw) || h.ProducerID != 1000 || h.ProducerEpoch != 4 || h.BaseSequence != 7 || !h.Transactional() {
					t.Errorf("v%d: the home gets %+v, %v", version, h, err)
				}
			}
			quiet(t, l.up, time.Second, "a batch of another generation")
			for id := int32(1); id <= 2; id++ {
				post(l.up, answer(id, version, produced(map[int32]int16{2: 0})))
				expect(t, l.client, id)
			}
			var m kmsg.ProduceResponse
			m.SetVersion(version)
			b := expect(t, l.client, 3)
			if version == 9 {
				b = b[1:]
			}
			if err := m.ReadFrom(b); err != nil {
				t.Fatal(err)
			}
			if p := m.Topics[0].Partitions[0]; p.Partition != 2 || p.ErrorCode != kerr.UnknownProducerID.Code {
				t.Errorf("v%d: the client is told %+v", version, p)
			}
			_ = l.client.Close()
			<-l.ended
		})
	}
}

// TestTransactions_Ids: a transactional producer is told its id with the generation's tag, also one of another generation, who comes as new; what it asks then has the home's id again.
func TestTransactions_Ids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTransacted(t, nil)
		init := kmsg.NewPtrInitProducerIDRequest()
		init.TransactionalID, init.ProducerID, init.ProducerEpoch = kmsg.StringPtr("t"), transactions.Shown(7, 2), 5
		post(l.client, request(1, 4, init))
		var asked kmsg.InitProducerIDRequest
		l.asks(l.home(), &asked, 4)
		if asked.ProducerID != -1 || asked.ProducerEpoch != -1 {
			t.Errorf("the home is asked with %d, %d", asked.ProducerID, asked.ProducerEpoch)
		}
		given := kmsg.NewPtrInitProducerIDResponse()
		given.ProducerID, given.ProducerEpoch = 1000, 1
		post(l.up, answer(1, 4, given))
		var told kmsg.InitProducerIDResponse
		told.SetVersion(4)
		if err := told.ReadFrom(expect(t, l.client, 1)[1:]); err != nil || told.ProducerID != transactions.Shown(1000, 3) || told.ProducerEpoch != 1 {
			t.Fatalf("the client is told %x, %d, %v", told.ProducerID, told.ProducerEpoch, err)
		}
		end := kmsg.NewPtrEndTxnRequest()
		end.TransactionalID, end.ProducerID, end.Commit = "t", told.ProducerID, true
		post(l.client, request(2, 3, end))
		var ended kmsg.EndTxnRequest
		l.asks(l.up, &ended, 3)
		if ended.ProducerID != 1000 || !ended.Commit {
			t.Errorf("the home is asked %+v", ended)
		}
		end.ProducerID = transactions.Shown(7, 2)
		post(l.up, answer(2, 3, kmsg.NewPtrEndTxnResponse()))
		expect(t, l.client, 2)
		post(l.client, request(3, 3, end))
		var said kmsg.EndTxnResponse
		said.SetVersion(3)
		if err := said.ReadFrom(expect(t, l.client, 3)[1:]); err != nil || said.ErrorCode == 0 {
			t.Errorf("a commit of another generation is told %d, %v", said.ErrorCode, err)
		}
		quiet(t, l.up, time.Second, "a commit of another generation")
		_ = l.client.Close()
		<-l.ended
	})
}

// TestTransactions_Offsets: positions that are committed in a transaction are the home's, under the home's id.
func TestTransactions_Offsets(t *testing.T) {
	for _, version := range []int16{0, 1, 2, 4} {
		synctest.Test(t, func(t *testing.T) {
			v := mapped(t, jumping(t))
			l := newTransacted(t, func(c *Config) { c.View = func() *rewrite.View { return v } })
			m := kmsg.NewPtrTxnOffsetCommitRequest()
			m.TransactionalID, m.Group, m.ProducerID = "t", "g", transactions.Shown(1000, 3)
			topic := kmsg.NewTxnOffsetCommitRequestTopic()
			topic.Topic = "orders"
			for _, at := range []int64{3, 20} {
				p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
				p.Offset = at
				topic.Partitions = append(topic.Partitions, p)
			}
			m.Topics = append(m.Topics, topic)
			post(l.client, request(1, version, m))
			var got kmsg.TxnOffsetCommitRequest
			l.asks(l.home(), &got, version)
			if p := got.Topics[0].Partitions; got.ProducerID != 1000 || fmt.Sprint(p[0].Offset, p[1].Offset) != "5 50" {
				t.Errorf("v%d: the home gets %+v", version, got)
			}
			_ = l.client.Close()
			<-l.ended
		})
	}
}

// TestTransactions_Committed: who wants a transaction to be committed that the home before has committed is told so; the home before that one is not asked.
func TestTransactions_Committed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		l := newTransacted(t, func(c *Config) {
			c.Committed = func(_ context.Context, generation int64, id string, producer int64, epoch int16) bool {
				asked = append(asked, fmt.Sprint(generation, id, producer, epoch))
				return producer == 7
			}
		})
		for i, tc := range []struct {
			id     int64
			commit bool
			code   int16
		}{
			{transactions.Shown(7, 2), true, 0},
			{transactions.Shown(8, 2), true, kerr.InvalidProducerIDMapping.Code},
			{transactions.Shown(7, 2), false, 0},
			{transactions.Shown(7, 1), true, kerr.InvalidProducerIDMapping.Code},
		} {
			end := kmsg.NewPtrEndTxnRequest()
			end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "t", tc.id, 4, tc.commit
			post(l.client, request(int32(i), 3, end))
			var said kmsg.EndTxnResponse
			said.SetVersion(3)
			if err := said.ReadFrom(expect(t, l.client, int32(i))[1:]); err != nil || said.ErrorCode != tc.code {
				t.Errorf("%x, commit %v: %d, want %d, %v", tc.id, tc.commit, said.ErrorCode, tc.code, err)
			}
		}
		if got := fmt.Sprint(asked); got != "[3t7 4 3t8 4]" {
			t.Errorf("asked %s", got)
		}
		_ = l.client.Close()
		<-l.ended
	})
}
