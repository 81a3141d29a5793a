package lock

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// path is the network between one owner and one cluster. It reads the frames that pass, and a rule may stop each of them.
type path struct {
	mu    sync.Mutex
	judge func(call) fate
	conns map[*wire]bool
	down  bool
}

// wire is one connection: near is the owner's end.
type wire struct {
	near, far net.Conn
	mu        sync.Mutex
	asked     map[int32]request // by correlation id
}

type request struct {
	key, version int16
	frame        []byte
}

// call is one request on its way, or the answer to it. Frames are without their length.
type call struct {
	key     int16 // kmsg.Key of the request
	version int16
	answer  bool
	request []byte
	frame   []byte // the answer, or the request itself
}

// fate is what becomes of a frame.
type fate int

const (
	pass fate = iota
	drop      // it vanishes; the connection stays
	cut       // the connection breaks in both directions; the frame is not delivered
)

func newPath() *path { return &path{conns: make(map[*wire]bool)} }

// rule judges every frame from now on; nil lets all pass. It may block: that holds one direction of one connection, the
// frames behind stay in order. It is called by many goroutines.
func (p *path) rule(judge func(call) fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge = judge
}

func (p *path) decide(c call) fate {
	p.mu.Lock()
	judge := p.judge
	p.mu.Unlock()
	if judge == nil {
		return pass
	}
	return judge(c)
}

// caught is a frame that waits for its fate: exactly one send to it.
type caught struct {
	call
	fate chan<- fate
}

// trap holds every frame that match picks until the test decides. Other frames of the same direction of that connection wait
// behind it.
func (p *path) trap(match func(call) bool) <-chan caught {
	out := make(chan caught, 64)
	p.rule(func(c call) fate {
		if !match(c) {
			return pass
		}
		decided := make(chan fate, 1)
		out <- caught{c, decided}
		return <-decided
	})
	return out
}

// Dial connects over the path; it is a broker.Profile's Dial.
func (p *path) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, errors.New("the path is cut")
	}
	far, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	near, ours := net.Pipe()
	w := &wire{near: ours, far: far, asked: make(map[int32]request)}
	p.mu.Lock()
	p.conns[w] = true
	p.mu.Unlock()
	go p.carry(w, w.near, w.far, w.ask)
	go p.carry(w, w.far, w.near, w.answer)
	return near, nil
}

// carry moves frames one way until the connection breaks.
func (p *path) carry(w *wire, from, to net.Conn, read func([]byte) call) {
	defer p.close(w)
	for {
		frame, err := readFrame(from)
		if err != nil {
			return
		}
		switch p.decide(read(frame[4:])) {
		case cut:
			return
		case drop:
			continue
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

func (p *path) close(w *wire) {
	p.mu.Lock()
	delete(p.conns, w)
	p.mu.Unlock()
	w.near.Close()
	w.far.Close()
}

// cut breaks every connection; none is made until heal.
func (p *path) cut() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.reset()
}

// reset breaks every connection; new ones work.
func (p *path) reset() {
	p.mu.Lock()
	var all []*wire
	for w := range p.conns {
		all = append(all, w)
	}
	p.mu.Unlock()
	for _, w := range all {
		p.close(w)
	}
}

// readFrame returns one frame with its length before it.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 256<<20 {
		return nil, errors.New("not a Kafka frame")
	}
	frame := append(make([]byte, 0, 4+n), size[:]...)
	frame = frame[:4+n]
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// ask notes a request, so that its answer can be told.
func (w *wire) ask(frame []byte) call {
	if len(frame) < 8 {
		return call{key: -1, frame: frame}
	}
	r := request{int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:])), frame}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[int32(binary.BigEndian.Uint32(frame[4:]))] = r
	return call{key: r.key, version: r.version, request: frame, frame: frame}
}

func (w *wire) answer(frame []byte) call {
	if len(frame) < 4 {
		return call{key: -1, answer: true, frame: frame}
	}
	correlation := int32(binary.BigEndian.Uint32(frame))
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.asked[correlation]
	delete(w.asked, correlation)
	if !ok {
		r.key = -1
	}
	return call{key: r.key, version: r.version, answer: true, request: r.frame, frame: frame}
}

// batches returns the headers of the batches that the request carries under a producer id: what a link sends to one
// partition is told by the stage's id from everything else that is on the wire.
func (c call) batches(id int64) (out []batch.Header) {
	const idAt = 43 // in a v2 batch header
	want := binary.BigEndian.AppendUint64(nil, uint64(id))
	for i := 0; i+8 <= len(c.request); i++ {
		if c.request[i] != want[0] || i < idAt || string(c.request[i:i+8]) != string(want) {
			continue
		}
		if h, err := batch.ParseHeader(c.request[i-idAt:]); err == nil && h.ProducerID == id {
			out = append(out, h)
			i += h.Size() - idAt - 1
		}
	}
	return out
}
