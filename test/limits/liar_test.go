package limits

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// exchange is one request and the true answer to it.
type exchange struct {
	key, version int16
	correlation  int32
	answer       []byte // from the correlation id on
}

// response decodes the answer; nil if kmsg does not read it.
func (e exchange) response() kmsg.Response {
	resp := kmsg.ResponseForKey(e.key)
	resp.SetVersion(e.version)
	body := e.answer[4:]
	if resp.IsFlexible() && e.key != int16(kmsg.ApiVersions) {
		body = body[1:]
	}
	if resp.ReadFrom(body) != nil {
		return nil
	}
	return resp
}

// encoded is the answer with another content.
func (e exchange) encoded(resp kmsg.Response) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(e.correlation))
	if resp.IsFlexible() && e.key != int16(kmsg.ApiVersions) {
		out = append(out, 0)
	}
	return resp.AppendTo(out)
}

// lie answers in the broker's place; false ends the connection.
type lie func(l *liar, e exchange, out net.Conn) bool

// liar stands between one link and one cluster. It tells the truth until it is set to lie.
type liar struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	rng  *rand.Rand
	keys map[kmsg.Key]bool // what it lies about; nil = everything but ApiVersions
	tell lie               // nil = the truth
	open map[net.Conn]bool
	lies atomic.Int64
}

func newLiar(seed uint64, dial func(ctx context.Context, network, address string) (net.Conn, error)) *liar {
	return &liar{dial: dial, rng: rand.New(rand.NewPCG(seed, 3)), open: make(map[net.Conn]bool)}
}

// set begins to lie about the keys.
func (l *liar) set(tell lie, keys ...kmsg.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell, l.keys = tell, make(map[kmsg.Key]bool)
	for _, k := range keys {
		l.keys[k] = true
	}
}

// truth ends the lies, and the connections that are stuck in the middle of one.
func (l *liar) truth() {
	l.mu.Lock()
	l.tell = nil
	open := make([]net.Conn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// about returns the lie for a request, nil for the truth.
func (l *liar) about(key int16) lie {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tell == nil || len(l.keys) == 0 && key == int16(kmsg.ApiVersions) || len(l.keys) > 0 && !l.keys[kmsg.Key(key)] {
		return nil
	}
	return l.tell
}

// random is a number below n.
func (l *liar) random(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(n)
}

// Dial is a profile's Dial.
func (l *liar) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	inner, err := l.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	l.mu.Lock()
	l.open[theirs] = true
	l.mu.Unlock()
	asked := make(chan exchange, 1000)
	end := func() {
		inner.Close()
		theirs.Close()
		l.mu.Lock()
		delete(l.open, theirs)
		l.mu.Unlock()
	}
	go func() {
		defer end()
		defer close(asked)
		for {
			req, err := readFrame(theirs)
			if err != nil || len(req) < 8 {
				return
			}
			asked <- exchange{key: int16(binary.BigEndian.Uint16(req)), version: int16(binary.BigEndian.Uint16(req[2:])),
				correlation: int32(binary.BigEndian.Uint32(req[4:]))}
			if !writeFrame(inner, req) {
				return
			}
		}
	}()
	go func() {
		defer end()
		for e := range asked {
			var err error
			if e.answer, err = readFrame(inner); err != nil {
				return
			}
			tell := l.about(e.key)
			if tell == nil {
				if !writeFrame(theirs, e.answer) {
					return
				}
				continue
			}
			l.lies.Add(1)
			time.Sleep(10 * time.Millisecond) // a liar that answers at once would stop the clock of the bubble
			if !tell(l, e, theirs) {
				return
			}
		}
	}()
	return ours, nil
}

func readFrame(in io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(in, body)
	return body, err
}

func writeFrame(out io.Writer, body []byte) bool {
	return write(out, binary.BigEndian.AppendUint32(nil, uint32(len(body)))) && write(out, body)
}

func write(out io.Writer, b []byte) bool {
	_, err := out.Write(b)
	return err == nil
}
