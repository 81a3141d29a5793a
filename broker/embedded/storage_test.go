package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// disk is a disk whose free space a test sets.
type disk struct{ free atomic.Int64 }

func (d *disk) ask(string) (int64, error) {
	if free := d.free.Load(); free >= 0 {
		return free, nil
	}
	return 0, errors.New("no answer")
}

func TestStorage_RefusesBelowTheLowWaterMark(t *testing.T) {
	for name, low := range map[string]int64{"nearly full": 1000, "no answer": -1} {
		t.Run(name, func(t *testing.T) {
			var d disk
			d.free.Store(1 << 40)
			c, _ := start(t, Config{Dir: t.TempDir(), FreeBytes: d.ask, MinFreeBytes: 1 << 20, Topics: []Topic{{"orders", 1}}})
			cl := client(t, c.Addr(), kgo.DefaultProduceTopic("orders"), kgo.RecordRetries(0), kgo.DisableIdempotentWrite())
			ctx := within(t, 30*time.Second)
			if err := cl.ProduceSync(ctx, kgo.StringRecord("before")).FirstErr(); err != nil {
				t.Fatal(err)
			}
			d.free.Store(low)
			eventually(t, func() bool { return c.Stats().DiskFreeBytes == low })

			err := cl.ProduceSync(ctx, kgo.StringRecord("refused")).FirstErr()
			if !errors.Is(err, kerr.KafkaStorageError) || !kerr.IsRetriable(err) {
				t.Errorf("produce = %v", err)
			}
			if got := readAll(t, c.Addr(), "orders", 1); string(got[0].Value) != "before" {
				t.Errorf("read %q", got[0].Value)
			}
			if c.Stats().RefusedForDisk == 0 || c.Stats().DiskFreeBytes != max(low, -1) {
				t.Errorf("stats = %+v", c.Stats())
			}
			d.free.Store(1 << 40)
			eventually(t, func() bool { return c.Stats().DiskFreeBytes > low })
			if err := cl.ProduceSync(ctx, kgo.StringRecord("after")).FirstErr(); err != nil {
				t.Errorf("produce with room again = %v", err)
			}
			if got := readAll(t, c.Addr(), "orders", 2); string(got[1].Value) != "after" {
				t.Errorf("read %q", got[1].Value)
			}
		})
	}
}

// TestStorage_ClientsWaitForRoom: a client with its usual retries rides over a
// full disk, and loses and doubles nothing.
func TestStorage_ClientsWaitForRoom(t *testing.T) {
	var d disk
	d.free.Store(1 << 40)
	c, _ := start(t, Config{Dir: t.TempDir(), FreeBytes: d.ask, MinFreeBytes: 1 << 20, Topics: []Topic{{"orders", 1}}})
	cl := client(t, c.Addr(), kgo.DefaultProduceTopic("orders"), kgo.ProducerLinger(0))
	ctx := within(t, 60*time.Second)
	go func() {
		for i := range 6 {
			d.free.Store(int64(i%2) << 40)
			<-time.After(3 * diskCheckInterval)
		}
		d.free.Store(1 << 40)
	}()
	for i := range 300 {
		if err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	adm := kadm.NewClient(cl)
	var offsets kadm.Offsets
	offsets.AddOffset("orders", 0, 300, -1)
	if err := adm.CommitAllOffsets(ctx, "g", offsets); err != nil {
		t.Errorf("commit: %v", err)
	}
	for i, r := range readAll(t, c.Addr(), "orders", 300) {
		if string(r.Value) != fmt.Sprint(i) {
			t.Fatalf("record %d is %q", i, r.Value)
		}
	}
}

// TestStorage_RefusesInEveryVersion: each request that must be stored is
// answered by the guard such that a client can read the answer, and with an
// error everywhere; the few without an answer close the connection.
func TestStorage_RefusesInEveryVersion(t *testing.T) {
	var d disk
	c, _ := start(t, Config{Dir: t.TempDir(), FreeBytes: d.ask, MinFreeBytes: 1 << 20})
	dial(t, c.Addr()).kmsg(kmsg.NewPtrApiVersionsRequest())
	conn := dial(t, c.Addr())
	answer[*kmsg.ApiVersionsResponse](conn, kmsg.NewPtrApiVersionsRequest())
	r := newRand(11)
	for key, rng := range c.guard.versions {
		if !mustStore(key) {
			continue
		}
		for version := rng.low; version <= rng.high; version++ {
			req := randomRequest(r, key, version)
			if p, ok := req.(*kmsg.ProduceRequest); ok {
				p.Acks = -1
			}
			silent := refuse(req) == nil
			before := c.Stats().RefusedForDisk
			conn.kmsg(req)
			if silent {
				if !conn.ended(5 * time.Second) {
					t.Errorf("%s v%d: connection stays open", kmsg.NameForKey(key), version)
				}
				conn = dial(t, c.Addr())
			} else {
				resp := read[kmsg.Response](conn, req)
				if text := fmt.Sprintf("%+v", resp); resp.GetVersion() != version || resp.Key() != key {
					t.Errorf("%s v%d is answered with %s", kmsg.NameForKey(key), version, text)
				}
			}
			if c.Stats().RefusedForDisk != before+1 {
				t.Errorf("%s v%d is not counted as refused", kmsg.NameForKey(key), version)
			}
		}
	}
}

// TestStorage_AcknowledgesNoLostWrite makes the disk refuse the files of one
// partition. kfake alone would acknowledge the client's second attempt, which
// it takes for a repetition of what it stored.
func TestStorage_AcknowledgesNoLostWrite(t *testing.T) {
	dir := t.TempDir()
	c, _ := start(t, Config{Dir: dir, MinFreeBytes: 1, Topics: []Topic{{"orders", 1}, {"calm", 1}}})
	ctx := within(t, 60*time.Second)
	calm := client(t, c.Addr(), kgo.DefaultProduceTopic("calm"))
	if err := calm.ProduceSync(ctx, kgo.StringRecord("calm")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	blocked := partitionDir(dir, "orders", 0)
	if err := errors.Join(os.RemoveAll(blocked), os.WriteFile(blocked, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	cl := client(t, c.Addr(), kgo.DefaultProduceTopic("orders"))
	done := make(chan error, 1)
	go func() { done <- cl.ProduceSync(ctx, kgo.StringRecord("kept")).FirstErr() }()
	for c.Stats().PersistErrors == 0 {
		select {
		case err := <-done:
			t.Fatalf("acknowledged: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if got := readAll(t, c.Addr(), "calm", 1); string(got[0].Value) != "calm" {
		t.Errorf("read %q", got[0].Value)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("produce after the cure = %v", err)
	}
	if got := readAll(t, c.Addr(), "orders", 1); string(got[0].Value) != "kept" {
		t.Errorf("read %q", got[0].Value)
	}
	if s := c.Stats(); s.Reopened == 0 {
		t.Errorf("stats = %+v", s)
	}
}

// TestStorage_NoticesEachKindOfLostWrite breaks each file that kfake writes,
// by a directory of its name.
func TestStorage_NoticesEachKindOfLostWrite(t *testing.T) {
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 2, "g", -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "orders"
	rt.Partitions = append(rt.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
	commit.Topics = append(commit.Topics, rt)
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "new", 1, 1
	create.Topics = append(create.Topics, topic)
	initID := kmsg.NewPtrInitProducerIDRequest()
	initID.Version, initID.TransactionTimeoutMillis = 2, 1000
	for file, req := range map[string]kmsg.Request{
		groupsLog:             commit,
		pidsLog:               initID,
		"topics.json.tmp":     create,
		"partitions/orders-0": produce("orders", 9, goodBatch(t, 1, batch.None)),
	} {
		t.Run(file, func(t *testing.T) {
			dir := t.TempDir()
			c, _ := start(t, Config{Dir: dir, MinFreeBytes: 1, Topics: []Topic{{"orders", 1}}})
			conn := dial(t, c.Addr())
			answer[*kmsg.ApiVersionsResponse](conn, kmsg.NewPtrApiVersionsRequest())
			name := filepath.Join(dir, file)
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
			var err error
			if file == "partitions/orders-0" {
				err = os.WriteFile(name, nil, 0o644)
			} else {
				err = os.Mkdir(name, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			conn.kmsg(req)
			if !conn.ended(5 * time.Second) {
				t.Error("the request was answered")
			}
			if s := c.Stats(); s.PersistErrors == 0 {
				t.Errorf("stats = %+v", s)
			}
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		})
	}
}
