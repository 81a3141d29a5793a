package broker

import (
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxRangeBatch bounds what one batch may become when ReadRange decompresses it.
const maxRangeBatch = 1 << 30

// rangeDecompressor is kgo's, but for zstd: kgo's has a finalizer that closes a channel, which ends the process if the channel was
// made inside a synctest bubble, where tests read ranges. This one lives as long as one ReadRange.
type rangeDecompressor struct {
	others kgo.Decompressor
	zstd   *zstd.Decoder
}

func newRangeDecompressor() *rangeDecompressor {
	return &rangeDecompressor{others: kgo.DefaultDecompressor()}
}

// Decompress implements kgo.Decompressor.
func (d *rangeDecompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec != kgo.CodecZstd {
		return d.others.Decompress(src, codec)
	}
	if d.zstd == nil {
		var err error
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxRangeBatch))
		if err != nil {
			return nil, err
		}
	}
	return d.zstd.DecodeAll(src, nil)
}

func (d *rangeDecompressor) close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}
