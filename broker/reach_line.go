package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// line is one standing connection of a prober. One goroutine uses it at a time.
type line struct {
	w      *wire
	broker Broker
	muted  time.Time // the broker reads nothing more before that
	corr   int32
	pool   framePool
}

// heard is what one probe of one broker brought.
type heard struct {
	rtt      time.Duration // until the first answer
	brokers  []Broker
	reads    error // what the broker answered to a fetch; nil if it was well
	writes   error // and to a produce request
	throttle time.Duration
	light    bool // neither was asked
}

// Bounds of what a broker answers to a request for nothing, and of its list of brokers.
const (
	maxProbeAnswer    = 64 << 10
	maxProbedMetadata = 512 << 10
)

// openLine connects, for at most patience.
func (c *Cluster) openLine(ctx context.Context, b Broker, patience time.Duration) (*line, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not connected within %v: %w", patience, context.DeadlineExceeded))
	defer cancel()
	w, err := c.dialWire(ctx, b)
	if err != nil {
		return nil, err
	}
	return &line{w: w, broker: b}, nil
}

// ask sends requests that ask for nothing and need no right: for metadata without topics, and unless the probe is light for a fetch
// and a produce without partitions. Any answer in Kafka's form shows that bytes go both ways. An error has closed the connection.
func (l *line) ask(ctx context.Context, light bool) (heard, error) {
	h := heard{light: light}
	metadata, fetch, produce := kmsg.NewPtrMetadataRequest(), kmsg.NewPtrFetchRequest(), kmsg.NewPtrProduceRequest()
	metadata.Topics = []kmsg.MetadataRequestTopic{} // null would be all
	fetch.ReplicaID, fetch.SessionEpoch, fetch.MaxBytes = -1, sessionOnce, 1
	produce.Acks, produce.TimeoutMillis = -1, int32(produceTimeout.Milliseconds())

	out := &writer{}
	if err := l.add(out, metadata, 12); err != nil {
		return h, l.w.fail(err)
	}
	asked := []kmsg.Request{metadata}
	if !light {
		// Version 13 and later of both speak of topics by id, and no topic is spoken of here.
		if h.reads = l.add(out, fetch, 12); h.reads == nil {
			asked = append(asked, fetch)
		}
		if h.writes = l.add(out, produce, 12); h.writes == nil {
			asked = append(asked, produce)
		}
	}
	began := time.Now()
	if err := l.w.write(ctx, net.Buffers{out.b}); err != nil {
		return h, l.w.fail(fmt.Errorf("probe %s: %w", l.w.name, err))
	}
	for i, req := range asked {
		if err := l.receive(ctx, req, l.corr-int32(len(asked)-1-i), &h); err != nil {
			return h, l.w.fail(fmt.Errorf("probe %s: %s: %w", l.w.name, kmsg.NameForKey(req.Key()), err))
		}
		if i == 0 {
			h.rtt = time.Since(began)
		}
	}
	return h, nil
}

// add appends one request in the newest version that both sides speak.
func (l *line) add(out *writer, req kmsg.Request, limit int16) error {
	version, err := l.w.versions.pick(req.Key(), limit)
	if err != nil {
		return err
	}
	req.SetVersion(version)
	l.corr++
	one := writer{flex: req.IsFlexible()}
	one.header(req.Key(), version, l.corr, l.w.clientID)
	one.b = req.AppendTo(one.b)
	one.finish(0)
	out.b = append(out.b, one.b...)
	return nil
}

// receive reads one answer into h.
func (l *line) receive(ctx context.Context, req kmsg.Request, correlation int32, h *heard) error {
	limit := maxProbeAnswer
	if req.Key() == int16(kmsg.Metadata) {
		limit = maxProbedMetadata
	}
	buf, err := l.w.readAnswer(ctx, &l.pool, correlation, limit, 0)
	if err != nil {
		return err
	}
	defer l.pool.put(buf)
	if n, ok := checkAnswer(askedFor{key: req.Key(), version: req.GetVersion()}, buf.b); !ok || n > maxAnswerElements {
		return protocolErrorf("an answer of %d bytes is none to %s version %d", len(buf.b), kmsg.NameForKey(req.Key()), req.GetVersion())
	}
	body := buf.b
	if req.IsFlexible() {
		in := reader{src: body, flex: true}
		in.tags(nil) // of the header
		body = in.src
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(body); err != nil {
		return protocolErrorf("an answer to %s does not decode: %v", kmsg.NameForKey(req.Key()), err)
	}
	throttle := int32(0)
	switch r := resp.(type) {
	case *kmsg.MetadataResponse:
		throttle = r.ThrottleMillis
		for _, b := range r.Brokers {
			h.brokers = append(h.brokers, Broker{ID: b.NodeID, Host: b.Host, Port: b.Port, Rack: orEmpty(b.Rack)})
		}
	case *kmsg.FetchResponse:
		throttle, h.reads = r.ThrottleMillis, codeError(r.ErrorCode)
	case *kmsg.ProduceResponse:
		throttle = r.ThrottleMillis
	}
	h.throttle = max(h.throttle, min(time.Duration(max(0, throttle))*time.Millisecond, maxThrottle))
	return nil
}

// renew proves again who we are where the broker would end the connection otherwise.
func (l *line) renew(ctx context.Context, p Profile, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errNotReady)
	defer cancel()
	if err := l.w.authenticate(ctx, p, l.broker.address()); err != nil {
		return l.w.fail(fmt.Errorf("authenticate again to %s: %w", l.w.name, err))
	}
	return nil
}

// hindered reports an answer that no other try on this node would better. Of all others, missing rights among them, another node would
// hear the same, or a moment passes: the cluster is reached, and that is what a flag says.
func hindered(err error) bool {
	return err != nil && (errors.Is(err, ErrUnsupported) || Classify(err) == Fatal)
}
