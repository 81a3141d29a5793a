package embedded

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const keyAPIVersions = int16(kmsg.ApiVersions)

// caps are versions above which a request can kill kfake: from Produce v13 on,
// two topics that do not exist any more in one request are enough.
var caps = map[int16]int16{int16(kmsg.Produce): 12}

// versions are the request keys that kfake serves, each with its range.
type versions map[int16]struct{ low, high int16 }

// check judges key and version of a request. An ApiVersions request of an
// unsupported version passes: it is answered, not closed.
func (v versions) check(h header) error {
	r, ok := v[h.key]
	switch {
	case !ok:
		return reject(ReasonUnknownKey, "request key %d", h.key)
	case h.key != keyAPIVersions && (h.version < r.low || h.version > r.high):
		return reject(ReasonVersion, "%s v%d, served are v%d to v%d", kmsg.NameForKey(h.key), h.version, r.low, r.high)
	}
	return nil
}

// supports reports whether an ApiVersions request can be read at all.
func (v versions) supports(h header) bool {
	r := v[h.key]
	return h.version >= r.low && h.version <= r.high
}

// unsupported answers an ApiVersions request of an unknown version the way
// KIP-511 says: version 0, and only the range to try again with.
func (v versions) unsupported() kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	key := kmsg.NewApiVersionsResponseApiKey()
	key.ApiKey = keyAPIVersions
	key.MinVersion, key.MaxVersion = v[keyAPIVersions].low, v[keyAPIVersions].high
	resp.ApiKeys = append(resp.ApiKeys, key)
	return resp
}

// askVersions asks kfake, over a connection of its own, what it serves.
func askVersions(g *gate) (versions, error) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	select {
	case g.own <- theirs:
	case <-g.closed:
		theirs.Close()
		return nil, net.ErrClosed
	}
	if err := ours.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 0)
	if _, err := ours.Write(frame); err != nil {
		return nil, fmt.Errorf("ask versions: %w", err)
	}
	size := make([]byte, sizeBytes)
	if _, err := io.ReadFull(ours, size); err != nil {
		return nil, fmt.Errorf("ask versions: %w", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size))
	if _, err := io.ReadFull(ours, body); err != nil {
		return nil, fmt.Errorf("ask versions: %w", err)
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(body[4:]); err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	all := make(versions)
	for _, k := range capped(resp.ApiKeys) {
		all[k.ApiKey] = struct{ low, high int16 }{k.MinVersion, k.MaxVersion}
	}
	return all, nil
}

func capped(keys []kmsg.ApiVersionsResponseApiKey) []kmsg.ApiVersionsResponseApiKey {
	for i, k := range keys {
		if high, ok := caps[k.ApiKey]; ok {
			keys[i].MaxVersion = min(k.MaxVersion, high)
		}
	}
	return keys
}

// capAnswer rewrites kfake's answer to an ApiVersions request. The header of
// this one answer has no tags in any version.
func capAnswer(frame []byte, version int16) ([]byte, error) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = version
	if err := resp.ReadFrom(frame[sizeBytes+4:]); err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	capped(resp.ApiKeys)
	out := resp.AppendTo(append([]byte(nil), frame[:sizeBytes+4]...))
	binary.BigEndian.PutUint32(out, uint32(len(out)-sizeBytes))
	return out, nil
}
