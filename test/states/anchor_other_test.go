package states

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
)

// Another owner copies on while an anchor is set, after the place was found exactly: what it has copied is copied again behind the anchor, and
// the ledger says that too.
func TestAnchor_AnotherOwnerWritesMeanwhile(t *testing.T) {
	play(t, "", func(s *stage) {
		s.write(topic, words("a", 6)...)
		s.holds(topic, words("a", 6)...)
		eu, us := s.Clusters["eu"], s.Clusters["us"]
		looked, done := false, false
		us.ControlKey(int16(kmsg.DescribeProducers), func(kmsg.Request) (kmsg.Response, error, bool) {
			us.KeepControl()
			looked = true
			return nil, nil, false
		})
		eu.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
			eu.KeepControl()
			if looked && !done { // the place is found, and the ends of the logs are asked for
				done = true
				eu.SleepControl(func() {
					s.batch("eu", batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1}, words("b", 3))
					s.batch("us", batch.Stamp{ProducerID: s.Topology.MirrorID("eu", "eu"), Sequence: 6}, words("b", 3))
				})
			}
			return nil, nil, false
		})
		looked = false
		if _, err := s.node.Set.Anchor(context.Background(), mirror.AnchorRequest{Link: "eu-us", Topic: topic, At: 2, Why: "for a test"}); err != nil || !done {
			t.Fatalf("anchored: %v; another owner wrote: %v", err, done)
		}
		s.holds(topic, append(append(words("a", 6), words("b", 3)...), "a-2", "a-3", "a-4", "a-5", "b-0", "b-1", "b-2")...)
		s.ledger("repeated 2-5 4", "repeated 6-8 3")
		s.goesOn()
	})
}

// batch writes words as one batch with a stamp, at the same time wherever it is written.
func (s *stage) batch(cluster string, stamp batch.Stamp, words []string) {
	s.t.Helper()
	var records []batch.Record
	for i, w := range words {
		records = append(records, batch.Record{Offset: int64(i), Timestamp: time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC).UnixMilli(), Value: []byte(w)})
	}
	raw, err := batch.Encode(nil, records, batch.None, stamp)
	if err != nil {
		s.t.Fatal(err)
	}
	cl := s.client(cluster, kgo.MaxVersions(kversion.V3_0_0())) // topics by name
	defer cl.Close()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = raw
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{part}}}
	resp, err := req.RequestWith(context.Background(), cl)
	if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		s.t.Errorf("write to %s: %+v, %v", cluster, resp, err)
	}
}
