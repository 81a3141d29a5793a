package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

// stamped is a batch of n records of an idempotent producer.
func stamped(t testing.TB, id int64, epoch int16, sequence int32, n int) []byte {
	t.Helper()
	raw := goodBatch(t, n, batch.None)
	batch.Patch(raw, batch.Stamp{ProducerID: id, Epoch: epoch, Sequence: sequence})
	return raw
}

// put produces one batch into orders 0 and returns its code and base offset.
func put(t testing.TB, addr string, raw []byte) (int16, int64) {
	t.Helper()
	resp := answer[*kmsg.ProduceResponse](dial(t, addr), produce("orders", 9, raw))
	p := resp.Topics[0].Partitions[0]
	return p.ErrorCode, p.BaseOffset
}

// TestRepair_RemembersSequences: after a stop without warning a repeated batch
// is still a repetition, the next one is still the next, and a gap a gap.
func TestRepair_RemembersSequences(t *testing.T) {
	const id = 1<<62 + 5 // never asked of the cluster, as a mirror's
	for name, orderly := range map[string]bool{"orderly": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := Config{Dir: dir, Topics: []Topic{{"orders", 1}}}
			sequence := int32(0)
			for round := range 4 {
				c, stop := start(t, cfg)
				for i := range int32(7) {
					if code, _ := put(t, c.Addr(), stamped(t, id, 3, sequence+i*10, 10)); code != 0 {
						t.Fatalf("round %d: batch %d: code %d", round, i, code)
					}
				}
				sequence += 70
				stop()
				if !orderly {
					if err := os.Remove(filepath.Join(dir, cleanFile)); err != nil {
						t.Fatal(err)
					}
					if round > 0 { // an old file, as of the last orderly stop
						if err := os.Rename(filepath.Join(dir, "old"), filepath.Join(dir, windowsFile)); err != nil {
							t.Fatal(err)
						}
					}
					raw, err := os.ReadFile(filepath.Join(dir, windowsFile))
					if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "old"), raw, 0o644), os.Remove(filepath.Join(dir, pidsLog))); err != nil {
						t.Fatal(err)
					}
				}
				c, stop = start(t, cfg)
				if code, at := put(t, c.Addr(), stamped(t, id, 3, sequence-20, 10)); code != 0 || at != int64(sequence-20) {
					t.Errorf("round %d: repeated batch: code %d, offset %d, want offset %d", round, code, at, sequence-20)
				}
				if code, _ := put(t, c.Addr(), stamped(t, id, 3, sequence+10, 10)); code != kerr.OutOfOrderSequenceNumber.Code {
					t.Errorf("round %d: batch after a gap: code %d", round, code)
				}
				if code, _ := put(t, c.Addr(), stamped(t, id, 2, sequence, 10)); code != kerr.InvalidProducerEpoch.Code {
					t.Errorf("round %d: batch of an older epoch: code %d", round, code)
				}
				stop()
			}
		})
	}
}

// TestRepair_CutsTornTails: what is written behind a torn entry must still be
// there at the start after next.
func TestRepair_CutsTornTails(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Topics: []Topic{{"orders", 1}}}
	for round := range int64(4) {
		c, stop := start(t, cfg)
		cl := client(t, c.Addr(), kgo.DefaultProduceTopic("orders"))
		ctx := within(t, 20*time.Second)
		adm := kadm.NewClient(cl)
		if round > 0 {
			got, err := adm.FetchOffsets(ctx, "g")
			if o, _ := got.Lookup("orders", 0); err != nil || o.At != round {
				t.Errorf("round %d: committed offset is %d (%v)", round, o.At, err)
			}
		}
		if err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(round))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		var o kadm.Offsets
		o.AddOffset("orders", 0, round+1, -1)
		if err := adm.CommitAllOffsets(ctx, "g", o); err != nil {
			t.Fatal(err)
		}
		for i, r := range readAll(t, c.Addr(), "orders", int(round)+1) {
			if r.Offset != int64(i) || string(r.Value) != fmt.Sprint(i) {
				t.Errorf("round %d: record %d is %q at %d", round, i, r.Value, r.Offset)
			}
		}
		stop()
		segment := filepath.Join(partitionDir(dir, "orders", 0), "0.dat")
		index := filepath.Join(partitionDir(dir, "orders", 0), "0.idx")
		torn := stamped(t, 7, 0, 0, 1)
		err := errors.Join(os.Remove(filepath.Join(dir, cleanFile)),
			appendFile(filepath.Join(dir, groupsLog), []byte{40, 0, 0, 0, 1, 2, 3, 4, 1, 0, '{'}),
			appendFile(filepath.Join(dir, pidsLog), []byte{1, 2, 3}),
			appendFile(segment, torn[:len(torn)-1]))
		if round%2 == 0 {
			err = errors.Join(err, os.Truncate(index, 3))
		} else {
			err = errors.Join(err, appendFile(index, make([]byte, 20)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestCluster_EmptyPartitionKeepsItsEnd(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Topics: []Topic{{"orders", 1}}}
	c, stop := start(t, cfg)
	for range 5 {
		put(t, c.Addr(), goodBatch(t, 2, batch.None))
	}
	var o kadm.Offsets
	o.AddOffset("orders", 0, 10, -1)
	if _, err := kadm.NewClient(client(t, c.Addr())).DeleteRecords(within(t, 10*time.Second), o); err != nil {
		t.Fatal(err)
	}
	stop()
	for range 3 {
		_, stop = start(t, cfg)
		stop()
	}
	if err := os.Remove(filepath.Join(dir, cleanFile)); err != nil {
		t.Fatal(err)
	}
	c, stop = start(t, cfg)
	if code, at := put(t, c.Addr(), goodBatch(t, 2, batch.None)); code != 0 || at != 10 {
		t.Errorf("next batch lies at %d (code %d), want 10", at, code)
	}
	stop()
	c, _ = start(t, cfg)
	if _, at := put(t, c.Addr(), goodBatch(t, 2, batch.None)); at != 12 {
		t.Errorf("next batch lies at %d, want 12", at)
	}
}

// compacted fills a compacted topic with keys of which the last values count.
func compacted(t *testing.T, cfg Config) (want map[string]string) {
	t.Helper()
	c, stop := start(t, cfg)
	defer stop()
	cl := client(t, c.Addr(), kgo.DefaultProduceTopic("state"))
	ctx := within(t, 20*time.Second)
	policy := "compact"
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &policy}, "state"); err != nil {
		t.Fatal(err)
	}
	want = make(map[string]string)
	for i := range 50 {
		k, v := fmt.Sprint(i%7), fmt.Sprint(i)
		want[k] = v
		if err := cl.ProduceSync(ctx, kgo.KeyStringRecord(k, v)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

func latest(t *testing.T, addr string) (map[string]string, int) {
	t.Helper()
	got, n := make(map[string]string), 0
	cl := client(t, addr, kgo.ConsumeTopics("state"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	ctx := within(t, 20*time.Second)
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, "state")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("state", 0)
	for last := int64(-1); last < end.Offset-1; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { got[string(r.Key)] = string(r.Value); last = r.Offset; n++ })
	}
	return got, n
}

// TestCompact_InterruptedAnywhere stops a compaction at its worst moments.
func TestCompact_InterruptedAnywhere(t *testing.T) {
	remove := func(t *testing.T, dir string) {
		names, err := filepath.Glob(filepath.Join(dir, "*.*"))
		for _, n := range names {
			if filepath.Base(n) != keepTmp {
				err = errors.Join(err, os.Remove(n))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, p *partition){
		"before any change": func(*testing.T, *partition) {},
		"old files deleted": func(t *testing.T, p *partition) { remove(t, p.dir) },
		"new file half written": func(t *testing.T, p *partition) {
			raw, err := os.ReadFile(filepath.Join(p.dir, "0.dat"))
			remove(t, p.dir)
			if err := errors.Join(err, os.WriteFile(filepath.Join(p.dir, "0.dat"), raw[:100], 0o644)); err != nil {
				t.Fatal(err)
			}
		},
		"while the repair links": func(t *testing.T, p *partition) {
			remove(t, p.dir)
			if err := os.Link(filepath.Join(p.dir, keepDir, "0.idx"), filepath.Join(p.dir, "0.idx")); err != nil {
				t.Fatal(err)
			}
		},
		"while dropping": func(t *testing.T, p *partition) {
			if err := errors.Join(os.Rename(filepath.Join(p.dir, keepDir), filepath.Join(p.dir, dropDir)), os.Remove(filepath.Join(p.dir, dropDir, "0.dat"))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: t.TempDir()}
			want := compacted(t, cfg)
			p, err := readPartition(cfg.Dir, "state", 0)
			if err := errors.Join(err, p.keep(), os.Remove(filepath.Join(cfg.Dir, cleanFile))); err != nil {
				t.Fatal(err)
			}
			damage(t, p)
			c, _ := start(t, cfg)
			if got, _ := latest(t, c.Addr()); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("read %v, want %v", got, want)
			}
			for _, leftover := range []string{keepDir, keepTmp, dropDir} {
				if _, err := os.Stat(filepath.Join(p.dir, leftover)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left over (%v)", leftover, err)
				}
			}
		})
	}
}

// TestCompact_KeepsWhatCameAfter: the compaction was done and records followed,
// but the links were not yet dropped.
func TestCompact_KeepsWhatCameAfter(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	want := compacted(t, cfg)
	p, err := readPartition(cfg.Dir, "state", 0)
	if err := errors.Join(err, p.keep()); err != nil {
		t.Fatal(err)
	}
	// A copy in place of the linked files stands for the compacted ones.
	for _, ext := range []string{".dat", ".idx"} {
		name := filepath.Join(p.dir, "0"+ext)
		raw, err := os.ReadFile(name)
		if err := errors.Join(err, writeFileSync(name, raw)); err != nil {
			t.Fatal(err)
		}
	}
	c, stop := start(t, cfg)
	cl := client(t, c.Addr(), kgo.DefaultProduceTopic("state"))
	if err := cl.ProduceSync(within(t, 10*time.Second), kgo.KeyStringRecord("after", "1")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	want["after"] = "1"
	stop()
	if err := os.Remove(filepath.Join(cfg.Dir, cleanFile)); err != nil {
		t.Fatal(err)
	}
	c, _ = start(t, cfg)
	if got, n := latest(t, c.Addr()); fmt.Sprint(got) != fmt.Sprint(want) || n != 51 {
		t.Errorf("read %d records, %v, want %v", n, got, want)
	}
}

// TestCompact_Compacts runs it for real, under the eyes of a client.
func TestCompact_Compacts(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	want := compacted(t, cfg)
	c, err := New(Config{Name: "test", Dir: cfg.Dir, Listen: "127.0.0.1:0"}, discard())
	if err != nil {
		t.Fatal(err)
	}
	c.tidyEvery = 50 * time.Millisecond
	done := make(chan error, 1)
	go func() { done <- c.Run(t.Context()) }()
	eventually(t, func() bool {
		got, n := latest(t, c.Addr())
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("read %v, want %v", got, want)
		}
		return n < 20
	})
	c.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(filepath.Join(cfg.Dir, windowsFile)); err != nil || !bytes.Contains(raw, []byte(`"state"`)) {
		t.Errorf("the windows do not know the compacted topic (%v): %s", err, raw)
	}
}

func TestDirError_NamesAReadOnlyDisk(t *testing.T) {
	for _, cause := range []error{syscall.EROFS, os.ErrPermission} {
		err := dirError("write", "x", &os.PathError{Op: "open", Path: "x", Err: cause})
		if !isErr(err, ErrReadOnly) || !isErr(err, cause) {
			t.Errorf("%v becomes %v", cause, err)
		}
	}
	if err := dirError("write", "x", syscall.ENOSPC); isErr(err, ErrReadOnly) {
		t.Errorf("a full disk becomes %v", err)
	}
}
