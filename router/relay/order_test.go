package relay

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/gate"
	"github.com/isthmus-project/isthmus/router/hold"
)

// newOrdered is a lab whose home has changed. Producer 100 had been acknowledged sequence 9 of partition 0, at virtual offset 77 and before.
func newOrdered(t *testing.T) *lab {
	t.Helper()
	left := []gate.Partition{{Topic: "orders", Producers: []gate.Producer{{ID: 100, Last: 9, Batches: []gate.Written{{First: 8, Last: 9, Base: 77}}}}}}
	b, err := gate.NewBook(time.Now(), left, func(id int64) (int64, error) { return id + 1, nil })
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	return newLab(t, func(c *Config) {
		c.Stage = func() Stage { return Stage{Generation: 1, Phase: hold.Serving, Producers: b, Over: over} }
	})
}

// sequence is a batch of producer 100 for a partition: sequences first to first+records-1.
type sequence struct {
	partition      int32
	first, records int32
}

func (s sequence) raw(t *testing.T) []byte {
	t.Helper()
	var recs []batch.Record
	for i := range s.records {
		recs = append(recs, batch.Record{Offset: int64(i), Value: []byte("x")})
	}
	one, err := batch.Encode(nil, recs, batch.None, batch.Stamp{ProducerID: 100, Sequence: s.first})
	if err != nil {
		t.Fatal(err)
	}
	return one
}

func producing(t *testing.T, all ...sequence) *kmsg.ProduceRequest {
	t.Helper()
	m := kmsg.NewPtrProduceRequest()
	m.Acks = -1
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "orders"
	for _, s := range all {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = s.partition, s.raw(t)
		topic.Partitions = append(topic.Partitions, p)
	}
	m.Topics = append(m.Topics, topic)
	return m
}

// produced is the home's answer: for each partition an error code, and base offset 500.
func produced(codes map[int32]int16) *kmsg.ProduceResponse {
	m := kmsg.NewPtrProduceResponse()
	topic := kmsg.NewProduceResponseTopic()
	topic.Topic = "orders"
	for p, code := range codes {
		rp := kmsg.NewProduceResponseTopicPartition()
		rp.Partition, rp.ErrorCode, rp.BaseOffset = p, code, 500
		rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = 102, 3
		topic.Partitions = append(topic.Partitions, rp)
	}
	m.Topics = append(m.Topics, topic)
	m.Brokers = append(m.Brokers, kmsg.ProduceResponseBroker{NodeID: 102, Host: "real.example", Port: 1})
	return m
}

// takes reads a Produce at the home, as "partition/sequence by id", and checks that its batches are whole.
func (l *lab) takes() (id int32, what []string) {
	l.t.Helper()
	var m kmsg.ProduceRequest
	id = l.asks(l.home(), &m, 9)
	for _, topic := range m.Topics {
		for _, p := range topic.Partitions {
			h, err := batch.ParseHeader(p.Records)
			if err != nil || !batch.VerifyCRC(p.Records) {
				l.t.Errorf("partition %d: %v", p.Partition, err)
			}
			what = append(what, fmt.Sprintf("%d/%d by %d", p.Partition, h.BaseSequence, h.ProducerID))
		}
	}
	return id, what
}

// hears reads an answer to Produce, as "partition: code at offset".
func (l *lab) hears(id int32) (what []string) {
	l.t.Helper()
	var m kmsg.ProduceResponse
	m.SetVersion(9)
	if err := m.ReadFrom(expect(l.t, l.client, id)[1:]); err != nil {
		l.t.Fatal(err)
	}
	for _, topic := range m.Topics {
		for _, p := range topic.Partitions {
			what = append(what, fmt.Sprintf("%d: %d at %d", p.Partition, p.ErrorCode, p.BaseOffset))
			if p.CurrentLeader.LeaderID != -1 || len(m.Brokers) > 0 {
				l.t.Error("the client is told of a real leader")
			}
		}
	}
	return what
}

// TestOrder_InOrder: the next batch goes to the home alone, under its id there, and those behind it when it was acknowledged.
func TestOrder_InOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOrdered(t)
		post(l.client, request(1, 9, producing(t, sequence{0, 10, 2})), request(2, 9, producing(t, sequence{0, 12, 1}, sequence{1, 5, 1})))
		id, what := l.takes()
		if s := fmt.Sprint(what); s != "[0/10 by 101]" {
			t.Errorf("the home gets %s", s)
		}
		quiet(t, l.up, time.Minute, "a batch behind one that is not acknowledged")
		post(l.up, answer(id, 9, produced(map[int32]int16{0: 0})))
		if s := fmt.Sprint(l.hears(1)); s != "[0: 0 at 500]" {
			t.Errorf("the client is told %s", s)
		}
		if _, what = l.takes(); fmt.Sprint(what) != "[0/12 by 101 1/5 by 101]" {
			t.Errorf("the home gets %s", what)
		}
		_ = l.client.Close()
		<-l.ended
	})
}

// TestOrder_Written: what was written at the home before is answered here, alone or beside what is not.
func TestOrder_Written(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOrdered(t)
		post(l.client, request(1, 9, producing(t, sequence{0, 8, 2})))
		if s := fmt.Sprint(l.hears(1)); s != "[0: 0 at 77]" {
			t.Errorf("the client is told %s", s)
		}
		post(l.client, request(2, 9, producing(t, sequence{0, 6, 2})))
		if s := fmt.Sprint(l.hears(2)); s != fmt.Sprintf("[0: %d at -1]", kerr.DuplicateSequenceNumber.Code) {
			t.Errorf("of one whose place nobody knows the client is told %s", s)
		}
		post(l.client, request(3, 9, producing(t, sequence{0, 8, 2}, sequence{1, 0, 1})))
		id, what := l.takes()
		if s := fmt.Sprint(what); s != "[1/0 by 101]" {
			t.Errorf("the home gets %s", s)
		}
		post(l.up, answer(id, 9, produced(map[int32]int16{1: 0})))
		if s := fmt.Sprint(l.hears(3)); s != "[1: 0 at 500 0: 0 at 77]" {
			t.Errorf("the client is told %s", s)
		}
		_ = l.client.Close()
		<-l.ended
	})
}

// TestOrder_Gaps: where a batch is missing, or was refused, nothing behind it reaches the home; the client gets what was answered and connects anew.
func TestOrder_Gaps(t *testing.T) {
	for name, refused := range map[string]bool{"missing": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newOrdered(t)
				if refused {
					post(l.client, request(1, 9, producing(t, sequence{0, 10, 2})), request(2, 9, producing(t, sequence{0, 12, 1})))
					id, _ := l.takes()
					post(l.up, answer(id, 9, produced(map[int32]int16{0: kerr.NotLeaderForPartition.Code})))
					if s := fmt.Sprint(l.hears(1)); s != fmt.Sprintf("[0: %d at 500]", kerr.NotLeaderForPartition.Code) {
						t.Errorf("the client is told %s", s)
					}
				} else {
					post(l.client, request(2, 9, producing(t, sequence{0, 12, 1})))
				}
				l.gone(l.relay.cfg.Timeouts.Linger * 3)
				l.end(Router, ErrOrder)
			})
		})
	}
}

// TestOrder_Again: one that was refused may come again over the same connection.
func TestOrder_Again(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOrdered(t)
		for i := range int32(3) {
			post(l.client, request(i, 9, producing(t, sequence{0, 10, 2})))
			id, what := l.takes()
			if s := fmt.Sprint(what); s != "[0/10 by 101]" {
				t.Errorf("the home gets %s", s)
			}
			post(l.up, answer(id, 9, produced(map[int32]int16{0: kerr.NotLeaderForPartition.Code})))
			l.hears(i)
		}
		_ = l.client.Close()
		<-l.ended
	})
}

// TestOrder_Open: when the home knows all producers their batches pass as ever, under their ids there.
func TestOrder_Open(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOrdered(t)
		for i := range int32(gate.Remembered) {
			post(l.client, request(i, 9, producing(t, sequence{0, 10 + i, 1})))
			id, _ := l.takes()
			post(l.up, answer(id, 9, produced(map[int32]int16{0: 0})))
			l.hears(i)
		}
		post(l.client, request(20, 9, producing(t, sequence{0, 15, 1})), request(21, 9, producing(t, sequence{0, 16, 1})))
		for i := range int32(2) {
			if id, what := l.takes(); id != 20+i || fmt.Sprint(what) != fmt.Sprintf("[0/%d by 101]", 15+i) {
				t.Errorf("the home gets %v", what)
			}
		}
		_ = l.client.Close()
		<-l.ended
	})
}
