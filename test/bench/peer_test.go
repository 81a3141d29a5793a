package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	peerName = "MirrorMaker 2"
	// peerLeast is what MirrorMaker 2 should reach in records per CPU-second of
	// a core like today's: below it, it was hindered, and its row proves nothing.
	peerLeast = 100_000
)

// peerProperties tune MirrorMaker 2: as many tasks as cores, large polls, large
// batches, compression as at the source. It does what Isthmus does beside
// copying: positions of groups and configuration of topics.
const peerProperties = `clusters=from,to
from.bootstrap.servers=%s
to.bootstrap.servers=%s
from->to.enabled=true
to->from.enabled=false
from->to.topics=%s
from->to.sync.group.offsets.enabled=true
replication.factor=1
checkpoints.topic.replication.factor=1
heartbeats.topic.replication.factor=1
offset-syncs.topic.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
config.storage.replication.factor=1
tasks.max=2
dedicated.mode.enable.internal.rest=false
emit.heartbeats.enabled=false
from.consumer.max.poll.records=10000
from.consumer.fetch.max.bytes=52428800
from.consumer.max.partition.fetch.bytes=4194304
to.producer.compression.type=lz4
to.producer.batch.size=262144
to.producer.linger.ms=10
to.producer.buffer.memory=134217728
`

// peerJava is how connect-mirror-maker.sh starts Java.
var peerJava = []string{"-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
	"-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true"}

// measurePeer runs MirrorMaker 2 until the target has everything. The start of
// Java and of Connect does not count: CPU time is counted from the moment
// before the first record arrives.
func (b *run) measurePeer(topic string, r result) result {
	b.t.Helper()
	cmd := b.peerFor(topic, "")
	p := start(b.t, cmd)
	seen := p.watch(b.to, "from."+topic, r.records)
	r.took, r.rss, r.cpu = max(seen.took, time.Millisecond), p.rss(), seen.after-seen.before
	b.t.Logf("%s had used %.1f s of CPU before its first record", peerName, seen.before.Seconds())
	if err := cmd.Process.Kill(); err != nil {
		b.t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	b.to.remove(b.t, "from.*", "mm2-*", "heartbeats")
	b.from.remove(b.t, "mm2-*")
	return r
}

// peerFor is the command that runs MirrorMaker 2, with more properties. Of a test that fails the end of its log is shown.
func (b *run) peerFor(topic, more string) *exec.Cmd {
	b.t.Helper()
	scripts := filepath.Join("..", "..", "scripts", "kafka")
	libs, err := exec.Command(filepath.Join(scripts, "fetch.sh")).Output()
	if err != nil {
		b.t.Fatalf("find Kafka's jars: %v", err)
	}
	dir := b.t.TempDir()
	file := filepath.Join(dir, "mm2.properties")
	if err := os.WriteFile(file, fmt.Appendf(nil, peerProperties+more, b.from.bootstrap, b.to.bootstrap, topic), 0o600); err != nil {
		b.t.Fatal(err)
	}
	logging, err := filepath.Abs(filepath.Join(scripts, "log4j2.properties"))
	if err != nil {
		b.t.Fatal(err)
	}
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = log.Close() })
	cmd := exec.Command(java, append(peerJava, "-Dlog4j2.configurationFile="+logging,
		"-cp", filepath.Join(strings.TrimSpace(string(libs)), "*"), "org.apache.kafka.connect.mirror.MirrorMaker", file)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	b.t.Cleanup(func() {
		if said, err := os.ReadFile(log.Name()); err == nil && b.t.Failed() {
			b.t.Logf("end of the log of MirrorMaker 2:\n%s", said[max(0, len(said)-8000):])
		}
	})
	return cmd
}
