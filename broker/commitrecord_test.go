package broker

import (
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/batch"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the classes of Kafka 4.3's group-coordinator write for group "g-ü" or "grp", topic orders:7, offset 1234567890123.
const (
	keyOfCommit = "00010004672dc3bc00066f726465727300000007"
	keyOfLegacy = "000000016700066f726465727300000007"
	valueOf0    = "00000000011f71fb04cb00046d6574610000018bcfe56800"
	valueOf1    = "00010000011f71fb04cb00046d6574610000018bcfe568000000018bcfe58f0f"
	valueOf2    = "00020000011f71fb04cb00046d6574610000018bcfe56800"
	valueOf3    = "00030000011f71fb04cb0000000500046d6574610000018bcfe56800"
	valueOf4    = "00040000011f71fb04cb00000005056d6574610000018bcfe568000100100102030405060708090a0b0c0d0e0f10"
	valuePlain4 = "00040000011f71fb04cb00000005010000018bcfe5680000"
)

func TestCommitDecoder_ReadsWhatKafkaWrites(t *testing.T) {
	want := func(group string, change func(*Commit)) Commit {
		c := Commit{Kind: Committed, Group: group, At: 9, Topic: "orders", Partition: 7, Offset: 1234567890123, LeaderEpoch: 5, Metadata: "meta", Time: 1700000000000}
		if change != nil {
			change(&c)
		}
		return c
	}
	noEpoch := func(c *Commit) { c.LeaderEpoch = -1 }
	of := func(kind CommitKind, of GroupType) Commit {
		return Commit{Kind: kind, Group: "grp", Type: of, At: 9, LeaderEpoch: -1}
	}
	unread := Commit{Kind: GroupChanged, Group: "g-ü", At: 9, LeaderEpoch: -1}
	for name, c := range map[string]struct {
		key, value string // hex; no value is a tombstone
		want       Commit
		strange    string
	}{
		"legacy":           {keyOfLegacy, valueOf0, want("g", noEpoch), ""},
		"version 0":        {keyOfCommit, valueOf0, want("g-ü", noEpoch), ""},
		"version 1":        {keyOfCommit, valueOf1, want("g-ü", noEpoch), ""},
		"version 2":        {keyOfCommit, valueOf2, want("g-ü", noEpoch), ""},
		"version 3":        {keyOfCommit, valueOf3, want("g-ü", nil), ""},
		"version 4":        {keyOfCommit, valueOf4, want("g-ü", func(c *Commit) { c.TopicID = TopicID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16} }), ""},
		"without metadata": {keyOfCommit, valuePlain4, want("g-ü", func(c *Commit) { c.Metadata = "" }), ""},
		"an unknown tag":   {keyOfCommit, valuePlain4[:len(valuePlain4)-2] + "010703aabbcc", want("g-ü", func(c *Commit) { c.Metadata = "" }), ""},
		"tombstone":        {keyOfCommit, "", Commit{Kind: Uncommitted, Group: "g-ü", At: 9, Topic: "orders", Partition: 7, LeaderEpoch: -1}, ""},

		"classic group":            {"00020003677270", "0003", of(GroupChanged, GroupClassic), ""},
		"classic group ends":       {"00020003677270", "", of(GroupEnded, GroupClassic), ""},
		"consumer group":           {"00030003677270", "0000", of(GroupChanged, GroupConsumer), ""},
		"consumer group ends":      {"00030003677270", "", of(GroupEnded, GroupConsumer), ""},
		"its partitions":           {"00040003677270", "", of(GroupChanged, GroupConsumer), ""},
		"its member":               {"0005000367727000036d656d", "0000", of(GroupChanged, GroupConsumer), ""},
		"its member leaves":        {"0005000367727000036d656d", "", of(GroupChanged, GroupConsumer), ""},
		"its pattern":              {"001000036772700003612e2a", "0000", of(GroupChanged, GroupConsumer), ""},
		"share group's member":     {"000a000367727000036d656d", "0000", of(GroupChanged, GroupShare), ""},
		"share group ends":         {"000b0003677270", "", of(GroupEnded, GroupShare), ""},
		"share group's partitions": {"000f0003677270", "0000", of(GroupChanged, GroupShare), ""},
		"streams group ends":       {"00110003677270", "", of(GroupEnded, GroupStreams), ""},
		"its topology":             {"00170003677270", "0000", of(GroupChanged, GroupStreams), ""},
		"its topic ids":            {"00180003677270", "0000", of(GroupChanged, GroupStreams), ""},

		"a later value":           {keyOfCommit, "0005" + valuePlain4[4:], unread, "offset value version 5"},
		"a value without version": {keyOfCommit, "00", unread, "offset value version -1"},
		"a value cut short":       {keyOfCommit, valueOf3[:30], unread, "a broken offset value of version 3"},
		"a value too long":        {keyOfCommit, valueOf3 + "00", unread, "a broken offset value of version 3"},
		"tags without end":        {keyOfCommit, valuePlain4[:len(valuePlain4)-2] + "ffffffff0f", unread, "a broken offset value of version 4"},
		"a later key":             {"00190003677270", "0000", Commit{}, "key type 25"},
		"a key before all":        {"ffff0003677270", "0000", Commit{}, "key type -1"},
		"no key":                  {"", "0000", Commit{}, "a key without a type"},
		"a key cut short":         {keyOfCommit[:20], valueOf3, Commit{}, "a broken key of type 1"},
		"a key too long":          {keyOfCommit + "00", valueOf3, Commit{}, "a broken key of type 1"},
		"a group cut short":       {"000300096772", "0000", Commit{}, "a broken key of type 3"},
	} {
		rec := batch.Record{Offset: 9, Key: unhex(t, c.key)}
		if c.value != "" {
			rec.Value = unhex(t, c.value)
		}
		got, strange, ok := newCommitDecoder().decode(&rec)
		if got != c.want || strange != c.strange || ok != (c.want.Kind != 0) {
			t.Errorf("%s: %+v, %q, %v\nwant %+v, %q", name, got, strange, ok, c.want, c.strange)
		}
	}
}

// Names are kept once, and not without bound.
func TestCommitDecoder_KeepsNamesBounded(t *testing.T) {
	d := newCommitDecoder()
	for i := range 2 * maxNames {
		rec := batch.Record{Key: (&kmsg.GroupMetadataKey{Version: 2, Group: fmt.Sprint("group", i)}).AppendTo(nil)}
		if c, _, ok := d.decode(&rec); !ok || c.Group != fmt.Sprint("group", i) || len(d.names) > maxNames {
			t.Fatalf("%+v of group %d, %d names", c, i, len(d.names))
		}
	}
}

// FuzzCommitDecoder: no record makes the decoder panic, and what kmsg reads, too, is the same.
func FuzzCommitDecoder(f *testing.F) {
	for _, key := range []string{keyOfCommit, keyOfLegacy, "00020003677270", "0005000367727000036d656d", "00190003677270"} {
		for _, value := range []string{valueOf0, valueOf1, valueOf2, valueOf3, valueOf4, valuePlain4, ""} {
			f.Add(unhex(f, key), unhex(f, value), value == "")
		}
	}
	f.Fuzz(func(t *testing.T, key, value []byte, tombstone bool) {
		rec := batch.Record{Offset: 3, Key: key, Value: append([]byte{}, value...)}
		if tombstone {
			rec.Value = nil
		}
		c, strange, ok := newCommitDecoder().decode(&rec)
		if ok != (c.Kind != 0) || !ok && strange == "" || ok && c.At != 3 {
			t.Fatalf("%+v, %q, %v", c, strange, ok)
		}
		k, v := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
		if c.Kind != Committed {
			return
		}
		if err := k.ReadFrom(key); err != nil || k.Group != c.Group || k.Topic != c.Topic || k.Partition != c.Partition {
			t.Fatalf("%+v, kmsg: %+v, %v", c, k, err)
		}
		if err := v.ReadFrom(value); err != nil {
			return // tags: a topic id that is longer, which may be so one day
		}
		if v.Version < 3 {
			v.LeaderEpoch = -1
		}
		if v.Offset != c.Offset || v.LeaderEpoch != c.LeaderEpoch || v.Metadata != c.Metadata || v.CommitTimestamp != c.Time || v.Version == 4 && v.TopicID != c.TopicID {
			t.Fatalf("%+v, kmsg: %+v", c, v)
		}
	})
}

// commitBatch is a batch as a coordinator writes it for one request of a group that reads so many partitions.
func commitBatch(t testing.TB, group string, partitions int) []byte {
	t.Helper()
	recs := make([]batch.Record, partitions)
	for i := range recs {
		key := kmsg.OffsetCommitKey{Version: 1, Group: group, Topic: "orders", Partition: int32(i)}
		value := kmsg.OffsetCommitValue{Version: 3, Offset: int64(i), LeaderEpoch: 1, CommitTimestamp: 1_000_000}
		recs[i] = batch.Record{Timestamp: 1_000_000, Key: key.AppendTo(nil), Value: value.AppendTo(nil)}
	}
	b, err := batch.Encode(nil, recs, 0, batch.Stamp{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// BenchmarkCommitWalk reads what groups with 50 partitions each commit; an operation is one commit of one group.
func BenchmarkCommitWalk(b *testing.B) {
	const partitions, groups = 50, 100
	var raw []byte
	for g := range groups {
		raw = append(raw, stamped(commitBatch(b, fmt.Sprint("group-", g), partitions), int64(g*partitions), -1, false)...)
	}
	w := commitWalk{decoder: newCommitDecoder(), skip: -1, strange: func(what string) { b.Fatal(what) }}
	f := &Fetched{Batches: raw}
	b.SetBytes(int64(len(raw) / groups))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n%groups == 0 {
			w.next = 0
			told := 0
			if err := w.over(f, func(some []Commit) error { told += len(some); return nil }); err != nil || told != partitions*groups {
				b.Fatal(told, err)
			}
		}
		n++
	}
}
