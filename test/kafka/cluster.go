package kafka

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/process"
)

const (
	// bootLimit is how long a cluster may take until it is ready. A boot takes seconds; a machine under load needs more.
	bootLimit = 2 * time.Minute
	// stopLimit is how long an orderly stop may take before the broker is killed and the test fails.
	stopLimit = time.Minute
	// tailLines is how much of each broker's log a failed test shows.
	tailLines = 12
)

// Options describe a cluster; the zero value is one broker with default settings.
type Options struct {
	// Name tells clusters apart in messages; default "kafka".
	Name string
	// Brokers is 1 (default) or 3. With three, topics and internal topics have replication factor 3 and min ISR 2 by default.
	Brokers int
	// Properties are broker settings that win over those of scripts/kafka; {id} in one is the broker's node id. The
	// listener PLAINTEXT keeps its name also where it is mapped to another protocol (listener.security.protocol.map),
	// because ports are chosen here.
	Properties map[string]string
	// Listeners are more listeners of each broker: security protocol (SSL, SASL_SSL, …) by name, in upper case. What
	// they need is set by Properties, as listener.name.NAME.… with the name in lower case. See Addresses.
	Listeners map[string]string
	// Advertised are addresses that clients are told instead of those of a listener of Listeners, one for each broker, by its name.
	Advertised map[string][]string
	// JavaOptions are more options of the broker's Java process, without blanks in them.
	JavaOptions []string
	// Dir keeps the data of the cluster, and is used again if it has some; default a folder that goes with the test.
	Dir string
	// HeapMB is Java's heap per broker in MB; default 512.
	HeapMB int
	// Version is the release of Kafka; default $ISTHMUS_KAFKA_VERSION, else that of scripts/kafka.
	Version string
	// ClientOptions are what a client needs beside addresses (SASL, TLS) to see whether the brokers are ready.
	ClientOptions []kgo.Opt
}

// Cluster is a running Kafka cluster. Brokers are numbered from 0; their node ids from 1. Different brokers may be
// handled from different goroutines. What goes wrong in a method without error result fails the test.
type Cluster struct {
	t       testing.TB
	o       Options
	script  string
	brokers []*broker
}

// run is one run of a broker.
type run struct {
	*process.Process
	paused atomic.Bool
}

// broker is a place for a process: its address and data stay the same over restarts.
type broker struct {
	dir, addr string
	more      map[string]string // addresses of Options.Listeners by name

	mu   sync.Mutex
	proc *run // nil while it is meant to be down
}

// Start starts a cluster and returns it when it is ready. It calls Require. The cluster ends with the test.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	return StartAll(t, o)[0]
}

// StartAll starts several clusters at once, which is quicker than one after the other.
func StartAll(t testing.TB, all ...Options) []*Cluster {
	t.Helper()
	var clusters []*Cluster
	for _, o := range all {
		requireVersion(t, o.Version)
		c := newCluster(t, o)
		t.Cleanup(c.end)
		for i := range c.brokers {
			c.Start(i)
		}
		clusters = append(clusters, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	for _, c := range clusters {
		if err := c.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return clusters
}

// newCluster chooses ports and writes the configuration; it starts nothing.
func newCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Name == "" {
		o.Name = "kafka"
	}
	if o.Brokers == 0 {
		o.Brokers = 1
	}
	if o.Brokers != 1 && o.Brokers != 3 {
		t.Fatalf("configure cluster %s: 1 or 3 brokers, not %d", o.Name, o.Brokers)
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	script, err := scriptPath("kafka.sh")
	if err != nil {
		t.Fatal(err)
	}
	ports, locks, err := process.ReservePorts((2 + len(o.Listeners)) * o.Brokers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.CloseAll(locks); err != nil {
			t.Errorf("release ports: %v", err)
		}
	})
	c := &Cluster{t: t, o: o, script: script}
	clusterID := clusterID(dir)
	controllers, more := ports[o.Brokers:2*o.Brokers], ports[2*o.Brokers:]
	for i := range o.Brokers {
		b := &broker{
			dir:  filepath.Join(dir, strconv.Itoa(i+1)),
			addr: address(ports[i]),
			more: make(map[string]string),
		}
		for n, name := range slices.Sorted(maps.Keys(o.Listeners)) {
			b.more[name] = address(more[n*o.Brokers+i])
		}
		args := []string{"configure", b.dir, strconv.Itoa(i + 1), clusterID, join(ports[:o.Brokers]), join(controllers)}
		args = slices.Concat(args, b.listeners(address(controllers[i]), o.Listeners, func(name string) string { return advertised(o, name, i) }), properties(o.Properties))
		if out, err := exec.Command(script, args...).CombinedOutput(); err != nil {
			t.Fatalf("configure broker %d of %s: %v: %s", i, o.Name, err, out)
		}
		c.brokers = append(c.brokers, b)
	}
	return c
}

// Bootstrap returns the addresses of all brokers, whether they run or not.
func (c *Cluster) Bootstrap() []string {
	var addrs []string
	for _, b := range c.brokers {
		addrs = append(addrs, b.addr)
	}
	return addrs
}

// Addresses returns those of one of Options.Listeners, of all brokers.
func (c *Cluster) Addresses(listener string) []string {
	c.t.Helper()
	var addrs []string
	for _, b := range c.brokers {
		addr, ok := b.more[listener]
		if !ok {
			c.t.Fatalf("cluster %s has no listener %s", c.o.Name, listener)
		}
		addrs = append(addrs, addr)
	}
	return addrs
}

// Log returns what a broker wrote into its log so far, over all its runs.
func (c *Cluster) Log(i int) string {
	c.t.Helper()
	text, err := os.ReadFile(c.brokers[i].logPath())
	if err != nil {
		c.t.Errorf("read the log of broker %d of %s: %v", i, c.o.Name, err)
	}
	return string(text)
}

// DataDir returns where a broker keeps its logs.
func (c *Cluster) DataDir(i int) string { return filepath.Join(c.brokers[i].dir, "data") }

// Start starts a broker that is down, on the data it has, and does not wait for it: see WaitReady.
func (c *Cluster) Start(i int) {
	c.t.Helper()
	b := c.brokers[i]
	cmd := exec.Command(c.script, "broker", b.dir)
	cmd.Env = os.Environ()
	if c.o.HeapMB > 0 {
		cmd.Env = append(cmd.Env, "ISTHMUS_KAFKA_HEAP_MB="+strconv.Itoa(c.o.HeapMB))
	}
	if len(c.o.JavaOptions) > 0 {
		cmd.Env = append(cmd.Env, "ISTHMUS_KAFKA_JAVA_OPTIONS="+strings.Join(c.o.JavaOptions, " "))
	}
	if c.o.Version != "" {
		cmd.Env = append(cmd.Env, "ISTHMUS_KAFKA_VERSION="+c.o.Version)
	}
	if b.process() != nil {
		c.t.Errorf("start broker %d of %s: it is not down", i, c.o.Name)
		return
	}
	p, err := process.Start(fmt.Sprintf("broker %d of %s", i, c.o.Name), cmd, b.logPath())
	if err != nil {
		c.t.Errorf("start broker %d of %s: %v", i, c.o.Name, err)
		return
	}
	b.setProcess(&run{Process: p})
}

// Kill kills a broker with SIGKILL, paused or not, and returns when the process is gone.
func (c *Cluster) Kill(i int) {
	c.t.Helper()
	if p := c.take(i); p != nil {
		c.send(i, p, syscall.SIGKILL)
		<-p.Done()
	}
}

// Stop asks a broker with SIGTERM to shut down in order and returns when the process is gone.
func (c *Cluster) Stop(i int) {
	c.t.Helper()
	p := c.take(i)
	if p == nil {
		return
	}
	c.send(i, p, syscall.SIGTERM)
	if p.paused.Swap(false) {
		c.send(i, p, syscall.SIGCONT)
	}
	select {
	case <-p.Done():
	case <-time.After(stopLimit):
		c.t.Errorf("stop broker %d of %s: not gone after %v", i, c.o.Name, stopLimit)
		c.send(i, p, syscall.SIGKILL)
		<-p.Done()
	}
}

// Pause freezes a broker with SIGSTOP: its connections stay open and nothing answers.
func (c *Cluster) Pause(i int) {
	c.t.Helper()
	if p := c.running(i); p != nil {
		p.paused.Store(true)
		if err := p.Process.Pause(); err != nil {
			c.t.Errorf("broker %d of %s: %v", i, c.o.Name, err)
		}
	}
}

// Continue lets a paused broker run on.
func (c *Cluster) Continue(i int) {
	c.t.Helper()
	if p := c.running(i); p != nil {
		c.send(i, p, syscall.SIGCONT)
		p.paused.Store(false)
	}
}

// Gone waits until a broker has ended by itself, as one does whose last disk fails; it may be started again then.
func (c *Cluster) Gone(ctx context.Context, i int) error {
	c.t.Helper()
	p := c.running(i)
	if p == nil {
		return nil
	}
	select {
	case <-p.Done():
		c.brokers[i].setProcess(nil)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of broker %d of %s: %w", i, c.o.Name, ctx.Err())
	}
}

// send signals a process of broker i; an error fails the test.
func (c *Cluster) send(i int, p *run, s syscall.Signal) {
	c.t.Helper()
	if err := p.Signal(s); err != nil {
		c.t.Errorf("broker %d of %s: %v", i, c.o.Name, err)
	}
}

// running returns the process of broker i; that there is none fails the test.
func (c *Cluster) running(i int) *run {
	c.t.Helper()
	p := c.brokers[i].process()
	if p == nil {
		c.t.Errorf("broker %d of %s is down", i, c.o.Name)
	}
	return p
}

// take is running for a process that is about to end: from now on the broker is meant to be down.
func (c *Cluster) take(i int) *run {
	c.t.Helper()
	p := c.running(i)
	c.brokers[i].setProcess(nil)
	return p
}

// end kills what runs, at the end of the test, and shows the logs if the test failed.
func (c *Cluster) end() {
	for i, b := range c.brokers {
		p := b.process()
		if p == nil {
			continue
		}
		if !p.Running() {
			c.t.Errorf("broker %d of %s ended by itself: %v", i, c.o.Name, p.Err())
			continue
		}
		c.Kill(i)
	}
	if !c.t.Failed() {
		return
	}
	for i, b := range c.brokers {
		c.t.Logf("end of the log of broker %d of %s:\n%s", i, c.o.Name, process.Tail(b.logPath(), tailLines))
	}
}

func (b *broker) process() *run {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.proc
}

func (b *broker) setProcess(p *run) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.proc = p
}

// listeners are the properties that add listeners to those which the script sets; none for none.
func (b *broker) listeners(controller string, protocols map[string]string, other func(name string) string) []string {
	if len(protocols) == 0 {
		return nil
	}
	listened, kinds := "PLAINTEXT://"+b.addr, "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"
	told := listened
	for _, name := range slices.Sorted(maps.Keys(protocols)) {
		listened += "," + name + "://" + b.more[name]
		told += "," + name + "://" + cmp.Or(other(name), b.more[name])
		kinds += "," + name + ":" + protocols[name]
	}
	return []string{
		"listeners=CONTROLLER://" + controller + "," + listened,
		"advertised.listeners=" + told, "listener.security.protocol.map=" + kinds,
	}
}

// advertised is what a broker tells of a listener instead of where it is; empty for none.
func advertised(o Options, listener string, i int) string {
	if list := o.Advertised[listener]; i < len(list) {
		return list[i]
	}
	return ""
}

func (b *broker) logPath() string { return filepath.Join(b.dir, "log") }

// clusterID is the id that the data in dir has, or a new one: 16 random bytes in Kafka's base64.
func clusterID(dir string) string {
	if old, err := os.ReadFile(filepath.Join(dir, "1", "cluster.id")); err == nil {
		return strings.TrimSpace(string(old))
	}
	id := make([]byte, 16)
	rand.Read(id) // never fails, see crypto/rand
	id[0] &= 0x7f // else it may begin with a dash, which Kafka's tools take for an option
	return base64.RawURLEncoding.EncodeToString(id)
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// properties are the lines of a properties file, in a fixed order.
func properties(m map[string]string) []string {
	var lines []string
	for k, v := range m {
		lines = append(lines, k+"="+v)
	}
	slices.Sort(lines)
	return lines
}

// join writes ports as kafka.sh reads them.
func join(ports []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ports), " ", ","), "[]")
}
