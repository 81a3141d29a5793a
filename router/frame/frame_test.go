package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const limit = 1 << 20

// fromNine is flexible from version 9 on, as Produce is.
func fromNine(_, version int16) bool { return version >= 9 }

// header makes a frame with a header and a body of so many bytes.
func header(version int16, clientID *string, tags []byte, body int) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), 0)
	b = b[:4]
	b = append(b, 0, 0, 0, byte(version), 1, 2, 3, 4)
	if clientID == nil {
		b = append(b, 0xff, 0xff)
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(len(*clientID)))
		b = append(b, *clientID...)
	}
	b = append(append(b, tags...), make([]byte, body)...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func TestParseRequest(t *testing.T) {
	name, empty, long := "shop", "", strings.Repeat("x", maxClientID+1)
	for _, tc := range []struct {
		name     string
		version  int16
		clientID *string
		tags     []byte
		body     int
		kind     Kind // of the error
	}{
		{"old", 8, &name, nil, 20, ""},
		{"no client id", 8, nil, nil, 20, ""},
		{"empty client id", 8, &empty, nil, 20, ""},
		{"no body", 8, &name, nil, 0, ""},
		{"flexible", 9, &name, []byte{0}, 20, ""},
		{"tags", 9, &name, []byte{2, 7, 3, 'a', 'b', 'c', 0x80, 1, 0}, 20, ""},
		{"long client id", 8, &long, nil, 20, Header},
		{"many tags", 9, &name, []byte{maxTags + 1}, 20, Header},
		{"long tag", 9, &name, []byte{1, 7, 0xff, 0xff, 3}, 5, Header},
		{"tag number without end", 9, &name, []byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80}, 5, Header},
		{"no tags in a flexible version", 9, &name, nil, 0, Header},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := header(tc.version, tc.clientID, tc.tags, tc.body)
			r, err := ParseRequest(b, limit, fromNine)
			if tc.kind != "" {
				var e *Error
				if !errors.As(err, &e) || e.Kind != tc.kind {
					t.Fatalf("%v, want %s", err, tc.kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Key != 0 || r.Version != tc.version || r.Correlation != 0x01020304 || r.Size != len(b)-4 {
				t.Errorf("%+v", r)
			}
			if (r.ClientID == nil) != (tc.clientID == nil) || tc.clientID != nil && string(r.ClientID) != *tc.clientID {
				t.Errorf("client id %q", r.ClientID)
			}
			if !bytes.Equal(r.Tags, tc.tags) || r.Body() != tc.body || r.Header != len(b)-tc.body {
				t.Errorf("tags % x, header %d, body %d", r.Tags, r.Header, r.Body())
			}
		})
	}
}

// TestParseRequest_Piecewise hands over what is asked for and no more, as a connection does.
func TestParseRequest_Piecewise(t *testing.T) {
	name := "shop"
	b := header(9, &name, []byte{2, 7, 3, 'a', 'b', 'c', 0x80, 1, 0}, 20)
	have := 0
	for {
		r, err := ParseRequest(b[:have], limit, fromNine)
		var short *Short
		if !errors.As(err, &short) {
			if err != nil || have > r.Header || r.Body() != 20 {
				t.Errorf("read %d bytes: %+v, %v", have, r, err)
			}
			return
		}
		if short.Need <= have || short.Need > len(b)-20 {
			t.Fatalf("with %d bytes it needs %d, the header has %d", have, short.Need, len(b)-20)
		}
		have = short.Need
	}
}

func TestParseRequest_Sizes(t *testing.T) {
	for _, tc := range []struct {
		first string
		kind  Kind
	}{
		{"\xff\xff\xff\xff", Size},
		{"\x00\x00\x00\x09", Size},
		{"\x00\x10\x00\x01", Size},
		{"\x7f\xff\xff\xff", Size},
		{"\x16\x03\x01\x02", TLS},
		{"GET ", HTTP},
	} {
		_, err := ParseRequest([]byte(tc.first), limit, fromNine) // four bytes are enough to tell
		var e *Error
		if !errors.As(err, &e) || e.Kind != tc.kind {
			t.Errorf("%q: %v, want %s", tc.first, err, tc.kind)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	b := []byte{0, 0, 0, 7, 1, 2, 3, 4, 0, 9, 9}
	a, err := ParseAnswer(b, limit)
	if err != nil || a.Correlation != 0x01020304 || a.Body() != 3 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := ParseAnswer([]byte{0, 0, 0, 3, 0, 0, 0, 0}, limit); err == nil {
		t.Error("an answer without a correlation id was taken")
	}
	if n, err := AnswerTags(b[8:]); n != 1 || err != nil {
		t.Errorf("tags of %d bytes, %v", n, err)
	}
	var e *Error
	if _, err := AnswerTags([]byte{1, 7, 3, 'a'}); !errors.As(err, &e) {
		t.Errorf("tags that are cut: %v", err)
	}
}

// TestParseRequest_AgreesWithKmsg parses what kmsg writes.
func TestParseRequest_AgreesWithKmsg(t *testing.T) {
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("kgo"))
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for version := range req.MaxVersion() + 1 {
			req.SetVersion(version)
			if key == int16(kmsg.ControlledShutdown) && version == 0 {
				continue // its header has no client id; between brokers only
			}
			r, err := ParseRequest(f.AppendRequest(nil, req, 77), limit, func(int16, int16) bool { return req.IsFlexible() })
			if err != nil || r.Key != key || r.Version != version || r.Correlation != 77 || string(r.ClientID) != "kgo" || r.Body() != len(req.AppendTo(nil)) {
				t.Fatalf("%s v%d: %+v, %v", kmsg.NameForKey(key), version, r, err)
			}
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	name := "shop"
	f.Add(header(8, &name, nil, 3), true)
	f.Add(header(9, nil, []byte{2, 7, 3, 'a', 'b', 'c', 0x80, 1, 0}, 3), true)
	f.Add([]byte{0, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, b []byte, flexible bool) {
		r, err := ParseRequest(b, limit, func(int16, int16) bool { return flexible })
		var short *Short
		var bad *Error
		switch {
		case errors.As(err, &short):
			if short.Need <= len(b) || short.Need > MaxHeader {
				t.Errorf("%d of %d bytes needed", short.Need, len(b))
			}
		case errors.As(err, &bad):
		case err != nil:
			t.Errorf("untyped error %v", err)
		case r.Header > len(b) || r.Body() < 0 || len(r.ClientID)+len(r.Tags)+sizeBytes+requestPrefix != r.Header:
			t.Errorf("%+v of %d bytes", r, len(b))
		}
		if _, err := ParseAnswer(b, limit); err == nil {
			_, _ = AnswerTags(b[AnswerHeader:])
		}
	})
}

func BenchmarkParseRequest(b *testing.B) {
	name := "shop"
	in := header(9, &name, []byte{0}, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRequest(in, limit, fromNine); err != nil {
			b.Fatal(err)
		}
	}
}
