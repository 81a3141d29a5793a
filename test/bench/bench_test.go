package bench

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/test/kafka"
)

const (
	partitions = 8
	valueBytes = 1000
	// runs is how often a row of the table is measured: one is at the mercy of
	// whatever else the machine does at that moment.
	runs = 3
)

// workload is what one topic is filled with.
type workload struct {
	codec   batch.Codec
	bytes   int // of a batch on the wire, about; 0 = one record a batch
	records int64
}

func (w workload) String() string {
	return fmt.Sprintf("%s, %s", w.codec, w.size())
}

func (w workload) size() string {
	if w.bytes == 0 {
		return "1 record"
	}
	return fmt.Sprintf("%d kB", w.bytes/1000)
}

// workloads are as many records as take a few seconds each: what a process
// spends on starting must vanish in what it spends on copying.
func workloads() (all []workload) {
	for _, c := range []batch.Codec{batch.LZ4, batch.Zstd, batch.None} {
		each := int64(3_000_000)
		if c == batch.None {
			each = 1_000_000
		}
		all = append(all, workload{c, 200_000, each}, workload{c, 50_000, each}, workload{c, 13_000, each / 2}, workload{c, 0, 200_000})
	}
	return all
}

// result is one row of the table.
type result struct {
	name    string
	batch   string // wire size of a batch
	records int64
	wire    int64 // bytes of the records, as they are in the source's log
	took    time.Duration
	cpu     time.Duration
	rss     int64 // peak, bytes
}

func (r result) recordsPerCPU() float64 { return float64(r.records) / r.cpu.Seconds() }
func (r result) bytesPerCPU() float64   { return float64(r.wire) / r.cpu.Seconds() }

// median is the run of median CPU time, with the greatest memory of all runs.
func median(all []result) result {
	var rss int64
	for _, r := range all {
		rss = max(rss, r.rss)
	}
	all = slices.SortedFunc(slices.Values(all), func(a, b result) int { return cmp.Compare(a.bytesPerCPU(), b.bytesPerCPU()) })
	m := all[len(all)/2]
	m.rss = rss
	return m
}

// TestBench is the benchmark. It measures and writes; it asserts no figure.
func TestBench(t *testing.T) {
	want := os.Getenv("ISTHMUS_BENCH")
	if want == "" {
		t.Skip("set ISTHMUS_BENCH=1, or run make bench")
	}
	whole := want == "1"
	if whole {
		want = "."
	}
	rows, err := regexp.Compile(want)
	if err != nil {
		t.Fatalf("ISTHMUS_BENCH is neither 1 nor a regular expression: %v", err)
	}
	runtime.LockOSThread() // processes are killed with the thread that started them
	began := time.Now()
	b := newBench(t)
	b.relays()
	for _, w := range workloads() {
		if rows.MatchString("isthmus, " + w.String()) {
			b.isthmus(w)
		}
	}
	if peer := (workload{batch.LZ4, 200_000, 3_000_000}); rows.MatchString(peerName) {
		b.peer(peer)
	}
	b.relays() // at the end as at the start: the machine may have changed
	text := b.table(time.Since(began))
	t.Log("\n" + text)
	if !whole {
		return
	}
	if err := os.WriteFile(benchmarks, []byte(text+sections()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run is one run of the benchmark: two clusters and what was measured so far.
type run struct {
	t        *testing.T
	from, to *site
	binaries []string
	runs     int
	relayed  map[int][]result // by chunk
	mirrored []result
	peers    []result
}

func newBench(t *testing.T) *run {
	t.Helper()
	// Deleted topics go at once: the disk and the page cache are for the row
	// that is measured.
	o := kafka.Options{Name: "from", HeapMB: 700, Properties: map[string]string{"log.segment.delete.delay.ms": "1000"}}
	other := o
	other.Name = "to"
	clusters := kafka.StartAll(t, o, other)
	b := &run{t: t, from: newSite(t, "from", clusters[0].Bootstrap()), to: newSite(t, "to", clusters[1].Bootstrap()),
		runs: runs, relayed: make(map[int][]result), binaries: filepath.SplitList(os.Getenv("ISTHMUS_BENCH_BINARIES"))}
	if s := os.Getenv("ISTHMUS_BENCH_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("ISTHMUS_BENCH_RUNS is %q, not a number of runs", s)
		}
		b.runs = n
	}
	if len(b.binaries) == 0 {
		bin := filepath.Join(t.TempDir(), "isthmus")
		if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, "github.com/isthmus-project/isthmus/cmd/isthmus").CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		b.binaries = []string{bin}
	}
	return b
}

// relays measures the relay with each size of chunk.
func (b *run) relays() {
	for _, chunk := range chunks {
		b.relayed[chunk] = append(b.relayed[chunk], measureRelay(b.t, chunk, 1<<30))
	}
}

// isthmus measures one row, with each binary in turn. Each run is preceded by
// one of the 1 MB relay, so that the two have seen the same machine.
func (b *run) isthmus(w workload) {
	topic := "bench"
	filled := b.fill(topic, w)
	all := make([][]result, len(b.binaries))
	for range b.runs {
		b.relayed[chunks[0]] = append(b.relayed[chunks[0]], measureRelay(b.t, chunks[0], 1<<30))
		for i, bin := range b.binaries {
			r := b.measureIsthmus(bin, topic, filled)
			r.name = "isthmus, " + w.String()
			if len(b.binaries) > 1 {
				r.name += ", " + filepath.Base(bin)
			}
			b.t.Logf("%s: %.2f s CPU of %.2f s, %.0f MB/s per CPU-second, %d MB", r.name, r.cpu.Seconds(), r.took.Seconds(), r.bytesPerCPU()/1e6, r.rss/1e6)
			all[i] = append(all[i], r)
		}
	}
	for _, rs := range all {
		b.mirrored = append(b.mirrored, median(rs))
	}
	b.from.remove(b.t, topic)
}

// peer measures MirrorMaker 2.
func (b *run) peer(w workload) {
	topic := "bench"
	r := b.measurePeer(topic, b.fill(topic, w))
	r.name = peerName + ", " + w.String()
	b.t.Logf("%s: %.2f s CPU of %.2f s, %.0f records per CPU-second, %d MB", r.name, r.cpu.Seconds(), r.took.Seconds(), r.recordsPerCPU(), r.rss/1e6)
	b.peers = append(b.peers, r)
	b.from.remove(b.t, topic)
}
