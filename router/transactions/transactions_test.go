package transactions

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestIDs(t *testing.T) {
	const most = 1<<realBits - 1
	for _, c := range []struct {
		id, generation int64
		tagged         bool
	}{
		{0, 0, false}, {7, 0, false}, {0, 1, true}, {7, 1, true}, {7, 2, true}, {most, 511, true}, {7, 512, false}, {7, 513, true},
		{-1, 1, false},       // no id
		{most + 1, 1, false}, // not a broker's
		{1<<62 | 7, 1, false},
	} {
		shown := Shown(c.id, c.generation)
		if tagged := shown != c.id; tagged != c.tagged {
			t.Errorf("%d in generation %d is shown as %x", c.id, c.generation, shown)
		}
		if id, current := Real(shown, c.generation); id != c.id || !current {
			t.Errorf("%x in generation %d is %d, current %v; want %d", shown, c.generation, id, current, c.id)
		}
		if c.id < 0 || c.id > most {
			continue
		}
		for _, other := range []int64{0, 1, 2, 3, 511, 512} {
			if other%Tags == c.generation%Tags {
				continue
			}
			if _, current := Real(shown, other); current {
				t.Errorf("%x of generation %d is taken for one of %d", shown, c.generation, other)
			}
		}
	}
}

// FuzzIDs: what is shown to a client is one of nobody else, comes back as it was, and is never taken for an id of the fabric.
func FuzzIDs(f *testing.F) {
	f.Add(int64(0), int64(0))
	f.Add(int64(1000), int64(1))
	f.Add(int64(-1), int64(3))
	f.Add(int64(mark<<(realBits+tagBits)|5<<realBits|9), int64(5))
	f.Fuzz(func(t *testing.T, id, generation int64) {
		generation &= 1<<40 - 1
		home, _ := Real(id, generation)
		if home < 0 != (id < 0) {
			t.Errorf("%d becomes %d", id, home)
		}
		id &= 1<<realBits - 1
		shown := Shown(id, generation)
		if back, current := Real(shown, generation); back != id || !current || shown < 0 || shown>>62 != 0 {
			t.Errorf("%d in generation %d is shown as %x, which is %d, current %v", id, generation, shown, back, current)
		}
		if _, current := Real(shown, generation+1); current {
			t.Errorf("%x is of two generations", shown)
		}
	})
}

// requests are those of a transaction, with an id in each version that the router offers.
func requests(id int64) (all []kmsg.Request) {
	for version := int16(0); version <= 3; version++ {
		m := kmsg.NewPtrAddPartitionsToTxnRequest()
		m.TransactionalID, m.ProducerID = "t", id
		topic := kmsg.NewAddPartitionsToTxnRequestTopic()
		topic.Topic, topic.Partitions = "orders", []int32{0, 2}
		m.Topics = append(m.Topics, topic)
		m.SetVersion(version)
		all = append(all, m)
	}
	for version := int16(0); version <= 4; version++ {
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.Group = "t", id, "g"
		commit := kmsg.NewPtrTxnOffsetCommitRequest()
		commit.TransactionalID, commit.ProducerID, commit.Group = "t", id, "g"
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic = "orders"
		topic.Partitions = append(topic.Partitions, kmsg.NewTxnOffsetCommitRequestTopicPartition())
		commit.Topics = append(commit.Topics, topic)
		end, abort := kmsg.NewPtrEndTxnRequest(), kmsg.NewPtrEndTxnRequest()
		end.TransactionalID, end.ProducerID, end.Commit = "t", id, true
		abort.TransactionalID, abort.ProducerID = "t", id
		for _, m := range []kmsg.Request{add, commit, end, abort} {
			m.SetVersion(version)
			all = append(all, m)
		}
	}
	return all
}

// id is that of a request.
func id(m kmsg.Request) int64 {
	switch m := m.(type) {
	case *kmsg.InitProducerIDRequest:
		return m.ProducerID
	case *kmsg.AddPartitionsToTxnRequest:
		return m.ProducerID
	case *kmsg.AddOffsetsToTxnRequest:
		return m.ProducerID
	case *kmsg.TxnOffsetCommitRequest:
		return m.ProducerID
	case *kmsg.EndTxnRequest:
		return m.ProducerID
	}
	return -2
}

// TestRequest: who has an id of the generation goes to the home with the home's.
func TestRequest(t *testing.T) {
	for _, m := range append(requests(Shown(7, 3)), &kmsg.InitProducerIDRequest{Version: 3, ProducerID: Shown(7, 3), ProducerEpoch: 2}) {
		if !Looks(m.Key()) {
			t.Errorf("%T is not looked at", m)
		}
		if stale := Request(m, 3); stale != nil || id(m) != 7 {
			t.Errorf("%T: id %d, answered %+v", m, id(m), stale)
		}
	}
}

// TestRequest_Stale: who has one of another hears what makes him abort and get another, once: at the beginning of a transaction or at its end. He can abort, and is taken in as new.
func TestRequest_Stale(t *testing.T) {
	for _, m := range requests(Shown(7, 2)) {
		stale := Request(m, 3)
		if stale == nil || stale.Key() != m.Key() || stale.GetVersion() != m.GetVersion() {
			t.Errorf("%T v%d: answered %+v", m, m.GetVersion(), stale)
			continue
		}
		want := kerr.UnknownProducerID.Code
		var codes []int16
		switch r := stale.(type) {
		case *kmsg.AddPartitionsToTxnResponse:
			for _, p := range r.Topics[0].Partitions {
				codes = append(codes, p.ErrorCode)
			}
			if len(codes) != 2 || r.Topics[0].Topic != "orders" || r.Topics[0].Partitions[1].Partition != 2 {
				t.Errorf("%+v", r)
			}
		case *kmsg.AddOffsetsToTxnResponse:
			codes = append(codes, r.ErrorCode)
		case *kmsg.TxnOffsetCommitResponse:
			codes, want = append(codes, r.Topics[0].Partitions[0].ErrorCode), 0
		case *kmsg.EndTxnResponse:
			if want = kerr.InvalidProducerIDMapping.Code; r.Version >= 4 {
				want = kerr.TransactionAbortable.Code
			}
			if codes = append(codes, r.ErrorCode); !m.(*kmsg.EndTxnRequest).Commit {
				want = 0
			}
		}
		for _, code := range codes {
			if code != want {
				t.Errorf("%T v%d: error code %d, want %d", m, m.GetVersion(), code, want)
			}
		}
	}
	init := &kmsg.InitProducerIDRequest{Version: 3, ProducerID: Shown(7, 2), ProducerEpoch: 2}
	if stale := Request(init, 3); stale != nil || init.ProducerID != -1 || init.ProducerEpoch != -1 {
		t.Errorf("%+v, answered %+v", init, stale)
	}
	init = &kmsg.InitProducerIDRequest{Version: 3, ProducerID: 1 << 50, ProducerEpoch: 2} // of whatever generation
	if stale := Request(init, 3); stale != nil || init.ProducerID != -1 || init.ProducerEpoch != -1 {
		t.Errorf("%+v, answered %+v", init, stale)
	}
	if p := Produced(3); p.Partition != 3 || p.BaseOffset != -1 || p.ErrorCode != kerr.UnknownProducerID.Code || p.LogStartOffset >= -1 {
		t.Errorf("%+v", p)
	}
	if Looks(int16(kmsg.Produce)) {
		t.Error("records are not looked at here")
	}
}

func TestAnswer(t *testing.T) {
	m := &kmsg.InitProducerIDResponse{ProducerID: 7, ProducerEpoch: 1}
	if Answer(m, 3); m.ProducerID != Shown(7, 3) || m.ProducerEpoch != 1 {
		t.Errorf("%+v", m)
	}
	m = &kmsg.InitProducerIDResponse{ProducerID: -1, ErrorCode: kerr.CoordinatorNotAvailable.Code}
	if Answer(m, 3); m.ProducerID != -1 {
		t.Errorf("%+v", m)
	}
}
