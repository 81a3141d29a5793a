package gossip

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func codecCases() []Change {
	v := Time{Wall: 1767225600000, Counter: 300, Node: "eu-1"}
	return []Change{
		{Version: v, Entries: []Entry{{Key: "k"}}},
		{
			Version: v, Author: "ana", Reason: "why not", Undoes: Time{Wall: 1, Node: "us-1"},
			Entries: []Entry{
				{Key: "link/eu-us/topics", Value: []byte(`["a"]`), Base: Time{Counter: 1, Node: "x"}},
				{Key: "link/us-eu", Deleted: true},
			},
		},
		{Entries: []Entry{{Key: strings.Repeat("k", MaxKeyBytes), Value: make([]byte, MaxValueBytes)}}, Version: v},
	}
}

func TestChange_RoundTrip(t *testing.T) {
	for _, want := range codecCases() {
		b := EncodeChange([]byte("before"), want)
		got, rest, err := DecodeChange(append(b[len("before"):], "behind"...))
		if err != nil || string(rest) != "behind" || !reflect.DeepEqual(got, want) || !bytes.HasPrefix(b, []byte("before")) {
			t.Errorf("got %+v, rest %q, %v; want %+v", got, rest, err, want)
		}
	}
}

func TestDecodeChange_Refuses(t *testing.T) {
	good := EncodeChange(nil, codecCases()[0])
	for cut := range good {
		if _, _, err := DecodeChange(good[:cut]); err == nil {
			t.Errorf("%d of %d bytes are a change", cut, len(good))
		}
	}
	newer := append([]byte{2}, good[1:]...)
	if _, _, err := DecodeChange(newer); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("a newer format: %v, want ErrFormat and that the node is to be upgraded", err)
	}
	if _, _, err := DecodeChange([]byte{0}); !errors.Is(err, ErrFormat) {
		t.Errorf("an older format: %v, want ErrFormat", err)
	}
	// A number that is longer than it has to be would give a change two encodings.
	long := append(append([]byte{1, 0x81, 0x00}, good[7:]...), 0)
	if _, _, err := DecodeChange(long); err == nil || !strings.Contains(err.Error(), "longer than it has to be") {
		t.Errorf("a long number: %v", err)
	}
	many := append(bytes.Clone(good[:len(good)-5]), 0xff, 0xff, 0x7f)
	if _, _, err := DecodeChange(many); err == nil {
		t.Error("two million entries were promised and believed")
	}
}

// FuzzDecodeChange: no bytes panic or take much memory, and what is read has one encoding.
func FuzzDecodeChange(f *testing.F) {
	for _, c := range codecCases()[:2] {
		f.Add(EncodeChange(nil, c))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, rest, err := DecodeChange(data)
		if err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Fatalf("reads what may not be written: %v", err)
		}
		if again := EncodeChange(nil, c); !bytes.Equal(again, data[:len(data)-len(rest)]) {
			t.Fatalf("read from\n%x\nwritten as\n%x", data[:len(data)-len(rest)], again)
		}
		s := newSettings("x", start)
		_, _ = s.Merge(c) // only its panics matter
	})
}
