package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/test/process"
)

// older is one broker of a release that needs ZooKeeper, and its ZooKeeper.
type older struct {
	t        testing.TB
	dir      string
	libs     string
	addr     string
	proc     *process.Process
	ask      *kgo.Client
	settings string
}

// StartOlder starts one broker of a release before KRaft, such as 2.8.2, with a ZooKeeper of its own, and returns it when it answers.
// It ends with the test. The caller has called kafka.Require.
func StartOlder(t testing.TB, name, version string) *Site {
	t.Helper()
	fetch := exec.Command("../../scripts/kafka/fetch.sh", version)
	var said bytes.Buffer
	fetch.Stderr = &said
	libs, err := fetch.Output()
	if err != nil {
		t.Fatalf("bring the jars of Kafka %s: %v: %s", version, err, said.Bytes())
	}
	keeper := FreePort(t)
	o := &older{t: t, dir: t.TempDir(), libs: string(bytes.TrimSpace(libs)), addr: fmt.Sprintf("127.0.0.1:%d", FreePort(t))}
	o.java("zookeeper", "-Xmx96m", "org.apache.zookeeper.server.quorum.QuorumPeerMain",
		fmt.Sprintf("dataDir=%s/zookeeper-data\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n", o.dir, keeper))
	o.settings = fmt.Sprintf("broker.id=1\nzookeeper.connect=127.0.0.1:%d\nlisteners=PLAINTEXT://%s\nlog.dirs=%s/data\noffsets.topic.replication.factor=1\n"+
		"transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=4\noffsets.topic.num.partitions=4\n"+
		"auto.create.topics.enable=false\nlog.cleaner.dedupe.buffer.size=8388608\nzookeeper.session.timeout.ms=2000\n", keeper, o.addr, o.dir)
	o.Start(0)
	if o.ask, err = kgo.NewClient(kgo.SeedBrokers(o.addr), kgo.MetadataMinAge(100*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.ask.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := o.WaitReady(ctx); err != nil {
		t.Fatalf("wait for Kafka %s: %v; its log ends:\n%s", version, err, process.Tail(filepath.Join(o.dir, "broker.log"), logLines))
	}
	return &Site{o, name, kadm.NewClient(o.ask)}
}

// java starts a class with one file of settings; it is killed with the test.
func (o *older) java(name, heap, class, settings string) *process.Process {
	o.t.Helper()
	file := filepath.Join(o.dir, name+".properties")
	if err := os.WriteFile(file, []byte(settings), 0o666); err != nil {
		o.t.Fatal(err)
	}
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	p, err := process.Start(name, exec.Command(java, heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", o.libs+"/*", class, file), filepath.Join(o.dir, name+".log"))
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { end(p) })
	return p
}

// end kills a process that may be gone.
func end(p *process.Process) {
	if p.Running() {
		_ = p.Signal(syscall.SIGKILL) // else it has just ended by itself
	}
	<-p.Done()
}

// Bootstrap is the address of its one broker.
func (o *older) Bootstrap() []string { return []string{o.addr} }

// Kill is kill -9 of the broker; there is only broker 0.
func (o *older) Kill(int) { end(o.proc) }

// Start starts it again, with its data.
func (o *older) Start(int) { o.proc = o.java("broker", "-Xmx384m", "kafka.Kafka", o.settings) }

// WaitReady returns when it answers.
func (o *older) WaitReady(ctx context.Context) error { return answers(ctx, o.ask) }
