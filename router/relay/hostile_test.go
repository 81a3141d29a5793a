package relay

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/isthmus-project/isthmus/router/apis"
	"github.com/isthmus-project/isthmus/router/rewrite"
)

// between runs a relay between two pipes, in a bubble: fromClient and fromBroker are all that either side sends, and each reads whatever
// comes, until the relay ends.
func between(t *testing.T, fromClient, fromBroker []byte, change func(*Config)) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { err = play(t, fromClient, fromBroker, change) })
	return err
}

func play(t *testing.T, fromClient, fromBroker []byte, change func(*Config)) error {
	t.Helper()
	v, err := rewrite.NewView("virtual", []rewrite.Slot{{ID: 1, Node: 101, Host: "door.example", Port: 9093}})
	if err != nil {
		t.Fatal(err)
	}
	versions, err := apis.Offer(nil)
	if err != nil {
		t.Fatal(err)
	}
	var sides sync.WaitGroup
	side := func(c net.Conn, says []byte) {
		sides.Go(func() {
			defer c.Close()
			_, _ = io.Copy(io.Discard, c)
		})
		sides.Go(func() { _, _ = c.Write(says) })
	}
	client, door := net.Pipe()
	cfg := Config{Client: door, Versions: versions, View: func() *rewrite.View { return v }, ProducerID: func() (int64, error) { return 1 << 62, nil },
		Limits: Limits{Request: 1 << 20, Collected: 1 << 20, Answer: 1 << 20, CollectedAnswer: 1 << 20},
		Dial: func(context.Context, bool) (net.Conn, bool, error) {
			a, b := net.Pipe()
			side(b, fromBroker)
			return a, false, nil
		}}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	side(client, fromClient)
	err = r.Run(context.Background())
	sides.Wait()
	return err
}

// FuzzRelay: whatever either side sends, a relay ends, with an error of its own kind, and gives back all memory.
func FuzzRelay(f *testing.F) {
	heartbeat := request(1, 4, kmsg.NewPtrHeartbeatRequest())
	f.Add(heartbeat, answer(1, 4, kmsg.NewPtrHeartbeatResponse()))
	f.Add(append(request(1, 9, kmsg.NewPtrMetadataRequest()), heartbeat...), append(answer(1, 9, kmsg.NewPtrMetadataResponse()), answer(1, 4, kmsg.NewPtrHeartbeatResponse())...))
	f.Add(request(1, 12, kmsg.NewPtrFetchRequest()), append([]byte(nil), frameOf(fetchAnswer(2, 100))...))
	f.Add(request(1, 9, produce(1, 100)), answer(1, 9, kmsg.NewPtrProduceResponse()))
	f.Add(request(1, 4, kmsg.NewPtrInitProducerIDRequest()), []byte{0xff})
	f.Add(request(1, 3, kmsg.NewPtrApiVersionsRequest()), []byte{})
	const memory = 4 << 20
	f.Fuzz(func(t *testing.T, client, broker []byte) {
		all := semaphore.NewWeighted(memory)
		err := between(t, client, broker, func(c *Config) { c.Memory = all })
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("ended with %v", err)
		}
		if !all.TryAcquire(memory) {
			t.Error("memory was not given back")
		}
	})
}

// frameOf makes a frame of an answer's body, with correlation id 1.
func frameOf(body []byte) []byte {
	return append([]byte{byte((4 + len(body)) >> 24), byte((4 + len(body)) >> 16), byte((4 + len(body)) >> 8), byte(4 + len(body)), 0, 0, 0, 1}, body...)
}

// TestRelay_MemoryOfAll: what is collected counts against what all connections may hold, and a frame that only claims to be long takes none.
func TestRelay_MemoryOfAll(t *testing.T) {
	commit, dense := kmsg.NewPtrOffsetCommitRequest(), kmsg.NewPtrOffsetCommitRequest()
	commit.Group = string(make([]byte, 30<<10))
	for range 9 {
		commit.Topics = append(commit.Topics, kmsg.OffsetCommitRequestTopic{Topic: string(make([]byte, 30<<10))})
	}
	long := request(1, 7, commit)
	for range 3000 {
		dense.Topics = append(dense.Topics, kmsg.OffsetCommitRequestTopic{})
	}
	for _, tc := range []struct {
		name   string
		sent   []byte
		memory int64
		short  bool
	}{
		{"less than it needs", long, 100 << 10, true},
		{"enough", long, 1 << 20, false},
		{"a third of it comes", long[:100<<10], 100 << 10, false},
		{"many elements in few bytes", request(1, 7, dense), 1 << 20, false},
		{"too many elements", request(1, 7, dense), 300 << 10, true},
		{"half of it comes", long[:150<<10], 1 << 20, false},
	} {
		all := semaphore.NewWeighted(tc.memory)
		err := between(t, tc.sent, nil, func(c *Config) { c.Memory = all })
		if errors.Is(err, ErrMemory) != tc.short {
			t.Errorf("%s: %v", tc.name, err)
		}
		if !all.TryAcquire(tc.memory) {
			t.Errorf("%s: memory was not given back", tc.name)
		}
	}
}

// TestRelay_Churn is a day of clients that come, ask, and go at any moment, or stay and are silent: nothing of them is left.
func TestRelay_Churn(t *testing.T) {
	asks := slices.Concat(request(1, 3, kmsg.NewPtrApiVersionsRequest()), request(2, 9, kmsg.NewPtrMetadataRequest()), request(3, 9, produce(0, 70<<10)),
		request(4, 9, produce(1, 70<<10)), request(5, 4, kmsg.NewPtrInitProducerIDRequest()), request(6, 12, kmsg.NewPtrFetchRequest()))
	fetched := frameOf(fetchAnswer(3, 30<<10))
	fetched[7] = 6
	says := slices.Concat(answer(2, 9, kmsg.NewPtrMetadataResponse()), answer(4, 9, kmsg.NewPtrProduceResponse()), fetched)
	const memory = 64 << 20
	r := rand.New(rand.NewPCG(1, 1))
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		all := semaphore.NewWeighted(memory)
		var clients sync.WaitGroup
		for range 24 {
			for range 40 {
				asked, said := asks, says
				if r.IntN(2) == 0 {
					asked = asks[:r.IntN(len(asks))]
				}
				if r.IntN(2) == 0 {
					said = says[:r.IntN(len(says))]
				}
				clients.Go(func() {
					var e *Error
					if err := play(t, asked, said, func(c *Config) { c.Memory = all }); !errors.As(err, &e) { // each stays until it is sent away
						t.Errorf("ended with %v", err)
					}
				})
			}
			time.Sleep(time.Hour)
		}
		clients.Wait()
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, %d before", n, before)
		}
		if !all.TryAcquire(memory) {
			t.Error("memory was not given back")
		}
	})
}

// TestRelay_IdleIsSmall: a connection that has nothing to do, to a broker behind it, takes at most 40 kB, stacks included.
func TestRelay_IdleIsSmall(t *testing.T) {
	const n = 500
	v, err := rewrite.NewView("virtual", []rewrite.Slot{{ID: 1, Node: 101, Host: "door.example", Port: 9093}})
	if err != nil {
		t.Fatal(err)
	}
	versions, err := apis.Offer(nil)
	if err != nil {
		t.Fatal(err)
	}
	used := func() uint64 {
		runtime.GC()
		runtime.GC() // pools give back in two rounds
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	clients := make([]net.Conn, n)
	brokers := make(chan net.Conn, 1)
	var relays sync.WaitGroup
	before := used()
	for i := range clients {
		ours, theirs := net.Pipe()
		clients[i] = ours
		r, err := New(Config{Client: theirs, Versions: versions, View: func() *rewrite.View { return v }, Dial: func(context.Context, bool) (net.Conn, bool, error) {
			a, b := net.Pipe()
			brokers <- b
			return a, false, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		relays.Go(func() { _ = r.Run(context.Background()) })
		post(ours, request(1, 9, kmsg.NewPtrMetadataRequest()))
		broker := <-brokers
		asked(t, broker, kmsg.Metadata, 1)
		send(t, broker, answer(1, 9, kmsg.NewPtrMetadataResponse()))
		expect(t, ours, 1)
	}
	each := (used() - before) / n
	t.Logf("%d bytes a connection", each)
	if each > 40<<10 {
		t.Errorf("an idle connection takes %d bytes", each)
	}
	for _, c := range clients {
		_ = c.Close()
	}
	relays.Wait()
}
