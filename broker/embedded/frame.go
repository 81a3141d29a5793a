package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/isthmus-project/isthmus/broker/shape"
)

// A request frame:
//
//	4 size      of what follows
//	2 key       which request
//	2 version
//	4 correlation id
//	2 client id length, -1 for null, then that many bytes
//	  tags      only in a flexible version: count, then key, size, bytes each
//	  body
const (
	sizeBytes    = 4
	minHeader    = 10 // key, version, correlation id, length of the client id
	headerPrefix = 8  // key, version, correlation id

	// maxSmallFrame bounds every request but Produce. The largest honest
	// ones name some ten thousand partitions.
	maxSmallFrame = 2 << 20
)

// rejection is the error that ends a connection for its own fault.
type rejection struct {
	reason Reason
	text   string
}

func (r *rejection) Error() string { return "reject frame: " + r.text }

func reject(reason Reason, format string, args ...any) error {
	return &rejection{reason: reason, text: fmt.Sprintf(format, args...)}
}

// rejectionOf tells a client's fault from an ended connection.
func rejectionOf(err error) (*rejection, bool) {
	var r *rejection
	ok := errors.As(err, &r)
	return r, ok
}

// checkSize judges the first four bytes of a frame.
func checkSize(first []byte, limit int32) (int, error) {
	size := int32(binary.BigEndian.Uint32(first))
	switch {
	case first[0] == 0x16 && first[1] == 0x03:
		return 0, reject(ReasonTLS, "TLS hello on a plain port")
	case size > limit && isHTTP(first):
		return 0, reject(ReasonHTTP, "HTTP request")
	case size < minHeader || size > limit:
		return 0, reject(ReasonSize, "size %d outside of %d to %d", size, minHeader, limit)
	}
	return int(size), nil
}

func isHTTP(first []byte) bool {
	switch string(first) {
	case "GET ", "HEAD", "POST", "PUT ", "DELE", "OPTI", "CONN", "PATC", "TRAC", "PRI ":
		return true
	}
	return false
}

// header is the fixed beginning of a request.
type header struct {
	key, version int16
	correlation  int32
}

func parsePrefix(b []byte) header {
	return header{
		key:         int16(binary.BigEndian.Uint16(b)),
		version:     int16(binary.BigEndian.Uint16(b[2:])),
		correlation: int32(binary.BigEndian.Uint32(b[4:])),
	}
}

// bodyOf skips the variable part of the header.
func bodyOf(frame []byte, flexible bool) ([]byte, error) {
	rest := frame[headerPrefix:]
	clientID := int(int16(binary.BigEndian.Uint16(rest)))
	rest = rest[2:]
	if clientID < -1 || clientID > len(rest) {
		return nil, reject(ReasonHeader, "client id of %d bytes in a frame of %d", clientID, len(frame))
	}
	w := shape.Walker{Rest: rest[max(clientID, 0):]}
	if flexible && !w.Tags() {
		return nil, reject(ReasonHeader, "header tags do not fit their frame")
	}
	return w.Rest, nil
}

// readRequest reads a body that was walked before. What it returns aliases
// body.
func readRequest(h header, body []byte) (kmsg.Request, error) {
	req := kmsg.RequestForKey(h.key)
	req.SetVersion(h.version)
	read := req.ReadFrom
	if r, ok := req.(interface{ UnsafeReadFrom([]byte) error }); ok {
		read = r.UnsafeReadFrom
	}
	if err := read(body); err != nil {
		return nil, reject(ReasonBody, "read %s v%d: %v", kmsg.NameForKey(h.key), h.version, err)
	}
	return req, nil
}
