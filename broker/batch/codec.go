package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Codec is a compression of the records section, with the numbers of the protocol.
type Codec uint8

// The codecs that Kafka knows.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String is the name that Kafka's configuration uses.
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// compressors are the client library's, one a codec but for zstd; they are pools and hold
// no settings that could change.
var compressors = makeCompressors()

func makeCompressors() [len(codecNames)]kgo.Compressor {
	var cs [len(codecNames)]kgo.Compressor
	for c, codec := range map[Codec]kgo.CompressionCodec{
		Gzip:   kgo.GzipCompression(),
		Snappy: kgo.SnappyCompression(),
		LZ4:    kgo.Lz4Compression(),
	} {
		cs[c], _ = kgo.DefaultCompressor(codec) // fails for unknown codecs only
	}
	return cs
}

// The zstd coders are made once, when the package is: inside, a coder is a channel of
// coders, and a channel that is made in a synctest bubble and pooled panics in the next
// bubble that finds it. All of them may be used at the same time; more callers than
// coders wait for each other.
var (
	zstdWriter  = makeZstdWriter()
	zstdReaders = makeZstdReaders()
)

// zstdCoders is how many batches are packed, and unpacked for one limit, at a time. A
// coder that packs takes more than a megabyte.
func zstdCoders() int { return min(runtime.GOMAXPROCS(0), 8) }

func makeZstdWriter() *zstd.Encoder {
	// The client library's own settings; fails for settings out of range only.
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(64<<10), zstd.WithEncoderConcurrency(zstdCoders()), zstd.WithZeroFrames(true))
	if err != nil {
		panic(err)
	}
	w.EncodeAll(nil, nil) // its channel is made by the first use
	return w
}

// zstdLeast and zstdMost bound the limits that have decoders, as powers of two: small
// limits share the least.
const zstdLeast, zstdMost = 20, 31

// makeZstdReaders makes at k-zstdLeast the decoder that stops at 2^k bytes: a decoder
// is bound to its limit when it is made.
func makeZstdReaders() (readers [zstdMost - zstdLeast + 1]*zstd.Decoder) {
	for i := range readers {
		d, err := zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(zstdCoders()),
			zstd.WithDecoderMaxMemory(1<<(zstdLeast+i)))
		if err != nil {
			panic(err)
		}
		readers[i] = d
	}
	return readers
}

// scratch holds buffers for Encode.
var scratch = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// compress appends src, compressed, to dst.
func compress(dst, src []byte, c Codec) ([]byte, error) {
	if c == None {
		return append(dst, src...), nil
	}
	if int(c) >= len(compressors) {
		return dst, fmt.Errorf("compress records: unknown %v", c)
	}
	if c == Zstd {
		return zstdWriter.EncodeAll(src, dst), nil
	}
	buf := scratch.Get().(*bytes.Buffer)
	defer scratch.Put(buf)
	buf.Reset()
	out, used := compressors[c].Compress(buf, src)
	if Codec(used) != c {
		return dst, fmt.Errorf("compress records: %v gave up", c)
	}
	return append(dst, out...), nil
}

// errOverLimit says that a decompressor hit the limit; callers turn it into ErrTooLarge.
var errOverLimit = errors.New("over the limit")

// The client library's own decompressor has no limit that a caller could set, hence the
// decoders here: what a hostile or damaged batch unpacks to is bounded before memory is
// taken for it.

var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
)

// decompress unpacks src into fresh memory, at most max bytes of it.
func decompress(src []byte, c Codec, max int) ([]byte, error) {
	switch c {
	case None:
		if len(src) > max {
			return nil, errOverLimit
		}
		return bytes.Clone(src), nil
	case Gzip:
		r := gzipReaders.Get().(*gzip.Reader)
		defer gzipReaders.Put(r)
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return nil, err
		}
		return readCapped(r, len(src), max)
	case LZ4:
		r := lz4Readers.Get().(*lz4.Reader)
		defer lz4Readers.Put(r)
		r.Reset(bytes.NewReader(src))
		return readCapped(r, len(src), max)
	case Snappy:
		return unsnappy(src, max)
	case Zstd:
		return unzstd(src, max)
	}
	return nil, fmt.Errorf("unknown %v", c)
}

// readCapped reads r to its end; packed is the compressed size, from which the first
// guess of the size is made.
func readCapped(r io.Reader, packed, max int) ([]byte, error) {
	out := make([]byte, 0, min(4*packed+512, max+1))
	for {
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if len(out) > max {
			return nil, errOverLimit
		}
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(out) == cap(out) {
			grown := make([]byte, len(out), min(2*cap(out)+512, max+1))
			copy(grown, out)
			out = grown
		}
	}
}

func unzstd(src []byte, max int) ([]byte, error) {
	k := min(bits.Len(uint(max|(1<<zstdLeast-1))), zstdMost)
	out, err := zstdReaders[k-zstdLeast].DecodeAll(shrinkWindow(src, k), nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), err == nil && len(out) > max:
		return nil, errOverLimit
	case err != nil:
		return nil, err
	}
	return out, nil
}

// shrinkWindow returns src, one zstd frame, with a window of at most 2^k bytes. Encoders
// that stream declare the window of their level (8 MiB at 19, 128 MiB at 22) however
// little they were given, and the decoder refuses a window above its limit. No
// reference reaches back further than to the start of the data, so a window as large as
// the most that may come out is as good as any larger one. Format: RFC 8878, 3.1.1.1.
func shrinkWindow(src []byte, k int) []byte {
	const (
		descriptor    = 4 // after the magic number
		window        = 5 // where the frame is not a single segment
		singleSegment = 1 << 5
	)
	if len(src) <= window || src[descriptor]&singleSegment != 0 {
		return src
	}
	// The window is 2^(10+exponent) and as many eighths more as the lowest bits say.
	if at := 10 + int(src[window]>>3); at < k || at == k && src[window]&7 == 0 {
		return src
	}
	src = bytes.Clone(src)
	src[window] = byte(k-10) << 3
	return src
}

// xerialMagic begins the framing that Java's snappy library puts around its blocks; other
// clients write one bare block.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

// xerialHeader is the size of the magic and two versions.
const xerialHeader = 16

func unsnappy(src []byte, max int) ([]byte, error) {
	if len(src) < xerialHeader || !bytes.HasPrefix(src, xerialMagic) {
		return snappyBlock(nil, src, max)
	}
	var out []byte
	for src = src[xerialHeader:]; len(src) > 0; {
		if len(src) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		n := uint64(src[0])<<24 | uint64(src[1])<<16 | uint64(src[2])<<8 | uint64(src[3])
		if n > uint64(len(src)-4) {
			return nil, io.ErrUnexpectedEOF
		}
		var err error
		if out, err = snappyBlock(out, src[4:4+n], max); err != nil {
			return nil, err
		}
		src = src[4+n:]
	}
	return out, nil
}

// snappyBlock appends one unpacked block to dst.
func snappyBlock(dst, block []byte, max int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if n > max-len(dst) {
		return nil, errOverLimit
	}
	// Snappy unpacks to at most 64 bytes for 3 (a copy); a block that claims more
	// is refused before memory is taken for the claim.
	if n > 64*len(block) {
		return nil, s2.ErrCorrupt
	}
	at := len(dst)
	if cap(dst)-at < n {
		dst = append(make([]byte, 0, at+n+cap(dst)), dst...)
	}
	if _, err := s2.Decode(dst[at:at+n], block); err != nil {
		return nil, err
	}
	return dst[:at+n], nil
}
