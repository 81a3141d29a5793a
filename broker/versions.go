package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The keys of the requests on our own connections.
const (
	keyProduce     = int16(kmsg.Produce)
	keyFetch       = int16(kmsg.Fetch)
	keyMetadata    = int16(kmsg.Metadata)
	keyHandshake   = int16(kmsg.SASLHandshake)
	keyAPIVersions = int16(kmsg.ApiVersions)
	keyAuth        = int16(kmsg.SASLAuthenticate)
)

// versionRange is what one side speaks of one request.
type versionRange struct{ min, max int16 }

// ours is what this package encodes and decodes itself.
var ours = map[int16]versionRange{
	keyProduce:   {3, 13}, // 3 is the first with v2 batches, 9 with tagged fields, 13 with topic ids
	keyFetch:     {4, 18}, // 4 is the first with v2 batches, 7 with sessions, 12 with tagged fields, 13 with topic ids
	keyMetadata:  {1, 12}, // 1 is the first that tells no topics from all
	keyHandshake: {1, 1},  // version 0 is followed by bare tokens
	keyAuth:      {0, 1},  // 1 tells how long the session lives
}

// versions is what a broker speaks, by key.
type versions map[int16]versionRange

// pick returns the newest version of a request that both sides speak, at most limit.
func (v versions) pick(key, limit int16) (int16, error) {
	o, theirs := ours[key], v[key]
	_, known := v[key]
	version := min(o.max, theirs.max, limit)
	if !known || version < max(o.min, theirs.min) {
		return 0, fmt.Errorf("%s: broker speaks versions %d to %d, we %d to %d: %w",
			kmsg.NameForKey(key), theirs.min, theirs.max, o.min, min(o.max, limit), ErrUnsupported)
	}
	return version, nil
}

// negotiate asks the broker what it speaks.
func (w *wire) negotiate(ctx context.Context) error {
	code, err := w.askVersions(ctx, 3)
	if err == nil && code == kerr.UnsupportedVersion.Code {
		code, err = w.askVersions(ctx, 0) // before Kafka 2.4
	}
	if err == nil {
		err = codeError(code)
	}
	return err
}

// askVersions sends ApiVersions in version 3, which names our software, or 0. Any broker that does not know 3 answers in 0
// with UNSUPPORTED_VERSION, and the header of the answer never has tagged fields (KIP-511).
func (w *wire) askVersions(ctx context.Context, version int16) (code int16, err error) {
	out := writer{flex: version >= 3}
	out.header(keyAPIVersions, version, 0, w.clientID)
	if version >= 3 {
		out.text("isthmus")
		out.text("1")
		out.noTags()
	}
	out.finish(0)
	if err := w.write(ctx, net.Buffers{out.b}); err != nil {
		return 0, err
	}
	var pool framePool
	buf, err := w.readAnswer(ctx, &pool, 0, maxSmallAnswer, 0)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return 0, fmt.Errorf("%w (a listener that wants TLS hangs up here)", err)
	}
	if err != nil {
		return 0, err
	}
	code, w.versions, err = decodeVersions(buf.b, version)
	return code, err
}

// decodeVersions reads an answer up to the list of versions; what follows is of no use here.
func decodeVersions(src []byte, version int16) (code int16, v versions, err error) {
	in := reader{src: src, flex: version >= 3}
	code = in.int16()
	if code == kerr.UnsupportedVersion.Code {
		return code, nil, nil
	}
	v = versions{}
	for range in.count(6) {
		key, lo, hi := in.int16(), in.int16(), in.int16()
		in.tags(nil)
		v[key] = versionRange{lo, hi}
	}
	if in.bad || code == 0 && len(v) == 0 {
		return 0, nil, protocolErrorf("an ApiVersions answer of %d bytes does not decode", len(src))
	}
	return code, v, nil
}

// ask sends a small request in a version without tagged fields and reads its answer, which stays valid.
func (w *wire) ask(ctx context.Context, req kmsg.Request) ([]byte, error) {
	out := writer{}
	out.header(req.Key(), req.GetVersion(), 0, w.clientID)
	out.b = req.AppendTo(out.b)
	out.finish(0)
	if err := w.write(ctx, net.Buffers{out.b}); err != nil {
		return nil, err
	}
	var pool framePool
	buf, err := w.readAnswer(ctx, &pool, 0, maxSmallAnswer, 0)
	if err != nil {
		return nil, err
	}
	return buf.b, nil
}

// saslSession is what the broker granted.
type saslSession struct {
	until time.Time // when the session must have been renewed; zero = never
}
