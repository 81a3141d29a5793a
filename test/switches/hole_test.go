package switches

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/admin/adminpb"
	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/frame"
	"github.com/isthmus-project/isthmus/test/clients/oracle"
	"github.com/isthmus-project/isthmus/test/kafka"
)

// fault is what becomes of the requests and answers of producers between them and the doors.
type fault int

const (
	pass    fault = iota
	stall         // requests wait
	refuse        // the first of each connection that waited is refused, and those behind it go on
	swallow       // answers are lost, and connections whose door is gone stay open
	drop          // what was under way is lost: connections end
)

// between is in the way of all clients to the doors.
type between struct {
	t    *testing.T
	mu   sync.Mutex
	now  fault
	next chan struct{} // closed when now is another
	all  map[net.Conn]*bool
}

func newBetween(t *testing.T) *between {
	return &between{t: t, next: make(chan struct{}), all: make(map[net.Conn]*bool)}
}

// set has something else become of what passes.
func (b *between) set(f fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = f
	close(b.next)
	b.next = make(chan struct{})
	if f != drop {
		return
	}
	for c, produces := range b.all {
		if *produces {
			_ = c.Close()
		}
	}
	b.now = pass
}

func (b *between) is() (fault, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now, b.next
}

// listen takes connections for a door, until the test ends.
func (b *between) listen(at, door string) {
	b.t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.carry(c, door)
		}
	}()
}

// carry is one connection.
func (b *between) carry(client net.Conn, door string) {
	defer client.Close()
	up, err := net.Dial("tcp", door)
	if err != nil {
		_ = client.(*net.TCPConn).SetLinger(0)
		return
	}
	defer up.Close()
	produces := new(bool)
	b.mu.Lock()
	b.all[client] = produces
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.all, client)
	}()
	go func() {
		b.requests(client, up, produces)
		_ = up.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		b.mu.Lock()
		lost := b.now == swallow && *produces
		next := b.next
		b.mu.Unlock()
		switch {
		case err != nil && lost:
			<-next
			return
		case err != nil:
			return
		case lost:
		default:
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// requests passes requests on, one by one.
func (b *between) requests(client, up net.Conn, produces *bool) {
	in := bufio.NewReader(client)
	for {
		head, err := in.Peek(4)
		if err != nil {
			return
		}
		whole := make([]byte, 4+int(binary.BigEndian.Uint32(head)))
		if _, err := io.ReadFull(in, whole); err != nil {
			return
		}
		if key := kmsg.Key(binary.BigEndian.Uint16(whole[4:])); key == kmsg.Produce {
			b.mu.Lock()
			*produces = true
			b.mu.Unlock()
			f, next := b.is()
			waited := f == stall
			for ; f == stall; f, next = b.is() {
				<-next
			}
			if waited && f == refuse {
				if _, err := client.Write(refused(b.t, whole)); err != nil {
					return
				}
				continue
			}
		}
		if _, err := up.Write(whole); err != nil {
			return
		}
	}
}

// refused is the answer to a Produce of a broker that leads nothing of it.
func refused(t *testing.T, whole []byte) []byte {
	h, err := frame.ParseRequest(whole, 1<<30, apis.Flexible)
	m := kmsg.NewPtrProduceRequest()
	m.SetVersion(h.Version)
	if err == nil {
		err = m.ReadFrom(whole[h.Header:])
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	r := m.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range m.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = topic.Topic
		for _, p := range topic.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, kerr.NotLeaderForPartition.Code, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(h.Correlation))
	if apis.AnswerTags(h.Key, h.Version) {
		out = append(out, 0)
	}
	out = r.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// gated are the batches that a node's gates have decided about, by reason.
func (l *lab) gated(name string) map[string]int {
	l.t.Helper()
	resp, err := http.Get("http://" + l.setup.HTTP(name) + "/metrics")
	if err != nil {
		return nil // it was killed
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	out := make(map[string]int)
	for _, m := range gatedMetric.FindAllStringSubmatch(string(text), -1) {
		if n, _ := strconv.Atoi(m[2]); n > 0 {
			out[m[1]] = n
		}
	}
	return out
}

var gatedMetric = regexp.MustCompile(`(?m)^isthmus_router_gated_batches_total\{.*reason="([a-z-]+)".*\} ([0-9]+)$`)

// TestOrderHole: the first of the requests that a producer has under way is refused when the home has just changed, and those behind it go on; then the answers to all of them are lost, and the producer
// sends them again to the next home; then it does so through another instance, because its own was killed. Each time nothing is lost, doubled or out of order, and no producer ends.
func TestOrderHole(t *testing.T) {
	kafka.Require(t)
	faults := newBetween(t)
	l := newLabWith(t, faults, "")
	for _, e := range wanted() {
		if recovers[e.Kind] {
			l.produces(t, e)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	acked := func(c *client) int { return c.count(oracle.Acked) }
	goOn := func() {
		t.Helper()
		for _, c := range l.clients {
			had := acked(c)
			if err := c.history.Wait(ctx, "to go on", func([]oracle.Event) bool { return acked(c) >= had+2*rate }); err != nil {
				t.Fatalf("%s: %v", c.topic, err)
			}
		}
	}
	goOn()
	l.ready()
	switched := func(to string, at map[string]func()) {
		t.Helper()
		if p := l.goesWith(l.nodes[2], adminpb.SwitchKind_SWITCH_KIND_PLANNED, to, at); p.GetOutcome() != "committed" {
			t.Fatalf("%s: %s", p.GetOutcome(), p.GetWhy())
		}
	}
	before := make(map[string]int)
	decided := func(what string, reasons ...string) {
		t.Helper()
		n := 0
		for _, name := range []string{"eu-1", "eu-2"} {
			got := l.gated(name)
			t.Logf("%s: gates of %s: %v", what, name, got)
			for _, r := range reasons {
				n += max(0, got[r]-before[name+r]) // a node that began again counts from 0
				before[name+r] = got[r]
			}
		}
		if n == 0 {
			t.Errorf("%s: no batch was %v", what, reasons)
		}
	}

	faults.set(stall)
	time.Sleep(300 * time.Millisecond)
	switched("us", nil)
	faults.set(refuse)
	time.Sleep(time.Second)
	faults.set(pass)
	goOn()
	decided("the first refused", "gap")

	faults.set(swallow)
	time.Sleep(300 * time.Millisecond)
	switched("eu", nil)
	faults.set(drop)
	goOn()
	decided("answers lost", "old", "repeated")

	l.ready()
	faults.set(swallow)
	time.Sleep(300 * time.Millisecond)
	switched("us", map[string]func(){
		"hold":    func() { l.nodes[0].Kill() },
		"release": func() { faults.set(drop); goOn(); l.nodes[0].Start() },
	})
	decided("the instance lost", "old", "repeated")
	for _, c := range l.clients {
		c.judgeProducer(ctx, t)
	}
}

// judgeProducer stops a producer and judges what it was told by what is stored.
func (c *client) judgeProducer(ctx context.Context, t *testing.T) {
	t.Helper()
	c.runs[0].Stop()
	stored, err := c.l.stored(ctx, c.topic)
	if err != nil {
		t.Errorf("%s: %v", c.topic, err)
	}
	events := c.history.Events()
	texts := make(map[string]int)
	for _, e := range events {
		if e.Kind == oracle.Error || e.Kind == oracle.Failed {
			texts[e.Text]++
		}
	}
	t.Logf("%s: %d acknowledged; told %v", c.topic, c.count(oracle.Acked), texts)
	events = slices.DeleteFunc(events, func(e oracle.Event) bool { return e.Kind == oracle.Error && !e.Fatal }) // librdkafka tells of each connection that ends
	for _, wrong := range oracle.Judge(events, stored, oracle.Promise{Unread: true}) {
		t.Errorf("%s: %s", c.topic, wrong)
	}
}
