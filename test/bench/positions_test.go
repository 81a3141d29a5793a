package bench

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

const (
	// positionsHead is of the section that TestPositions writes.
	positionsHead = "## Positions of consumer groups\n"
	// before and more are the records that the partition holds when the mirror starts for the first time, and those that come while it is down.
	before, more = 400_000, 50_000
	// positionsBatch is how many records are in a batch.
	positionsBatch = 50
	// rests is for how long positions at the target have to stay before they are taken as they are; each mirror looks every second.
	rests = 15 * time.Second
)

// lags are how far the groups are behind.
var lags = []int64{0, 1000, 100_000}

// positionsFabric is a link that keeps groups.
const positionsFabric = `groups = ["*"]
[[node]]
name = "n"
http = "127.0.0.1:0"
grpc = "127.0.0.1:0"
`

// peerPositions has MirrorMaker 2 look for groups and their positions every second.
const peerPositions = `from->to.refresh.groups.interval.seconds=1
from->to.sync.group.offsets.interval.seconds=1
from->to.emit.checkpoints.interval.seconds=1
from->to.refresh.topics.interval.seconds=1
`

// TestPositions measures what groups that move read again, over Isthmus and over MirrorMaker 2, with lags from none to many records, and once
// more after the mirror was stopped and started again. It asserts that Isthmus has them read nothing again.
func TestPositions(t *testing.T) {
	if os.Getenv("ISTHMUS_BENCH") == "" {
		t.Skip("set ISTHMUS_BENCH=1, or run make bench")
	}
	runtime.LockOSThread() // processes are killed with the thread that started them
	b := newBench(t)
	topic := "positions"
	text := fmt.Sprintf(`
What a group reads again when it moves to the other cluster: records of one partition, of %d and then %d, in batches of %d. The groups have
committed with these lags; both mirrors look every second; a dash is a group that has no position there after %s.

| | mirror started once %s| mirror stopped in good order and started again %s|
|---|%s
`, before, before+more, positionsBatch, 4*rests, strings.Repeat("| ", len(lags)-1), strings.Repeat("| ", len(lags)-1), strings.Repeat("--:|", 2*len(lags)))
	text += "| lag |" + strings.Repeat(fmt.Sprintf(strings.Repeat(" %d |", len(lags)), lags[0], lags[1], lags[2]), 2) + "\n"
	for _, m := range []struct {
		name   string
		target string // the topic at the target
		start  func() *exec.Cmd
	}{
		{"isthmus", topic, func() *exec.Cmd { return b.isthmusFor(topic) }},
		{peerName, "from." + topic, func() *exec.Cmd { return b.peerFor(topic, peerPositions) }},
	} {
		b.from.create(t, topic)
		b.write(topic, before)
		text += "| " + m.name + " |"
		for range 2 {
			for _, lag := range lags {
				commitAt(t, b.from, group(lag), topic, max(0, b.from.records(t, topic)-lag))
			}
			cmd := m.start()
			p := start(t, cmd)
			p.watch(b.to, m.target, b.from.records(t, topic))
			there := b.rested(m.target)
			for _, lag := range lags {
				at, ok := there[lag]
				again := b.from.records(t, topic) - lag - at
				switch {
				case !ok:
					text += " – |"
				default:
					text += fmt.Sprintf(" %d |", again)
				}
				if m.name == "isthmus" && (!ok || again != 0) {
					t.Errorf("the group with lag %d is at %d, %v: it reads %d records again", lag, at, ok, again)
				}
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // in good order: after a kill MirrorMaker 2 copies much again, and offsets say nothing
				t.Fatal(err)
			}
			_ = cmd.Wait() // Java ends with the signal
			if here, there := b.from.records(t, topic), b.to.records(t, m.target); here != there {
				t.Errorf("%s: the source holds %d records, the target %d: its positions say nothing", m.name, here, there)
			}
			b.write(topic, more)
		}
		text += "\n"
		b.from.remove(t, topic, "mm2-*")
		b.to.remove(t, topic, "__isthmus.*", "mm2-*", "from.*", "heartbeats")
		for _, s := range []*site{b.from, b.to} {
			for _, lag := range lags {
				if res, err := s.admin.DeleteGroup(t.Context(), group(lag)); err != nil && !errors.Is(err, kerr.GroupIDNotFound) && !errors.Is(res.Err, kerr.GroupIDNotFound) {
					t.Fatal(err)
				}
			}
		}
	}
	t.Log("\n" + text)
	section(t, positionsHead, text)
}

func group(lag int64) string { return fmt.Sprintf("lag-%d", lag) }

// isthmusFor runs Isthmus.
func (b *run) isthmusFor(topic string) *exec.Cmd {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "fabric.toml")
	link, _, _ := strings.Cut(fabric, "[[node]]")
	if err := os.WriteFile(file, fmt.Appendf(nil, link+positionsFabric, b.from.bootstrap, b.to.bootstrap, topic), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(b.binaries[0], "run", "-c", file)
	cmd.Stderr = os.Stderr
	return cmd
}

// write appends records to the one partition.
func (b *run) write(topic string, records int64) {
	b.t.Helper()
	conn, err := b.from.cluster.ProduceConn(b.t.Context(), b.from.leader(b.t, topic, partitions))
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	some := make([]batch.Record, positionsBatch)
	for i := range some {
		some[i] = batch.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, 100)}
	}
	raw, err := batch.Encode(nil, some, batch.LZ4, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
	if err != nil {
		b.t.Fatal(err)
	}
	for ; records > 0; records -= positionsBatch {
		if err := conn.Send(b.t.Context(), []broker.ProduceBatch{{Topic: topic, Bytes: raw}}); err != nil {
			b.t.Fatal(err)
		}
		results, err := conn.Recv(b.t.Context())
		if err == nil {
			err = results[0].Err
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func commitAt(t *testing.T, s *site, group, topic string, at int64) {
	t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topic, At: at, LeaderEpoch: -1})
	res, err := s.admin.CommitOffsets(t.Context(), group, o)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rested are the positions at the target, by the groups' lags, as soon as all groups have one and none has moved for a while, or else after four
// such whiles.
func (b *run) rested(topic string) map[int64]int64 {
	b.t.Helper()
	var last map[int64]int64
	began, since := time.Now(), time.Now()
	for ; time.Since(began) < 4*rests && (time.Since(since) < rests || len(last) < len(lags)); time.Sleep(500 * time.Millisecond) {
		now := make(map[int64]int64)
		for _, lag := range lags {
			all, err := b.to.admin.FetchOffsets(b.t.Context(), group(lag))
			if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
				b.t.Fatal(err)
			}
			if o, ok := all.Lookup(topic, 0); ok && o.At >= 0 {
				now[lag] = o.At
			}
		}
		if !maps.Equal(now, last) {
			last, since = now, time.Now()
		}
	}
	b.t.Logf("%s: %v after %s", topic, slices.Sorted(maps.Values(last)), time.Since(began).Round(time.Second))
	return last
}
