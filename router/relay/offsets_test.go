package relay

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/router/hold"
	"github.com/isthmus-project/isthmus/router/positions"
	"github.com/isthmus-project/isthmus/router/rewrite"
	"github.com/isthmus-project/isthmus/router/timeline"
)

// jumping is a home that has virtual 0 to 9 at 20 to 29, 10 to 19 at 5 to 14, and what was written since, from virtual 20 on, at 50.
func jumping(t *testing.T) *positions.Book {
	t.Helper()
	line, err := timeline.Begin(0, "eu", 0).Next(timeline.Planned("us", 20, 50))
	if err != nil {
		t.Fatal(err)
	}
	m, err := timeline.Build(line, map[int64][]timeline.Run{0: {{From: 0, To: 20, Count: 10}, {From: 10, To: 5, Count: 10}}})
	if err != nil {
		t.Fatal(err)
	}
	return positions.New(map[string][]*timeline.Map{"orders": {m}})
}

// fetch asks for a virtual offset, and returns the real one that the home is asked for.
func (l *lab) fetch(correlation int32, at int64) (real int64) {
	l.t.Helper()
	m := kmsg.NewPtrFetchRequest()
	topic, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	topic.Topic, p.FetchOffset = "orders", at
	topic.Partitions = append(topic.Partitions, p)
	m.Topics = append(m.Topics, topic)
	post(l.client, request(correlation, 11, m))
	var got kmsg.FetchRequest
	l.asks(l.home(), &got, 11)
	return got.Topics[0].Partitions[0].FetchOffset
}

// fetchedAt is a home's answer with one record at each of some real offsets, and the high watermark 60.
func fetchedAt(t *testing.T, offsets ...int64) *kmsg.FetchResponse {
	t.Helper()
	m := kmsg.NewPtrFetchResponse()
	topic, p := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	topic.Topic, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = "orders", 60, 60, 5
	for _, at := range offsets {
		one, err := batch.Encode(nil, []batch.Record{{Value: []byte("x")}}, batch.None, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
		if err != nil {
			t.Fatal(err)
		}
		batch.SetPlace(one, at, 7)
		p.RecordBatches = append(p.RecordBatches, one...)
	}
	topic.Partitions = append(topic.Partitions, p)
	m.Topics = append(m.Topics, topic)
	return m
}

// told is what the client reads of an answer: high watermark, log start, and offsets of batches that are whole.
func (l *lab) told(correlation int32) string {
	l.t.Helper()
	var m kmsg.FetchResponse
	m.SetVersion(11)
	if err := m.ReadFrom(expect(l.t, l.client, correlation)); err != nil {
		l.t.Fatal(err)
	}
	p := m.Topics[0].Partitions[0]
	var offsets []int64
	for raw := p.RecordBatches; len(raw) > 0; {
		h, _, rest, err := batch.Next(raw)
		if err != nil {
			break
		}
		offsets, raw = append(offsets, h.BaseOffset), rest
	}
	return fmt.Sprint(p.HighWatermark, p.LogStartOffset, offsets)
}

// TestOffsets_Pieces: an answer is shown up to the end of the piece that was asked for; what the home has behind it is another time's.
func TestOffsets_Pieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := mapped(t, jumping(t))
		l := newLab(t, func(c *Config) { c.View = func() *rewrite.View { return v } })
		for i, tc := range []struct {
			asked, real int64
			has         []int64
			want        string
		}{
			{3, 23, []int64{23, 25, 29, 30, 31}, "30 0 [3 5 9]"},
			{10, 5, []int64{5, 14, 20}, "30 0 [10 19]"},
			{20, 50, []int64{50, 59, 70}, "30 0 [20 29 40]"},
			{3, 23, nil, "30 0 []"},
		} {
			id := int32(i)
			if real := l.fetch(id, tc.asked); real != tc.real {
				t.Errorf("%d is asked for as %d, want %d", tc.asked, real, tc.real)
			}
			post(l.up, answer(id, 11, fetchedAt(t, tc.has...)))
			if got := l.told(id); got != tc.want {
				t.Errorf("from %d on the client is told %s, want %s", tc.asked, got, tc.want)
			}
		}
		_ = l.client.Close()
		<-l.ended
	})
}

// TestOffsets_NothingLeft: where nothing of a piece is left the client comes again, and is shown what is next.
func TestOffsets_NothingLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := mapped(t, jumping(t))
		one := newLab(t, func(c *Config) { c.View = func() *rewrite.View { return v } })
		one.fetch(1, 15)
		post(one.up, answer(1, 11, fetchedAt(t, 20, 21)))
		one.gone(one.relay.cfg.Timeouts.Linger * 3)
		one.end(Upstream, errNothing)
		again := newLab(t, func(c *Config) { c.View = func() *rewrite.View { return v } })
		if real := again.fetch(1, 15); real != 50 {
			t.Errorf("15 is asked for as %d, want 50", real)
		}
		_ = again.client.Close()
		<-again.ended
	})
}

// TestOffsets_Spans: a batch that is of two pieces is not shown as if it were of one.
func TestOffsets_Spans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := mapped(t, jumping(t))
		l := newLab(t, func(c *Config) { c.View = func() *rewrite.View { return v } })
		l.fetch(1, 9)
		two, err := batch.Encode(nil, []batch.Record{{Value: []byte("x")}, {Offset: 1, Value: []byte("y")}}, batch.None, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
		if err != nil {
			t.Fatal(err)
		}
		batch.SetPlace(two, 29, 7)
		m := fetchedAt(t)
		m.Topics[0].Partitions[0].RecordBatches = two
		post(l.up, answer(1, 11, m))
		l.gone(l.relay.cfg.Timeouts.Linger * 3)
		l.end(Upstream, errSpans)
	})
}

// mapped is a view of a home with a book of positions.
func mapped(t *testing.T, b *positions.Book) *rewrite.View {
	t.Helper()
	v, err := rewrite.NewView("virtual", []rewrite.Slot{{ID: 1, Node: 101, Host: "door.example", Port: 9093}})
	if err != nil {
		t.Fatal(err)
	}
	return v.WithOffsets(b)
}

// closed has another home decided on, perhaps.
func (s *stages) closed() {
	next := *s.now.Load()
	next.over = make(chan struct{})
	next.Over, next.Closed = next.over, true
	close(s.now.Swap(&next).over)
}

// TestOffsets_Left: what a home tells when another may have been decided on waits until that is known. If it was, nothing of it is shown but offsets: what came there since has others at the
// new home. If it was not, all is.
func TestOffsets_Left(t *testing.T) {
	for moved, want := range map[bool]string{true: "30 0 []", false: "30 0 [23]"} {
		synctest.Test(t, func(t *testing.T) {
			v := mapped(t, jumping(t))
			l, s := newStaging(t, func(c *Config) { c.View = func() *rewrite.View { return v } })
			l.fetch(1, 23)
			s.set(0, hold.Held)
			s.closed()
			post(l.up, answer(1, 11, fetchedAt(t, 53)))
			quiet(t, l.client, time.Second, "what nobody knows the place of")
			generation := int64(0)
			if moved {
				generation = 1
			}
			s.set(generation, hold.Serving)
			if got := l.told(1); got != want {
				t.Errorf("moved %v: the client is told %s, want %s", moved, got, want)
			}
			_ = l.client.Close()
			<-l.ended
		})
	}
}

// TestOffsets_LeftForGood: nobody waits for ever to know.
func TestOffsets_LeftForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := mapped(t, jumping(t))
		l, s := newStaging(t, func(c *Config) { c.View = func() *rewrite.View { return v } })
		l.fetch(1, 23)
		s.set(0, hold.Held)
		s.closed()
		post(l.up, answer(1, 11, fetchedAt(t, 53)))
		l.gone(2 * (hold.Patience + l.relay.cfg.Timeouts.Linger))
		l.end(Router, ErrMoved)
	})
}
