package judge

import (
	"bytes"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// smallBlocks packs with lz4 in blocks of 64 kB, as Java's clients do. kgo's blocks are of 4 MB, which each reader of such a batch makes
// room for; under the race detector, where pools keep little, that was most of what the suites with real brokers took.
type smallBlocks struct{}

// Compress packs a batch into dst; what cannot be packed stays as it is.
func (smallBlocks) Compress(dst *bytes.Buffer, src []byte, _ ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	w := lz4.NewWriter(dst)
	if w.Apply(lz4.BlockSizeOption(lz4.Block64Kb)) != nil {
		return src, kgo.CodecNone
	}
	if _, err := w.Write(src); err != nil {
		return src, kgo.CodecNone
	}
	if w.Close() != nil {
		return src, kgo.CodecNone
	}
	return dst.Bytes(), kgo.CodecLz4
}

// compression is the client's option for a codec; of an unknown one there is none.
func compression(codec string) kgo.Opt {
	if codec == "lz4" {
		return kgo.WithCompressor(smallBlocks{})
	}
	return kgo.ProducerBatchCompression(codecs[codec])
}
