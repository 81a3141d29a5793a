package batch

import (
	"bytes"
	"errors"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// xerial frames data as Java's snappy library does, in blocks of n bytes.
func xerial(data []byte, n int) []byte {
	out := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(data) > 0 {
		k := min(n, len(data))
		block := s2.EncodeSnappy(nil, data[:k])
		out = append(out, byte(len(block)>>24), byte(len(block)>>16), byte(len(block)>>8), byte(len(block)))
		out = append(out, block...)
		data = data[k:]
	}
	return out
}

func TestDecompress_Xerial(t *testing.T) {
	data := bytes.Repeat([]byte("some bytes, "), 10_000)
	framed := xerial(data, 32<<10)
	if got, err := decompress(framed, Snappy, len(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := decompress(framed, Snappy, len(data)-1); !errors.Is(err, errOverLimit) {
		t.Errorf("over the limit: %v", err)
	}
	for _, n := range []int{17, 19, 100, len(framed) - 1} {
		if _, err := decompress(framed[:n], Snappy, len(data)); err == nil {
			t.Errorf("cut at %d: no error", n)
		}
	}
}

// Java's producers stream, so their frames do not say how large they are and may declare
// windows far above the data.
func TestDecompress_ZstdStreamed(t *testing.T) {
	for _, n := range []int{0, 1, 5000, 3 << 20} {
		data := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		for _, window := range []int{1 << 10, 8 << 20} {
			var buf bytes.Buffer
			w, err := zstd.NewWriter(&buf, zstd.WithWindowSize(window), zstd.WithSingleSegment(false), zstd.WithZeroFrames(true))
			if err != nil {
				t.Fatal(err)
			}
			for part := data; len(part) > 0; part = part[min(len(part), 100_000):] {
				if _, err := w.Write(part[:min(len(part), 100_000)]); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			for _, limit := range []int{n, n + 1, 2*n + 100, 64 << 20} {
				got, err := decompress(buf.Bytes(), Zstd, limit)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, window %d, limit %d: %d bytes, %v", n, window, limit, len(got), err)
				}
			}
			if n > 0 {
				if _, err := decompress(buf.Bytes(), Zstd, n-1); !errors.Is(err, errOverLimit) {
					t.Errorf("%d bytes, window %d: over the limit: %v", n, window, err)
				}
			}
		}
	}
}

// A codec that was fed garbage goes back to its pool; the next user must not notice.
func TestDecompress_AfterGarbage(t *testing.T) {
	data := bytes.Repeat([]byte("abc"), 1000)
	for _, c := range allCodecs[1:] {
		packed, err := compress(nil, data, c)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(packed) {
			// The lz4 reader takes a frame without its end mark for whole; the
			// batch's checksum and record count are what catches that.
			if _, err := decompress(packed[:n], c, testLimit); err == nil && n > 0 && c != LZ4 {
				t.Errorf("%v: cut at %d of %d: no error", c, n, len(packed))
			}
			if got, err := decompress(packed, c, testLimit); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%v: after a cut at %d: %d bytes, %v", c, n, len(got), err)
			}
		}
	}
}
