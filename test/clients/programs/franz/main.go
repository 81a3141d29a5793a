// Command franz is franz-go as a program of test/clients: see package oracle for what it is told and what it tells.
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

	"github.com/twmb/franz-go/pkg/kgo"
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

// open makes a client and says so.
func open(a args, opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append(opts, kgo.SeedBrokers(strings.Split(a["bootstrap"], ",")...), kgo.ClientID("franz"), kgo.MetadataMinAge(200*time.Millisecond))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/twmb/franz-go" {
				version = m.Version
			}
		}
	}
	say("ready", fields{"version": version})
	return cl, nil
}

func produce(ctx context.Context, a args) error {
	opts := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5 * time.Millisecond)}
	switch a["kind"] {
	case "idempotent":
	case "acks1":
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()), kgo.MaxProduceRequestsInflightPerBroker(1))
	case "acks0":
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck()))
	case "transactional":
		opts = append(opts, kgo.TransactionalID(a["txid"]))
	default:
		return fmt.Errorf("no kind %q", a["kind"])
	}
	cl, err := open(a, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	first, n := a.number("from"), a.number("records")
	say("sending", fields{"id": first, "to": first + n - 1})
	if a["kind"] == "transactional" {
		return transactions(ctx, cl, a, first, n)
	}
	send(ctx, cl, a, first, n, 0)
	return cl.Flush(context.Background())
}

// send hands records to the client, at the rate that was asked for, until all are or ctx ends. What it returns says behind a flush why one of them was given up.
func send(ctx context.Context, cl *kgo.Client, a args, first, n, tx int64) (refused func() error) {
	var given atomic.Pointer[error]
	refused = func() error {
		if err := given.Load(); err != nil {
			return *err
		}
		return nil
	}
	var pace <-chan time.Time
	if rate := a.number("rate"); rate > 0 {
		t := time.NewTicker(time.Second / time.Duration(rate))
		defer t.Stop()
		pace = t.C
	}
	for id := first; id < first+n && ctx.Err() == nil; id++ {
		text := strconv.FormatInt(id, 10)
		r := &kgo.Record{Topic: a["topic"], Partition: int32(id % a.number("partitions")), Key: []byte(text), Value: []byte(text)}
		cl.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			switch {
			case err != nil:
				given.Store(&err)
				say("failed", fields{"id": id, "text": err.Error()})
			case a["kind"] == "acks0":
				say("acked", fields{"id": id, "partition": r.Partition, "offset": -1})
			default:
				say("acked", fields{"id": id, "partition": r.Partition, "offset": r.Offset, "tx": tx})
			}
		})
		if pace != nil {
			select {
			case <-pace:
			case <-ctx.Done():
			}
		}
	}
	return refused
}

func transactions(ctx context.Context, cl *kgo.Client, a args, first, n int64) error {
	batch := a.number("batch")
	for tx := int64(1); (tx-1)*batch < n && ctx.Err() == nil; tx++ {
		begin := first + (tx-1)*batch
		end, event := kgo.TryCommit, "commit"
		if tx%3 == 0 {
			end, event = kgo.TryAbort, "abort"
		}
		if err := transaction(ctx, cl, a, begin, min(batch, first+n-begin), tx, end); err != nil {
			say("error", fields{"text": "transaction: " + err.Error()})
			if err := cl.EndTransaction(context.Background(), kgo.TryAbort); err != nil {
				return err
			}
			event = "abort"
		}
		say(event, fields{"tx": tx})
	}
	return nil
}

// transaction is one; what is wrong with it is no more than that if it can be aborted.
func transaction(ctx context.Context, cl *kgo.Client, a args, begin, n, tx int64, end kgo.TransactionEndTry) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	refused := send(ctx, cl, a, begin, n, tx)
	if err := errors.Join(cl.Flush(context.Background()), refused()); err != nil {
		return err
	}
	return cl.EndTransaction(context.Background(), end)
}

func consume(ctx context.Context, a args) error {
	topic := a["topic"]
	moved := func(event string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			if len(parts[topic]) > 0 {
				say(event, fields{"partitions": parts[topic]})
			}
		}
	}
	opts := []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(500 * time.Millisecond)}
	if a["mode"] == "assign" {
		at := make(map[int32]kgo.Offset)
		for p := range int32(a.number("partitions")) {
			at[p] = kgo.NewOffset().At(a.number("seek"))
		}
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}))
	} else {
		opts = append(opts, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(a["group"]), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
			kgo.OnPartitionsAssigned(moved("assigned")), kgo.OnPartitionsRevoked(moved("revoked")), kgo.OnPartitionsLost(moved("lost")))
		switch a["mode"] {
		case "eager":
			opts = append(opts, kgo.Balancers(kgo.RangeBalancer()))
		case "cooperative":
			opts = append(opts, kgo.Balancers(kgo.CooperativeStickyBalancer()))
		case "static":
			opts = append(opts, kgo.Balancers(kgo.RangeBalancer()), kgo.InstanceID(a["instance"]))
		case "kip848":
			opts = append(opts, kgo.ServerSideBalancer())
		default:
			return fmt.Errorf("no mode %q", a["mode"])
		}
	}
	cl, err := open(a, opts...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	if a["mode"] == "assign" {
		for p := range a.number("partitions") {
			say("started", fields{"partition": p, "offset": a.number("seek")})
		}
	}
	for ctx.Err() == nil {
		poll(ctx, cl, a["mode"] != "assign")
	}
	return nil
}

// poll reads once and commits what it read.
func poll(ctx context.Context, cl *kgo.Client, commit bool) {
	got := cl.PollFetches(ctx)
	if commit {
		defer cl.AllowRebalance()
	}
	got.EachError(func(_ string, p int32, err error) {
		if !errors.Is(err, context.Canceled) {
			say("error", fields{"partition": p, "text": err.Error()})
		}
	})
	next := make(map[int32]int64)
	got.EachRecord(func(r *kgo.Record) {
		id, _ := strconv.ParseInt(string(r.Value), 10, 64)
		say("read", fields{"partition": r.Partition, "offset": r.Offset, "id": id})
		next[r.Partition] = r.Offset + 1
	})
	if !commit || len(next) == 0 {
		return
	}
	if err := cl.CommitRecords(context.Background(), got.Records()...); err != nil {
		say("error", fields{"text": "commit: " + err.Error()})
		return
	}
	for p, offset := range next {
		say("committed", fields{"partition": p, "offset": offset})
	}
}
