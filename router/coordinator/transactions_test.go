package coordinator

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/generation"
	"github.com/isthmus-project/isthmus/router/sets"
	"github.com/isthmus-project/isthmus/router/switchover"
	"github.com/isthmus-project/isthmus/topology"
)

// ask asks a broker.
func ask[T kmsg.Response](t *testing.T, c net.Conn, version int16, m kmsg.Request) (answer T) {
	t.Helper()
	m.SetVersion(version)
	if _, err := c.Write(kmsg.NewRequestFormatter().AppendRequest(nil, m, 1)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	resp := m.ResponseKind()
	if err := resp.ReadFrom(b[4:]); err != nil {
		t.Fatal(err)
	}
	return resp.(T)
}

// begins has a transaction begun at eu with a record, and returns its producer.
func (l *lab) begins(id, topic string, partition int32) (producer int64, epoch int16) {
	l.t.Helper()
	c, err := l.network.DialContext(l.t.Context(), "tcp", "127.0.0.1:9100")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = &id, 60_000
	given := ask[*kmsg.InitProducerIDResponse](l.t, c, 1, init)
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = id, given.ProducerID, given.ProducerEpoch
	add.Topics = append(add.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: topic, Partitions: []int32{partition}})
	added := ask[*kmsg.AddPartitionsToTxnResponse](l.t, c, 1, add)
	raw, err := batch.Encode(nil, []batch.Record{{Value: []byte("x")}}, batch.None, batch.Stamp{ProducerID: given.ProducerID, Epoch: given.ProducerEpoch})
	if err != nil {
		l.t.Fatal(err)
	}
	raw[22] |= 1 << 4 // transactional
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	m := kmsg.NewPtrProduceRequest()
	m.TransactionID, m.Acks, m.TimeoutMillis = &id, -1, 1000
	m.Topics = append(m.Topics, kmsg.ProduceRequestTopic{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: raw}}})
	wrote := ask[*kmsg.ProduceResponse](l.t, c, 7, m)
	if code := added.Topics[0].Partitions[0].ErrorCode + wrote.Topics[0].Partitions[0].ErrorCode + given.ErrorCode; code != 0 {
		l.t.Fatal(kerr.ErrorForCode(code))
	}
	return given.ProducerID, given.ProducerEpoch
}

// TestRun_Transactions: what is open when all hold is aborted, in the name of its producer, before it is looked where the home ends.
func TestRun_Transactions(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		id, epoch := l.begins("open", "orders", 1)
		c := l.coordinator("eu-1")
		checks := c.Checks(t.Context(), l.order(c, "us", generation.Planned))
		if i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == "transactions" }); i < 0 || !checks[i].OK {
			t.Errorf("%+v", checks)
		}
		s, _, _ := l.run(t.Context(), c, l.order(c, "us", generation.Planned))
		if s.Outcome != switchover.Committed {
			t.Fatalf("%s (%s)", s.Outcome, s.Why)
		}
		topics, err := c.deps.Store.Cut(s.Cut)
		for _, ct := range topics {
			if ct.Topic == "orders" && !slices.Equal(ct.Left, []int64{0, 12, 20}) { // a record, and the mark of its end
				t.Errorf("%+v, %v", ct, err)
			}
		}
		left, err := l.at("eu").DescribeTransactions(t.Context(), "open", "nobody")
		if err != nil || len(left) != 1 || left[0].State == broker.TransactionOngoing || left[0].ProducerID != id || left[0].Epoch != epoch {
			t.Errorf("the producer was %d, %d and is %+v, %v", id, epoch, left, err)
		}
	})
}

func TestTakesPart(t *testing.T) {
	topo, err := topology.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	here := sets.NewMap(topo.Routers[0]).Of(0)
	for _, c := range []struct {
		state  broker.TransactionState
		topics []string
		want   bool
	}{
		{broker.TransactionOngoing, []string{"orders"}, true},
		{broker.TransactionCommits, []string{"other", "orders"}, true},
		{broker.TransactionAborts, []string{"orders"}, true},
		{broker.TransactionOngoing, []string{"__consumer_offsets"}, true},
		{broker.TransactionOngoing, []string{"__consumer_offsets", "other"}, false},
		{broker.TransactionOngoing, []string{"other"}, false},
		{broker.TransactionCommitted, []string{"orders"}, false},
		{"Empty", nil, false},
	} {
		if got := takesPart(broker.Transaction{ID: "t", State: c.state, Topics: c.topics}, here, []string{"orders"}); got != c.want {
			t.Errorf("%s of %v: %v", c.state, c.topics, got)
		}
	}
}

func TestHanging(t *testing.T) {
	open := []broker.OpenTransaction{{Topic: "orders", Partition: 1, ProducerID: 7, TransactionalID: "t"}}
	if lost := hanging(open); lost != "" {
		t.Error(lost)
	}
	if lost := hanging(append(open, broker.OpenTransaction{Topic: "orders", Partition: 2, ProducerID: 8})); lost == "" {
		t.Error("nothing is said of one whose producer nobody knows")
	}
}
