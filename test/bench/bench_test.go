package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/test/kafka"
)

const (
	topic      = "bench"
	partitions = 8
	valueBytes = 1000
)

// result is one row of the table.
type result struct {
	name    string
	records int64
	wire    int64
	took    time.Duration
	cpu     time.Duration
	rss     int64
}

func cpuOf(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

func rssOf(cmd *exec.Cmd) int64 {
	return cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}

// TestBench is the benchmark. It measures and writes; it asserts no figure.
func TestBench(t *testing.T) {
	if os.Getenv("ISTHMUS_BENCH") == "" {
		t.Skip("set ISTHMUS_BENCH=1, or run make bench")
	}
	records := int64(3_000_000)
	if s := os.Getenv("ISTHMUS_BENCH_RECORDS"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		records = n
	}
	clusters := kafka.StartAll(t, kafka.Options{Name: "from", HeapMB: 700}, kafka.Options{Name: "to", HeapMB: 700})
	from, to := clusters[0].Bootstrap(), clusters[1].Bootstrap()
	fill(t, from, records)
	wire, each := logBytes(t, from)
	rows := []result{measureRelay(t, 4*wire), measureMirror(t, from, to, records, wire)}
	write(t, rows, wire, each)
}

// fill writes JSON-like records that lz4 packs about four to one, in batches of
// about 200 kB on the wire.
func fill(t *testing.T, bootstrap []string, records int64) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerBatchMaxBytes(940_000), kgo.ProducerLinger(500*time.Millisecond), kgo.MaxBufferedRecords(60_000),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := context.Background()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	values := make([][]byte, 512)
	for i := range values {
		values[i] = jsonLike(rng)
	}
	for i := range records {
		cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(i / 900 % partitions), Value: values[rng.IntN(len(values))]},
			func(_ *kgo.Record, err error) {
				if err != nil {
					t.Errorf("produce: %v", err)
				}
			})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func jsonLike(rng *rand.Rand) []byte {
	b := []byte(`{"order_id":"`)
	for len(b) < valueBytes-120 {
		b = fmt.Appendf(b, `%x","customer":{"id":%d,"segment":"retail","country":"DE"},"lines":[{"sku":"SKU-%d","quantity":1,"price":"%d.99"}],"ref":"`,
			rng.Uint32(), rng.IntN(1_000_000), rng.IntN(10_000), rng.IntN(100))
	}
	for len(b) < valueBytes-2 {
		b = append(b, 'a'+byte(rng.IntN(26)))
	}
	return append(b, `"}`...)
}

// logBytes asks the broker for the size of the topic and samples its batches.
func logBytes(t *testing.T, bootstrap []string) (bytes, each int64) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	dirs, err := kadm.NewClient(cl).DescribeAllLogDirs(context.Background(), kadm.TopicsSet{topic: {0: {}, 1: {}, 2: {}, 3: {}, 4: {}, 5: {}, 6: {}, 7: {}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		bytes += d.Size()
	}
	return bytes, meanBatch(t, bootstrap)
}

// meanBatch is the mean wire size of the first batches of a partition.
func meanBatch(t *testing.T, bootstrap []string) int64 {
	t.Helper()
	c, err := broker.Open(broker.Profile{Name: "from", Bootstrap: bootstrap}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	frame, err := c.FetchOnce(context.Background(), topic, 0, 0, 8<<20, false)
	if err != nil {
		t.Fatal(err)
	}
	defer frame.Release()
	var bytes, n int64
	for rest := frame.Partitions[0].Batches; ; {
		h, _, after, err := batch.Next(rest)
		if err != nil || len(after) == 0 {
			break
		}
		bytes, n, rest = bytes+int64(h.Size()), n+1, after
	}
	return bytes / max(1, n)
}

func ended(t *testing.T, adm *kadm.Client) (n int64) {
	ends, err := adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		return 0
	}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			n += o.Offset
		}
	})
	return n
}

// measureMirror runs the binary until the target has everything.
func measureMirror(t *testing.T, from, to []string, records, wire int64) result {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "isthmus")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, "github.com/isthmus-project/isthmus/cmd/isthmus").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	file := filepath.Join(dir, "fabric.toml")
	text := fmt.Sprintf("[fabric]\nname = \"bench\"\n[[cluster]]\nname = \"from\"\nbootstrap = [%q]\n[[cluster]]\nname = \"to\"\nbootstrap = [%q]\n[[link]]\nfrom = \"from\"\nto = \"to\"\ntopics = [%q]\n[[node]]\nname = \"n\"\nhttp = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\n",
		from[0], to[0], topic)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(to...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	// Made before, so that the clock starts with the first record and not with
	// the discovery of the topic.
	if _, err := adm.CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "run", "-c", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var began time.Time
	deadline := time.Now().Add(10 * time.Minute)
	for {
		n := ended(t, adm)
		if n > 0 && began.IsZero() {
			began = time.Now()
		}
		if n >= records {
			break
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatalf("only %d of %d records arrived", n, records)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(began)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("isthmus: %v", err)
	}
	if n := ended(t, adm); n != records {
		t.Errorf("the target holds %d records, the source %d", n, records)
	}
	return result{name: "isthmus", records: records, wire: wire, took: took, cpu: cpuOf(cmd), rss: rssOf(cmd)}
}

// write puts the table into docs/benchmarks.md.
func write(t *testing.T, rows []result, wire, each int64) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nWritten by `make bench`; do not edit. Figures of one machine and one run: compare rows, not runs.\n\n")
	fmt.Fprintf(&b, "- %d cores, %s; Apache Kafka 4.3.0 → 4.3.0, one broker each, on the same machine\n", runtime.NumCPU(), runtime.Version())
	fmt.Fprintf(&b, "- %d records of %d bytes, JSON-like, lz4, %d partitions, %.0f MB on the wire, batches of about %d kB\n\n",
		rows[1].records, valueBytes, partitions, float64(wire)/1e6, each/1000)
	b.WriteString("| | records/s | wire MB/s | CPU-seconds | records per CPU-second | wire MB per CPU-second | peak RSS MB | of the relay |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	perCPU := func(r result) float64 { return float64(r.wire) / 1e6 / r.cpu.Seconds() }
	for _, r := range rows {
		records, perSecond := "–", "–"
		if r.records > 0 {
			records = fmt.Sprintf("%.0f", float64(r.records)/r.took.Seconds())
			perSecond = fmt.Sprintf("%.2f M", float64(r.records)/1e6/r.cpu.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %s | %.0f | %.2f | %s | %.0f | %.0f | %.0f %% |\n", r.name, records, float64(r.wire)/1e6/r.took.Seconds(),
			r.cpu.Seconds(), perSecond, perCPU(r), float64(r.rss)/1e6, 100*perCPU(r)/perCPU(rows[0]))
	}
	b.WriteString("\nThe relay is a process that reads from one socket and writes to another, 1 MB at a time: the least any mirror can cost.\n" +
		"CPU and memory are those of the mirroring process alone, as the operating system counts them.\n")
	t.Log("\n" + b.String())
	if err := os.WriteFile(filepath.Join("..", "..", "docs", "benchmarks.md"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
