package frame

import (
	"encoding/binary"
	"fmt"
)

const (
	sizeBytes = 4
	// requestPrefix is what each request has after its size: key, version, correlation id, length of the client id.
	requestPrefix = 2 + 2 + 4 + 2

	// MaxHeader bounds a request's header, its size field included: who reads headers needs a buffer of so many bytes.
	MaxHeader = 4 << 10
	// maxClientID leaves room for the tags.
	maxClientID = 2 << 10
	// maxTags is per header. Clients send none; the future may bring some.
	maxTags = 64
)

// Request is the header of a request. What it has of bytes are parts of those that were parsed.
type Request struct {
	// Size is the length of the frame in bytes, without the four of the size field.
	Size int
	// Key and Version say which request it is, Correlation which answer belongs to it.
	Key, Version int16
	Correlation  int32
	// ClientID is nil for null.
	ClientID []byte
	// Tags are those of the header as they came, their count in front; nil in a version that is not flexible.
	Tags []byte
	// Header is how many bytes of the frame the header takes, with the size field; the body is behind it.
	Header int
}

// Body is how many bytes the body has.
func (r Request) Body() int { return sizeBytes + r.Size - r.Header }

// ParseRequest parses the header at the start of b, of a frame of at most limit bytes. Whether a version has tags flexible says, from
// key and version. Where b ends inside the header, the error is a [*Short], with how many bytes are needed to come further, never more than
// [MaxHeader]. Any other error is an [*Error]: nothing that follows can be understood.
func ParseRequest(b []byte, limit int, flexible func(key, version int16) bool) (Request, error) {
	if len(b) < sizeBytes+requestPrefix {
		if len(b) >= sizeBytes {
			if _, err := checkSize(b, requestPrefix, limit); err != nil {
				return Request{}, err
			}
		}
		return Request{}, &Short{sizeBytes + requestPrefix}
	}
	size, err := checkSize(b, requestPrefix, limit)
	if err != nil {
		return Request{}, err
	}
	r := Request{
		Size:        size,
		Key:         int16(binary.BigEndian.Uint16(b[4:])),
		Version:     int16(binary.BigEndian.Uint16(b[6:])),
		Correlation: int32(binary.BigEndian.Uint32(b[8:])),
		Header:      sizeBytes + requestPrefix,
	}
	end := sizeBytes + size
	n := int(int16(binary.BigEndian.Uint16(b[12:])))
	if n < -1 || n > maxClientID || r.Header+n > end {
		return Request{}, badf(Header, "client id of %d bytes in a frame of %d, the limit is %d", n, size, maxClientID)
	}
	if n >= 0 {
		if len(b) < r.Header+n {
			return Request{}, &Short{r.Header + n}
		}
		r.ClientID = b[r.Header : r.Header+n : r.Header+n]
		r.Header += n
	}
	if !flexible(r.Key, r.Version) {
		return r, nil
	}
	n, err = tags(b[:min(len(b), end)], r.Header, min(end, MaxHeader))
	if err != nil {
		return Request{}, err
	}
	r.Tags = b[r.Header : r.Header+n : r.Header+n]
	r.Header += n
	return r, nil
}

// checkSize judges the size field at the start of b.
func checkSize(b []byte, least, limit int) (int, error) {
	size := int(int32(binary.BigEndian.Uint32(b)))
	switch {
	case b[0] == 0x16 && b[1] == 0x03:
		return 0, badf(TLS, "a TLS hello on a listener without TLS")
	case isHTTP(b[:4]):
		return 0, badf(HTTP, "an HTTP request")
	case size < least || size > limit:
		return 0, badf(Size, "a frame of %d bytes, allowed are %d to %d", size, least, limit)
	}
	return size, nil
}

func isHTTP(b []byte) bool {
	switch string(b) {
	case "GET ", "HEAD", "POST", "PUT ", "DELE", "OPTI", "CONN", "PATC", "TRAC", "PRI ":
		return true
	}
	return false
}

// tags returns how many bytes the tags at b[at:] take; they may end at limit at the latest.
func tags(b []byte, at, limit int) (int, error) {
	from := at
	count, at, err := uvarint(b, at, limit)
	if err != nil {
		return 0, err
	}
	if count > maxTags {
		return 0, badf(Header, "%d tags in a header, the limit is %d", count, maxTags)
	}
	for range count {
		if _, at, err = uvarint(b, at, limit); err != nil {
			return 0, err
		}
		var size uint64
		if size, at, err = uvarint(b, at, limit); err != nil {
			return 0, err
		}
		if size > uint64(limit-at) {
			return 0, badf(Header, "a tag of %d bytes does not fit its header", size)
		}
		if at += int(size); at > len(b) {
			return 0, &Short{at}
		}
	}
	return at - from, nil
}

// uvarint reads what Kafka calls an unsigned varint: at most 32 bit.
func uvarint(b []byte, at, limit int) (n uint64, next int, err error) {
	n, size := binary.Uvarint(b[at:min(len(b), at+binary.MaxVarintLen32)])
	switch {
	case size > 0 && n <= 1<<32-1:
		return n, at + size, nil
	case size == 0 && len(b)-at < binary.MaxVarintLen32 && len(b) < limit:
		return 0, 0, &Short{len(b) + 1}
	}
	return 0, 0, badf(Header, "a number in the header's tags does not end")
}

// Short is the error of bytes that end inside a header.
type Short struct {
	// Need is how many bytes from the frame's first on there must be.
	Need int
}

func (e *Short) Error() string {
	return fmt.Sprintf("header is cut short, %d bytes are needed", e.Need)
}
