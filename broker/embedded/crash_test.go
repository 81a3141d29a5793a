package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// childDir makes the test binary run a cluster instead of tests.
const (
	childDir  = "EMBEDDED_TEST_DIR"
	childAddr = "EMBEDDED_TEST_ADDR"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := runChild(dir, os.Getenv(childAddr)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	runtime.GOMAXPROCS(1) // see DESIGN.md, "Non-obvious", on timers in bubbles
	os.Exit(m.Run())
}

func runChild(dir, addr string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := New(Config{Name: "child", Dir: dir, Listen: addr, MinFreeBytes: 1, Topics: []Topic{{"orders", 3}, {"txns", 2}}}, log)
	if err != nil {
		return err
	}
	return c.Run(context.Background())
}

// child is a cluster in a process of its own.
type child struct {
	t    *testing.T
	dir  string
	addr string
	cmd  *exec.Cmd
}

func startChild(t *testing.T) *child {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, dir: t.TempDir(), addr: ln.Addr().String()}
	ln.Close()
	c.start()
	t.Cleanup(func() { c.kill() })
	return c
}

func (c *child) start() {
	c.t.Helper()
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), childDir+"="+c.dir, childAddr+"="+c.addr)
	c.cmd.Stderr = c.t.Output()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, func() bool {
		conn, err := net.Dial("tcp", c.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// ledger is what clients were told was stored.
type ledger struct {
	mu     sync.Mutex
	acked  map[string]bool
	commit int64 // of group g in orders 0
}

func (l *ledger) ack(v string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[v] = true
}

// load produces idempotently, transactionally and commits offsets until ctx
// ends, noting what was acknowledged.
func (l *ledger) load(ctx context.Context, t *testing.T, addr string, round int) {
	var all sync.WaitGroup
	defer all.Wait()
	plain := client(t, addr, kgo.DefaultProduceTopic("orders"), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(100))
	all.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			v := fmt.Sprintf("orders-%d-%d", round, i)
			plain.Produce(ctx, kgo.StringRecord(v), func(r *kgo.Record, err error) {
				if err == nil {
					l.ack(string(r.Value))
				}
			})
		}
	})
	// One transactional id for all rounds: its aborted transactions must
	// not take later, committed ones with them.
	txn := client(t, addr, kgo.DefaultProduceTopic("txns"), kgo.TransactionalID("t"), kgo.ProducerLinger(0))
	all.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if l.transaction(ctx, txn, fmt.Sprintf("txns-%d-%d", round, i), i%5 == 4) != nil {
				return // fenced or cut off
			}
		}
	})
	admin := client(t, addr)
	adm := kadm.NewClient(admin)
	all.Go(func() { // a record in flight ends only with its client
		<-ctx.Done()
		plain.Close()
		txn.Close()
		admin.Close()
	})
	all.Go(func() {
		for ctx.Err() == nil {
			l.mu.Lock()
			next := l.commit + 1
			l.mu.Unlock()
			var o kadm.Offsets
			o.AddOffset("orders", 0, next, -1)
			if adm.CommitAllOffsets(ctx, "g", o) == nil {
				l.mu.Lock()
				l.commit = next
				l.mu.Unlock()
			}
		}
	})
}

func (l *ledger) transaction(ctx context.Context, cl *kgo.Client, name string, abort bool) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	values := make([]string, 4)
	for i := range values {
		values[i] = name + "-" + strconv.Itoa(i)
		if abort {
			values[i] = "aborted-" + values[i]
		}
		if err := cl.ProduceSync(ctx, kgo.StringRecord(values[i])).FirstErr(); err != nil {
			return err
		}
	}
	end := kgo.TryCommit
	if abort {
		end = kgo.TryAbort
	}
	if err := cl.EndTransaction(ctx, end); err != nil {
		return err
	}
	if !abort {
		for _, v := range values {
			l.ack(v)
		}
	}
	return nil
}

// TestCluster_SurvivesKill9 kills the process under load, again and again, and
// then looks for every acknowledged record and for no record twice.
func TestCluster_SurvivesKill9(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	c := startChild(t)
	l := &ledger{acked: make(map[string]bool)}
	r := newRand(13)
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.load(ctx, t, c.addr, round) }()
		<-time.After(500*time.Millisecond + time.Duration(r.IntN(500))*time.Millisecond)
		c.kill()
		if round%2 == 1 {
			// The clients of this round live on over the restart.
			c.start()
			<-time.After(time.Second)
			c.kill()
		}
		cancel()
		<-done
		c.start()
		l.check(t, c.addr)
	}
}

func (l *ledger) check(t *testing.T, addr string) {
	t.Helper()
	times := make(map[string]int)
	for _, topic := range []string{"orders", "txns"} {
		for _, v := range readCommitted(t, addr, topic) {
			times[v]++
		}
	}
	lost, double, aborted := 0, 0, 0
	for v := range l.acked {
		if times[v] == 0 {
			lost++
		}
	}
	for v, n := range times {
		if n > 1 {
			double++
		}
		if len(v) > 7 && v[:7] == "aborted" {
			aborted++
		}
	}
	t.Logf("%d acknowledged, %d read, commit %d", len(l.acked), len(times), l.commit)
	if lost+double+aborted > 0 {
		t.Errorf("%d lost, %d double, %d aborted but read, of %d", lost, double, aborted, len(l.acked))
	}
	got, err := kadm.NewClient(client(t, addr)).FetchOffsets(within(t, 10*time.Second), "g")
	if o, ok := got.Lookup("orders", 0); err != nil || !ok || o.At < l.commit {
		t.Errorf("committed %d, read back %d (%v)", l.commit, o.At, err)
	}
}

// readCommitted reads a topic up to its last stable offsets.
func readCommitted(t *testing.T, addr, topic string) []string {
	t.Helper()
	ctx := within(t, 60*time.Second)
	cl := client(t, addr, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	stable, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err := errors.Join(err, stable.Error()); err != nil {
		t.Fatal(err)
	}
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	stable.Each(func(o kadm.ListedOffset) {
		if end, _ := ends.Lookup(topic, o.Partition); end.Offset != o.Offset {
			t.Errorf("%s-%d is stable up to %d of %d: a transaction is open", topic, o.Partition, o.Offset, end.Offset)
		}
		if o.Offset > 0 {
			left++
		}
	})
	var values []string
	for left > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("read %s: %v", topic, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
			if o, _ := stable.Lookup(topic, r.Partition); r.Offset == o.Offset-1 {
				left--
			}
		})
	}
	return values
}
