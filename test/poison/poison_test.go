package poison

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/isthmus-project/isthmus/broker/batch"
	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/fabric"
)

// kind is one way in which records cannot be copied. The batch with source offsets 20 to 29 of partition 0 is the bad one.
type kind struct {
	name   string
	cause  mirror.Cause
	bad    []int64 // source offsets; the others of the batch are copied
	known  bool    // the number of records is known
	spoil  func(records []*kgo.Record)
	serve  func(batch []byte)
	refuse func(records []batch.Record) *kerr.Error
	source map[string]string // settings of the topic
	target map[string]string
	cure   func(s *site)
}

func all() (out []int64) {
	for at := int64(20); at < 30; at++ {
		out = append(out, at)
	}
	return out
}

func setCRC(b []byte) {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
}

func honest(s *site) {
	s.forgers["eu"].set(func(f *forger) { f.serve = nil })
	s.forgers["us"].set(func(f *forger) { f.refuse = nil })
}

var hour = fmt.Sprint(time.Hour.Milliseconds())

var kinds = []kind{
	{name: "checksum", cause: mirror.CausePoison, bad: all(), known: true, serve: func(b []byte) { b[len(b)-1] ^= 1 }, cure: honest},
	{name: "negative length", cause: mirror.CausePoison, bad: all(), serve: func(b []byte) { binary.BigEndian.PutUint32(b[8:], 1<<32-5) }, cure: honest},
	{name: "length beyond the answer", cause: mirror.CausePoison, bad: all(), serve: func(b []byte) { binary.BigEndian.PutUint32(b[8:], 1<<31-100) }, cure: honest},
	{name: "length too short", cause: mirror.CausePoison, bad: all(), known: true, serve: func(b []byte) { binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12-20)) }, cure: honest},
	{name: "magic", cause: mirror.CausePoison, bad: all(), serve: func(b []byte) { b[16] = 7 }, cure: honest},
	{name: "codec", cause: mirror.CausePoison, bad: all(), known: true, serve: func(b []byte) { b[22] |= 7; setCRC(b) }, cure: honest},
	{name: "bomb", cause: mirror.CausePoison, bad: all(), known: true, target: map[string]string{"max.message.bytes": "100000"},
		spoil: func(records []*kgo.Record) {
			for _, r := range records {
				r.Value = make([]byte, 400<<10)
			}
		}, cure: func(s *site) { s.alter("us", "max.message.bytes", "2000000") }},
	{name: "null key", cause: mirror.CauseNullKey, bad: []int64{23, 27}, known: true,
		source: map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": hour}, target: map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": hour},
		spoil: func(records []*kgo.Record) { records[3].Key, records[7].Key = nil, nil },
		refuse: func(records []batch.Record) *kerr.Error {
			if slices.ContainsFunc(records, func(r batch.Record) bool { return r.Key == nil && strings.HasPrefix(string(r.Value), "value-") }) {
				return kerr.InvalidRecord
			}
			return nil
		}, cure: func(s *site) {
			s.alter("eu", "cleanup.policy", "delete")
			s.alter("us", "cleanup.policy", "delete")
			honest(s)
		}},
	{name: "too large", cause: mirror.CauseLarge, bad: []int64{24}, known: true, target: map[string]string{"max.message.bytes": "20000"},
		spoil: func(records []*kgo.Record) { records[4].Value = noise(30_000) },
		cure:  func(s *site) { s.alter("us", "max.message.bytes", "100000") }},
	{name: "refused as too large", cause: mirror.CauseLarge, bad: []int64{24}, known: true,
		spoil: func(records []*kgo.Record) { records[4].Value = noise(30_000) },
		refuse: func(records []batch.Record) *kerr.Error {
			if slices.ContainsFunc(records, func(r batch.Record) bool { return len(r.Value) > 20_000 }) {
				return kerr.RecordListTooLarge
			}
			return nil
		}, cure: honest},
	{name: "too late", cause: mirror.CauseLate, bad: []int64{20, 29}, known: true, target: map[string]string{"message.timestamp.after.max.ms": hour},
		spoil: func(records []*kgo.Record) {
			records[0].Timestamp, records[9].Timestamp = time.Now().Add(5*time.Hour), time.Now().Add(6*time.Hour)
		}, cure: func(s *site) {
			s.alter("us", "message.timestamp.after.max.ms", fmt.Sprint((10 * time.Hour).Milliseconds()))
		}},
	{name: "too early", cause: mirror.CauseEarly, bad: []int64{21, 22}, known: true, target: map[string]string{"message.timestamp.before.max.ms": hour},
		spoil: func(records []*kgo.Record) {
			records[1].Timestamp, records[2].Timestamp = time.Now().Add(-5*time.Hour), time.Now().Add(-6*time.Hour)
		},
		refuse: func(records []batch.Record) *kerr.Error {
			if slices.ContainsFunc(records, func(r batch.Record) bool { return r.Timestamp < time.Now().Add(-time.Hour).UnixMilli() }) {
				return kerr.InvalidTimestamp
			}
			return nil
		}, cure: func(s *site) {
			s.alter("us", "message.timestamp.before.max.ms", fmt.Sprint((10 * time.Hour).Milliseconds()))
			honest(s)
		}},
	{name: "refused for nobody knows what", cause: mirror.CausePoison, bad: []int64{22, 26, 27}, known: true,
		spoil: func(records []*kgo.Record) {
			for _, i := range []int{2, 6, 7} {
				records[i].Value = []byte("a schema that the target does not know")
			}
		},
		refuse: func(records []batch.Record) *kerr.Error {
			if slices.ContainsFunc(records, func(r batch.Record) bool { return strings.HasPrefix(string(r.Value), "a schema") }) {
				return kerr.InvalidRecord
			}
			return nil
		}, cure: honest},
	{name: "packed in a way that the target does not take", cause: mirror.CausePoison, bad: []int64{25}, known: true,
		spoil: func(records []*kgo.Record) { records[5].Value = []byte("packed") },
		refuse: func(records []batch.Record) *kerr.Error {
			if slices.ContainsFunc(records, func(r batch.Record) bool { return string(r.Value) == "packed" }) {
				return kerr.UnsupportedCompressionType
			}
			return nil
		}, cure: honest},
}

// noise does not get smaller by packing.
func noise(n int) []byte {
	out, x := make([]byte, n), uint64(88172645463325252)
	for i := range out {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		out[i] = byte(x)
	}
	return out
}

// begin starts a site whose partition 0 has a bad batch between good ones.
func (k kind) begin(t *testing.T, policy string) *site {
	s := newSite(t, fabric.Options{Settings: fmt.Sprintf("poison = %q", policy), Mirror: mirror.Config{DecodeBytes: 1 << 20}}, k.source, k.target)
	bad := batchOf(20, 10)
	if k.spoil != nil {
		k.spoil(bad)
	}
	s.produce(0, batchOf(0, 10), batchOf(10, 10), bad, batchOf(30, 10))
	s.produce(1, batchOf(1000, 10))
	if k.serve != nil {
		s.forgers["eu"].set(func(f *forger) { f.serve = damage(0, 20, k.serve) })
	}
	if k.refuse != nil {
		s.forgers["us"].set(func(f *forger) {
			f.refuse = func(partition int32, raw []byte) int16 {
				records, err := batch.Decode(raw, 64<<20)
				if err != nil || partition != 0 {
					return 0
				}
				if refused := k.refuse(records); refused != nil {
					return refused.Code
				}
				return 0
			}
		})
	}
	s.start()
	return s
}

// check compares both ends: the target has the source's records in their order but for those that were left out.
func (s *site) check(out []int64) {
	s.t.Helper()
	for partition := range int32(2) {
		source, target := s.read("eu", topic, partition), s.read("us", topic, partition)
		if partition == 0 {
			kept := source[:0]
			for _, r := range source {
				if !slices.Contains(out, r.Offset) {
					kept = append(kept, r)
				}
			}
			source = kept
		}
		if len(source) != len(target) {
			s.t.Errorf("partition %d: %d records on the target, want %d", partition, len(target), len(source))
			continue
		}
		for i, want := range source {
			if got := target[i]; string(got.Value) != string(want.Value) || string(got.Key) != string(want.Key) || got.Timestamp != want.Timestamp {
				s.t.Errorf("partition %d: at target offset %d is %.20q of time %d, want %.20q of source offset %d and time %d", partition, got.Offset, got.Value, got.Timestamp, want.Value, want.Offset, want.Timestamp)
				break
			}
		}
	}
}

// offsets lists what entries of the ledger are about, and compares their counts.
func (k kind) entries(s *site, reason mirror.Reason, policy string) (out []int64) {
	s.t.Helper()
	for _, e := range s.ledger() {
		if e.Reason != reason || e.Policy != policy || len(e.Digest) != 64 || !strings.HasPrefix(e.Detail, string(k.cause)+": ") || e.Pump.Partition != 0 {
			s.t.Errorf("entry %+v: want reason %s by policy %s, a digest, and cause %s", e, reason, policy, k.cause)
		}
		if n := e.Last - e.First + 1; e.Records != n && (k.known || e.Records != -1) {
			s.t.Errorf("entry %+v: want %d records", e, n)
		}
		for at := e.First; at <= e.Last; at++ {
			out = append(out, at)
		}
	}
	slices.Sort(out)
	return out
}

// TestPoison_EveryKindByEveryPolicy: what cannot be copied is halted before, put aside or left out; its neighbours in the batch, behind it
// and in other partitions are copied.
func TestPoison_EveryKindByEveryPolicy(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Run("halt", func(t *testing.T) { synctest.Test(t, k.halts) })
			t.Run("dead-letter", func(t *testing.T) { synctest.Test(t, k.isPutAside) })
			t.Run("skip", func(t *testing.T) { synctest.Test(t, k.isSkipped) })
		})
	}
}

func (k kind) halts(t *testing.T) {
	s := k.begin(t, "halt")
	defer s.stop()
	s.until("halted", 15*time.Second, func() bool { p := s.pump(0); return p.State == mirror.StateHalted && p.Cause == k.cause })
	s.until("the neighbour copied", 15*time.Second, s.copied(1, 10))
	p := s.pump(0)
	if p.SourceNext < 20 || p.SourceNext > k.bad[0] || !strings.Contains(p.Reason, fmt.Sprint(k.bad[0])) && !strings.Contains(p.Reason, "20") {
		t.Errorf("halted at source offset %d (%s), want before %d, and it named", p.SourceNext, p.Reason, k.bad[0])
	}
	time.Sleep(time.Minute)
	if n := len(s.read("us", topic, 0)); int64(n) != s.pump(0).SourceNext || len(s.ledger()) > 0 {
		t.Errorf("%d records on the target, ledger %+v; want what is before the bad ones, and no entry", n, s.ledger())
	}
	k.cure(s)
	s.until("going on by itself", 20*time.Second, s.copied(0, 40))
	s.check(nil)
	if l := s.ledger(); len(l) > 0 {
		t.Errorf("the ledger has %+v though everything was copied", l)
	}
}

func (k kind) isPutAside(t *testing.T) {
	s := k.begin(t, "dead-letter")
	defer s.stop()
	s.until("going on", time.Minute, s.copied(0, 40))
	s.check(k.bad)
	if got := k.entries(s, mirror.ReasonDeadLetter, "dead-letter"); !slices.Equal(got, k.bad) {
		t.Errorf("the ledger is about source offsets %v, want %v", got, k.bad)
	}
	var got []int64
	for _, d := range s.letters() {
		for at := d.First; at <= d.Last; at++ {
			got = append(got, at)
		}
		if d.Cause != string(k.cause) || d.Pump.From != "eu" || d.Pump.Topic != topic || d.Pump.Partition != 0 || d.Detail == "" || d.Writer == "" || d.At.IsZero() {
			t.Errorf("letter %+v: want all of where it comes from and why", d)
		}
		if d.Kind != "record" {
			continue
		}
		records, err := batch.Decode(d.Raw, 1<<20)
		source := s.read("eu", topic, 0)
		if err != nil || len(records) != 1 || records[0].Offset != d.First || string(records[0].Value) != string(source[d.First].Value) {
			t.Errorf("letter of source offset %d holds %d records, %v; want that record", d.First, len(records), err)
		}
	}
	if !slices.Equal(got, k.bad) {
		t.Errorf("the letters hold source offsets %v, want %v", got, k.bad)
	}
	// Another process, from the last checkpoint, knows the same place.
	s.kill()
	s.produce(0, batchOf(40, 10))
	s.start()
	s.until("going on after a restart", time.Minute, s.copied(0, 50))
	s.check(k.bad)
}

func (k kind) isSkipped(t *testing.T) {
	s := k.begin(t, "skip")
	defer s.stop()
	s.until("going on", time.Minute, s.copied(0, 40))
	s.check(k.bad)
	if got := k.entries(s, mirror.ReasonSkipped, "skip"); !slices.Equal(got, k.bad) {
		t.Errorf("the ledger is about source offsets %v, want %v", got, k.bad)
	}
}
