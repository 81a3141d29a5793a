package bench

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-project/isthmus/broker"
	"github.com/isthmus-project/isthmus/broker/batch"
)

const (
	// groupsHead is of the section that TestGroups writes.
	groupsHead = "## Keeping groups\n"
	manyGroups = 5000
	groupParts = 50
	// groupCommits are committed a second, for so long.
	groupCommits = 100
	groupsFor    = 60 * time.Second
	// watchedOf is how many of the commits one is watched of until it is at the target.
	watchedOf = 5
)

// TestGroups measures what keeping many groups costs, and how long a commit takes to the other cluster.
func TestGroups(t *testing.T) {
	if os.Getenv("ISTHMUS_BENCH") == "" {
		t.Skip("set ISTHMUS_BENCH=1, or run make bench")
	}
	runtime.LockOSThread() // processes are killed with the thread that started them
	b := newBench(t)
	topic := "groups"
	if _, err := b.from.admin.CreateTopic(t.Context(), groupParts, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	b.writeAll(topic)
	began := time.Now()
	b.commitAll(topic)
	t.Logf("%d groups have committed after %s", manyGroups, time.Since(began))
	cmd := b.isthmusFor(topic)
	p := start(t, cmd)
	p.watch(b.to, topic, b.from.records(t, topic))
	began, used := time.Now(), p.cpu()
	for ; b.groupsAt(topic) < manyGroups; time.Sleep(200 * time.Millisecond) {
		if time.Since(began) > 5*time.Minute {
			t.Fatalf("%d of %d groups are at the target", b.groupsAt(topic), manyGroups)
		}
	}
	first, firstCPU := time.Since(began), p.cpu()-used
	time.Sleep(10 * time.Second) // what is left of the beginning
	idle := b.used(p, func() { time.Sleep(20 * time.Second) })
	text := fmt.Sprintf(`
%d groups with positions in %d partitions each, between two real clusters; the target takes all of them in %s, with %.1f s of CPU. Commits are read
from `+"`__consumer_offsets`"+`; CPU is of the whole process, in %% of a core. A commit is timed from its acknowledgement to when a client reads it at
the target, which looks every 20 ms.

| | CPU | p50 | p99 | max |
|---|--:|--:|--:|--:|
| nothing is committed | %.1f %% | | | |
`, manyGroups, groupParts, first.Round(100*time.Millisecond), firstCPU.Seconds(), idle)
	for _, parts := range []int{1, groupParts} {
		var seen []time.Duration
		load := b.used(p, func() { seen = b.committing(topic, parts) })
		slices.Sort(seen)
		at := func(q float64) time.Duration { return seen[int(q*float64(len(seen)-1))].Round(time.Millisecond) }
		text += fmt.Sprintf("| %d commits/s of %d positions | %.1f %% | %s | %s | %s |\n", groupCommits, parts, load, at(0.5), at(0.99), at(1))
	}
	t.Log("\n" + text)
	section(t, groupsHead, text)
	p.end(syscall.SIGTERM)
}

// used is the CPU that a process uses meanwhile, in % of a core.
func (b *run) used(p *process, meanwhile func()) float64 {
	began, used := time.Now(), p.cpu()
	meanwhile()
	return 100 * (p.cpu() - used).Seconds() / time.Since(began).Seconds()
}

func groupName(i int) string { return fmt.Sprintf("g%04d", i) }

// offsets are positions in the first partitions of the topic.
func offsets(topic string, parts int, at int64) kadm.Offsets {
	var o kadm.Offsets
	for p := range parts {
		o.Add(kadm.Offset{Topic: topic, Partition: int32(p), At: at, LeaderEpoch: -1})
	}
	return o
}

// writeAll writes records for the groups to stand behind.
func (b *run) writeAll(topic string) {
	b.t.Helper()
	records := make([]batch.Record, 1000)
	for i := range records {
		records[i] = batch.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, 20)}
	}
	raw, err := batch.Encode(nil, records, batch.LZ4, batch.Stamp{ProducerID: -1, Epoch: -1, Sequence: -1})
	if err != nil {
		b.t.Fatal(err)
	}
	conn, err := b.from.cluster.ProduceConn(b.t.Context(), b.from.leader(b.t, topic, groupParts))
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	for p := range int32(groupParts) {
		if err := conn.Send(b.t.Context(), []broker.ProduceBatch{{Topic: topic, Partition: p, Bytes: raw}}); err != nil {
			b.t.Fatal(err)
		}
		if results, err := conn.Recv(b.t.Context()); err != nil || results[0].Err != nil {
			b.t.Fatal(cmp.Or(err, results[0].Err))
		}
	}
}

// commitAll has all groups commit all partitions.
func (b *run) commitAll(topic string) {
	b.t.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for i := range manyGroups {
		g.Go(func() error {
			res, err := b.from.admin.CommitOffsets(b.t.Context(), groupName(i), offsets(topic, groupParts, int64(1+i%100)))
			return cmp.Or(err, res.Error())
		})
	}
	if err := g.Wait(); err != nil {
		b.t.Fatal(err)
	}
}

// groupsAt is how many groups have all of their positions at the target.
func (b *run) groupsAt(topic string) (n int) {
	b.t.Helper()
	for from := 0; from < manyGroups; from += 1000 {
		var names []string
		for i := range 1000 {
			names = append(names, groupName(from+i))
		}
		for _, g := range b.to.admin.FetchManyOffsets(b.t.Context(), names...) {
			if len(g.Fetched[topic]) == groupParts {
				n++
			}
		}
	}
	return n
}

// committing commits for a while, and returns how long the commits took that were watched.
func (b *run) committing(topic string, parts int) (seen []time.Duration) {
	b.t.Helper()
	type commit struct {
		at   int64
		when time.Time
	}
	rng := rand.New(rand.NewPCG(1, 1))
	waits := make(map[string]commit)
	turn := time.NewTicker(time.Second / groupCommits)
	defer turn.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	at := int64(200)
	for end, n := time.Now().Add(groupsFor), 0; time.Now().Before(end) || len(waits) > 0; {
		select {
		case <-turn.C:
			if !time.Now().Before(end) {
				continue
			}
			name := groupName(rng.IntN(manyGroups))
			if _, busy := waits[name]; busy {
				continue
			}
			at++
			res, err := b.from.admin.CommitOffsets(b.t.Context(), name, offsets(topic, parts, at%1000))
			if err := cmp.Or(err, res.Error()); err != nil {
				b.t.Fatal(err)
			}
			if n++; n%watchedOf == 0 {
				waits[name] = commit{at % 1000, time.Now()}
			}
		case <-look.C:
			if len(waits) == 0 {
				continue
			}
			var names []string
			for name := range waits {
				names = append(names, name)
			}
			now := b.to.admin.FetchManyOffsets(b.t.Context(), names...)
			for name, c := range waits {
				if o, ok := now[name].Fetched.Lookup(topic, int32(parts-1)); ok && o.At == c.at {
					seen = append(seen, time.Since(c.when))
					delete(waits, name)
				} else if time.Since(c.when) > time.Minute {
					b.t.Fatalf("group %s is at %+v after a minute, want %d", name, o.At, c.at)
				}
			}
		}
	}
	return seen
}
