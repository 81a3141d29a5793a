package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Who is asked. A broker may take connections and say nothing (its process is stopped, its disk hangs, the way back is cut). The client
// asks its brokers in turn and waits for each: one that is silent would keep everybody waiting who asks the cluster for something,
// those too who need other brokers only. So what any broker can answer is asked of another too when the first is slow, and what
// only a leader can answer is asked of the leader that was last heard of, without asking anybody who that is.

const (
	// slowAnswer is after which time another broker is asked too.
	slowAnswer = time.Second
	// askedAtOnce is how many are asked at a time.
	askedAtOnce = 4
	// leaderPatience is how long a leader may take to answer something small, with connecting to it.
	leaderPatience = 10 * time.Second
	// leaderTries and leaderWait are for a leader that has just moved: so many tries, the wait before them doubling.
	leaderTries = 4
	leaderWait  = 250 * time.Millisecond
)

// errSilent is why a leader is not waited for any longer.
var errSilent = fmt.Errorf("no answer within %v: %w", leaderPatience, context.DeadlineExceeded)

// pace is how long a cluster took for its last answer: one that is far, or has much to say, is not asked several times at once.
type pace struct{ last atomic.Int64 }

func (p *pace) slow() time.Duration {
	return min(max(slowAnswer, 4*time.Duration(p.last.Load())), leaderPatience)
}

// anyBroker calls ask, which asks the client's next broker, and calls it again beside that while there is no answer; the first answer
// counts. The error is that of the last which failed. Each call needs a request of its own: sending one changes it.
func anyBroker[T any](ctx context.Context, p *pace, ask func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
		took  time.Duration
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, askedAtOnce)
	next := time.NewTicker(p.slow())
	defer next.Stop()
	for asked, failed := 0, 0; ; {
		if asked < askedAtOnce {
			asked++
			go func() {
				began := time.Now()
				v, err := ask(ctx)
				answers <- answer{v, err, time.Since(began)}
			}()
		}
		for waits := true; waits; {
			select {
			case a := <-answers:
				if a.err == nil {
					p.last.Store(int64(a.took))
					return a.value, nil
				}
				if failed++; failed == asked || ctx.Err() != nil || Classify(a.err) == Fatal {
					return a.value, a.err
				}
			case <-next.C:
				waits = false
			}
		}
	}
}

// askAny asks what any broker can answer.
func askAny[Q, A any](ctx context.Context, c *Cluster, req Q, ask func(*Q, context.Context, kmsg.Requestor) (*A, error)) (*A, error) {
	return anyBroker(ctx, &c.pace, func(ctx context.Context) (*A, error) {
		own := req
		return ask(&own, ctx, c.client)
	})
}

// atLeader has the leader of a partition asked. It is looked up where none is known, or where the one that is known is not the leader any
// more or does not answer. ask returns what went wrong, also what the broker said of the partition; each call needs a request of its own.
func (c *Cluster) atLeader(ctx context.Context, topic string, partition int32, ask func(context.Context, *kgo.Broker) error) error {
	var last error
	broken, silent := int32(-1), int32(-1)
	for try := 0; ; try++ {
		id, err := c.leaderOf(ctx, topic, partition)
		if err != nil {
			return err
		}
		if id == silent {
			return last
		}
		call, cancel := context.WithTimeoutCause(ctx, leaderPatience, errSilent)
		if err = ask(call, c.client.Broker(int(id))); err == nil {
			cancel()
			return nil
		}
		if errors.Is(err, context.DeadlineExceeded) && call.Err() != nil {
			err = context.Cause(call)
		}
		cancel()
		c.forgetLeader(topic)
		var said *kerr.Error
		errors.As(err, &said)
		switch {
		case try == leaderTries-1 || ctx.Err() != nil:
			return err
		case said == nil && Classify(err) == Fatal, said != nil && !said.Retriable && !staleLeader(err):
			return err
		case said != nil:
			if pause(ctx, leaderWait<<try) != nil {
				return err
			}
		case errors.Is(err, errSilent), id == broken: // another may lead by now
			silent, last = id, err
		default: // the connection may be one of before a restart
			broken = id
		}
	}
}

// leaderOf is the leader of a partition, as far as it is known.
func (c *Cluster) leaderOf(ctx context.Context, topic string, partition int32) (int32, error) {
	b, _, err := c.lookUp(ctx, topic, partition)
	return b.ID, err
}

// askOf sends a request to one broker.
func askOf[T kmsg.Response](ctx context.Context, b *kgo.Broker, req kmsg.Request) (answer T, err error) {
	resp, err := b.Request(ctx, req)
	if err != nil {
		return answer, err
	}
	answer, ok := resp.(T)
	if !ok {
		return answer, protocolErrorf("a %T for a %T", resp, req)
	}
	return answer, nil
}

// knows asks a broker whether it knows a request.
func knows(ctx context.Context, b *kgo.Broker, key int16) (bool, error) {
	newest, err := newestOf(ctx, b, key)
	return newest >= 0, err
}

// newestOf asks a broker for the newest version of a request that it knows; -1 is none.
func newestOf(ctx context.Context, b *kgo.Broker, key int16) (int16, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "isthmus", "1"
	resp, err := askOf[*kmsg.ApiVersionsResponse](ctx, b, req)
	if err != nil {
		return -1, err
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == key {
			return k.MaxVersion, nil
		}
	}
	return -1, nil
}

// atMost is a request that is not sent in a version above newest.
type atMost struct {
	kmsg.Request
	newest int16
}

// MaxVersion implements kmsg.Request.
func (r atMost) MaxVersion() int16 { return r.newest }
