package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ProduceBatch is one record batch on its way. Bytes is a whole v2 batch, ready for the target (base offset 0, producer id,
// epoch, sequence and CRC set); it is not copied and must stay as it is until the answer was received or, after an error,
// the connection was closed and Send has returned.
type ProduceBatch struct {
	Topic     string
	TopicID   TopicID // zero = by name; then the whole request speaks by name
	Partition int32
	Bytes     []byte
	Token     any // the caller's own, returned with the result
}

// ProduceResult is the answer for one batch.
type ProduceResult struct {
	Batch         ProduceBatch
	Err           error // a *PartitionError, or nil
	BaseOffset    int64 // -1 if the broker did not say
	LogAppendTime int64 // ms; -1 when the records keep their own times
	LogStart      int64 // -1 if the broker did not say
	Leader        int32 // the leader the broker knows of, when it is not itself; -1 unknown
	LeaderEpoch   int32 // -1 unknown
}

// produceTimeout is how long a broker may wait for its replicas; less than ioTimeout, so that it answers before we give up.
const produceTimeout = 20 * time.Second

// ProduceConn writes to one broker, acks = all. One goroutine calls Send and one, the same or another, calls Recv. Brokers
// may read no further request before the answers to earlier ones are taken: who sends many ahead needs two goroutines.
type ProduceConn struct {
	c        *Cluster
	w        *wire
	broker   Broker
	throttle throttle

	// of the sender
	out    writer
	cuts   []int
	order  []int
	pieces net.Buffers
	corr   int32

	mu       sync.Mutex // of what follows; never held across I/O
	inFlight []*produceRequest
	free     []*produceRequest
	signal   chan struct{} // holds one element when inFlight may have grown

	results []ProduceResult // of the receiver
}

// produceRequest is one request whose answer is due.
type produceRequest struct {
	batches []ProduceBatch
	version int16
	corr    int32
}

// ProduceConn connects to b. The context bounds the connecting only.
func (c *Cluster) ProduceConn(ctx context.Context, b Broker) (*ProduceConn, error) {
	w, err := c.dialWire(ctx, b)
	if err != nil {
		return nil, err
	}
	if _, err := w.versions.pick(keyProduce, ours[keyProduce].max); err != nil {
		return nil, w.fail(fmt.Errorf("open a produce connection: %w", err))
	}
	return &ProduceConn{c: c, w: w, broker: b, signal: make(chan struct{}, 1)}, nil
}

// Broker is the broker the connection writes to.
func (p *ProduceConn) Broker() Broker { return p.broker }

// Close ends the connection and wakes Send and Recv. What was in flight may or may not have been written.
func (p *ProduceConn) Close() error { return p.w.close() }

// ReopenBy is when the owner should have no more requests in flight and open another connection, because the broker ends
// the SASL session then; zero = never.
func (p *ProduceConn) ReopenBy() time.Time { return p.w.session.until }

// InFlight is the number of requests whose answers have not been received.
func (p *ProduceConn) InFlight() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.inFlight)
}

// Unanswered returns the batches whose answers were not received, oldest first. After an error they may or may not have
// been written. It is for the time after an error or Close.
func (p *ProduceConn) Unanswered() []ProduceBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []ProduceBatch
	for _, r := range p.inFlight {
		all = append(all, r.batches...)
	}
	return all
}

// Send writes one request with one batch for each of some partitions, at most one for each, and does not wait for the answer.
// The slice is the caller's again at once, the bytes of the batches are not. After an error the connection is closed, and
// whether the request was written is unknown.
func (p *ProduceConn) Send(ctx context.Context, batches []ProduceBatch) error {
	if len(batches) == 0 {
		return errors.New("produce: no batches")
	}
	if err := p.w.err(); err != nil {
		return err
	}
	if err := p.throttle.wait(ctx); err != nil {
		return err
	}
	version, err := p.encode(batches)
	if err != nil {
		return fmt.Errorf("produce to %s: %w", p.w.name, err)
	}
	p.push(batches, version)
	err = p.w.write(ctx, p.pieces)
	clear(p.pieces) // holds no batch alive
	if err != nil {
		return p.w.fail(fmt.Errorf("produce to %s: %w", p.w.name, err))
	}
	return nil
}

// push notes the request before it is written, for its answer may come before the write returns.
func (p *ProduceConn) push(batches []ProduceBatch, version int16) {
	p.mu.Lock()
	var r *produceRequest
	if n := len(p.free); n > 0 {
		r, p.free = p.free[n-1], p.free[:n-1]
	} else {
		r = &produceRequest{}
	}
	r.batches = append(r.batches[:0], batches...)
	r.version, r.corr = version, p.corr
	p.inFlight = append(p.inFlight, r)
	p.mu.Unlock()
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

// oldest waits until a request is in flight.
func (p *ProduceConn) oldest(ctx context.Context) (*produceRequest, error) {
	for {
		if err := p.w.err(); err != nil {
			return nil, err
		}
		p.mu.Lock()
		if len(p.inFlight) > 0 {
			r := p.inFlight[0]
			p.mu.Unlock()
			return r, nil
		}
		p.mu.Unlock()
		select {
		case <-p.signal:
		case <-p.w.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// pop drops the oldest request. The order in p.inFlight is kept by moving: it is short.
func (p *ProduceConn) pop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.inFlight[0]
	clear(r.batches)
	copy(p.inFlight, p.inFlight[1:])
	p.inFlight[len(p.inFlight)-1] = nil
	p.inFlight = p.inFlight[:len(p.inFlight)-1]
	p.free = append(p.free, r)
}

// Recv waits for the answer to the oldest request in flight, or for a request if there is none, and returns one result for each
// of its batches in their order, valid until the next Recv. An error returned here has closed the connection, unless the context
// ended while nothing was in flight; errors of partitions are in the results.
func (p *ProduceConn) Recv(ctx context.Context) ([]ProduceResult, error) {
	r, err := p.oldest(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.recv(ctx, r); err != nil {
		return nil, p.w.fail(fmt.Errorf("produce to %s: %w", p.w.name, err))
	}
	p.pop()
	return p.results, nil
}

func (p *ProduceConn) recv(ctx context.Context, r *produceRequest) error {
	buf, err := p.w.readAnswer(ctx, &p.c.pool, r.corr, maxSmallAnswer, 0)
	if err != nil {
		return err
	}
	defer p.c.pool.put(buf)
	clear(p.results)
	p.results = p.results[:0]
	for _, b := range r.batches {
		p.results = append(p.results, ProduceResult{Batch: b, Err: errNoAnswer})
	}
	millis, err := decodeProduce(buf.b, r.version, p.results)
	if err != nil {
		return err
	}
	p.throttle.ask(millis)
	for i := range p.results {
		r := &p.results[i]
		if r.Err == errNoAnswer {
			r.Err = &PartitionError{Topic: r.Batch.Topic, Partition: r.Batch.Partition, Err: errNoAnswer}
		}
		atCluster(r.Err, p.c.profile.Name)
	}
	return nil
}
