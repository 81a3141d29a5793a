package limits

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/embedded"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/topology"
)

// smallDisk is a disk of so many bytes for the time of the test. Without the right to mount it skips the test.
func smallDisk(t *testing.T, bytes int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("mount a small tmpfs, which needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fillDisk takes the space of a disk but for so many bytes; the returned function gives it back.
func fillDisk(t *testing.T, dir string, but int64) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 16<<10)
	for left := int64(st.Bavail)*st.Bsize - but; left > 0; left -= int64(len(chunk)) {
		if _, err := f.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				break
			}
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Errorf("empty the disk: %v", err)
		}
	}
}

// embed starts an embedded cluster for the time of the test.
func embed(t *testing.T, cfg embedded.Config) *embedded.Cluster {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	c, err := embedded.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(context.Background()) }()
	t.Cleanup(func() {
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("cluster %s: %v", cfg.Name, err)
		}
	})
	return c
}

// link runs eu>us between two addresses for the time of the test.
func link(t *testing.T, eu, us string) *mirror.Link {
	t.Helper()
	file := fmt.Sprintf("[fabric]\nname = \"test\"\n[[cluster]]\nname = \"eu\"\nbootstrap = [%q]\n[[cluster]]\nname = \"us\"\nbootstrap = [%q]\n"+
		"[[link]]\nfrom = \"eu\"\nto = \"us\"\ntopics = [\"orders\"]\n", eu, us)
	topo, err := topology.Parse("limits.toml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) *broker.Cluster {
		spec, _ := topo.Cluster(name)
		p, err := broker.NewProfile(spec)
		if err != nil {
			t.Fatal(err)
		}
		c, err := broker.Open(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	l, err := mirror.NewLink(topo.Links[0], mirror.Config{}, mirror.Deps{Topology: topo, From: open("eu"), To: open("us"),
		Log: slog.New(slog.DiscardHandler), Writer: "n1/disk"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("link: %v", err)
		}
	})
	return l
}

// wait looks at something in real time until it has nothing to say.
func wait(t *testing.T, most time.Duration, what string, ok func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(most); ; <-tick.C {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %s", most, what, why)
		}
	}
}

// load writes to both clusters until it is ended: to the source what the link copies, to the target what is its own.
type load struct {
	t       *testing.T
	log     *judge.Log
	clients []judge.Client
	cancel  context.CancelFunc
	done    chan error
}

func startLoad(t *testing.T, eu, us string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, log: judge.NewLog(), cancel: cancel, done: make(chan error, 2),
		clients: []judge.Client{{Name: "eu", Bootstrap: []string{eu}}, {Name: "us", Bootstrap: []string{us}}}}
	for i, topic := range []string{"orders", "own"} {
		go func() {
			l.done <- judge.Write(ctx, l.clients[i], judge.Load{Topic: topic, Partitions: 1, Rate: 400, Size: 500, Compression: "snappy", Seed: uint64(i + 1)}, l.log)
		}()
	}
	return l
}

// end ends the load, waits until the link has copied all of it, and lets the checker judge.
func (l *load) end(of *mirror.Link) {
	l.t.Helper()
	l.cancel()
	for range 2 {
		if err := <-l.done; err != nil {
			l.t.Fatal(err)
		}
	}
	acked := l.log.Acked("eu")
	wait(l.t, time.Minute, "the link has everything", func() string {
		return behind(of, []int64{int64(acked)})
	})
	v, err := judge.Case{Clusters: l.clients, Topics: []string{"orders", "own"}, Log: l.log,
		Carries: func(target, origin, topic string) bool { return target == "us" && origin == "eu" && topic == "orders" }}.Check(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	if own := l.log.Acked("us"); !v.OK() || v.Records["us"] < acked+own {
		l.t.Errorf("acknowledged %d at eu and %d at us: %s", acked, own, v)
	}
	l.t.Logf("%d records at eu, %d at us", acked, l.log.Acked("us"))
}

// TestDisk_EmbeddedTargetIsFull fills the disk of a target under load, once down to the last byte, so that writes fail, and once
// to below the low-water mark. Nothing that was acknowledged is lost, the link says why it stands, and goes on by itself.
func TestDisk_EmbeddedTargetIsFull(t *testing.T) {
	for name, but := range map[string]int64{"below the low-water mark": 1 << 20, "to the last byte": 0} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, 48<<20)
			eu := embed(t, embedded.Config{Name: "eu", InMemory: true, Topics: []embedded.Topic{{Name: "orders", Partitions: 1}}})
			us := embed(t, embedded.Config{Name: "us", Dir: filepath.Join(dir, "us"), MinFreeBytes: 4 << 20, Topics: []embedded.Topic{{Name: "own", Partitions: 1}}})
			l := link(t, eu.Addr(), us.Addr())
			w := startLoad(t, eu.Addr(), us.Addr())
			wait(t, 20*time.Second, "the link copies", func() string { return behind(l, []int64{200}) })
			empty := fillDisk(t, dir, but)
			wait(t, 20*time.Second, "the link says that the disk is full", func() string {
				if said := says(l); !strings.Contains(said, "KAFKA_STORAGE_ERROR") {
					return "it says " + said
				}
				return ""
			})
			if us.Stats().RefusedForDisk == 0 {
				t.Errorf("stats %+v", us.Stats())
			}
			if st := l.Status(); st.Flows[0].Pumps[0].State == mirror.StateHalted {
				t.Errorf("a full disk halts: %s", says(l))
			}
			empty()
			w.end(l)
		})
	}
}

// TestDisk_RealTargetIsFull: the one log directory of a real broker is full, so the broker ends. The link says that the target is
// away; with room on the disk and the broker back it goes on.
func TestDisk_RealTargetIsFull(t *testing.T) {
	kafka.Require(t)
	dir := smallDisk(t, 160<<20)
	us := kafka.Start(t, kafka.Options{Name: "us", Dir: dir, HeapMB: 384, Properties: map[string]string{
		"log.segment.bytes": "2097152", "log.index.size.max.bytes": "65536", "offsets.topic.num.partitions": "1"}})
	addr := us.Bootstrap()[0]
	eu := embed(t, embedded.Config{Name: "eu", InMemory: true, Topics: []embedded.Topic{{Name: "orders", Partitions: 1}}})
	createOwn(t, addr)
	l := link(t, eu.Addr(), addr)
	w := startLoad(t, eu.Addr(), addr)
	wait(t, 30*time.Second, "the link copies", func() string { return behind(l, []int64{200}) })
	empty := fillDisk(t, dir, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := us.Gone(ctx, 0); err != nil {
		t.Fatal(err)
	}
	wait(t, 30*time.Second, "the link says that the target is away", func() string {
		if said := says(l); !strings.Contains(said, "us: ") {
			return "it says " + said
		}
		return ""
	})
	t.Logf("it says: %s", says(l))
	empty()
	us.Start(0)
	if err := us.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	w.end(l)
}

// createOwn makes the target's own topic.
func createOwn(t *testing.T, addr string) {
	t.Helper()
	c, err := broker.Open(broker.Profile{Name: "us", Bootstrap: []string{addr}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.CreateTopic(t.Context(), "own", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
}
