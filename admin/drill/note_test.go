package drill

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/isthmus-project/isthmus/admin/adminpb"
)

// TestNote: what is kept comes back; a note of the first version is read for ever, one of a newer is refused in words.
func TestNote(t *testing.T) {
	d := &adminpb.Drill{Id: "7f3a", Router: "shop", Set: "fast", Mode: "failover", From: "eu", To: "us", Verdict: "fail", Began: timestamppb.New(at(0)), Ended: timestamppb.New(at(9000)),
		RtoSeconds: 6.9, RpoRecords: 412, RpoSeconds: 1.8, Failure: "too slow", Warnings: 2, By: "ana", Why: "the monthly one"}
	text, err := EncodeNote(d)
	if err != nil {
		t.Fatal(err)
	}
	const first = `{"v":1,"id":"7f3a","set":"fast","mode":"failover","from":"eu","to":"us","verdict":"fail","began":1772625600000,"ended":1772625609000,"rto_seconds":6.9,` +
		`"rpo":{"records":412,"seconds":1.8},"failure":"too slow","warnings":2,"by":"ana","why":"the monthly one"}`
	if text != first {
		t.Errorf("got %s", text)
	}
	if got, err := DecodeNote("shop", first); err != nil || !proto.Equal(got, d) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{`{"v":2,"id":"x"}`, `{"id":"x"}`} {
		if _, err := DecodeNote("shop", text); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := DecodeNote("shop", "no JSON"); err == nil || errors.Is(err, ErrVersion) {
		t.Errorf("got %v", err)
	}
}

// FuzzNote: no bytes make it panic, and what is read can be written again.
func FuzzNote(f *testing.F) {
	f.Add(`{"v":1,"id":"7f3a","mode":"failover","began":-9223372036854775808}`)
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := DecodeNote("shop", text); err == nil {
			if _, err := EncodeNote(d); err != nil {
				t.Error(err)
			}
		}
	})
}
