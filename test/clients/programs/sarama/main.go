// Command sarama is sarama as a program of test/clients: see package oracle for what it is told and what it tells.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// args are the program's own, by key.
type args map[string]string

func (a args) number(key string) int64 {
	n, _ := strconv.ParseInt(a[key], 10, 64) // what is not there is 0
	return n
}

// fields are those of an event, beside its kind.
type fields map[string]any

var out struct {
	sync.Mutex
	enc *json.Encoder
}

func say(event string, f fields) {
	line := fields{"event": event}
	for k, v := range f {
		line[k] = v
	}
	out.Lock()
	defer out.Unlock()
	_ = out.enc.Encode(line) // nobody listens any more
}

func main() {
	out.enc = json.NewEncoder(os.Stdout)
	a := make(args)
	for _, arg := range os.Args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		a[k] = v
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	say("ready", fields{"version": version()})
	roles := map[string]func(context.Context, args) error{"produce": produce, "consume": consume, "admin": administer}
	role, ok := roles[a["role"]]
	if !ok {
		say("error", fields{"text": "no role " + a["role"], "fatal": true})
		os.Exit(2)
	}
	if err := role(ctx, a); err != nil {
		say("error", fields{"text": err.Error(), "fatal": true})
		os.Exit(1)
	}
	say("done", nil)
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/IBM/sarama" {
				return m.Version
			}
		}
	}
	return "unknown"
}

// config is what all roles share.
func config() *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID, c.Version = "sarama", sarama.V2_8_0_0
	c.Metadata.RefreshFrequency = 5 * time.Second
	return c
}

func (a args) brokers() []string { return strings.Split(a["bootstrap"], ",") }

func produce(ctx context.Context, a args) error {
	c := config()
	c.Producer.Return.Successes, c.Producer.Return.Errors = true, true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Flush.Frequency = 5 * time.Millisecond
	// Without it, or with more than one request at a time, sarama does not keep the order.
	c.Net.MaxOpenRequests = 1
	c.Producer.RequiredAcks = sarama.WaitForAll
	switch a["kind"] {
	case "acks1":
		c.Producer.RequiredAcks = sarama.WaitForLocal
	case "acks0":
		c.Producer.RequiredAcks = sarama.NoResponse
	case "transactional":
		c.Producer.Transaction.ID = a["txid"]
		fallthrough
	case "idempotent":
		c.Producer.Idempotent = true
	}
	p, err := sarama.NewAsyncProducer(a.brokers(), c)
	if err != nil {
		return err
	}
	first, n, batch := a.number("from"), a.number("records"), a.number("batch")
	say("sending", fields{"id": first, "to": first + n - 1})
	var told, all sync.WaitGroup // records, and who hears of them
	all.Go(func() { acked(p, a, &told) })
	all.Go(func() { failed(p, &told) })
	if a["kind"] != "transactional" {
		send(ctx, p, a, first, n, 0, &told)
	} else {
		err = transactions(ctx, p, a, first, n, batch, &told)
	}
	told.Wait()
	p.AsyncClose()
	all.Wait()
	return err
}

// record is what is known of a message that is on its way.
type record struct{ id, tx int64 }

func acked(p sarama.AsyncProducer, a args, told *sync.WaitGroup) {
	for m := range p.Successes() {
		r, offset := m.Metadata.(record), m.Offset
		if a["kind"] == "acks0" {
			offset = -1
		}
		say("acked", fields{"id": r.id, "partition": m.Partition, "offset": offset, "tx": r.tx})
		told.Done()
	}
}

func failed(p sarama.AsyncProducer, told *sync.WaitGroup) {
	for e := range p.Errors() {
		say("failed", fields{"id": e.Msg.Metadata.(record).id, "text": e.Err.Error()})
		told.Done()
	}
}

func send(ctx context.Context, p sarama.AsyncProducer, a args, first, n, tx int64, told *sync.WaitGroup) {
	var pace <-chan time.Time
	if rate := a.number("rate"); rate > 0 {
		t := time.NewTicker(time.Second / time.Duration(rate))
		defer t.Stop()
		pace = t.C
	}
	for id := first; id < first+n && ctx.Err() == nil; id++ {
		text := sarama.StringEncoder(strconv.FormatInt(id, 10))
		told.Add(1)
		p.Input() <- &sarama.ProducerMessage{Topic: a["topic"], Key: text, Value: text, Partition: int32(id % a.number("partitions")), Metadata: record{id, tx}}
		if pace != nil {
			select {
			case <-pace:
			case <-ctx.Done():
			}
		}
	}
}

func transactions(ctx context.Context, p sarama.AsyncProducer, a args, first, n, batch int64, told *sync.WaitGroup) error {
	for tx := int64(1); (tx-1)*batch < n && ctx.Err() == nil; tx++ {
		if err := p.BeginTxn(); err != nil {
			return err
		}
		begin := first + (tx-1)*batch
		send(ctx, p, a, begin, min(batch, first+n-begin), tx, told)
		told.Wait()
		end, event := p.CommitTxn, "commit"
		if tx%3 == 0 {
			end, event = p.AbortTxn, "abort"
		}
		if err := end(); err != nil {
			return err
		}
		say(event, fields{"tx": tx})
	}
	return nil
}

func reading() *sarama.Config {
	c := config()
	c.Consumer.Return.Errors = true
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.MaxWaitTime = 300 * time.Millisecond
	c.Consumer.Group.Session.Timeout, c.Consumer.Group.Heartbeat.Interval = 10*time.Second, 500*time.Millisecond
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	return c
}

func read(m *sarama.ConsumerMessage) {
	id, _ := strconv.ParseInt(string(m.Value), 10, 64)
	say("read", fields{"partition": m.Partition, "offset": m.Offset, "id": id})
}

func consume(ctx context.Context, a args) error {
	c := reading()
	switch a["mode"] {
	case "assign":
		return assigned(ctx, a, c)
	case "static":
		c.Consumer.Group.InstanceId = a["instance"]
	case "eager":
	default:
		return fmt.Errorf("no mode %q", a["mode"])
	}
	g, err := sarama.NewConsumerGroup(a.brokers(), a["group"], c)
	if err != nil {
		return err
	}
	var errs sync.WaitGroup
	errs.Go(func() {
		for err := range g.Errors() {
			troubles.Add(1)
			say("error", fields{"text": err.Error()})
		}
	})
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{a["topic"]}, member{a["topic"]}); err != nil && !errors.Is(err, context.Canceled) {
			say("error", fields{"text": err.Error()})
		}
	}
	if err := g.Close(); err != nil { // it leaves at the coordinator that it knows, and does not look for another
		say("error", fields{"text": err.Error()})
	}
	errs.Wait()
	return nil
}

// member is one of a group; its claims run each in a goroutine.
type member struct{ topic string }

// Setup says what was given to it.
func (m member) Setup(s sarama.ConsumerGroupSession) error { return m.moved("assigned", s) }

// Cleanup says what it gives up.
func (m member) Cleanup(s sarama.ConsumerGroupSession) error { return m.moved("revoked", s) }

func (m member) moved(event string, s sarama.ConsumerGroupSession) error {
	if parts := s.Claims()[m.topic]; len(parts) > 0 {
		say(event, fields{"partitions": parts})
	}
	return nil
}

// troubles counts what the group has reported: Commit itself says nothing of one that failed, which is reported a moment later. telling is longer than that.
var troubles atomic.Int64

const telling = 20 * time.Millisecond

// ConsumeClaim reads one partition until the session ends, and commits what is there at the time.
func (m member) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for r := range c.Messages() {
		read(r)
		s.MarkMessage(r, "")
		if len(c.Messages()) == 0 {
			before := troubles.Load()
			s.Commit()
			if time.Sleep(telling); troubles.Load() == before {
				say("committed", fields{"partition": r.Partition, "offset": r.Offset + 1})
			}
		}
	}
	return nil
}

func assigned(ctx context.Context, a args, conf *sarama.Config) error {
	c, err := sarama.NewConsumer(a.brokers(), conf)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for p := range int32(a.number("partitions")) {
		pc, err := c.ConsumePartition(a["topic"], p, a.number("seek"))
		if err != nil {
			return err
		}
		say("started", fields{"partition": p, "offset": a.number("seek")})
		all.Go(func() {
			for m := range pc.Messages() {
				read(m)
			}
		})
		all.Go(func() {
			for err := range pc.Errors() {
				say("error", fields{"partition": p, "text": err.Error()})
			}
		})
		all.Go(func() {
			<-ctx.Done()
			pc.AsyncClose()
		})
	}
	all.Wait()
	return c.Close()
}
