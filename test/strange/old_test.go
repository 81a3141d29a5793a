package strange

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/mirror"
	"github.com/isthmus-project/isthmus/test/judge"
	"github.com/isthmus-project/isthmus/test/kafka"
	"github.com/isthmus-project/isthmus/test/node"
)

// TestOldFormats_AreConverted: brokers keep and serve what was written before Kafka 0.11, though none of today writes it any more. So
// the test lays a segment of it into the data of a broker that is down.
func TestOldFormats_AreConverted(t *testing.T) {
	for _, version := range node.Pick([]string{"4.3.0"}, []string{"3.9.1", "4.3.0"}) {
		t.Run(version, func(t *testing.T) {
			kafka.Require(t)
			dir := t.TempDir()
			sites := node.StartSitesWith(t, kafka.Options{Name: "eu", Version: version, Dir: dir}, kafka.Options{Name: "us"})
			g := &ground{TB: t, kind: kind{name: "old", partitions: 1}, eu: sites["eu"], us: sites["us"], topic: "s-old", log: judge.NewLog()}
			create(t, g.eu, g.topic, 1, "retention.ms=-1")
			g.eu.Server.(*kafka.Cluster).Stop(0)
			segment(t, filepath.Join(dir, "1", "data", g.topic+"-0"), oldSegment())
			g.eu.Start(0)
			node.Until(t, time.Minute, "eu has read the old segment", func(ctx context.Context) error {
				ends, err := g.eu.Ends(ctx, g.topic)
				if err == nil && ends[g.topic][0] != oldEnd {
					err = fmt.Errorf("it ends at %v", ends)
				}
				return err
			})
			g.put(nil, &kgo.Record{Value: []byte(g.uid()), Headers: []kgo.RecordHeader{{Key: "new"}}})
			topo := mirrored(t, g.eu, g.us)
			first := run(t, topo, "first", mirror.Config{CheckpointEvery: time.Hour})
			g.caughtUp(first)
			first.die()
			g.put(nil, &kgo.Record{Value: []byte(g.uid())})
			g.caughtUp(run(t, topo, "second", mirror.Config{}))
			v := g.judged()
			if got := v.Records["us"]; got != oldEnd+2 {
				t.Errorf("%d records at us, want %d", got, oldEnd+2)
			}
			times(t, g)
		})
	}
}

// oldEnd is the offset after oldSegment.
const oldEnd = 12

// oldSegment is a log of v0 and v1: single messages, and compressed ones with others within.
func oldSegment() []byte {
	var log []byte
	value := func(i int64) []byte { return fmt.Appendf(nil, "eu/old/%d of old", i) }
	for i := range int64(3) {
		log = append(log, v0(i, 0, []byte("key"), value(i))...)
	}
	log = append(log, v0(3, 0, nil, value(3))...)
	for i := int64(4); i < 6; i++ {
		log = append(log, v1(i, 0, 1000+i, nil, value(i))...)
	}
	for _, codec := range []string{"gzip", "lz4"} {
		at := int64(6)
		if codec == "lz4" {
			at = 9
		}
		var within []byte
		for i := range int64(3) {
			within = append(within, v1(i, 0, 2000+i, []byte("key"), value(at+i))...)
		}
		c, _ := kgo.DefaultCompressor(compression[codec]) // fails for unknown codecs only
		packed, number := compressed(c, within)
		log = append(log, v1(at+2, number, 2002, nil, packed)...)
	}
	return log
}

func v0(offset int64, attributes int8, key, value []byte) []byte {
	return sealed((&kmsg.MessageV0{Offset: offset, Attributes: attributes, Key: key, Value: value}).AppendTo(nil))
}

func v1(offset int64, attributes int8, ms int64, key, value []byte) []byte {
	return sealed((&kmsg.MessageV1{Offset: offset, Magic: 1, Attributes: attributes, Timestamp: ms, Key: key, Value: value}).AppendTo(nil))
}

// sealed fills in size and checksum.
func sealed(raw []byte) []byte {
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[12:], crc32.ChecksumIEEE(raw[16:]))
	return raw
}

// segment makes raw the whole log of a partition whose broker is down: it will look at the log as after a crash.
func segment(t *testing.T, dir string, raw []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no partition in %s: %v", dir, err)
	}
	for _, f := range files {
		if filepath.Base(f) == "partition.metadata" {
			continue
		}
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000000.log"), raw, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(dir), ".kafka_cleanshutdown")); err != nil {
		t.Fatal(err)
	}
}

// times wants those of v1, and none for v0.
func times(t *testing.T, g *ground) {
	t.Helper()
	var got []int64
	if err := each(t.Context(), g.us, g.topic, func(r *kgo.Record) { got = append(got, r.Timestamp.UnixMilli()) }); err != nil {
		t.Fatal(err)
	}
	want := []int64{-1, -1, -1, -1, 1004, 1005, 2000, 2001, 2002, 2000, 2001, 2002}
	if len(got) < len(want) || fmt.Sprint(got[:len(want)]) != fmt.Sprint(want) {
		t.Errorf("times at us %v, want %v", got, want)
	}
}

// compressed packs with the client library, and returns the codec's number.
func compressed(c kgo.Compressor, raw []byte) ([]byte, int8) {
	var buf bytes.Buffer
	packed, codec := c.Compress(&buf, raw)
	return packed, int8(codec)
}
