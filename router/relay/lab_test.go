package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

// lab is a relay between a client and a broker that the test plays.
type lab struct {
	t      *testing.T
	client net.Conn
	broker chan net.Conn // what was dialed
	stop   context.CancelFunc
	ended  chan error
	relay  *Relay
	up     net.Conn // what was dialled first, see home
}

func newLab(t *testing.T, change func(*Config)) *lab {
	t.Helper()
	v, err := rewrite.NewView("virtual", []rewrite.Slot{{ID: 1, Node: 101, Host: "door.example", Port: 9093}})
	if err != nil {
		t.Fatal(err)
	}
	versions, err := apis.Offer(nil)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	l := &lab{t: t, client: ours, broker: make(chan net.Conn, 1), ended: make(chan error, 1)}
	cfg := Config{
		Client: theirs,
		Dial: func(context.Context, bool) (net.Conn, bool, error) {
			a, b := net.Pipe()
			l.broker <- b
			return a, false, nil
		},
		View:       func() *rewrite.View { return v },
		Versions:   versions,
		ProducerID: func() (int64, error) { return 1 << 62, nil },
	}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	l.stop, l.relay = stop, r
	go func() { l.ended <- r.Run(ctx) }()
	return l
}

// home is what was dialled first.
func (l *lab) home() net.Conn {
	if l.up == nil {
		l.up = <-l.broker
	}
	return l.up
}

// request is a frame of a request.
func request(correlation int32, version int16, m kmsg.Request) []byte {
	m.SetVersion(version)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, m, correlation)
}

// answer is a frame of an answer.
func answer(correlation int32, version int16, m kmsg.Response) []byte {
	m.SetVersion(version)
	b := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(correlation))
	if apis.AnswerTags(m.Key(), version) {
		b = append(b, 0)
	}
	b = m.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func send(t *testing.T, c net.Conn, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if _, err := c.Write(f); err != nil {
			t.Fatal(err)
		}
	}
}

// post sends frames beside the test. What does not arrive is missed elsewhere.
func post(c net.Conn, frames ...[]byte) {
	go func() {
		for _, f := range frames {
			if _, err := c.Write(f); err != nil {
				return
			}
		}
	}()
}

// read reads one frame, without its length.
func read(t *testing.T, c net.Conn) []byte {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// expect reads an answer and says whose it is.
func expect(t *testing.T, c net.Conn, correlation int32) []byte {
	t.Helper()
	b := read(t, c)
	if got := int32(binary.BigEndian.Uint32(b)); got != correlation {
		t.Fatalf("an answer with correlation id %d, want %d", got, correlation)
	}
	return b[4:]
}

// asked reads a request at the broker.
func asked(t *testing.T, c net.Conn, key kmsg.Key, correlation int32) []byte {
	t.Helper()
	b := read(t, c)
	if k, got := int16(binary.BigEndian.Uint16(b)), int32(binary.BigEndian.Uint32(b[4:])); k != int16(key) || got != correlation {
		t.Fatalf("the broker is asked %s with correlation id %d, want %s with %d", kmsg.NameForKey(k), got, key.Name(), correlation)
	}
	return b
}

// end waits for the end of the relay and checks why it came; side "" means that nothing went wrong.
func (l *lab) end(side Side, is error) {
	l.t.Helper()
	err := <-l.ended
	var e *Error
	switch {
	case side == "" && err != nil:
		l.t.Errorf("ended with %v", err)
	case side != "" && (!errors.As(err, &e) || e.Side != side || !errors.Is(err, is)):
		l.t.Errorf("ended with %v, want %s: %v", err, side, is)
	}
}

// gone checks that the client's connection ends within d.
func (l *lab) gone(d time.Duration) {
	l.t.Helper()
	_ = l.client.SetReadDeadline(time.Now().Add(d))
	if n, err := io.Copy(io.Discard, l.client); err != nil {
		l.t.Errorf("the connection is open after %v (%d bytes came): %v", d, n, err)
	}
}
