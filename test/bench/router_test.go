package bench

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

const (
	// routerHead is of the section that TestRouter writes.
	routerHead = "## The router\n"
	// routed are records of a kilobyte in each run of a way.
	routed = 500_000
	// idlers are connections that each asked for metadata once.
	idlers = 5000
	// quickRuns are rounds of small requests to a quick broker.
	quickRuns = 5
)

// way is how a client comes to the cluster.
type way struct {
	name    string
	address string
	proc    *process // nil directly
	runs    []passage
	delays  [][]time.Duration
	idle    int64 // bytes for each idle connection
}

// passage is what one run of a way gave: bytes a second each way, and bytes for each second of the CPU of what is between.
type passage struct{ produce, consume, produceCPU, consumeCPU float64 }

// TestRouter measures the router beside kafka-proxy and no proxy at all, in turns, one broker of real Kafka behind them; client, proxy and broker share the
// machine. ISTHMUS_KAFKA_PROXY is the peer's binary; without it its rows are left out.
func TestRouter(t *testing.T) {
	if os.Getenv("ISTHMUS_BENCH") == "" {
		t.Skip("set ISTHMUS_BENCH=1, or run make bench-router")
	}
	runtime.LockOSThread() // processes are killed with the thread that started them
	files(t)
	c := kafka.Start(t, kafka.Options{Name: "home", HeapMB: 700, Properties: map[string]string{"log.segment.delete.delay.ms": "1000"}})
	direct := c.Bootstrap()[0]
	ways := []*way{{name: "directly", address: direct}, routerWay(t, direct)}
	if bin := os.Getenv("ISTHMUS_KAFKA_PROXY"); bin != "" {
		ways = append(ways, proxyWay(t, bin, direct))
	} else {
		t.Log("without ISTHMUS_KAFKA_PROXY the peer is left out")
	}
	admin := newSite(t, "home", []string{direct})
	if _, err := admin.admin.CreateTopic(t.Context(), 1, 1, nil, "small"); err != nil {
		t.Fatal(err)
	}
	for round := range runs {
		for _, w := range ways {
			w.runs = append(w.runs, w.pass(t, admin.admin, fmt.Sprintf("%s-%d", strings.ReplaceAll(w.name, " ", "-"), round)))
			w.delays = append(w.delays, hurry(t, w.address))
		}
	}
	for _, w := range ways[1:] {
		before := w.proc.resident()
		close := idle(t, w.address)
		w.idle = (w.proc.resident() - before) / idlers
		close()
	}
	text := routerTable(ways) + addedTable(t, quickWays(t))
	t.Log("\n" + text)
	section(t, routerHead, text)
}

// quickWays are the ways to a quick broker.
func quickWays(t *testing.T) []*way {
	t.Helper()
	quick := startQuick(t)
	ways := []*way{{name: "directly", address: quick}, routerWay(t, quick)}
	if bin := os.Getenv("ISTHMUS_KAFKA_PROXY"); bin != "" {
		ways = append(ways, proxyWay(t, bin, quick))
	}
	return ways
}

// files allows as many open files as the system does: idle connections have many.
func files(t *testing.T) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
}

// routerWay starts a node with a router.
func routerWay(t *testing.T, direct string) *way {
	t.Helper()
	dir, port := t.TempDir(), node.FreeRow(t, 4)
	bin, file := filepath.Join(dir, "isthmus"), filepath.Join(dir, "fabric.toml")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, "github.com/isthmus-project/isthmus/cmd/isthmus").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	text := fmt.Sprintf("[fabric]\nname = \"bench\"\n[[cluster]]\nname = \"home\"\nbootstrap = [%q]\n[[node]]\nname = \"n\"\nhttp = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\n"+
		"[[router]]\nname = \"shop\"\nnode = \"n\"\nlisten = \"127.0.0.1:%d\"\nadvertise = \"127.0.0.1\"\nslots = \"%d-%d\"\nhome = \"home\"\n"+
		"[router.limits]\nconnections = 20000\nconnections_per_address = 20000\n", direct, port, port+1, port+3)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "run", "-c", file)
	cmd.Stderr = os.Stderr
	w := &way{name: "isthmus", address: fmt.Sprintf("127.0.0.1:%d", port), proc: start(t, cmd)}
	w.wait(t)
	return w
}

// proxyWay starts kafka-proxy.
func proxyWay(t *testing.T, bin, direct string) *way {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", node.FreePort(t))
	cmd := exec.Command(bin, "server", "--bootstrap-server-mapping", direct+","+address, "--http-disable", "--log-level", "error")
	cmd.Stderr = os.Stderr
	w := &way{name: "kafka-proxy", address: address, proc: start(t, cmd)}
	w.wait(t)
	return w
}

// wait waits until clients are served.
func (w *way) wait(t *testing.T) {
	t.Helper()
	cl := w.client(t)
	defer cl.Close()
	node.Until(t, time.Minute, w.name+" serves", cl.Ping)
}

func (w *way) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.address)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// used is what the proxy used of the CPU so far.
func (w *way) used() time.Duration {
	if w.proc == nil {
		return 0
	}
	return w.proc.cpu()
}

// pass writes a topic and reads it.
func (w *way) pass(t *testing.T, admin *kadm.Client, topic string) (p passage) {
	t.Helper()
	if _, err := admin.CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, valueBytes)
	out := w.client(t, kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(50_000))
	began, cpu := time.Now(), w.used()
	for range routed {
		out.Produce(t.Context(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := out.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.produce, p.produceCPU = rates(began, w.used()-cpu)
	out.Close()
	in := w.client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(4<<20))
	defer in.Close()
	began, cpu = time.Now(), w.used()
	for n := 0; n < routed; {
		fs := in.PollFetches(t.Context())
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		n += fs.NumRecords()
	}
	p.consume, p.consumeCPU = rates(began, w.used()-cpu)
	if _, err := admin.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: written %.0f MB/s, read %.0f MB/s; %.2f and %.2f GB for a CPU-second", w.name, p.produce/1e6, p.consume/1e6, p.produceCPU/1e9, p.consumeCPU/1e9)
	return p
}

// rates are bytes for each second, and for each second of the CPU.
func rates(began time.Time, cpu time.Duration) (wall, perCPU float64) {
	const all = routed * valueBytes
	if cpu > 0 {
		perCPU = all / cpu.Seconds()
	}
	return all / time.Since(began).Seconds(), perCPU
}

// resident is the memory of a process now, in bytes.
func (p *process) resident() int64 {
	p.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(raw), &size, &pages); err != nil {
		p.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// idle opens connections that ask for metadata once, and waits until memory has come to rest.
func idle(t *testing.T, address string) (done func()) {
	t.Helper()
	var mu sync.Mutex
	var open []net.Conn
	var all sync.WaitGroup
	places := make(chan struct{}, 50)
	ask := metadataRequest()
	for range idlers {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err == nil {
				err = exchange(c, ask)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			open = append(open, c)
		})
	}
	all.Wait()
	time.Sleep(5 * time.Second)
	return func() {
		for _, c := range open {
			_ = c.Close()
		}
	}
}

// middle is the median of what runs gave.
func middle[T any, N cmp.Ordered](all []T, of func(T) N) N {
	var out []N
	for _, a := range all {
		out = append(out, of(a))
	}
	slices.Sort(out)
	return out[len(out)/2]
}

func routerTable(ways []*way) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nOne broker of real Kafka, a client, and what is between them share 2 cores; medians of %d runs in turns. Written and read are %d records of 1 kB in 8 partitions,\n"+
		"by franz-go without compression; the broker's log is in memory, if TMPDIR is. Answers are those to %d small Fetch requests a second over %d connections, timed from when each was due. Idle are %d\nconnections that asked for metadata once, "+
		"each with its own to the broker.", runs, routed, hurryRate, hurryConns, idlers)
	if v := os.Getenv("ISTHMUS_KAFKA_PROXY_VERSION"); v != "" {
		fmt.Fprintf(&b, " kafka-proxy is %s.", v)
	}
	b.WriteString("\n\n| | written | of direct | read | of direct | GB for a CPU-second, written | read | answer p50 | p99 | idle, each |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	first := ways[0]
	for _, w := range ways {
		produce, consume := middle(w.runs, func(p passage) float64 { return p.produce }), middle(w.runs, func(p passage) float64 { return p.consume })
		cpu := func(of func(passage) float64) string {
			if w.proc == nil {
				return ""
			}
			return fmt.Sprintf("%.2f", middle(w.runs, of)/1e9)
		}
		memory := ""
		if w.proc != nil {
			memory = fmt.Sprintf("%d kB", w.idle/1000)
		}
		at := func(q float64) time.Duration {
			return middle(w.delays, func(d []time.Duration) time.Duration { return quantile(d, q) }).Round(10 * time.Microsecond)
		}
		fmt.Fprintf(&b, "| %s | %.0f MB/s | %.0f %% | %.0f MB/s | %.0f %% | %s | %s | %v | %v | %s |\n", w.name, produce/1e6, 100*produce/middle(first.runs, func(p passage) float64 { return p.produce }),
			consume/1e6, 100*consume/middle(first.runs, func(p passage) float64 { return p.consume }), cpu(func(p passage) float64 { return p.produceCPU }), cpu(func(p passage) float64 { return p.consumeCPU }),
			at(0.5), at(0.99), memory)
	}
	return b.String()
}
