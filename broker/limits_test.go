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
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestSizeClass_HoldsAndWastesLittle(t *testing.T) {
	last := -1
	for n := 0; n <= MaxFrameBytes; n += 1 + n/37 {
		class, size := sizeClass(n)
		if size < n || class < last || (class < smallClasses) != (size <= firstChunk) {
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
	if class, size := sizeClass(firstChunk); class != smallClasses-1 || size != firstChunk {
		t.Fatalf("the largest small one is class %d of %d, %d bytes", class, smallClasses, size)
	}
	if _, size := sizeClass(MaxFrameBytes); size != MaxFrameBytes {
		t.Fatalf("the largest has %d bytes", size)
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

// TestGate_RemembersFewAddresses: brokers may advertise ever new ones. One that refused us is remembered for its second.
func TestGate_RemembersFewAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.refused("refuses:9092", kerr.IllegalSaslState)
		for i := range 10 * maxDoors {
			turn, err := g.enter(t.Context(), fmt.Sprintf("host-%d:9092", i))
			if err != nil {
				t.Fatal(err)
			}
			turn.leave()
		}
		if len(g.doors) > maxDoors || g.doors["refuses:9092"] == nil {
			t.Errorf("%d addresses are remembered, and the one that refused us: %v", len(g.doors), g.doors["refuses:9092"] != nil)
		}
	})
}

// TestCheckAnswer_ReadsVersionsAsTheLibraryDoes: it takes an answer for one of version 0 by the low byte of the error code alone.
func TestCheckAnswer_ReadsVersionsAsTheLibraryDoes(t *testing.T) {
	tail := func(head []byte, size int) []byte { // of version 4: no keys, no throttle time, one tag with all the rest
		n := binary.AppendUvarint(nil, uint64(size))
		return append(append(head, n...), make([]byte, size)...)
	}
	for _, code := range []byte{0, 1, 0x23} {
		body := tail([]byte{code, unsupportedVersion, 0, 0x3f, 0, 0, 0, 1, 70}, 1<<20) // of version 0: 4 million keys
		if _, ok := checkAnswer(askedFor{key: keyAPIVersions, version: 4}, body); ok {
			t.Errorf("error code %d: an answer that the library reads as one with %d keys was let through", int(code)<<8+unsupportedVersion, binary.BigEndian.Uint32(body[2:]))
		}
	}
	for version := range int16(5) {
		if _, ok := checkAnswer(askedFor{key: keyAPIVersions, version: version}, []byte{0, unsupportedVersion, 0, 0, 0, 1, 0, 18, 0, 0, 0, 3}); !ok {
			t.Errorf("asked in version %d: the answer of a broker that knows only others was refused", version)
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

func TestReader_UvarintOfFiveBytesAtMost(t *testing.T) {
	for v, ok := range map[uint64]bool{0: true, 127: true, math.MaxUint32: true, math.MaxUint32 + 1: false, math.MaxUint64: false} {
		r := reader{src: binary.AppendUvarint(nil, v)}
		if got := r.uvarint(); r.bad == ok || ok && got != int(v) {
			t.Errorf("%d: %d, bad %v", v, got, r.bad)
		}
	}
}
