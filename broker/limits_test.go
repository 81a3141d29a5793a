package broker

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestSizeClass_HoldsAndWastesLittle(t *testing.T) {
	last := -1
	for n := 0; n <= MaxFrameBytes; n += 1 + n/37 {
		class, size := sizeClass(n)
		if size < n || class < last || class >= poolClasses {
			t.Fatalf("%d bytes: class %d of %d bytes after class %d", n, class, size, last)
		}
		if n > minPooled && size > n+n/4 {
			t.Fatalf("%d bytes in %d", n, size)
		}
		if c, s := sizeClass(size); c != class || s != size {
			t.Fatalf("a buffer of class %d belongs to class %d", class, c)
		}
		last = class
	}
	if class, size := sizeClass(MaxFrameBytes); class != poolClasses-1 || size != MaxFrameBytes {
		t.Fatalf("the largest is class %d of %d, %d bytes", class, poolClasses, size)
	}
}

func TestFrame_GoesBackWithItsLastHolder(t *testing.T) {
	var pool framePool
	f := newFrame(&pool, pool.get(5000))
	if f.Size() != 5120 {
		t.Errorf("size %d", f.Size())
	}
	f.Retain()
	f.Release()
	if f.Size() == 0 {
		t.Error("released while held")
	}
	f.Release()
	if f.Size() != 0 || f.Partitions != nil {
		t.Error("not released")
	}
	for name, misuse := range map[string]func(){"release": f.Release, "retain": f.Retain} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a released frame was taken", name)
				}
			}()
			misuse()
		}()
	}
}

// TestDecode_AbsurdCountsTakeNoMemory: counts are refused before memory is taken for them.
func TestDecode_AbsurdCountsTakeNoMemory(t *testing.T) {
	decoders := map[string]func(src []byte) error{}
	for _, v := range []int16{4, 7, 12, 13, 18} {
		decoders[fmt.Sprintf("fetch %d", v)] = func(src []byte) error {
			var a fetchAnswer
			return a.decode(src, v, func([]byte, TopicID, int32) *sessionPart { return &sessionPart{topic: &sessionTopic{}} })
		}
	}
	for _, v := range []int16{3, 8, 9, 13} {
		decoders[fmt.Sprintf("produce %d", v)] = func(src []byte) error {
			_, err := decodeProduce(src, v, awaiting())
			return err
		}
	}
	for _, v := range []int16{0, 3} {
		decoders[fmt.Sprintf("versions %d", v)] = func(src []byte) error {
			_, _, err := decodeVersions(src, v)
			return err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, decode := range decoders {
		for _, fill := range []byte{0x7f, 0xff, 0x80} {
			for zeros := range 48 {
				src := append(make([]byte, zeros), bytes.Repeat([]byte{fill}, 4096)...)
				if err := decode(src); err == nil && !strings.HasPrefix(name, "versions") { // whose end is not looked at
					t.Errorf("%s: %d zeros and then %x were taken", name, zeros, fill)
				}
			}
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d bytes of memory were taken", grown)
	}
}

func TestVersions_Pick(t *testing.T) {
	for _, tc := range []struct {
		theirs versions
		limit  int16
		want   int16 // -1 = unsupported
	}{
		{versions{keyFetch: {0, 11}}, 99, 11},
		{versions{keyFetch: {0, 99}}, 99, 18},
		{versions{keyFetch: {4, 18}}, 12, 12},
		{versions{keyFetch: {0, 3}}, 99, -1},
		{versions{keyFetch: {19, 30}}, 99, -1},
		{versions{keyFetch: {13, 18}}, 12, -1},
		{versions{}, 99, -1},
	} {
		got, err := tc.theirs.pick(keyFetch, tc.limit)
		if tc.want < 0 && !errors.Is(err, ErrUnsupported) || tc.want >= 0 && (err != nil || got != tc.want) {
			t.Errorf("%v up to %d: %d, %v", tc.theirs, tc.limit, got, err)
		}
	}
}

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Class
	}{
		{nil, Retry},
		{io.EOF, Retry},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, Retry},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), Retry},
		{kgo.ErrClientClosed, Retry},
		{&PartitionError{Topic: "a", Err: kerr.NotLeaderForPartition}, Retry},
		{fmt.Errorf("x: %w", &PartitionError{Topic: "a", Err: kerr.OutOfOrderSequenceNumber}), Refind},
		{kerr.UnknownTopicID, Refind},
		{kerr.TopicAuthorizationFailed, Pause},
		{kerr.NotEnoughReplicas, Pause},
		{kerr.MessageTooLarge, Pause},
		{fmt.Errorf("%w: %w", ErrAuthentication, kerr.SaslAuthenticationFailed), Fatal},
		{protocolErrorf("x"), Fatal},
		{x509.UnknownAuthorityError{}, Fatal},
		{codeError(12345), Retry},
	} {
		if got := Classify(tc.err); got != tc.want {
			t.Errorf("%v is %v, want %v", tc.err, got, tc.want)
		}
	}
	seen := map[error]bool{}
	for _, v := range verdicts {
		if seen[v.err] || v.why == "" || Classify(v.err) != v.class {
			t.Errorf("%v: twice in the table, without a reason, or hidden by another row", v.err)
		}
		seen[v.err] = true
	}
	for code := int16(-1); code < 200; code++ {
		if e := kerr.TypedErrorForCode(code); e != nil && Classify(e) == Retry && !seen[e] && !e.Retriable {
			t.Errorf("%v is retried, and no row says why", e)
		}
	}
}

// FuzzDecode: no answer makes a decoder panic, or yield what was not sent.
func FuzzDecode(f *testing.F) {
	for v := ours[keyFetch].min; v <= ours[keyFetch].max; v++ {
		f.Add(byte(v), answerBytes(sampleFetch(v)))
	}
	for v := ours[keyProduce].min; v <= ours[keyProduce].max; v++ {
		f.Add(byte(v), answerBytes(sampleProduced(v)))
	}
	f.Fuzz(func(t *testing.T, v byte, src []byte) {
		version := int16(v % 19)
		size := len(src)
		if version >= ours[keyFetch].min {
			var a fetchAnswer
			if err := a.decode(src, version, asking(version).find); err == nil {
				total := 0
				for _, p := range a.parts {
					total += len(p.Batches) + 16*len(p.Aborted)
				}
				if total > size || len(a.parts) > 4 {
					t.Fatalf("%d partitions with %d bytes out of %d", len(a.parts), total, size)
				}
			}
		}
		if version >= ours[keyProduce].min && version <= ours[keyProduce].max {
			results := awaiting()
			_, _ = decodeProduce(src, version, results)
			for i, b := range sampleBatches() {
				if results[i].Batch.Partition != b.Partition || results[i].Batch.Topic != b.Topic {
					t.Fatalf("the batch of result %d is %+v", i, results[i].Batch)
				}
			}
		}
		_, _, _ = decodeVersions(src, version%4)
	})
}

func TestReader_UvarintOfFiveBytesAtMost(t *testing.T) {
	for v, ok := range map[uint64]bool{0: true, 127: true, math.MaxUint32: true, math.MaxUint32 + 1: false, math.MaxUint64: false} {
		r := reader{src: binary.AppendUvarint(nil, v)}
		if got := r.uvarint(); r.bad == ok || ok && got != int(v) {
			t.Errorf("%d: %d, bad %v", v, got, r.bad)
		}
	}
}
