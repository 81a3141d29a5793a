package walk

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// log is batches of one record each, at some offsets.
func log(t *testing.T, offsets ...int64) (out []byte) {
	t.Helper()
	for _, at := range offsets {
		one, err := batch.Encode(nil, []batch.Record{{Value: []byte(fmt.Sprint("record ", at))}}, batch.None, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
		if err != nil {
			t.Fatal(err)
		}
		batch.SetPlace(one, at, 7)
		out = append(out, one...)
	}
	return out
}

// seen is what a client reads of it.
func seen(raw []byte) (offsets []int64) {
	for len(raw) > 0 {
		h, _, rest, err := batch.Next(raw)
		if err != nil {
			return offsets
		}
		offsets, raw = append(offsets, h.BaseOffset), rest
	}
	return offsets
}

// TestWalker_Shown: from the first batch on that is not shown a partition looks cut short, at the same length, and the next one is whole.
func TestWalker_Shown(t *testing.T) {
	m := kmsg.NewPtrFetchResponse()
	m.SetVersion(12)
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic = "orders"
	for p := range int32(3) {
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.Partition, rp.RecordBatches = p, log(t, 10, 11, 12, 13)
		topic.Partitions = append(topic.Partitions, rp)
	}
	m.Topics = append(m.Topics, topic)
	body := m.AppendTo([]byte{0})
	until := map[int32]int64{0: 12, 1: 10, 2: 99}
	var firsts []string
	patch := &Patch{
		Offset: func(_ Place, of Field, offset int64) int64 {
			if of == First {
				return offset + 100
			}
			return offset
		},
		Shown: func(at Place, h batch.Header, first bool) (bool, error) {
			firsts = append(firsts, fmt.Sprint(at.Partition, h.BaseOffset, first))
			return h.BaseOffset < until[at.Partition], nil
		},
	}
	var w Walker
	w.Reset(1, 12, true, len(body), patch)
	out, err := pass(&w, newRand(1), append([]byte(nil), body...))
	if err != nil || len(out) != len(body) {
		t.Fatalf("%d bytes of %d, %v", len(out), len(body), err)
	}
	var got kmsg.FetchResponse
	got.SetVersion(12)
	if err := got.ReadFrom(out[1:]); err != nil {
		t.Fatal(err)
	}
	for p, want := range []string{"[110 111]", "[]", "[110 111 112 113]"} {
		if s := fmt.Sprint(seen(got.Topics[0].Partitions[p].RecordBatches)); s != want {
			t.Errorf("partition %d: %s, want %s", p, s, want)
		}
	}
	if s, want := fmt.Sprint(firsts), "[0 10 true 0 11 false 0 12 false 1 10 true 2 10 true 2 11 false 2 12 false 2 13 false]"; s != want {
		t.Errorf("asked %s, want %s", s, want)
	}
	stop := errors.New("stop")
	w.Reset(1, 12, true, len(body), &Patch{Shown: func(Place, batch.Header, bool) (bool, error) { return false, stop }})
	if _, err := pass(&w, newRand(1), append([]byte(nil), body...)); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}
