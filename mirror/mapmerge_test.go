package mirror

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-project/isthmus/broker/batch"
)

func chunkOf(writer string, first int64, bytes int) durableChunk {
	return durableChunk{writer: writer, first: first, value: make([]byte, bytes)}
}

func TestMergePlan(t *testing.T) {
	many := func(n, bytes int) (out []durableChunk) {
		for i := range n {
			out = append(out, chunkOf("a", int64(n-i), bytes))
		}
		return out
	}
	for _, tc := range []struct {
		name   string
		chunks []durableChunk
		want   []int // sizes of the groups
	}{
		{"nothing", nil, nil},
		{"too few", many(mergeFan-1, 1000), nil},
		{"small ones", many(mergeFan, 1000), []int{mergeFan}},
		{"of two sizes, too few of each", slices.Concat(many(mergeFan-1, 1000), many(mergeFan-1, 9000)), nil},
		{"of two sizes", slices.Concat(many(mergeFan, 1000), many(mergeFan+1, 9000)), []int{mergeFan, mergeFan + 1}},
		{"very many", many(600, 1000), []int{262, 262, 76}},
		{"large ones in twos", many(mergeFan, 100<<10), []int{2, 2, 2, 2}},
		{"full ones", many(20, 200<<10), nil},
		{"larger than full", many(20, 300<<10), nil},
	} {
		var got []int
		for _, g := range mergePlan(tc.chunks) {
			got = append(got, len(g))
			if !slices.IsSortedFunc(g, func(a, b durableChunk) int { return int(a.first - b.first) }) {
				t.Errorf("%s: a group is not in the source's order", tc.name)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: groups of %v, want %v", tc.name, got, tc.want)
		}
	}
}

// Whatever is written for however long, a map is few chunks, and each run is written a few times.
func TestMergePlan_KeepsAMapInFewChunks(t *testing.T) {
	var chunks []durableChunk
	written, total, most := 0, 0, 0
	for i := range 5000 {
		chunks, total = append(chunks, chunkOf("a", int64(i), 1200)), total+1200
		for _, g := range mergePlan(chunks) {
			bytes := 0
			for _, c := range g {
				bytes += len(c.value)
			}
			chunks = slices.DeleteFunc(chunks, func(c durableChunk) bool {
				return slices.ContainsFunc(g, func(o durableChunk) bool { return o.first == c.first && len(o.value) == len(c.value) })
			})
			chunks, written = append(chunks, chunkOf("a", g[0].first, bytes)), written+bytes
		}
		most = max(most, len(chunks)-total/(mergeMost/2))
	}
	t.Logf("%d chunks of %d kB, %.1f times written, at most %d not full", len(chunks), total>>10, float64(written)/float64(total), most)
	if most > 4*mergeFan || written > 5*total {
		t.Errorf("%d chunks that are not full, %.1f times written", most, float64(written)/float64(total))
	}
}

// Who is read between the writing of a merged chunk and the deletion of those in it reads the same, and so does who reads any of them twice.
func TestMapOf_MergedAndNotYetDeletedSaysTheSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var parts []durableChunk
	var whole OffsetMap
	for _, r := range transactional(4000, false) {
		whole.Add(r)
	}
	for _, c := range cutUp(mapChunk{Pump: somePump, Runs: whole.list()}) {
		parts = append(parts, durableChunk{value: c.encode()})
	}
	merged, err := mapOf(parts[1:6], nil)
	if err != nil {
		t.Fatal(err)
	}
	into := durableChunk{value: encodeRuns(merged.Len(), merged.all())}
	for name, have := range map[string][]durableChunk{"before": parts, "between": append(slices.Clone(parts), into), "some deleted": append(slices.Clone(parts[3:]), into, parts[0]),
		"after": append(slices.Clone(parts[6:]), into, parts[0]), "twice": append(slices.Clone(parts), into, into)} {
		rng.Shuffle(len(have), func(i, j int) { have[i], have[j] = have[j], have[i] })
		got, err := mapOf(have, nil)
		if err != nil || !slices.Equal(got.list(), whole.list()) || got.unordered {
			t.Errorf("%s: %d runs, %v, want %d", name, got.Len(), err, whole.Len())
		}
	}
}

func TestSettled_TakesTenMinutes(t *testing.T) {
	var s settled
	began := time.Unix(1000, 0)
	read := func(n int64) [statePartitions]int64 { return [statePartitions]int64{n} }
	for _, step := range []struct {
		after time.Duration
		read  int64
		want  int64 // what is before it is settled
	}{{0, 10, 0}, {5 * time.Minute, 20, 0}, {9 * time.Minute, 30, 0}, {settledAfter, 40, 10}, {settledAfter + time.Second, 50, 10}, {3 * settledAfter, 60, 40}} {
		s.mark(read(step.read), began.Add(step.after))
		if got := s.before(0); got != step.want {
			t.Errorf("after %v records before %d are settled, want %d", step.after, got, step.want)
		}
	}
}

// Only what nobody writes any more is merged or deleted: not the open chunk, and not what another writer may be writing.
func TestStore_FinishedChunks(t *testing.T) {
	s := memoryStore()
	for i, c := range []mapChunk{{Writer: "a", First: 0}, {Writer: "a", First: 50}, {Writer: "a", First: 70}, {Writer: "b", First: 10}, {Writer: "b", First: 60}} {
		c.Pump, c.Runs = somePump, []Run{run(c.First, c.First, 5)}
		s.take(topicMap, recordOf(int64(100+i), c.key(), c.encode()))
	}
	got, _ := s.finished(somePump, "a", 50, 104)
	var names []string
	for _, c := range got {
		names = append(names, c.writer+string(rune('0'+c.first/10)))
	}
	if slices.Sort(names); !slices.Equal(names, []string{"a0", "b1"}) {
		t.Errorf("finished are %v, want the first of each", names)
	}
}

// The key of a merged chunk is never that of one which is not in it.
func TestStore_NoteChunkTakesNoOthersKey(t *testing.T) {
	s := memoryStore()
	c := mapChunk{Pump: somePump, Writer: "a", First: 5, Runs: []Run{run(5, 5, 5)}}
	s.take(topicMap, recordOf(7, c.key(), c.encode()))
	is := durableChunk{writer: "a", first: 5, offset: 7}
	for _, tc := range []struct {
		first int64
		of    []durableChunk
		want  bool
	}{{5, []durableChunk{is}, true}, {5, []durableChunk{{writer: "b", first: 5, offset: 6}}, false}, {5, []durableChunk{{writer: "a", first: 5, offset: 6}}, false}, {9, nil, true}} {
		n := durableChunk{writer: "a", first: tc.first}
		if got := s.noteChunk(somePump, string(chunkKey(somePump, "a", tc.first)), n, tc.of); got != tc.want {
			t.Errorf("at %d of %v: %v, want %v", tc.first, tc.of, got, tc.want)
		}
	}
}

func TestDurableChunk_GoneBefore(t *testing.T) {
	c := durableChunk{value: mapChunk{Runs: []Run{run(0, 100, 5), run(6, 105, 5)}}.encode()}
	for _, tc := range []struct {
		source, target int64
		want           bool
	}{{11, 110, true}, {10, 110, false}, {11, 109, false}, {0, 0, false}, {50, 500, true}} {
		if got := c.goneBefore(tc.source, tc.target, nil); got != tc.want {
			t.Errorf("before %d and %d: %v, want %v", tc.source, tc.target, got, tc.want)
		}
	}
	if (durableChunk{value: c.value[:len(c.value)-1]}).goneBefore(50, 500, nil) {
		t.Error("what cannot be read is called gone")
	}
}

// A chunk that cannot be read is named, and is its own pump's trouble: the others' maps are whole, and of its own what can be read is there.
func TestStore_ChunkThatCannotBeReadIsNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func([]byte) []byte
		also  error
	}{
		"cut short":            {func(b []byte) []byte { return b[:len(b)-1] }, errShortState},
		"nothing":              {func(b []byte) []byte { return []byte{} }, errShortState},
		"of a newer release":   {func(b []byte) []byte { return append([]byte{mapVersion + 1}, b[1:]...) }, ErrNewerFormat},
		"too long":             {func(b []byte) []byte { return append(b, 0) }, ErrMap},
		"with an unknown flag": {func(b []byte) []byte { b[len(b)-1] = 0xff; return b }, ErrMap},
	} {
		t.Run(name, func(t *testing.T) {
			s := memoryStore(Checkpoint{Pump: somePump, SourceNext: 50, Writer: "n/1"})
			good := mapChunk{Pump: somePump, Writer: "n/1", First: 0, Runs: []Run{run(0, 0, 5)}}
			bad := mapChunk{Pump: somePump, Writer: "n/2", First: 6, Runs: []Run{run(6, 5, 5), run(20, 10, 5)}}
			other := good
			other.Pump.Partition++
			s.take(topicMap, recordOf(1, good.key(), good.encode()))
			s.take(topicMap, batch.Record{Offset: 2, Key: bad.key(), Value: tc.spoil(bad.encode())})
			s.take(topicMap, recordOf(3, other.key(), other.encode()))
			m, err := s.offsets(somePump)
			if !errors.Is(err, ErrMap) || !errors.Is(err, tc.also) || !strings.Contains(err.Error(), "chunk by n/2 at source offset 6") || !strings.Contains(err.Error(), somePump.String()) {
				t.Errorf("the error is %v", err)
			}
			if at, ok := m.Forward(3); !ok || at != 3 {
				t.Errorf("of what can be read offset 3 is at %d %v", at, ok)
			}
			if m, err := s.offsets(other.Pump); err != nil || m.Len() != 1 {
				t.Errorf("another pump has %d runs, %v", m.Len(), err)
			}
			if _, ok, err := s.durable(somePump); ok || !errors.Is(err, ErrMap) {
				t.Errorf("a pump that is elsewhere is translated by half a map: %v", err)
			}
		})
	}
}

// A map chunk as nodes wrote it before is read for ever.
func TestMapChunk_OldFormatIsRead(t *testing.T) {
	const old = "\x01\x02\x04eu\x06\x00\x14\x0a\x0e\x00\x00\x00\x0c\x02\x04\x00\x00"
	want := []Run{{10, 5, 7, "eu", 0, 0}, {23, 13, 2, "eu", 0, 7}}
	c, err := decodeMapChunk(somePump, "a", []byte("\x01\x02\x04eu\x04\x00\x14\x0a\x0e\x00\x00\x00\x0c\x02\x04\x00\x00"))
	if err != nil || !slices.Equal(c.Runs, want) {
		t.Errorf("%+v, %v, want %+v", c.Runs, err, want)
	}
	if _, err := decodeMapChunk(somePump, "a", []byte(old)); err == nil { // says that it has three
		t.Error("a chunk that is cut short is read")
	}
	if got := (mapChunk{Runs: want}).encodeOld(); string(got) != "\x01\x02\x04eu\x04\x00\x14\x0a\x0e\x00\x00\x00\x0c\x02\x04\x00\x00" {
		t.Errorf("for older nodes it is %q", got)
	}
}

// A pump that was moved far back writes all it knows from there on, in chunks of a bounded size with keys of their own.
func TestCutUp(t *testing.T) {
	var runs []Run
	for i := range int64(3 * chunkRuns) {
		runs = append(runs, run(i/3*10, 1000*(i%3)+i, 1)) // three copies of each
	}
	keys := make(map[string]bool)
	var got []Run
	for _, c := range cutUp(mapChunk{Pump: somePump, Writer: "a", First: 0, Runs: runs}) {
		keys[string(c.key())] = true
		if got = append(got, c.Runs...); len(c.Runs) > chunkRuns+2 {
			t.Errorf("a chunk of %d runs", len(c.Runs))
		}
	}
	if len(keys) != 3 || !slices.Equal(got, runs) {
		t.Errorf("%d keys with %d runs, want 3 with all %d", len(keys), len(got), len(runs))
	}
}

// A map is trimmed by the starts of the very logs that it is of, and keeps its newest runs.
func TestPump_TrimsOnlyWhatNeitherLogKeeps(t *testing.T) {
	source, target, other := [16]byte{1}, [16]byte{2}, [16]byte{3}
	const all = 10 * blockRuns
	for _, tc := range []struct {
		name           string
		starts         logStarts
		source, target [16]byte
		left           int
	}{
		{"both begin behind half of it", logStarts{source: all, target: all / 2}, source, target, all / 2},
		{"the source keeps it", logStarts{source: 0, target: all / 2}, source, target, all},
		{"the target keeps it", logStarts{source: all, target: 0}, source, target, all},
		{"the target keeps more", logStarts{source: all, target: all / 4}, source, target, all - all/4},
		{"another source topic", logStarts{source: all, target: all / 2}, other, target, all},
		{"another target topic", logStarts{source: all, target: all / 2}, source, other, all},
		{"a cluster without topic ids", logStarts{source: all, target: all / 2}, [16]byte{}, target, all},
		{"all is gone", logStarts{source: 3 * all, target: all}, source, target, 2 * blockRuns},
	} {
		b := newBench(t)
		p := b.pump
		p.acked.SourceTopicID, p.acked.TargetTopicID = source, target
		for i := range int64(all) {
			p.offsets.Add(run(2*i, i, 1))
		}
		p.trim(tc.starts, tc.source, tc.target)
		if p.offsets.Len() != tc.left {
			t.Errorf("%s: %d runs are left, want %d", tc.name, p.offsets.Len(), tc.left)
		}
	}
}

// A pump that is moved while its progress is being written writes the map again from where it was moved to.
func TestPump_OutcomeOfAnEarlierChunkMovesNothing(t *testing.T) {
	b := newBench(t)
	p := b.pump
	for i := range int64(2 * chunkRuns) {
		p.offsets.Add(run(2*i, i, 1))
	}
	p.chunk, p.dirty = 10, true
	g, ok := p.progress()
	if !ok || len(g.chunks) != 2 {
		t.Fatalf("%d chunks", len(g.chunks))
	}
	p.chunk = 4 // as an anchor does
	if p.stored(g, nil); p.chunk != 4 {
		t.Errorf("the open chunk begins at %d, want 4", p.chunk)
	}
	p.dirty = true
	g, _ = p.progress()
	if p.stored(g, nil); p.chunk != g.chunks[1].First || p.closed != 1 {
		t.Errorf("the open chunk begins at %d behind %d closed ones, want %d behind 1", p.chunk, p.closed, g.chunks[1].First)
	}
}
